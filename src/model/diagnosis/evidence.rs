//! What answers prove. Conservative: a failure proves nothing, and one server that contradicts spoils a proof.

use std::net::SocketAddr;

use crate::model::key::KeyFingerprint;
use crate::model::record::KeyRecord;
use crate::model::sighting::{Failure, Outcome, ServerAnswer, ServerRole, SlotQuestion, SlotSighting};

/// Longest time that resolvers remember a negative answer: RFC 2308 §5 advises one to three hours, and BIND's
/// `max-ncache-ttl` is three.
const MAX_NEGATIVE: u32 = 10_800;
/// Longest time in seconds that resolvers remember a positive one: a day, as Unbound's `cache-max-ttl`.
pub const MAX_POSITIVE: u32 = 86_400;

/// What answers prove of a tenant's CNAME.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEvidence {
    /// Every server that was heard leads to our TXT.
    Verified {
        /// Seconds for which resolvers may remember that it was not there.
        older_answers_ttl: u32,
        /// By a copy of our TXT in the CNAME's place: what has the same TXT under another name may be behind it as well.
        by_copy: bool,
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

/// Whether a resolver says that DNSSEC validation fails: receivers that validate find nothing then.
pub(super) fn bogus(answers: &[ServerAnswer]) -> Option<&ServerAnswer> {
    answers.iter().find(|a| a.outcome == Outcome::Failed(Failure::Bogus))
}

/// A DNS host that answers with a copy of the target's TXT where it should show the CNAME ("flattening").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flattening {
    /// It does not.
    No,
    /// The copy is the same everywhere and is remembered no longer than the original.
    Follows {
        /// Seconds.
        ttl: u32,
    },
    /// The copy may be remembered longer than the original, so a new key would come too late through it.
    Lags {
        /// Of the copy, in seconds.
        copy: u32,
        /// Of the original, in seconds.
        original: u32,
    },
    /// Only resolvers were heard, who do not tell the TTLs that count.
    Hearsay,
}

pub(super) fn flattening(sighting: &SlotSighting) -> Flattening {
    // One text everywhere, with the longest and the shortest TTL; and whether resolvers have said it.
    let text = |answers: &[ServerAnswer]| -> Option<(Vec<String>, u32, u32, bool)> {
        let mut common: Option<(Vec<String>, u32, u32, bool)> = None;
        for answer in heard(answers) {
            let Outcome::Txt { texts, ttl } = &answer.outcome else { return None };
            let hearsay = answer.role == ServerRole::Recursive;
            common = match common {
                None => Some((texts.clone(), *ttl, *ttl, hearsay)),
                Some((same, most, least, _)) if same == *texts => {
                    Some((same, most.max(*ttl), least.min(*ttl), hearsay))
                }
                Some(_) => return None,
            };
        }
        common
    };
    let alias = heard(&sighting.alias);
    let no_cname = !alias.is_empty() && alias.iter().all(|a| matches!(a.outcome, Outcome::NoData { .. }));
    match (text(&sighting.alias_txt), text(&sighting.target_txt)) {
        (Some((copy, _, _, hearsay)), Some((original, _, _, also)))
            if no_cname && copy == original && (hearsay || also) =>
        {
            Flattening::Hearsay
        }
        (Some((copy, longest, ..)), Some((original, _, shortest, _))) if no_cname && copy == original => {
            if longest <= shortest {
                Flattening::Follows { ttl: longest }
            } else {
                Flattening::Lags { copy: longest, original: shortest }
            }
        }
        _ => Flattening::No,
    }
}

/// A server of the zone that answers with a TXT of its own beside the CNAME (RFC 1034 §3.6.2 forbids both).
pub(super) fn txt_beside(sighting: &SlotSighting) -> Option<&ServerAnswer> {
    heard(&sighting.alias_txt).into_iter().find(|a| matches!(a.outcome, Outcome::Txt { .. }))
}

/// Resolvers that still answer as it was before, though the zone's own servers have it.
pub(super) fn stale<'a>(question: &SlotQuestion, sighting: &'a SlotSighting) -> Vec<&'a ServerAnswer> {
    let behind = |a: &&ServerAnswer| {
        a.role == ServerRole::Recursive
            && match &a.outcome {
                Outcome::Cname { target, .. } => *target != question.target,
                Outcome::Failed(_) => false,
                _ => true,
            }
    };
    let own = heard(&sighting.alias).first().is_some_and(|a| a.role == ServerRole::Authoritative);
    if own { sighting.alias.iter().filter(behind).collect() } else { Vec::new() }
}

/// Resolvers that say something else than the zone's servers, which are right, and for how many seconds they may remember it.
#[must_use]
pub fn behind(question: &SlotQuestion, sighting: &SlotSighting) -> Vec<(SocketAddr, u32)> {
    stale(question, sighting).into_iter().map(|a| (a.address, memory(&a.outcome))).collect()
}

/// For how long the answer may be remembered, as far as anybody does.
pub(super) fn memory(outcome: &Outcome) -> u32 {
    match outcome {
        Outcome::Cname { ttl, .. } | Outcome::OddCname { ttl, .. } | Outcome::Txt { ttl, .. } => {
            (*ttl).min(MAX_POSITIVE)
        }
        Outcome::NoData { negative_ttl } | Outcome::NxDomain { negative_ttl } => {
            (*negative_ttl).min(MAX_NEGATIVE)
        }
        Outcome::Failed(_) => 0,
    }
}

/// For how long what is at the alias now is remembered, as the zone's own servers say, or where none of these was heard,
/// the resolvers.
#[must_use]
pub fn present_ttl(sighting: &SlotSighting) -> u32 {
    let there = heard(&sighting.alias).into_iter().chain(heard(&sighting.alias_txt));
    there.map(|answer| memory(&answer.outcome)).max().unwrap_or(0)
}

/// What the answers for one slot prove of its CNAME.
#[must_use]
pub fn link_evidence(question: &SlotQuestion, sighting: &SlotSighting) -> LinkEvidence {
    let heard = heard(&sighting.alias);
    if heard.is_empty() {
        return LinkEvidence::Unknown { why: silence(&sighting.alias) };
    }
    let negative = sighting.negative_ttl.unwrap_or(MAX_NEGATIVE).min(MAX_NEGATIVE);
    let right =
        |a: &&ServerAnswer| matches!(&a.outcome, Outcome::Cname { target, .. } if *target == question.target);
    let good = heard.iter().copied().filter(|a| right(a)).count();
    if good > 0 {
        if let Some(bogus) = bogus(&sighting.alias) {
            return LinkEvidence::Unknown { why: format!("{} {}", server(bogus), Failure::Bogus) };
        }
        // Which of the two a receiver gets is not known.
        if good < heard.len() || txt_beside(sighting).is_some() {
            return LinkEvidence::Partial;
        }
        let remembered = stale(question, sighting).into_iter().map(|a| memory(&a.outcome)).max().unwrap_or(0);
        return LinkEvidence::Verified { older_answers_ttl: negative.max(remembered), by_copy: false };
    }
    match flattening(sighting) {
        Flattening::Follows { ttl } => {
            let older_answers_ttl = negative.max(ttl.min(MAX_POSITIVE));
            return LinkEvidence::Verified { older_answers_ttl, by_copy: true };
        }
        Flattening::Lags { .. } | Flattening::Hearsay => {
            return LinkEvidence::Unknown {
                why: "the DNS host shows a copy of the key instead of the CNAME, and how long that is remembered is not known to be short enough".to_owned(),
            };
        }
        Flattening::No => {}
    }
    let others = heard.iter().map(|a| match &a.outcome {
        negative @ (Outcome::NoData { .. } | Outcome::NxDomain { .. }) => {
            memory(negative).max(sighting.negative_ttl.unwrap_or(0).min(MAX_NEGATIVE))
        }
        other => memory(other),
    });
    let copies = sighting.alias_txt.iter().map(|a| memory(&a.outcome));
    LinkEvidence::Broken { older_answers_ttl: others.chain(copies).max().unwrap_or(0) }
}

/// The same where the tenant publishes the key itself at the alias instead of a CNAME (`delegation: TXT`). A CNAME that
/// leads to our TXT is as good. A TXT of the tenant's own leads to none of our names, so that none is missed behind it.
#[must_use]
pub fn copy_evidence(
    question: &SlotQuestion,
    sighting: &SlotSighting,
    expected: &KeyFingerprint,
) -> LinkEvidence {
    if let LinkEvidence::Verified { older_answers_ttl, .. } = link_evidence(question, sighting) {
        return LinkEvidence::Verified { older_answers_ttl, by_copy: false };
    }
    let alias = heard(&sighting.alias);
    if alias.iter().any(|a| matches!(a.outcome, Outcome::Cname { .. } | Outcome::OddCname { .. })) {
        return link_evidence(question, sighting);
    }
    let copies = heard(&sighting.alias_txt);
    let negative = sighting.negative_ttl.unwrap_or(MAX_NEGATIVE).min(MAX_NEGATIVE);
    let remembered =
        || copies.iter().chain(&alias).map(|a| memory(&a.outcome)).max().unwrap_or(0).max(negative);
    match key_evidence(&sighting.alias_txt, expected) {
        KeyEvidence::Matches => LinkEvidence::Verified { older_answers_ttl: negative, by_copy: false },
        KeyEvidence::Differs { .. } | KeyEvidence::Absent => {
            LinkEvidence::Broken { older_answers_ttl: remembered() }
        }
        KeyEvidence::Partial => LinkEvidence::Partial,
        // The name itself is not there, so nobody asked for its TXT.
        KeyEvidence::Unknown { .. }
            if !alias.is_empty() && alias.iter().all(|a| matches!(a.outcome, Outcome::NxDomain { .. })) =>
        {
            LinkEvidence::Broken { older_answers_ttl: remembered() }
        }
        KeyEvidence::Unknown { why } => LinkEvidence::Unknown { why },
    }
}

/// What the answers at the target prove of a key.
#[must_use]
pub fn key_evidence(answers: &[ServerAnswer], expected: &KeyFingerprint) -> KeyEvidence {
    let heard = heard(answers);
    if heard.is_empty() {
        return KeyEvidence::Unknown { why: silence(answers) };
    }
    if let Some(bogus) = bogus(answers) {
        return KeyEvidence::Unknown { why: format!("{} {}", server(bogus), Failure::Bogus) };
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
