//! The rotation state machine: what to do next, as a pure function of keyring, policy, evidence and time.
//!
//! ```text
//! Empty ─generate→ Generated ─seen→ Published ─settled→ Active ─other takes over→ Draining ─drained→ Empty
//!                                                          └─compromised→ Revoked ─old answers run out→ Empty
//! ```

mod change;
mod decide;
mod evidence;
mod link;
mod moving;
mod relocate;
#[cfg(test)]
mod tests;
mod whole;

use jiff::{SignedDuration, Timestamp};

use super::cadence::Cadence;
use super::key::{KeyFingerprint, KeyKind};
use super::keyring::later;
use super::selector::{PerSlot, SlotId};

pub use change::{Cause, Change};
pub use decide::decide;
pub use moving::{Move, Moving, NextName};
pub use relocate::{FormerSeen, Sights, relocate};
pub use whole::{LaneObserved, VaultDecision, VaultObserved, Wanted, decide_vault};

/// Resolvers count in whole seconds, so that an answer may live for up to one more than its TTL (seen with Unbound).
pub const ROUNDING: u32 = 1;

/// What spec and provider ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Sign as the domain where possible.
    pub enabled: bool,
    /// The kind of key wanted.
    pub kind: KeyKind,
    /// When rotations are due.
    pub cadence: Cadence,
    /// The domain's own part of the jitter: added to every time that the cadence gives.
    pub offset: SignedDuration,
    /// How long a key stays published after its last use.
    pub drain: SignedDuration,
    /// The longest time for which a signer may go on with what it read before.
    pub signer_lag: SignedDuration,
    /// Begin no rotation.
    pub paused: bool,
    /// Rotate once at this time.
    pub rotate_at: Option<Timestamp>,
    /// Keys made at or before this moment are in the wrong hands: they sign no longer than it takes to have another.
    pub compromised_at: Option<Timestamp>,
    /// Rotate when other keys have been rolled, at this moment.
    pub along_with: Option<Timestamp>,
    /// These keys are no longer wanted: they stop signing, what has signed drains, and nothing is made any more.
    pub retired: bool,
    /// A tenant publishes the keys themselves, not CNAMEs: with each new key the link begins anew.
    pub link_per_key: bool,
    /// Keys that the user brings, by fingerprint: each is put into its slot once, in place of one we would make.
    pub imports: PerSlot<Option<KeyFingerprint>>,
    /// For how many seconds resolvers may remember one of our TXT records.
    pub ttl: u32,
    /// For how many seconds resolvers may remember a negative answer of ours.
    pub negative_ttl: u32,
    /// For how many seconds more than its TTL a resolver may hold an answer, whoever gave it: see [`ROUNDING`].
    pub rounding: u32,
    /// For how many seconds at most resolvers may remember a tenant's CNAME, whatever its TTL was.
    pub cname_ttl: u32,
    /// How long the CNAMEs must be gone before signing falls back to the default.
    pub grace: SignedDuration,
    /// How old evidence may be for a switch to rest on it.
    pub freshness: SignedDuration,
}

impl Policy {
    /// From the last use of a key to the end of its publication, counted from the moment signers are told.
    #[must_use]
    pub fn drain_time(&self) -> SignedDuration {
        self.drain.saturating_add(self.signer_lag)
    }

    /// When no resolver holds any more what was answered until `at` with this TTL, in seconds.
    #[must_use]
    pub fn run_out(&self, at: Timestamp, ttl: u32) -> Timestamp {
        later(at, self.memory(ttl))
    }

    /// For how long names stay that no CNAME in use leads to any more: resolvers may still follow the one that did.
    #[must_use]
    pub fn parting_time(&self) -> SignedDuration {
        self.drain_time().max(self.memory(self.cname_ttl))
    }

    fn memory(&self, ttl: u32) -> SignedDuration {
        SignedDuration::from_secs(i64::from(ttl.saturating_add(self.rounding)))
    }

    /// Whether a look that began at `at` may be gone by. One from the future was made before the clock was set back, nobody
    /// knows how long ago.
    #[must_use]
    pub fn is_fresh(&self, at: Timestamp, now: Timestamp) -> bool {
        now.duration_since(at).abs() <= self.freshness
    }

    /// For how long a revoked key's name says so before it gets a new key: until no resolver remembers the old one, which
    /// it may have been told under the TTL `lowered` since, and no signer uses it, and an hour at that unless the drain is
    /// shorter.
    #[must_use]
    pub fn revocation_time(&self, lowered: u32) -> SignedDuration {
        self.memory(self.ttl.max(self.negative_ttl).max(lowered))
            .saturating_add(self.signer_lag)
            .max(self.drain.min(SignedDuration::from_hours(1)))
    }
}

/// What DNS proves, as far as a decision needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evidence {
    /// When the look began.
    pub at: Timestamp,
    /// Slot by slot.
    pub slots: PerSlot<SlotEvidence>,
}

impl Evidence {
    /// See [`LinkSight::by_name`].
    fn by_name(mut self) -> Self {
        self.slots.0.iter_mut().for_each(|slot| slot.link = slot.link.by_name());
        self
    }
}

/// What DNS proves of one slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotEvidence {
    /// The tenant's CNAME.
    pub link: LinkSight,
    /// The TXT with the slot's present key, at the provider's name.
    pub key: KeySight,
}

/// What DNS proves of a CNAME.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkSight {
    /// Every server that was heard has it.
    Verified {
        /// Seconds for which resolvers may remember the older answer.
        older_ttl: u32,
        /// What they have is a copy of the key: it is reached, but by which of its names is not seen.
        by_copy: bool,
    },
    /// Every server that was heard says that it is not there, or another.
    Broken {
        /// Seconds for which resolvers may remember that.
        older_ttl: u32,
    },
    /// Servers disagree or none could be heard: proves nothing.
    Unclear,
}

impl LinkSight {
    /// What it proves where the key is published under more than one name: a copy is the same by each of them.
    #[must_use]
    pub fn by_name(self) -> Self {
        match self {
            Self::Verified { by_copy: true, .. } => Self::Unclear,
            sight => sight,
        }
    }
}

/// What DNS proves of a key's TXT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeySight {
    /// Every server has this key and no other.
    Matches,
    /// Every server that was heard has it, but one was not heard: it may have an older answer.
    MatchesWhereHeard,
    /// Every server that was heard has none or another.
    Contradicted,
    /// Servers disagree or none could be heard: proves nothing.
    Unclear,
}

impl KeySight {
    /// Whether a key that every server had before is still there, as far as can be heard.
    #[must_use]
    pub fn is_there(self) -> bool {
        matches!(self, Self::Matches | Self::MatchesWhereHeard)
    }
}

/// Whether each slot's private key is in custody: there, readable, and the one whose fingerprint is on record.
pub type Custody = PerSlot<bool>;

/// What was observed besides the keyring itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observed<'a> {
    /// The last look at DNS, if there was one for these names.
    pub evidence: Option<&'a Evidence>,
    /// Which private keys are in hand.
    pub custody: Custody,
    /// In which slots a signer that is alive says, or may be taken to say, that it still uses the key before the
    /// present one.
    pub in_use: PerSlot<bool>,
}

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What to change, in order, in one write.
    pub changes: Vec<Change>,
    /// Why a rotation that is due does not happen.
    pub waiting: Option<Wait>,
    /// When a rotation is due next.
    pub next: Option<Timestamp>,
    /// When to decide again even if nothing else happens.
    pub wake: Option<Timestamp>,
    /// Something hangs on a look at DNS that is newer than the evidence.
    pub look: bool,
}

/// Why a rotation that is due waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// `rotation.paused`.
    Paused,
    /// The other slot still holds the previous key.
    Draining {
        /// Which slot.
        slot: SlotId,
        /// Until when.
        until: Timestamp,
    },
    /// A signer still uses the previous key of the other slot.
    InUse {
        /// Which slot.
        slot: SlotId,
    },
    /// The other slot's previous key is being revoked.
    Revoking {
        /// Which slot.
        slot: SlotId,
        /// Until when.
        until: Timestamp,
    },
    /// The next key is not yet seen in DNS.
    Unpublished {
        /// Which slot.
        slot: SlotId,
    },
    /// Resolvers may still hold older answers.
    Settling {
        /// Which slot.
        slot: SlotId,
        /// Until when.
        until: Timestamp,
    },
    /// The tenant's CNAME for the next key is not there.
    LinkDown {
        /// Which slot.
        slot: SlotId,
    },
    /// Resolvers may be led to names of before a move, or of one that was called off, until these have drained.
    FormerNames {
        /// Which slot.
        slot: SlotId,
    },
    /// DNS gives no clear answer right now.
    Unclear {
        /// Which slot.
        slot: SlotId,
    },
}
