//! How following the API server goes, for metrics.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::serving::seconds_now;

/// Times in seconds since 1970; 0 is never.
#[derive(Debug, Default)]
pub struct Progress {
    connected: AtomicBool,
    listed: AtomicU64,
    published: AtomicU64,
}

impl Progress {
    /// The watch gave something, or failed.
    pub fn heard(&self, well: bool) {
        self.connected.store(well, Ordering::Relaxed);
    }

    /// A list was whole.
    pub fn listed(&self) {
        self.listed.store(seconds_now(), Ordering::Relaxed);
    }

    /// A change is served.
    pub fn published(&self) {
        self.published.store(seconds_now(), Ordering::Relaxed);
    }

    /// Whether the last that was heard of the API server was no failure.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    /// When the last list was whole.
    #[must_use]
    pub fn last_list(&self) -> u64 {
        self.listed.load(Ordering::Relaxed)
    }

    /// When the last change was served.
    #[must_use]
    pub fn last_change(&self) -> u64 {
        self.published.load(Ordering::Relaxed)
    }
}
