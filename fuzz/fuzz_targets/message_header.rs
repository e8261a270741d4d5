//! Any header: no panic, every domain that is found in `From:` is one that can be signed for, and whatever Sendmail will change,
//! `From:` is signed.

#![no_main]

use dkim_operator_fuzz::milter::sendmail::foresee;
use dkim_operator_fuzz::model::name::DomainName;
use dkim_operator_fuzz::signing::address::author_domains;
use dkim_operator_fuzz::signing::header::Header;
use libfuzzer_sys::fuzz_target;

fn valid(domains: &[DomainName]) {
    assert!(!domains.is_empty());
    for domain in domains {
        assert_eq!(DomainName::parse(domain.as_str()).as_ref(), Ok(domain));
        let host = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-');
        assert!(domain.as_str().bytes().all(host), "{domain:?}");
    }
}

fuzz_target!(|bytes: &[u8]| {
    if let Ok(domains) = author_domains(bytes) {
        valid(&domains);
    }
    let Ok(mut header) = Header::parse(bytes) else { return };
    if let Ok(domains) = header.author_domains() {
        valid(&domains);
    }
    let names = ["From", "To", "from", "Subject"];
    assert!(header.select(&names).len() <= names.len());
    let owned = names.map(str::to_owned);
    let signed = header.signed_names(&owned, true);
    assert_eq!(header.select(&signed).len() + 3, signed.len(), "each name once more than it occurs");
    let froms = header.count("From");
    if foresee(&mut header).is_ok() {
        let signed = header.signed_names(&owned, true);
        assert_eq!(signed.iter().filter(|name| **name == "From").count(), froms + 1);
    }
});
