//! The work itself: files written, the signer told, and what became of it said.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use super::acknowledged::Acknowledged;
use super::counts::{Counts, whole};
use super::disk::Disk;
use super::error::SyncError;
use super::keeper::{Due, Keeper};
use super::pace::GATHER;
use super::tell::{Tell, Told};
use super::wanted::Wanted;
use super::{Format, SyncOptions};
use crate::metrics::Metrics;
use crate::signing::{KeyEvent, KeySet};
use crate::uptime::since_boot;

/// How often a signer is looked for that is not found.
pub const LOOK: Duration = Duration::from_secs(1);
/// A signer of which nothing was said for this long may use any key: until then it was not started yet.
pub const UNKNOWN_AFTER: Duration = Duration::from_secs(60);

/// The files, the signer, and what is known of both.
pub struct Work {
    keeper: Keeper,
    keys: KeySet,
    format: Format,
    tell: Tell,
    directory: PathBuf,
    /// When this began.
    pub began: Instant,
    hold: Duration,
    /// When the files were last brought to what they should be: a signer that has begun since has read them.
    written: Duration,
    /// Since when the signer has been looked for in vain.
    not_found: Option<Duration>,
    /// Something was told that is not in the files yet.
    behind: bool,
    /// What was left out, as told last.
    complained: Vec<String>,
    /// What is counted.
    pub counts: Counts,
    acknowledged: Acknowledged,
}

impl Work {
    /// Opens the directory; keys come from mounted files or from the API server.
    ///
    /// # Errors
    /// [`SyncError`] where the directory cannot be used.
    pub fn open(options: SyncOptions, from_files: bool, metrics: &Metrics) -> Result<Self, SyncError> {
        let SyncOptions {
            format,
            directory,
            owner,
            grace,
            tell,
            once: _,
            reporter,
            hold,
            ends_with_signer: _,
        } = options;
        let disk = Disk::open(&directory, owner)?;
        Ok(Self {
            keeper: Keeper::new(disk, &directory, format, grace)?,
            keys: KeySet::default(),
            format,
            tell,
            directory,
            began: Instant::now(),
            hold,
            written: Duration::ZERO,
            not_found: None,
            behind: false,
            complained: Vec::new(),
            counts: Counts::register(metrics),
            acknowledged: Acknowledged::new(reporter, from_files),
        })
    }

    /// Whether every key was heard of.
    pub fn knows_all(&self) -> bool {
        self.keys.is_complete()
    }

    /// Whether the signer needs not be told of anything.
    pub fn has_told(&self) -> bool {
        self.keeper.due(self.began.elapsed()) != Due::Tell
    }

    /// Takes up what has become of a key.
    pub fn take(&mut self, event: KeyEvent) {
        self.behind |= !matches!(event, KeyEvent::Version(_));
        if let Err(problem) = self.keys.take(event) {
            tracing::warn!("{problem}; files stay as they were for its domain");
        }
    }

    /// Does what is due, says what is known of the signer, and after how long something is due again.
    pub async fn settle(&mut self) -> Result<Option<Duration>, SyncError> {
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
