//! The embedded DNS server, as programs that are not ours see it: kdig, and Unbound on its way down from the root.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::net::{Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use common::dns::{APEX, KEY, Served, rsa_4096, set};
use dkim_operator::dns::Rates;
use dkim_testbed::{Address, DnsTree, kdig};
use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};

const VALUE: &str = "v=DKIM1; k=rsa; p=MIIB";
/// The name of a key too long for UDP without EDNS.
const LONG: &str = "selector2-contoso-com._domainkey.contoso.onmail.example";
const NESTED: &str = "a.b._domainkey.contoso.onmail.example";
const SOA: &str = "_domainkey.contoso.onmail.example. 60 IN SOA ns1.provider.example. \
                   hostmaster._domainkey.contoso.onmail.example. 7 3600 600 604800 60";

async fn served() -> Served {
    Served::start(&[set(&[(KEY, VALUE), (LONG, &rsa_4096()), (NESTED, "x")])]).await
}

/// Asks, and expects all of `parts` in what kdig prints, with tabs and rows of spaces as one space.
async fn assert_says(server: &Served, args: &[&str], parts: &[&str]) -> String {
    let text = kdig(server.address, args).await.unwrap_or_else(|error| error.to_string());
    let text: Vec<String> =
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let text = text.join("\n");
    for part in parts {
        assert!(text.contains(part), "{args:?} without {part:?}:\n{text}");
    }
    text
}

#[tokio::test]
async fn a_key_is_answered_with_authority() {
    let server = served().await;
    let record = format!("{KEY}. 300 IN TXT \"{VALUE}\"");
    let parts =
        ["status: NOERROR", "Flags: qr aa rd;", "ANSWER: 1; AUTHORITY: 0; ADDITIONAL: 0", "(UDP)", &record];
    assert_says(&server, &[KEY, "TXT"], &parts).await;
    assert_says(&server, &[KEY, "TXT", "+tcp", "+norec"], &["Flags: qr aa;", "(TCP)", &record]).await;
    server.stop().await;
}

#[tokio::test]
async fn the_apex_has_soa_and_ns() {
    let server = served().await;
    let soa = SOA.replace(" 60 IN", " 3600 IN");
    assert_says(&server, &[APEX, "SOA"], &["Flags: qr aa rd;", "ANSWER: 1;", &soa]).await;
    let ns = format!("{APEX}. 300 IN NS ns1.provider.example.");
    assert_says(&server, &[APEX, "NS"], &["Flags: qr aa rd;", "ANSWER: 1;", &ns]).await;
}

#[tokio::test]
async fn names_that_are_not_there_are_denied_for_the_negative_ttl() {
    let server = served().await;
    for name in [
        "x._domainkey.contoso.onmail.example",
        "x.b._domainkey.contoso.onmail.example",
        "*._domainkey.contoso.onmail.example",
        "a\\ b.c\\.d._domainkey.contoso.onmail.example",
        "\\255\\000._domainkey.contoso.onmail.example",
    ] {
        let parts = ["status: NXDOMAIN", "Flags: qr aa rd;", "ANSWER: 0; AUTHORITY: 1;", SOA];
        assert_says(&server, &[name, "TXT"], &parts).await;
    }
}

#[tokio::test]
async fn types_that_are_not_there_are_no_data() {
    let server = served().await;
    let between = "b._domainkey.contoso.onmail.example";
    for (name, kind) in [(KEY, "A"), (KEY, "CNAME"), (KEY, "TYPE65280"), (APEX, "DS"), (between, "TXT")] {
        let parts = ["status: NOERROR", "Flags: qr aa rd;", "ANSWER: 0; AUTHORITY: 1;", SOA];
        assert_says(&server, &[name, kind], &parts).await;
    }
}

#[tokio::test]
async fn what_is_not_ours_is_refused() {
    let server = served().await;
    let other = ["status: REFUSED", "Flags: qr rd;", "ANSWER: 0; AUTHORITY: 0;"];
    for args in [
        &["contoso.onmail.example", "TXT"][..],
        &[".", "NS"],
        &["version.bind", "TXT", "-c", "CH"],
        &[KEY, "TXT", "-c", "CH"],
    ] {
        assert_says(&server, args, &other).await;
    }
    for kind in ["AXFR", "IXFR=1"] {
        assert_says(&server, &[APEX, kind], &["error 'REFUSED'"]).await;
    }
    assert_says(&server, &[APEX, "NOTIFY"], &["opcode: NOTIFY; status: NOTIMPL"]).await;
}

#[tokio::test]
async fn a_key_too_long_for_udp_comes_over_tcp() {
    let server = served().await;
    let whole = rsa_4096();
    let cut = ["Flags: qr aa tc rd;", "ANSWER: 0; AUTHORITY: 0;", "(UDP)"];
    for size in ["+noedns", "+bufsize=512", "+bufsize=700"] {
        assert_says(&server, &[LONG, "TXT", size, "+ignore"], &cut).await;
        let text = assert_says(&server, &[LONG, "TXT", size], &["(TCP)", "truncated reply"]).await;
        assert!(text.replace("\" \"", "").contains(&format!("\"{whole}\"")), "{text}");
    }
    assert_says(&server, &[LONG, "TXT", "+bufsize=4096"], &["Flags: qr aa rd;", "ANSWER: 1;", "(UDP)"]).await;
}

#[tokio::test]
async fn edns_is_answered_in_kind() {
    let server = served().await;
    let ours = "Version: 0; flags: ; UDP size: 1232 B; ext-rcode: NOERROR";
    assert_says(&server, &[KEY, "TXT", "+edns=0"], &[ours, "ANSWER: 1;"]).await;
    assert_says(&server, &[KEY, "TXT", "+dnssec"], &[&ours.replace("flags: ;", "flags: do;")]).await;
    for option in ["+ednsopt=65001:c0ffee", "+cookie", "+nsid", "+subnet=192.0.2.0/24"] {
        assert_says(&server, &[KEY, "TXT", option], &[ours, "ANSWER: 1;"]).await;
    }
    let badvers = ["status: BADVERS", "Version: 0;", "ext-rcode: BADVERS", "ANSWER: 0;"];
    assert_says(&server, &[KEY, "TXT", "+edns=1"], &badvers).await;
}

/// kdig makes a cookie, and with `+cookie=…` sends one; ours is known again, whatever else is in front.
#[tokio::test]
async fn cookies_are_given_and_free_of_limits() {
    let server = Served::start_with(&[set(&[(KEY, VALUE)])], Rates { same: 1, all: 0, slip: 1 }).await;
    let text =
        assert_says(&server, &[KEY, "TXT", "+cookie=0102030405060708"], &["ANSWER: 1;", "COOKIE"]).await;
    let line = text.lines().find(|line| line.contains("COOKIE")).unwrap();
    let cookie: String =
        line.split(':').next_back().unwrap().chars().filter(char::is_ascii_hexdigit).collect();
    assert!(cookie.starts_with("0102030405060708") && cookie.len() == 48, "{line}");
    // The limit is used up soon; then answers are cut, and the client comes over TCP.
    for _ in 0..10 {
        kdig(server.address, &[KEY, "TXT", "+ignore"]).await.unwrap();
    }
    assert_says(&server, &[KEY, "TXT", "+ignore"], &["Flags: qr aa tc rd;", "ANSWER: 0;"]).await;
    assert_says(&server, &[KEY, "TXT"], &["(TCP)", "ANSWER: 1;"]).await;
    let with = format!("+cookie={cookie}");
    for _ in 0..10 {
        assert_says(&server, &[KEY, "TXT", "+ignore", &with], &["Flags: qr aa rd;", "ANSWER: 1;"]).await;
    }
    let sums = server.serving.tallies.sums();
    assert!(sums.proven >= 10 && sums.cut >= 8 && sums.dropped == 0, "{sums:?}");
}

#[tokio::test]
async fn any_gets_a_small_answer() {
    let server = served().await;
    for name in [KEY, LONG, APEX] {
        let parts = ["ANSWER: 1;", "IN HINFO \"RFC8482\" \"\"", "(UDP)"];
        assert_says(&server, &[name, "ANY", "+notcp"], &parts).await;
    }
}

#[tokio::test]
async fn the_case_of_the_question_comes_back() {
    let server = served().await;
    let mixed = "SeLeCtOr1-CoNtOsO-cOm._DoMaInKeY.contoso.ONMAIL.example";
    let parts = [&format!(";; {mixed}. IN TXT"), &format!("{mixed}. 300 IN TXT \"{VALUE}\"")];
    assert_says(&server, &[mixed, "TXT"], &parts.map(String::as_str)).await;
}

/// What a program prints; panics where it fails.
async fn run(program: &str, args: &[&str]) -> String {
    let output = tokio::process::Command::new(program).args(args).output().await.unwrap();
    let text =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "{program} {args:?}: {text}");
    text.lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect::<Vec<_>>()
        .join("\n")
}

/// dig warns of all that is odd in a message; there is nothing.
#[tokio::test]
async fn dig_finds_nothing_odd() {
    let server = served().await;
    let at = format!("@{}", server.address.ip());
    let between = "b._domainkey.contoso.onmail.example";
    let missing = "x._domainkey.contoso.onmail.example";
    let mut seen = 0;
    for (name, kind, says) in [
        (KEY, "TXT", "NOERROR"),
        (LONG, "TXT", "NOERROR"),
        (KEY, "A", "NOERROR"),
        (KEY, "ANY", "NOERROR"),
        (APEX, "SOA", "NOERROR"),
        (APEX, "NS", "NOERROR"),
        (APEX, "DNSKEY", "NOERROR"),
        (between, "TXT", "NOERROR"),
        (missing, "TXT", "NXDOMAIN"),
        ("example", "NS", "REFUSED"),
    ] {
        for how in [
            &["+norec"][..],
            &["+norec", "+noedns"],
            &["+norec", "+tcp"],
            &["+norec", "+dnssec", "+nsid", "+subnet=192.0.2.0/24", "+padding=128"],
            &["+norec", "+bufsize=512"],
        ] {
            let text = run("dig", &[&[&at, name, kind, "+tries=1"][..], how].concat()).await;
            assert!(text.contains(&format!("status: {says}")), "{text}");
            for word in ["WARNING", "bad packet", "malformed", "extra", "recursion requested", "mismatch"] {
                assert!(!text.contains(word), "{how:?}: {text}");
            }
            // dig has sent a cookie, and knows its own again.
            let cookie = how.contains(&"+noedns") || text.contains("COOKIE: ") && text.contains("(good)");
            assert!(cookie, "{text}");
            seen += 1;
        }
    }
    assert_eq!(seen, 50);
    assert!(run("dig", &[&at, KEY, "TXT", "+edns=3", "+noednsneg"]).await.contains("status: BADVERS"));
    assert!(run("dig", &[&at, "version.bind", "CH", "TXT"]).await.contains("status: REFUSED"));
    assert!(run("dig", &[&at, APEX, "SOA", "+opcode=UPDATE"]).await.contains("status: NOTIMP"));
    // Without a question there is a cookie to be had, and nothing else.
    assert!(run("dig", &[&at, APEX, "SOA", "+header-only"]).await.contains("status: NOERROR"));
    assert!(run("dig", &[&at, APEX, "SOA", "+header-only", "+nocookie"]).await.contains("status: FORMERR"));
}

#[tokio::test]
async fn delv_takes_the_answers() {
    let server = served().await;
    let at = format!("@{}", server.address.ip());
    let text = run("delv", &[&at, "-i", KEY, "TXT"]).await;
    assert!(text.contains(&format!("{KEY}. 300 IN TXT \"{VALUE}\"")), "{text}");
    let text = run("delv", &[&at, "-i", LONG, "TXT"]).await;
    assert!(text.replace("\" \"", "").contains(&rsa_4096()), "{text}");
    let text = run("delv", &[&at, "-i", "x._domainkey.contoso.onmail.example", "TXT"]).await;
    assert!(text.contains("ncache nxdomain"), "{text}");
    let text = run("delv", &[&at, "-i", KEY, "A"]).await;
    assert!(text.contains("ncache nxrrset"), "{text}");
}

/// One socket for both versions of IP, and one for IPv6 alone.
#[tokio::test]
async fn ipv6_is_served() {
    for (listen, clients) in [("[::]:0", &["127.0.0.1", "::1"][..]), ("[::1]:0", &["::1"])] {
        let (address, _server) = Served::on(listen.parse().unwrap(), &[set(&[(KEY, VALUE)])]).await;
        for client in clients {
            let server = std::net::SocketAddr::new(client.parse().unwrap(), address.port());
            for transport in ["+notcp", "+tcp"] {
                let text = kdig(server, &[KEY, "TXT", "+short", transport]).await.unwrap();
                assert!(text.contains(VALUE), "{listen} {client} {transport}: {text}");
            }
        }
    }
}

#[tokio::test]
async fn a_resolver_finds_keys_through_a_tenants_cname() -> common::Outcome {
    let (server, tree) = (served().await, DnsTree::start().await?);
    tree.add_zone("contoso.com", 1).await?;
    tree.delegate(APEX, "ns1.provider.example", server.address.ip()).await?;
    for (selector, target, text) in [("selector1", KEY, VALUE), ("selector2", LONG, &rsa_4096())] {
        let name = format!("{selector}._domainkey.contoso.com");
        tree.add_record(&name, 3600, "CNAME", &format!("{target}.")).await?;
        let answer = tree.lookup(&name, "TXT").await?;
        assert_eq!((answer.code.as_str(), answer.data("TXT")), ("NOERROR", vec![text]), "{answer}");
    }
    let missing = tree.lookup(&format!("x.{APEX}"), "TXT").await?;
    assert_eq!((missing.code.as_str(), missing.authority[0].kind.as_str()), ("NXDOMAIN", "SOA"));
    assert!(missing.authority[0].ttl <= 60, "{:?}", missing.authority);
    assert_eq!(tree.lookup(&format!("b.{APEX}"), "TXT").await?.code, "NOERROR");
    Ok(())
}

/// Asks from sockets that take answers only from where they asked, all at once, and counts the answers.
fn answered(server: SocketAddr, count: u16) -> usize {
    let ask = |id: u16| {
        let client = UdpSocket::bind(if server.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" }).unwrap();
        client.connect(server).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut query = Message::new(id, MessageType::Query, OpCode::Query);
        query.add_query(Query::query(Name::from_ascii(format!("{KEY}.")).unwrap(), RecordType::TXT));
        client.send(&query.to_vec().unwrap()).unwrap();
        (client, id)
    };
    let clients: Vec<_> = (0..count).map(ask).collect();
    let heard = |(client, id): &(UdpSocket, u16)| {
        let mut buffer = [0; 4096];
        let length = client.recv(&mut buffer).ok()?;
        let answer = Message::from_vec(&buffer[..length]).ok()?;
        (answer.metadata.id == *id && answer.answers.len() == 1).then_some(())
    };
    clients.iter().filter_map(heard).count()
}

#[tokio::test]
async fn listening_at_all_addresses_it_answers_from_the_one_that_was_asked() {
    let places = [Address::allocate().unwrap(), Address::allocate().unwrap()];
    for listen in ["0.0.0.0:0", "[::]:0"] {
        let (bound, _server) = Served::on(listen.parse().unwrap(), &[set(&[(KEY, VALUE)])]).await;
        let mut asked: Vec<SocketAddr> = places.iter().map(|place| place.port(bound.port())).collect();
        // A machine without IPv6 has listened at 0.0.0.0 both times.
        asked.extend(bound.is_ipv6().then_some(SocketAddr::new(Ipv6Addr::LOCALHOST.into(), bound.port())));
        for server in &asked {
            let said = kdig(*server, &[KEY, "TXT"]).await.unwrap_or_else(|error| error.to_string());
            assert!(said.contains(VALUE), "{listen} asked at {server}: {said}");
        }
        let each = asked.iter().map(|server| {
            tokio::task::spawn_blocking({
                let server = *server;
                move || answered(server, 200)
            })
        });
        for (heard, server) in futures::future::join_all(each).await.into_iter().zip(&asked) {
            assert_eq!(heard.unwrap(), 200, "{listen} asked at {server}");
        }
    }
}
