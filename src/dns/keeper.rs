//! Saves the zones when they have changed, not too often.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::state::save;
use super::store::{Sets, Store};
use super::wire_name::WireName;

/// How long changes are gathered at least.
const GATHER: Duration = Duration::from_secs(1);
/// How long to wait for the end of a change, and how often.
const WAIT: (Duration, usize) = (Duration::from_millis(20), 250);
/// At most this part of the time goes into saving.
const SHARE: u32 = 50;

/// Saves to one file.
#[derive(Debug)]
pub struct Keeper {
    path: PathBuf,
    store: Arc<Mutex<Store>>,
    changed: Notify,
    /// There is something that is not saved.
    unsaved: AtomicBool,
}

impl Keeper {
    /// Saves what `store` holds to `path`.
    #[must_use]
    pub fn new(path: PathBuf, store: Arc<Mutex<Store>>) -> Self {
        Self { path, store, changed: Notify::new(), unsaved: AtomicBool::new(false) }
    }

    /// Says that there is something to save.
    pub fn changed(&self) {
        self.unsaved.store(true, Ordering::Relaxed);
        self.changed.notify_one();
    }

    /// Saves after changes, until dropped.
    pub async fn run(self: Arc<Self>) {
        loop {
            self.changed.notified().await;
            sleep(GATHER).await;
            let took = self.save().await;
            sleep(took * SHARE).await;
        }
    }

    /// Saves what is not saved yet: before that there is nothing whole to save.
    pub async fn finish(self: &Arc<Self>) {
        if self.unsaved.load(Ordering::Relaxed) {
            self.save().await;
        }
    }

    /// Saves now; returns how long it took. A failure is logged, and the next change tries again.
    async fn save(self: &Arc<Self>) -> Duration {
        let begin = Instant::now();
        self.unsaved.store(false, Ordering::Relaxed);
        let keeper = Arc::clone(self);
        let saved = tokio::task::spawn_blocking(move || {
            let (sets, serials) = keeper.held();
            save(&keeper.path, &sets, &serials)
        });
        match saved.await {
            Ok(Ok(())) => tracing::debug!(path = %self.path.display(), "zones saved"),
            Ok(Err(error)) => {
                self.unsaved.store(true, Ordering::Relaxed);
                tracing::warn!(path = %self.path.display(), %error, "the zones cannot be saved");
            }
            Err(error) => tracing::error!(%error, "saving the zones has ended badly"),
        }
        begin.elapsed()
    }

    /// What is held, with serials that belong to it: not in the middle of a change.
    fn held(&self) -> (Sets, Vec<(WireName, u32)>) {
        let (pause, times) = WAIT;
        for _ in 0..times {
            if self.store.lock().is_committed() {
                break;
            }
            thread::sleep(pause);
        }
        let store = self.store.lock();
        let zones = store.snapshot().zones();
        (store.sets().clone(), zones.map(|zone| (zone.name.clone(), zone.serial)).collect())
    }
}
