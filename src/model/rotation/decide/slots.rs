//! What the slots hold: which keys are lost, which go, and where a new one is made.

use super::Run;
use crate::model::key::KeyFingerprint;
use crate::model::keyring::{KeyInfo, Phase, Slot};
use crate::model::rotation::{Change, Observed, Policy};
use crate::model::selector::SlotId;

impl Run<'_> {
    /// A key whose private half is gone cannot sign: what it signed drains, what has not signed is replaced.
    pub(super) fn take_stock(&mut self, observed: &Observed<'_>) {
        let Observed { custody, in_use, evidence: _ } = observed;
        for slot in SlotId::ALL {
            match self.ring.slots[slot].phase {
                Phase::Draining { held: false, .. } if in_use[slot] => self.make(Change::Hold { slot }),
                Phase::Draining { held: true, .. } if !in_use[slot] => {
                    // What reports for a signer may have told it only just now.
                    self.make(Change::Free { slot, drain: self.policy.drain_time() });
                }
                _ => {}
            }
            let needs_key = matches!(
                self.ring.slots[slot].phase,
                Phase::Generated { .. } | Phase::Published { .. } | Phase::Active { .. }
            );
            if needs_key && !custody[slot] {
                self.make(Change::Lost { slot, drain: self.policy.drain_time() });
            }
        }
    }

    /// Empty slots, drained ones, and keys that have never signed and are outdated get a new key.
    pub(super) fn fill_slots(&mut self, observed: &Observed<'_>) {
        if self.policy.retired {
            return self.clear_slots();
        }
        for slot in SlotId::ALL {
            let Policy { kind, ttl, link_per_key, .. } = *self.policy;
            let import = self.brought(slot).is_some();
            let Slot { phase, older_ttl, lowered_ttl, .. } = &self.ring.slots[slot];
            let present = ttl.max(*lowered_ttl);
            let older_ttl = match phase {
                // Nothing was ever there before the first keys; later, what went may be remembered.
                Phase::Empty if self.ring.last_serial == 0 => Some(*older_ttl),
                Phase::Empty => Some(present.max(*older_ttl)),
                // What was there before this key has run out before it signed.
                phase if self.is_over(phase) => Some(present),
                Phase::Generated { key } | Phase::Published { key, .. } if self.outdated(slot, key) => {
                    Some(present.max(*older_ttl))
                }
                _ => None,
            };
            if let Some(older_ttl) = older_ttl.filter(|_| !observed.in_use[slot]) {
                self.make(Change::Generate { slot, kind, older_ttl, import, unlink: link_per_key });
            }
        }
    }

    fn clear_slots(&mut self) {
        for slot in SlotId::ALL {
            if self.is_over(&self.ring.slots[slot].phase) {
                self.make(Change::Clear { slot });
            }
        }
    }

    /// Whether a key has drained, or been revoked for long enough.
    fn is_over(&self, phase: &Phase) -> bool {
        match phase {
            Phase::Draining { until, held, .. } => *until <= self.now && !held,
            Phase::Revoked { until, .. } => *until <= self.now,
            Phase::Empty | Phase::Generated { .. } | Phase::Published { .. } | Phase::Active { .. } => false,
        }
    }

    /// Whether a key that has not signed is to make room for another: of the kind that is wanted now, or one that the
    /// user brings.
    pub(super) fn outdated(&self, slot: SlotId, key: &KeyInfo) -> bool {
        let brought = self.brought(slot).is_some_and(|fingerprint| *fingerprint != key.fingerprint);
        brought || (key.kind != self.policy.kind && !key.imported)
    }

    /// The key that the user brings for a slot and that has not had its turn.
    fn brought(&self, slot: SlotId) -> Option<&KeyFingerprint> {
        self.policy.imports[slot].as_ref().filter(|key| !self.ring.log.imported.contains(key))
    }
}
