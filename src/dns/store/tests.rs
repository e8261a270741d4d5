use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::dns::query::{HEADER, Reader};
use crate::dns::set::{Part, Set};
use crate::dns::snapshot::Found;
use crate::dns::testing::{APEX, KEY, set};
use crate::model::name::DnsName;

fn name(text: &str) -> WireName {
    WireName::from(&DnsName::new(text).unwrap())
}

fn found<T>(snapshot: &Snapshot, at: &str, look: impl FnOnce(Found<'_>) -> T) -> T {
    let packet = [&[0; HEADER], &*name(at)].concat();
    let name = Reader::at(&packet, HEADER).name().unwrap();
    look(snapshot.find(&name, snapshot.hash(name.wire())))
}

fn kind(snapshot: &Snapshot, at: &str) -> &'static str {
    found(snapshot, at, |found| match found {
        Found::Elsewhere => "elsewhere",
        Found::Apex(_) => "apex",
        Found::Text(_) => "text",
        Found::Between(_) => "between",
        Found::Nothing(_) => "nothing",
    })
}

fn text(snapshot: &Snapshot, at: &str) -> String {
    found(snapshot, at, |found| match found {
        Found::Text(text) => text.text(),
        other => panic!("{other:?}"),
    })
}

#[test]
fn every_name_has_its_place() {
    let sets = [set("contoso.com", APEX, &[(KEY, "v=DKIM1; p="), (&format!("a.b.c.{APEX}"), "x")])];
    let (snapshot, complaints) = Snapshot::build(&sets, 1);
    assert_eq!((complaints.as_slice(), snapshot.size()), ([].as_slice(), (1, 2)));
    for (at, expected) in [
        (APEX, "apex"),
        (KEY, "text"),
        (&format!("a.b.c.{APEX}"), "text"),
        (&format!("b.c.{APEX}"), "between"),
        (&format!("c.{APEX}"), "between"),
        (&format!("x.a.b.c.{APEX}"), "nothing"),
        (&format!("x.c.{APEX}"), "nothing"),
        (&format!("*.{APEX}"), "nothing"),
        ("onmail.example", "elsewhere"),
        ("example", "elsewhere"),
        (&format!("x{APEX}"), "elsewhere"),
    ] {
        assert_eq!(kind(&snapshot, at), expected, "{at}");
    }
}

#[test]
fn a_zone_below_a_zone_makes_the_names_between_exist() {
    let sets = [
        set("a.com", "onmail.example", &[("k._domainkey.onmail.example", "x")]),
        set("b.com", "_domainkey.b.c.onmail.example", &[("k._domainkey.b.c.onmail.example", "y")]),
    ];
    let (snapshot, complaints) = Snapshot::build(&sets, 1);
    assert_eq!(complaints, [""; 0]);
    for (at, expected) in [
        ("c.onmail.example", "between"),
        ("b.c.onmail.example", "between"),
        ("_domainkey.b.c.onmail.example", "apex"),
        ("_domainkey.onmail.example", "between"),
        ("x.b.c.onmail.example", "nothing"),
        ("example", "elsewhere"),
    ] {
        assert_eq!(kind(&snapshot, at), expected, "{at}");
    }
    let above = snapshot.zone_above(&name("_domainkey.b.c.onmail.example")).unwrap();
    assert_eq!(above.name, name("onmail.example"));
    assert!(snapshot.zone_above(&name("onmail.example")).is_none());
}

#[test]
fn what_cannot_be_served_is_said_and_hurts_nothing_else() {
    let at = |label: &str| format!("{label}.{APEX}");
    let (long, most) = ("x".repeat(4097), "x".repeat(4096));
    let mut bad = set(
        "bad.com",
        APEX,
        &[
            (&at("empty"), ""),
            (&at("long"), &long),
            (&at("most"), &most),
            ("two..dots", "x"),
            ("else.where", "x"),
            (APEX, "x"),
            (&at("twice"), "first"),
            (&at("twice"), "second"),
            (&at("good"), "good"),
        ],
    );
    bad.zones[0].servers.push("no name".to_owned());
    let (snapshot, complaints) = Snapshot::build([&bad, &set("fine.com", APEX, &[(KEY, "fine")])], 1);
    assert!(complaints.iter().all(|c| c.starts_with("bad.com: ")), "{complaints:#?}");
    insta::assert_snapshot!(complaints.join("\n"));
    for (at, expected) in [
        (at("empty"), "nothing"),
        (at("long"), "nothing"),
        (at("most"), "text"),
        (at("good"), "text"),
        (KEY.to_owned(), "text"),
    ] {
        assert_eq!(kind(&snapshot, &at), expected, "{at}");
    }
    assert_eq!(text(&snapshot, &at("twice")), "first");
    assert_eq!(snapshot.zone(&name(APEX)).unwrap().name_servers.len(), 1);
}

#[test]
fn the_older_set_keeps_a_name_and_the_shortest_negative_ttl_counts() {
    let (mut old, mut new) = (set("old.com", APEX, &[(KEY, "old")]), set("new.com", APEX, &[(KEY, "new")]));
    new.created = old.created + jiff::SignedDuration::from_secs(1);
    (old.zones[0].negative, new.zones[0].negative) = (60, 300);
    for order in [[&old, &new], [&new, &old]] {
        let (snapshot, complaints) = Snapshot::build(order, 1);
        assert_eq!(complaints.len(), 1);
        assert!(complaints[0].starts_with("new.com: "), "{complaints:?}");
        assert_eq!(text(&snapshot, KEY), "old");
        assert_eq!(snapshot.zone(&name(APEX)).unwrap().negative_ttl, 60);
    }
}

#[test]
fn records_of_a_move_are_served_at_both_places() {
    let mut moved = set("a.com", APEX, &[(KEY, "new")]);
    let former = set("a.com", "_domainkey.old.example", &[("s1-a._domainkey.old.example", "old")]);
    moved.zones.extend(former.zones);
    moved.zones.push(Part {
        texts: vec![(format!("old.{APEX}"), 60, "older".to_owned())],
        ..moved.zones[0].clone()
    });
    let (snapshot, complaints) = Snapshot::build([&moved], 1);
    assert_eq!((complaints, snapshot.size()), (vec![], (2, 3)));
    assert_eq!(text(&snapshot, "s1-a._domainkey.old.example"), "old");
    assert_eq!(text(&snapshot, &format!("old.{APEX}")), "older");
}

#[test]
fn only_what_changed_gets_a_new_serial() {
    let mut store = Store::default();
    let other = set("b.com", "other.example", &[("k.other.example", "y")]);
    store.apply(&set("a.com", APEX, &[(KEY, "x")]));
    store.apply(&other);
    assert_eq!(store.commit(10).len(), 2);
    let serial = |store: &Store, zone: &str| store.snapshot().zone(&name(zone)).unwrap().serial;
    store.apply(&other);
    assert_eq!(store.commit(11), []);
    store.apply(&set("a.com", APEX, &[(KEY, "z")]));
    assert_eq!(store.commit(12), [name(APEX)]);
    assert_eq!((serial(&store, APEX), serial(&store, "other.example")), (12, 10));
    // Whatever the version says, a changed zone has a greater serial.
    store.apply(&set("a.com", APEX, &[(KEY, "y")]));
    store.commit(3);
    assert_eq!(serial(&store, APEX), 13);
    // There and back again is no change.
    store.apply(&set("a.com", APEX, &[]));
    store.apply(&set("a.com", APEX, &[(KEY, "y")]));
    assert_eq!(store.commit(20), []);
    store.remove("b.com");
    store.commit(21);
    assert!(store.snapshot().zone(&name("other.example")).is_none());
}

#[test]
fn a_zone_that_goes_and_comes_back_within_a_change_goes_on_from_its_serial() {
    let mut store = Store::default();
    let held = set("a.com", APEX, &[(KEY, "x")]);
    store.apply(&held);
    store.commit(10);
    store.remove("a.com");
    store.apply(&held);
    assert_eq!(store.commit(11), []);
    assert_eq!(store.snapshot().zone(&name(APEX)).unwrap().serial, 10);
    store.remove("a.com");
    store.apply(&set("a.com", APEX, &[(KEY, "y")]));
    assert_eq!(store.commit(12), [name(APEX)]);
    let zone = Arc::clone(store.snapshot().zone(&name(APEX)).unwrap());
    assert_eq!(zone.serial, 12);
    assert_eq!(zone.history.since(10).unwrap().count(), 1);
}

/// Names and zones that meet each other in every way.
fn any_set() -> impl Strategy<Value = Set> {
    let zones = prop::sample::select(vec!["a.x", "b.a.x", "c.b.a.x", "k.c.b.a.x", "y"]);
    let names =
        prop::sample::select(vec!["k.a.x", "k.b.a.x", "k.c.b.a.x", "l.k.c.b.a.x", "b.a.x", "k.y", "c.b.a.x"]);
    let texts = prop::collection::vec((names, 1..4u32, "[a-c]"), 0..4);
    let texts = texts.prop_map(|all| {
        all.into_iter().map(|(name, ttl, text)| (name.to_owned(), ttl, text)).collect::<Vec<_>>()
    });
    let servers = prop::sample::subsequence(vec!["ns1.z".to_owned(), "ns2.z".to_owned()], 0..=2);
    let part = (zones, servers, 1..3u32, texts).prop_map(|(apex, servers, negative, texts)| Part {
        apex: apex.to_owned(),
        servers,
        negative,
        texts,
    });
    let parts = prop::collection::vec(part, 1..3);
    ("[a-e]", 0..3i64, parts).prop_map(|(name, created, zones)| {
        let created = jiff::Timestamp::from_second(created).unwrap();
        Set { name, created, zones }
    })
}

fn facts(snapshot: &Snapshot) -> BTreeSet<String> {
    let fact = |node: &Node| match node {
        Node::Text(text) => format!("{} {} {} of {}", text.name, text.ttl(), text.text(), text.origin.set),
        Node::Zone(z) => format!("{} zone {:?} {}", z.name, z.name_servers, z.negative_ttl),
        Node::Between(name) => format!("{name} between"),
    };
    snapshot.nodes().map(fact).collect()
}

/// The records of a zone as a transfer has them, by zone.
fn pieces(snapshot: &Snapshot, zone: &WireName) -> BTreeSet<String> {
    let all = super::super::history::pieces(snapshot, zone);
    all.iter().map(piece).collect()
}

fn piece(piece: &Piece) -> String {
    match piece {
        Piece::Text(text) => format!("{} {} {}", text.name, text.ttl(), text.text()),
        Piece::Ns { owner, server } => format!("{owner} NS {server}"),
    }
}

proptest! {
    #[test]
    fn change_by_change_is_as_good_as_at_once(
        steps in prop::collection::vec((any_set(), prop::bool::weighted(0.2), any::<bool>()), 1..20),
    ) {
        let mut store = Store::default();
        let mut now: std::collections::BTreeMap<String, Set> = std::collections::BTreeMap::new();
        let mut version = 1;
        let mut older: Vec<Snapshot> = Vec::new();
        for (set, gone, commit) in steps {
            if gone {
                store.remove(&set.name);
                now.remove(&set.name);
            } else {
                store.apply(&set);
                now.insert(set.name.clone(), set);
            }
            if !commit {
                continue;
            }
            version += 1;
            store.commit(version);
            let (fresh, _) = Snapshot::build(now.values(), version);
            prop_assert_eq!(facts(store.snapshot()), facts(&fresh));
            prop_assert_eq!(store.snapshot().size(), fresh.size());
            // What the history of a zone says leads from each older state that it knows to this one.
            for zone in store.snapshot().zones() {
                for old in &older {
                    let Some(before) = old.zone(&zone.name) else { continue };
                    let mut state = pieces(old, &zone.name);
                    if before.serial == zone.serial {
                        prop_assert_eq!(state, pieces(store.snapshot(), &zone.name));
                        continue;
                    }
                    let Some(changes) = zone.history.since(before.serial) else { continue };
                    let mut serial = before.serial;
                    for change in changes {
                        prop_assert_eq!(change.from, serial);
                        serial = change.to;
                        for gone in &change.removed {
                            prop_assert!(state.remove(&piece(gone)));
                        }
                        for new in &change.added {
                            prop_assert!(state.insert(piece(new)));
                        }
                    }
                    prop_assert_eq!(serial, zone.serial);
                    prop_assert_eq!(state, pieces(store.snapshot(), &zone.name));
                }
            }
            older.push(store.snapshot().clone());
        }
        for name in ["a", "b", "c", "d", "e"] {
            store.remove(name);
        }
        store.commit(version + 1);
        prop_assert!(facts(store.snapshot()).is_empty());
        prop_assert!(store.below.is_empty() && store.waiting.is_empty() && store.depths.is_empty());
    }
}
