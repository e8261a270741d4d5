use super::*;
use crate::signing::testing::reporter;

#[tokio::test]
async fn a_last_word_is_said_once() {
    let reporter = reporter();
    let (due, words) = (|spoken| reporter.said.borrow().is_due(spoken), || reporter.words());
    reporter.last_word();
    assert!(!due(0), "there is nothing to say yet");
    reporter.reached(Some(7), std::iter::empty(), false);
    assert!(due(0) && due(words()), "again and again");
    reporter.last_word();
    reporter.unknown();
    assert!(due(words() - 1) && !due(words()), "the last one said counts");
    assert_eq!(reporter.said().0.unwrap().version, Some(7), "what is known stays known");
    let spoken = words();
    reporter.last_word();
    assert!(!due(spoken), "else each further change would hold anew, for ever");
    reporter.goes_on();
    assert!(due(words()), "it is seen again, and cannot be told");
    reporter.last_word();
    assert!(due(spoken) && !due(words()));
    reporter.reached(Some(8), std::iter::empty(), false);
    assert!(due(words()));
}

#[tokio::test]
async fn what_may_use_any_key_is_the_last_word_only_where_one_was_asked_for() {
    for last in [false, true] {
        let reporter = reporter().for_another(Duration::from_secs(60));
        if last {
            reporter.last_word();
        }
        reporter.unknown();
        let any = SignerReport { version: Some(0), hold_seconds: Some(60), ..SignerReport::default() };
        assert_eq!(reporter.said(), (Some(any), last));
        let said = reporter.said.borrow();
        assert!(said.is_due(said.words - 1));
        assert_eq!(said.is_due(said.words), !last);
    }
}

#[tokio::test]
async fn says_no_more_than_fits() {
    let reporter = reporter();
    let said = || reporter.said.borrow().report.clone().unwrap();
    let names = |count: usize| (0..count).map(|n| format!("dkim-{n}.com"));
    reporter.reached(Some(6), names(MOST.0 + 1), false);
    assert_eq!(said().version, Some(0), "no report at all would mean one that can be trusted to follow");
    reporter.reached(Some(7), names(MOST.0), false);
    assert_eq!((said().version, said().except.len()), (Some(7), MOST.0));
    reporter.reached(Some(8), names(MOST.0 + 1), false);
    assert_eq!(said().version, Some(7), "it is not true of all the others");
    reporter.last_word();
    reporter.reached(Some(8), names(MOST.0 + 1), false);
    assert!(!reporter.said().1, "what signs was found again, so it is renewed");
    let key = KeyFingerprint::of(b"key");
    reporter.uses(names(MOST.1).map(|domain| (domain, vec![&key])), true);
    assert_eq!(said().keys.len(), MOST.1);
    let text = serde_json::to_string(&said()).unwrap();
    assert!(text.len() < 16_000, "{}", text.len());
    reporter.uses(names(MOST.1 + 1).map(|domain| (domain, vec![&key])), false);
    assert_eq!((said(), reporter.said.borrow().left), (SignerReport::default(), 1));
    let long = |n: usize| (format!("{n}.{}", "a".repeat(200)), vec![&key]);
    let reporter = reporter.for_another(Duration::from_secs(60));
    reporter.uses((0..MOST.1).map(long), false);
    let said = reporter.said.borrow().report.clone().unwrap();
    assert_eq!(said, SignerReport { hold_seconds: Some(60), ..SignerReport::default() });
}
