//! Any signed query: no panic; what was signed with the key is good, and any other bytes are not.

#![no_main]

use std::sync::{Arc, LazyLock};

use dkim_operator_fuzz::dns::query::read;
use dkim_operator_fuzz::dns::tsig::{Checked, Keys, Session, check};
use libfuzzer_sys::fuzz_target;

const NOW: u64 = 1_800_000_000;

static KEYS: LazyLock<Keys> = LazyLock::new(|| Keys::parse("k.x:MDEyMzQ1Njc4OWFiY2RlZg==").unwrap());

fuzz_target!(|input: (&[u8], u16, u8)| {
    let (packet, at, flip) = input;
    // As it is: hardly ever with a right MAC.
    if let Ok(query) = read(packet) {
        if query.tsig.is_some() {
            match check(&query, &KEYS, NOW) {
                Checked::Good(_) => panic!("forged"),
                Checked::Bad(refusal) => {
                    let mut reply = packet[..12].to_vec();
                    refusal.append(&mut reply, NOW);
                    assert!(reply.len() < 12 + 3 * 255 + 64);
                }
                Checked::Malformed => {}
            }
            return;
        }
        // Signed: good as it is, and not with one bit changed.
        let mut message = packet.to_vec();
        let key = Arc::clone(KEYS.first().unwrap());
        Session::begin(key, query.head.id).sign(&mut message, NOW);
        let signed = read(&message).expect("a query with a TSIG is a query");
        assert!(matches!(check(&signed, &KEYS, NOW), Checked::Good(_)));
        let at = usize::from(at) % message.len();
        // The case of the key's name means nothing, nor does the id, which is in the TSIG again.
        let lower = message[at] ^ flip;
        let folds = lower.eq_ignore_ascii_case(&message[at]) && at >= packet.len();
        if flip == 0 || folds || at < 2 {
            return;
        }
        message[at] = lower;
        if let Ok(changed) = read(&message) {
            assert!(!matches!(check(&changed, &KEYS, NOW), Checked::Good(_)), "changed at {at}");
        }
    }
});
