//! From the answers of DNS to what they prove of a keyring.

use super::{Evidence, KeySight, LinkSight, SlotEvidence};
use crate::model::diagnosis::{self, KeyEvidence, LinkEvidence};
use crate::model::keyring::Keyring;
use crate::model::selector::PerSlot;
use crate::model::sighting::{Observation, Question};

impl Evidence {
    /// What an observation proves of this keyring. Judged against the keys of the moment: an old answer never
    /// vouches for a new key.
    #[must_use]
    pub fn of(observation: &Observation, question: &Question, keyring: &Keyring) -> Self {
        let slots = PerSlot::from_fn(|slot| {
            let sighting = &observation.slots[slot];
            let link = match diagnosis::link_evidence(&question.slots[slot], sighting) {
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
