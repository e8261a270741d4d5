use super::*;
use crate::cli::args::OfflineArgs;
use crate::cli::records::question;
use crate::cli::testing::{bare, blocked, contoso, now, published_as_txt, seen, twice_signed};
use crate::model::key::{Algorithm, PublicKey};
use crate::model::record::KeyRecord;
use crate::model::sighting::{Failure, Outcome, ServerAnswer, ServerRole, SlotSighting};

fn says(server: u8, outcome: Outcome) -> ServerAnswer {
    ServerAnswer {
        name: DnsName::new(format!("ns{server}.example")).ok(),
        address: ([192, 0, 2, server], 53).into(),
        role: ServerRole::Authoritative,
        outcome,
    }
}

/// The TXT of the key that the fixtures show under the fingerprint of `key`.
fn txt(key: &str) -> Outcome {
    let p = data_encoding::BASE64.encode(key.as_bytes());
    let record = KeyRecord::Key(PublicKey { algorithm: Algorithm::Rsa, p });
    Outcome::Txt { texts: vec![record.to_string()], ttl: 60 }
}

fn linked(wanted: &SlotQuestion, target_txt: Vec<ServerAnswer>) -> SlotSighting {
    let there = Outcome::Cname { target: wanted.target.clone(), ttl: 3600 };
    SlotSighting { alias: vec![says(1, there)], target_txt, ..SlotSighting::default() }
}

fn found(plan: &Plan, one: Vec<ServerAnswer>, two: Vec<ServerAnswer>) -> Report {
    let [first, second] = &plan.pairs[0].question.slots.0;
    let slots = PerSlot([linked(first, one), linked(second, two)]);
    plan.compare(&[Observation { at: now(), slots }])
}

#[test]
fn everything_is_there() {
    let report = found(&Plan::of(&contoso()).unwrap(), vec![says(2, txt("a1"))], vec![says(2, txt("b2"))]);
    assert_eq!(report.exit(), Exit::Fine);
    let all = [Output::Table, Output::Json, Output::Yaml].map(|o| render(&report, o).unwrap());
    insta::assert_snapshot!(seen(&all.join("\n")));
}

#[test]
fn every_state_of_a_key_has_its_words() {
    let plan = Plan::of(&contoso()).unwrap();
    let no = Outcome::NxDomain { negative_ttl: 60 };
    let texts = |texts: &[&str]| Outcome::Txt { texts: texts.iter().map(|&t| t.into()).collect(), ttl: 60 };
    let mut words = String::new();
    for (what, answers, exit) in [
        ("missing", vec![says(2, no.clone()), says(3, no.clone())], Exit::Wrong),
        ("another key", vec![says(2, txt("a1"))], Exit::Wrong),
        ("a revoked key", vec![says(2, texts(&["v=DKIM1; k=rsa; p="]))], Exit::Wrong),
        ("no key record", vec![says(2, texts(&["v=spf1 -all"]))], Exit::Wrong),
        ("two records", vec![says(2, texts(&["v=DKIM1; p=QQ==", "v=DKIM1; p=QQ=="]))], Exit::Wrong),
        ("servers disagree", vec![says(2, txt("b2")), says(3, no.clone())], Exit::Wrong),
        ("nobody heard", vec![says(2, Outcome::Failed(Failure::Timeout))], Exit::Unknown),
        ("nobody to ask", vec![], Exit::Unknown),
        ("one silent", vec![says(2, txt("b2")), says(3, Outcome::Failed(Failure::ServFail))], Exit::Fine),
    ] {
        let report = found(&plan, vec![says(2, no.clone())], answers);
        assert_eq!(report.exit(), exit, "{what}");
        words.push_str(&format!(
            "## {what}\n{}\n\n",
            seen(&report.records[1].key.as_ref().unwrap().diagnosis)
        ));
    }
    insta::assert_snapshot!(words);
}

#[test]
fn the_records_decide_as_well() {
    let plan = Plan::of(&contoso()).unwrap();
    let [first, second] = &plan.pairs[0].question.slots.0;
    let mut slots =
        PerSlot([linked(first, vec![says(2, txt("a1"))]), linked(second, vec![says(2, txt("b2"))])]);
    let mut exit = |outcome: Outcome| {
        slots[SlotId::Two].alias = vec![says(1, outcome)];
        plan.compare(&[Observation { at: now(), slots: slots.clone() }]).exit()
    };
    assert_eq!(exit(Outcome::NoData { negative_ttl: 60 }), Exit::Wrong);
    assert_eq!(exit(Outcome::Failed(Failure::Lame)), Exit::Wrong);
    assert_eq!(exit(Outcome::Failed(Failure::ServFail)), Exit::Unknown);
    assert_eq!(exit(Outcome::Cname { target: second.target.clone(), ttl: 60 }), Exit::Fine);
}

#[test]
fn a_key_that_was_never_made_is_not_missed() {
    let plan = Plan::of(&blocked()).unwrap();
    assert_eq!(plan.pairs[0].wanted[SlotId::Two], Wanted::Cname(ExpectedKey::Nothing));
    assert_eq!(found(&plan, vec![says(2, txt("c3"))], vec![]).exit(), Exit::Fine);
}

#[test]
fn without_a_cluster_any_key_will_do() {
    let question = question("contoso.com", "contoso.onmail.example", &OfflineArgs::default(), None).unwrap();
    let plan = Plan::without_cluster(question);
    let no = vec![says(2, Outcome::NoData { negative_ttl: 60 })];
    let good = found(&plan, vec![says(2, txt("a1"))], vec![says(2, txt("b2"))]);
    let bad = found(&plan, vec![says(2, txt("a1"))], no);
    let split = found(&plan, vec![says(2, txt("a1"))], vec![says(2, txt("a1")), says(3, txt("b2"))]);
    assert_eq!([good.exit(), bad.exit(), split.exit()], [Exit::Fine, Exit::Wrong, Exit::Wrong]);
    let words = [good, bad, split].map(|report| seen(&render(&report, Output::Table).unwrap()));
    insta::assert_snapshot!(words.join("\n"));
}

#[test]
fn says_that_there_is_nothing_to_compare_with() {
    let error = Plan::of(&bare("mail", "contoso", "contoso.com")).unwrap_err();
    assert_eq!(error.exit(), Exit::Unknown);
    assert!(error.to_string().contains("has no records to publish yet"), "{error}");
}

#[test]
fn four_records_of_two_signatures_are_checked() {
    let mut object = twice_signed();
    let conditions = &mut object.status.as_mut().unwrap().conditions;
    let mut moving = conditions[0].clone();
    moving.type_ = "Moving".into();
    moving.message = "the keys move: leave your records as they are".into();
    conditions.push(moving);
    let plan = Plan::of(&object).unwrap();
    assert_eq!(plan.pairs.len(), 2);
    let look = |pair: &Pair, keys: [&str; 2]| {
        let [first, second] = &pair.question.slots.0;
        let slots = [linked(first, vec![says(2, txt(keys[0]))]), linked(second, vec![says(2, txt(keys[1]))])];
        Observation { at: now(), slots: PerSlot(slots) }
    };
    let [one, two] = plan.pairs.as_slice() else { panic!("two pairs") };
    let good = plan.compare(&[look(one, ["a1", "b2"]), look(two, ["e1", "e2"])]);
    // The keys of the first signature are nothing to the second.
    let bad = plan.compare(&[look(one, ["a1", "b2"]), look(two, ["a1", "b2"])]);
    assert_eq!([good.exit(), bad.exit()], [Exit::Fine, Exit::Wrong]);
    insta::assert_snapshot!(seen(&render(&good, Output::Table).unwrap()));
}

#[test]
fn keys_that_the_tenant_publishes_are_checked() {
    let object = published_as_txt();
    let plan = Plan::of(&object).unwrap();
    let here = |outcome: Outcome| SlotSighting {
        alias: vec![says(1, Outcome::NoData { negative_ttl: 60 })],
        alias_txt: vec![says(1, outcome)],
        ..SlotSighting::default()
    };
    let no = Outcome::NoData { negative_ttl: 60 };
    let elsewhere = DnsName::new("elsewhere.example").unwrap();
    let cname = |target_txt: Vec<ServerAnswer>| SlotSighting {
        alias: vec![says(1, Outcome::Cname { target: elsewhere.clone(), ttl: 60 })],
        target_txt,
        ..SlotSighting::default()
    };
    let split = SlotSighting { alias_txt: vec![says(1, txt("d4")), says(2, no.clone())], ..here(no.clone()) };
    let mut words = String::new();
    for (what, second, exit) in [
        ("there", here(txt("d4")), Exit::Fine),
        ("missing", here(no.clone()), Exit::Wrong),
        ("another key", here(txt("c3")), Exit::Wrong),
        ("no key", here(Outcome::Txt { texts: vec!["hello".into()], ttl: 60 }), Exit::Wrong),
        ("servers disagree", split, Exit::Wrong),
        ("nobody heard", here(Outcome::Failed(Failure::Timeout)), Exit::Unknown),
        ("a CNAME to the key", cname(vec![says(2, txt("d4"))]), Exit::Fine),
        ("a CNAME to another", cname(vec![says(2, txt("c3"))]), Exit::Wrong),
        ("a CNAME to silence", cname(vec![]), Exit::Unknown),
    ] {
        let look = Observation { at: now(), slots: PerSlot([here(txt("c3")), second]) };
        let followed = plan.pairs[0].follow(&look).map(|q| q.slots[SlotId::Two].target.clone());
        assert_eq!(followed, what.contains("CNAME").then(|| elsewhere.clone()), "{what}");
        let report = plan.compare(&[look]);
        assert_eq!(report.exit(), exit, "{what}");
        words.push_str(&format!("## {what}\n{}\n\n", report.records[1].diagnosis));
    }
    let look = Observation { at: now(), slots: PerSlot([here(txt("c3")), here(no)]) };
    words.push_str(&seen(&render(&plan.compare(&[look]), Output::Table).unwrap()));
    insta::assert_snapshot!(words);
}

#[test]
fn a_key_to_revoke_must_be_gone() {
    let mut object = published_as_txt();
    object.status.as_mut().unwrap().records[0].value = "v=DKIM1; k=rsa; p=".into();
    let plan = Plan::of(&object).unwrap();
    let revoked = Outcome::Txt { texts: vec!["v=DKIM1; k=rsa; p=".into()], ttl: 60 };
    for (outcome, exit) in [
        (txt("c3"), Exit::Wrong),
        (revoked, Exit::Fine),
        (Outcome::NoData { negative_ttl: 60 }, Exit::Fine),
        (Outcome::Failed(Failure::Timeout), Exit::Unknown),
    ] {
        let sighting =
            |outcome| SlotSighting { alias_txt: vec![says(1, outcome)], ..SlotSighting::default() };
        let slots = PerSlot([sighting(outcome.clone()), sighting(txt("d4"))]);
        let report = plan.compare(&[Observation { at: now(), slots }]);
        assert_eq!(report.exit(), exit, "{outcome:?}: {}", report.records[0].diagnosis);
    }
}

#[test]
fn a_slot_without_a_key_has_no_record_yet() {
    let mut object = published_as_txt();
    let status = object.status.as_mut().unwrap();
    status.records.truncate(1);
    status.keys[1].phase = "Empty".into();
    assert_eq!(Plan::of(&object).unwrap().pairs[0].wanted[SlotId::Two], Wanted::Nothing);
    // A record that belongs to no key is not passed over.
    object.status.as_mut().unwrap().keys[0].selector = "other".into();
    let error = Plan::of(&object).unwrap_err();
    assert!(error.to_string().contains("do not name the same selectors"), "{error}");
}
