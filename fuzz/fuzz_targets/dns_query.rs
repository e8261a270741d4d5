//! Any packet over UDP and TCP: no panic; a reply is well formed, belongs to its query, fits, and is no longer than the
//! query once it is cut.

#![no_main]

use std::cell::RefCell;
use std::sync::LazyLock;

use dkim_operator_fuzz::dns::answer::{Asker, Transport, answer, cut};
use dkim_operator_fuzz::dns::cookies::Cookies;
use dkim_operator_fuzz::dns::limit::{Limiter, Rates};
use dkim_operator_fuzz::dns::query::{HEADER, Reader, kind, read};
use dkim_operator_fuzz::dns::set::{Part, Set};
use dkim_operator_fuzz::dns::snapshot::Snapshot;
use dkim_operator_fuzz::dns::store::Store;
use dkim_operator_fuzz::dns::transfer::Transfer;
use libfuzzer_sys::fuzz_target;

static WORLD: LazyLock<(Snapshot, Cookies)> = LazyLock::new(|| {
    let set = |name: &str, apex: &str, texts: &[(&str, usize)]| Set {
        name: name.to_owned(),
        created: jiff::Timestamp::UNIX_EPOCH,
        zones: vec![Part {
            apex: apex.to_owned(),
            servers: vec!["ns1.p.x".to_owned(), "ns2.p.x".to_owned()],
            negative: 60,
            texts: texts.iter().map(|(name, length)| ((*name).to_owned(), 300, "x".repeat(*length))).collect(),
        }],
    };
    let mut store = Store::default();
    store.apply(&set("a", "k.x", &[("a.k.x", 410), ("b.c.k.x", 4000), ("c.k.x", 1)]));
    store.commit(1);
    store.apply(&set("b", "z.c.k.x", &[("d.z.c.k.x", 700)]));
    store.commit(2);
    store.apply(&set("a", "k.x", &[("a.k.x", 411), ("e.k.x", 5)]));
    store.commit(3);
    let cookies = Cookies::parse("00112233445566778899aabbccddeeff").unwrap();
    (store.snapshot().clone(), cookies)
});

thread_local! {
    static LIMITER: RefCell<Limiter> = RefCell::new(Limiter::new(Rates { same: 1, all: 1, slip: 2 }, 1));
}

/// Reads a whole message with the parser of queries; every count must be what is there.
fn check(reply: &[u8], packet: &[u8]) {
    assert_eq!(reply[..2], packet[..2]);
    assert_eq!(reply[2] & 0xf9, packet[2] & 0x79 | 0x80, "a response with the opcode and RD of its query");
    let count = |at: usize| u16::from_be_bytes([reply[at], reply[at + 1]]);
    let mut at = HEADER;
    if count(4) == 1 {
        let mut reader = Reader::at(reply, HEADER);
        let name = reader.name().unwrap();
        at = HEADER + name.wire().len() + 4;
        assert_eq!(reply[HEADER..at], packet[HEADER..at], "the question as it came");
    }
    let mut reader = Reader::at(reply, at);
    for _ in 0..u32::from(count(6)) + u32::from(count(8)) + u32::from(count(10)) {
        reader.record().unwrap();
    }
    assert!(reader.is_done());
}

fuzz_target!(|packet: &[u8]| {
    let (snapshot, cookies) = &*WORLD;
    let mut out = Vec::new();
    for transport in [Transport::Udp, Transport::Tcp] {
        let asker = Asker { ip: "192.0.2.1".parse().unwrap(), transport, now: 1_000_000 };
        let Some(mut told) = answer(packet, snapshot, cookies, &asker, &mut out) else {
            assert!(packet.len() < HEADER || packet[2] & 0x80 != 0);
            continue;
        };
        check(&out, packet);
        let most = if transport == Transport::Udp { 1232 } else { 65_535 };
        assert!(out.len() <= most);
        LIMITER.with_borrow_mut(|limiter| {
            for now in 0..4 {
                limiter.judge(asker.ip, told.sort, now);
            }
        });
        cut(&mut out, &mut told);
        check(&out, packet);
        assert!(out.len() <= packet.len() + 28, "an answer over the limit is no tool for floods");
    }
    let Ok(query) = read(packet) else { return };
    if let (kind::AXFR | kind::IXFR, Some(zone)) = (query.kind, snapshot.zone(query.name.wire())) {
        let (mut transfer, _) = Transfer::new(&query, snapshot, zone);
        while transfer.next_message(&mut out) {
            check(&out, packet);
            assert!(out.len() <= 65_535);
        }
    }
});
