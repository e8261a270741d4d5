//! What signers are asked about one domain, and what one of them says to that.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::REMEMBERED;
use crate::api::SignerReport;
use crate::model::key::KeyFingerprint;
use crate::model::keyring::later;
use crate::model::lanes::LaneId;
use crate::model::name::DomainName;

/// A signer, as its Lease tells.
#[derive(Debug)]
pub(super) struct Signer {
    /// The Lease's version.
    pub version: String,
    /// What it says.
    pub says: SignerReport,
    /// When it is lost, unless it renews.
    pub until: Timestamp,
    /// When its last renewal runs out: by its own clock, where that renewal was not heard.
    pub ends: Timestamp,
}

impl Signer {
    /// Until when it is waited for if it is heard of no more.
    pub fn holds_until(&self) -> Timestamp {
        let hold = SignedDuration::from_secs(self.says.hold_seconds.unwrap_or_default().into());
        // A controller that starts anew does not begin to count anew.
        later(self.ends, hold.min(REMEMBERED)).max(self.until)
    }

    /// Whether it still uses a key that is left, as far as it says.
    pub fn is_behind(&self, ask: &Ask, left: &str) -> bool {
        match self.says.version {
            Some(version) => version < ask.version || self.says.except.contains(&ask.secret),
            None => {
                self.says.keys.get(ask.domain.as_str()).is_some_and(|keys| keys.iter().any(|k| k == left))
            }
        }
    }

    /// Whether it still signs by names of before, as far as it says. One that names its keys says nothing of names.
    pub fn is_elsewhere(&self, ask: &Ask) -> bool {
        let behind = |version| version < ask.names.version || self.says.except.contains(&ask.secret);
        ask.names.left && self.says.version.is_some_and(behind)
    }

    /// Since when it has been asked for what it has not left: keys, and names.
    fn owes(&self, ask: &Ask) -> impl Iterator<Item = Timestamp> {
        let keys = ask.left.iter().any(|left| self.is_behind(ask, left)).then_some(ask.since);
        let names = self.is_elsewhere(ask).then_some(ask.names.since);
        [keys, names].into_iter().flatten()
    }

    /// Whether it still uses any key or name that is left.
    pub fn is_late(&self, ask: &Ask) -> bool {
        self.owes(ask).next().is_some()
    }

    /// Since when it has been asked for what it has not left, if that is for longer than it may take.
    pub fn late_since(&self, ask: &Ask, now: Timestamp) -> Option<Timestamp> {
        self.owes(ask).filter(|since| later(*since, ask.lag) <= now).min()
    }
}

/// What signers are asked about one domain: whether they have left its keys and names of before.
#[derive(Debug)]
pub(super) struct Ask {
    /// The Secret's namespace.
    pub namespace: String,
    /// The Secret.
    pub secret: String,
    /// The domain.
    pub domain: DomainName,
    /// The keys that signers are told to use.
    pub told: Vec<KeyFingerprint>,
    /// The Secret's version in which that was first seen.
    pub version: u64,
    /// When.
    pub since: Timestamp,
    /// How long a signer may take.
    pub lag: SignedDuration,
    /// The names of the keys that are left.
    pub left: BTreeSet<String>,
    /// By which names they are told to sign.
    pub names: Names,
}

/// By which names of the provider's signers are told to sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Names {
    /// Which, and by which lanes, where mail is signed as the provider.
    pub told: Option<(Vec<LaneId>, String)>,
    /// The Secret's version in which that was first seen.
    pub version: u64,
    /// When.
    pub since: Timestamp,
    /// There are names of before.
    pub left: bool,
}

impl Ask {
    /// The version that answers everything that is asked.
    pub fn all_by(&self) -> u64 {
        if self.names.left { self.version.max(self.names.version) } else { self.version }
    }

    /// When signers that have not followed are late, with keys and with names.
    pub fn due(&self) -> impl Iterator<Item = Timestamp> {
        let keys = (!self.left.is_empty()).then_some(self.since);
        let names = self.names.left.then_some(self.names.since);
        [keys, names].into_iter().flatten().map(|since| later(since, self.lag))
    }
}
