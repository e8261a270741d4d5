//! What each reconcile was made from, so that one that could see nothing new ends at once: most of those are woken
//! by what the operator itself has just written.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use kube::api::ObjectMeta;
use kube::runtime::reflector::ObjectRef;
use parking_lot::Mutex;

use super::Guarded;

/// A resourceVersion, hashed to save memory; `None` where the object is not there.
pub type Version = Option<u64>;

/// Stands for the version of a deletion that was not seen: like none that was read or written.
const GONE: Version = Some(0);

/// The version of an object.
#[must_use]
pub fn version(meta: &ObjectMeta) -> Version {
    let mut hasher = DefaultHasher::new();
    (meta.uid.as_deref(), meta.resource_version.as_deref()?).hash(&mut hasher);
    Some(hasher.finish())
}

/// Whether a version that a watch has found says nothing new: it is the one that was left or, our own write not having come
/// back yet, the one that was read before.
#[must_use]
pub fn is_known(found: Version, before: Version, after: Version) -> bool {
    found == before || found == after
}

/// Versions of the objects that a reconcile reads and writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Versions {
    /// The DkimDomain.
    pub domain: Version,
    /// The record set.
    pub record_set: Version,
    /// The key Secret.
    pub secret: Version,
}

/// What surrounds the objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Surroundings {
    /// The namespace.
    pub namespace: Version,
    /// How often providers have changed.
    pub providers: u64,
    /// Changes with every look at DNS.
    pub looks: u64,
    /// How often what signers say has freed it.
    pub signers: u64,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// As they were read.
    before: Versions,
    /// As they were left.
    after: Versions,
    surroundings: Surroundings,
    until: Timestamp,
}

/// Remembers, object by object.
#[derive(Debug, Default)]
pub struct Memory {
    entries: Mutex<HashMap<ObjectRef<Guarded>, Entry>>,
    /// What the watch of Secrets saw last; a deletion has a version of its own.
    secrets: Mutex<HashMap<ObjectRef<Guarded>, Version>>,
    providers: AtomicU64,
}

impl Memory {
    /// Notes what the watch of Secrets saw.
    pub fn saw_secret(&self, owner: &ObjectRef<Guarded>, meta: &ObjectMeta) {
        self.secrets.lock().insert(owner.clone(), version(meta));
    }

    /// Notes that a Secret was deleted unseen.
    pub fn missed_secret(&self, owner: &ObjectRef<Guarded>) {
        self.secrets.lock().insert(owner.clone(), GONE);
    }

    /// Notes that a provider has changed.
    pub fn saw_provider(&self) {
        self.providers.fetch_add(1, Ordering::Relaxed);
    }

    /// How often providers have changed.
    #[must_use]
    pub fn providers(&self) -> u64 {
        self.providers.load(Ordering::Relaxed)
    }

    /// Remembers a reconcile that ended well, until `until`.
    pub fn remember(
        &self,
        key: &ObjectRef<Guarded>,
        before: Versions,
        after: Versions,
        surroundings: Surroundings,
        until: Timestamp,
    ) {
        self.entries.lock().insert(key.clone(), Entry { before, after, surroundings, until });
    }

    /// What the watch of Secrets saw last of this object's, if it ever saw one.
    #[must_use]
    pub fn seen_secret(&self, key: &ObjectRef<Guarded>) -> Option<Version> {
        self.secrets.lock().get(key).copied()
    }

    /// The version in which the last reconcile that ended well left the key Secret, its keys checked or made by us.
    #[must_use]
    pub fn left_secret(&self, key: &ObjectRef<Guarded>) -> Version {
        self.entries.lock().get(key)?.after.secret
    }

    /// For how long nothing new is to be seen, if that is so: each object is as the last reconcile read it (its own
    /// write has not come back yet) or as it left it. `domain` and `record_set` are as the watches have them.
    #[must_use]
    pub fn at_rest(
        &self,
        key: &ObjectRef<Guarded>,
        domain: Version,
        record_set: Version,
        surroundings: Surroundings,
        now: Timestamp,
    ) -> Option<Duration> {
        let entry = *self.entries.lock().get(key)?;
        let secret = self.seen_secret(key);
        let Entry { before, after, until, .. } = entry;
        let rest = entry.surroundings == surroundings
            && is_known(domain, before.domain, after.domain)
            && is_known(record_set, before.record_set, after.record_set)
            && secret.is_none_or(|secret| is_known(secret, before.secret, after.secret));
        let left = Duration::try_from(until.duration_since(now)).ok()?;
        (rest && !left.is_zero()).then_some(left)
    }

    /// Forgets an object.
    pub fn forget(&self, key: &ObjectRef<Guarded>) {
        self.entries.lock().remove(key);
        self.secrets.lock().remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(version: &str) -> ObjectMeta {
        ObjectMeta { uid: Some("u".into()), resource_version: Some(version.into()), ..ObjectMeta::default() }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn rests_until_something_is_new() {
        let memory = Memory::default();
        let key = ObjectRef::<Guarded>::new("contoso").within("mail");
        let [v1, v2, v3] = ["1", "2", "3"].map(|v| version(&meta(v)));
        let before = Versions { domain: v1, record_set: v1, secret: None };
        let after = Versions { domain: v2, record_set: v2, secret: v2 };
        let around = Surroundings { looks: 5, ..Surroundings::default() };
        let rest = |domain, set, around, now| memory.at_rest(&key, domain, set, around, at(now));
        assert_eq!(rest(v1, v1, around, 10), None, "nothing is remembered");

        memory.remember(&key, before, after, around, at(20));
        assert_eq!(rest(v2, v2, around, 10), Some(Duration::from_secs(10)));
        assert!(rest(v1, v2, around, 10).is_some(), "the watch is behind");
        assert!(rest(v3, v2, around, 10).is_none(), "the domain was changed");
        assert!(rest(v2, v3, around, 10).is_none(), "the record set was changed");
        assert!(rest(v2, None, around, 10).is_none(), "the record set was deleted");
        assert!(rest(v2, v2, around, 20).is_none(), "time has come");
        assert!(rest(v2, v2, around, 30).is_none(), "time is over");
        let looked = Surroundings { looks: 6, ..around };
        assert!(rest(v2, v2, looked, 10).is_none(), "DNS was looked at");

        memory.saw_secret(&key, &meta("2"));
        assert!(rest(v2, v2, around, 10).is_some(), "our own write came back");
        memory.saw_secret(&key, &meta("3"));
        assert!(rest(v2, v2, around, 10).is_none(), "the Secret was changed or deleted");

        memory.remember(&key, before, after, around, at(20));
        memory.missed_secret(&key);
        assert!(rest(v2, v2, around, 10).is_none(), "the Secret was deleted unseen");

        memory.saw_provider();
        let changed = Surroundings { providers: memory.providers(), ..around };
        memory.saw_secret(&key, &meta("2"));
        assert!(rest(v2, v2, changed, 10).is_none(), "a provider was changed");
        memory.forget(&key);
        assert!(rest(v2, v2, around, 10).is_none(), "all is forgotten");
    }
}
