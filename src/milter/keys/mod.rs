//! The table of keys, exchanged as a whole while mail is being signed, and what keeps it up to date.

mod directory;
mod inotify;
mod secrets;

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::counters::Counters;
use crate::api::version_number;
use crate::model::key::KeyFingerprint;
use crate::signing::{KeyDirError, KeyStore, Reporter};

pub use directory::follow_directory;
pub use secrets::follow_secrets;

/// Most domains that are named in one line of the log.
const NAMED: usize = 5;

/// Why there is no table of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unavailable {
    /// Nothing was read yet.
    NotLoaded,
    /// Its source was out of reach for too long.
    Stale,
}

/// The keys of this moment. To read them takes no lock.
pub struct Keys {
    store: ArcSwapOption<KeyStore>,
    /// When the source was last reached, in milliseconds after `begin`.
    confirmed: AtomicU64,
    begin: Instant,
    stale_after: Duration,
    keep_unreadable: Duration,
    /// Since when places of keys cannot be read.
    unreadable: Mutex<HashMap<Arc<Path>, Instant>>,
    counters: Counters,
    ready: watch::Sender<bool>,
    reporter: Option<Reporter>,
    /// A key that was in use is in use no more, which has not been reported.
    left: AtomicBool,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}

impl Keys {
    /// Without any keys. `ready` becomes true with the first ones.
    #[must_use]
    pub fn new(
        stale_after: Duration,
        keep_unreadable: Duration,
        counters: Counters,
        ready: watch::Sender<bool>,
    ) -> Self {
        Self {
            store: ArcSwapOption::empty(),
            confirmed: AtomicU64::new(0),
            begin: Instant::now(),
            stale_after,
            keep_unreadable,
            unreadable: Mutex::new(HashMap::new()),
            counters,
            ready,
            reporter: None,
            left: AtomicBool::new(false),
        }
    }

    /// The same, and tells a reporter what is in use.
    #[must_use]
    pub fn reported_by(self, reporter: Option<Reporter>) -> Self {
        Self { reporter, ..self }
    }

    /// Every change of the key Secrets up to this version is in the table, as far as it could be read.
    fn reached(&self, version: &str) {
        let Some(reporter) = &self.reporter else { return };
        let store = self.last();
        let name = |place: &Arc<Path>| Some(place.file_name()?.to_string_lossy().into_owned());
        let left = self.left.swap(false, Ordering::Relaxed);
        reporter.reached(version_number(Some(version)), store.kept().filter_map(name), left);
    }

    /// The table is as the directory was.
    fn read(&self) {
        let Some(reporter) = &self.reporter else { return };
        let store = self.last();
        let keys = store.domains().map(|keys| {
            let signers = keys.signers().iter().map(|signer| &signer.config().fingerprint);
            (keys.domain().to_string(), signers.collect())
        });
        reporter.uses(keys, self.left.swap(false, Ordering::Relaxed));
    }

    /// The keys of this moment.
    ///
    /// # Errors
    /// [`Unavailable`]: nothing may be signed.
    pub fn current(&self) -> Result<Arc<KeyStore>, Unavailable> {
        let store = self.store.load_full().ok_or(Unavailable::NotLoaded)?;
        let confirmed = Duration::from_millis(self.confirmed.load(Ordering::Relaxed));
        if self.begin.elapsed().saturating_sub(confirmed) > self.stale_after {
            return Err(Unavailable::Stale);
        }
        Ok(store)
    }

    /// What was read last, however old.
    #[must_use]
    pub fn last(&self) -> Arc<KeyStore> {
        self.store.load_full().unwrap_or_default()
    }

    /// The source was reached: what is in the table is what it has now.
    pub fn confirm(&self) {
        let now = u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.confirmed.store(now, Ordering::Relaxed);
        self.counters.confirmed(jiff::Timestamp::now());
    }

    /// Exchanges the table. Where some keys cannot be read, the earlier ones stay for a while.
    pub fn exchange(&self, store: KeyStore) {
        self.take(store);
        self.confirm();
        self.ready.send_replace(true);
    }

    /// Lets go of the earlier keys of what cannot be read, where they have been kept for long enough. The source was not
    /// asked for that.
    fn review(&self) {
        self.take(self.last().with([]));
    }

    fn take(&self, store: KeyStore) {
        let older = self.last();
        let store = self.keep(store, &older);
        tell(&store, &older);
        if self.reporter.is_some() && leaves_a_key(&store, &older) {
            self.left.store(true, Ordering::Relaxed);
        }
        self.counters.loaded(store.len(), store.problems().len());
        self.store.store(Some(Arc::new(store)));
    }

    fn keep(&self, store: KeyStore, older: &KeyStore) -> KeyStore {
        let mut since = self.unreadable.lock();
        let now = Instant::now();
        *since = store
            .unreadable()
            .map(|place| (Arc::clone(place), since.get(place).copied().unwrap_or(now)))
            .collect();
        store.keep_unreadable_from(older, |place| {
            since.get(place).is_some_and(|at| now.duration_since(*at) < self.keep_unreadable)
        })
    }

    /// Whether some keys cannot be read at the moment.
    fn has_unreadable(&self) -> bool {
        !self.unreadable.lock().is_empty()
    }
}

/// Whether a key that was in use is in use no more.
fn leaves_a_key(store: &KeyStore, older: &KeyStore) -> bool {
    older.domains().any(|old| {
        let new = store.get(old.domain());
        let stays = |key: &KeyFingerprint| {
            new.is_some_and(|new| new.signers().iter().any(|signer| signer.config().fingerprint == *key))
        };
        !new.is_some_and(|new| Arc::ptr_eq(new, old))
            && !old.signers().iter().all(|signer| stays(&signer.config().fingerprint))
    })
}

/// Logs what is new.
fn tell(store: &KeyStore, older: &KeyStore) {
    let before: HashMap<String, ()> = older.problems().iter().map(|p| (p.to_string(), ())).collect();
    let is_new = |problem: &&KeyDirError| !before.contains_key(&problem.to_string());
    for problem in store.problems().iter().filter(is_new).take(NAMED * 4) {
        tracing::warn!("keys that cannot be used: {problem}");
    }
    let same = |keys: &&Arc<crate::signing::DomainKeys>| {
        older.get(keys.domain()).is_some_and(|old| Arc::ptr_eq(old, keys))
    };
    let changed: Vec<_> = store.domains().filter(|keys| !same(keys)).collect();
    let gone: Vec<_> = older.domains().filter(|old| store.get(old.domain()).is_none()).collect();
    for keys in changed.iter().take(NAMED) {
        let signs: Vec<String> = keys
            .signers()
            .iter()
            .map(|s| format!("d={} s={} {}", s.config().d, s.config().s, s.config().fingerprint))
            .collect();
        tracing::info!(domain = %keys.domain(), "signs with {}", if signs.is_empty() { "nothing yet".to_owned() } else { signs.join(", ") });
    }
    for keys in gone.iter().take(NAMED) {
        tracing::info!(domain = %keys.domain(), "signs no more: its keys are gone");
    }
    if !changed.is_empty() || !gone.is_empty() {
        let (domains, problems) = (store.len(), store.problems().len());
        tracing::info!(domains, changed = changed.len(), gone = gone.len(), problems, "keys were read");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::key::KeyKind;
    use crate::model::name::DomainName;
    use crate::signing::testing::{KeyDir, broken_json};

    fn keys(stale_after: Duration, keep: Duration) -> Keys {
        Keys::new(stale_after, keep, Counters::default(), watch::channel(false).0)
    }

    fn load(dir: &KeyDir, keys: &Keys) {
        keys.exchange(keys.last().reload(dir.path()).unwrap());
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn nothing_is_signed_before_and_long_after() {
        let dir = KeyDir::new();
        dir.domain("", "a.com", &[KeyKind::Ed25519]);
        let keys = keys(Duration::from_millis(50), LONG);
        assert_eq!(keys.current().unwrap_err(), Unavailable::NotLoaded);
        load(&dir, &keys);
        assert_eq!(keys.current().unwrap().len(), 1);
        std::thread::sleep(Duration::from_millis(120));
        assert_eq!(keys.current().unwrap_err(), Unavailable::Stale);
        keys.confirm();
        assert!(keys.current().is_ok());
    }

    #[test]
    fn what_cannot_be_read_is_kept_for_a_while() {
        let name = DomainName::parse("a.com").unwrap();
        for (keep, stays) in [(LONG, true), (Duration::ZERO, false)] {
            let dir = KeyDir::new();
            dir.domain("a", "a.com", &[KeyKind::Ed25519]);
            dir.domain("b", "b.com", &[KeyKind::Ed25519]);
            let keys = keys(LONG, keep);
            load(&dir, &keys);
            broken_json(&dir.path().join("a"));
            load(&dir, &keys);
            assert_eq!(keys.current().unwrap().get(&name).is_some(), stays);
            assert!(keys.has_unreadable());
            // Not even after a second look, and no longer once the place itself is gone.
            load(&dir, &keys);
            assert_eq!(keys.current().unwrap().get(&name).is_some(), stays);
            std::fs::remove_dir_all(dir.path().join("a")).unwrap();
            load(&dir, &keys);
            assert!(keys.current().unwrap().get(&name).is_none() && !keys.has_unreadable());
        }
    }
}
