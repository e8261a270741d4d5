use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::api::{
    DkimRecordSetSpec, DkimRecordSetStatus, FormerPlacement, PlaceStatus, PublishState, PublishedRecord,
    Reason, RecordState,
};

const RECORD: &str = "selector1-contoso-com._domainkey.contoso.onmail.example";

fn name() -> DnsName {
    DnsName::new(RECORD).unwrap()
}

fn mark(owner: &str, place: &str) -> Mark {
    Mark { owner: owner.to_owned(), place: place.to_owned() }
}

fn seen(texts: &[&str], marks: &[&str]) -> Seen {
    let all = |list: &[&str]| list.iter().map(|text| (cut(text), 300)).collect();
    Seen { texts: all(texts), cname: None, marks: all(marks) }
}

fn text_of((data, ttl): (Data, u32)) -> Option<(TXT, u32)> {
    match data {
        Data::Text(text) => Some((text, ttl)),
        Data::Cname(_) => None,
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

#[test]
fn whose_a_name_is() {
    let ours = mark("us", "p1");
    let own = ours.to_string();
    let moved = mark("us", "p0").to_string();
    let theirs = mark("them", "p1").to_string();
    let cases: Vec<(&str, Seen)> = vec![
        ("free", seen(&[], &[])),
        ("as it should be", seen(&["key"], &[&own])),
        ("ours with an old key", seen(&["old"], &[&own])),
        ("ours from a former place", seen(&["key"], &[&moved])),
        ("our key without a mark", seen(&["key"], &[])),
        ("our mark without a key", seen(&[], &[&own])),
        ("another TTL", Seen { texts: vec![(cut("key"), 60)], ..seen(&[], &[&own]) }),
        ("another text", seen(&["v=spf1 -all"], &[])),
        ("our key, marked by somebody else", seen(&["key"], &[&theirs])),
        ("free, marked by somebody else", seen(&[], &[&theirs])),
        ("something else at the mark's name", seen(&["key"], &["hello"])),
        ("two texts", seen(&["key", "other"], &[&own])),
        (
            "a CNAME",
            Seen { cname: Some((DnsName::new("elsewhere.example").unwrap(), 60)), ..Seen::default() },
        ),
    ];
    let mut said = String::new();
    for (what, seen) in cases {
        let show = |step: Step| match step {
            Step::Nothing => "nothing".to_owned(),
            Step::Conflict(words) => format!("conflict: {words}"),
            Step::Change(change) => {
                let record = change.record.and_then(text_of).map(|(text, _)| joined(&text));
                let mark = change.mark.as_ref().map(|(text, _)| joined(text));
                format!("change to {record:?}, mark {mark:?}")
            }
        };
        said.push_str(&format!("## {what}\npublish: {}\n", show(publish(&name(), &seen, "key", 300, &ours))));
        said.push_str(&format!("withdraw: {}\n\n", show(withdraw(&name(), &seen, &ours))));
    }
    insta::assert_snapshot!(said);
}

#[test]
fn a_former_place_in_the_same_zone_leaves_to_the_new_one_what_that_has_marked() {
    let (former, present) = (mark("us", "p0"), mark("us", "p1"));
    let taken = seen(&["old"], &[&present.to_string()]);
    assert_eq!(keep(&name(), &taken, "key", 300, &former), Step::Nothing);
    for still in [seen(&["old"], &[&former.to_string()]), seen(&["key"], &[]), seen(&[], &[])] {
        let step = keep(&name(), &still, "key", 300, &former);
        assert_eq!(step, publish(&name(), &still, "key", 300, &former));
        assert!(matches!(step, Step::Change(_)), "{step:?}");
    }
    let theirs = seen(&["key"], &[&mark("them", "p1").to_string()]);
    assert!(matches!(keep(&name(), &theirs, "key", 300, &former), Step::Conflict(_)));
}

#[test]
fn how_a_text_is_cut_does_not_matter() {
    let halves = TXT::from_bytes(vec![b"ke".as_slice(), b"y"]);
    let seen = Seen { texts: vec![(halves, 300)], ..seen(&[], &[&mark("us", "p1").to_string()]) };
    assert_eq!(publish(&name(), &seen, "key", 300, &mark("us", "p1")), Step::Nothing);
}

fn outlet(server: &str) -> ZoneSpec {
    serde_json::from_value(json!({
        "apex": "onmail.example", "negativeTtl": 60,
        "outlet": { "method": "RFC2136", "rfc2136": {
            "server": server, "tsig": { "keyName": "k", "secretRef": { "name": "s" } } } },
    }))
    .unwrap()
}

fn objects(apex: &str, namespace: Option<&str>) -> ZoneSpec {
    let settings = namespace.map_or(json!({}), |namespace| json!({ "namespace": namespace }));
    serde_json::from_value(json!({
        "apex": apex, "negativeTtl": 60, "outlet": { "method": "DNSEndpoint", "dnsEndpoint": settings },
    }))
    .unwrap()
}

fn embedded() -> ZoneSpec {
    ZoneSpec { outlet: None, ..outlet("a") }
}

fn record(value: &str, keep_until: Option<i64>) -> PublishedRecord {
    PublishedRecord {
        selector: "selector1".into(),
        name: RECORD.into(),
        ttl: 300,
        value: value.into(),
        serial: 1,
        signed_since: None,
        keep_until: keep_until.map(|second| Time(at(second))),
    }
}

fn spec(zone: ZoneSpec, claimed: bool, records: Vec<PublishedRecord>) -> DkimRecordSetSpec {
    let claim = json!({ "namespace": "n", "name": "d", "uid": "u" });
    DkimRecordSetSpec {
        claim_ref: claimed.then(|| serde_json::from_value(claim).unwrap()),
        provider: "default".into(),
        guid: "contoso-com".into(),
        initial_domain: None,
        zone,
        drain_seconds: 60,
        last_serial: 0,
        remembered_until: None,
        records,
        former: Vec::new(),
        cnames: None,
        orphaned: false,
    }
}

fn known(zone: ZoneSpec, withdraw_at: Option<i64>) -> PlaceStatus {
    PlaceStatus {
        id: place_id(&zone),
        zone,
        cnames: false,
        leaving: withdraw_at.is_some(),
        withdraw_at: withdraw_at.map(|second| Time(at(second))),
        records: vec![RecordState {
            name: RECORD.into(),
            state: PublishState::Published,
            message: String::new(),
        }],
    }
}

fn planned(spec: &DkimRecordSetSpec, places: Vec<PlaceStatus>, deleted: Option<i64>, now: i64) -> Plan {
    let status = DkimRecordSetStatus { observed_generation: None, places };
    plan(&Book { spec, status: &status, deleted: deleted.map(at), now: at(now) })
}

fn places(plan: Plan) -> Vec<Place> {
    match plan {
        Plan::Places(places) => places,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_the_embedded_server_serves_is_no_business_of_publishers() {
    let set = spec(embedded(), true, vec![record("key", None)]);
    assert_eq!(planned(&set, vec![], None, 0), Plan::Embedded);
    assert_eq!(planned(&set, vec![known(embedded(), None)], None, 0), Plan::Embedded);
}

#[test]
fn a_record_that_left_the_set_is_withdrawn() {
    let set = spec(outlet("a"), true, vec![]);
    let found = places(planned(&set, vec![known(outlet("a"), None)], None, 0));
    assert_eq!((found.len(), found[0].wanted.len()), (1, 0));
    assert!(found[0].unwanted.contains(&name()));
}

#[test]
fn a_former_place_keeps_the_records_until_its_time_is_over() {
    let set = spec(outlet("b"), true, vec![record("key", None)]);
    for (withdraw_at, kept) in [(None, true), (Some(10), true), (Some(5), false)] {
        let mut former = known(outlet("a"), withdraw_at);
        former.leaving = true;
        let found = places(planned(&set, vec![former], None, 5));
        let [present, former] = found.as_slice() else { panic!("{found:?}") };
        assert!(!present.leaving && present.wanted.contains_key(&name()));
        assert!(former.leaving);
        assert_eq!(former.wanted.contains_key(&name()), kept, "{withdraw_at:?}");
        assert_eq!(former.unwanted.contains(&name()), !kept, "{withdraw_at:?}");
    }
    // From the embedded server there is nothing to withdraw: it is forgotten, which makes it stop.
    let found = places(planned(&set, vec![known(embedded(), Some(5))], None, 5));
    assert_eq!(found.len(), 1);
}

/// Records that are at a server would be sent to another one, where nobody asked for them.
#[test]
fn a_place_that_was_only_claimed_is_not_left() {
    let published = spec(outlet("a"), true, vec![record("key", None)]);
    let DkimRecordSetSpec { provider, guid, initial_domain, zone, records, .. } = published.clone();
    let former = vec![FormerPlacement { provider, guid, initial_domain, zone, records }];
    let claimed = DkimRecordSetSpec {
        guid: "shared".into(),
        zone: outlet("b"),
        records: vec![],
        former,
        ..published.clone()
    };
    let found = places(planned(&claimed, vec![known(outlet("a"), None)], None, 0));
    let [only] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!(only.id, place_id(&outlet("a")));
    // Nor where it was written down, as earlier versions did.
    let noted = PlaceStatus { records: vec![], ..known(outlet("b"), None) };
    let found = places(planned(&published, vec![known(outlet("a"), None), noted], None, 0));
    assert_eq!(found.len(), 1, "{found:?}");
    // A new set is held by publishers from its beginning.
    assert_eq!(planned(&spec(outlet("a"), true, vec![]), vec![], None, 0), Plan::Places(vec![]));
}

#[test]
fn a_set_that_is_deleted_under_a_living_claim_leaves_its_records() {
    let set = spec(outlet("a"), true, vec![record("key", None)]);
    let found = places(planned(&set, vec![known(outlet("a"), None)], Some(0), 29));
    assert!(found[0].wanted.contains_key(&name()), "the claim may yet be let go");
    assert_eq!(planned(&set, vec![known(outlet("a"), None)], Some(0), 30), Plan::LetGo);
}

#[test]
fn a_set_that_is_deleted_while_it_drains_is_withdrawn_when_it_has_drained() {
    let set = spec(outlet("a"), false, vec![record("key", Some(10))]);
    for (now, kept) in [(9, true), (10, false)] {
        let found = places(planned(&set, vec![known(outlet("a"), None)], Some(0), now));
        assert_eq!(found[0].wanted.contains_key(&name()), kept, "{now}");
    }
}

#[test]
fn moved_means_that_every_server_answers_from_the_new_place() {
    let wanted = Wanted { text: "key".into(), ttl: 300 };
    let place = |zone: ZoneSpec, leaving| Place {
        id: place_id(&zone),
        zone,
        kind: Kind::Keys,
        leaving,
        wanted: BTreeMap::from([(name(), wanted.clone())]),
        unwanted: BTreeSet::new(),
    };
    let answer = |texts: Option<&str>, marks: Option<&Place>| Answer {
        server: "ns1".into(),
        texts: Some(texts.into_iter().map(str::to_owned).collect()),
        marks: Some(marks.into_iter().map(|p| mark("us", &p.id).to_string()).collect()),
        negative_ttl: None,
    };
    let (a, b, own) = (place(outlet("a"), true), place(outlet("b"), false), place(embedded(), false));
    let judge = |former: &Place, present: &Place, answers: &[Answer]| {
        has_moved(former, present, &name(), &wanted, answers)
    };
    assert_eq!(judge(&a, &b, &[answer(Some("key"), Some(&b))]), Ok(()));
    assert!(judge(&a, &b, &[answer(Some("key"), Some(&b)), answer(Some("key"), Some(&a))]).is_err());
    assert!(judge(&a, &b, &[answer(Some("old"), Some(&b))]).is_err());
    assert!(judge(&a, &b, &[Answer { server: "ns1".into(), ..Answer::default() }]).is_err());
    assert!(judge(&a, &b, &[]).is_err());
    // To and from the embedded server, which has no marks.
    assert!(judge(&own, &b, &[answer(Some("key"), None)]).is_err());
    assert_eq!(judge(&own, &b, &[answer(Some("key"), Some(&b))]), Ok(()));
    assert!(judge(&a, &own, &[answer(Some("key"), Some(&a))]).is_err());
    assert_eq!(judge(&a, &own, &[answer(Some("key"), None)]), Ok(()));
    // Two objects in one namespace may be for two of external-dns, told apart by labels or domains: the former one's mark alone says
    // that it is still the one whose records are in DNS. One for both shows both marks.
    let (one, two) = (place(objects("onmail.example", None), true), place(objects("example", None), false));
    let words = judge(&one, &two, &[answer(Some("key"), Some(&one))]).unwrap_err();
    assert!(words.contains("selects the new object"), "{words}");
    assert_eq!(judge(&one, &two, &[answer(Some("key"), Some(&two))]), Ok(()));
    let mut both = answer(Some("key"), Some(&one));
    both.marks.iter_mut().for_each(|marks| marks.push(mark("us", &two.id).to_string()));
    assert_eq!(judge(&one, &two, &[both.clone()]), Ok(()));
    assert!(judge(&one, &two, &[both, answer(Some("key"), Some(&one))]).is_err());
    let other = place(objects("example", Some("elsewhere")), false);
    assert!(judge(&one, &other, &[answer(Some("key"), Some(&one))]).is_err());
    assert_eq!(judge(&one, &other, &[answer(Some("key"), Some(&other))]), Ok(()));
}

const ALIAS: &str = "selector1._domainkey.contoso.com";

fn alias() -> DnsName {
    DnsName::new(ALIAS).unwrap()
}

#[test]
fn whose_a_cname_is() {
    let (own, theirs) = (mark("us", "p1").to_string(), mark("them", "p1").to_string());
    let linked = |target: &str, ttl, marks: &[&str]| Seen {
        cname: Some((DnsName::new(target).unwrap(), ttl)),
        ..seen(&[], marks)
    };
    let plain = seen;
    let mut said = String::new();
    for (what, seen) in [
        ("free", plain(&[], &[])),
        ("as it should be", linked(RECORD, 3600, &[&own])),
        ("ours, to an old target", linked("old.onmail.example", 3600, &[&own])),
        ("the right target without a mark", linked(RECORD, 60, &[])),
        ("another target", linked("elsewhere.example", 3600, &[])),
        ("marked by somebody else", linked(RECORD, 3600, &[&theirs])),
        ("a TXT", plain(&["v=DKIM1; p="], &[])),
        ("a TXT beside our mark", plain(&["v=DKIM1; p="], &[&own])),
    ] {
        let show = |step: Step| match step {
            Step::Nothing => "nothing".to_owned(),
            Step::Conflict(words) => format!("conflict: {words}"),
            Step::Change(change) => match change.record {
                Some((Data::Cname(target), ttl)) => format!("change to {target}, TTL {ttl}"),
                Some((Data::Text(_), _)) => "a text".to_owned(),
                None => format!("away with {:?}", change.before.cname.map(|(target, _)| target.to_string())),
            },
        };
        let published = publish_cname(&alias(), &seen, &name(), 3600, &mark("us", "p1"));
        let withdrawn = withdraw_cname(&alias(), &seen, &mark("us", "p1"));
        said.push_str(&format!("{what}\n  publish: {}\n  withdraw: {}\n", show(published), show(withdrawn)));
    }
    insta::assert_snapshot!(said);
}

fn hosting() -> crate::api::CnamePlacement {
    let record = |name: &str, target: &str| crate::api::PublishedCname {
        name: name.into(),
        ttl: 3600,
        target: target.into(),
    };
    let records =
        vec![record(ALIAS, RECORD), record("selector2._domainkey.contoso.com", "never.onmail.example")];
    let zone = ZoneSpec { apex: "contoso.com".into(), ..outlet("a") };
    crate::api::CnamePlacement { zone, records }
}

#[test]
fn a_cname_stays_as_long_as_the_key_behind_it() {
    let mut set = spec(embedded(), true, vec![record("key", Some(10))]);
    set.cnames = Some(hosting());
    let found = places(planned(&set, vec![], None, 5));
    let [keys, cnames] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((keys.kind, cnames.kind, cnames.wanted.len()), (Kind::Keys, Kind::Cnames, 2));
    let mut there = known(hosting().zone, None);
    (there.id, there.cnames) = (cnames_id(&hosting().zone), true);
    there.records[0].name = ALIAS.into();
    // The DkimDomain is gone: the CNAME to the key that drains stays, the other one goes.
    set.claim_ref = None;
    let found = places(planned(&set, vec![there.clone()], None, 5));
    assert_eq!(found[1].wanted.keys().collect::<Vec<_>>(), [&alias()]);
    for (deleted, now, kept) in [(None, 5, true), (Some(5), 9, true), (Some(5), 10, false)] {
        let found = places(planned(&set, vec![there.clone()], deleted, now));
        let cnames = found.iter().find(|place| place.kind == Kind::Cnames).unwrap();
        assert_eq!(cnames.wanted.contains_key(&alias()), kept, "{now}");
        assert_eq!(cnames.unwanted.contains(&alias()), !kept, "{now}");
    }
    // Nobody asks us for it any more: it is the tenant's.
    set.cnames = None;
    assert_eq!(planned(&set, vec![there], None, 5), Plan::Embedded);
}

#[test]
fn the_gravest_is_told() {
    let place = |states: &[(PublishState, &str)]| {
        let mut place = known(outlet("a"), None);
        place.records = states
            .iter()
            .map(|(state, message)| RecordState {
                name: RECORD.into(),
                state: *state,
                message: (*message).to_owned(),
            })
            .collect();
        DkimRecordSetStatus { observed_generation: None, places: vec![place] }
    };
    use PublishState::{Conflict, Failed, Pending, Published};
    let reason = |status: &DkimRecordSetStatus| told("p", Some(status)).map(|told| told.reason);
    assert_eq!(told("p", None), None);
    assert_eq!(reason(&place(&[(Published, "")])), None);
    assert_eq!(reason(&place(&[(Published, ""), (Pending, "")])), Some(Reason::RecordsPending));
    assert_eq!(reason(&place(&[(Pending, ""), (Failed, "x")])), Some(Reason::PublishingFailed));
    assert_eq!(reason(&place(&[(Failed, "x"), (Conflict, "y")])), Some(Reason::RecordConflict));
    let all = [place(&[(Published, ""), (Conflict, "a")]), place(&[(Failed, "z"), (Pending, "")])];
    let (counts, gravest) = summary(&all);
    assert_eq!((counts.published, counts.conflict, counts.failed, counts.pending), (1, 1, 1, 1));
    assert_eq!(gravest, Some((Reason::PublishingFailed, "z".to_owned())));
    let failed = told("default", Some(&all[1])).unwrap();
    assert!(!failed.message.contains('z'), "what the server says is for the provider: {}", failed.message);
}

#[test]
fn what_resolvers_remember_for_too_long_is_told() {
    assert_eq!(remembered("onmail.example", 60, 60), None);
    let words = remembered("onmail.example", 3600, 60).unwrap();
    assert!(words.contains("Set negativeTtl to 3600"), "{words}");
}

proptest! {
    #[test]
    fn marks_are_read_back(owner in "[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}", place in "[0-9a-f]{16}") {
        let mark = Mark { owner, place };
        prop_assert!(mark.to_string().len() <= 255);
        prop_assert_eq!(Mark::parse(&mark.to_string()), Some(mark));
    }

    #[test]
    fn nothing_foreign_is_ever_changed(
        texts in prop::collection::vec("[ -~]{0,12}", 0..3),
        marks in prop::collection::vec(prop_oneof![
            Just(mark("us", "p1").to_string()), Just(mark("us", "p0").to_string()),
            Just(mark("them", "p1").to_string()), Just("other".to_owned()),
        ], 0..3),
    ) {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let marks: Vec<&str> = marks.iter().map(String::as_str).collect();
        let seen = seen(&texts, &marks);
        let ours = marks.len() == 1 && marks[0].contains("owner=us");
        let us = mark("us", "p1");
        if let Step::Change(change) = publish(&name(), &seen, "key", 300, &us) {
            prop_assert!(texts.is_empty() || texts == ["key"] || (ours && texts.len() == 1));
            prop_assert!(marks.is_empty() || ours);
            // Done once, it is done.
            let after = Seen {
                texts: change.record.into_iter().filter_map(text_of).collect(),
                cname: None,
                marks: change.mark.into_iter().collect(),
            };
            prop_assert_eq!(publish(&name(), &after, "key", 300, &us), Step::Nothing);
        }
        if let Step::Change(change) = withdraw(&name(), &seen, &us) {
            prop_assert!(ours && marks[0].contains("place=p1"));
            prop_assert!(change.before.texts.len() <= 1);
        }
    }
}
