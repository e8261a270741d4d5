//! The lookout in virtual time: when it looks, and when it tells.

use futures::FutureExt;

use super::*;
use crate::model::name::{DnsName, DomainName};
use crate::model::selector::PerSlot;
use crate::model::sighting::{Failure, SlotQuestion, SlotSighting};

const TEN: Duration = Duration::from_secs(10);

/// A stand-in for DNS: takes a second for each look, and counts.
#[derive(Default)]
struct Stage {
    looks: Mutex<Vec<Instant>>,
    says: Mutex<Option<Outcome>>,
}

impl Stage {
    fn says(&self, outcome: Outcome) {
        *self.says.lock() = Some(outcome);
    }

    fn looks(&self) -> usize {
        self.looks.lock().len()
    }
}

impl Look for Stage {
    fn look<'a>(&'a self, _: &'a Question) -> BoxFuture<'a, Observation> {
        self.looks.lock().push(Instant::now());
        let outcome = self.says.lock().clone().unwrap_or(Outcome::Failed(Failure::Timeout));
        Box::pin(async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let address = std::net::SocketAddr::from(([127, 0, 0, 1], 53));
            let answer = ServerAnswer { name: None, address, role: ServerRole::Recursive, outcome };
            let one = SlotSighting { alias: vec![answer], ..SlotSighting::default() };
            Observation { at: Timestamp::UNIX_EPOCH, slots: PerSlot([one, SlotSighting::default()]) }
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

fn told(stream: &mut mpsc::UnboundedReceiver<&'static str>) -> Vec<&'static str> {
    let mut all = Vec::new();
    while let Some(Some(key)) = stream.next().now_or_never() {
        all.push(key);
    }
    all
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn looks_at_once_and_then_at_its_pace() {
    let (lookout, mut news) = Lookout::new(LookoutConfig::default());
    let stage = Arc::new(Stage::default());
    lookout.watch("a", question("a.example"), Pace { every: TEN }, stage.clone());
    pass(2).await;
    assert_eq!((stage.looks(), told(&mut news)), (1, vec!["a"]), "the first look is news");
    pass(110).await;
    // A second for the look, 9 to 11 until the next.
    assert!((10..=12).contains(&stage.looks()), "{} looks", stage.looks());
    assert!(told(&mut news).is_empty(), "the same answer is no news");
}

#[tokio::test(start_paused = true)]
async fn tells_what_changed_but_not_that_a_cache_counts_down() {
    let (lookout, mut news) = Lookout::new(LookoutConfig::default());
    let stage = Arc::new(Stage::default());
    stage.says(no_data(60));
    lookout.watch("a", question("a.example"), Pace { every: TEN }, stage.clone());
    pass(2).await;
    told(&mut news);
    stage.says(no_data(50));
    pass(12).await;
    assert!(told(&mut news).is_empty());
    stage.says(Outcome::NxDomain { negative_ttl: 60 });
    pass(12).await;
    assert_eq!(told(&mut news), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_wake_is_answered_even_if_nothing_changed() {
    let (lookout, mut news) = Lookout::new(LookoutConfig::default());
    let stage = Arc::new(Stage::default());
    lookout.watch("a", question("a.example"), Pace { every: Duration::from_secs(3600) }, stage.clone());
    pass(2).await;
    told(&mut news);
    lookout.wake(&"a");
    pass(2).await;
    assert_eq!((stage.looks(), told(&mut news)), (2, vec!["a"]));
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_an_older_question_is_dropped() {
    let (lookout, mut news) = Lookout::new(LookoutConfig::default());
    let stage = Arc::new(Stage::default());
    lookout.watch("a", question("a.example"), Pace { every: TEN }, stage.clone());
    tokio::time::sleep(Duration::from_millis(500)).await;
    lookout.watch("a", question("b.example"), Pace { every: TEN }, stage.clone());
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(lookout.latest(&"a").is_none(), "the look for a.example ended, and counts for nothing");
    pass(2).await;
    assert_eq!(told(&mut news), ["a"]);
    assert!(lookout.latest(&"a").is_some());
}

#[tokio::test(start_paused = true)]
async fn keeps_to_its_concurrency_and_forgets() {
    let (lookout, mut news) = Lookout::new(LookoutConfig { concurrency: 1 });
    let stage = Arc::new(Stage::default());
    for key in ["a", "b", "c"] {
        lookout.watch(key, question("a.example"), Pace { every: Duration::from_secs(3600) }, stage.clone());
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
    let stage = Arc::new(Stage::default());
    lookout.watch("a", question("a.example"), Pace { every: Duration::from_secs(3600) }, stage.clone());
    pass(2).await;
    lookout.watch("a", question("a.example"), Pace { every: TEN }, stage.clone());
    pass(14).await;
    assert_eq!(stage.looks(), 2);
}
