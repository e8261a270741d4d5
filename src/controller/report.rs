//! Report: status and Events, written only where they say something new.

use kube::Resource;
use kube::ResourceExt;
use kube::api::{Api, PostParams};
use kube::runtime::controller::Action;
use kube::runtime::events::{Event, EventType};

use super::error::Error;
use super::events::{self, Told};
use super::eyes::Seen;
use super::memory::{Version, version};
use super::{Context, REFUSED_AGAIN, may_be_lifted};
use crate::api::{ConditionType, DkimDomain, DkimDomainStatus, EventReason, FIELD_MANAGER, Reason};
use crate::model::acceptance::{Order, Refusal};
use crate::model::acknowledgement::Acknowledged;
use crate::model::keyring::Keyring;
use crate::model::lanes::{LaneId, PerLane};
use crate::model::rotation::VaultDecision;
use crate::model::status;
use crate::model::vault::{Vault, VaultChange};

/// Reports a refusal.
///
/// # Errors
/// [`Error`] where the API server could not be asked.
pub async fn refuse(ctx: &Context, domain: &DkimDomain, refusal: &Refusal) -> Result<Action, Error> {
    let wanted =
        status::refused(refusal, domain.status.as_ref(), domain.metadata.generation, ctx.clock.now());
    if save(ctx, domain, wanted).await?.is_some() {
        tell(ctx, domain, EventType::Warning, EventReason::Refused, "", &refusal.message).await;
    }
    let pause = if may_be_lifted(refusal.reason) { REFUSED_AGAIN / 4 } else { REFUSED_AGAIN * 10 };
    Ok(Action::requeue(ctx.spread(pause)))
}

/// Reports that keys are lost. New ones are made only by the next reconcile, which finds this report.
///
/// # Errors
/// [`Error`] where the API server could not be asked.
pub async fn tell_of_loss(ctx: &Context, domain: &DkimDomain, order: &Order) -> Result<Action, Error> {
    let wanted =
        status::keys_lost(order, domain.status.as_ref(), domain.metadata.generation, ctx.clock.now());
    let message = wanted.conditions.first().map(|c| c.message.clone()).unwrap_or_default();
    if save(ctx, domain, wanted).await?.is_some() {
        tell(ctx, domain, EventType::Warning, EventReason::KeysLost, "", &message).await;
    }
    Ok(Action::requeue(std::time::Duration::from_millis(200)))
}

/// Whether the loss of keys stands in status.
#[must_use]
pub fn told_of_loss(domain: &DkimDomain) -> bool {
    let conditions = domain.status.iter().flat_map(|s| &s.conditions);
    conditions
        .into_iter()
        .any(|c| c.type_ == ConditionType::KeysGenerated.as_str() && c.reason == Reason::KeysLost.as_str())
}

/// Whether status tells of keys that this DkimDomain had.
#[must_use]
pub fn had_keys(domain: &DkimDomain) -> bool {
    domain.status.as_ref().is_some_and(|status| status.secret_ref.is_some() || !status.keys.is_empty())
}

/// Whether the loss still shows: told of, and no key signs yet.
#[must_use]
pub fn still_lost(domain: &DkimDomain, keyring: &Keyring) -> bool {
    told_of_loss(domain) && keyring.active().is_none()
}

/// Reports a served domain.
///
/// # Errors
/// [`Error`] where the API server could not be asked.
pub async fn report(ctx: &Context, domain: &DkimDomain, facts: &status::Facts<'_>) -> Result<Version, Error> {
    let before = domain.status.as_ref();
    let wanted = status::of(facts, before, domain.metadata.generation);
    let blocked = newly_blocked(before, &wanted);
    let conflict = new_conflict(before, &wanted);
    let written = save(ctx, domain, wanted).await?;
    if let Some(message) = blocked {
        tell(ctx, domain, EventType::Warning, EventReason::RotationBlocked, "", &message).await;
    }
    if let Some(message) = conflict {
        tell(ctx, domain, EventType::Warning, EventReason::RecordConflict, "", &message).await;
    }
    Ok(written)
}

/// Gathers what a status is made from; `None` only while the provider is gone, which the next reconcile tells.
#[must_use]
pub fn facts<'a>(
    domain: &DkimDomain,
    order: &'a Order,
    vault: &'a Vault,
    decision: &'a VaultDecision,
    seen: &Seen,
    signers: &'a Acknowledged,
    now: jiff::Timestamp,
) -> Option<status::Facts<'a>> {
    let announced = vault.moving.as_ref().is_some_and(|moving| moving.announced.is_some());
    let lane = |lane: LaneId| {
        let (question, observation) = seen.shown(lane, announced).or_else(|| seen.shown(lane, false))?;
        let (keyring, decision) = (vault.rings.get(lane)?, decision.lanes.get(lane)?);
        Some(status::LaneFacts { keyring, decision, question, observation })
    };
    Some(status::Facts {
        order,
        vault,
        lanes: PerLane { primary: lane(LaneId::Primary)?, second: lane(LaneId::Second) },
        import_fault: None,
        publishing: None,
        signers,
        keys_lost: still_lost(domain, &vault.rings.primary),
        now,
    })
}

/// Tells of changes.
pub async fn tell_changes(
    ctx: &Context,
    domain: &DkimDomain,
    facts: &status::Facts<'_>,
    changes: &[VaultChange],
) {
    for Told { type_, reason, what, notes } in events::of(changes, facts) {
        tell(ctx, domain, type_, reason, &what.join(","), &notes.join("; ")).await;
    }
}

fn new_conflict(before: Option<&DkimDomainStatus>, now: &DkimDomainStatus) -> Option<String> {
    let find = |status: &DkimDomainStatus| {
        let found = status.conditions.iter().find(|c| c.reason == Reason::RecordConflict.as_str());
        found.map(|c| c.message.clone())
    };
    find(now).filter(|message| before.and_then(find).as_ref() != Some(message))
}

fn newly_blocked(before: Option<&DkimDomainStatus>, now: &DkimDomainStatus) -> Option<String> {
    let find = |status: &DkimDomainStatus| {
        let all = status.conditions.iter();
        all.clone()
            .find(|c| c.type_ == ConditionType::RotationBlocked.as_str() && c.status == "True")
            .map(|c| (c.reason.clone(), c.message.clone()))
    };
    let (reason, message) = find(now)?;
    let same = before.and_then(find).is_some_and(|(old, _)| old == reason);
    (!same).then_some(message)
}

/// Writes a status if it differs, over the version that it was made from. Returns the version that was written.
async fn save(ctx: &Context, domain: &DkimDomain, wanted: DkimDomainStatus) -> Result<Version, Error> {
    if domain.status.as_ref() == Some(&wanted) {
        return Ok(None);
    }
    let api: Api<DkimDomain> = Api::namespaced(ctx.client.clone(), &domain.namespace().unwrap_or_default());
    let mut whole = domain.clone();
    whole.status = Some(wanted);
    let params = PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() };
    match api.replace_status(&domain.name_any(), &params, &whole).await {
        Ok(written) => Ok(version(&written.metadata)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(Error::api("writing the status")(error)),
    }
}

/// Publishes an Event; that it could not be published never fails a reconcile.
///
/// `what` names the selectors, if any. It is part of the Event's action because the Events API counts one with the same
/// reason and action again instead of telling its own note.
async fn tell(
    ctx: &Context,
    domain: &DkimDomain,
    type_: EventType,
    reason: EventReason,
    what: &str,
    note: &str,
) {
    let event = Event {
        type_,
        reason: reason.as_str().to_owned(),
        note: Some(note.chars().take(1000).collect()),
        action: format!("Reconcile {what}").trim_end().to_owned(),
        secondary: None,
    };
    if let Err(error) = ctx.recorder.publish(&event, &domain.object_ref(&())).await {
        tracing::debug!(%error, "an Event could not be published");
    }
}
