//! The records that the tenant must publish, and what DNS says of each.

use super::LaneFacts;
use crate::api::{Delegation, RecordStatus};
use crate::model::diagnosis::{self, LinkEvidence, RecordState};
use crate::model::keyring::Phase;
use crate::model::record::{CNAME_TTL, KeyRecord};
use crate::model::selector::SlotId;
use crate::model::sighting::SlotQuestion;
use crate::model::words;

const NOT_LOOKED: &str = "DNS has not been looked at yet.";

/// TTL shown for the TXTs that a tenant publishes itself, in seconds: each rotation waits this long.
const TXT_TTL: u32 = 300;

/// The records of one lane, slot by slot, each with its state.
pub(super) fn of(lane: &LaneFacts<'_>, delegation: Delegation) -> Vec<(SlotId, RecordState, RecordStatus)> {
    let slots = lane.question.slots.iter();
    let rows = slots.filter_map(|(slot, wanted)| {
        let (state, row) = match delegation {
            Delegation::Cname => cname(lane, slot, wanted),
            Delegation::Txt => txt(lane, slot, wanted)?,
        };
        Some((slot, state, row))
    });
    rows.collect()
}

fn host(lane: &LaneFacts<'_>, wanted: &SlotQuestion) -> String {
    let name = wanted.alias.as_str();
    name.strip_suffix(lane.question.domain.as_str()).unwrap_or(name).trim_end_matches('.').to_owned()
}

fn cname(lane: &LaneFacts<'_>, slot: SlotId, wanted: &SlotQuestion) -> (RecordState, RecordStatus) {
    let (state, diagnosis) = match &lane.observation {
        Some(observation) => {
            let found = diagnosis::diagnose(wanted, &lane.question, &observation.slots[slot]);
            (found.state, found.message)
        }
        None => (RecordState::Pending, NOT_LOOKED.to_owned()),
    };
    let row = RecordStatus {
        name: wanted.alias.to_string(),
        host: host(lane, wanted),
        type_: "CNAME".to_owned(),
        value: wanted.target.to_string(),
        ttl: i32::try_from(CNAME_TTL).unwrap_or(i32::MAX),
        state: state.as_str().to_owned(),
        diagnosis,
    };
    (state, row)
}

/// The key itself, where the tenant publishes it; none before it is made.
fn txt(lane: &LaneFacts<'_>, slot: SlotId, wanted: &SlotQuestion) -> Option<(RecordState, RecordStatus)> {
    let phase = &lane.keyring.slots[slot].phase;
    let key = phase.key()?;
    let record = match phase {
        Phase::Revoked { .. } => KeyRecord::Revoked { algorithm: key.public.algorithm },
        _ => KeyRecord::Key(key.public.clone()),
    };
    let name = &wanted.alias;
    let evidence =
        lane.observation.as_ref().map(|o| diagnosis::copy_evidence(wanted, &o.slots[slot], &key.fingerprint));
    let (state, diagnosis) = match (phase, evidence) {
        (Phase::Revoked { .. }, _) => (
            RecordState::OtherKey,
            format!(
                "The key at {name} is in the wrong hands. Replace the TXT with the one shown here, which revokes it."
            ),
        ),
        (_, None) => (RecordState::Pending, NOT_LOOKED.to_owned()),
        (Phase::Draining { until, .. }, Some(LinkEvidence::Verified { .. })) => (
            RecordState::Verified,
            format!(
                "The key before is at {name}. Leave it there until {}, for mail under way; the next key is shown here after that.",
                words::moment(*until)
            ),
        ),
        (_, Some(LinkEvidence::Verified { .. })) => (
            RecordState::Verified,
            format!("The key is at {name}. Leave it there until another one is shown here."),
        ),
        (_, Some(LinkEvidence::Broken { .. })) => {
            let waits = match phase {
                Phase::Active { .. } | Phase::Draining { .. } => {
                    "Mail that was signed with this key cannot be verified without it."
                }
                _ => "The next rotation waits for it.",
            };
            (
                RecordState::Missing,
                format!(
                    "This key is not at {name}. Publish the TXT shown here, in place of any other TXT or CNAME of that name. {waits}"
                ),
            )
        }
        (_, Some(LinkEvidence::Partial)) => (
            RecordState::PartlyPropagated,
            format!(
                "The servers of {name} disagree: some have this key, some have not. Wait until all have it, or ask your DNS host."
            ),
        ),
        (_, Some(LinkEvidence::Unknown { why })) => (
            RecordState::Timeout,
            format!(
                "Asked for the TXT {name}: {why}. That proves nothing and changes nothing; it is asked again."
            ),
        ),
    };
    let row = RecordStatus {
        name: name.to_string(),
        host: host(lane, wanted),
        type_: "TXT".to_owned(),
        value: record.to_string(),
        ttl: i32::try_from(TXT_TTL).unwrap_or(i32::MAX),
        state: state.as_str().to_owned(),
        diagnosis,
    };
    Some((state, row))
}
