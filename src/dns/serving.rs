//! What all sockets share.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use tokio::sync::Semaphore;

use super::cookies::Cookies;
use super::limit::Rates;
use super::snapshot::Snapshot;
use super::tally::Tallies;
use super::tsig::Keys;

/// Most transfers at a time; others wait.
const TRANSFERS: usize = 4;

/// What is served, and how. Its parts are swapped as a whole; reading them takes no lock.
#[derive(Debug)]
pub struct Serving {
    /// Everything that is served.
    pub snapshot: ArcSwap<Snapshot>,
    /// Makes and checks cookies.
    pub cookies: ArcSwap<Cookies>,
    /// The keys with which zones may be fetched.
    pub keys: ArcSwap<Keys>,
    /// Limits of answers over UDP.
    pub rates: Rates,
    /// What has been asked and told.
    pub tallies: Tallies,
    /// One permit for each transfer at a time.
    pub transfers: Semaphore,
}

impl Serving {
    /// Serves a snapshot.
    #[must_use]
    pub fn new(snapshot: Snapshot, cookies: Cookies, rates: Rates) -> Self {
        Self {
            snapshot: ArcSwap::from_pointee(snapshot),
            cookies: ArcSwap::from_pointee(cookies),
            keys: ArcSwap::default(),
            rates,
            tallies: Tallies::default(),
            transfers: Semaphore::new(TRANSFERS),
        }
    }

    /// Serves another snapshot from now on.
    pub fn publish(&self, snapshot: Snapshot) {
        self.snapshot.store(Arc::new(snapshot));
    }
}

/// Seconds since 1970, as cookies and signatures count them.
#[must_use]
pub fn seconds_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
