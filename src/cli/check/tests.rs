use super::*;
use crate::cli::args::OfflineArgs;
use crate::cli::records::question;
use crate::cli::testing::{bare, blocked, contoso, now, seen};
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
    let [first, second] = &plan.question.slots.0;
    let slots = PerSlot([linked(first, one), linked(second, two)]);
    plan.compare(&Observation { at: now(), slots })
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
        words.push_str(&format!("## {what}\n{}\n\n", seen(&report.records[1].key.diagnosis)));
    }
    insta::assert_snapshot!(words);
}

#[test]
fn the_records_decide_as_well() {
    let plan = Plan::of(&contoso()).unwrap();
    let [first, second] = &plan.question.slots.0;
    let mut slots =
        PerSlot([linked(first, vec![says(2, txt("a1"))]), linked(second, vec![says(2, txt("b2"))])]);
    let mut exit = |outcome: Outcome| {
        slots[SlotId::Two].alias = vec![says(1, outcome)];
        plan.compare(&Observation { at: now(), slots: slots.clone() }).exit()
    };
    assert_eq!(exit(Outcome::NoData { negative_ttl: 60 }), Exit::Wrong);
    assert_eq!(exit(Outcome::Failed(Failure::Lame)), Exit::Wrong);
    assert_eq!(exit(Outcome::Failed(Failure::ServFail)), Exit::Unknown);
    assert_eq!(exit(Outcome::Cname { target: second.target.clone(), ttl: 60 }), Exit::Fine);
}

#[test]
fn a_key_that_was_never_made_is_not_missed() {
    let plan = Plan::of(&blocked()).unwrap();
    assert_eq!(plan.keys[SlotId::Two], ExpectedKey::Nothing);
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
