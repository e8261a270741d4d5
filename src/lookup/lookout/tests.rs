//! The lookout in virtual time: when it looks, whose turn it is, and when it tells.

use std::time::Duration;

use futures::FutureExt;

use super::*;
use crate::model::name::{DnsName, DomainName};
use crate::model::selector::PerSlot;
use crate::model::sighting::{Failure, Outcome, ServerAnswer, ServerRole, SlotQuestion, SlotSighting};

const TEN: Duration = Duration::from_secs(10);
const HOUR: Duration = Duration::from_secs(3600);

/// A stand-in for DNS: takes a second for each look, and counts.
#[derive(Default)]
struct Stage {
    looks: Mutex<Vec<Instant>>,
    says: Mutex<Option<Outcome>>,
}

impl Stage {
    /// One whose CNAMEs are both there.
    fn right() -> Arc<Self> {
        Arc::default()
    }

    fn wrong(outcome: Outcome) -> Arc<Self> {
        let stage = Self::default();
        stage.says(outcome);
        Arc::new(stage)
    }

    fn says(&self, outcome: Outcome) {
        *self.says.lock() = Some(outcome);
    }

    fn looks(&self) -> usize {
        self.looks.lock().len()
    }

    /// The pauses from the end of one look to the next, in seconds.
    fn pauses(&self) -> Vec<f64> {
        let looks = self.looks.lock();
        looks.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64() - 1.0).collect()
    }
}

impl Look for Stage {
    fn look<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, Observation> {
        self.looks.lock().push(Instant::now());
        let said = self.says.lock().clone();
        Box::pin(async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let slots = question.slots.0.clone().map(|wanted| {
                let outcome = said.clone().unwrap_or(Outcome::Cname { target: wanted.target, ttl: 300 });
                let address = std::net::SocketAddr::from(([127, 0, 0, 1], 53));
                let answer = ServerAnswer { name: None, address, role: ServerRole::Recursive, outcome };
                SlotSighting { alias: vec![answer], ..SlotSighting::default() }
            });
            Observation { at: Timestamp::UNIX_EPOCH, slots: PerSlot(slots) }
        })
    }
}

fn question(domain: &str) -> Question {
    let name = |label: &str| DnsName::new(format!("{label}._domainkey.{domain}")).unwrap();
    let slot = |label: &str| SlotQuestion { alias: name(label), target: name(&format!("{label}-x")) };
    Question { domain: DomainName::parse(domain).unwrap(), slots: PerSlot([slot("s1"), slot("s2")]) }
}

fn no_data(negative_ttl: u32) -> Outcome {
    Outcome::NoData { negative_ttl }
}

fn told<K>(stream: &mut mpsc::UnboundedReceiver<K>) -> Vec<K> {
    let mut all = Vec::new();
    while let Some(Some(key)) = stream.next().now_or_never() {
        all.push(key);
    }
    all
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

/// A lookout that has told of its first look at a domain.
async fn settled(
    every: Duration,
    stage: &Arc<Stage>,
) -> (Lookout<&'static str>, mpsc::UnboundedReceiver<&'static str>) {
    let (lookout, mut news) = Lookout::new(LookoutConfig::default());
    lookout.watch("a", question("a.example"), Pace { every }, stage.clone());
    pass(2).await;
    told(&mut news);
    (lookout, news)
}

#[tokio::test(start_paused = true)]
async fn looks_at_once_and_then_at_its_pace() {
    let (lookout, mut news) = Lookout::new(LookoutConfig::default());
    let stage = Stage::right();
    lookout.watch("a", question("a.example"), Pace { every: TEN }, stage.clone());
    pass(2).await;
    assert_eq!((stage.looks(), told(&mut news)), (1, vec!["a"]), "the first look is news");
    pass(110).await;
    assert!(stage.pauses().iter().all(|pause| (8.5..=10.1).contains(pause)), "{:?}", stage.pauses());
    assert!((10..=13).contains(&stage.looks()), "{} looks", stage.looks());
    assert!(told(&mut news).is_empty(), "the same answer is no news");
    assert_eq!(lookout.latest(&"a").unwrap().slots.0[0].again, Some(10));
}

#[tokio::test(start_paused = true)]
async fn looks_fast_at_first_and_slower_in_the_long_run() {
    let (lookout, mut news) = Lookout::new(LookoutConfig::default());
    let stage = Stage::wrong(Outcome::Failed(Failure::Timeout));
    let every = Duration::from_secs(16);
    lookout.watch("a", question("a.example"), Pace { every }, stage.clone());
    pass(120).await;
    let pauses = stage.pauses();
    for (pause, planned) in pauses.iter().zip([2.0, 4.0, 8.0, 16.0, 16.0]) {
        assert!((planned * 0.85..=planned + 0.1).contains(pause), "{pauses:?}");
    }
    assert_eq!(lookout.latest(&"a").unwrap().slots.0[0].again, Some(16), "told as the slowest of these");
    pass(2 * 3600).await;
    let last = *stage.pauses().last().unwrap();
    assert!((200.0..=256.1).contains(&last), "after two hours every {last} s");
    assert_eq!(lookout.latest(&"a").unwrap().slots.0[0].again, Some(256));
    told(&mut news);

    // What is new makes it fast again.
    let looks = stage.looks();
    stage.says(no_data(0));
    pass(600).await;
    assert!(stage.looks() > looks + 10, "{:?}", stage.pauses());
    assert_eq!(told(&mut news), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn keeps_its_pace_while_somebody_is_likely_to_be_at_work() {
    let (lookout, _news) = Lookout::new(LookoutConfig::default());
    let stage = Stage::wrong(Outcome::Failed(Failure::Timeout));
    lookout.watch("a", question("a.example"), Pace { every: Duration::from_secs(1) }, stage.clone());
    pass(590).await;
    let most = stage.pauses().into_iter().fold(0.0, f64::max);
    assert!(most <= 1.1, "{most} s");
    pass(600).await;
    let last = *stage.pauses().last().unwrap();
    assert!(last > 10.0, "after twenty minutes every {last} s");
}

#[tokio::test(start_paused = true)]
async fn what_only_resolvers_know_is_not_asked_again_before_they_can_learn() {
    let (lookout, _news) = Lookout::new(LookoutConfig::default());
    let stage = Stage::wrong(no_data(90));
    lookout.watch("a", question("a.example"), Pace { every: TEN }, stage.clone());
    pass(85).await;
    assert!(stage.looks() <= 2, "{:?}", stage.pauses());
    assert!(stage.pauses().iter().all(|pause| *pause > 75.0), "{:?}", stage.pauses());
}

#[tokio::test(start_paused = true)]
async fn tells_what_changed_but_not_that_a_cache_counts_down() {
    let stage = Stage::wrong(no_data(6));
    let (_lookout, mut news) = settled(TEN, &stage).await;
    stage.says(no_data(5));
    pass(12).await;
    assert!(stage.looks() > 1 && told(&mut news).is_empty());
    stage.says(Outcome::NxDomain { negative_ttl: 6 });
    pass(12).await;
    assert_eq!(told(&mut news), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_wake_is_answered_even_if_nothing_changed() {
    let stage = Stage::right();
    let (lookout, mut news) = settled(HOUR, &stage).await;
    lookout.wake(&"a");
    pass(2).await;
    assert_eq!((stage.looks(), told(&mut news)), (2, vec!["a"]));
}

#[tokio::test(start_paused = true)]
async fn a_wake_in_the_middle_of_a_look_brings_another() {
    let (lookout, mut news) = Lookout::new(LookoutConfig::default());
    let stage = Stage::right();
    lookout.watch("a", question("a.example"), Pace { every: HOUR }, stage.clone());
    tokio::time::sleep(Duration::from_millis(500)).await;
    lookout.wake(&"a");
    pass(3).await;
    assert_eq!((stage.looks(), told(&mut news)), (2, vec!["a", "a"]));
    pass(60).await;
    assert_eq!(stage.looks(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_request_is_answered_once() {
    let (lookout, mut news) = Lookout::new(LookoutConfig::default());
    let stage = Stage::right();
    lookout.watch("a", question("a.example"), Pace { every: HOUR }, stage.clone());
    lookout.asked(&"a", "before the first look");
    pass(3).await;
    assert_eq!((stage.looks(), told(&mut news)), (1, vec!["a"]));
    for _ in 0..3 {
        lookout.asked(&"a", "2026-11-25T12:00:00Z");
        pass(3).await;
    }
    assert_eq!((stage.looks(), told(&mut news)), (2, vec!["a"]));
    lookout.asked(&"b", "nobody watches it");
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_an_older_question_is_dropped() {
    let (lookout, mut news) = Lookout::new(LookoutConfig::default());
    let stage = Stage::right();
    lookout.watch("a", question("a.example"), Pace { every: TEN }, stage.clone());
    tokio::time::sleep(Duration::from_millis(500)).await;
    lookout.watch("a", question("b.example"), Pace { every: TEN }, stage.clone());
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(lookout.latest(&"a").is_none(), "the look for a.example ended, and counts for nothing");
    pass(2).await;
    assert_eq!((stage.looks(), told(&mut news)), (2, vec!["a"]));
    assert!(lookout.latest(&"a").is_some());
}

#[tokio::test(start_paused = true)]
async fn keeps_to_its_concurrency_and_forgets() {
    let (lookout, mut news) = Lookout::new(LookoutConfig { concurrency: 1 });
    let stage = Stage::right();
    for key in ["a", "b", "c"] {
        lookout.watch(key, question("a.example"), Pace { every: HOUR }, stage.clone());
    }
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(stage.looks(), 2, "one at a time, a second each");
    lookout.forget(&"c");
    pass(10).await;
    assert_eq!(stage.looks(), 2);
    assert_eq!(told(&mut news), ["a", "b"]);
    assert!(lookout.latest(&"c").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_shorter_pace_counts_from_now() {
    let (lookout, _news) = Lookout::new(LookoutConfig::default());
    let stage = Stage::right();
    lookout.watch("a", question("a.example"), Pace { every: HOUR }, stage.clone());
    pass(2).await;
    lookout.watch("a", question("a.example"), Pace { every: TEN }, stage.clone());
    pass(12).await;
    assert_eq!(stage.looks(), 2);
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_that_wait_do_not_keep_a_new_one_waiting() {
    let (lookout, mut news) =
        Lookout::fair(LookoutConfig { concurrency: 16 }, |key: &u32| u64::from(key % 2));
    let stage = Stage::wrong(Outcome::Failed(Failure::Timeout));
    // All of one group, and far more than can be looked at in time.
    for key in 0..10_000 {
        lookout.watch(key * 2, question("a.example"), Pace { every: TEN }, stage.clone());
    }
    pass(5).await;
    // A new one of another group overtakes even the first looks of that one.
    lookout.watch(1, question("b.example"), Pace { every: TEN }, stage.clone());
    let begin = Instant::now();
    while lookout.latest(&1).is_none() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(begin.elapsed() <= Duration::from_secs(3), "other group: {:?}", begin.elapsed());
    // Once all were looked at, a new one of the same group overtakes the routine.
    pass(800).await;
    told(&mut news);
    let begin = Instant::now();
    lookout.watch(20_002, question("c.example"), Pace { every: TEN }, stage.clone());
    while lookout.latest(&20_002).is_none() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(begin.elapsed() <= Duration::from_secs(2), "same group: {:?}", begin.elapsed());
    // And one that somebody asks for does, too.
    let begin = Instant::now();
    lookout.wake(&10_000);
    assert_eq!(news.next().await, Some(20_002));
    while told(&mut news) != [10_000] {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(begin.elapsed() <= Duration::from_secs(3), "asked for: {:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn whoever_is_never_content_with_a_look_waits_for_the_next() {
    let stage = Stage::right();
    let (lookout, mut news) = settled(HOUR, &stage).await;
    lookout.wake(&"a");
    pass(1).await;
    assert_eq!(stage.looks(), 2, "the first time at once");
    // From then on each end of a look is answered with the wish for another.
    for _ in 0..600 {
        pass(1).await;
        if !told(&mut news).is_empty() {
            lookout.wake(&"a");
        }
    }
    assert!((6..=11).contains(&stage.looks()), "{:?}", stage.pauses());
    // A person's question is answered at once, and so is the first after news.
    let looks = stage.looks();
    lookout.asked(&"a", "now");
    pass(2).await;
    assert_eq!(stage.looks(), looks + 1);
    stage.says(no_data(6));
    lookout.wake(&"a");
    pass(30).await;
    lookout.wake(&"a");
    pass(2).await;
    assert!(stage.looks() >= looks + 3, "{:?}", stage.pauses());
}

#[tokio::test(start_paused = true)]
async fn the_answer_to_what_was_forgotten_is_none_to_what_is_watched_next() {
    let (lookout, mut news) = Lookout::new(LookoutConfig::default());
    let (before, after) = (Stage::wrong(no_data(60)), Stage::right());
    lookout.watch("a", question("a.example"), Pace { every: HOUR }, before);
    tokio::time::sleep(Duration::from_millis(500)).await;
    // A look is under way; its domain is made again, with another question.
    lookout.forget(&"a");
    lookout.watch("a", question("b.example"), Pace { every: HOUR }, after.clone());
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(lookout.latest(&"a"), None);
    pass(1).await;
    assert_eq!((after.looks(), told(&mut news)), (1, vec!["a"]));
    let seen = lookout.latest(&"a").unwrap();
    assert!(matches!(seen.slots.0[0].alias[0].outcome, Outcome::Cname { .. }));
}
