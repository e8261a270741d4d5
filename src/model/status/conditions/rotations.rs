//! Words for rotations: one that is under way, and one that waits.

use super::{Verdict, moves};
use crate::api::{ConditionType, Reason};
use crate::model::keyring::{Keyring, Phase};
use crate::model::rotation::Wait;
use crate::model::selector::SlotId;
use crate::model::status::{Facts, LaneFacts, still_using, waiting};
use crate::model::words;

pub(super) fn rotating(facts: &Facts<'_>, lane: &LaneFacts<'_>) -> Verdict {
    let type_ = ConditionType::Rotating;
    let ring = lane.keyring;
    let key_held =
        ring.slots.iter().any(|(_, slot)| matches!(slot.phase, Phase::Draining { held: true, .. }));
    if let Some(held) = moves::names_held(facts).filter(|_| !key_held) {
        return Verdict::new(type_, true, Reason::SignerBehind, held);
    }
    let Some(active) = ring.active() else {
        return Verdict::new(type_, false, Reason::Idle, "no key signs yet, so there is nothing to rotate");
    };
    let other = active.other();
    let selector = &ring.slots[other].selector;
    match &ring.slots[other].phase {
        Phase::Draining { held: true, .. } => Verdict::new(
            type_,
            true,
            Reason::SignerBehind,
            format!(
                "{} the key before, in {selector}{}; it stays published until no signer uses it. The mail provider must look at it: its log says what hinders it",
                still_using(&facts.signers.behind),
                since(ring, active)
            ),
        ),
        Phase::Revoked { until, .. } => Verdict::new(
            type_,
            true,
            Reason::Revoking,
            format!(
                "the key before, in {selector}, is published as revoked until {}; the next one comes after that",
                words::moment(*until)
            ),
        ),
        Phase::Draining { until, .. } => Verdict::new(
            type_,
            true,
            Reason::Draining,
            format!(
                "the key before, in {selector}, stays published until {} for mail under way",
                words::moment(*until)
            ),
        ),
        Phase::Empty | Phase::Generated { .. } => Verdict::new(
            type_,
            ring.log.count > 0,
            Reason::PreparingNext,
            format!("the next key, in {selector}, is being published"),
        ),
        Phase::Published { .. } | Phase::Active { .. } => {
            Verdict::new(type_, false, Reason::Idle, format!("the next key, in {selector}, is ready"))
        }
    }
}

/// When signers were told to use the active key.
fn since(ring: &Keyring, active: SlotId) -> String {
    match ring.slots[active].phase {
        Phase::Active { since, .. } => {
            format!(", though told at {} to use another", words::moment(since))
        }
        _ => String::new(),
    }
}

pub(super) fn both_blocked(
    facts: &Facts<'_>,
    primary: &LaneFacts<'_>,
    second: Option<&LaneFacts<'_>>,
) -> Verdict {
    let blocked = |lane: &LaneFacts<'_>| blocked(facts, lane);
    let first = blocked(primary);
    second.map(blocked).filter(|other| !first.holds && other.holds).unwrap_or(first)
}

fn blocked(facts: &Facts<'_>, lane: &LaneFacts<'_>) -> Verdict {
    let type_ = ConditionType::RotationBlocked;
    let Some(wait) = &lane.decision.waiting else {
        return Verdict::new(type_, false, Reason::Idle, "no rotation waits");
    };
    let reason = match wait {
        Wait::Paused => Reason::Paused,
        Wait::Draining { .. } => Reason::Draining,
        Wait::InUse { .. } => Reason::SignerBehind,
        Wait::Revoking { .. } => Reason::Revoking,
        Wait::Unpublished { .. } => Reason::NextKeyPending,
        Wait::Settling { .. } => Reason::Settling,
        Wait::LinkDown { .. } => Reason::CnameMissing,
        Wait::FormerNames { .. } => Reason::NamesChanging,
        Wait::Unclear { .. } => Reason::DnsUnclear,
    };
    Verdict::new(type_, true, reason, waiting(wait, lane, &facts.signers.behind))
}
