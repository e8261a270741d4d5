//! Faults, each with its words and its most likely cause.

use super::*;
use crate::model::key::KeyKind;
use crate::signing::testing::KeyDir;
use crate::signing::{Unknown, run_sign};
use proptest::prelude::*;

type Table = Vec<(String, String)>;

fn signed(body: &str) -> (Table, Vec<u8>) {
    let dir = KeyDir::new();
    let records = dir.domain("", "contoso.com", &[KeyKind::Ed25519]);
    let message = format!("From: a@contoso.com\r\nSubject: x\r\n\r\n{body}");
    let mut out = Vec::new();
    run_sign(dir.path(), message.as_bytes(), &mut out, Unknown::Refuse, jiff::Timestamp::now()).unwrap();
    (records, out)
}

fn verify(records: &Table, message: &[u8]) -> VerifyReport {
    let verifier = Verifier::offline(records.iter().map(|(n, t)| (n.as_str(), t.as_str()))).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(verifier.verify(message))
}

#[test]
fn each_fault_has_its_words() {
    let (records, message) = signed("hello\r\n \r\n");
    let name = "selector1._domainkey.contoso.com";
    let table = |text: &str| vec![(name.to_owned(), text.to_owned())];
    let text = String::from_utf8(message.clone()).unwrap();
    let (_, other) = &signed("").0.remove(0);
    for (records, message, verdict, says) in [
        (records.clone(), text.clone(), Verdict::Pass, "as they were signed"),
        (records.clone(), text.replace("\r\n", "\n"), Verdict::Pass, "as they were signed"),
        (records.clone(), text.replace("hello", "hullo"), Verdict::Fail, "the body was changed"),
        (
            records.clone(),
            text.replace("Subject: x", "Subject: y"),
            Verdict::Fail,
            "header field was changed",
        ),
        (table(other), text.clone(), Verdict::Fail, "is not the one that signed"),
        (vec![], text.clone(), Verdict::PermError, "no key is published: selector1._domainkey.contoso.com"),
        (table("v=DKIM1; k=ed25519; p="), text.clone(), Verdict::PermError, "is revoked"),
        (table("v=spf1 -all"), text.clone(), Verdict::PermError, "no DKIM key record"),
        (table("v=DKIM1; k=dsa; p=AAAA"), text.clone(), Verdict::PermError, "neither k=rsa nor"),
        (records.clone(), text.replace("v=1;", "v=2;"), Verdict::Neutral, "not v=1"),
        (records.clone(), text.replace("v=1;", "v=1; l=5;"), Verdict::Neutral, "l="),
    ] {
        let report = verify(&records, message.as_bytes());
        let [signature] = report.signatures.as_slice() else { panic!("{report:?}") };
        assert_eq!(signature.verdict, verdict, "{says}: {signature:?}");
        assert!(signature.reason.contains(says), "{says}: {signature:?}");
        assert_eq!((signature.d.as_str(), signature.s.as_str()), ("contoso.com", "selector1"));
        assert_eq!(signature.alignment, Alignment::Strict);
    }
}

#[test]
fn mail_without_signature_or_author() {
    let report = verify(&vec![], b"Subject: x\r\n\r\n");
    assert!(!report.passes() && report.signatures.is_empty());
    assert!(report.from_problem.unwrap().contains("no From: field"));
    assert!(verify(&vec![], b"").signatures.is_empty());
    assert!(matches!(Verifier::new(&[]), Err(VerifierError::NoResolver)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn never_panics(
        start in "(DKIM-Signature: ?)?",
        noise in "([vabdshqtlxci]=[a-z0-9+/:.]{0,9};?|[ \r\n\t]|From: a@b.c\r\n|c=simple;){0,20}",
    ) {
        let _ = verify(&vec![], format!("{start}{noise}").as_bytes());
    }
}

/// A message of an RSA key, signed in a way.
fn rsa(header: Canonicalization, body: Canonicalization, text: &str) -> (Table, String) {
    let dir = KeyDir::new();
    let records = dir.domain_with("", "contoso.com", &[KeyKind::Rsa1024], |config| {
        (config.header_canonicalization, config.body_canonicalization) = (header, body);
    });
    let mut out = Vec::new();
    run_sign(dir.path(), text.as_bytes(), &mut out, Unknown::Refuse, jiff::Timestamp::now()).unwrap();
    (records, String::from_utf8(out).unwrap())
}

const MESSAGE: &str = "From: Joe <joe@contoso.com>\r\nTo: ann@receiver.example\r\nSubject: Hello\r\n you\r\n\
    Message-ID: <1@contoso.com>\r\nContent-Type: text/plain\r\n\r\none\r\ntwo\r\nthree\r\n";

fn cause_of(records: &Table, message: &str) -> String {
    let report = verify(records, message.as_bytes());
    let [signature] = report.signatures.as_slice() else { panic!("{report:?}") };
    assert_ne!(signature.verdict, Verdict::Pass);
    signature.cause.clone().unwrap_or_else(|| panic!("no cause: {signature:?}"))
}

#[test]
fn what_was_done_to_a_message_is_found_out() {
    use Canonicalization::{Relaxed, Simple};
    let footer = "three\r\n-- \r\nthe list\r\n";
    for (modes, changes) in [
        (
            (Relaxed, Relaxed),
            vec![
                (
                    "three\r\n",
                    footer,
                    "2 lines were appended on the way, behind line 3, beginning with \"--\"",
                ),
                (
                    "one\r\n",
                    "[External]\r\n\r\none\r\n",
                    "2 lines were put in front of it on the way, beginning with \"[External]\"",
                ),
                ("\r\ntwo\r\n", "\r\n2\r\n", "changed in a way that cannot be told"),
                (
                    "Subject: Hello",
                    "Subject: [list] Hello",
                    "\"[list]\" was put in front of Subject:; without that it verifies",
                ),
                (
                    "Subject: Hello",
                    "Subject: Re: [list] Hello",
                    "\"Re: [list]\" was put in front of Subject:",
                ),
                ("text/plain", "text/plain; charset=utf-8", "parameters were added to Content-Type:"),
                (
                    "\r\nMessage-ID: ",
                    "\r\nMIME-Version: 1.0\r\nMessage-ID: ",
                    "MIME-Version: was added after signing",
                ),
                (
                    "\r\nMessage-ID: ",
                    "\r\nTo: eve@x.example\r\nMessage-ID: ",
                    "a second To: was added after signing",
                ),
                (
                    "Subject: Hello",
                    "MIME-Version: 1.0\r\nSubject: [l] Hello",
                    "\"[l]\" was put in front of Subject:, and MIME-Version: was added after signing",
                ),
                ("Joe <joe", "Eve <joe", "the key is the right one, so one of the signed fields (From, To"),
            ],
        ),
        (
            (Simple, Simple),
            vec![
                (
                    "two\r\n",
                    "two \r\n",
                    "white space was added to it on the way; it would have verified with c=…/relaxed",
                ),
                ("Hello\r\n you", "Hello\r\n\tyou", "the key is the right one"),
                (
                    "Subject: Hello\r\n you",
                    "Subject:  Hello\r\n you",
                    "white space in Subject: was changed; c=relaxed/… would have survived it",
                ),
            ],
        ),
    ] {
        let (records, message) = rsa(modes.0, modes.1, MESSAGE);
        for (from, to, says) in changes {
            let changed = message.replacen(from, to, 1);
            assert_ne!(changed, message, "{from}");
            let cause = cause_of(&records, &changed);
            assert!(cause.contains(says), "{to:?}: {cause}");
        }
    }
}

#[test]
fn another_key_is_told_from_another_header() {
    let relaxed = Canonicalization::Relaxed;
    let (records, message) = rsa(relaxed, relaxed, MESSAGE);
    let (other, _) = rsa(relaxed, relaxed, MESSAGE);
    let cause = cause_of(&other, &message);
    assert!(
        cause.contains("has not made this signature: the signer uses a key that is not the published one"),
        "{cause}"
    );
    // Damage to b= itself looks the same.
    let at = message.find("; b=").unwrap() + 8;
    let mut damaged = message.clone().into_bytes();
    damaged[at] = if damaged[at] == b'A' { b'B' } else { b'A' };
    let cause = cause_of(&records, &String::from_utf8(damaged).unwrap());
    assert!(cause.contains("has not made this signature"), "{cause}");
    // An Ed25519 signature says nothing of what was signed, but guesses can be verified.
    let (records, message) = signed("hello\r\n");
    let text = String::from_utf8(message).unwrap();
    let cause = cause_of(&records, &text.replace("Subject: x", "Subject: [l] x"));
    assert!(cause.contains("\"[l]\" was put in front of Subject:"), "{cause}");
    let cause = cause_of(&records, &text.replace("Subject: x", "Subject: y"));
    assert!(cause.contains("was changed, or another key has signed"), "{cause}");
}

#[test]
fn the_way_to_the_key_explains_what_is_missing() {
    let (_, message) = signed("");
    let text = String::from_utf8(message).unwrap();
    let cause = cause_of(&vec![], &text);
    assert!(cause.contains("publish the CNAME of the selector selector1 for contoso.com"), "{cause}");
    let revoked = vec![("selector1._domainkey.contoso.com".to_owned(), "v=DKIM1; k=ed25519; p=".to_owned())];
    assert!(cause_of(&revoked, &text).contains("withdrawn this key"));
}

#[test]
fn times_are_looked_at() {
    let dir = KeyDir::new();
    let records = dir.domain_with("", "contoso.com", &[KeyKind::Ed25519], |config| {
        config.expiration_seconds = Some(3600);
    });
    let now = jiff::Timestamp::now().as_second();
    let at = |second: i64| {
        let mut out = Vec::new();
        let time = jiff::Timestamp::from_second(second).unwrap();
        run_sign(dir.path(), MESSAGE.as_bytes(), &mut out, Unknown::Refuse, time).unwrap();
        verify(&records, &out).signatures.remove(0)
    };
    let future = at(now + 86_400);
    assert!(future.cause.unwrap().contains("made in the future"));
    let late = at(now - 7200);
    assert_eq!(late.verdict, Verdict::Fail);
    assert!(late.cause.unwrap().contains("seconds too late"));
    let good = at(now - 60);
    assert_eq!((good.verdict, good.cause), (Verdict::Pass, None));
}

#[test]
fn a_report_shows_everything() {
    let (records, message) = rsa(Canonicalization::Relaxed, Canonicalization::Relaxed, MESSAGE);
    let report = verify(&records, message.as_bytes());
    let signature = &report.signatures[0];
    assert_eq!(signature.canonicalization.as_deref(), Some("relaxed/relaxed"));
    assert_eq!(signature.headers.len(), 6);
    let hashes = signature.body_hash.as_ref().unwrap();
    assert_eq!(hashes.signed, hashes.computed);
    assert_eq!(signature.key.as_ref().unwrap().found, "an RSA key of 1024 bits");
    assert!(report.to_string().ends_with("DMARC by DKIM: pass, with adkim=s and adkim=r\n"), "{report}");
}
