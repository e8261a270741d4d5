//! Report: status and Events, written only where they say something new.

use kube::Resource;
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::runtime::events::{Event, EventType};

use super::error::Error;
use super::memory::{Version, version};
use super::{Context, REFUSED_AGAIN, may_be_lifted};
use crate::api::{ConditionType, DkimDomain, DkimDomainStatus, EventReason, FIELD_MANAGER, Reason};
use crate::model::acceptance::{Order, Refusal};
use crate::model::keyring::{Keyring, Mode};
use crate::model::rotation::{Cause, Change};
use crate::model::selector::SlotId;
use crate::model::status;

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
    let written = save(ctx, domain, wanted).await?;
    if let Some(message) = blocked {
        tell(ctx, domain, EventType::Warning, EventReason::RotationBlocked, "", &message).await;
    }
    Ok(written)
}

/// Tells of changes.
pub async fn tell_changes(ctx: &Context, domain: &DkimDomain, facts: &status::Facts<'_>, changes: &[Change]) {
    for Told { type_, reason, what, notes } in events(changes, facts) {
        tell(ctx, domain, type_, reason, &what.join(","), &notes.join("; ")).await;
    }
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

/// What to tell of changes of one kind.
#[derive(Debug)]
struct Told {
    type_: EventType,
    reason: EventReason,
    what: Vec<String>,
    notes: Vec<String>,
}

/// One Event for each reason: what happens to both slots at once is told once.
fn events(changes: &[Change], facts: &status::Facts<'_>) -> Vec<Told> {
    let mut all: Vec<Told> = Vec::new();
    for change in changes {
        let Some((type_, reason, note)) = event(change, facts) else { continue };
        let what = change.slot().map(|slot| facts.order.selectors[slot].to_string());
        match all.iter_mut().find(|told| told.reason == reason && told.type_ == type_) {
            Some(told) => {
                told.what.extend(what);
                told.notes.push(note);
            }
            None => all.push(Told { type_, reason, what: what.into_iter().collect(), notes: vec![note] }),
        }
    }
    all
}

fn event(change: &Change, facts: &status::Facts<'_>) -> Option<(EventType, EventReason, String)> {
    use EventType::{Normal, Warning};
    let order = facts.order;
    let selector = |slot: SlotId| &order.selectors[slot];
    let fingerprint = |slot: SlotId| {
        facts.keyring.slots[slot].phase.key().map(|k| k.fingerprint.to_string()).unwrap_or_default()
    };
    let alias = |slot: SlotId| &order.question.slots[slot].alias;
    let told = match change {
        // Nothing has happened: it was not there before, either.
        Change::LinkMemory { .. } | Change::Clear { .. } => return None,
        Change::Generate { slot, import: true, .. } => (
            Normal,
            EventReason::KeyImported,
            format!("took in the key {} for {}", fingerprint(*slot), selector(*slot)),
        ),
        Change::Hold { slot } => (
            Warning,
            EventReason::SignerBehind,
            format!(
                "a signer still signs with key {} of {}, which it should have left: the key stays published; look at that signer",
                fingerprint(*slot),
                selector(*slot)
            ),
        ),
        Change::Free { slot, .. } => (
            Normal,
            EventReason::SignersMoved,
            format!(
                "no signer uses key {} of {} any more; it drains from now on",
                fingerprint(*slot),
                selector(*slot)
            ),
        ),
        Change::Retire { slot, .. } => (
            Normal,
            EventReason::KeyRetired,
            format!(
                "{} is no longer wanted and signs no more; what it signed stays verifiable until it has arrived",
                selector(*slot)
            ),
        ),
        Change::Generate { slot, .. } => (
            Normal,
            EventReason::KeyGenerated,
            format!("made key {} for {}", fingerprint(*slot), selector(*slot)),
        ),
        Change::Seen { slot, .. } => (
            Normal,
            EventReason::KeyPublished,
            format!("key {} of {} is seen in DNS", fingerprint(*slot), selector(*slot)),
        ),
        Change::Unseen { slot } => (
            Warning,
            EventReason::RecordVanished,
            format!("the TXT {} is no longer in DNS as it should be", order.placement.names[*slot]),
        ),
        Change::Activate { slot, cause, .. } => (
            if matches!(
                cause,
                Cause::First | Cause::Schedule | Cause::Request | Cause::Along | Cause::NewKind
            ) {
                Normal
            } else {
                Warning
            },
            EventReason::KeyActivated,
            format!("{} signs with key {} from now on: {}", selector(*slot), fingerprint(*slot), why(*cause)),
        ),
        Change::Lost { slot, .. } => (
            Warning,
            EventReason::KeysLost,
            format!("the private key of {} is gone from the Secret or damaged", selector(*slot)),
        ),
        Change::LinkUp { slot, .. } => {
            (Normal, EventReason::CnameVerified, format!("the CNAME {} is there", alias(*slot)))
        }
        Change::LinkDown { slot, .. } => (
            Warning,
            EventReason::CnameLost,
            format!("the CNAME {} is missing or wrong; status.records tells what to do", alias(*slot)),
        ),
        Change::SetMode { mode: Mode::Domain } => {
            (Normal, EventReason::SigningAsDomain, format!("mail is signed as {} from now on", order.domain))
        }
        Change::SetMode { mode: Mode::Default } => (
            if order.policy.enabled { Warning } else { Normal },
            EventReason::SigningAsProvider,
            format!("mail is signed as {} from now on", order.placement.initial_domain),
        ),
        Change::NoteRequest { at } => {
            (Normal, EventReason::RotationRequested, format!("a rotation is asked for at {at}"))
        }
    };
    Some(told)
}

fn why(cause: Cause) -> &'static str {
    match cause {
        Cause::First => "it is the first key",
        Cause::Schedule => "a rotation was due by schedule",
        Cause::Request => "a rotation was asked for",
        Cause::Along => "the other keys of the domain were rolled",
        Cause::Compromised => {
            "the key before is in the wrong hands; it is published as revoked, and what it signed no longer verifies"
        }
        Cause::NewKind => "the spec asks for another kind of key",
        Cause::LinkLost => "the CNAME of the key before is gone",
        Cause::RecordLost => "the TXT of the key before is gone from DNS",
        Cause::KeyLost => "the private key before is gone",
    }
}

/// Writes a status if it differs. Returns the version that was written.
async fn save(ctx: &Context, domain: &DkimDomain, wanted: DkimDomainStatus) -> Result<Version, Error> {
    if domain.status.as_ref() == Some(&wanted) {
        return Ok(None);
    }
    let api: Api<DkimDomain> = Api::namespaced(ctx.client.clone(), &domain.namespace().unwrap_or_default());
    let body = serde_json::json!({
        "apiVersion": DkimDomain::api_version(&()),
        "kind": DkimDomain::kind(&()),
        "metadata": { "name": domain.name_any(), "uid": domain.metadata.uid },
        "status": wanted,
    });
    let params = PatchParams::apply(FIELD_MANAGER).force();
    match api.patch_status(&domain.name_any(), &params, &Patch::Apply(&body)).await {
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
