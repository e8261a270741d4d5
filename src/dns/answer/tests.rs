use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{NS, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use proptest::prelude::*;

use super::{APEX_TTL, Asker, PAYLOAD, Told, Transport, cut};
use crate::dns::testing::{APEX, KEY, set, snapshot};
use crate::dns::{Cookies, Snapshot};

const SECRET: &str = "00112233445566778899aabbccddeeff";

fn answer_told(packet: &[u8], snapshot: &Snapshot, transport: Transport) -> Option<(Vec<u8>, Told)> {
    let cookies = Cookies::parse(SECRET).unwrap();
    let asker = Asker { ip: "192.0.2.1".parse().unwrap(), transport, now: 1_000_000 };
    let mut out = vec![7; 3];
    let told = super::answer(packet, snapshot, &cookies, &asker, &mut out)?;
    Some((out, told))
}

fn answer(packet: &[u8], snapshot: &Snapshot, transport: Transport) -> Option<Vec<u8>> {
    answer_told(packet, snapshot, transport).map(|(bytes, _)| bytes)
}

/// The text of an RSA 4096 key: longer than 512 bytes with its question, shorter than 1232.
fn rsa_4096() -> String {
    format!("v=DKIM1; k=rsa; p={}", "A".repeat(736))
}

fn query(name: Name, kind: RecordType) -> Message {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(name, kind));
    message
}

fn at(name: &str) -> Name {
    Name::from_ascii(format!("{name}.")).unwrap()
}

fn ask_in(snapshot: &Snapshot, message: &Message, transport: Transport) -> Message {
    let reply = answer(&message.to_vec().unwrap(), snapshot, transport).unwrap();
    let reply = Message::from_vec(&reply).unwrap();
    assert_eq!(reply.metadata.id, message.metadata.id);
    assert_eq!(reply.metadata.message_type, MessageType::Response);
    assert_eq!(reply.metadata.recursion_desired, message.metadata.recursion_desired);
    assert!(!reply.metadata.recursion_available);
    reply
}

fn ask(message: &Message) -> Message {
    let nested = format!("a.b.{APEX}");
    ask_in(&snapshot(&[(KEY, "v=DKIM1; p="), (&nested, "x")]), message, Transport::Tcp)
}

fn ask_for(name: &str, kind: RecordType) -> Message {
    ask(&query(at(name), kind))
}

fn strings(reply: &Message) -> Vec<Vec<u8>> {
    match reply.answers.as_slice() {
        [Record { data: RData::TXT(TXT { txt_data, .. }), .. }] => {
            txt_data.iter().map(|s| s.to_vec()).collect()
        }
        other => panic!("{other:?}"),
    }
}

/// Code, AA, and whether the authority section is the SOA of `zone`, with the negative TTL.
fn assert_negative(reply: &Message, code: ResponseCode, zone: &str) {
    assert_eq!((reply.metadata.response_code, reply.metadata.authoritative), (code, true));
    assert_eq!(reply.answers, []);
    let [soa] = reply.authorities.as_slice() else { panic!("{reply}") };
    assert_eq!((&soa.name, soa.ttl), (&at(zone), 60));
    let RData::SOA(data) = &soa.data else { panic!("{soa}") };
    assert_eq!((data.minimum, data.serial), (60, 7));
}

fn assert_refused(reply: &Message) {
    assert_eq!((reply.metadata.response_code, reply.metadata.authoritative), (ResponseCode::Refused, false));
    assert!(reply.answers.is_empty() && reply.authorities.is_empty());
}

#[test]
fn keys_are_answered_and_other_types_are_no_data() {
    let mut message = query(at(KEY), RecordType::TXT);
    message.metadata.recursion_desired = true;
    let reply = ask(&message);
    assert_eq!((reply.metadata.response_code, reply.metadata.authoritative), (ResponseCode::NoError, true));
    assert_eq!(strings(&reply), [b"v=DKIM1; p="]);
    assert_eq!((reply.answers[0].ttl, reply.edns), (300, None));
    for kind in
        [RecordType::CNAME, RecordType::A, RecordType::SOA, RecordType::DS, RecordType::Unknown(65_280)]
    {
        assert_negative(&ask_for(KEY, kind), ResponseCode::NoError, APEX);
    }
}

#[test]
fn names_are_there_or_not() {
    for (name, code) in [
        (format!("b.{APEX}"), ResponseCode::NoError),
        (format!("x.{APEX}"), ResponseCode::NXDomain),
        (format!("x.b.{APEX}"), ResponseCode::NXDomain),
        (format!("x.{KEY}"), ResponseCode::NXDomain),
        (format!("*.{APEX}"), ResponseCode::NXDomain),
    ] {
        for kind in [RecordType::TXT, RecordType::ANY] {
            assert_negative(&ask_for(&name, kind), code, APEX);
        }
    }
    for name in ["contoso.onmail.example", "example", "x_domainkey.contoso.onmail.example"] {
        assert_refused(&ask_for(name, RecordType::TXT));
    }
    assert_refused(&ask(&query(Name::root(), RecordType::NS)));
}

#[test]
fn odd_labels_are_not_there() {
    let zone: Vec<&[u8]> = APEX.split('.').map(str::as_bytes).collect();
    let long = [b'a'; 63];
    for odd in [&[b"\xff\xfe".as_slice()][..], &[b"a b"], &[b"sel.ector"], &[b"\0"], &[&long, b"x", b"\\"]] {
        let name = Name::from_labels(odd.iter().copied().chain(zone.iter().copied())).unwrap();
        assert_negative(&ask(&query(name.clone(), RecordType::TXT)), ResponseCode::NXDomain, APEX);
        assert_eq!(ask(&query(name.clone(), RecordType::TXT)).queries[0].name(), &name);
        // Above the zone they make the whole name another's.
        let above = Name::from_labels(zone.iter().copied().chain(odd.iter().copied())).unwrap();
        assert_refused(&ask(&query(above, RecordType::TXT)));
    }
    // One label that reads like a name of ours is not that name.
    let dots: &[u8] = KEY.as_bytes();
    assert_refused(&ask(&query(Name::from_labels([dots]).unwrap(), RecordType::TXT)));
}

#[test]
fn the_apex_has_soa_and_ns() {
    let soa = ask_for(APEX, RecordType::SOA);
    assert!(soa.metadata.authoritative);
    let RData::SOA(data) = &soa.answers[0].data else { panic!("{soa}") };
    assert_eq!((soa.answers[0].ttl, data.serial, data.minimum), (3600, 7, 60));
    assert_eq!(data.mname, at("ns1.provider.example"));
    let ns = ask_for(APEX, RecordType::NS);
    assert_eq!(ns.answers[0].data, RData::NS(NS(at("ns1.provider.example"))));
    assert_negative(&ask_for(APEX, RecordType::TXT), ResponseCode::NoError, APEX);
}

#[test]
fn a_negative_ttl_is_the_lesser_of_minimum_and_soa_ttl() {
    let mut long = set("contoso.com", APEX, &[(KEY, "x")]);
    long.zones[0].negative = 86_400;
    let (snapshot, _) = Snapshot::build(&[long], 7);
    let reply = ask_in(&snapshot, &query(at(KEY), RecordType::A), Transport::Udp);
    assert_eq!(reply.authorities[0].ttl, APEX_TTL);
}

#[test]
fn ds_is_denied_by_the_parent_where_that_is_ours() {
    let sets = [
        set("a.com", "onmail.example", &[("k._domainkey.onmail.example", "x")]),
        set("b.com", APEX, &[(KEY, "y")]),
    ];
    let (snapshot, _) = Snapshot::build(&sets, 7);
    let asked = |kind| ask_in(&snapshot, &query(at(APEX), kind), Transport::Udp);
    assert_negative(&asked(RecordType::DS), ResponseCode::NoError, "onmail.example");
    assert_negative(&asked(RecordType::A), ResponseCode::NoError, APEX);
    assert_negative(&ask_for(APEX, RecordType::DS), ResponseCode::NoError, APEX);
}

#[test]
fn any_gets_hinfo_and_transfers_are_refused() {
    for name in [KEY, APEX] {
        let reply = ask_for(name, RecordType::ANY);
        let RData::HINFO(hinfo) = &reply.answers[0].data else { panic!("{reply}") };
        assert_eq!((&*hinfo.cpu, &*hinfo.os), (b"RFC8482".as_slice(), b"".as_slice()));
        assert!(reply.metadata.authoritative);
    }
    for kind in [RecordType::AXFR, RecordType::IXFR] {
        assert_refused(&ask_for(APEX, kind));
    }
}

#[test]
fn other_classes_are_refused() {
    for class in [DNSClass::CH, DNSClass::ANY, DNSClass::NONE, DNSClass::Unknown(999)] {
        let mut message = query(at(KEY), RecordType::TXT);
        message.queries[0].set_query_class(class);
        assert_refused(&ask(&message));
    }
}

#[test]
fn the_case_of_the_question_comes_back() {
    let mixed: String =
        KEY.char_indices().map(|(i, c)| if i % 2 == 0 { c.to_ascii_uppercase() } else { c }).collect();
    let reply = ask_for(&mixed, RecordType::TXT);
    assert!(reply.queries[0].name().eq_case(&at(&mixed)), "{reply}");
    assert!(reply.answers[0].name.eq_case(&at(&mixed)), "{reply}");
}

#[test]
fn what_is_no_question_is_told_so() {
    let mut two = query(at(KEY), RecordType::TXT);
    two.add_query(two.queries[0].clone());
    let none = Message::new(4711, MessageType::Query, OpCode::Query);
    for mut message in [two, none] {
        assert_eq!(ask(&message).metadata.response_code, ResponseCode::FormErr);
        message.set_edns(Edns::new());
        let reply = ask(&message);
        assert_eq!((reply.metadata.response_code, reply.queries.len()), (ResponseCode::FormErr, 0));
        assert_eq!(reply.edns.unwrap().max_payload(), PAYLOAD);
    }
    for code in [OpCode::Notify, OpCode::Update, OpCode::Status, OpCode::Unknown(15)] {
        let mut message = query(at(APEX), RecordType::SOA);
        message.metadata.op_code = code;
        let reply = ask(&message);
        assert_eq!((reply.metadata.response_code, reply.metadata.op_code), (ResponseCode::NotImp, code));
        // The rest may be anything.
        let mut bytes = message.to_vec().unwrap();
        bytes.truncate(14);
        let reply = answer(&bytes, &Snapshot::default(), Transport::Udp).unwrap();
        assert_eq!(Message::from_vec(&reply).unwrap().metadata.response_code, ResponseCode::NotImp);
    }
}

#[test]
fn responses_and_scraps_get_nothing() {
    let mut message = query(at(KEY), RecordType::TXT);
    let bytes = message.to_vec().unwrap();
    for length in 0..12 {
        assert_eq!(answer(&bytes[..length], &Snapshot::default(), Transport::Udp), None);
    }
    for length in 12..bytes.len() {
        let reply = answer(&bytes[..length], &Snapshot::default(), Transport::Udp).unwrap();
        assert_eq!((&reply[..2], reply[3] & 15, reply.len()), (&bytes[..2], 1, 12));
    }
    message.metadata.message_type = MessageType::Response;
    assert_eq!(answer(&message.to_vec().unwrap(), &Snapshot::default(), Transport::Tcp), None);
    // A header that promises 65,535 of everything.
    let mut greedy = bytes;
    greedy[4..12].fill(0xff);
    let reply = answer(&greedy, &Snapshot::default(), Transport::Udp).unwrap();
    assert_eq!((reply[3] & 15, reply.len()), (1, 12));
}

#[test]
fn edns_is_answered_in_kind() {
    let mut message = query(at(KEY), RecordType::TXT);
    for dnssec_ok in [false, true] {
        let mut edns = Edns::new();
        edns.set_dnssec_ok(dnssec_ok).set_max_payload(4096).flags_mut().z = 0x1234;
        message.set_edns(edns);
        let edns = ask(&message).edns.unwrap();
        assert_eq!((edns.max_payload(), edns.version(), edns.flags().z), (PAYLOAD, 0, 0));
        assert_eq!(edns.flags().dnssec_ok, dnssec_ok);
    }
    message.edns.as_mut().unwrap().set_version(1);
    let reply = ask(&message);
    // 16 is BADVERS here and BADSIG elsewhere.
    assert_eq!((u16::from(reply.metadata.response_code), reply.answers.len()), (16, 0));
    assert_eq!(reply.edns.unwrap().version(), 0);
    // The encoder writes one OPT record at the end; there it is again.
    message.edns.as_mut().unwrap().set_version(0);
    let mut bytes = message.to_vec().unwrap();
    bytes.extend_from_within(bytes.len() - 11..);
    bytes[11] = 2;
    let reply = answer(&bytes, &Snapshot::default(), Transport::Udp).unwrap();
    assert_eq!(Message::from_vec(&reply).unwrap().metadata.response_code, ResponseCode::FormErr);
}

#[test]
fn udp_is_cut_and_tcp_is_whole() {
    let key = rsa_4096();
    let huge = "x".repeat(4096);
    for (text, payload, cut) in [
        (&key, None, true),
        (&key, Some(0), true),
        (&key, Some(600), true),
        (&key, Some(1232), false),
        (&huge, Some(65_535), true),
    ] {
        let snapshot = snapshot(&[(KEY, text)]);
        let mut message = query(at(KEY), RecordType::TXT);
        if let Some(payload) = payload {
            let mut bytes = Edns::new();
            bytes.set_max_payload(payload);
            message.set_edns(bytes);
        }
        let reply = ask_in(&snapshot, &message, Transport::Udp);
        assert_eq!((reply.metadata.truncation, reply.answers.is_empty()), (cut, cut), "{payload:?}");
        assert_eq!((reply.queries.len(), reply.edns.is_some()), (1, payload.is_some()));
        let whole = ask_in(&snapshot, &message, Transport::Tcp);
        assert!(!whole.metadata.truncation);
        assert_eq!(strings(&whole).concat(), text.as_bytes());
    }
}

#[test]
fn cookies_are_given_and_known_again() {
    let client = [1, 2, 3, 4, 5, 6, 7, 8];
    let with = |cookie: &[u8]| {
        let mut message = query(at(KEY), RecordType::TXT);
        let mut edns = Edns::new();
        edns.options_mut().insert(hickory_proto::rr::rdata::opt::EdnsOption::Unknown(10, cookie.to_vec()));
        message.set_edns(edns);
        message.to_vec().unwrap()
    };
    let snapshot = snapshot(&[(KEY, "x")]);
    let (reply, told) = answer_told(&with(&client), &snapshot, Transport::Udp).unwrap();
    assert!(!told.proven);
    // The option is the last of the OPT, which is the last record.
    let cookie = reply[reply.len() - 24..].to_vec();
    assert_eq!(cookie[..8], client);
    let (again, told) = answer_told(&with(&cookie), &snapshot, Transport::Udp).unwrap();
    assert!(told.proven);
    assert_eq!(again, reply);
    let mut forged = cookie;
    forged[20] ^= 1;
    let (fresh, told) = answer_told(&with(&forged), &snapshot, Transport::Udp).unwrap();
    assert!(!told.proven);
    assert_eq!(fresh, reply);
}

#[test]
fn a_limited_answer_is_cut_and_keeps_its_edns() {
    let snapshot = snapshot(&[(KEY, &rsa_4096())]);
    for (name, kind) in [(KEY, RecordType::TXT), (KEY, RecordType::A), ("elsewhere.example", RecordType::TXT)]
    {
        let mut message = query(at(name), kind);
        message.set_edns(Edns::new());
        let (mut bytes, mut told) =
            answer_told(&message.to_vec().unwrap(), &snapshot, Transport::Udp).unwrap();
        cut(&mut bytes, &mut told);
        let reply = Message::from_vec(&bytes).unwrap();
        assert!(reply.metadata.truncation && told.truncated);
        assert!(reply.answers.is_empty() && reply.authorities.is_empty());
        assert_eq!((reply.queries.len(), reply.edns.is_some()), (1, true));
        assert!(bytes.len() <= message.to_vec().unwrap().len(), "no longer than the question");
    }
}

#[test]
fn a_zone_from_a_file_denies_no_name() {
    let mut unsure = snapshot(&[(KEY, "x")]);
    unsure.unsure = true;
    let ask = |name: &str, kind| ask_in(&unsure, &query(at(name), kind), Transport::Udp);
    assert_eq!(ask(KEY, RecordType::TXT).answers.len(), 1);
    assert_negative(&ask(KEY, RecordType::A), ResponseCode::NoError, APEX);
    let missing = ask(&format!("x.{APEX}"), RecordType::TXT);
    assert_eq!(missing.metadata.response_code, ResponseCode::ServFail);
    assert!(missing.authorities.is_empty() && !missing.metadata.authoritative);
}

#[test]
fn a_usual_key_fits_in_512_bytes() {
    let usual = format!("v=DKIM1; k=rsa; p={}", "A".repeat(392));
    let snapshot = snapshot(&[(KEY, &usual)]);
    let bytes = query(at(KEY), RecordType::TXT).to_vec().unwrap();
    let reply = answer(&bytes, &snapshot, Transport::Udp).unwrap();
    assert_eq!(reply.len(), 12 + 61 + 12 + 412);
    assert!(!Message::from_vec(&reply).unwrap().metadata.truncation);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600), tcp in any::<bool>()) {
        check_any(&bytes, tcp)?;
    }

    #[test]
    fn no_damaged_query_makes_it_panic(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        tail in proptest::collection::vec(any::<u8>(), 0..40),
        edns in any::<bool>(),
        tcp in any::<bool>(),
    ) {
        let mut message = query(at(KEY), RecordType::TXT);
        if edns {
            message.set_edns(Edns::new());
        }
        let mut bytes = message.to_vec().unwrap();
        bytes.extend(tail);
        for (index, byte) in damage {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        check_any(&bytes, tcp)?;
    }

    #[test]
    fn a_name_that_was_set_is_answered_whatever_its_case(
        labels in proptest::collection::vec("[a-z0-9_]([a-z0-9_-]{0,20}[a-z0-9])?", 1..4),
        text in "[ -~]{1,900}",
        upper in proptest::collection::vec(any::<bool>(), 300),
    ) {
        let name = format!("{}.{APEX}", labels.join("."));
        let snapshot = snapshot(&[(&name, &text)]);
        let fold = |(c, up): (char, &bool)| if *up { c.to_ascii_uppercase() } else { c };
        let mixed: String = name.chars().zip(&upper).map(fold).collect();
        let reply = ask_in(&snapshot, &query(at(&mixed), RecordType::TXT), Transport::Tcp);
        prop_assert!(reply.answers[0].name.eq_case(&at(&mixed)));
        let expected: Vec<&[u8]> = text.as_bytes().chunks(255).collect();
        prop_assert_eq!(strings(&reply), expected);
    }

    #[test]
    fn udp_never_exceeds_what_is_advertised(
        length in 1..4096usize,
        payload in proptest::option::of(any::<u16>()),
        label in "[a-z]{1,63}",
        kind in prop::sample::select(vec![RecordType::TXT, RecordType::ANY, RecordType::SOA]),
    ) {
        let name = format!("{label}.{APEX}");
        let snapshot = snapshot(&[(&name, &"x".repeat(length))]);
        let mut message = query(at(&name), kind);
        if let Some(payload) = payload {
            let mut edns = Edns::new();
            edns.set_max_payload(payload);
            message.set_edns(edns);
        }
        let reply = answer(&message.to_vec().unwrap(), &snapshot, Transport::Udp).unwrap();
        let room = payload.map_or(512, |payload| payload.clamp(512, 1232));
        prop_assert!(reply.len() <= usize::from(room), "{} > {room}", reply.len());
        let reply = Message::from_vec(&reply).unwrap();
        prop_assert_eq!(reply.metadata.truncation, reply.answers.is_empty() && reply.authorities.is_empty());
    }
}

/// Every answer can be read, has the id of what it answers, and is a response.
fn check_any(bytes: &[u8], tcp: bool) -> Result<(), TestCaseError> {
    let transport = if tcp { Transport::Tcp } else { Transport::Udp };
    let reply = answer(bytes, &snapshot(&[(KEY, &rsa_4096())]), transport);
    let deserves = bytes.len() >= 12 && bytes[2] & 0x80 == 0;
    prop_assert_eq!(reply.is_some(), deserves);
    if let Some(reply) = reply {
        let read = Message::from_vec(&reply);
        prop_assert!(read.is_ok(), "{read:?}");
        prop_assert_eq!(&reply[..2], &bytes[..2]);
        prop_assert_eq!(reply[2] & 0x80, 0x80);
    }
    Ok(())
}
