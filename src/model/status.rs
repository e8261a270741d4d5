//! Status: what a DkimDomain shows, made from what is stored and seen. Pure, so that wiping it loses nothing.

mod conditions;
mod records;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::acceptance::{Order, Refusal};
use super::acknowledgement::Acknowledged;
use super::home::Home;
use super::keyring::{Keyring, Mode, Phase};
use super::lanes::PerLane;
use super::publishing;
use super::record::provider_selector;
use super::rotation::{Decision, Wait};
use super::selector::SlotId;
use super::sighting::{Observation, Question};
use super::vault::Vault;
use super::words;
use crate::api::{
    ConditionType, DkimDomainStatus, KeyStatus, Reason, RotationStatus, SecondSigning, SecretRef,
    SigningStatus,
};

pub use conditions::Verdict;

/// How many signers that are behind are named in a status.
const NAMED: usize = 10;

/// Everything a status is made from.
pub struct Facts<'a> {
    /// The resolved spec.
    pub order: &'a Order,
    /// What is stored.
    pub vault: &'a Vault,
    /// Lane by lane.
    pub lanes: PerLane<LaneFacts<'a>>,
    /// Why a key that the user brings cannot be taken in.
    pub import_fault: Option<&'a str>,
    /// Private keys were lost and mail may leave unsigned.
    pub keys_lost: bool,
    /// What publishers say is amiss or awaited.
    pub publishing: Option<publishing::Told>,
    /// What signers say.
    pub signers: &'a Acknowledged,
    /// Now.
    pub now: Timestamp,
}

/// What a status says of one lane is made from this.
pub struct LaneFacts<'a> {
    /// The stored keyring.
    pub keyring: &'a Keyring,
    /// What was decided last.
    pub decision: &'a Decision,
    /// The names that the tenant is shown.
    pub question: Question,
    /// The last look at DNS for these names.
    pub observation: Option<Arc<Observation>>,
}

/// The status of a DkimDomain that is served.
#[must_use]
pub fn of(facts: &Facts<'_>, before: Option<&DkimDomainStatus>, generation: Option<i64>) -> DkimDomainStatus {
    let Facts { order, vault, lanes, .. } = facts;
    let LaneFacts { keyring, decision, .. } = &lanes.primary;
    let verdicts = conditions::verdicts(facts);
    let slots = lanes.iter().flat_map(|(_, lane)| lane.keyring.slots.0.iter());
    DkimDomainStatus {
        observed_generation: generation,
        conditions: merge(before, &verdicts, generation, facts.now),
        records: lanes
            .iter()
            .flat_map(|(_, lane)| records::of(lane, order.delegation))
            .map(|(_, _, row)| row)
            .collect(),
        signing: signing(vault),
        keys: slots.map(key_status).collect(),
        rotation: Some(RotationStatus {
            count: i64::try_from(keyring.log.count).unwrap_or(i64::MAX),
            last: keyring.log.last.map(words::whole),
            next: decision.next.map(words::whole),
            phase: rotation_phase(keyring, decision).to_owned(),
            waiting_for: decision.waiting.map(|wait| waiting(&wait, &lanes.primary, &facts.signers.behind)),
            signers_behind: signers_behind(facts),
        }),
        secret_ref: Some(SecretRef {
            namespace: order.secret_namespace.clone(),
            name: order.secret_name.clone(),
        }),
    }
}

/// The status of a DkimDomain that is refused: what it was served with before stays visible.
#[must_use]
pub fn refused(
    refusal: &Refusal,
    before: Option<&DkimDomainStatus>,
    generation: Option<i64>,
    now: Timestamp,
) -> DkimDomainStatus {
    let verdicts = conditions::refusal(refusal);
    let mut status = before.cloned().unwrap_or_default();
    status.observed_generation = generation;
    let kept: Vec<Condition> = status
        .conditions
        .iter()
        .filter(|c| !verdicts.iter().any(|v| v.type_.as_str() == c.type_) && !transient(&c.type_))
        .cloned()
        .collect();
    status.conditions = merge(before, &verdicts, generation, now);
    status.conditions.extend(kept);
    status
}

/// The status while lost keys are reported, before new ones are made.
#[must_use]
pub fn keys_lost(
    order: &Order,
    before: Option<&DkimDomainStatus>,
    generation: Option<i64>,
    now: Timestamp,
) -> DkimDomainStatus {
    let message = format!(
        "the private keys of {} are gone (Secret {}/{} was deleted, damaged, or put back from a backup that is older than what is published), so its signers cannot sign from it; new keys are being made, and the published records of the old ones stay until mail under way has arrived",
        order.domain, order.secret_namespace, order.secret_name
    );
    refused(&Refusal { reason: Reason::KeysLost, message }, before, generation, now)
}

fn transient(type_: &str) -> bool {
    [ConditionType::Reconciling, ConditionType::Stalled].iter().any(|t| t.as_str() == type_)
}

fn merge(
    before: Option<&DkimDomainStatus>,
    verdicts: &[Verdict],
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let old = before.map(|s| s.conditions.as_slice()).unwrap_or_default();
    verdicts.iter().map(|verdict| verdict.condition(old, generation, now)).collect()
}

fn signing(vault: &Vault) -> Option<SigningStatus> {
    let primary = &vault.rings.primary;
    let slot = &primary.slots[primary.active()?];
    let Phase::Active { key, since, .. } = &slot.phase else { return None };
    let (selector, domain) = match primary.mode {
        Mode::Domain => (slot.selector.to_string(), vault.domain.to_string()),
        Mode::Default => {
            (provider_selector(&slot.selector, &vault.home.guid), vault.home.initial_domain.to_string())
        }
    };
    Some(SigningStatus {
        selector,
        domain,
        fingerprint: key.fingerprint.to_string(),
        since: words::whole((*since).max(primary.mode_since)),
        second: second_signing(vault),
    })
}

/// The second signature, while it is made: as the same domain as the first.
fn second_signing(vault: &Vault) -> Option<SecondSigning> {
    let ring = vault.rings.second.as_ref().filter(|ring| ring.mode == vault.rings.primary.mode)?;
    let slot = &ring.slots[ring.active()?];
    let selector = match ring.mode {
        Mode::Domain => slot.selector.to_string(),
        Mode::Default => provider_selector(&slot.selector, &vault.home.guid),
    };
    Some(SecondSigning { selector, fingerprint: slot.phase.key()?.fingerprint.to_string() })
}

fn key_status(slot: &super::keyring::Slot) -> KeyStatus {
    let key = slot.phase.key();
    KeyStatus {
        selector: slot.selector.to_string(),
        phase: slot.phase.as_str().to_owned(),
        fingerprint: key.map(|k| k.fingerprint.to_string()),
        algorithm: key.map(|k| k.public.algorithm.name().to_owned()),
        size: key.map(|k| i32::from(k.kind.bits())),
        created: key.map(|k| words::whole(k.created)),
        published: match &slot.phase {
            Phase::Published { seen, .. } | Phase::Active { seen, .. } => Some(words::whole(*seen)),
            _ => None,
        },
        drains_until: match &slot.phase {
            Phase::Draining { until, .. } | Phase::Revoked { until, .. } => Some(words::whole(*until)),
            _ => None,
        },
        held: matches!(slot.phase, Phase::Draining { held: true, .. }),
    }
}

/// The signers for which a key or names of before are held, the first ones of many.
fn signers_behind(facts: &Facts<'_>) -> Vec<String> {
    let mut slots = facts.lanes.iter().flat_map(|(_, lane)| lane.keyring.slots.0.iter());
    let held = slots.any(|slot| matches!(slot.phase, Phase::Draining { held: true, .. }))
        || names_overdue(facts).is_some();
    facts.signers.behind.iter().filter(|_| held).take(NAMED).cloned().collect()
}

/// The names of before that are held for a signer that should have left them. What a CNAME may still lead to is held as well,
/// with no signer being late.
fn names_overdue<'a>(facts: &Facts<'a>) -> Option<&'a Home> {
    let mut held = facts.vault.former.iter().filter(|former| former.held && facts.signers.former_overdue);
    held.next().map(|former| &former.home)
}

/// Who still uses something, in words.
#[must_use]
pub fn still_using(behind: &[String]) -> String {
    match behind {
        [] => "a signer still uses".to_owned(),
        [one] => format!("the signer {one} still uses"),
        [one, two] => format!("the signers {one} and {two} still use"),
        [one, two, rest @ ..] => format!("the signers {one}, {two} and {} more still use", rest.len()),
    }
}

fn rotation_phase(keyring: &Keyring, decision: &Decision) -> &'static str {
    if decision.waiting.is_some() {
        return "Due";
    }
    let Some(active) = keyring.active() else { return "Preparing" };
    match keyring.slots[active.other()].phase {
        Phase::Draining { .. } => "Draining",
        Phase::Revoked { .. } => "Revoking",
        Phase::Empty | Phase::Generated { .. } => "Preparing",
        Phase::Published { .. } | Phase::Active { .. } => "Idle",
    }
}

/// Why a rotation waits, in words.
#[must_use]
pub fn waiting(wait: &Wait, lane: &LaneFacts<'_>, behind: &[String]) -> String {
    let selector = |slot: SlotId| &lane.keyring.slots[slot].selector;
    match wait {
        Wait::Paused => {
            "a rotation is due, but spec.rotation.paused is true; set it to false to rotate".to_owned()
        }
        Wait::Draining { slot, until } => format!(
            "{} still holds the previous key, which stays published for mail under way until {}; the next key comes after that",
            selector(*slot),
            words::moment(*until)
        ),
        Wait::InUse { slot } => format!(
            "{} the previous key, in {}, so that one stays published; the next key comes when no signer uses it and mail under way has arrived. The mail provider must look at it: its log says what hinders it",
            still_using(behind),
            selector(*slot)
        ),
        Wait::Revoking { slot, until } => format!(
            "{} says until {} that the previous key is revoked; the next key comes after that",
            selector(*slot),
            words::moment(*until)
        ),
        Wait::Unpublished { slot } => {
            format!("the next key, in {}, is not yet seen in DNS; nothing to do", selector(*slot))
        }
        Wait::Settling { slot, until } => format!(
            "resolvers may remember an older answer for {} until {}; nothing to do",
            selector(*slot),
            words::moment(*until)
        ),
        Wait::LinkDown { slot } => format!(
            "the record {} is not there, so the next key cannot be reached; publish it as status.records shows. Signing goes on with the present key",
            lane.question.slots[*slot].alias
        ),
        Wait::FormerNames { slot } => format!(
            "names that the keys had stay published for mail under way, and it cannot be told whether {} leads there; the next key comes when they are gone. Signing goes on with the present key; nothing to do, but if your DNS host shows a copy of the key instead of the CNAME, turn that (flattening, ALIAS, ANAME) off",
            lane.question.slots[*slot].alias
        ),
        Wait::Unclear { slot } => format!(
            "DNS gives no clear answer for {} right now; it is asked again. Signing goes on with the present key",
            lane.question.slots[*slot].alias
        ),
    }
}

#[cfg(test)]
mod tests;
