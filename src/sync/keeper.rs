//! Brings the files from what they are to what they should be, in an order that a crash between any two
//! operations cannot hurt:
//!
//! 1. key files that are missing; a key file is written once and never changed;
//! 2. our own note of every set of signatures that tables may name;
//! 3. tables, the wide ones first, each replaced as a whole;
//! 4. the signer is told;
//! 5. a while later, sets that are not wanted leave the wide tables, and then their key files go.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::disk::Disk;
use super::error::SyncError;
use super::format::{Format, KEYS, View};
use super::wanted::Wanted;
use crate::api::signing_config::SigningConfig;

/// Our own note; nothing secret is in it.
const STATE: &str = ".sync.json";

/// What the tables may name.
#[derive(Debug, Default, Serialize, Deserialize)]
struct State {
    version: u32,
    /// The sets to sign with, sorted by domain.
    active: Vec<SigningConfig>,
    /// Sets that the signer may still be signing with.
    #[serde(default)]
    retired: Vec<SigningConfig>,
}

/// What is due next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// The signer must be told of new files; then [`Keeper::told`].
    Tell,
    /// Old files go after this long.
    Retire(Duration),
    /// Nothing, until something changes.
    Nothing,
}

/// Keeps the files of one signer.
pub(super) struct Keeper {
    disk: Disk,
    root: PathBuf,
    format: Format,
    grace: Duration,
    state: State,
    /// The signer has read the files as they are, or will when it starts.
    told: bool,
    /// Since when what is retired has been known to be, on the clock that the caller passes in; in the future where the
    /// signer is waited for until then.
    retired_since: Vec<(SigningConfig, Duration)>,
    /// Key files that nothing names, since when.
    strays: BTreeMap<String, Duration>,
}

impl Keeper {
    /// Begins with the files as they are.
    pub(super) fn new(
        mut disk: Disk,
        root: &Path,
        format: Format,
        grace: Duration,
    ) -> Result<Self, SyncError> {
        let at = |name: &str, source| SyncError::File { path: root.join(name), source };
        for name in std::iter::once(KEYS).chain(format.own_directory()) {
            disk.directory(name).map_err(|e| at(name, e))?;
        }
        let raw = disk.read(STATE).map_err(|e| at(STATE, e))?;
        let state = match raw.map(|raw| serde_json::from_slice::<State>(&raw)) {
            Some(Ok(state)) => state,
            // Without it, what is retired is forgotten: its key files are strays, which go later, too.
            Some(Err(error)) => {
                tracing::warn!(%error, "{} cannot be read and is made anew", root.join(STATE).display());
                State::default()
            }
            None => State::default(),
        };
        Ok(Self {
            disk,
            root: root.to_owned(),
            format,
            grace,
            state,
            told: false,
            retired_since: Vec::new(),
            strays: BTreeMap::new(),
        })
    }

    /// The sets that the tables tell the signer to sign with.
    pub(super) fn active(&self) -> &[SigningConfig] {
        &self.state.active
    }

    /// Steps 1 to 3. With `partial`, something that was read earlier may not be readable now: domains that are
    /// not in `wanted` stay as they are.
    pub(super) fn write(&mut self, wanted: &Wanted, partial: bool) -> Result<(), SyncError> {
        let Wanted { sets, keys, left_out: _ } = wanted;
        let there: BTreeSet<String> = self.list(KEYS)?.into_iter().collect();
        for (file, bytes) in keys {
            let path = format!("{KEYS}/{file}");
            self.disk.put(&path, bytes).map_err(|e| self.file(&path, e))?;
        }
        let mut active = sets.clone();
        if partial {
            let named: BTreeSet<_> = sets.iter().map(|set| &set.domain).collect();
            let kept = self.state.active.iter().filter(|set| !named.contains(&set.domain));
            active.extend(kept.filter(|set| files(set).all(|file| there.contains(file))).cloned());
            active.sort_by(|a, b| a.domain.cmp(&b.domain));
        }
        let mut retired = std::mem::take(&mut self.state.retired);
        retired.append(&mut self.state.active);
        retired.retain(|set| !active.contains(set) && files(set).all(|file| there.contains(file)));
        self.state = State { version: 1, active, retired };
        // Signed with again in between, its time begins anew.
        self.retired_since.retain(|(set, _)| self.state.retired.contains(set));
        self.write_state()?;
        self.write_tables()
    }

    /// Whether the signer is to be told, and if not, when old files go.
    pub(super) fn due(&self, now: Duration) -> Due {
        if !self.told {
            return Due::Tell;
        }
        let since = self.retired_since.iter().map(|(_, since)| since).chain(self.strays.values()).min();
        match since {
            Some(since) => Due::Retire((*since + self.grace).saturating_sub(now)),
            None => Due::Nothing,
        }
    }

    /// The signer knows of the files, or is not waited for after that moment: from then on the grace of what is retired runs.
    pub(super) fn told(&mut self, by: Duration) -> Result<(), SyncError> {
        self.told = true;
        for set in &self.state.retired {
            match self.retired_since.iter_mut().find(|(known, _)| known == set) {
                Some((_, since)) => *since = by.min(*since),
                None => self.retired_since.push((set.clone(), by)),
            }
        }
        let named = self.named();
        let strays = self.list(KEYS)?.into_iter().filter(|file| !named.contains(file));
        let mut since = std::mem::take(&mut self.strays);
        self.strays = strays
            .map(|file| (file.clone(), since.remove(&file).map_or(by, |since| since.min(by))))
            .collect();
        Ok(())
    }

    /// The signer is there after all, and could not be told: nothing goes until it was.
    pub(super) fn untold(&mut self) {
        self.told = false;
    }

    /// Whether the files name any key.
    pub(super) fn names_keys(&self) -> bool {
        !self.named().is_empty()
    }

    /// Step 5, for what is due.
    pub(super) fn retire(&mut self, now: Duration) -> Result<(), SyncError> {
        if !self.told {
            return Ok(());
        }
        let over = |since: &Duration| *since + self.grace <= now;
        let done: Vec<SigningConfig> =
            self.retired_since.iter().filter(|(_, since)| over(since)).map(|(set, _)| set.clone()).collect();
        let mut gone: BTreeSet<String> =
            self.strays.iter().filter(|(_, since)| over(since)).map(|(file, _)| file.clone()).collect();
        if done.is_empty() && gone.is_empty() {
            return Ok(());
        }
        self.state.retired.retain(|set| !done.contains(set));
        // Tables first: a key file never goes while one names it. What the signer has read of them names it
        // in wide tables alone, which nothing leads to any more.
        self.write_narrower()?;
        self.write_state()?;
        gone.extend(done.iter().flat_map(files).cloned());
        let named = self.named();
        for file in gone.difference(&named) {
            let path = format!("{KEYS}/{file}");
            self.disk.remove(&path).map_err(|e| self.file(&path, e))?;
        }
        self.retired_since.retain(|(set, _)| !done.contains(set));
        self.strays.retain(|file, _| !gone.contains(file));
        Ok(())
    }

    fn write_tables(&mut self) -> Result<(), SyncError> {
        if self.put_tables()? {
            self.told = false;
        }
        Ok(())
    }

    /// As [`Keeper::write_tables`], where nothing is new in them that the signer would have to be told of.
    fn write_narrower(&mut self) -> Result<(), SyncError> {
        self.put_tables().map(|_| ())
    }

    fn put_tables(&mut self) -> Result<bool, SyncError> {
        let State { version: _, active, retired } = &self.state;
        let known: Vec<SigningConfig> = active.iter().chain(retired).cloned().collect();
        let tables = self.format.tables(&View { root: &self.root, active, known: &known });
        let mut written = false;
        for table in &tables {
            written |=
                self.disk.put_table(&table.path, &table.content).map_err(|e| self.file(&table.path, e))?;
        }
        if let Some(directory) = self.format.own_directory() {
            let named: BTreeSet<&str> = tables.iter().map(|table| table.path.as_str()).collect();
            for name in self.list(directory)? {
                let path = format!("{directory}/{name}");
                if !named.contains(path.as_str()) {
                    self.disk.remove(&path).map_err(|e| self.file(&path, e))?;
                }
            }
        }
        Ok(written)
    }

    fn write_state(&mut self) -> Result<(), SyncError> {
        let raw = serde_json::to_vec(&self.state)?;
        self.disk.put(STATE, &raw).map_err(|e| self.file(STATE, e))?;
        Ok(())
    }

    /// Key files that the tables name.
    fn named(&self) -> BTreeSet<String> {
        self.state.active.iter().chain(&self.state.retired).flat_map(files).cloned().collect()
    }

    fn list(&self, directory: &str) -> Result<Vec<String>, SyncError> {
        self.disk.list(directory).map_err(|e| self.file(directory, e))
    }

    fn file(&self, name: &str, source: io::Error) -> SyncError {
        SyncError::File { path: self.root.join(name), source }
    }
}

fn files(set: &SigningConfig) -> impl Iterator<Item = &String> {
    set.signatures.iter().map(|signature| &signature.key_file)
}

#[cfg(test)]
mod tests;
