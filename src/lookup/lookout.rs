//! Keeps looking at many domains, each at its own pace, and tells whose answers changed.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use futures::channel::mpsc;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::looker::Looker;
use crate::model::sighting::{Observation, Outcome, Question, ServerAnswer, ServerRole};

/// Something that looks once: DNS, or in tests a stand-in for it.
pub trait Look: Send + Sync + 'static {
    /// Looks once.
    fn look<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, Observation>;
}

impl Look for Looker {
    fn look<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, Observation> {
        Box::pin(self.look(question, Timestamp::now()))
    }
}

/// How the lookout works.
#[derive(Debug, Clone)]
pub struct LookoutConfig {
    /// Most looks under way at a time.
    pub concurrency: usize,
}

impl Default for LookoutConfig {
    fn default() -> Self {
        Self { concurrency: 64 }
    }
}

/// How often to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// From the end of one look to the next, give or take 10 %.
    pub every: Duration,
}

struct Watched {
    question: Question,
    pace: Pace,
    looker: Arc<dyn Look>,
    latest: Option<Arc<Observation>>,
    /// When the next look is due; `None` while one is under way.
    due: Option<Instant>,
    /// A look was asked for: tell of its end even if nothing changed.
    woken: bool,
    /// Tells looks for an older question from those for the present one.
    round: u64,
}

struct State<K> {
    watched: HashMap<K, Watched>,
    /// What is due when. Those never looked at come first (`false` sorts before `true`).
    queue: BTreeMap<(Instant, u64), K>,
    count: u64,
}

struct Shared<K> {
    state: Mutex<State<K>>,
    changed: Notify,
}

/// Keeps looking. Its task ends when the last handle is dropped.
pub struct Lookout<K> {
    shared: Arc<Shared<K>>,
    driver: tokio::task::JoinHandle<()>,
}

impl<K> Drop for Lookout<K> {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl<K: Clone + Eq + Hash + Send + Sync + 'static> Lookout<K> {
    /// Starts a lookout. The stream gives the key of each domain whose answers changed.
    #[must_use]
    pub fn new(config: LookoutConfig) -> (Self, mpsc::UnboundedReceiver<K>) {
        let (tell, told) = mpsc::unbounded();
        let state = State { watched: HashMap::new(), queue: BTreeMap::new(), count: 0 };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Notify::new() });
        let driver = tokio::spawn(drive(shared.clone(), config, tell));
        (Self { shared, driver }, told)
    }

    /// Watches a domain, or changes what is watched for it. A new question is looked at next.
    pub fn watch(&self, key: K, question: Question, pace: Pace, looker: Arc<dyn Look>) {
        let mut state = self.shared.state.lock();
        let now = Instant::now();
        if let Some(watched) = state.watched.get_mut(&key) {
            let same = watched.question == question;
            let sooner = pace.every < watched.pace.every;
            watched.pace = pace;
            watched.looker = looker;
            if same && !sooner {
                return;
            }
            if !same {
                watched.question = question;
                watched.latest = None;
                watched.round += 1;
            }
            let due = if same { now + spread(pace.every) } else { now };
            state.schedule(key, due);
        } else {
            let watched = Watched { question, pace, looker, latest: None, due: None, woken: false, round: 0 };
            state.watched.insert(key.clone(), watched);
            state.schedule(key, now);
        }
        drop(state);
        self.shared.changed.notify_one();
    }

    /// The last observation for the question that is watched.
    #[must_use]
    pub fn latest(&self, key: &K) -> Option<Arc<Observation>> {
        self.shared.state.lock().watched.get(key).and_then(|w| w.latest.clone())
    }

    /// Looks as soon as possible, and tells of it even if nothing changed.
    pub fn wake(&self, key: &K) {
        let mut state = self.shared.state.lock();
        let Some(watched) = state.watched.get_mut(key) else { return };
        watched.woken = true;
        if watched.due.is_some() {
            state.schedule(key.clone(), Instant::now());
        }
        drop(state);
        self.shared.changed.notify_one();
    }

    /// Looks no more.
    pub fn forget(&self, key: &K) {
        let mut state = self.shared.state.lock();
        state.watched.remove(key);
    }
}

impl<K: Clone + Eq + Hash> State<K> {
    fn schedule(&mut self, key: K, due: Instant) {
        let Some(watched) = self.watched.get_mut(&key) else { return };
        watched.due = Some(due);
        self.count += 1;
        self.queue.insert((due, self.count), key);
    }

    /// Takes the next key that is due, with what to look for.
    fn take_due(&mut self, now: Instant) -> Option<(K, u64, Question, Arc<dyn Look>)> {
        loop {
            let (at, count) = *self.queue.first_key_value()?.0;
            if at > now {
                return None;
            }
            let key = self.queue.remove(&(at, count))?;
            // An entry that was overtaken by a later schedule says nothing any more.
            let Some(watched) = self.watched.get_mut(&key) else { continue };
            if watched.due != Some(at) {
                continue;
            }
            watched.due = None;
            return Some((key, watched.round, watched.question.clone(), watched.looker.clone()));
        }
    }
}

async fn drive<K: Clone + Eq + Hash + Send + Sync + 'static>(
    shared: Arc<Shared<K>>,
    config: LookoutConfig,
    tell: mpsc::UnboundedSender<K>,
) {
    let mut under_way = FuturesUnordered::new();
    loop {
        while under_way.len() < config.concurrency.max(1) {
            let Some((key, round, question, looker)) = shared.state.lock().take_due(Instant::now()) else {
                break;
            };
            under_way.push(async move {
                let seen = looker.look(&question).await;
                (key, round, seen)
            });
        }
        let next = shared.state.lock().queue.first_key_value().map(|((at, _), _)| *at);
        let full = under_way.len() >= config.concurrency.max(1);
        let pause = async {
            match next {
                Some(at) if !full => tokio::time::sleep_until(at).await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            Some((key, round, seen)) = under_way.next(), if !under_way.is_empty() => {
                if shared.state.lock().finish(&key, round, seen) && tell.unbounded_send(key).is_err() {
                    return;
                }
            }
            () = pause => {}
            () = shared.changed.notified() => {}
        }
    }
}

impl<K: Clone + Eq + Hash> State<K> {
    /// Stores what a look found. Returns whether to tell of it.
    fn finish(&mut self, key: &K, round: u64, seen: Observation) -> bool {
        let Some(watched) = self.watched.get_mut(key) else { return false };
        if watched.round != round {
            return false;
        }
        let news = watched.latest.as_ref().is_none_or(|before| differs(before, &seen)) || watched.woken;
        watched.woken = false;
        watched.latest = Some(Arc::new(seen));
        if watched.due.is_none() {
            let due = Instant::now() + spread(watched.pace.every);
            self.schedule(key.clone(), due);
        }
        news
    }
}

/// Whether two observations say different things. That a resolver's TTLs count down is nothing new.
fn differs(before: &Observation, after: &Observation) -> bool {
    let pairs = before.slots.0.iter().zip(&after.slots.0);
    pairs.into_iter().any(|(a, b)| {
        let lists = [
            (&a.alias, &b.alias),
            (&a.alias_txt, &b.alias_txt),
            (&a.doubled, &b.doubled),
            (&a.without_underscore, &b.without_underscore),
            (&a.beside, &b.beside),
            (&a.target_txt, &b.target_txt),
            (&a.domain_absent, &b.domain_absent),
        ];
        a.chain != b.chain || lists.into_iter().any(|(a, b)| plain(a) != plain(b))
    })
}

fn plain(answers: &[ServerAnswer]) -> Vec<ServerAnswer> {
    let without_ttl = |answer: &ServerAnswer| {
        let mut answer = answer.clone();
        if answer.role == ServerRole::Recursive {
            match &mut answer.outcome {
                Outcome::Cname { ttl, .. } | Outcome::OddCname { ttl, .. } | Outcome::Txt { ttl, .. } => {
                    *ttl = 0
                }
                Outcome::NoData { negative_ttl } | Outcome::NxDomain { negative_ttl } => *negative_ttl = 0,
                Outcome::Failed(_) => {}
            }
        }
        answer
    };
    let mut plain: Vec<ServerAnswer> = answers.iter().map(without_ttl).collect();
    plain.sort_by_key(|a| a.address);
    plain
}

fn spread(pause: Duration) -> Duration {
    let random = f64::from(getrandom::u32().unwrap_or(u32::MAX / 2)) / f64::from(u32::MAX);
    pause.mul_f64(0.9 + 0.2 * random)
}

#[cfg(test)]
mod tests;
