//! From the answers of DNS to what they prove of a keyring.

use super::{Evidence, KeySight, LinkSight, SlotEvidence};
use crate::api::Delegation;
use crate::model::diagnosis::{self, KeyEvidence, LinkEvidence};
use crate::model::keyring::{Keyring, Link};
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
        // What no look has seen cannot be known. Before a CNAME that the first look finds there may have been another: that is
        // taken to have had no longer a TTL than what the zone has at both names now.
        let unseen = observation.slots.0.iter().map(diagnosis::present_ttl).max().unwrap_or(0);
        let slots = PerSlot::from_fn(|slot| {
            let sighting = &observation.slots[slot];
            let wanted = &question.slots[slot];
            let link = match (delegation, keyring.slots[slot].phase.key()) {
                (Delegation::Txt, Some(key)) => diagnosis::copy_evidence(wanted, sighting, &key.fingerprint),
                _ => diagnosis::link_evidence(wanted, sighting),
            };
            let link = match link {
                LinkEvidence::Verified { older_answers_ttl, by_copy } => {
                    let first = matches!(keyring.slots[slot].link, Link::Down { older_ttl: 0, .. });
                    let guess = if first { unseen } else { 0 };
                    LinkSight::Verified { older_ttl: older_answers_ttl.max(guess), by_copy }
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
    use jiff::Timestamp;

    use super::*;
    use crate::model::name::{DnsName, DomainName};
    use crate::model::selector::{Selector, SlotId};
    use crate::model::sighting::{Failure, SlotQuestion, SlotSighting};

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

    /// The CNAMEs as they belong, with this TTL, in a zone that remembers absence for a minute.
    fn right(question: &Question, ttl: u32) -> Observation {
        let slots = question.slots.0.clone().map(|wanted| SlotSighting {
            alias: vec![ServerAnswer {
                name: None,
                address: ([192, 0, 2, 1], 53).into(),
                role: ServerRole::Authoritative,
                outcome: Outcome::Cname { target: wanted.target, ttl },
            }],
            negative_ttl: Some(60),
            ..SlotSighting::default()
        });
        Observation { at: Timestamp::UNIX_EPOCH, slots: PerSlot(slots) }
    }

    #[test]
    fn before_a_cname_that_the_first_look_finds_there_may_have_been_another() {
        let name = |text: String| DnsName::new(text).unwrap();
        let wanted = ["selector1", "selector2"].map(|selector| SlotQuestion {
            alias: name(format!("{selector}._domainkey.contoso.com")),
            target: name(format!("{selector}-contoso-com._domainkey.onmail.example")),
        });
        let question = Question { domain: DomainName::parse("contoso.com").unwrap(), slots: PerSlot(wanted) };
        let selectors = PerSlot(["selector1", "selector2"].map(|s| Selector::parse(s).unwrap()));
        let mut ring = Keyring::new(selectors, Timestamp::UNIX_EPOCH);
        let older = |ring: &Keyring| {
            let evidence = Evidence::of(&right(&question, 3_600), &question, ring, Delegation::Cname);
            evidence.slots.0.map(|slot| match slot.link {
                LinkSight::Verified { older_ttl, .. } => older_ttl,
                other => panic!("{other:?}"),
            })
        };
        assert_eq!(older(&ring), [3_600, 3_600]);
        // A look has seen that there was none.
        ring.slots[SlotId::One].link = Link::Down { since: Timestamp::UNIX_EPOCH, older_ttl: 60 };
        assert_eq!(older(&ring), [60, 3_600]);
    }
}
