use proptest::prelude::*;

use super::*;
use crate::model::key::{KeyFingerprint, KeyKind, PrivateKey};
use crate::model::name::{DnsName, DomainName};
use crate::model::record::KeyRecord;
use crate::model::selector::{PerSlot, SlotId};
use crate::model::sighting::{
    Failure, Outcome, Question, ServerAnswer, ServerRole, SlotQuestion, SlotSighting,
};

fn name(text: &str) -> DnsName {
    DnsName::new(text).unwrap()
}

fn question() -> Question {
    let slot = |n: u8| SlotQuestion {
        alias: name(&format!("selector{n}._domainkey.contoso.com")),
        target: name(&format!("selector{n}-contoso-com._domainkey.contoso.onmail.example")),
    };
    Question { domain: DomainName::parse("contoso.com").unwrap(), slots: PerSlot([slot(1), slot(2)]) }
}

fn says(server: u8, outcome: Outcome) -> ServerAnswer {
    ServerAnswer {
        name: Some(name(&format!("ns{server}.contoso.com"))),
        address: ([192, 0, 2, server], 53).into(),
        role: ServerRole::Authoritative,
        outcome,
    }
}

fn cname(target: &str) -> Outcome {
    Outcome::Cname { target: name(target), ttl: 3600 }
}

const RIGHT: &str = "selector1-contoso-com._domainkey.contoso.onmail.example";

fn seen(alias: Vec<ServerAnswer>) -> SlotSighting {
    SlotSighting { alias, negative_ttl: Some(600), ..SlotSighting::default() }
}

#[test]
fn every_state_has_its_words() {
    let no = Outcome::NxDomain { negative_ttl: 600 };
    let txt = Outcome::Txt { texts: vec!["v=DKIM1; p=".into()], ttl: 60 };
    let cases: Vec<(&str, SlotSighting)> = vec![
        ("verified", seen(vec![says(1, cname(RIGHT)), says(2, cname(RIGHT))])),
        ("missing", seen(vec![says(1, no.clone())])),
        ("partly", seen(vec![says(1, cname(RIGHT)), says(2, no.clone())])),
        ("swapped", seen(vec![says(1, cname("selector2-contoso-com._domainkey.contoso.onmail.example"))])),
        ("relative", seen(vec![says(1, cname(&format!("{RIGHT}.contoso.com")))])),
        ("underscore", seen(vec![says(1, cname("selector1-contoso-com.domainkey.contoso.onmail.example"))])),
        ("dash", seen(vec![says(1, cname("selector1.contoso.com._domainkey.contoso.onmail.example"))])),
        ("typo", seen(vec![says(1, cname("selector1-contoso-com._domainkey.contosso.onmail.example"))])),
        (
            "other organisation",
            seen(vec![says(1, cname("selector1-contoso-com._domainkey.fabrikam.onmail.example"))]),
        ),
        (
            "other provider",
            seen(vec![says(1, cname("selector1-contoso-com._domainkey.contoso.onmicrosoft.com"))]),
        ),
        ("doubled", SlotSighting { doubled: vec![says(1, cname(RIGHT))], ..seen(vec![says(1, no.clone())]) }),
        (
            "txt",
            SlotSighting {
                alias_txt: vec![says(1, txt.clone())],
                ..seen(vec![says(1, Outcome::NoData { negative_ttl: 60 })])
            },
        ),
        (
            "flattened",
            SlotSighting {
                alias_txt: vec![says(1, txt.clone())],
                target_txt: vec![says(9, txt)],
                ..seen(vec![says(1, Outcome::NoData { negative_ttl: 60 })])
            },
        ),
        ("timeout", seen(vec![says(1, Outcome::Failed(Failure::Timeout))])),
        (
            "lame",
            seen(vec![says(1, Outcome::Failed(Failure::Lame)), says(2, Outcome::Failed(Failure::Timeout))]),
        ),
        ("nobody", seen(vec![])),
    ];
    let question = question();
    let mut said = String::new();
    for (what, sighting) in cases {
        let found = diagnose(&question.slots[SlotId::One], &question, &sighting);
        said.push_str(&format!("{what}: {}: {}\n", found.state, found.message));
    }
    insta::assert_snapshot!(said);
}

#[test]
fn a_key_is_proven_by_all_who_were_heard_and_by_no_failure() {
    let public = PrivateKey::generate(KeyKind::Ed25519, &mut getrandom::SysRng).unwrap().public().unwrap();
    let ours = public.fingerprint().unwrap();
    let text = KeyRecord::Key(public).to_string();
    let txt = |texts: Vec<String>| Outcome::Txt { texts, ttl: 60 };
    let right = || says(1, txt(vec![text.clone()]));
    let absent = || says(2, Outcome::NxDomain { negative_ttl: 60 });
    let failed = || says(3, Outcome::Failed(Failure::ServFail));
    assert_eq!(key_evidence(&[right(), failed()], &ours), KeyEvidence::Matches);
    assert_eq!(key_evidence(&[right(), absent()], &ours), KeyEvidence::Partial);
    assert_eq!(key_evidence(&[absent(), failed()], &ours), KeyEvidence::Absent);
    assert!(matches!(key_evidence(&[failed()], &ours), KeyEvidence::Unknown { .. }));
    let two = says(1, txt(vec![text.clone(), text.clone()]));
    assert!(matches!(key_evidence(&[two], &ours), KeyEvidence::Differs { .. }), "two keys at one name");
    let other = KeyFingerprint::of(b"other");
    assert_eq!(key_evidence(&[right()], &other), KeyEvidence::Differs { found: vec![ours] });
}

#[test]
fn a_zone_whose_memory_is_not_known_is_given_the_longest() {
    let slot = &question().slots[SlotId::One];
    let mut sighting = seen(vec![says(1, cname(RIGHT))]);
    assert_eq!(link_evidence(slot, &sighting), LinkEvidence::Verified { older_answers_ttl: 600 });
    sighting.negative_ttl = None;
    assert_eq!(link_evidence(slot, &sighting), LinkEvidence::Verified { older_answers_ttl: 10_800 });
}

fn outcome() -> impl Strategy<Value = Outcome> {
    let failure = prop_oneof![
        Just(Failure::Timeout),
        Just(Failure::ServFail),
        Just(Failure::Refused),
        Just(Failure::Lame),
        Just(Failure::Malformed),
        Just(Failure::Unreachable)
    ];
    prop_oneof![
        Just(cname(RIGHT)),
        "[a-z]{1,8}\\.[a-z]{1,8}".prop_map(|t| cname(&t)),
        Just(Outcome::NxDomain { negative_ttl: 60 }),
        failure.prop_map(Outcome::Failed),
    ]
}

proptest! {
    #[test]
    fn failures_alone_prove_nothing(failures in proptest::collection::vec(outcome(), 0..5)) {
        let question = question();
        let slot = &question.slots[SlotId::One];
        let answers: Vec<ServerAnswer> =
            failures.into_iter().enumerate().map(|(n, o)| says(n as u8, o)).collect();
        let sighting = seen(answers.clone());
        let diagnosis = diagnose(slot, &question, &sighting);
        prop_assert!(!diagnosis.message.is_empty());
        let silent = answers.iter().all(|a| matches!(a.outcome, Outcome::Failed(_)));
        let unknown = matches!(link_evidence(slot, &sighting), LinkEvidence::Unknown { .. });
        prop_assert_eq!(silent, unknown);
        prop_assert_eq!(silent, diagnosis.state.is_unclear());
        if matches!(link_evidence(slot, &sighting), LinkEvidence::Verified { .. }) {
            prop_assert_eq!(diagnosis.state, RecordState::Verified);
        }
    }
}
