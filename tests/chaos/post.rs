//! Mail under way: each message is verified by both verifiers on arrival, and again at any time up to the drain.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::sleep_until;

use crate::Fallible;
use crate::stage::DRAIN;
use crate::verifiers::{Pool, Verdict};

/// How soon a receiver tries again after a temporary failure.
const AGAIN: Duration = Duration::from_millis(300);
/// The longest delay of a message: the drain, less the time that verification itself may take.
pub const LATEST: Duration = DRAIN.saturating_sub(Duration::from_millis(700));

/// A signed message.
pub struct Message {
    pub file: PathBuf,
    /// Selector, domain and serial, for messages to people.
    pub how: String,
    pub at: Instant,
}

/// What came of all messages.
#[derive(Default)]
pub struct Tally {
    /// Passed all four verifications.
    pub verified: AtomicU64,
    /// Verified too late, or DNS gave no answer for all the time: proves nothing.
    pub missed: AtomicU64,
    /// In words.
    pub unverifiable: Mutex<Vec<String>>,
}

/// The post.
pub struct Post {
    pools: Arc<[(&'static str, Pool); 2]>,
    tally: Arc<Tally>,
    under_way: JoinSet<()>,
    began: Instant,
}

enum Check {
    Passed,
    Missed,
    Unverifiable(String),
}

impl Post {
    pub fn new(resolver: SocketAddr, began: Instant) -> Fallible<Self> {
        let pools = Arc::new(Pool::both(resolver)?);
        Ok(Self { pools, tally: Arc::default(), under_way: JoinSet::new(), began })
    }

    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Takes a message on; it is verified at once, and again after `late` (at most [`LATEST`]).
    pub fn take(&mut self, message: Message, late: Duration) {
        while self.under_way.try_join_next().is_some() {}
        let (pools, tally, began) = (self.pools.clone(), self.tally.clone(), self.began);
        self.under_way.spawn(async move {
            let checks = [Duration::ZERO, late].into_iter().flat_map(|delay| {
                let message = &message;
                pools.iter().map(move |(name, pool)| check(name, pool, message, delay))
            });
            let all = join_all(checks).await;
            let mut unverifiable: Vec<String> = Vec::new();
            let mut missed = false;
            for check in all {
                match check {
                    Check::Passed => {}
                    Check::Missed => missed = true,
                    Check::Unverifiable(why) => unverifiable.push(why),
                }
            }
            if !unverifiable.is_empty() {
                let at = message.at.duration_since(began).as_secs_f64();
                let words = format!("signed at {at:.1}s with {}: {}", message.how, unverifiable.join("; "));
                tally.unverifiable.lock().push(words);
                return;
            }
            let counter = if missed { &tally.missed } else { &tally.verified };
            counter.fetch_add(1, Ordering::Relaxed);
            let _ = std::fs::remove_file(&message.file);
        });
    }

    /// Waits until every message has arrived.
    pub async fn end(&mut self) {
        while self.under_way.join_next().await.is_some() {}
    }
}

async fn check(name: &str, pool: &Pool, message: &Message, delay: Duration) -> Check {
    sleep_until((message.at + delay).into()).await;
    loop {
        let verdict = pool.verify(&message.file).await;
        let age = message.at.elapsed();
        match verdict {
            Ok(Verdict::Pass) => return Check::Passed,
            Ok(Verdict::Fail(why)) if age <= DRAIN => {
                return Check::Unverifiable(format!("{name} after {:.2}s: {why}", age.as_secs_f64()));
            }
            Ok(Verdict::Temporary) if age + AGAIN < DRAIN => tokio::time::sleep(AGAIN).await,
            Ok(Verdict::Fail(_) | Verdict::Temporary) => return Check::Missed,
            Err(error) => return Check::Unverifiable(error.to_string()),
        }
    }
}
