//! The conditions: each with a reason from the closed list and a message that says what to do next.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::{Facts, LaneFacts};
use crate::api::{ConditionType, Reason};
use crate::model::acceptance::Refusal;
use crate::model::keyring::{Keyring, Link, Mode, Phase};
use crate::model::selector::SlotId;
use crate::model::words;

mod dns;
mod moves;
mod rotations;

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
        Reason::SecretConflict | Reason::SecretForbidden | Reason::ImportFailed => vec![
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
    let primary = &facts.lanes.primary;
    let second = facts.lanes.second.as_ref().filter(|_| facts.order.lanes.second.is_some());
    // A second signature that is wanted counts as much; what is wrong with the first is told first.
    let both = |verdict: &dyn Fn(&LaneFacts<'_>) -> Verdict| {
        let first = verdict(primary);
        second.map(verdict).filter(|other| first.holds && !other.holds).unwrap_or(first)
    };
    let keys = both(&|lane| dns::keys(facts, lane));
    let records = both(&|lane| dns::published_records(facts, lane));
    let cnames = both(&|lane| dns::cnames(facts, lane));
    let enabled = enabled(facts, primary, &keys, &records, &cnames);
    let rotating = rotations::rotating(facts, primary);
    let blocked = rotations::both_blocked(facts, primary, second);
    let ready = ready(facts, second, &enabled, &keys, &records, &cnames);
    let mut all = vec![ready.clone()];
    if !ready.holds {
        all.push(Verdict { type_: ConditionType::Reconciling, holds: true, ..ready });
    }
    all.push(Verdict::new(ConditionType::Accepted, true, Reason::Accepted, "the spec is in order"));
    all.extend([keys, records, cnames, enabled, rotating, blocked]);
    all.extend(moves::moving(facts));
    all
}

fn ready(
    facts: &Facts<'_>,
    second: Option<&LaneFacts<'_>>,
    enabled: &Verdict,
    keys: &Verdict,
    records: &Verdict,
    cnames: &Verdict,
) -> Verdict {
    let type_ = ConditionType::Ready;
    let primary = facts.lanes.primary.keyring;
    if primary.active().is_none() {
        let cause = if keys.holds { records } else { keys };
        return Verdict { type_, holds: false, ..cause.clone() };
    }
    if facts.order.lanes.primary.policy.enabled {
        let lags = second.is_some_and(|s| s.keyring.active().is_none() || s.keyring.mode != primary.mode);
        if enabled.holds && lags {
            let cause = [keys, records, cnames].into_iter().find(|verdict| !verdict.holds);
            let (reason, why) = cause
                .map_or((Reason::Settling, "resolvers may remember older answers"), |c| {
                    (c.reason, c.message.as_str())
                });
            return Verdict::new(
                type_,
                false,
                reason,
                format!("the second signature is not made yet: {why}"),
            );
        }
        return Verdict { type_, ..enabled.clone() };
    }
    let holds = primary.mode == Mode::Default;
    Verdict::new(type_, holds, Reason::SigningAsProvider, enabled.message.clone())
}

fn enabled(
    facts: &Facts<'_>,
    lane: &LaneFacts<'_>,
    keys: &Verdict,
    records: &Verdict,
    cnames: &Verdict,
) -> Verdict {
    let type_ = ConditionType::Enabled;
    let Facts { order, vault, .. } = facts;
    let keyring = lane.keyring;
    let initial = &vault.home.initial_domain;
    if keyring.mode == Mode::Domain && keyring.active().is_some() {
        return Verdict::new(
            type_,
            true,
            Reason::SigningAsDomain,
            format!("mail is signed as {}", order.domain),
        );
    }
    if !order.lanes.primary.policy.enabled {
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
