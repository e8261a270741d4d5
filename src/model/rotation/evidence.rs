//! From the answers of DNS to what they prove of a keyring.

use super::{Evidence, KeySight, LinkSight, SlotEvidence};
use crate::api::Delegation;
use crate::model::diagnosis::{self, KeyEvidence, LinkEvidence};
use crate::model::keyring::Keyring;
use crate::model::selector::PerSlot;
use crate::model::sighting::{Observation, Question};

impl Evidence {
    /// What an observation proves of this keyring. Judged against the keys of the moment: an old answer never
    /// vouches for a new key.
    #[must_use]
    pub fn of(
        observation: &Observation,
        question: &Question,
        keyring: &Keyring,
        delegation: Delegation,
    ) -> Self {
        let slots = PerSlot::from_fn(|slot| {
            let sighting = &observation.slots[slot];
            let wanted = &question.slots[slot];
            let link = match (delegation, keyring.slots[slot].phase.key()) {
                (Delegation::Txt, Some(key)) => diagnosis::copy_evidence(wanted, sighting, &key.fingerprint),
                _ => diagnosis::link_evidence(wanted, sighting),
            };
            let link = match link {
                LinkEvidence::Verified { older_answers_ttl } => {
                    LinkSight::Verified { older_ttl: older_answers_ttl }
                }
                LinkEvidence::Broken { older_answers_ttl, .. } => {
                    LinkSight::Broken { older_ttl: older_answers_ttl }
                }
                LinkEvidence::Partial | LinkEvidence::Unknown { .. } => LinkSight::Unclear,
            };
            let key = match keyring.slots[slot].phase.key() {
                None => KeySight::Unclear,
                Some(key) => match diagnosis::key_evidence(&sighting.target_txt, &key.fingerprint) {
                    KeyEvidence::Matches => KeySight::Matches,
                    KeyEvidence::Differs { .. } | KeyEvidence::Absent => KeySight::Contradicted,
                    KeyEvidence::Partial | KeyEvidence::Unknown { .. } => KeySight::Unclear,
                },
            };
            SlotEvidence { link, key }
        });
        Self { at: observation.at, slots }
    }
}
