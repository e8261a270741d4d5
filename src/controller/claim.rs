//! The claim to a domain: the DkimRecordSet whose name is the domain. The API server lets only one be created.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, PostParams, Preconditions};
use kube::core::DeserializeGuard;
use kube::{Resource, ResourceExt};

use super::Context;
use super::error::Error;
use super::observe;
use super::secret::{Owner, domain_label};
use crate::api::{
    ClaimRef, DeletionPolicy, DkimDomain, DkimRecordSet, DkimRecordSetSpec, FIELD_MANAGER, LABEL_DOMAIN,
    LABEL_MANAGED_BY, MANAGED_BY, Reason,
};
use crate::model::acceptance::{Order, Refusal};
use crate::model::contest::{self, Bid, Contender, Holder, Standing};
use crate::model::publication;
use crate::model::rotation::ROUNDING;
use crate::publish;

/// How a claim was come by.
#[derive(Debug)]
pub enum Claim {
    /// Held before.
    Held(DkimRecordSet),
    /// Newly made, or taken over from an object that is gone.
    New(DkimRecordSet),
    /// Others may have claimed the same GUID, or have, and come behind: too early to publish.
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
    let claim = contend(ctx, order, owner, chosen).await?;
    if !matches!(claim, Ok(Claim::Contested)) {
        ctx.contests.end(owner);
    }
    Ok(claim)
}

async fn contend(
    ctx: &Context,
    order: &Order,
    owner: &Owner,
    chosen: bool,
) -> Result<Result<Claim, Refusal>, Error> {
    let bid = Bid(order);
    let cached = ctx.cached_record_set(order.domain.as_str());
    // Once it publishes nobody comes before it, and the walk over all record sets can be spared.
    if cached.as_ref().is_some_and(|set| bid.is_served_by(&set.spec)) {
        return of_domain(ctx, order, owner, cached).await;
    }
    // Looked for after its own: of what was written before that nothing is missing.
    let others = others(ctx, bid);
    // Another tenant's is none of its business.
    let own = cached.as_ref().filter(|set| is_of(set, owner));
    let ours = own.filter(|set| bid.is_claimed_by(&set.spec)).map(|set| contender(ctx, set));
    let rivals = others.iter().filter_map(|other| other.0.as_ref().ok()).map(|other| contender(ctx, other));
    let standing = bid.standing(ours.as_ref(), rivals);
    let behind = matches!(standing, Standing::Behind { .. });
    let waits = chosen || behind || ctx.others_choose(order);
    let served = matches!(standing, Standing::Behind { serves: true, .. });
    let silent = !cached.as_ref().is_some_and(|set| set.spec.publishes());
    // Its record set may have been deleted by hand: its keys are in use, and nobody is to get their names meanwhile.
    if silent && waits && !served && observe::serves(ctx, order, owner).await? {
        return of_domain(ctx, order, owner, cached).await;
    }
    if let Standing::Behind { of, serves } = standing {
        if let Some(set) = &cached {
            give_way(ctx, set, owner).await?;
        }
        return Ok(Err(bid.lost(chosen, own.map(|set| &set.spec), Holder { domain: &of, serves })));
    }
    let claim = match of_domain(ctx, order, owner, cached.clone()).await? {
        Ok(claim) => claim,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let (Claim::Held(set) | Claim::New(set)) = &claim else { return Ok(Ok(claim)) };
    // Whoever runs elsewhere and moves claims first. Only where nobody chose the GUID there is nobody to wait for.
    if bid.is_served_by(&set.spec) || (!waits && !set.spec.publishes()) {
        return Ok(Ok(claim));
    }
    if !bid.is_claimed_by(&set.spec) {
        let made = save(ctx, set, bid.claim(&set.spec)).await?;
        ctx.contests.made(owner, &made.metadata);
        return Ok(Ok(Claim::Contested));
    }
    if matches!(claim, Claim::New(_)) {
        ctx.contests.made(owner, &set.metadata);
        return Ok(Ok(Claim::Contested));
    }
    // The watch is in the order of writes: where it shows the claim, it shows all that were made before. Of two claims the
    // later one sees the earlier.
    let shown = cached.as_ref().and_then(|set| ctx.contests.shown_for(owner, &set.metadata));
    let pause = if waits { SAME_MOMENT } else { Duration::ZERO };
    let Some(held) = shown.filter(|held| *held >= pause && !is_leaving(set)) else {
        return Ok(Ok(Claim::Contested));
    };
    match standing {
        Standing::Alone => Ok(Ok(claim)),
        Standing::First { before } if held >= PATIENCE => {
            give_way(ctx, set, owner).await?;
            let to = Holder { domain: &before, serves: false };
            Ok(Err(bid.lost(chosen, Some(&set.spec), to)))
        }
        Standing::First { .. } | Standing::Behind { .. } => Ok(Ok(Claim::Contested)),
    }
}

/// The record sets of other domains that publish under the names, or are about to, as the watch shows them.
fn others(ctx: &Context, bid: Bid<'_>) -> Vec<Arc<DeserializeGuard<DkimRecordSet>>> {
    let contests = |other: &DkimRecordSet| {
        let name = other.metadata.name.as_deref().unwrap_or_default();
        bid.is_contested_by(name, &other.spec) && !is_leaving(other)
    };
    ctx.record_sets_seen.state_filter(|guard| guard.0.as_ref().is_ok_and(contests))
}

/// Whether a DkimDomain holds a set.
fn is_of(set: &DkimRecordSet, owner: &Owner) -> bool {
    set.spec.claim_ref.as_ref().is_some_and(|claim| claim.uid == owner.uid)
}

/// Takes a claim back under which nothing is published yet: nobody is to find it in the way.
async fn give_way(ctx: &Context, set: &DkimRecordSet, owner: &Owner) -> Result<(), Error> {
    if !is_of(set, owner) {
        return Ok(());
    }
    match contest::unclaimed(&set.spec) {
        _ if !set.spec.publishes() => release(ctx, set, DeletionPolicy::Drain).await,
        Some(before) => save(ctx, set, before).await.map(|_| ()),
        None => Ok(()),
    }
}

/// Times of creation are whole seconds, and watches lag: after this, all that did not look for others are to be seen.
pub const SAME_MOMENT: Duration = Duration::from_millis(1500);

/// How long those that rank behind may take to let go of a GUID.
const PATIENCE: Duration = Duration::from_secs(20);

/// Whether a set that publishes nothing is being deleted: it contends no more.
fn is_leaving(set: &DkimRecordSet) -> bool {
    set.metadata.deletion_timestamp.is_some() && !set.spec.publishes()
}

fn contender<'a>(ctx: &Context, set: &'a DkimRecordSet) -> Contender<'a> {
    Contender {
        name: set.metadata.name.as_deref().unwrap_or_default(),
        spec: &set.spec,
        created: set.metadata.creation_timestamp.as_ref().map(|t| t.0),
        chosen: ctx.chose_guid(set.spec.claim_ref.as_ref()),
    }
}

/// Takes or confirms the claim to the domain, whose record set the watch has like this.
async fn of_domain(
    ctx: &Context,
    order: &Order,
    owner: &Owner,
    cached: Option<DkimRecordSet>,
) -> Result<Result<Claim, Refusal>, Error> {
    let api = ctx.record_sets();
    let name = order.domain.as_str();
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
            initial_domain: Some(order.home.initial_domain.to_string()),
            zone: order.home.zone.clone(),
            orphaned: false,
            drain_seconds: order.drain_time().as_secs(),
            last_serial: 0,
            remembered_until: None,
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
/// stays. An object without records outlives what resolvers remember of them.
///
/// # Errors
/// [`Error`] where the API server could not be asked.
pub async fn release(ctx: &Context, set: &DkimRecordSet, how: DeletionPolicy) -> Result<(), Error> {
    let spec = contest::unclaimed(&set.spec).unwrap_or_else(|| set.spec.clone());
    match publication::let_go(&spec, how, ROUNDING, ctx.clock.sure()?) {
        Some(spec) => save(ctx, set, spec).await.map(|_| ()),
        None => delete(ctx, set).await,
    }
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
