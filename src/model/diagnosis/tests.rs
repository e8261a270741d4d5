use proptest::prelude::*;

use super::*;
use crate::model::key::{KeyFingerprint, KeyKind, PrivateKey};
use crate::model::name::{DnsName, DomainName};
use crate::model::record::KeyRecord;
use crate::model::selector::{PerSlot, SlotId};
use crate::model::sighting::{
    Chain, ChainEnd, Failure, Outcome, Question, Security, ServerAnswer, ServerRole, SlotQuestion,
    SlotSighting, Validation,
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

fn resolver_says(outcome: Outcome) -> ServerAnswer {
    ServerAnswer { name: None, role: ServerRole::Recursive, ..says(53, outcome) }
}

fn no_data() -> Outcome {
    Outcome::NoData { negative_ttl: 60 }
}

fn txt(text: &str, ttl: u32) -> Outcome {
    Outcome::Txt { texts: vec![text.to_owned()], ttl }
}

/// A flattened CNAME: the copy and the original, each with its TTL.
fn flattened(copy: u32, original: u32) -> SlotSighting {
    SlotSighting {
        alias_txt: vec![says(1, txt("v=DKIM1; p=", copy))],
        target_txt: vec![says(9, txt("v=DKIM1; p=", original))],
        ..seen(vec![says(1, no_data())])
    }
}

fn led(target: &str, hops: &[&str], end: ChainEnd) -> SlotSighting {
    let chain = Chain { hops: hops.iter().map(|hop| name(hop)).collect(), end };
    SlotSighting { chain, ..seen(vec![says(1, cname(target))]) }
}

/// One situation after the other, with the state it must be told as.
fn situations() -> Vec<(&'static str, RecordState, SlotSighting)> {
    use RecordState as S;
    let no = || Outcome::NxDomain { negative_ttl: 600 };
    let failed = |failure| seen(vec![says(1, Outcome::Failed(failure))]);
    let wrong = |target: &str| seen(vec![says(1, cname(target))]);
    let odd = |target: &str| seen(vec![says(1, Outcome::OddCname { target: target.to_owned(), ttl: 300 })]);
    let right = || says(1, cname(RIGHT));
    let beside = |outcome: Outcome, sighting| SlotSighting { beside: vec![says(2, outcome)], ..sighting };
    let secure = Validation { resolver: ([192, 0, 2, 53], 53).into(), security: Security::Secure };
    vec![
        ("both have it", S::Verified, seen(vec![right(), says(2, cname(RIGHT))])),
        ("signed", S::Verified, SlotSighting { validation: vec![secure], ..seen(vec![right()]) }),
        ("one silent", S::Verified, seen(vec![right(), says(2, Outcome::Failed(Failure::Timeout))])),
        ("flattened", S::Flattened, flattened(60, 60)),
        ("flattened, copy kept longer", S::Flattened, flattened(3600, 60)),
        (
            "flattened, by hearsay",
            S::Flattened,
            SlotSighting {
                alias_txt: vec![resolver_says(txt("v=DKIM1; p=", 9))],
                target_txt: vec![resolver_says(txt("v=DKIM1; p=", 9))],
                ..seen(vec![resolver_says(no_data())])
            },
        ),
        (
            "stale absence",
            S::StaleNegativeCache,
            seen(vec![right(), resolver_says(Outcome::NxDomain { negative_ttl: 480 })]),
        ),
        (
            "another view",
            S::StaleNegativeCache,
            SlotSighting {
                other_view: vec![resolver_says(no()).address],
                ..seen(vec![right(), resolver_says(Outcome::NxDomain { negative_ttl: 480 })])
            },
        ),
        ("stale target", S::StaleNegativeCache, seen(vec![right(), resolver_says(cname("old.example.net"))])),
        (
            "missing",
            S::Missing,
            SlotSighting { again: Some(15), ..seen(vec![says(1, no()), says(2, no_data())]) },
        ),
        (
            "no domain",
            S::NxDomain,
            SlotSighting {
                zone: Some(name("com")),
                domain_absent: vec![ServerAnswer { name: Some(name("a.gtld.example")), ..says(7, no()) }],
                ..seen(vec![says(7, no())])
            },
        ),
        (
            "no name in its zone",
            S::NxDomain,
            SlotSighting {
                zone: Some(name("hosting.example")),
                domain_absent: vec![says(7, no())],
                ..seen(vec![says(7, no())])
            },
        ),
        ("typo", S::WrongTarget, wrong("selector1-contoso-com._domainkey.contosso.onmail.example")),
        (
            "letters changed about",
            S::WrongTarget,
            wrong("selector1-contsoo-com._domainkey.contoso.onmail.example"),
        ),
        ("other domain", S::WrongTarget, wrong("selector1-fabrikam-org._domainkey.contoso.onmail.example")),
        ("other namespace", S::WrongTarget, wrong("selector1-contoso-com._domainkey.wingtip.onmail.example")),
        (
            "other organisation",
            S::WrongTarget,
            wrong("selector1-fabrikam-org._domainkey.fabrikam.onmail.example"),
        ),
        (
            "provider before",
            S::WrongTarget,
            wrong("selector1-contoso-com._domainkey.contoso.onmicrosoft.com"),
        ),
        ("stranger", S::WrongTarget, wrong("dkim.mail.stranger.example")),
        ("own name", S::WrongTarget, wrong("mail.contoso.com")),
        (
            "disagree, none right",
            S::WrongTarget,
            seen(vec![says(1, no()), says(2, cname("dkim.mail.stranger.example"))]),
        ),
        (
            "by way of another",
            S::WrongTarget,
            led(
                "dkim.corp.example",
                &["selector1-contoso-com._domainkey.contoso.onmail.example"],
                ChainEnd::Right,
            ),
        ),
        ("no name at all", S::WrongTarget, odd("https://dkim.onmail.example/")),
        ("swapped", S::SwappedSelectors, wrong("selector2-contoso-com._domainkey.contoso.onmail.example")),
        ("doubled", S::DoubledZone, SlotSighting { doubled: vec![right()], ..seen(vec![says(1, no())]) }),
        ("relative", S::RelativeTarget, wrong(&format!("{RIGHT}.contoso.com"))),
        ("underscore in value", S::UnderscoreDropped, wrong(&RIGHT.replace("_domain", "domain"))),
        (
            "underscore in name",
            S::UnderscoreDropped,
            SlotSighting { without_underscore: vec![right()], ..seen(vec![says(1, no())]) },
        ),
        ("dash", S::DashInsteadOfDot, wrong("selector1.contoso.com._domainkey.contoso.onmail.example")),
        ("quotes", S::QuotedTarget, odd(&format!("\\\"{RIGHT}\\\".contoso.com."))),
        (
            "txt",
            S::TxtInsteadOfCname,
            SlotSighting {
                alias_txt: vec![says(1, txt("v=DKIM1; p=", 60))],
                ..seen(vec![says(1, no_data())])
            },
        ),
        (
            "both",
            S::CnameAndTxt,
            SlotSighting { alias_txt: vec![says(1, txt("v=DKIM1; p=", 60))], ..seen(vec![right()]) },
        ),
        ("wildcard", S::Wildcard, beside(cname("web.contoso.com"), wrong("web.contoso.com"))),
        (
            "wildcard txt",
            S::Wildcard,
            beside(
                txt("v=spf1 -all", 60),
                SlotSighting {
                    alias_txt: vec![says(1, txt("v=spf1 -all", 60))],
                    ..seen(vec![says(1, no_data())])
                },
            ),
        ),
        ("loop", S::CnameLoop, led("a.contoso.com", &["b.contoso.com", "a.contoso.com"], ChainEnd::Loop)),
        (
            "long",
            S::ChainTooLong,
            led("a.contoso.com", &["b.contoso.com", "c.contoso.com"], ChainEnd::TooLong),
        ),
        (
            "partly",
            S::PartlyPropagated,
            seen(vec![right(), says(2, no()), says(3, cname("old.example.net"))]),
        ),
        (
            "lame",
            S::LameDelegation,
            seen(vec![says(1, Outcome::Failed(Failure::Lame)), says(2, Outcome::Failed(Failure::Timeout))]),
        ),
        ("refused by its own", S::LameDelegation, failed(Failure::Refused)),
        ("bogus", S::DnssecBogus, seen(vec![right(), resolver_says(Outcome::Failed(Failure::Bogus))])),
        ("bogus only", S::DnssecBogus, seen(vec![resolver_says(Outcome::Failed(Failure::Bogus))])),
        ("timeout", S::Timeout, failed(Failure::Timeout)),
        ("given up", S::Timeout, failed(Failure::GivenUp)),
        ("nobody", S::Timeout, seen(vec![])),
        ("servfail", S::ServFail, failed(Failure::ServFail)),
        ("refused", S::Refused, seen(vec![resolver_says(Outcome::Failed(Failure::Refused))])),
        ("unreachable", S::Unreachable, failed(Failure::Unreachable)),
        ("private", S::Unreachable, failed(Failure::PrivateAddress)),
    ]
}

#[test]
fn every_state_has_its_words() {
    let question = question();
    let slot = &question.slots[SlotId::One];
    // One is there before any look, the other is of a TXT that the tenant publishes.
    let others = std::collections::BTreeSet::from([RecordState::Pending, RecordState::OtherKey]);
    let (mut said, mut met) = (String::new(), others);
    for (what, state, sighting) in situations() {
        let found = diagnose(slot, &question, &sighting);
        assert_eq!(found.state, state, "{what}: {}", found.message);
        if state != RecordState::Verified {
            let record =
                format!("CNAME selector1._domainkey (in full {}) with the value {RIGHT}", slot.alias);
            let right = matches!(state, RecordState::StaleNegativeCache | RecordState::DnssecBogus);
            assert!(right || found.message.contains(&record), "{what} names the record: {}", found.message);
        }
        met.insert(state);
        said.push_str(&format!("{what}: {state}: {}\n", found.message));
    }
    assert!(met.iter().eq(RecordState::ALL.iter()), "{met:?}");
    insta::assert_snapshot!(said);
}

#[test]
fn what_is_said_and_what_is_proven_agree() {
    let question = question();
    let slot = &question.slots[SlotId::One];
    for (what, state, sighting) in situations() {
        use RecordState as S;
        let evidence = link_evidence(slot, &sighting);
        let agrees = match (&evidence, state) {
            (LinkEvidence::Verified { .. }, S::Verified | S::StaleNegativeCache | S::Flattened) => true,
            (LinkEvidence::Partial, S::PartlyPropagated | S::CnameAndTxt) => true,
            (LinkEvidence::Unknown { .. }, state) => state.is_unclear() || state == S::Flattened,
            (LinkEvidence::Broken { .. }, state) => !state.is_unclear() && state != S::Flattened,
            _ => false,
        };
        assert!(agrees, "{what}: {state}, and yet {evidence:?}");
    }
}

#[test]
fn the_page_for_people_tells_every_state() {
    let page = include_str!("../../../docs/diagnosis.md");
    for state in RecordState::ALL {
        assert!(page.contains(&format!("| `{state}` |")), "docs/diagnosis.md does not tell {state}");
    }
}

#[test]
fn a_copy_that_is_remembered_longer_than_the_original_proves_nothing() {
    let slot = &question().slots[SlotId::One];
    assert_eq!(
        link_evidence(slot, &flattened(60, 60)),
        LinkEvidence::Verified { older_answers_ttl: 600, by_copy: true }
    );
    assert!(matches!(link_evidence(slot, &flattened(61, 60)), LinkEvidence::Unknown { .. }));
    let mut old = flattened(60, 60);
    old.target_txt = vec![says(9, txt("v=DKIM1; p=QUJD", 60))];
    assert_eq!(
        link_evidence(slot, &old),
        LinkEvidence::Broken { older_answers_ttl: 600 },
        "a copy of another key"
    );
}

#[test]
fn a_resolver_that_remembers_longer_prolongs_the_wait() {
    let slot = &question().slots[SlotId::One];
    let sighting = seen(vec![says(1, cname(RIGHT)), resolver_says(Outcome::NxDomain { negative_ttl: 900 })]);
    assert_eq!(
        link_evidence(slot, &sighting),
        LinkEvidence::Verified { older_answers_ttl: 900, by_copy: false }
    );
    let failed = seen(vec![says(1, cname(RIGHT)), resolver_says(Outcome::Failed(Failure::ServFail))]);
    assert_eq!(
        link_evidence(slot, &failed),
        LinkEvidence::Verified { older_answers_ttl: 600, by_copy: false }
    );
    let bogus = seen(vec![says(1, cname(RIGHT)), resolver_says(Outcome::Failed(Failure::Bogus))]);
    assert!(matches!(link_evidence(slot, &bogus), LinkEvidence::Unknown { .. }));
}

#[test]
fn edits_are_counted() {
    use super::target::distance;
    for (a, b, edits) in [
        ("", "", 0),
        ("abc", "abc", 0),
        ("abc", "acb", 1),
        ("abc", "abd", 1),
        ("ab", "abc", 1),
        ("kitten", "sitting", 3),
    ] {
        assert_eq!((distance(a, b), distance(b, a)), (edits, edits), "{a} {b}");
    }
    assert_eq!(distance("a", "abcdefgh"), usize::MAX);
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
    assert_eq!(key_evidence(&[right()], &other), KeyEvidence::Differs { found: vec![ours.clone()] });
    let bogus = resolver_says(Outcome::Failed(Failure::Bogus));
    assert!(
        matches!(key_evidence(&[right(), bogus], &ours), KeyEvidence::Unknown { .. }),
        "validators see none"
    );
}

#[test]
fn a_zone_whose_memory_is_not_known_is_given_the_longest() {
    let slot = &question().slots[SlotId::One];
    let mut sighting = seen(vec![says(1, cname(RIGHT))]);
    assert_eq!(
        link_evidence(slot, &sighting),
        LinkEvidence::Verified { older_answers_ttl: 600, by_copy: false }
    );
    sighting.negative_ttl = None;
    assert_eq!(
        link_evidence(slot, &sighting),
        LinkEvidence::Verified { older_answers_ttl: 10_800, by_copy: false }
    );
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

#[test]
fn a_key_that_the_tenant_publishes_is_no_copy_behind_which_another_name_may_be() {
    let slot = &question().slots[SlotId::One];
    let public = PrivateKey::generate(KeyKind::Ed25519, &mut getrandom::SysRng).unwrap().public().unwrap();
    let (ours, text) = (public.fingerprint().unwrap(), KeyRecord::Key(public).to_string());
    let at = |copy: u32| SlotSighting {
        alias_txt: vec![says(1, txt(&text, copy))],
        target_txt: vec![says(9, txt(&text, 60))],
        ..seen(vec![says(1, no_data())])
    };
    for copy in [60, 300] {
        let evidence = copy_evidence(slot, &at(copy), &ours);
        assert!(matches!(evidence, LinkEvidence::Verified { by_copy: false, .. }), "{copy}: {evidence:?}");
    }
    assert!(matches!(link_evidence(slot, &at(60)), LinkEvidence::Verified { by_copy: true, .. }));
}
