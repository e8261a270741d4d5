//! The controller: observe → decide → apply → report, for DkimDomain, DkimProvider and DkimRecordSet.

mod apply;
mod args;
mod claim;
mod clock;
mod contests;
mod context;
mod departures;
mod error;
mod events;
mod eyes;
mod glance;
mod imports;
mod memory;
mod observe;
mod provider;
mod release;
mod relist;
mod report;
pub(crate) mod secret;
mod signers;
mod watches;

pub use args::ControllerArgs;
pub use clock::{Clock, WitnessedClock};
pub use context::{Context, ControllerOptions};
pub use error::{Class, Error};
pub use watches::run;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;

use crate::api::{ANNOTATION_CHECK, DkimDomain, Reason};
use crate::model::lanes::PerLane;
use crate::model::rotation;
use crate::model::{publication, publishing, status};

use claim::Claim;
use eyes::Seen;
use glance::{Basis, Glance, Known};
use memory::{Versions, version};
use observe::Custodian;
use secret::Stored;

/// DkimDomains as they are watched: one that cannot be read does not stop the others.
pub type Guarded = DeserializeGuard<DkimDomain>;

/// Pause before a refused object is looked at again, if nothing about it changes before.
const REFUSED_AGAIN: Duration = Duration::from_secs(60);
/// Longest wait of a new domain's first status for the first look at DNS.
const FIRST_LOOK: Duration = Duration::from_millis(300);
/// Pause before an object at rest is reconciled again.
const RESYNC: Duration = Duration::from_secs(600);

/// Reconciles one DkimDomain.
///
/// # Errors
/// [`Error`], whose class decides the retry.
pub async fn reconcile(object: Arc<Guarded>, ctx: Arc<Context>) -> Result<Action, Error> {
    let key = ObjectRef::from_obj(object.as_ref());
    let result = match &object.0 {
        Ok(domain) => reconcile_domain(domain, &key, &ctx).await,
        Err(invalid) => {
            tracing::warn!(object = %key, error = %invalid.error, "a DkimDomain cannot be read; it is left as it is");
            Ok(Action::requeue(REFUSED_AGAIN))
        }
    };
    if result.is_ok() {
        ctx.backoff.forget(&key);
    }
    result
}

async fn reconcile_domain(
    domain: &DkimDomain,
    key: &ObjectRef<Guarded>,
    ctx: &Context,
) -> Result<Action, Error> {
    let owner = release::owner_of(domain);
    if domain.metadata.deletion_timestamp.is_some() {
        ctx.forget(key);
        return release::finalize(ctx, domain, &owner).await;
    }
    // Before they are gone by: what changes meanwhile is to be seen as a change.
    let surroundings = ctx.surroundings(domain, key);
    let order = match observe::order(ctx, domain).await? {
        Ok(order) => order,
        Err(refusal) => return report::refuse(ctx, domain, &refusal).await,
    };
    ctx.contend(&order.domain, key);
    let set_seen = ctx.cached_record_set(order.domain.as_str()).and_then(|set| version(&set.metadata));
    let domain_seen = version(&domain.metadata);
    if let Some(rest) = ctx.memory.at_rest(key, domain_seen, set_seen, surroundings, ctx.clock.now()) {
        return Ok(Action::requeue(rest));
    }
    if release::hold(ctx, domain).await? {
        // The object has changed under our hands; its own event brings it back.
        return Ok(Action::requeue(Duration::from_secs(1)));
    }
    let (record_set, taken_now) = match claim::ensure(ctx, &order, &owner, domain.spec.guid.is_some()).await?
    {
        Ok(Claim::Held(set)) => (set, false),
        Ok(Claim::New(set)) => (set, true),
        Ok(Claim::Contested) => return Ok(Action::requeue(claim::SAME_MOMENT)),
        Err(refusal) => {
            ctx.look_no_more(key);
            return report::refuse(ctx, domain, &refusal).await;
        }
    };
    // Where one is there after all, to create it fails, and the next reconcile reads it.
    let new = taken_now && record_set.spec.records.is_empty() && ctx.memory.seen_secret(key).is_none();
    let basis = Basis::of(&owner.uid, domain.metadata.generation, surroundings);
    let glance = ctx.glances.at(key, &basis, ctx.memory.seen_secret(key), ctx.clock.now());
    let glance = glance.filter(|glance| !publication::is_ahead_of(&record_set.spec, &glance.left.vault));
    let found = if new || glance.is_some() {
        Ok(Custodian::default())
    } else {
        observe::custodian(ctx, &order, &owner, ctx.memory.left_secret(key)).await?
    };
    let mut custodian = match found {
        Ok(custodian) => custodian,
        Err(refusal) => return report::refuse(ctx, domain, &refusal).await,
    };
    if custodian.stored.as_ref().is_some_and(|s| publication::is_ahead_of(&record_set.spec, &s.vault)) {
        tracing::warn!(domain = %order.domain, "the key Secret is older than what is published; it counts as lost");
        custodian.stored = None;
    }
    let unknown = custodian.stored.is_none() && glance.is_none();
    let published = record_set.spec.publishes();
    let lost = unknown && published;
    // What a former owner's keys left draining is no loss of one that had none yet.
    if lost && !taken_now && !report::told_of_loss(domain) && report::had_keys(domain) {
        return report::tell_of_loss(ctx, domain, &order).await;
    }
    if unknown && let Some(refusal) = observe::elsewhere(ctx, &order, &owner, &custodian, &record_set).await?
    {
        return report::refuse(ctx, domain, &refusal).await;
    }
    let now = ctx.clock.sure()?;
    let (known, keys) = match &glance {
        Some(glance) => (glance.left.clone(), None),
        None => {
            let stored = custodian.stored.take().unwrap_or_else(|| {
                let (drain, selectors) = (order.drain_time(), order.selectors());
                let vault = publication::recover(
                    &order.domain,
                    &order.home,
                    &selectors,
                    &record_set.spec,
                    drain,
                    now,
                );
                Stored { vault, keys: PerLane::default() }
            });
            let (known, keys) = Known::part(stored, custodian.there.as_ref().map(|secret| &secret.metadata));
            (known, Some(keys))
        }
    };
    let number = known.number;
    let before =
        Versions { domain: domain_seen, record_set: version(&record_set.metadata), secret: known.secret };
    let imports = match imports::read(ctx, &order, &owner.namespace, &known.vault).await? {
        Ok(imports) => imports,
        Err(refusal) => return report::refuse(ctx, domain, &refusal).await,
    };
    let mut order = order;
    imports.tell(&mut order);
    // Before anything is published there is nothing to look for, and a question would only plant a negative answer.
    let seen = if published { Seen::watch(ctx, key, &order, &known.vault) } else { Seen::default() };
    if let Some(request) = domain.metadata.annotations.as_ref().and_then(|all| all.get(ANNOTATION_CHECK)) {
        ctx.look_when_asked(key, request);
    }
    let signers = ctx.acknowledged(key, &order, number, &known.vault);
    let drained = publication::serves_drained(&record_set.spec, &known.vault, now);
    let observed = observe::all(&order, &known.vault, &known.custody, &seen, &signers, drained);
    let decision = rotation::decide_vault(&known.vault, &order.wanted(), &observed, now);
    let imports::Imports { keys: brought, fault: import_fault } = imports;
    let applied = match keys {
        None => match apply::nothing(ctx, &order, &record_set, known, &decision) {
            Some(applied) => Ok(applied),
            None => {
                ctx.glances.forget(key);
                return Ok(Action::requeue(Duration::ZERO));
            }
        },
        Some(keys) => {
            let there = apply::There { record_set: &record_set, custodian: &custodian };
            let stored = Stored { vault: known.vault, keys };
            apply::apply(ctx, &order, &owner, there, stored, brought, &decision).await
        }
    };
    let applied = match applied {
        Err(error) if error.is_forbidden() => {
            let refusal = observe::forbidden(&order.secret_namespace);
            return report::refuse(ctx, domain, &refusal).await;
        }
        other => other?,
    };
    drop(custodian);
    if glance.is_none() {
        let until = now.saturating_add(RESYNC).unwrap_or(now);
        ctx.glances.keep(key, Glance { left: applied.left.clone(), before: before.secret, basis, until });
    }
    if decision.look {
        ctx.look_again(key);
    }
    // What is looked for follows from the vault.
    let same = published && applied.changes.is_empty();
    let seen = if same { seen } else { Seen::watch(ctx, key, &order, &applied.left.vault) };
    // And so is what signers are asked.
    let asked = applied.changes.is_empty() && applied.left.number == number;
    let signers =
        if asked { signers } else { ctx.acknowledged(key, &order, applied.left.number, &applied.left.vault) };
    let Some(facts) = report::facts(domain, &order, &applied.left.vault, &decision, &seen, &signers, now)
    else {
        return Ok(Action::requeue(Duration::from_secs(1)));
    };
    let publishing = publishing::told(&order.provider, record_set.status.as_ref());
    let import_fault = import_fault.as_deref();
    let facts = status::Facts { import_fault, publishing, ..facts };
    report::tell_changes(ctx, domain, &facts, &applied.changes).await;
    if let Some(error) = applied.fault {
        return Err(error);
    }
    if domain.status.is_none() && !seen.any() && !applied.changes.is_empty() {
        // The first look is under way; status need not be written twice in a moment.
        return Ok(Action::requeue(FIRST_LOOK));
    }
    let written = report::report(ctx, domain, &facts).await?;
    let stale = glance.as_ref().map(|glance| glance.until);
    let wake = [decision.wake, applied.next_end, signers.wake, stale].into_iter().flatten().min();
    // That names are gone is decided upon once the set is seen without them.
    let let_go = drained && applied.record_set != before.record_set;
    let rest = if let_go { Duration::from_secs(1) } else { rest(ctx, wake) };
    if !decision.look && !let_go {
        let after = Versions {
            domain: written.or(domain_seen),
            record_set: applied.record_set,
            secret: applied.left.secret,
        };
        // DNS is taken as of the beginning: what was seen since has not been decided upon.
        let until = ctx.clock.now().saturating_add(rest).unwrap_or(Timestamp::MIN);
        ctx.memory.remember(key, before, after, surroundings, until);
    }
    Ok(Action::requeue(rest))
}

/// For how long nothing is to be done if nothing changes.
fn rest(ctx: &Context, wake: Option<Timestamp>) -> Duration {
    let resync = ctx.spread(RESYNC);
    let wake = wake.map(|at| {
        let wait = at.duration_since(ctx.clock.now());
        Duration::try_from(wait).unwrap_or_default() + Duration::from_millis(5)
    });
    wake.map_or(resync, |wake| wake.min(resync))
}

/// What to do after an error.
#[must_use]
#[allow(clippy::needless_pass_by_value, reason = "the signature kube asks for")]
pub fn on_error(object: Arc<Guarded>, error: &Error, ctx: Arc<Context>) -> Action {
    let key = ObjectRef::from_obj(object.as_ref());
    let class = error.class();
    let pause = ctx.backoff.next(&key, class);
    ctx.metrics.errors(class);
    match class {
        Class::Conflict => tracing::debug!(object = %key, %error, ?pause, "reconcile again"),
        _ => tracing::warn!(object = %key, %error, ?pause, "reconcile failed"),
    }
    Action::requeue(pause)
}

/// Whether a refusal is one that another object's change can lift.
pub(crate) fn may_be_lifted(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::DomainClaimed
            | Reason::GuidTaken
            | Reason::ProviderNotFound
            | Reason::ProviderInvalid
            | Reason::SecretConflict
            | Reason::SecretForbidden
            | Reason::ImportFailed
            | Reason::PolicyViolation
    )
}

/// The name and namespace of the DkimDomain in an annotation `NAMESPACE/NAME`.
pub(crate) fn parse_owner(reference: &str) -> Option<ObjectRef<Guarded>> {
    let (namespace, name) = reference.split_once('/')?;
    Some(ObjectRef::new(name).within(namespace))
}
