//! The claims to GUIDs that others may have claimed as well: since when each is held, and whether the watch shows it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use kube::api::ObjectMeta;
use kube::runtime::reflector::ObjectRef;
use parking_lot::Mutex;

use super::Guarded;
use super::secret::Owner;

/// Claims that are contested, by their claimants.
#[derive(Debug, Default)]
pub struct Contests(Mutex<HashMap<ObjectRef<Guarded>, Contest>>);

#[derive(Debug)]
struct Contest {
    /// The claimant's.
    uid: String,
    since: Instant,
    claim: Written,
}

/// Which of a record set's specs is meant: the API server counts them.
#[derive(Debug, PartialEq, Eq)]
struct Written {
    uid: Option<String>,
    generation: Option<i64>,
}

impl Written {
    fn of(set: &ObjectMeta) -> Self {
        Self { uid: set.uid.clone(), generation: set.generation }
    }
}

impl Contests {
    /// A claim was made just now, by this write.
    pub fn made(&self, owner: &Owner, set: &ObjectMeta) {
        let contest = Contest { uid: owner.uid.clone(), since: Instant::now(), claim: Written::of(set) };
        self.0.lock().insert(key(owner), contest);
    }

    /// For how long the claim has been held; `None` while the watch, which has the record set like this, does not show the one
    /// that was made last. One that was not made here counts from when it is asked for first.
    #[must_use]
    pub fn shown_for(&self, owner: &Owner, set: &ObjectMeta) -> Option<Duration> {
        let shown = Written::of(set);
        let mut all = self.0.lock();
        if let Some(contest) = all.get(&key(owner)).filter(|contest| contest.uid == owner.uid)
            && contest.claim.uid == shown.uid
        {
            return (contest.claim.generation <= shown.generation).then(|| contest.since.elapsed());
        }
        let first = all
            .insert(key(owner), Contest { uid: owner.uid.clone(), since: Instant::now(), claim: shown })
            .is_none_or(|before| before.uid != owner.uid);
        // Another object than the one that was written: which of them is gone shows next time.
        first.then_some(Duration::ZERO)
    }

    /// A claim is contested no more.
    pub fn end(&self, owner: &Owner) {
        self.forget(&key(owner));
    }

    /// Forgets a DkimDomain.
    pub fn forget(&self, key: &ObjectRef<Guarded>) {
        self.0.lock().remove(key);
    }
}

fn key(owner: &Owner) -> ObjectRef<Guarded> {
    ObjectRef::new(&owner.name).within(&owner.namespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(uid: &str) -> Owner {
        Owner { namespace: "mail".into(), name: "contoso".into(), uid: uid.into() }
    }

    fn set(uid: &str, generation: i64) -> ObjectMeta {
        ObjectMeta { uid: Some(uid.into()), generation: Some(generation), ..ObjectMeta::default() }
    }

    #[test]
    fn the_watch_is_to_show_the_claim_that_was_made_last() {
        let all = Contests::default();
        let ours = owner("a");
        assert_eq!(all.shown_for(&ours, &set("s", 3)), Some(Duration::ZERO), "found after a restart");
        all.made(&ours, &set("s", 5));
        assert_eq!(all.shown_for(&ours, &set("s", 4)), None, "a claim of before, that was taken back");
        assert!(all.shown_for(&ours, &set("s", 5)).is_some());
        assert!(all.shown_for(&ours, &set("s", 6)).is_some());
        all.made(&ours, &set("t", 1));
        assert_eq!(all.shown_for(&ours, &set("s", 6)), None, "the object of before");
        assert_eq!(all.shown_for(&ours, &set("t", 1)), None, "it may be the other way round");
        assert!(all.shown_for(&ours, &set("t", 1)).is_some());
        all.end(&ours);
        assert_eq!(all.shown_for(&ours, &set("t", 1)), Some(Duration::ZERO));
    }

    #[test]
    fn each_claimant_has_a_time_of_its_own() {
        let all = Contests::default();
        let (ours, theirs) = (owner("a"), Owner { name: "fabrikam".into(), ..owner("b") });
        let held = |owner: &Owner| all.shown_for(owner, &set("s", 1)).unwrap();
        all.made(&ours, &set("s", 1));
        std::thread::sleep(Duration::from_millis(5));
        assert_eq!(held(&theirs), Duration::ZERO);
        all.end(&theirs);
        let before = held(&ours);
        assert!(before >= Duration::from_millis(5), "another one that wants the domain takes nothing away");
        // Made again under its name.
        assert_eq!(held(&owner("c")), Duration::ZERO);
        all.forget(&key(&ours));
        assert!(all.0.lock().is_empty());
    }
}
