//! Keys in a directory: read at once, then whenever it changes, and all of it every now and then.

use std::future::pending;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, sleep_until};

use super::Keys;
use super::inotify::{Changed, Watcher};
use crate::signing::{KeyDirError, KeyStore};

/// Changes come in groups; how long to wait for the rest of one.
const GROUP: Duration = Duration::from_millis(4);
/// How often a directory is looked at that cannot be read, or is not there yet.
const RETRY: Duration = Duration::from_secs(1);

/// Keeps the keys as they are in the directory, for ever.
pub async fn follow_directory(root: &Path, poll: Duration, keys: &Arc<Keys>) {
    let mut told = String::new();
    let mut watcher = None;
    loop {
        // Watched first, then read: no change falls in between.
        if watcher.is_none() {
            watcher = start(root);
        }
        let next = match read(root, None, keys).await {
            Ok(()) => {
                told.clear();
                watch_all(&mut watcher, keys);
                // A directory that was just made may have been filled before it was watched.
                Instant::now() + if keys.has_unreadable() { RETRY.min(poll) } else { poll }
            }
            Err(error) => {
                let error = error.to_string();
                if error != told {
                    tracing::error!("the key directory cannot be used: {error}");
                    told = error;
                }
                Instant::now() + RETRY.min(poll)
            }
        };
        until(next, root, &mut watcher, keys).await;
    }
}

/// Reads what changes until it is time to read everything.
async fn until(next: Instant, root: &Path, watcher: &mut Option<Watcher>, keys: &Arc<Keys>) {
    loop {
        let changed = tokio::select! {
            () = sleep_until(next) => return,
            changed = changed(watcher.as_ref()) => changed,
        };
        match changed {
            Ok(Changed::All) => return,
            Ok(Changed::Some(places)) => {
                let places: Vec<_> = places.into_iter().collect();
                // One that was just made is watched before it is read.
                if let Some(watcher) = watcher {
                    watcher.also(&places);
                }
                if read(root, Some(places), keys).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the kernel does not tell of changes any more; keys are read every --poll");
                *watcher = None;
                sleep_until(next).await;
                return;
            }
        }
    }
}

async fn changed(watcher: Option<&Watcher>) -> io::Result<Changed> {
    let Some(watcher) = watcher else { return pending().await };
    let mut all = watcher.changed().await?;
    let end = Instant::now() + GROUP;
    loop {
        let more = tokio::select! {
            () = sleep_until(end) => return Ok(all),
            more = watcher.changed() => more?,
        };
        match (&mut all, more) {
            (Changed::Some(places), Changed::Some(more)) => places.extend(more),
            _ => all = Changed::All,
        }
    }
}

fn start(root: &Path) -> Option<Watcher> {
    let watcher = Watcher::new(root);
    if let Err(error) = &watcher {
        tracing::debug!(%error, "watching {}", root.display());
    }
    watcher.ok()
}

fn watch_all(watcher: &mut Option<Watcher>, keys: &Keys) {
    let Some(active) = watcher else { return };
    if let Err(error) = active.watch(keys.last().places()) {
        tracing::warn!(%error, "not every directory of keys can be watched (fs.inotify.max_user_watches); \
            changes are found every --poll instead");
    }
}

/// Reads some places again, or everything.
async fn read(root: &Path, some: Option<Vec<Arc<Path>>>, keys: &Arc<Keys>) -> Result<(), KeyDirError> {
    let (root, older) = (root.to_owned(), keys.last());
    let store = spawn_blocking(move || match some {
        // The place itself is the directory of one domain.
        Some(places) if !places.iter().any(|place| **place == *root) && !older.is_empty() => {
            Ok::<KeyStore, KeyDirError>(older.reload_some(&places))
        }
        _ => older.reload(&root),
    });
    match store.await {
        Ok(store) => {
            keys.exchange(store?);
            keys.read();
        }
        // It was cut off: the process ends.
        Err(_) => sleep(RETRY).await,
    }
    Ok(())
}
