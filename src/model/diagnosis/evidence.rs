//! What answers prove. Conservative: a failure proves nothing, and one server that contradicts spoils a proof.

use crate::model::key::KeyFingerprint;
use crate::model::record::KeyRecord;
use crate::model::sighting::{Outcome, ServerAnswer, ServerRole, SlotQuestion, SlotSighting};

/// Longest time that resolvers remember a negative answer: RFC 2308 §5 advises one to three hours, and BIND's
/// `max-ncache-ttl` is three.
const MAX_NEGATIVE: u32 = 10_800;
/// Longest time that resolvers remember a positive one: a day, as Unbound's `cache-max-ttl`.
const MAX_POSITIVE: u32 = 86_400;

/// What answers prove of a tenant's CNAME.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEvidence {
    /// Every server that was heard leads to our TXT.
    Verified {
        /// Seconds for which resolvers may remember that it was not there.
        older_answers_ttl: u32,
    },
    /// Every server that was heard leads elsewhere or nowhere.
    Broken {
        /// Seconds for which resolvers may remember that.
        older_answers_ttl: u32,
    },
    /// Servers disagree.
    Partial,
    /// No server was heard.
    Unknown {
        /// Why.
        why: String,
    },
}

/// What answers prove of a key's TXT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyEvidence {
    /// Every server that was heard has this key and no other.
    Matches,
    /// Every server that was heard has another.
    Differs {
        /// Their fingerprints.
        found: Vec<KeyFingerprint>,
    },
    /// Every server that was heard has none.
    Absent,
    /// Servers disagree.
    Partial,
    /// No server was heard.
    Unknown {
        /// Why.
        why: String,
    },
}

/// The answers that count: those of the zone's own servers, or where none of these was heard, of the resolvers.
pub(super) fn heard(answers: &[ServerAnswer]) -> Vec<&ServerAnswer> {
    let clear = |a: &&ServerAnswer| !matches!(a.outcome, Outcome::Failed(_));
    let own: Vec<&ServerAnswer> =
        answers.iter().filter(|a| a.role == ServerRole::Authoritative).filter(clear).collect();
    if own.is_empty() { answers.iter().filter(clear).collect() } else { own }
}

/// Why nobody was heard, in words.
pub(super) fn silence(answers: &[ServerAnswer]) -> String {
    let said: Vec<String> = answers
        .iter()
        .filter_map(|a| match a.outcome {
            Outcome::Failed(failure) => Some(format!("{} {failure}", server(a))),
            _ => None,
        })
        .take(3)
        .collect();
    if said.is_empty() { "no server could be found to ask".to_owned() } else { said.join(", ") }
}

/// A server by name and address.
pub(super) fn server(answer: &ServerAnswer) -> String {
    match (&answer.name, answer.role) {
        (Some(name), _) => format!("{name} ({})", answer.address.ip()),
        (None, ServerRole::Recursive) => format!("the resolver {}", answer.address.ip()),
        (None, ServerRole::Authoritative) => answer.address.ip().to_string(),
    }
}

/// Whether no CNAME is visible at the alias and yet the very TXT of the target answers there: a DNS host that
/// flattens CNAMEs.
pub(super) fn is_flattened(sighting: &SlotSighting) -> bool {
    let texts = |answers: &[ServerAnswer]| -> Option<Vec<String>> {
        let heard = heard(answers);
        let mut all = heard.iter().map(|a| match &a.outcome {
            Outcome::Txt { texts, .. } => Some(texts.clone()),
            _ => None,
        });
        let first = all.next()??;
        all.all(|other| other.as_ref() == Some(&first)).then_some(first)
    };
    let no_cname = !heard(&sighting.alias).is_empty()
        && heard(&sighting.alias).iter().all(|a| matches!(a.outcome, Outcome::NoData { .. }));
    no_cname
        && texts(&sighting.alias_txt).is_some()
        && texts(&sighting.alias_txt) == texts(&sighting.target_txt)
}

/// What the answers for one slot prove of its CNAME.
#[must_use]
pub fn link_evidence(question: &SlotQuestion, sighting: &SlotSighting) -> LinkEvidence {
    let heard = heard(&sighting.alias);
    if heard.is_empty() {
        return LinkEvidence::Unknown { why: silence(&sighting.alias) };
    }
    let right =
        |a: &&ServerAnswer| matches!(&a.outcome, Outcome::Cname { target, .. } if *target == question.target);
    let good = heard.iter().copied().filter(|a| right(a)).count();
    if good == heard.len() || is_flattened(sighting) {
        let older = sighting.negative_ttl.unwrap_or(MAX_NEGATIVE).min(MAX_NEGATIVE);
        return LinkEvidence::Verified { older_answers_ttl: older };
    }
    if good > 0 {
        return LinkEvidence::Partial;
    }
    let memory = heard.iter().map(|a| match &a.outcome {
        Outcome::Cname { ttl, .. } | Outcome::Txt { ttl, .. } => (*ttl).min(MAX_POSITIVE),
        Outcome::NoData { negative_ttl } | Outcome::NxDomain { negative_ttl } => {
            (*negative_ttl).max(sighting.negative_ttl.unwrap_or(0)).min(MAX_NEGATIVE)
        }
        Outcome::Failed(_) => 0,
    });
    LinkEvidence::Broken { older_answers_ttl: memory.max().unwrap_or(0) }
}

/// What the answers at the target prove of a key.
#[must_use]
pub fn key_evidence(answers: &[ServerAnswer], expected: &KeyFingerprint) -> KeyEvidence {
    let heard = heard(answers);
    if heard.is_empty() {
        return KeyEvidence::Unknown { why: silence(answers) };
    }
    let (mut right, mut absent, mut found) = (0, 0, Vec::new());
    for answer in &heard {
        match &answer.outcome {
            Outcome::Txt { texts, .. } => {
                let keys: Vec<Option<KeyFingerprint>> =
                    texts.iter().map(|t| KeyRecord::parse(t).ok().and_then(|r| r.fingerprint())).collect();
                match keys.as_slice() {
                    [Some(one)] if one == expected => right += 1,
                    _ => found.extend(keys.into_iter().flatten()),
                }
            }
            _ => absent += 1,
        }
    }
    if right == heard.len() {
        KeyEvidence::Matches
    } else if right > 0 {
        KeyEvidence::Partial
    } else if absent == heard.len() {
        KeyEvidence::Absent
    } else {
        KeyEvidence::Differs { found }
    }
}
