//! Keeps files for signers that people run already: OpenDKIM, rspamd, Exim and others.
//!
//! ```text
//! KeySource ── KeySet ── Wanted::of(format) ── Keeper: keys, note, tables ── Tell ── … ── old ones go
//! ```
//!
//! At no moment does a table name a key file that is not there or holds another key, wherever a crash comes.

mod args;
mod counts;
mod disk;
mod error;
mod format;
mod keeper;
mod tell;
mod wanted;

use std::collections::BTreeSet;
use std::path::{Component, PathBuf};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

pub use args::SyncArgs;
pub use disk::Owner;
pub use error::{SyncError, TellError};
pub use format::Format;
pub use tell::{ReloadSignal, Tell, Told};

use crate::api::signing_config::SigningConfig;
use crate::metrics::Metrics;
use crate::model::key::KeyFingerprint;
use crate::signing::{KeyEvent, KeySet, KeySource, Reporter, report};
use counts::{Counts, whole};
use disk::Disk;
use keeper::{Due, Keeper};
use tell::since_boot;
use wanted::Wanted;

/// How long to gather changes before files are written.
const GATHER: Duration = Duration::from_millis(50);
/// The first pause after a failure; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause after failures.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How often a signer is looked for that is not found.
const LOOK: Duration = Duration::from_secs(1);
/// A signer of which nothing was said for this long may use any key: until then it was not started yet.
const UNKNOWN_AFTER: Duration = Duration::from_secs(60);
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
    let SyncOptions { format, directory, owner, grace, tell, once, reporter, hold, ends_with_signer } =
        options;
    let from_files = matches!(source, KeySource::Directory { .. });
    let disk = Disk::open(&directory, owner)?;
    let keeper = Keeper::new(disk, &directory, format, grace)?;
    let (send, mut events) = mpsc::channel(QUEUE);
    let mut source = std::pin::pin!(source.follow(send));
    let mut stop = std::pin::pin!(stop);
    let began = Instant::now();
    let mut work = Work {
        keeper,
        keys: KeySet::default(),
        format,
        tell,
        directory,
        began,
        hold,
        written: Duration::ZERO,
        not_found: None,
        behind: false,
        complained: Vec::new(),
        counts: Counts::register(metrics),
        acknowledged: Acknowledged { reporter: reporter.clone(), from_files, told: BTreeSet::new() },
    };
    let mut report = std::pin::pin!(report(reporter.as_ref()));
    let mut pause = FIRST_PAUSE;
    let mut wake: Option<Instant> = None;
    let mut failed = false;
    let mut unknown = reporter.as_ref().map(|_| began + UNKNOWN_AFTER);
    loop {
        let timer = async {
            match wake.into_iter().chain(once.map(|bound| began + bound)).chain(unknown).min() {
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
                // One list or a burst of changes is one change of the files. It waits for a pause after a failure, not for
                // old files whose time has not come.
                let soon = Instant::now() + GATHER;
                wake = Some(wake.map_or(soon, |at| if failed { at } else { at.min(soon) }));
                continue;
            }
            () = timer => {}
        }
        if let Some(bound) = once.filter(|bound| began.elapsed() >= *bound) {
            return Err(SyncError::NotComplete(bound));
        }
        unknown = unknown.filter(|at| *at > Instant::now());
        let settled = work.settle().await;
        failed = settled.is_err();
        wake = match settled {
            Ok(next) => {
                pause = FIRST_PAUSE;
                if work.keys.is_complete() {
                    ready.send_replace(true);
                    if once.is_some() && work.keeper.due(began.elapsed()) != Due::Tell {
                        return Ok(());
                    }
                }
                next.map(|after| Instant::now() + after)
            }
            Err(error) => {
                work.counts.failures.inc();
                tracing::error!(%error, "the signer's files are not up to date; trying again in {pause:?}");
                let at = Instant::now() + pause;
                pause = (pause * 2).min(LONGEST_PAUSE);
                Some(at)
            }
        };
    }
}

struct Work {
    keeper: Keeper,
    keys: KeySet,
    format: Format,
    tell: Tell,
    directory: PathBuf,
    began: Instant,
    hold: Duration,
    /// When the files were last brought to what they should be: a signer that has begun since has read them.
    written: Duration,
    /// Since when the signer has been looked for in vain.
    not_found: Option<Duration>,
    /// Something was told that is not in the files yet.
    behind: bool,
    /// What was left out, as told last.
    complained: Vec<String>,
    counts: Counts,
    acknowledged: Acknowledged,
}

impl Work {
    fn take(&mut self, event: KeyEvent) {
        self.behind |= !matches!(event, KeyEvent::Version(_));
        if let Err(problem) = self.keys.take(event) {
            tracing::warn!("{problem}; files stay as they were for its domain");
        }
    }

    /// Does what is due, says what is known of the signer, and after how long something is due again.
    async fn settle(&mut self) -> Result<Option<Duration>, SyncError> {
        let told = self.bring().await;
        match &told {
            Ok(Some(Told::Yes)) => self.acknowledged.tell(&self.keys, self.keeper.active()),
            Ok(Some(Told::NotFound(_))) => self.acknowledged.last_word(),
            // It goes on with what it has read for as long as it cannot be told.
            Err(SyncError::Tell(_)) => self.acknowledged.goes_on(),
            Ok(Some(Told::NotYet) | None) | Err(_) => {}
        }
        // A signer that reports nothing is trusted to follow, which one with files that cannot be brought up to date does not.
        if self.began.elapsed() >= UNKNOWN_AFTER && (self.keys.is_complete() || self.keeper.names_keys()) {
            self.acknowledged.unknown();
        }
        let next = match self.keeper.due(self.began.elapsed()) {
            Due::Retire(after) => Some(after.max(GATHER)),
            Due::Tell | Due::Nothing => None,
        };
        Ok(match told? {
            None => None,
            Some(Told::Yes) => next,
            Some(Told::NotFound(_) | Told::NotYet) => Some(next.map_or(LOOK, |after| after.min(LOOK))),
        })
    }

    /// Brings the files to what they should be and the signer to read them; nothing before all keys are known.
    async fn bring(&mut self) -> Result<Option<Told>, SyncError> {
        if !self.keys.is_complete() {
            return Ok(None);
        }
        self.counts.unreadable.set(whole(self.keys.problems()));
        if self.behind {
            let wanted = Wanted::of(self.format, &self.keys)?;
            if wanted.left_out != self.complained {
                wanted.left_out.iter().for_each(|text| tracing::warn!("{text}"));
                self.complained.clone_from(&wanted.left_out);
            }
            self.keeper.write(&wanted, self.keys.problems() > 0)?;
            self.written = since_boot();
            self.counts.left_out.set(whole(wanted.left_out.len()));
            self.behind = false;
        }
        self.keeper.retire(self.began.elapsed())?;
        if self.keeper.due(self.began.elapsed()) == Due::Tell {
            return self.tell_all().await.map(Some);
        }
        if self.not_found.is_none() {
            return Ok(Some(Told::Yes));
        }
        let told = self.tell.signal(self.written).inspect_err(|_| self.keeper.untold())?;
        if told == Told::Yes {
            self.found()?;
        }
        Ok(Some(told))
    }

    /// The files are new: tells the signer.
    async fn tell_all(&mut self) -> Result<Told, SyncError> {
        let told = self.tell.tell(&self.directory, self.written).await?;
        match &told {
            Told::Yes => self.found()?,
            Told::NotFound(why) => self.lost(why)?,
            Told::NotYet => {
                tracing::debug!("the signer has only just begun, and is told in a moment");
                return Ok(told);
            }
        }
        let active = self.keeper.active();
        let signatures: usize = active.iter().map(|set| set.signatures.len()).sum();
        self.counts.domains.set(whole(active.len()));
        self.counts.signatures.set(whole(signatures));
        self.counts.updates.inc();
        tracing::info!(domains = active.len(), signatures, "the signer's files are up to date");
        Ok(told)
    }

    fn found(&mut self) -> Result<(), SyncError> {
        if self.not_found.take().is_some() {
            tracing::info!("the signer was found and told");
        }
        self.counts.not_found.set(0);
        self.keeper.told(self.began.elapsed())
    }

    /// It may run unseen, and go on with what it has read.
    fn lost(&mut self, why: &str) -> Result<(), SyncError> {
        let now = self.began.elapsed();
        if self.not_found.is_none() {
            tracing::warn!(
                "{why}, so the signer is not told, and is looked for. If it runs, --reload-pid-file names another file than it \
                 writes, or its processes are not seen from here (shareProcessNamespace): keys that it may use are held for {:?}",
                self.hold
            );
        }
        // What changes later holds nothing for longer: a signer that is not there any more must not be waited for for ever.
        let since = *self.not_found.get_or_insert(now);
        self.counts.not_found.set(1);
        self.keeper.told(since.saturating_add(self.hold).max(now))
    }
}

/// What the signer beside us has been told of, for those who wait for it.
struct Acknowledged {
    reporter: Option<Reporter>,
    from_files: bool,
    told: BTreeSet<KeyFingerprint>,
}

impl Acknowledged {
    /// The signer has been told of all that is known. A Secret that cannot be used leaves the files of its domain as they
    /// were.
    fn tell(&mut self, keys: &KeySet, active: &[SigningConfig]) {
        let Some(reporter) = &self.reporter else { return };
        let fingerprints = || active.iter().flat_map(|set| set.signatures.iter().map(|s| &s.fingerprint));
        let now: BTreeSet<KeyFingerprint> = fingerprints().cloned().collect();
        let left = !self.told.is_subset(&now);
        self.told = now;
        if self.from_files {
            let keys = active
                .iter()
                .map(|set| (set.domain.to_string(), set.signatures.iter().map(|s| &s.fingerprint).collect()));
            reporter.uses(keys, left);
            return;
        }
        // NAMESPACE/NAME, and maybe a file.
        let secret = |path: &std::path::Path| match path.components().nth(1) {
            Some(Component::Normal(name)) => Some(name.to_string_lossy().into_owned()),
            _ => None,
        };
        reporter.reached(keys.version(), keys.problem_paths().filter_map(secret), left);
    }

    /// The signer should have been told and was not found: of what it uses nothing is known but what was said before.
    fn last_word(&self) {
        if let Some(reporter) = &self.reporter {
            reporter.last_word();
        }
    }

    /// The signer cannot be told.
    fn goes_on(&self) {
        if let Some(reporter) = &self.reporter {
            reporter.goes_on();
        }
    }

    /// Nothing is known of the signer, if nothing was said before.
    fn unknown(&self) {
        if let Some(reporter) = &self.reporter {
            reporter.unknown();
        }
    }
}

#[cfg(test)]
mod tests;
