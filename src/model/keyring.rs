//! The keyring: two slots with their keys' phases and times, a part of the vault.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::key::{KeyFingerprint, KeyKind, PublicKey};
use super::selector::{PerSlot, Selector, SlotId};

/// Everything about one pair of slots but the private halves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Keyring {
    /// The greatest serial given to a key so far. Serials are never used twice.
    pub last_serial: u64,
    /// As whom mail is signed.
    pub mode: Mode,
    /// Since when.
    pub mode_since: Timestamp,
    /// The two slots.
    pub slots: PerSlot<Slot>,
    /// Rotations past and asked for.
    pub log: RotationLog,
    /// The moment of the latest change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest: Option<Timestamp>,
}

/// As whom mail is signed with the active key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Mode {
    /// As the provider: `d=` the initial domain, `s=` the provider's selector. Needs no CNAME.
    Default,
    /// As the domain itself, through the tenant's CNAME.
    Domain,
}

/// One slot: a selector, the key in it, and the CNAME that leads to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Slot {
    /// The slot's selector.
    pub selector: Selector,
    /// Where its key stands.
    pub phase: Phase,
    /// Where its CNAME stands.
    pub link: Link,
    /// Seconds for which resolvers may hold what this slot's name answered before the present key.
    pub older_ttl: u32,
    /// The greatest TTL under which the name has answered with the present key, where that was lowered since; or else 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lowered_ttl: u32,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature serde asks for")]
fn is_zero(seconds: &u32) -> bool {
    *seconds == 0
}

/// A key without its private half.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyInfo {
    /// Counts the keys of a domain from 1.
    pub serial: u64,
    /// What kind of key it is.
    pub kind: KeyKind,
    /// The public half.
    pub public: PublicKey,
    /// Its fingerprint.
    pub fingerprint: KeyFingerprint,
    /// When it was made, or taken in.
    pub created: Timestamp,
    /// The user brought it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub imported: bool,
}

/// The life of a key in its slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all_fields = "camelCase")]
pub enum Phase {
    /// No key.
    Empty,
    /// Made and stored; its TXT not yet seen in DNS.
    Generated {
        /// The key.
        key: KeyInfo,
    },
    /// Seen in DNS at every server.
    Published {
        /// The key.
        key: KeyInfo,
        /// When it was first seen.
        seen: Timestamp,
        /// When every resolver's older answer has run out.
        settled: Timestamp,
    },
    /// Signers are told to sign with it.
    Active {
        /// The key.
        key: KeyInfo,
        /// When it was first seen in DNS.
        seen: Timestamp,
        /// Since when it signs.
        since: Timestamp,
    },
    /// It has signed, and stays published until mail under way has arrived.
    Draining {
        /// The key.
        key: KeyInfo,
        /// Since when it signed.
        since: Timestamp,
        /// Until when it stays published.
        until: Timestamp,
        /// A signer was found to use it still: it stays, and drains anew from the moment that none does.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        held: bool,
    },
    /// It is in the wrong hands: its private half is destroyed, and its name says that it is revoked (an empty `p=`,
    /// RFC 6376 §3.6.1).
    Revoked {
        /// The key.
        key: KeyInfo,
        /// Since when it is revoked.
        since: Timestamp,
        /// Until when its name says so.
        until: Timestamp,
    },
}

impl Phase {
    /// The key, if there is one.
    #[must_use]
    pub fn key(&self) -> Option<&KeyInfo> {
        match self {
            Self::Empty => None,
            Self::Generated { key }
            | Self::Published { key, .. }
            | Self::Active { key, .. }
            | Self::Draining { key, .. }
            | Self::Revoked { key, .. } => Some(key),
        }
    }

    /// The phase's name as status shows it.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Generated { .. } => "Generated",
            Self::Published { .. } => "Published",
            Self::Active { .. } => "Active",
            Self::Draining { .. } => "Draining",
            Self::Revoked { .. } => "Revoked",
        }
    }
}

/// Where a slot's CNAME stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all_fields = "camelCase")]
pub enum Link {
    /// Not there, or not yet looked at.
    Down {
        /// Since when.
        since: Timestamp,
        /// Seconds for which a resolver may remember what is there instead.
        older_ttl: u32,
    },
    /// There.
    Up {
        /// When every resolver's older answer has run out.
        trusted_from: Timestamp,
    },
}

impl Link {
    /// One that was not looked at.
    #[must_use]
    pub fn unseen(now: Timestamp) -> Self {
        Self::Down { since: now, older_ttl: 0 }
    }
}

/// Rotations past and asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RotationLog {
    /// How often the active key was replaced.
    pub count: u64,
    /// The last time the active key changed (the first activation included).
    pub last: Option<Timestamp>,
    /// The newest `rotateAt` taken note of.
    pub noted_request: Option<Timestamp>,
    /// A request not yet carried out.
    pub pending_request: Option<Timestamp>,
    /// Keys that the user brought and that have had their turn: none is taken in twice.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub imported: Vec<KeyFingerprint>,
}

impl Keyring {
    /// A keyring without keys.
    #[must_use]
    pub fn new(selectors: PerSlot<Selector>, now: Timestamp) -> Self {
        let PerSlot([one, two]) = selectors;
        let slot = |selector| Slot {
            selector,
            phase: Phase::Empty,
            link: Link::unseen(now),
            older_ttl: 0,
            lowered_ttl: 0,
        };
        Self {
            last_serial: 0,
            mode: Mode::Default,
            mode_since: now,
            slots: PerSlot([slot(one), slot(two)]),
            log: RotationLog::default(),
            latest: None,
        }
    }

    /// Remembers for how many seconds the names may have been promised to answer as they do, that being about to be
    /// lowered.
    pub(super) fn lower_ttl(&mut self, seconds: u32) {
        for slot in SlotId::ALL {
            let slot = &mut self.slots[slot];
            slot.lowered_ttl = slot.lowered_ttl.max(seconds);
            // What answers before the present key is seen is older than that.
            if matches!(slot.phase, Phase::Empty | Phase::Generated { .. }) {
                slot.older_ttl = slot.older_ttl.max(seconds);
            }
        }
    }

    /// The slot that signs.
    #[must_use]
    pub fn active(&self) -> Option<SlotId> {
        SlotId::ALL.into_iter().find(|s| matches!(self.slots[*s].phase, Phase::Active { .. }))
    }

    /// The latest moment this keyring knows of. No decision is taken at an earlier one, so a clock that was set
    /// back delays and never repeats.
    #[must_use]
    pub fn high_water(&self) -> Timestamp {
        let mut latest = self.latest.map_or(self.mode_since, |latest| latest.max(self.mode_since));
        for (_, slot) in self.slots.iter() {
            let key = slot.phase.key().map(|k| k.created);
            let phase = match &slot.phase {
                Phase::Empty | Phase::Generated { .. } => None,
                Phase::Published { seen, .. } => Some(*seen),
                Phase::Active { since, .. }
                | Phase::Draining { since, .. }
                | Phase::Revoked { since, .. } => Some(*since),
            };
            let link = match slot.link {
                Link::Down { since, .. } => Some(since),
                Link::Up { .. } => None,
            };
            latest = [key, phase, link].into_iter().flatten().fold(latest, Timestamp::max);
        }
        self.log.last.map_or(latest, |last| latest.max(last))
    }
}

/// `at` plus `by`, held at the ends of the calendar instead of failing.
#[must_use]
pub fn later(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.saturating_add(by).unwrap_or(Timestamp::MAX)
}
