//! From the answers of DNS to what they prove of a keyring.

use super::{Evidence, KeySight, LinkSight, SlotEvidence};
use crate::api::Delegation;
use crate::model::diagnosis::{self, KeyEvidence, LinkEvidence};
use crate::model::keyring::Keyring;
use crate::model::selector::PerSlot;
use crate::model::sighting::{Observation, Outcome, Question, ServerAnswer, ServerRole};

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
                    KeyEvidence::Matches if all_heard(&sighting.target_txt) => KeySight::Matches,
                    KeyEvidence::Matches => KeySight::MatchesWhereHeard,
                    KeyEvidence::Differs { .. } | KeyEvidence::Absent => KeySight::Contradicted,
                    KeyEvidence::Partial | KeyEvidence::Unknown { .. } => KeySight::Unclear,
                },
            };
            SlotEvidence { link, key }
        });
        Self { at: observation.at, slots }
    }
}

/// Whether each of the zone's own servers was heard, at one of its addresses at least. One that cannot be heard from
/// here may well be heard by receivers. Where none can be asked but resolvers, they have to do.
fn all_heard(answers: &[ServerAnswer]) -> bool {
    let own = || answers.iter().filter(|a| a.role == ServerRole::Authoritative);
    let heard = |a: &&ServerAnswer| !matches!(a.outcome, Outcome::Failed(_));
    !own().any(|a| heard(&a))
        || own().all(|a| {
            own()
                .filter(heard)
                .any(|b| a.name.as_ref().map_or(a.address == b.address, |n| Some(n) == b.name.as_ref()))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::name::DnsName;
    use crate::model::sighting::Failure;

    #[test]
    fn a_server_is_heard_at_any_of_its_addresses() {
        let answer = |name: &str, last: u8, outcome: Outcome| ServerAnswer {
            name: Some(DnsName::new(name).unwrap()),
            address: std::net::SocketAddr::from(([192, 0, 2, last], 53)),
            role: ServerRole::Authoritative,
            outcome,
        };
        let there = || Outcome::Txt { texts: vec!["v=DKIM1; p=".into()], ttl: 60 };
        let silent = || Outcome::Failed(Failure::Timeout);
        let one = answer("ns1.example", 1, there());
        assert!(all_heard(&[one.clone(), answer("ns1.example", 2, silent())]));
        assert!(!all_heard(&[one, answer("ns2.example", 2, silent())]));
        let resolver = ServerAnswer { role: ServerRole::Recursive, ..answer("r.example", 3, there()) };
        assert!(all_heard(&[answer("ns1.example", 1, silent()), resolver]), "nobody else can be asked");
    }
}
