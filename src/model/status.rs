//! Status: what a DkimDomain shows, made from what is stored and seen. Pure, so that wiping it loses nothing.

mod conditions;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::acceptance::{Order, Refusal};
use super::diagnosis;
use super::keyring::{Keyring, Mode, Phase};
use super::record::{CNAME_TTL, provider_selector};
use super::rotation::{Decision, Wait};
use super::sighting::Observation;
use super::words;
use crate::api::{
    ConditionType, DkimDomainStatus, KeyStatus, Reason, RecordStatus, RotationStatus, SecretRef,
    SigningStatus,
};

pub use conditions::Verdict;

/// Everything a status is made from.
pub struct Facts<'a> {
    /// The resolved spec.
    pub order: &'a Order,
    /// The stored keyring.
    pub keyring: &'a Keyring,
    /// What was decided last.
    pub decision: &'a Decision,
    /// The last look at DNS.
    pub observation: Option<&'a Observation>,
    /// Private keys were lost and mail may leave unsigned.
    pub keys_lost: bool,
    /// Now.
    pub now: Timestamp,
}

/// The status of a DkimDomain that is served.
#[must_use]
pub fn of(facts: &Facts<'_>, before: Option<&DkimDomainStatus>, generation: Option<i64>) -> DkimDomainStatus {
    let Facts { order, keyring, decision, .. } = facts;
    let verdicts = conditions::verdicts(facts);
    DkimDomainStatus {
        observed_generation: generation,
        conditions: merge(before, &verdicts, generation, facts.now),
        records: records(facts),
        signing: signing(order, keyring),
        keys: keyring.slots.iter().map(|(_, slot)| key_status(slot)).collect(),
        rotation: Some(RotationStatus {
            count: i64::try_from(keyring.log.count).unwrap_or(i64::MAX),
            last: keyring.log.last.map(words::whole),
            next: decision.next.map(words::whole),
            phase: rotation_phase(keyring, decision).to_owned(),
            waiting_for: decision.waiting.map(|wait| waiting(&wait, order)),
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
        "the private keys of {} are gone (Secret {}/{} was deleted or damaged), so its signers cannot sign from it; new keys are being made, and the published records of the old ones stay until mail under way has arrived",
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

fn records(facts: &Facts<'_>) -> Vec<RecordStatus> {
    let question = &facts.order.question;
    question
        .slots
        .iter()
        .map(|(slot, wanted)| {
            let (state, diagnosis) = match facts.observation {
                Some(observation) => {
                    let found = diagnosis::diagnose(wanted, question, &observation.slots[slot]);
                    (found.state.as_str().to_owned(), found.message)
                }
                None => ("Pending".to_owned(), "DNS has not been looked at yet.".to_owned()),
            };
            let host = wanted.alias.as_str();
            let host = host.strip_suffix(question.domain.as_str()).unwrap_or(host).trim_end_matches('.');
            RecordStatus {
                name: wanted.alias.to_string(),
                host: host.to_owned(),
                type_: "CNAME".to_owned(),
                value: wanted.target.to_string(),
                ttl: i32::try_from(CNAME_TTL).unwrap_or(i32::MAX),
                state,
                diagnosis,
            }
        })
        .collect()
}

fn signing(order: &Order, keyring: &Keyring) -> Option<SigningStatus> {
    let slot = &keyring.slots[keyring.active()?];
    let Phase::Active { key, since, .. } = &slot.phase else { return None };
    let (selector, domain) = match keyring.mode {
        Mode::Domain => (slot.selector.to_string(), order.domain.to_string()),
        Mode::Default => (
            provider_selector(&slot.selector, &order.placement.guid),
            order.placement.initial_domain.to_string(),
        ),
    };
    Some(SigningStatus {
        selector,
        domain,
        fingerprint: key.fingerprint.to_string(),
        since: words::whole((*since).max(keyring.mode_since)),
    })
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
pub fn waiting(wait: &Wait, order: &Order) -> String {
    let selector = |slot| &order.selectors[slot];
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
            "a signer still uses the previous key, in {}, so that one stays published; the next key comes when no signer uses it and mail under way has arrived. The mail provider must look at the signer",
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
            "the CNAME {} is not there, so the next key cannot be reached; publish it as status.records shows. Signing goes on with the present key",
            order.question.slots[*slot].alias
        ),
        Wait::Unclear { slot } => format!(
            "DNS gives no clear answer for {} right now; it is asked again. Signing goes on with the present key",
            order.question.slots[*slot].alias
        ),
    }
}
