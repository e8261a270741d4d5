//! Letting go: of a DkimDomain that is deleted, and of record sets whose claimant is gone.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, DeleteParams, PartialObjectMeta, Patch, PatchParams, PostParams, Preconditions};
use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};

use super::Context;
use super::claim;
use super::error::Error;
use super::secret::{self, Owner};
use crate::api::{
    ANNOTATION_OWNER, DeletionPolicy, DkimDomain, DkimRecordSet, FIELD_MANAGER, FINALIZER, LABEL_MANAGED_BY,
    MANAGED_BY,
};
use crate::model::keyring::later;
use crate::model::name::DomainName;
use crate::model::publication;
use crate::wipe::wipe;

/// Puts our finalizer on, if it is not there. Returns whether something was written.
///
/// # Errors
/// [`Error`] where the API server could not be asked.
pub async fn hold(ctx: &Context, domain: &DkimDomain) -> Result<bool, Error> {
    if domain.finalizers().iter().any(|f| f == FINALIZER) {
        return Ok(false);
    }
    let mut finalizers = domain.finalizers().to_vec();
    finalizers.push(FINALIZER.to_owned());
    write_finalizers(ctx, domain, &finalizers).await?;
    Ok(true)
}

async fn write_finalizers(ctx: &Context, domain: &DkimDomain, list: &[String]) -> Result<(), Error> {
    let api: Api<DkimDomain> = Api::namespaced(ctx.client.clone(), &domain.namespace().unwrap_or_default());
    let patch = serde_json::json!({
        "metadata": { "finalizers": list, "resourceVersion": domain.resource_version() }
    });
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
    match api.patch(&domain.name_any(), &params, &Patch::Merge(&patch)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(Error::api("writing the finalizer")(error)),
    }
}

/// Empties the key Secret, which goes once signers have heard (they stop), releases the claim (records drain), lets the object go.
///
/// # Errors
/// [`Error`] where the API server could not be asked; a Secret that may not be touched never holds the object back.
pub async fn finalize(ctx: &Context, domain: &DkimDomain, owner: &Owner) -> Result<Action, Error> {
    if !domain.finalizers().iter().any(|f| f == FINALIZER) {
        return Ok(Action::await_change());
    }
    let how = domain.spec.deletion_policy;
    if let Some(reference) = domain.status.as_ref().and_then(|s| s.secret_ref.clone()) {
        release_secret(ctx, &reference.namespace, &reference.name, owner, domain).await?;
    }
    if let Ok(name) = DomainName::parse(&domain.spec.domain) {
        // A status that was wiped must not leave the keys behind.
        for namespace in ctx.key_namespaces(&owner.namespace) {
            release_secret(ctx, &namespace, &format!("dkim-{name}"), owner, domain).await?;
        }
        let set =
            ctx.record_sets().get_opt(name.as_str()).await.map_err(Error::api("reading the record set"))?;
        let ours = set.filter(|s| s.spec.claim_ref.as_ref().is_some_and(|c| c.uid == owner.uid));
        if let Some(set) = ours {
            claim::release(ctx, &set, how).await?;
        }
    }
    let rest: Vec<String> = domain.finalizers().iter().filter(|f| *f != FINALIZER).cloned().collect();
    write_finalizers(ctx, domain, &rest).await?;
    Ok(Action::await_change())
}

async fn release_secret(
    ctx: &Context,
    namespace: &str,
    name: &str,
    owner: &Owner,
    domain: &DkimDomain,
) -> Result<(), Error> {
    let how = domain.spec.deletion_policy;
    let api: Api<Secret> = Api::namespaced(ctx.client.clone(), namespace);
    let meta = match api.get_metadata_opt(name).await {
        Ok(Some(meta)) => meta,
        Ok(None) => return Ok(()),
        Err(kube::Error::Api(status)) if status.code == 403 => {
            tracing::warn!(namespace, name, "may not read the key Secret of a deleted DkimDomain; it stays");
            return Ok(());
        }
        Err(error) => return Err(Error::api("reading the key Secret")(error)),
    };
    let ours = meta.labels().get(LABEL_MANAGED_BY).is_some_and(|v| v == MANAGED_BY)
        && meta.annotations().get(ANNOTATION_OWNER).is_some_and(|v| *v == owner.reference());
    if !ours {
        return Ok(());
    }
    if how == DeletionPolicy::Orphan {
        return orphan(&api, name, owner).await;
    }
    if how == DeletionPolicy::Drain {
        return empty(ctx, &api, name, domain).await;
    }
    let uid = Preconditions { uid: meta.uid(), resource_version: None };
    delete(&api, name, uid).await
}

async fn delete(api: &Api<Secret>, name: &str, which: Preconditions) -> Result<(), Error> {
    let params = DeleteParams { preconditions: Some(which), ..DeleteParams::default() };
    match api.delete(name, &params).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => Ok(()),
        Err(error) => Err(Error::api("deleting the key Secret")(error)),
    }
}

/// Tells signers to sign nothing, those that have the Secret mounted as well: the Secret itself goes when they have heard.
async fn empty(ctx: &Context, api: &Api<Secret>, name: &str, domain: &DkimDomain) -> Result<(), Error> {
    let found = api.get_opt(name).await.map_err(Error::api("reading the key Secret"))?;
    let (Some(mut secret), Ok(parsed)) = (found, DomainName::parse(&domain.spec.domain)) else {
        return Ok(());
    };
    if secret::goes_at(&secret.metadata).is_some() && secret::is_hollow(&secret) {
        return Ok(());
    }
    let which = Preconditions { uid: secret.uid(), resource_version: None };
    secret::hollow(&mut secret, &parsed, later(ctx.clock.sure()?, longest_lag(ctx)))?;
    let params = PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() };
    match api.replace(name, &params, &secret).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        // It may not be written, or was made immutable: nothing holds the DkimDomain back, and no key stays behind.
        Err(kube::Error::Api(status)) if matches!(status.code, 403 | 422) => delete(api, name, which).await,
        Err(error) => Err(Error::api("emptying the key Secret")(error)),
    }
}

/// The signer lag where no provider is left to tell.
const UNKNOWN_LAG: SignedDuration = SignedDuration::from_mins(5);

fn longest_lag(ctx: &Context) -> SignedDuration {
    let lags = ctx.providers.state().into_iter().map(|provider| provider.spec.key_policy.signer_lag.0);
    lags.max().unwrap_or(UNKNOWN_LAG)
}

/// Deletes an emptied Secret when its time has come, unless it was written since. The watch of Secrets tells of it, and
/// after a restart its list does. What is told of the same Secret again takes the place of what was told before, and no
/// annotation makes one wait for longer than a signer lag.
pub fn delete_later(ctx: &Arc<Context>, secret: &PartialObjectMeta<Secret>) {
    let (Some(namespace), name) = (secret.namespace(), secret.name_any()) else { return };
    let place = (namespace, name);
    let Some(at) = secret::goes_at(&secret.metadata) else { return ctx.departures.forget(&place) };
    let at = at.min(later(ctx.clock.now(), longest_lag(ctx)));
    let version = secret.resource_version();
    let task = tokio::spawn(depart(Arc::clone(ctx), place.clone(), version, at));
    ctx.departures.await_one(place, task.abort_handle());
}

async fn depart(
    ctx: Arc<Context>,
    (namespace, name): (String, String),
    version: Option<String>,
    at: Timestamp,
) {
    let api: Api<Secret> = Api::namespaced(ctx.client.clone(), &namespace);
    loop {
        let wait = Duration::try_from(at.duration_since(ctx.clock.now())).unwrap_or_default();
        tokio::time::sleep(wait).await;
        match delete_hollow(&api, &name, version.as_deref()).await {
            // Or it was taken up again.
            Ok(()) | Err(Error::Conflict { .. }) => return,
            Err(error) => {
                tracing::warn!(namespace, name, %error, "an emptied key Secret cannot be deleted yet");
                tokio::time::sleep(ctx.spread(Duration::from_secs(60))).await;
            }
        }
    }
}

/// Whatever its annotations say, one that holds keys stays.
async fn delete_hollow(api: &Api<Secret>, name: &str, version: Option<&str>) -> Result<(), Error> {
    let found = api.get_opt(name).await.map_err(Error::api("reading an emptied key Secret"))?;
    let Some(mut secret) = found else { return Ok(()) };
    let goes = secret.metadata.resource_version.as_deref() == version && secret::is_hollow(&secret);
    let which = Preconditions { uid: secret.uid(), resource_version: secret.resource_version() };
    wipe(&mut secret);
    if goes { delete(api, name, which).await } else { Ok(()) }
}

/// Lets a Secret outlive its DkimDomain, which the garbage collector would not.
async fn orphan(api: &Api<Secret>, name: &str, owner: &Owner) -> Result<(), Error> {
    let found = api.get_opt(name).await.map_err(Error::api("reading the key Secret"))?;
    let Some(mut secret) = found else { return Ok(()) };
    let before = secret.owner_references().len();
    secret.owner_references_mut().retain(|reference| reference.uid != owner.uid);
    let result = if secret.owner_references().len() == before {
        Ok(())
    } else {
        let params = PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() };
        api.replace(name, &params, &secret).await.map(|mut written| wipe(&mut written))
    };
    wipe(&mut secret);
    match result {
        Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => Ok(()),
        other => other.map_err(Error::api("letting go of the key Secret")),
    }
}

/// Looks after a record set: one whose claimant is gone is released, one that has drained goes.
///
/// # Errors
/// [`Error`] where the API server could not be asked.
pub async fn sweep(guard: Arc<DeserializeGuard<DkimRecordSet>>, ctx: Arc<Context>) -> Result<Action, Error> {
    const CLAIMED: Duration = Duration::from_secs(600);
    let set = match &guard.0 {
        Ok(set) => set,
        Err(invalid) => {
            tracing::warn!(name = guard.name_any(), error = %invalid.error, "a DkimRecordSet cannot be read; it is left as it is");
            return Ok(Action::await_change());
        }
    };
    if let Some(claim) = &set.spec.claim_ref {
        if ctx.domain_exists(claim) || claim::holder(&ctx, claim).await?.is_some() {
            return Ok(Action::requeue(ctx.spread(CLAIMED)));
        }
        tracing::info!(domain = set.name_any(), "claimant is gone; records drain");
        claim::release(&ctx, set, DeletionPolicy::Drain).await?;
        return Ok(Action::await_change());
    }
    if set.spec.orphaned {
        return Ok(Action::await_change());
    }
    let now = ctx.clock.sure()?;
    match publication::over_at(&set.spec) {
        Some(end) if end > now => {
            let wait = Duration::try_from(end.duration_since(now)).unwrap_or(CLAIMED);
            Ok(Action::requeue(wait.min(Duration::from_secs(3600)).max(Duration::from_millis(50))))
        }
        _ => {
            claim::release(&ctx, set, DeletionPolicy::Drain).await?;
            Ok(Action::await_change())
        }
    }
}

/// The uid-bearing identity of a DkimDomain.
#[must_use]
pub fn owner_of(domain: &DkimDomain) -> Owner {
    Owner {
        namespace: domain.namespace().unwrap_or_default(),
        name: domain.name_any(),
        uid: domain.meta().uid.clone().unwrap_or_default(),
    }
}
