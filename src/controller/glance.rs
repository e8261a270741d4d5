//! What the last reconcile left in the key Secret, without the private keys. While the watch of Secrets has seen nothing
//! else there, a reconcile may look at this instead: most of them only find that DNS is as it was. A glance may report
//! and never writes: what leads to a write is decided again on the Secret itself.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use kube::api::ObjectMeta;
use kube::runtime::reflector::ObjectRef;
use parking_lot::Mutex;

use super::Guarded;
use super::memory::{Surroundings, Version, is_known, version};
use super::secret::{Keys, Stored};
use crate::api::version_number;
use crate::model::lanes::PerLane;
use crate::model::rotation::Custody;
use crate::model::vault::Vault;

/// Most glances kept, of a few kilobytes each.
const MOST: usize = 1024;

/// What else the content of a key Secret follows from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Basis {
    /// The uid of the DkimDomain.
    pub owner: String,
    /// The generation of its spec.
    pub generation: Option<i64>,
    /// The namespace, and with it which providers it may use.
    pub namespace: Version,
    /// How often providers have changed.
    pub providers: u64,
}

impl Basis {
    /// That of a DkimDomain.
    #[must_use]
    pub fn of(owner: &str, generation: Option<i64>, around: Surroundings) -> Self {
        let Surroundings { namespace, providers, .. } = around;
        Self { owner: owner.to_owned(), generation, namespace, providers }
    }
}

/// A key Secret without the private keys.
#[derive(Debug, Clone)]
pub struct Known {
    /// Phases and times.
    pub vault: Vault,
    /// Which private keys are in hand.
    pub custody: PerLane<Custody>,
    /// The version of the Secret, if there is one.
    pub secret: Version,
    /// The same, to be compared.
    pub number: Option<u64>,
}

impl Known {
    /// Parts it from the keys. `there` is the Secret's metadata, if there is one.
    #[must_use]
    pub fn part(stored: Stored, there: Option<&ObjectMeta>) -> (Self, Keys) {
        let custody = stored.custody();
        let Stored { vault, keys } = stored;
        let number = there.and_then(|meta| version_number(meta.resource_version.as_deref()));
        (Self { vault, custody, secret: there.and_then(version), number }, keys)
    }
}

/// A key Secret as it was left.
#[derive(Debug)]
pub struct Glance {
    /// What was left.
    pub left: Known,
    /// The version of the Secret that was read, if one was.
    pub before: Version,
    /// What it was made from.
    pub basis: Basis,
    /// Until when it is good for, should the watch fall silent.
    pub until: Timestamp,
}

/// Glances, object by object.
#[derive(Debug, Default)]
pub struct Glances(Mutex<HashMap<ObjectRef<Guarded>, Arc<Glance>>>);

impl Glances {
    /// Keeps one.
    pub fn keep(&self, key: &ObjectRef<Guarded>, glance: Glance) {
        let mut all = self.0.lock();
        if all.len() >= MOST && !all.contains_key(key) {
            let other = all.keys().next().cloned();
            other.and_then(|other| all.remove(&other));
        }
        all.insert(key.clone(), Arc::new(glance));
    }

    /// The glance at an object's Secret, if `seen`, what the watch saw last, is what was left or, our own write not having
    /// come back yet, what was read.
    #[must_use]
    pub fn at(
        &self,
        key: &ObjectRef<Guarded>,
        basis: &Basis,
        seen: Option<Version>,
        now: Timestamp,
    ) -> Option<Arc<Glance>> {
        let all = self.0.lock();
        let glance = all.get(key)?;
        let fresh = seen.is_none_or(|seen| is_known(seen, glance.before, glance.left.secret));
        (fresh && glance.basis == *basis && now < glance.until).then(|| glance.clone())
    }

    /// Forgets one.
    pub fn forget(&self, key: &ObjectRef<Guarded>) {
        self.0.lock().remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::selector::PerSlot;
    use crate::model::testing;

    const NOW: Timestamp = Timestamp::constant(1000, 0);
    const END: Timestamp = Timestamp::constant(1600, 0);

    fn glance(before: Version, secret: u64, basis: &Basis) -> Glance {
        let vault = testing::vault(testing::home("contoso.onmail.example"), Timestamp::UNIX_EPOCH);
        let custody = vault.rings.map(|_, _| PerSlot([true, true]));
        let left = Known { vault, custody, secret: Some(secret), number: Some(secret) };
        Glance { left, before, basis: basis.clone(), until: END }
    }

    #[test]
    fn is_good_while_the_watch_has_seen_nothing_else() {
        let basis = Basis::of("u", Some(1), Surroundings::default());
        let key = ObjectRef::<Guarded>::new("contoso").within("mail");
        let glances = Glances::default();
        assert!(glances.at(&key, &basis, None, NOW).is_none(), "nothing is kept");

        glances.keep(&key, glance(Some(1), 2, &basis));
        let good = |seen| glances.at(&key, &basis, seen, NOW).is_some();
        assert!(good(None) && good(Some(Some(2))), "as it was left");
        assert!(good(Some(Some(1))), "our own write has not come back");
        assert!(!good(Some(Some(3))) && !good(Some(Some(0))), "edited or deleted");

        assert!(glances.at(&key, &basis, None, END).is_none(), "time is over");

        let other = [
            Basis { owner: "v".into(), ..basis.clone() },
            Basis { generation: Some(2), ..basis.clone() },
            Basis { namespace: Some(7), ..basis.clone() },
            Basis { providers: 1, ..basis.clone() },
        ];
        assert!(
            other.iter().all(|other| glances.at(&key, other, Some(Some(2)), NOW).is_none()),
            "made from else"
        );

        glances.forget(&key);
        assert!(glances.at(&key, &basis, None, NOW).is_none(), "forgotten");
    }

    #[test]
    fn keeps_no_more_than_it_may() {
        let basis = Basis::of("u", Some(1), Surroundings::default());
        let glances = Glances::default();
        for number in 0..MOST + 10 {
            glances.keep(&ObjectRef::new(&format!("d{number}")), glance(None, 1, &basis));
        }
        assert_eq!(glances.0.lock().len(), MOST);
    }
}
