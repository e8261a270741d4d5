//! Keeps looking at many domains, each at its own pace, and tells whose answers changed.

mod news;
mod pace;
mod queue;
#[cfg(test)]
mod tests;
mod views;

use std::collections::HashMap;
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
use crate::model::sighting::{Observation, Question};

use news::{differs, moved};
pub use pace::Pace;
use pace::Rhythm;
use queue::{Lane, Queue, Ticket};
use views::Views;

/// Something that looks once: DNS, or in tests a stand-in for it.
pub trait Look: Send + Sync + 'static {
    /// Looks once.
    fn look<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, Observation>;

    /// Looks once, ahead of looks that nobody waits for.
    fn look_first<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, Observation> {
        self.look(question)
    }
}

/// A looker whose looks bear the times of a clock.
pub struct Timed<C> {
    looker: Arc<Looker>,
    clock: C,
}

impl<C: Fn() -> Timestamp + Send + Sync + 'static> Timed<C> {
    /// The looks of this looker, with the times that `clock` tells.
    pub const fn new(looker: Arc<Looker>, clock: C) -> Self {
        Self { looker, clock }
    }
}

impl<C: Fn() -> Timestamp + Send + Sync + 'static> Look for Timed<C> {
    fn look<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, Observation> {
        Box::pin(self.looker.look(question, (self.clock)(), false))
    }

    fn look_first<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, Observation> {
        Box::pin(self.looker.look(question, (self.clock)(), true))
    }
}

/// How the lookout works.
#[derive(Debug, Clone)]
pub struct LookoutConfig {
    /// Most looks under way at a time. A quarter is kept for first looks and for those that were asked for.
    pub concurrency: usize,
}

impl Default for LookoutConfig {
    fn default() -> Self {
        Self { concurrency: 64 }
    }
}

impl LookoutConfig {
    fn all(&self) -> usize {
        self.concurrency.max(1)
    }

    fn routine(&self) -> usize {
        (self.all() - self.all() / 4).max(1)
    }
}

struct Watched {
    question: Question,
    pace: Pace,
    rhythm: Rhythm,
    looker: Arc<dyn Look>,
    latest: Option<Arc<Observation>>,
    views: Views,
    /// The place in the queue; `None` while a look is under way.
    ticket: Option<Ticket>,
    /// A look was asked for: tell of its end even if nothing changed.
    woken: bool,
    /// The same, while a look was under way already.
    woken_late: bool,
    /// Looks that were asked for and found nothing new come ever slower: whoever asks may never be content.
    patience: Option<Patience>,
    /// Who asked last, as [`Lookout::asked`] was told.
    asked: Option<String>,
    /// Tells looks for an older question from those for the present one.
    round: u64,
    /// Whose turn it takes.
    group: u64,
}

/// How long those who ask for looks have to wait.
#[derive(Debug, Clone, Copy)]
struct Patience {
    pause: Duration,
    until: Instant,
}

impl Watched {
    /// The earliest moment of a look that is asked for now.
    fn soonest(&self, now: Instant) -> Instant {
        self.patience.map_or(now, |patience| patience.until.max(now))
    }

    fn lane(&self) -> Lane {
        if self.latest.is_none() || self.woken { Lane::First } else { Lane::Routine }
    }
}

struct State<K> {
    watched: HashMap<K, Watched>,
    queue: Queue<K>,
    /// The last round that was begun for any key: what is forgotten and watched again is in a new one.
    round: u64,
}

struct Shared<K> {
    state: Mutex<State<K>>,
    changed: Notify,
    group: Box<dyn Fn(&K) -> u64 + Send + Sync>,
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
        Self::fair(config, |_| 0)
    }

    /// Starts a lookout that serves groups of keys, such as namespaces, in turn: ten thousand domains of one do not
    /// keep the one of another waiting.
    #[must_use]
    pub fn fair(
        config: LookoutConfig,
        group: impl Fn(&K) -> u64 + Send + Sync + 'static,
    ) -> (Self, mpsc::UnboundedReceiver<K>) {
        let (tell, told) = mpsc::unbounded();
        let state = State { watched: HashMap::new(), queue: Queue::default(), round: 0 };
        let group = Box::new(group);
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Notify::new(), group });
        let driver = tokio::spawn(drive(shared.clone(), config, tell));
        (Self { shared, driver }, told)
    }

    /// Watches a domain, or changes what is watched for it. A new question is looked at next.
    pub fn watch(&self, key: K, question: Question, pace: Pace, looker: Arc<dyn Look>) {
        let mut state = self.shared.state.lock();
        let now = Instant::now();
        state.round += 1;
        let round = state.round;
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
                watched.round = round;
            }
            watched.rhythm = Rhythm::new(now);
            // Of a look that is under way for the same question the end is soon enough.
            if same && watched.ticket.is_none() {
                return;
            }
            let due = if same { now + pace::spread(pace.every) } else { now };
            state.schedule(&key, due);
        } else {
            let watched = Watched {
                question,
                pace,
                rhythm: Rhythm::new(now),
                looker,
                latest: None,
                views: Views::default(),
                ticket: None,
                woken: false,
                woken_late: false,
                patience: None,
                asked: None,
                round,
                group: (self.shared.group)(&key),
            };
            state.watched.insert(key.clone(), watched);
            state.schedule(&key, now);
        }
        drop(state);
        self.shared.changed.notify_one();
    }

    /// The last observation for the question that is watched.
    #[must_use]
    pub fn latest(&self, key: &K) -> Option<Arc<Observation>> {
        self.shared.state.lock().watched.get(key).and_then(|w| w.latest.clone())
    }

    /// Looks as soon as possible, and tells of it even if nothing changed. Again and again it is done ever slower, down to
    /// the pace at which is looked anyway: a clock that was set back makes every look seem too old.
    pub fn wake(&self, key: &K) {
        let mut state = self.shared.state.lock();
        let now = Instant::now();
        let Some(watched) = state.watched.get_mut(key) else { return };
        watched.rhythm = Rhythm::new(now);
        if watched.ticket.is_some() {
            watched.woken = true;
            let due = watched.soonest(now);
            state.schedule(key, due);
        } else {
            watched.woken_late = true;
        }
        drop(state);
        self.shared.changed.notify_one();
    }

    /// As [`Lookout::wake`], once for each different `request`: a person asks by leaving a mark, which stays.
    pub fn asked(&self, key: &K, request: &str) {
        let mut state = self.shared.state.lock();
        let Some(watched) = state.watched.get_mut(key) else { return };
        if watched.asked.as_deref() == Some(request) {
            return;
        }
        watched.asked = Some(request.to_owned());
        watched.patience = None;
        // The first look is due already, and answers it.
        let first = watched.latest.is_none();
        drop(state);
        if !first {
            self.wake(key);
        }
    }

    /// Looks no more.
    pub fn forget(&self, key: &K) {
        let mut state = self.shared.state.lock();
        if let Some(Watched { ticket: Some(ticket), .. }) = state.watched.remove(key) {
            state.queue.remove(ticket);
        }
    }
}

/// What to look for next.
struct Due<K> {
    key: K,
    round: u64,
    question: Question,
    looker: Arc<dyn Look>,
    lane: Lane,
    at: Instant,
}

impl<K: Clone + Eq + Hash> State<K> {
    fn schedule(&mut self, key: &K, due: Instant) {
        let Some(watched) = self.watched.get_mut(key) else { return };
        if let Some(old) = watched.ticket.take() {
            self.queue.remove(old);
        }
        watched.ticket = Some(self.queue.push(key.clone(), due, watched.lane(), watched.group));
    }

    /// Takes the next key whose turn it is, with what to look for.
    fn take(&mut self, now: Instant, routine: bool) -> Option<Due<K>> {
        loop {
            let (key, lane) = self.queue.pop(now, routine)?;
            let Some(watched) = self.watched.get_mut(&key) else { continue };
            watched.ticket = None;
            return Some(Due {
                key,
                round: watched.round,
                question: watched.question.clone(),
                looker: watched.looker.clone(),
                lane,
                at: now,
            });
        }
    }

    /// Stores what a look found. Returns whether to tell of it.
    fn finish(&mut self, key: &K, round: u64, began: Instant, mut seen: Observation) -> bool {
        let now = Instant::now();
        let Some(watched) = self.watched.get_mut(key) else { return false };
        // The answer to an older question; the present one was given its own place when it came.
        if watched.round != round {
            return false;
        }
        let changed = watched.latest.as_ref().is_none_or(|before| differs(before, &seen));
        let news = changed || watched.woken;
        watched.patience = (watched.woken && !changed).then(|| {
            let pause = watched.patience.map_or(pace::FIRST, |before| before.pause * 2);
            let pause = pause.min(watched.pace.every.max(pace::FIRST));
            Patience { pause, until: now + pause }
        });
        // A server that fails now and then is news to people, but nothing that will be over soon.
        if watched.latest.as_ref().is_none_or(|before| moved(before, &seen)) {
            watched.rhythm = Rhythm::new(began);
        }
        // Who asked while this look was under way may know of something newer.
        watched.woken = std::mem::take(&mut watched.woken_late);
        let pause = watched.rhythm.pause(watched.pace, &watched.question, &seen, now);
        for (slot, wanted) in seen.slots.0.iter_mut().zip(&watched.question.slots.0) {
            slot.other_view = watched.views.look(wanted, slot, now);
        }
        for slot in &mut seen.slots.0 {
            slot.again = Some(pause.promise);
        }
        watched.latest = Some(Arc::new(seen));
        if watched.ticket.is_none() {
            let due = if watched.woken { watched.soonest(now) } else { now + pace::spread(pause.time) };
            self.schedule(key, due);
        }
        news
    }
}

async fn drive<K: Clone + Eq + Hash + Send + Sync + 'static>(
    shared: Arc<Shared<K>>,
    config: LookoutConfig,
    tell: mpsc::UnboundedSender<K>,
) {
    let mut under_way = FuturesUnordered::new();
    let mut routine = 0_usize;
    loop {
        let now = Instant::now();
        while under_way.len() < config.all() {
            let Some(due) = shared.state.lock().take(now, routine < config.routine()) else { break };
            routine += usize::from(due.lane == Lane::Routine);
            under_way.push(async move {
                let Due { key, round, question, looker, lane, at } = due;
                let seen = match lane {
                    Lane::First => looker.look_first(&question).await,
                    Lane::Routine => looker.look(&question).await,
                };
                (key, round, lane, at, seen)
            });
        }
        // Those that are due wait for the end of another; the others for their time.
        let next = shared.state.lock().queue.next_after(now);
        let pause = async {
            match next {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some((key, round, lane, at, seen)) = under_way.next(), if !under_way.is_empty() => {
                routine -= usize::from(lane == Lane::Routine);
                if shared.state.lock().finish(&key, round, at, seen) && tell.unbounded_send(key).is_err() {
                    return;
                }
            }
            () = pause => {}
            () = shared.changed.notified() => {}
        }
    }
}
