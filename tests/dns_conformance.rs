//! The embedded DNS server asked what hardly anybody asks (RFC 8906, RFC 6891, RFC 9619), byte by byte, over UDP and TCP; and
//! its zone signed by a Knot in front of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use common::dns::{APEX, KEY, Served, set};
use dkim_testbed::kdig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

const NO_ERROR: u8 = 0;
const FORM_ERR: u8 = 1;
const NOT_IMP: u8 = 4;
const REFUSED: u8 = 5;

fn name(text: &str) -> Vec<u8> {
    let mut wire = Vec::new();
    for label in text.split('.') {
        wire.push(u8::try_from(label.len()).unwrap());
        wire.extend(label.as_bytes());
    }
    wire.push(0);
    wire
}

fn question(kind: u16, class: u16) -> Vec<u8> {
    [&name(KEY)[..], &kind.to_be_bytes(), &class.to_be_bytes()].concat()
}

fn opt(version: u8, options: &[u8]) -> Vec<u8> {
    let length = u16::try_from(options.len()).unwrap().to_be_bytes();
    [&[0, 0, 41, 4, 208, 0, version, 0, 0][..], &length, options].concat()
}

/// A message with the flags and counts given.
fn message(flags: [u8; 2], counts: [u16; 4], rest: &[Vec<u8>]) -> Vec<u8> {
    let counts = counts.map(u16::to_be_bytes).concat();
    [&[0xbe, 0xef][..], &flags, &counts, &rest.concat()].concat()
}

async fn ask(server: &Served, bytes: &[u8]) -> [Option<Vec<u8>>; 2] {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(server.address).await.unwrap();
    socket.send(bytes).await.unwrap();
    let mut buffer = vec![0; 4096];
    let received = tokio::time::timeout(Duration::from_millis(500), socket.recv(&mut buffer)).await;
    let udp = received.ok().map(|length| buffer[..length.unwrap()].to_vec());
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
    stream.write_all(&[&length, bytes].concat()).await.unwrap();
    let read = async {
        let length = stream.read_u16().await.ok()?;
        let mut answer = vec![0; usize::from(length)];
        stream.read_exact(&mut answer).await.ok().map(|_| answer)
    };
    let tcp = tokio::time::timeout(Duration::from_millis(500), read).await.ok().flatten();
    [udp, tcp]
}

/// Asks over both, and expects the code, and that the header says nothing wrong.
async fn expect(server: &Served, what: &str, bytes: &[u8], code: u8) -> Vec<u8> {
    let [udp, tcp] = ask(server, bytes).await;
    let (udp, tcp) = (udp.unwrap_or_else(|| panic!("{what}: silence")), tcp.expect(what));
    for answer in [&udp, &tcp] {
        assert_eq!(answer[..2], bytes[..2], "{what}: another id");
        assert_eq!(answer[2] & 0x80, 0x80, "{what}: no response");
        assert_eq!(answer[2] & 0x79, bytes[2] & 0x79, "{what}: opcode or RD differ");
        assert_eq!(answer[2] & 0x02, 0, "{what}: cut");
        // RA, Z and AD are never ours to set.
        assert_eq!(answer[3] & 0xe0, 0, "{what}: {:#04x}", answer[3]);
        assert_eq!(answer[3] & 0x0f, code, "{what}");
    }
    assert_eq!(udp[2..], tcp[2..], "{what}: UDP and TCP differ");
    udp
}

#[tokio::test]
async fn odd_messages_get_the_answers_that_the_standards_ask_for() {
    let server = Served::start(&[set(&[(KEY, "v=DKIM1; p=QUJD")])]).await;
    let (txt, any) = (question(16, 1), [1_u16, 0, 0, 0]);
    for opcode in 1..16_u8 {
        let bytes = message([opcode << 3, 0], any, std::slice::from_ref(&txt));
        expect(&server, &format!("opcode {opcode}"), &bytes, NOT_IMP).await;
    }
    for class in [0_u16, 2, 3, 4, 254, 255, 65280] {
        let bytes = message([1, 0], any, &[question(16, class)]);
        let answer = expect(&server, &format!("class {class}"), &bytes, REFUSED).await;
        assert_eq!(answer[2] & 4, 0, "no authority over class {class}");
    }
    for kind in [0_u16, 1, 2, 5, 6, 28, 41, 46, 47, 48, 99, 249, 250, 253, 254, 257, 65280, 65535] {
        let bytes = message([0, 0], any, &[question(kind, 1)]);
        let answer = expect(&server, &format!("type {kind}"), &bytes, NO_ERROR).await;
        assert_eq!(answer[2] & 4, 4, "type {kind} is denied with authority");
        assert_eq!(answer[6..10], [0, 0, 0, 1], "type {kind}: an SOA and nothing else");
    }
    // AD, CD and the reserved bit of the query change nothing.
    for flags in [0x10, 0x20, 0x40, 0x70] {
        let answer =
            expect(&server, "odd flags", &message([1, flags], any, std::slice::from_ref(&txt)), NO_ERROR)
                .await;
        assert_eq!(answer[6..8], [0, 1]);
    }
    for (count, rest) in
        [(0_u16, vec![]), (2, vec![txt.clone(), txt.clone()]), (2, vec![txt.clone(), question(1, 1)])]
    {
        let bytes = message([1, 0], [count, 0, 0, 0], &rest);
        expect(&server, &format!("{count} questions"), &bytes, FORM_ERR).await;
    }
    for (what, additionals, rest) in [
        ("two OPT", 2, vec![txt.clone(), opt(0, &[]), opt(0, &[])]),
        ("an option cut short", 1, vec![txt.clone(), opt(0, &[0, 10, 0, 8, 1])]),
        ("a cookie of 7 bytes", 1, vec![txt.clone(), opt(0, &[0, 10, 0, 7, 1, 2, 3, 4, 5, 6, 7])]),
        ("bytes after the end", 0, vec![txt.clone(), vec![0]]),
        ("a record too few", 1, vec![txt.clone()]),
    ] {
        expect(&server, what, &message([1, 0], [1, 0, 0, additionals], &rest), FORM_ERR).await;
    }
    for version in [1, 2, 255] {
        let bytes = message([1, 0], [1, 0, 0, 1], &[txt.clone(), opt(version, &[])]);
        let answer = expect(&server, "EDNS version", &bytes, NO_ERROR).await;
        // BADVERS is 16: its upper bits are in the OPT, whose version is ours.
        let at = answer.len() - 11;
        assert_eq!((answer[at..at + 3].to_vec(), answer[at + 5], answer[at + 6]), (vec![0, 0, 41], 1, 0));
        assert_eq!(answer[6..10], [0; 4]);
    }
    // Options that nobody knows are passed over, and do not come back.
    let unknown = [0xfd, 0xe9, 0, 2, 1, 2, 0xff, 0xff, 0, 0];
    let answer = expect(
        &server,
        "unknown options",
        &message([1, 0], [1, 0, 0, 1], &[txt.clone(), opt(0, &unknown)]),
        NO_ERROR,
    )
    .await;
    assert_eq!(answer[answer.len() - 2..], [0, 0]);
    // What is a response, or no message, is not answered: two servers must not talk to each other.
    for bytes in [message([0x80, 0], any, std::slice::from_ref(&txt)), vec![1, 2, 3]] {
        assert_eq!(ask(&server, &bytes).await, [None, None]);
    }
    server.stop().await;
}

/// What zone checkers look for: SOA and NS are the same over UDP and TCP and below, and the NS are no aliases.
#[tokio::test]
async fn the_apex_is_consistent() {
    let server = Served::start(&[set(&[(KEY, "v=DKIM1; p=QUJD")])]).await;
    let ask = async |args: &[&str]| kdig(server.address, args).await.unwrap();
    let soa = ask(&[APEX, "SOA", "+short"]).await;
    assert_eq!(soa, ask(&[APEX, "SOA", "+short", "+tcp"]).await);
    let denied = ask(&[&format!("x.{APEX}"), "TXT", "+noall", "+authority"]).await;
    let fields = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let (soa, denied) = (fields(&soa), fields(&denied));
    assert!(denied.ends_with(&soa), "{denied:?} {soa:?}");
    let numbers: Vec<u64> = soa[2..].iter().map(|number| number.parse().unwrap()).collect();
    let [_, refresh, retry, expire, minimum] = numbers[..] else { panic!("{soa:?}") };
    assert!(retry < refresh && expire >= 604_800 && expire > refresh + retry && minimum <= 86_400, "{soa:?}");
    let ns = ask(&[APEX, "NS", "+short"]).await;
    assert_eq!(ns, ask(&[APEX, "NS", "+short", "+tcp"]).await);
    assert_eq!(ns.trim(), soa[0], "the primary is one of the name servers");
    // A name in the zone is not there by wildcard, and no name below a key is either.
    assert!(ask(&[&format!("x.{KEY}"), "TXT"]).await.contains("status: NXDOMAIN"));
    server.stop().await;
}
