//! The conditions: each with a reason from the closed list and a message that says what to do next.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::{Facts, LaneFacts, records, still_using};
use crate::api::{ConditionType, Delegation, Reason};
use crate::model::acceptance::Refusal;
use crate::model::diagnosis::{self, KeyEvidence, RecordState};
use crate::model::home::Home;
use crate::model::keyring::{Keyring, Link, Mode, Phase};
use crate::model::rotation::Wait;
use crate::model::selector::SlotId;
use crate::model::vault::FormerHome;
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
    let keys = both(&|lane| keys(facts, lane));
    let records = both(&|lane| published_records(facts, lane));
    let cnames = both(&|lane| cnames(facts, lane));
    let enabled = enabled(facts, primary, &keys, &records, &cnames);
    let rotating = rotating(facts, primary);
    let blocked = both_blocked(facts, primary, second);
    let ready = ready(facts, second, &enabled, &keys, &records, &cnames);
    let mut all = vec![ready.clone()];
    if !ready.holds {
        all.push(Verdict { type_: ConditionType::Reconciling, holds: true, ..ready });
    }
    all.push(Verdict::new(ConditionType::Accepted, true, Reason::Accepted, "the spec is in order"));
    all.extend([keys, records, cnames, enabled, rotating, blocked]);
    all.extend(moving(facts));
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

/// A move to other names; told only while there is one.
fn moving(facts: &Facts<'_>) -> Option<Verdict> {
    let moving = facts.vault.moving.as_ref()?;
    let (from, to) = (&facts.vault.home, &moving.to);
    let what = format!(
        "the keys move from SELECTOR-{}._domainkey.{} to SELECTOR-{}._domainkey.{}",
        from.guid, from.initial_domain, to.guid, to.initial_domain
    );
    let next = match moving.announced {
        None => "the new names are being published; leave your records as they are",
        Some(_) => {
            "publish the records that status.records shows; the old ones go on working until all of them lead to the new names"
        }
    };
    let copied = moving.announced.and_then(|_| copied(facts));
    let waits: String =
        [copied, leaving_second(facts)].into_iter().flatten().map(|waits| format!(". {waits}")).collect();
    let message = format!("{what}: {next}{waits}");
    Some(Verdict::new(ConditionType::Moving, true, Reason::NamesChanging, message))
}

/// A move goes no further while the tenant's DNS host hides where the CNAMEs lead by which mail is signed.
fn copied(facts: &Facts<'_>) -> Option<String> {
    let signs = facts.lanes.iter().filter(|(_, lane)| lane.keyring.mode == Mode::Domain);
    let rows = signs.flat_map(|(_, lane)| records::of(lane, facts.order.delegation));
    let names: Vec<String> =
        rows.filter(|(_, state, _)| *state == RecordState::Flattened).map(|(_, _, row)| row.name).collect();
    let (last, others) = names.split_last()?;
    let names = if others.is_empty() { last.clone() } else { format!("{} and {last}", others.join(", ")) };
    Some(format!(
        "The move waits: your DNS host shows a copy of the key at {names} instead of the CNAME, so it cannot be seen where it leads. Turn flattening (ALIAS, ANAME) off there, so that each CNAME shows; or set spec.guid and spec.providerRef back to call the move off. Mail goes on verifying until then"
    ))
}

/// A move goes no further while keys of a second signature drain that is asked for no more: nobody looks for them at new names.
fn leaving_second(facts: &Facts<'_>) -> Option<String> {
    let ring = facts.vault.rings.second.as_ref().filter(|_| facts.order.lanes.second.is_none())?;
    let phases = || ring.slots.iter().map(|(_, slot)| &slot.phase);
    let who = if phases().any(|phase| matches!(phase, Phase::Draining { held: true, .. })) {
        format!(": {} them", still_using(&facts.signers.behind))
    } else {
        let until = phases().filter_map(|phase| match phase {
            Phase::Draining { until, .. } | Phase::Revoked { until, .. } => Some(*until),
            _ => None,
        });
        until.max().map(|at| format!(" until {}", words::moment(at))).unwrap_or_default()
    };
    Some(format!(
        "The move waits for the keys of the second signature, which spec.secondSignature no longer asks for; they stay published for mail under way{who}"
    ))
}

fn keys(facts: &Facts<'_>, lane: &LaneFacts<'_>) -> Verdict {
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

fn published_records(facts: &Facts<'_>, lane: &LaneFacts<'_>) -> Verdict {
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

fn cnames(facts: &Facts<'_>, lane: &LaneFacts<'_>) -> Verdict {
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
    let drains = ring.mode == Mode::Default && !facts.vault.former.is_empty();
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

fn rotating(facts: &Facts<'_>, lane: &LaneFacts<'_>) -> Verdict {
    let type_ = ConditionType::Rotating;
    let ring = lane.keyring;
    let key_held =
        ring.slots.iter().any(|(_, slot)| matches!(slot.phase, Phase::Draining { held: true, .. }));
    if let Some(held) = names_held(facts).filter(|_| !key_held) {
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

/// That a signer still signs by names of before a move.
fn names_held(facts: &Facts<'_>) -> Option<String> {
    // What a CNAME may still lead to is held as well, with no signer being behind.
    let by_signer = |former: &&FormerHome| former.held && (!former.reached || facts.signers.former_in_use);
    let Home { guid, initial_domain, .. } = &facts.vault.former.iter().find(by_signer)?.home;
    Some(format!(
        "{} the names of before a move, SELECTOR-{guid}._domainkey.{initial_domain}; they stay published until no signer does. The mail provider must look at it: its log says what hinders it",
        still_using(&facts.signers.behind)
    ))
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

fn both_blocked(facts: &Facts<'_>, primary: &LaneFacts<'_>, second: Option<&LaneFacts<'_>>) -> Verdict {
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
        Wait::Unclear { .. } => Reason::DnsUnclear,
    };
    Verdict::new(type_, true, reason, super::waiting(wait, lane, &facts.signers.behind))
}
