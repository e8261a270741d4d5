//! The words for what stands behind a CNAME: whether receivers find there the key that signs.

use std::fmt;

use super::evidence::{KeyEvidence, heard, key_evidence, silence};
use super::words::they;
use crate::model::key::{Algorithm, KeyFingerprint};
use crate::model::name::DnsName;
use crate::model::record::KeyRecord;
use crate::model::sighting::{Outcome, ServerAnswer};

/// What belongs at a target, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExpectedKey {
    /// This one: it signs, or is about to.
    Must(KeyFingerprint),
    /// This one, or it is still on its way there, or already on its way out.
    May(KeyFingerprint),
    /// None: no key was made.
    Nothing,
    /// Any key that verifies: nobody could be asked which.
    Any,
}

/// What DNS says of the key at a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KeyState {
    /// The key is there, at every server that was heard.
    Verified,
    /// It need not be there (yet, or any more).
    NotDue,
    /// It is not there.
    Missing,
    /// There is something else.
    OtherKey,
    /// Servers disagree.
    PartlyPropagated,
    /// No server was heard.
    Unclear,
}

impl KeyState {
    /// The word as it is printed.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Verified => "Verified",
            Self::NotDue => "NotDue",
            Self::Missing => "Missing",
            Self::OtherKey => "OtherKey",
            Self::PartlyPropagated => "PartlyPropagated",
            Self::Unclear => "Unclear",
        }
    }
}

impl fmt::Display for KeyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A state, and the words for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyDiagnosis {
    /// The state.
    pub state: KeyState,
    /// Who said what, and what to do.
    pub message: String,
}

/// Says what the answers to the TXT question at `target` mean.
#[must_use]
pub fn diagnose_key(target: &DnsName, expected: &ExpectedKey, answers: &[ServerAnswer]) -> KeyDiagnosis {
    let (state, message) = match expected {
        ExpectedKey::Nothing => (KeyState::NotDue, "No key was made for this selector yet.".to_owned()),
        ExpectedKey::Must(key) => find(target, Some(key), answers),
        ExpectedKey::Any => find(target, None, answers),
        ExpectedKey::May(key) => match find(target, Some(key), answers) {
            (state @ (KeyState::Verified | KeyState::Unclear), message) => (state, message),
            (_, _) => (
                KeyState::NotDue,
                format!("The key {key} is on its way to {target}, or out of it; no mail is signed with it."),
            ),
        },
    };
    KeyDiagnosis { state, message }
}

fn find(target: &DnsName, expected: Option<&KeyFingerprint>, answers: &[ServerAnswer]) -> (KeyState, String) {
    let heard = heard(answers);
    let Some(first) = heard.first() else {
        return (
            KeyState::Unclear,
            format!("Asked for the TXT {target}: {}. That proves nothing; ask again.", silence(answers)),
        );
    };
    let they_have = they(&heard, "has", "have");
    let evidence = match expected.cloned().or_else(|| Content::of(&first.outcome).fingerprint()) {
        Some(key) => key_evidence(answers, &key),
        None if heard.iter().all(|a| Content::of(&a.outcome) == Content::Nothing) => KeyEvidence::Absent,
        None => KeyEvidence::Differs { found: Vec::new() },
    };
    match evidence {
        KeyEvidence::Matches => (KeyState::Verified, format!("{they_have} {}.", Content::of(&first.outcome))),
        KeyEvidence::Absent => (
            KeyState::Missing,
            format!("{they_have} no TXT {target}: ask the provider to publish the key there."),
        ),
        KeyEvidence::Partial => (
            KeyState::PartlyPropagated,
            format!(
                "Servers of {target} disagree: {}. Wait until every server has the key, or ask the provider why one is behind.",
                heard
                    .iter()
                    .map(|a| format!("{} has {}", super::evidence::server(a), Content::of(&a.outcome)))
                    .take(MOST_NAMED)
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
        ),
        KeyEvidence::Differs { .. } | KeyEvidence::Unknown { .. } => (
            KeyState::OtherKey,
            format!(
                "{they_have} {} at {target}{}: no receiver can verify with that. Ask the provider to publish the right key there.",
                Content::of(&first.outcome),
                expected.map(|key| format!(", not the key {key}")).unwrap_or_default(),
            ),
        ),
    }
}

/// Most servers that a message names.
const MOST_NAMED: usize = 4;

/// What a server has in a key's place.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Content {
    Nothing,
    Key(Algorithm, Option<KeyFingerprint>),
    Revoked,
    NoKeyRecord(String),
    Several(usize),
}

impl Content {
    fn of(outcome: &Outcome) -> Self {
        let Outcome::Txt { texts, .. } = outcome else { return Self::Nothing };
        match texts.as_slice() {
            [] => Self::Nothing,
            [one] => match KeyRecord::parse(one) {
                Ok(record @ KeyRecord::Key(_)) => {
                    let KeyRecord::Key(key) = &record else { return Self::Nothing };
                    Self::Key(key.algorithm, record.fingerprint())
                }
                Ok(KeyRecord::Revoked { .. }) => Self::Revoked,
                Err(fault) => Self::NoKeyRecord(fault.to_string()),
            },
            several => Self::Several(several.len()),
        }
    }

    fn fingerprint(self) -> Option<KeyFingerprint> {
        match self {
            Self::Key(_, fingerprint) => fingerprint,
            _ => None,
        }
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("no TXT"),
            Self::Key(algorithm, Some(key)) => write!(f, "the {} key {key}", algorithm.name()),
            Self::Key(algorithm, None) => write!(f, "an unreadable {} key", algorithm.name()),
            Self::Revoked => f.write_str("a revoked key (its p= is empty)"),
            Self::NoKeyRecord(fault) => write!(f, "a TXT that is no DKIM key ({fault})"),
            Self::Several(count) => write!(f, "{count} TXT records where one belongs"),
        }
    }
}
