//! The claim to a domain: the DkimRecordSet whose name is the domain. The API server lets only one be created.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, ListParams, PostParams, Preconditions};
use kube::{Resource, ResourceExt};

use super::Context;
use super::error::Error;
use super::secret::{Owner, domain_label};
use crate::api::{
    ClaimRef, DeletionPolicy, DkimDomain, DkimRecordSet, DkimRecordSetSpec, FIELD_MANAGER, LABEL_DOMAIN,
    LABEL_MANAGED_BY, MANAGED_BY, Reason,
};
use crate::model::acceptance::{Order, Refusal};
use crate::model::publication;
use crate::publish;

/// How a claim was come by.
#[derive(Debug)]
pub enum Claim {
    /// Held before.
    Held(DkimRecordSet),
    /// Newly made, or taken over from an object that is gone.
    New(DkimRecordSet),
    /// Made a moment ago, and others may have claimed the same GUID: too early to say who was first.
    Contested,
}

/// Takes or confirms the claim. `chosen` is whether the DkimDomain names its GUID itself.
///
/// # Errors
/// The outer [`Error`] where the API server could not be asked; the inner [`Refusal`] where somebody else holds the
/// domain or the GUID.
pub async fn ensure(
    ctx: &Context,
    order: &Order,
    owner: &Owner,
    chosen: bool,
) -> Result<Result<Claim, Refusal>, Error> {
    let claim = match of_domain(ctx, order, owner).await? {
        Ok(claim) => claim,
        Err(refusal) => {
            ctx.uncontested(&order.domain);
            return Ok(Err(refusal));
        }
    };
    let (Claim::Held(set) | Claim::New(set)) = &claim else { return Ok(Ok(claim)) };
    // One that changes its GUID has looked for others, and goes on to publish at both names.
    if !claims(order, set) || publishes(order, set) || !(chosen || ctx.others_choose(order)) {
        return Ok(Ok(claim));
    }
    if ctx.contested_for(&order.domain) < SAME_MOMENT {
        return Ok(Ok(Claim::Contested));
    }
    // All that were made before ours are to be seen by now: the watch may lag, the API server does not.
    let same = ListParams::default().fields(&format!("spec.guid={}", order.home.guid));
    let all = ctx.record_sets().list(&same).await.map_err(Error::api("looking for others with this GUID"))?;
    ctx.uncontested(&order.domain);
    let first = all.items.iter().find(|other| takes(ctx, order, Some(set), other));
    match first {
        None => Ok(Ok(claim)),
        Some(first) => {
            let refusal = taken(order, &first.name_any());
            give_way(ctx, set, owner).await?;
            Ok(Err(refusal))
        }
    }
}

/// Takes a claim back that nothing was published for yet: nobody is to find it in the way.
async fn give_way(ctx: &Context, set: &DkimRecordSet, owner: &Owner) -> Result<(), Error> {
    let ours = set.spec.claim_ref.as_ref().is_some_and(|claim| claim.uid == owner.uid);
    if ours && is_silent(set) { delete(ctx, set).await } else { Ok(()) }
}

/// Times of creation are whole seconds: after more than one, all that can have come earlier have come.
pub const SAME_MOMENT: Duration = Duration::from_millis(1500);

/// Whether a set publishes this order's records already.
fn publishes(order: &Order, set: &DkimRecordSet) -> bool {
    claims(order, set) && !set.spec.records.is_empty()
}

fn is_silent(set: &DkimRecordSet) -> bool {
    set.spec.placements().all(|place| place.records.is_empty())
}

/// Whether a set stands for this order's GUID.
fn claims(order: &Order, set: &DkimRecordSet) -> bool {
    set.spec.guid == order.home.guid.as_str() && set.spec.zone.apex == order.home.zone.apex
}

/// Whether another domain's set keeps an order from its GUID: it publishes under the same names, or is about to and was
/// there before `ours`, the domain's own.
fn takes(ctx: &Context, order: &Order, ours: Option<&DkimRecordSet>, other: &DkimRecordSet) -> bool {
    let names: Vec<&str> =
        order.lanes.iter().flat_map(|(_, lane)| lane.targets.0.iter().map(|n| n.as_str())).collect();
    let same = other.name_any() != order.domain.as_str()
        && other.spec.placements().any(|place| {
            place.guid == order.home.guid.as_str()
                && place.zone.apex == order.home.zone.apex
                && (place.records.is_empty()
                    || place.records.iter().any(|r| names.contains(&r.name.as_str())))
        });
    same && ours
        .filter(|ours| claims(order, ours))
        .is_none_or(|ours| Rank::of(ctx, other) < Rank::of(ctx, ours))
}

/// Who goes first: no two sets are of one rank.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    /// Who publishes goes before who does not.
    silent: bool,
    created: Option<Timestamp>,
    /// A GUID that was derived goes before one that was chosen: whoever did not choose did not look for others.
    chosen: bool,
    name: String,
}

impl Rank {
    fn of(ctx: &Context, set: &DkimRecordSet) -> Self {
        Self {
            silent: is_silent(set),
            created: set.metadata.creation_timestamp.as_ref().map(|t| t.0),
            chosen: ctx.chose_guid(set.spec.claim_ref.as_ref()),
            name: set.name_any(),
        }
    }
}

fn taken(order: &Order, holder: &str) -> Refusal {
    Refusal {
        reason: Reason::GuidTaken,
        message: format!(
            "spec.guid: {} already stands for the domain {holder} below {}; choose another GUID, or leave spec.guid out",
            order.home.guid, order.home.initial_domain
        ),
    }
}

/// Takes or confirms the claim to the domain.
async fn of_domain(ctx: &Context, order: &Order, owner: &Owner) -> Result<Result<Claim, Refusal>, Error> {
    let api = ctx.record_sets();
    let name = order.domain.as_str();
    let cached = ctx.cached_record_set(name);
    // Once it publishes nobody comes before it, and the walk over all record sets can be spared.
    if !cached.as_ref().is_some_and(|set| publishes(order, set)) {
        let takes = |other: &DkimRecordSet| takes(ctx, order, cached.as_ref(), other);
        if let Some(holder) = ctx.record_sets_seen.find(|guard| guard.0.as_ref().is_ok_and(takes)) {
            if let Some(set) = &cached {
                give_way(ctx, set, owner).await?;
            }
            return Ok(Err(taken(order, &holder.name_any())));
        }
    }
    let set = match cached {
        Some(set) => set,
        None => match api.create(&PostParams::default(), &fresh(ctx, order, owner)).await {
            Ok(made) => return Ok(Ok(Claim::New(made))),
            // The watch is behind.
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                api.get(name).await.map_err(Error::api("reading the record set"))?
            }
            Err(error) => return Err(Error::api("claiming the domain")(error)),
        },
    };
    match &set.spec.claim_ref {
        Some(claim) if claim.uid == owner.uid => Ok(Ok(Claim::Held(set))),
        Some(claim) if claim.namespace == owner.namespace && claim.name == owner.name => {
            take_over(&api, set, owner).await
        }
        None => take_over(&api, set, owner).await,
        Some(claim) => match holder(ctx, claim).await? {
            Some(_) => Ok(Err(claimed(order, claim, owner))),
            None => take_over(&api, set, owner).await,
        },
    }
}

fn claimed(order: &Order, claim: &ClaimRef, owner: &Owner) -> Refusal {
    // Another tenant's namespace is not this tenant's business.
    let who = if claim.namespace == owner.namespace {
        format!("DkimDomain {} in this namespace", claim.name)
    } else {
        "a DkimDomain in another namespace".to_owned()
    };
    Refusal {
        reason: Reason::DomainClaimed,
        message: format!(
            "spec.domain: {} is already held by {who}; delete that one first, or delete this one. If the domain is yours and you do not know of the other, ask the mail provider",
            order.domain
        ),
    }
}

/// The DkimDomain behind a claim, if it is still there.
pub async fn holder(ctx: &Context, claim: &ClaimRef) -> Result<Option<DkimDomain>, Error> {
    let api: Api<DkimDomain> = Api::namespaced(ctx.client.clone(), &claim.namespace);
    let found =
        api.get_opt(&claim.name).await.map_err(Error::api("reading the DkimDomain that holds the claim"))?;
    Ok(found.filter(|d| d.uid().as_deref() == Some(claim.uid.as_str())))
}

async fn take_over(
    api: &Api<DkimRecordSet>,
    mut set: DkimRecordSet,
    owner: &Owner,
) -> Result<Result<Claim, Refusal>, Error> {
    // The rest follows from the vault. Where the keys were is not to be forgotten meanwhile.
    set.spec.claim_ref = Some(claim_ref(owner));
    set.spec.orphaned = false;
    let name = set.name_any();
    let set = api
        .replace(
            &name,
            &PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() },
            &set,
        )
        .await
        .map_err(Error::api("taking over the claim"))?;
    Ok(Ok(Claim::New(set)))
}

fn claim_ref(owner: &Owner) -> ClaimRef {
    ClaimRef { namespace: owner.namespace.clone(), name: owner.name.clone(), uid: owner.uid.clone() }
}

fn fresh(ctx: &Context, order: &Order, owner: &Owner) -> DkimRecordSet {
    let mut set = DkimRecordSet::new(
        order.domain.as_str(),
        DkimRecordSetSpec {
            claim_ref: Some(claim_ref(owner)),
            provider: order.provider.clone(),
            guid: order.home.guid.to_string(),
            zone: order.home.zone.clone(),
            orphaned: false,
            drain_seconds: order.drain_time().as_secs(),
            last_serial: 0,
            former: Vec::new(),
            records: Vec::new(),
            cnames: None,
        },
    );
    set.metadata = ObjectMeta {
        // A set that publishers work on is theirs from the beginning: nothing of it is with the embedded server.
        finalizers: order.home.zone.outlet.as_ref().map(|_| vec![publish::FINALIZER.to_owned()]),
        namespace: Some(ctx.namespace.clone()),
        labels: Some(
            [
                (LABEL_MANAGED_BY.to_owned(), MANAGED_BY.to_owned()),
                (LABEL_DOMAIN.to_owned(), domain_label(&order.domain)),
            ]
            .into(),
        ),
        ..set.metadata
    };
    set
}

/// Writes a record set if it says something new. Returns the set as it is afterwards.
///
/// # Errors
/// [`Error::Conflict`] where somebody wrote in between.
pub async fn save(
    ctx: &Context,
    set: &DkimRecordSet,
    spec: DkimRecordSetSpec,
) -> Result<DkimRecordSet, Error> {
    if set.spec == spec {
        return Ok(set.clone());
    }
    let mut wanted = set.clone();
    wanted.spec = spec;
    let params = PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() };
    ctx.record_sets()
        .replace(&wanted.name_any(), &params, &wanted)
        .await
        .map_err(Error::api("writing the record set"))
}

/// Lets go of a claim, as the DkimDomain asked: what has signed stays for the drain and the rest goes; all goes; or all
/// stays.
///
/// # Errors
/// [`Error`] where the API server could not be asked.
pub async fn release(ctx: &Context, set: &DkimRecordSet, how: DeletionPolicy) -> Result<(), Error> {
    let spec = match how {
        DeletionPolicy::Immediate => return delete(ctx, set).await,
        DeletionPolicy::Orphan => DkimRecordSetSpec { claim_ref: None, orphaned: true, ..set.spec.clone() },
        DeletionPolicy::Drain => {
            let drain = jiff::SignedDuration::from_secs(set.spec.drain_seconds);
            let kept = publication::release_all(&set.spec, drain, ctx.clock.sure()?);
            let (records, former) = (kept.records, kept.former);
            if records.is_empty() && former.is_empty() {
                return delete(ctx, set).await;
            }
            DkimRecordSetSpec { claim_ref: None, records, former, ..set.spec.clone() }
        }
    };
    save(ctx, set, spec).await.map(|_| ())
}

/// Deletes a record set that nothing hangs on any more, if it is still the one we know.
///
/// # Errors
/// [`Error`] where the API server could not be asked.
pub async fn delete(ctx: &Context, set: &DkimRecordSet) -> Result<(), Error> {
    let params = kube::api::DeleteParams {
        preconditions: Some(Preconditions {
            uid: set.meta().uid.clone(),
            resource_version: set.meta().resource_version.clone(),
        }),
        ..kube::api::DeleteParams::default()
    };
    match ctx.record_sets().delete(&set.name_any(), &params).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(Error::api("deleting the record set")(error)),
    }
}
