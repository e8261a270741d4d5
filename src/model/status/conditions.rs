//! The conditions: each with a reason from the closed list and a message that says what to do next.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::Facts;
use crate::api::{ConditionType, Reason};
use crate::model::acceptance::Refusal;
use crate::model::diagnosis::{self, KeyEvidence};
use crate::model::keyring::{Keyring, Link, Mode, Phase};
use crate::model::rotation::Wait;
use crate::model::selector::SlotId;
use crate::model::words;

/// One condition without its times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Which condition.
    pub type_: ConditionType,
    /// Whether it holds.
    pub holds: bool,
    /// Why.
    pub reason: Reason,
    /// What that means and what to do.
    pub message: String,
}

impl Verdict {
    fn new(type_: ConditionType, holds: bool, reason: Reason, message: impl Into<String>) -> Self {
        Self { type_, holds, reason, message: message.into() }
    }

    /// The condition; its `lastTransitionTime` moves only when its status flips.
    #[must_use]
    pub fn condition(&self, old: &[Condition], generation: Option<i64>, now: Timestamp) -> Condition {
        let status = if self.holds { "True" } else { "False" };
        let since = old
            .iter()
            .find(|c| c.type_ == self.type_.as_str() && c.status == status)
            .map_or_else(|| words::whole(now), |c| c.last_transition_time.clone());
        Condition {
            type_: self.type_.as_str().to_owned(),
            status: status.to_owned(),
            reason: self.reason.as_str().to_owned(),
            message: self.message.clone(),
            observed_generation: generation,
            last_transition_time: since,
        }
    }
}

/// The conditions of a refusal.
pub(super) fn refusal(refusal: &Refusal) -> Vec<Verdict> {
    use ConditionType::{Accepted, KeysGenerated, Ready, Reconciling, Stalled};
    let Refusal { reason, message } = refusal;
    let verdict = |type_, holds| Verdict::new(type_, holds, *reason, message.clone());
    match reason {
        Reason::KeysLost => vec![
            verdict(Ready, false),
            verdict(Reconciling, true),
            Verdict::new(Accepted, true, Reason::Accepted, "the spec is in order"),
            verdict(KeysGenerated, false),
        ],
        Reason::SecretConflict | Reason::SecretForbidden => vec![
            verdict(Ready, false),
            verdict(Stalled, true),
            Verdict::new(Accepted, true, Reason::Accepted, "the spec is in order"),
            verdict(KeysGenerated, false),
        ],
        _ => vec![verdict(Ready, false), verdict(Stalled, true), verdict(Accepted, false)],
    }
}

/// All conditions of a domain that is served, in the order people read them.
pub(super) fn verdicts(facts: &Facts<'_>) -> Vec<Verdict> {
    let keys = keys(facts);
    let records = records(facts);
    let cnames = cnames(facts);
    let enabled = enabled(facts, &keys, &records, &cnames);
    let rotating = rotating(facts);
    let blocked = blocked(facts);
    let ready = ready(facts, &enabled, &keys, &records);
    let mut all = vec![ready.clone()];
    if !ready.holds {
        all.push(Verdict { type_: ConditionType::Reconciling, holds: true, ..ready });
    }
    all.push(Verdict::new(ConditionType::Accepted, true, Reason::Accepted, "the spec is in order"));
    all.extend([keys, records, cnames, enabled, rotating, blocked]);
    all
}

fn ready(facts: &Facts<'_>, enabled: &Verdict, keys: &Verdict, records: &Verdict) -> Verdict {
    let type_ = ConditionType::Ready;
    if facts.keyring.active().is_none() {
        let cause = if keys.holds { records } else { keys };
        return Verdict { type_, holds: false, ..cause.clone() };
    }
    if facts.order.policy.enabled {
        return Verdict { type_, ..enabled.clone() };
    }
    let holds = facts.keyring.mode == Mode::Default;
    Verdict::new(type_, holds, Reason::SigningAsProvider, enabled.message.clone())
}

fn keys(facts: &Facts<'_>) -> Verdict {
    let type_ = ConditionType::KeysGenerated;
    let ring = facts.keyring;
    if facts.keys_lost {
        return Verdict::new(
            type_,
            false,
            Reason::KeysLost,
            "private keys were lost; new ones are made as their slots drain",
        );
    }
    if SlotId::ALL.into_iter().all(|s| ring.slots[s].phase.key().is_some()) {
        return Verdict::new(type_, true, Reason::KeysReady, "both slots hold a key");
    }
    Verdict::new(type_, false, Reason::KeysPending, "keys are being made; nothing to do")
}

fn records(facts: &Facts<'_>) -> Verdict {
    let type_ = ConditionType::RecordsPublished;
    let ring = facts.keyring;
    let mut unclear = None;
    for (slot, state) in ring.slots.iter() {
        let (Some(key), Some(seen)) = (state.phase.key(), facts.observation) else { continue };
        let name = &facts.order.placement.names[slot];
        match diagnosis::key_evidence(&seen.slots[slot].target_txt, &key.fingerprint) {
            KeyEvidence::Differs { .. } | KeyEvidence::Absent
                if !matches!(state.phase, Phase::Generated { .. }) =>
            {
                return Verdict::new(
                    type_,
                    false,
                    Reason::RecordsContradicted,
                    format!(
                        "DNS does not have our key at {name}; the mail provider must see that the zone {} is delegated to the operator's DNS servers and that they run",
                        facts.order.zone.apex
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
        let why = unclear.map(|why| format!(" ({why})")).unwrap_or_default();
        return Verdict::new(
            type_,
            false,
            Reason::RecordsPending,
            format!(
                "our TXT records are not all seen in DNS yet{why}; if this lasts, the mail provider must check that the zone {} is delegated to the operator's DNS servers",
                facts.order.zone.apex
            ),
        );
    }
    Verdict::new(type_, true, Reason::RecordsSeen, "our TXT records are in DNS")
}

fn published(ring: &Keyring, slot: SlotId) -> bool {
    matches!(ring.slots[slot].phase, Phase::Published { .. } | Phase::Active { .. } | Phase::Draining { .. })
}

fn cnames(facts: &Facts<'_>) -> Verdict {
    let type_ = ConditionType::CnamesVerified;
    let ring = facts.keyring;
    let missing: Vec<SlotId> =
        SlotId::ALL.into_iter().filter(|s| matches!(ring.slots[*s].link, Link::Down { .. })).collect();
    if missing.is_empty() {
        return Verdict::new(type_, true, Reason::CnamesSeen, "both CNAMEs are in DNS");
    }
    let question = &facts.order.question;
    let mut parts = Vec::new();
    let mut clear = false;
    for slot in missing {
        let wanted = &question.slots[slot];
        match facts.observation {
            None => parts.push(format!("{} has not been looked at yet.", wanted.alias)),
            Some(seen) => {
                let found = diagnosis::diagnose(wanted, question, &seen.slots[slot]);
                clear |= !found.state.is_unclear();
                parts.push(found.message);
            }
        }
    }
    let reason =
        if clear || facts.observation.is_none() { Reason::CnamesMissing } else { Reason::DnsUnclear };
    Verdict::new(type_, false, reason, parts.join(" "))
}

fn enabled(facts: &Facts<'_>, keys: &Verdict, records: &Verdict, cnames: &Verdict) -> Verdict {
    let type_ = ConditionType::Enabled;
    let Facts { order, keyring, .. } = facts;
    let initial = &order.placement.initial_domain;
    if keyring.mode == Mode::Domain && keyring.active().is_some() {
        return Verdict::new(
            type_,
            true,
            Reason::SigningAsDomain,
            format!("mail is signed as {}", order.domain),
        );
    }
    if !order.policy.enabled {
        return Verdict::new(
            type_,
            false,
            Reason::Disabled,
            format!("spec.enabled is false: mail is signed as {initial}"),
        );
    }
    let Some(active) = keyring.active() else {
        let cause = if keys.holds { records } else { keys };
        if cause.holds {
            let until = settled(keyring);
            return Verdict::new(
                type_,
                false,
                Reason::NotSigning,
                format!("no key signs yet: resolvers may remember older answers{until}; nothing to do"),
            );
        }
        return Verdict { type_, holds: false, ..cause.clone() };
    };
    let _ = active;
    if !cnames.holds {
        return Verdict::new(
            type_,
            false,
            cnames.reason,
            format!("mail is signed as {initial} until both CNAMEs are there. {}", cnames.message),
        );
    }
    let until = SlotId::ALL
        .into_iter()
        .filter_map(|s| match keyring.slots[s].link {
            Link::Up { trusted_from } if trusted_from > facts.now => Some(trusted_from),
            _ => None,
        })
        .max();
    match until {
        Some(until) => Verdict::new(
            type_,
            false,
            Reason::Settling,
            format!(
                "both CNAMEs are there. Resolvers may remember that they were not until {}; mail is signed as {initial} until then; nothing to do",
                words::moment(until)
            ),
        ),
        None => Verdict::new(
            type_,
            false,
            Reason::DnsUnclear,
            format!(
                "both CNAMEs were there; a last look confirms it. Mail is signed as {initial} until then"
            ),
        ),
    }
}

fn settled(ring: &Keyring) -> String {
    let until = SlotId::ALL
        .into_iter()
        .filter_map(|s| match ring.slots[s].phase {
            Phase::Published { settled, .. } => Some(settled),
            _ => None,
        })
        .min();
    until.map(|at| format!(" until {}", words::moment(at))).unwrap_or_default()
}

fn rotating(facts: &Facts<'_>) -> Verdict {
    let type_ = ConditionType::Rotating;
    let ring = facts.keyring;
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
            format!("a signer still uses the key before, in {selector}; it stays published until none does"),
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

fn blocked(facts: &Facts<'_>) -> Verdict {
    let type_ = ConditionType::RotationBlocked;
    let Some(wait) = &facts.decision.waiting else {
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
        Wait::Unclear { .. } => Reason::DnsUnclear,
    };
    Verdict::new(type_, true, reason, super::waiting(wait, facts.order))
}
