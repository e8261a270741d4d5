//! Keeps files for signers that people run already: OpenDKIM, rspamd, Exim and others.
//!
//! ```text
//! KeySource ── KeySet ── Wanted::of(format) ── Keeper: keys, note, tables ── Tell ── … ── old ones go
//! ```
//!
//! At no moment does a table name a key file that is not there or holds another key, wherever a crash comes.

mod acknowledged;
mod args;
mod counts;
mod disk;
mod error;
mod format;
mod keeper;
mod pace;
mod tell;
mod wanted;
mod work;

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

pub use args::SyncArgs;
pub use disk::Owner;
pub use error::{SyncError, TellError};
pub use format::Format;
pub use tell::{ReloadSignal, Tell, Told};

use crate::metrics::Metrics;
use crate::signing::{KeySource, Reporter, report};
use pace::Pace;
use work::{UNKNOWN_AFTER, Work};

/// How many key events may wait.
const QUEUE: usize = 256;

/// What to keep, and where.
pub struct SyncOptions {
    /// The signer.
    pub format: Format,
    /// The directory of its files.
    pub directory: PathBuf,
    /// Who owns them.
    pub owner: Owner,
    /// How long old keys stay after the signer was told of new ones.
    pub grace: Duration,
    /// How it is told.
    pub tell: Tell,
    /// End after the files were written once, or fail after this long.
    pub once: Option<Duration>,
    /// Who says which keys are in use.
    pub reporter: Option<Reporter>,
    /// How long a signer is waited for that is not found.
    pub hold: Duration,
    /// The signer ends when this is stopped. Otherwise it goes on, and what was said of it stays said.
    pub ends_with_signer: bool,
}

/// Keeps the files up to date until `stop`; `ready` turns true when they are for the first time.
///
/// # Errors
/// [`SyncError`] where the directory cannot be used, or with `once` where the files could not be written.
pub async fn run(
    source: KeySource,
    options: SyncOptions,
    metrics: &Metrics,
    ready: watch::Sender<bool>,
    stop: impl Future<Output = ()>,
) -> Result<(), SyncError> {
    let (once, reporter, ends_with_signer) =
        (options.once, options.reporter.clone(), options.ends_with_signer);
    let from_files = matches!(source, KeySource::Directory { .. });
    let mut work = Work::open(options, from_files, metrics)?;
    let (send, mut events) = mpsc::channel(QUEUE);
    let mut source = std::pin::pin!(source.follow(send));
    let mut stop = std::pin::pin!(stop);
    let mut report = std::pin::pin!(report(reporter.as_ref()));
    let began = work.began;
    let mut pace = Pace::default();
    let mut unknown = reporter.as_ref().map(|_| began + UNKNOWN_AFTER);
    loop {
        let timer = async {
            match pace.next().into_iter().chain(once.map(|bound| began + bound)).chain(unknown).min() {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = &mut source => return Ok(()),
            () = &mut report => return Ok(()),
            () = &mut stop => {
                if let Some(reporter) = &reporter {
                    reporter.end(!ends_with_signer).await;
                }
                return Ok(());
            }
            Some(event) = events.recv() => {
                work.take(event);
                pace.news();
                continue;
            }
            () = timer => {}
        }
        if let Some(bound) = once.filter(|bound| began.elapsed() >= *bound) {
            return Err(SyncError::NotComplete(bound));
        }
        unknown = unknown.filter(|at| *at > Instant::now());
        match work.settle().await {
            Ok(next) => {
                pace.done(next);
                if work.knows_all() {
                    ready.send_replace(true);
                    if once.is_some() && work.has_told() {
                        return Ok(());
                    }
                }
            }
            Err(error) => {
                let pause = pace.failed();
                work.counts.failures.inc();
                tracing::error!(%error, "the signer's files are not up to date; trying again in {pause:?}");
            }
        }
    }
}

#[cfg(test)]
mod tests;
