//! The changes a keyring can undergo, and their application. Nothing else alters a keyring.

use jiff::{SignedDuration, Timestamp};

use crate::model::key::KeyKind;
use crate::model::keyring::{KeyInfo, Keyring, Link, Mode, Phase, later};
use crate::model::selector::SlotId;

/// Why a key became active.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// None signed before.
    First,
    /// By schedule.
    Schedule,
    /// Asked for by `rotateAt`.
    Request,
    /// Rolled along with other keys.
    Along,
    /// The key before is in the wrong hands.
    Compromised,
    /// Another kind of key is wanted.
    NewKind,
    /// The CNAME of the key before is gone.
    LinkLost,
    /// The TXT of the key before is gone.
    RecordLost,
    /// The private key before is gone.
    KeyLost,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The CNAME has appeared.
    LinkUp {
        /// The slot.
        slot: SlotId,
        /// When every resolver's older answer has run out.
        trusted_from: Timestamp,
    },
    /// The CNAME has gone.
    LinkDown {
        /// The slot.
        slot: SlotId,
        /// Since when.
        since: Timestamp,
        /// Seconds for which resolvers may remember what is there instead.
        older_ttl: u32,
    },
    /// The CNAME is still not there, and resolvers may remember what is there instead for longer than was known.
    LinkMemory {
        /// The slot.
        slot: SlotId,
        /// Seconds.
        older_ttl: u32,
    },
    /// The key's TXT is seen at every server.
    Seen {
        /// The slot.
        slot: SlotId,
        /// When every resolver's older answer has run out.
        settled: Timestamp,
    },
    /// The TXT of a key that waits is gone again.
    Unseen {
        /// The slot.
        slot: SlotId,
    },
    /// The private key is gone.
    Lost {
        /// The slot.
        slot: SlotId,
        /// How long the TXT stays if the key has signed.
        drain: SignedDuration,
    },
    /// The slot's key signs from now on; the other one, if it did, drains.
    Activate {
        /// The slot.
        slot: SlotId,
        /// Why.
        cause: Cause,
        /// How long the key before stays published, or says that it is revoked.
        drain: SignedDuration,
    },
    /// Sign as the domain or as the provider.
    SetMode {
        /// As whom.
        mode: Mode,
    },
    /// A new key is wanted in the slot; what is in it goes. Applied by [`Keyring::install`] once it is made.
    Generate {
        /// The slot.
        slot: SlotId,
        /// The kind, unless the user brings a key.
        kind: KeyKind,
        /// The TTL, in seconds, under which the slot's name answers now.
        older_ttl: u32,
        /// Take the key that the user brings.
        import: bool,
        /// The tenant must publish the new key: the link begins anew.
        unlink: bool,
    },
    /// A signer still uses a key that drains.
    Hold {
        /// The slot.
        slot: SlotId,
    },
    /// No signer uses the key any more: it drains from now on.
    Free {
        /// The slot.
        slot: SlotId,
        /// For how long.
        drain: SignedDuration,
    },
    /// A key that drains is in the wrong hands.
    Revoke {
        /// The slot.
        slot: SlotId,
        /// For how long its name says that it is revoked.
        stay: SignedDuration,
    },
    /// A key that has drained goes, and none comes.
    Clear {
        /// The slot.
        slot: SlotId,
    },
    /// The keys are no longer wanted: what has signed drains, what has not goes.
    Retire {
        /// The slot.
        slot: SlotId,
        /// How long the TXT stays if the key has signed.
        drain: SignedDuration,
    },
    /// A rotation was asked for.
    NoteRequest {
        /// `rotateAt`.
        at: Timestamp,
    },
    /// What was asked for is not wanted any more.
    DropRequest,
}

impl Change {
    /// The slot it is about.
    #[must_use]
    pub fn slot(&self) -> Option<SlotId> {
        match self {
            Self::LinkUp { slot, .. }
            | Self::LinkDown { slot, .. }
            | Self::LinkMemory { slot, .. }
            | Self::Seen { slot, .. }
            | Self::Unseen { slot }
            | Self::Lost { slot, .. }
            | Self::Activate { slot, .. }
            | Self::Hold { slot }
            | Self::Free { slot, .. }
            | Self::Retire { slot, .. }
            | Self::Revoke { slot, .. }
            | Self::Clear { slot }
            | Self::Generate { slot, .. } => Some(*slot),
            Self::SetMode { .. } | Self::NoteRequest { .. } | Self::DropRequest => None,
        }
    }
}

impl Keyring {
    /// Applies one change at `now`. A change that does not fit the slot's phase alters nothing.
    pub fn apply(&mut self, change: &Change, now: Timestamp) {
        self.latest = Some(self.latest.map_or(now, |latest| latest.max(now)));
        match *change {
            Change::LinkUp { slot, trusted_from } => self.slots[slot].link = Link::Up { trusted_from },
            Change::LinkDown { slot, since, older_ttl } => {
                self.slots[slot].link = Link::Down { since, older_ttl };
            }
            Change::LinkMemory { slot, older_ttl } => {
                if let Link::Down { since, .. } = self.slots[slot].link {
                    self.slots[slot].link = Link::Down { since, older_ttl };
                }
            }
            Change::Seen { slot, settled } => {
                if let Phase::Generated { key } = self.slots[slot].phase.clone() {
                    self.slots[slot].phase = Phase::Published { key, seen: now, settled };
                }
            }
            Change::Unseen { slot } => {
                let state = &mut self.slots[slot];
                if let Phase::Published { key, .. } = state.phase.clone() {
                    state.phase = Phase::Generated { key };
                    state.older_ttl = state.older_ttl.max(state.lowered_ttl);
                }
            }
            Change::Lost { slot, drain } | Change::Retire { slot, drain } => {
                self.slots[slot].phase = match self.slots[slot].phase.clone() {
                    Phase::Active { key, since, .. } => {
                        Phase::Draining { key, since, until: later(now, drain), held: false }
                    }
                    leaving @ (Phase::Draining { .. } | Phase::Revoked { .. }) => leaving,
                    Phase::Empty | Phase::Generated { .. } | Phase::Published { .. } => Phase::Empty,
                };
            }
            Change::Revoke { slot, stay } => {
                if let Phase::Draining { key, .. } = self.slots[slot].phase.clone() {
                    self.slots[slot].phase = Phase::Revoked { key, since: now, until: later(now, stay) };
                }
            }
            Change::Clear { slot } => self.slots[slot].phase = Phase::Empty,
            Change::Hold { slot } => {
                if let Phase::Draining { held, .. } = &mut self.slots[slot].phase {
                    *held = true;
                }
            }
            Change::Free { slot, drain } => {
                if let Phase::Draining { held, until, .. } = &mut self.slots[slot].phase {
                    *held = false;
                    *until = later(now, drain).max(*until);
                }
            }
            Change::Activate { slot, cause, drain } => self.activate(slot, cause, drain, now),
            Change::SetMode { mode } => {
                self.mode = mode;
                self.mode_since = now;
            }
            Change::Generate { slot, older_ttl, unlink, .. } => {
                self.slots[slot].phase = Phase::Empty;
                self.slots[slot].older_ttl = older_ttl;
                self.slots[slot].lowered_ttl = 0;
                if unlink {
                    self.slots[slot].link = Link::unseen(now);
                }
            }
            Change::NoteRequest { at } => {
                self.log.noted_request = Some(at);
                self.log.pending_request = Some(at);
            }
            Change::DropRequest => {
                // Asked for again, it is a new request.
                self.log.noted_request = None;
                self.log.pending_request = None;
            }
        }
    }

    fn activate(&mut self, slot: SlotId, cause: Cause, drain: SignedDuration, now: Timestamp) {
        let Phase::Published { key, seen, .. } = self.slots[slot].phase.clone() else { return };
        let other = slot.other();
        if let Phase::Active { key, since, .. } = self.slots[other].phase.clone() {
            let until = later(now, drain);
            self.slots[other].phase = if cause == Cause::Compromised {
                Phase::Revoked { key, since: now, until }
            } else {
                Phase::Draining { key, since, until, held: false }
            };
        }
        self.slots[slot].phase = Phase::Active { key, seen, since: now };
        if cause != Cause::First {
            self.log.count += 1;
        }
        self.log.last = Some(now);
        self.log.pending_request = None;
    }

    /// Puts a new key into an empty slot; the slot's name keeps its `older_ttl`.
    pub fn install(&mut self, slot: SlotId, key: KeyInfo) {
        self.last_serial = self.last_serial.max(key.serial);
        if key.imported {
            self.log.imported.push(key.fingerprint.clone());
        }
        self.slots[slot].phase = Phase::Generated { key };
    }
}
