//! What is there: keys, our TXT records and the tenant's CNAMEs.

use super::Verdict;
use crate::api::{ConditionType, Delegation, Reason};
use crate::model::diagnosis::{self, KeyEvidence, RecordState};
use crate::model::keyring::{Keyring, Link, Phase};
use crate::model::selector::SlotId;
use crate::model::status::{Facts, LaneFacts, records};

pub(super) fn keys(facts: &Facts<'_>, lane: &LaneFacts<'_>) -> Verdict {
    let type_ = ConditionType::KeysGenerated;
    let ring = lane.keyring;
    if facts.keys_lost {
        return Verdict::new(
            type_,
            false,
            Reason::KeysLost,
            "private keys were lost; new ones are made as their slots drain",
        );
    }
    if let Some(fault) = facts.import_fault {
        return Verdict::new(type_, false, Reason::ImportFailed, fault);
    }
    if SlotId::ALL.into_iter().all(|s| ring.slots[s].phase.key().is_some()) {
        return Verdict::new(type_, true, Reason::KeysReady, "both slots hold a key");
    }
    Verdict::new(type_, false, Reason::KeysPending, "keys are being made; nothing to do")
}

pub(super) fn published_records(facts: &Facts<'_>, lane: &LaneFacts<'_>) -> Verdict {
    let type_ = ConditionType::RecordsPublished;
    let ring = lane.keyring;
    let mut unclear = None;
    for (slot, state) in ring.slots.iter() {
        let (Some(key), Some(seen)) = (state.phase.key(), &lane.observation) else { continue };
        let name = &lane.question.slots[slot].target;
        match diagnosis::key_evidence(&seen.slots[slot].target_txt, &key.fingerprint) {
            KeyEvidence::Differs { .. } | KeyEvidence::Absent
                if !matches!(state.phase, Phase::Generated { .. }) =>
            {
                if let Some(told) = &facts.publishing {
                    return Verdict::new(type_, false, told.reason, told.message.clone());
                }
                return Verdict::new(
                    type_,
                    false,
                    Reason::RecordsContradicted,
                    format!(
                        "DNS does not have our key at {name}; the mail provider must see that the zone {} is delegated to {} and that they run",
                        facts.vault.home.zone.apex,
                        servers(facts)
                    ),
                );
            }
            KeyEvidence::Unknown { why } => {
                unclear.get_or_insert(format!("asked for {name}: {why}"));
            }
            _ => {}
        }
    }
    let waits = SlotId::ALL.into_iter().any(|s| !published(ring, s));
    if waits {
        if let Some(told) = &facts.publishing {
            return Verdict::new(type_, false, told.reason, told.message.clone());
        }
        let why = unclear.map(|why| format!(" ({why})")).unwrap_or_default();
        return Verdict::new(
            type_,
            false,
            Reason::RecordsPending,
            format!(
                "our TXT records are not all seen in DNS yet{why}; if this lasts, the mail provider must check that the zone {} is delegated to {}",
                facts.vault.home.zone.apex,
                servers(facts)
            ),
        );
    }
    Verdict::new(type_, true, Reason::RecordsSeen, "our TXT records are in DNS")
}

fn servers(facts: &Facts<'_>) -> &'static str {
    match facts.order.home.zone.outlet {
        None => "the operator's DNS servers",
        Some(_) => "the DNS servers on which the records are published",
    }
}

fn published(ring: &Keyring, slot: SlotId) -> bool {
    matches!(ring.slots[slot].phase, Phase::Published { .. } | Phase::Active { .. } | Phase::Draining { .. })
}

pub(super) fn cnames(facts: &Facts<'_>, lane: &LaneFacts<'_>) -> Verdict {
    let type_ = ConditionType::CnamesVerified;
    let ring = lane.keyring;
    let missing: Vec<SlotId> =
        SlotId::ALL.into_iter().filter(|s| matches!(ring.slots[*s].link, Link::Down { .. })).collect();
    let delegation = facts.order.delegation;
    if missing.is_empty() {
        let what = match delegation {
            Delegation::Cname => "both CNAMEs are in DNS",
            Delegation::Txt => "the keys that you publish are in DNS",
        };
        return Verdict::new(type_, true, Reason::CnamesSeen, what);
    }
    let mut parts = Vec::new();
    let mut clear = false;
    let drains = !facts.vault.former.is_empty() && facts.vault.doubts_copies(ring.mode);
    for (slot, state, row) in records::of(lane, delegation) {
        if missing.contains(&slot) {
            clear |= !state.is_unclear();
            let name = row.name;
            parts.push(match lane.observation {
                None => format!("{name} has not been looked at yet."),
                Some(_) if state == RecordState::Flattened && drains => format!(
                    "{} It counts only once the names of before a move are gone, of which the copy may have been made.",
                    row.diagnosis
                ),
                Some(_) => row.diagnosis,
            });
        }
    }
    let reason = if clear || lane.observation.is_none() { Reason::CnamesMissing } else { Reason::DnsUnclear };
    Verdict::new(type_, false, reason, parts.join(" "))
}
