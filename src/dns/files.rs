//! The files that options name: read at the start, and again when they have changed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::interval;
use zeroize::Zeroizing;

use super::cookies::Cookies;
use super::serving::Serving;
use super::state;
use super::store::Store;
use super::tsig::Keys;

/// How often files are looked at: a mounted Secret follows its object within a minute or so.
const LOOK: Duration = Duration::from_secs(5);

/// Why a file cannot be used. What is in it is never part of it.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why it cannot be read.
        source: std::io::Error,
    },
    #[error("{}: {source}", path.display())]
    Secrets {
        /// The file.
        path: PathBuf,
        /// What is wrong with it: which line, and how.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

fn read(path: &Path) -> Result<Zeroizing<String>, FileError> {
    let text = std::fs::read_to_string(path);
    text.map(Zeroizing::new).map_err(|source| FileError::Read { path: path.to_owned(), source })
}

fn secrets<T, E>(path: &Path, parse: impl Fn(&str) -> Result<T, E>) -> Result<T, FileError>
where
    E: std::error::Error + Send + Sync + 'static,
{
    parse(&read(path)?).map_err(|fault| FileError::Secrets { path: path.to_owned(), source: fault.into() })
}

/// Reads cookie secrets.
///
/// # Errors
/// [`FileError`] names the file and the line.
pub fn cookies(path: &Path) -> Result<Cookies, FileError> {
    secrets(path, Cookies::parse)
}

/// Reads transfer keys.
///
/// # Errors
/// [`FileError`] names the file and the line.
pub fn keys(path: &Path) -> Result<Keys, FileError> {
    secrets(path, Keys::parse)
}

/// The zones of the last run, if there are any that can be used.
#[must_use]
pub fn last_zones(path: &Path) -> Option<Store> {
    let begin = Instant::now();
    match state::load(path) {
        Ok(Some(store)) => {
            let (zones, records) = store.snapshot().size();
            let took = begin.elapsed();
            tracing::info!(path = %path.display(), zones, records, ?took, "the zones of the last run are loaded");
            Some(store)
        }
        Ok(None) => None,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the zones of the last run cannot be used");
            None
        }
    }
}

/// Takes up files that have changed, until dropped. One that cannot be used is logged, and what was before goes on.
pub async fn reload(serving: &Serving, cookie_secrets: Option<&Path>, transfer_keys: Option<&Path>) {
    let cookies = follow(cookie_secrets, |path| {
        serving.cookies.store(Arc::new(cookies(path)?));
        Ok(())
    });
    let keys = follow(transfer_keys, |path| {
        serving.keys.store(Arc::new(keys(path)?));
        Ok(())
    });
    tokio::join!(cookies, keys);
}

async fn follow(path: Option<&Path>, take: impl Fn(&Path) -> Result<(), FileError>) {
    let Some(path) = path else { return std::future::pending().await };
    let mut last = read(path).ok();
    let mut ticks = interval(LOOK);
    loop {
        ticks.tick().await;
        let Ok(text) = read(path) else { continue };
        if last.as_ref() == Some(&text) {
            continue;
        }
        match take(path) {
            Ok(()) => tracing::info!(path = %path.display(), "what the file says now is in use"),
            Err(error) => tracing::warn!(%error, "what the file said before stays in use"),
        }
        last = Some(text);
    }
}
