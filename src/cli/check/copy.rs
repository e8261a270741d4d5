//! Records that the tenant publishes itself (`delegation: TXT`): whether the key that belongs there is there.

use crate::model::diagnosis::{KeyEvidence, LinkEvidence, RecordState, copy_evidence, key_evidence};
use crate::model::key::KeyFingerprint;
use crate::model::name::DnsName;
use crate::model::record::KeyRecord;
use crate::model::sighting::{Outcome, SlotQuestion, SlotSighting};

/// What belongs at a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Copy {
    /// This key.
    Key(KeyFingerprint),
    /// A key that is revoked, or nothing.
    Revoked,
}

impl Copy {
    /// What a TXT value says; `None` where it is no key record.
    #[must_use]
    pub fn of(value: &str) -> Option<Self> {
        match KeyRecord::parse(value).ok()? {
            record @ KeyRecord::Key(_) => record.fingerprint().map(Self::Key),
            KeyRecord::Revoked { .. } => Some(Self::Revoked),
        }
    }

    /// What was found, as a state and in words.
    #[must_use]
    pub fn diagnose(&self, wanted: &SlotQuestion, seen: &SlotSighting) -> (RecordState, String) {
        match self {
            Self::Key(key) => of_key(wanted, seen, key),
            Self::Revoked => of_revoked(&wanted.alias, seen),
        }
    }
}

/// Where a CNAME leads that stands in the TXT's place, if there is exactly one.
#[must_use]
pub fn detour(seen: &SlotSighting) -> Option<&DnsName> {
    let mut targets = seen.alias.iter().filter_map(|answer| match &answer.outcome {
        Outcome::Cname { target, .. } => Some(target),
        _ => None,
    });
    let first = targets.next()?;
    targets.all(|other| other == first).then_some(first)
}

fn of_key(wanted: &SlotQuestion, seen: &SlotSighting, key: &KeyFingerprint) -> (RecordState, String) {
    let name = &wanted.alias;
    if let Some(target) = detour(seen) {
        return behind(name, target, seen, key);
    }
    match copy_evidence(wanted, seen, key) {
        LinkEvidence::Verified { .. } => (RecordState::Verified, format!("The key {key} is at {name}.")),
        LinkEvidence::Broken { .. } => {
            let (state, there) = match key_evidence(&seen.alias_txt, key) {
                KeyEvidence::Differs { found } if !found.is_empty() => {
                    let found: Vec<&str> = found.iter().map(KeyFingerprint::as_str).collect();
                    (RecordState::OtherKey, format!("At {name} is another key ({})", found.join(", ")))
                }
                KeyEvidence::Differs { .. } => {
                    (RecordState::OtherKey, format!("The TXT at {name} is not one DKIM key"))
                }
                _ => (RecordState::Missing, format!("There is no TXT at {name}")),
            };
            (
                state,
                format!(
                    "{there}; the key {key} belongs there. Publish the TXT shown here, in place of any other."
                ),
            )
        }
        LinkEvidence::Partial => (
            RecordState::PartlyPropagated,
            format!(
                "The servers of {name} disagree: some have the key {key}, some have not. Wait until all have it, or ask your DNS host."
            ),
        ),
        LinkEvidence::Unknown { why } => (RecordState::Timeout, unclear(name, &why)),
    }
}

/// A CNAME in the TXT's place is as good while it leads to the key.
fn behind(
    name: &DnsName,
    target: &DnsName,
    seen: &SlotSighting,
    key: &KeyFingerprint,
) -> (RecordState, String) {
    match key_evidence(&seen.target_txt, key) {
        KeyEvidence::Matches => (
            RecordState::Verified,
            format!("The CNAME at {name} leads to {target}, and the key {key} is there."),
        ),
        KeyEvidence::Unknown { why } => (RecordState::Timeout, unclear(target, &why)),
        KeyEvidence::Differs { .. } | KeyEvidence::Absent | KeyEvidence::Partial => (
            RecordState::WrongTarget,
            format!(
                "There is a CNAME at {name}, to {target}, and not every server has the key {key} there. Take the CNAME away and publish the TXT shown here."
            ),
        ),
    }
}

fn of_revoked(name: &DnsName, seen: &SlotSighting) -> (RecordState, String) {
    let mut clear = false;
    for answer in &seen.alias_txt {
        match &answer.outcome {
            Outcome::Txt { texts, .. } => {
                let keys = texts.iter().filter_map(|text| KeyRecord::parse(text).ok()?.fingerprint());
                if let Some(key) = keys.into_iter().next() {
                    return (
                        RecordState::OtherKey,
                        format!(
                            "The key {key} is still at {name}, and a key of this name is in the wrong hands. Replace it with the TXT shown here, which revokes it."
                        ),
                    );
                }
                clear = true;
            }
            Outcome::Failed(_) => {}
            _ => clear = true,
        }
    }
    clear |= seen.alias.iter().any(|a| matches!(a.outcome, Outcome::NxDomain { .. }));
    if clear {
        (RecordState::Verified, format!("No key can be used at {name}."))
    } else {
        (RecordState::Timeout, unclear(name, "no server answered"))
    }
}

fn unclear(name: &DnsName, why: &str) -> String {
    format!("Asked for the TXT {name}: {why}. That proves nothing; ask again later.")
}
