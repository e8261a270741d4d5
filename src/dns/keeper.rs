//! Saves the zones when they have changed, not too often.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::state::save;
use super::store::Store;

/// How long changes are gathered at least.
const GATHER: Duration = Duration::from_secs(1);
/// At most this part of the time goes into saving.
const SHARE: u32 = 50;

/// Saves to one file.
#[derive(Debug)]
pub struct Keeper {
    path: PathBuf,
    store: Arc<Mutex<Store>>,
    changed: Notify,
}

impl Keeper {
    /// Saves what `store` holds to `path`.
    #[must_use]
    pub fn new(path: PathBuf, store: Arc<Mutex<Store>>) -> Self {
        Self { path, store, changed: Notify::new() }
    }

    /// Says that there is something to save.
    pub fn changed(&self) {
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

    /// Saves now; returns how long it took. A failure is logged, and the next change tries again.
    pub async fn save(self: &Arc<Self>) -> Duration {
        let begin = Instant::now();
        let keeper = Arc::clone(self);
        let saved = tokio::task::spawn_blocking(move || {
            let (sets, serials) = {
                let store = keeper.store.lock();
                let zones = store.snapshot().zones();
                (store.sets().clone(), zones.map(|zone| (zone.name.clone(), zone.serial)).collect::<Vec<_>>())
            };
            save(&keeper.path, &sets, &serials)
        });
        match saved.await {
            Ok(Ok(())) => tracing::debug!(path = %self.path.display(), "zones saved"),
            Ok(Err(error)) => {
                tracing::warn!(path = %self.path.display(), %error, "the zones cannot be saved")
            }
            Err(error) => tracing::error!(%error, "saving the zones has ended badly"),
        }
        begin.elapsed()
    }
}
