//! Observe: everything a decision rests on, read and put into the core's terms.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::ResourceExt;
use kube::api::Api;

use super::Context;
use super::error::Error;
use super::eyes::Seen;
use super::memory::{Version, version};
use super::secret::{self, Found, Owner, Stored};
use crate::api::{ANNOTATION_OWNER, DkimDomain, DkimProvider, DkimRecordSet, Reason};
use crate::model::acceptance::{self, Order, Refusal, Tenant};
use crate::model::acknowledgement::Acknowledged;
use crate::model::lanes::PerLane;
use crate::model::rotation::{Custody, FormerSeen, LaneObserved, VaultObserved};
use crate::model::vault::Vault;
use crate::wipe::wipe;

/// Finds the provider and the namespace, and resolves the spec against them.
///
/// # Errors
/// The outer [`Error`] where the API server could not be asked, the inner [`Refusal`] where the spec is refused.
pub async fn order(ctx: &Context, domain: &DkimDomain) -> Result<Result<Order, Refusal>, Error> {
    let namespace = domain.namespace().unwrap_or_default();
    let api: Api<Namespace> = Api::all(ctx.client.clone());
    let meta = match ctx.cached_namespace(&namespace) {
        Some(meta) => meta,
        None => api.get_metadata(&namespace).await.map_err(Error::api("reading the namespace"))?.metadata,
    };
    let provider = match find_provider(ctx, domain) {
        Ok(provider) => provider,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let empty = BTreeMap::new();
    let tenant = Tenant {
        namespace: &namespace,
        uid: meta.uid.as_deref().unwrap_or_default(),
        labels: meta.labels.as_ref().unwrap_or(&empty),
    };
    Ok(acceptance::accept(&domain.spec, &provider.name_any(), &provider.spec, &tenant))
}

fn find_provider(ctx: &Context, domain: &DkimDomain) -> Result<std::sync::Arc<DkimProvider>, Refusal> {
    let refuse = |message: String| Err(Refusal { reason: Reason::ProviderNotFound, message });
    if let Some(wanted) = &domain.spec.provider_ref {
        return match ctx.providers.find(|p| p.name_any() == wanted.name) {
            Some(provider) => Ok(provider),
            None => refuse(format!(
                "spec.providerRef.name: there is no DkimProvider {}; kubectl get dkimproviders lists them",
                wanted.name
            )),
        };
    }
    let mut defaults = ctx.providers.state_filter(|p| p.spec.default);
    defaults.sort_by_key(|p| p.name_any());
    match defaults.as_slice() {
        [one] => Ok(one.clone()),
        [] => refuse(
            "spec.providerRef: no DkimProvider is marked default; name one here, or ask the provider to set spec.default on one".into(),
        ),
        several => {
            let names: Vec<String> = several.iter().map(|p| p.name_any()).collect();
            refuse(format!(
                "spec.providerRef: several DkimProviders are marked default ({}); name one here, or ask the provider to leave only one",
                names.join(", ")
            ))
        }
    }
}

/// What is in the key Secret; by default, that there is none.
#[derive(Default)]
pub struct Custodian {
    /// The Secret as the API server has it, for the compare-and-swap.
    pub there: Option<Secret>,
    /// What it holds, where it is ours and readable.
    pub stored: Option<Stored>,
}

impl Drop for Custodian {
    fn drop(&mut self) {
        if let Some(secret) = &mut self.there {
            wipe(secret);
        }
    }
}

/// Reads the key Secret. Where it is still `known`, as the last reconcile left it, its keys are not checked again.
///
/// # Errors
/// As [`order`].
pub async fn custodian(
    ctx: &Context,
    order: &Order,
    owner: &Owner,
    known: Version,
) -> Result<Result<Custodian, Refusal>, Error> {
    let api: Api<Secret> = Api::namespaced(ctx.client.clone(), &order.secret_namespace);
    let place = format!("{}/{}", order.secret_namespace, order.secret_name);
    let there = match api.get_opt(&order.secret_name).await.map_err(Error::api("reading the key Secret")) {
        Ok(there) => there,
        Err(error) if error.is_forbidden() => {
            return Ok(Err(forbidden(&order.secret_namespace)));
        }
        Err(error) => return Err(error),
    };
    let Some(secret) = there else { return Ok(Ok(Custodian { there: None, stored: None })) };
    let known = known.is_some() && known == version(&secret.metadata);
    let stored = match secret::read(&secret, &order.domain, known) {
        // A former tenant's keys and CNAMEs are not the next one's, wherever the keys are kept.
        Found::Stored(_) if !of_namespace(&secret, &owner.namespace) => None,
        Found::Stored(stored) => Some(*stored),
        Found::Unreadable => None,
        Found::Foreign => {
            return Ok(Err(Refusal {
                reason: Reason::SecretConflict,
                message: format!(
                    "Secret {place} exists and was not made by this operator, so it is left alone; rename or delete it, then the keys are made"
                ),
            }));
        }
        Found::TooNew => {
            return Ok(Err(Refusal {
                reason: Reason::SecretConflict,
                message: format!(
                    "Secret {place} was written by a later version of the operator; run that version or a newer one"
                ),
            }));
        }
    };
    Ok(Ok(Custodian { there: Some(secret), stored }))
}

/// Whether the key Secret says that keys which signers use are published under the names that the domain wants.
///
/// # Errors
/// [`Error`] where the API server could not be asked.
pub async fn serves(ctx: &Context, order: &Order, owner: &Owner) -> Result<bool, Error> {
    let found = custodian(ctx, order, owner, None).await?;
    let stored = found.as_ref().ok().and_then(|custodian| custodian.stored.as_ref());
    Ok(stored.is_some_and(|stored| stored.vault.serves_at(&order.home)))
}

/// Whether a Secret of ours was made for a DkimDomain of this namespace.
fn of_namespace(secret: &Secret, namespace: &str) -> bool {
    let owner = secret.annotations().get(ANNOTATION_OWNER).and_then(|reference| reference.split_once('/'));
    owner.is_none_or(|(of, _)| of == namespace)
}

/// The refusal where the keys are in another namespace than the provider's: to make new ones would break mail.
///
/// # Errors
/// [`Error`] where the API server could not be asked.
pub async fn elsewhere(
    ctx: &Context,
    order: &Order,
    owner: &Owner,
    custodian: &Custodian,
    record_set: &DkimRecordSet,
) -> Result<Option<Refusal>, Error> {
    if custodian.there.is_some() || !record_set.spec.publishes() {
        return Ok(None);
    }
    let others = ctx.key_namespaces(&owner.namespace);
    for namespace in others.into_iter().filter(|name| *name != order.secret_namespace) {
        let api: Api<Secret> = Api::namespaced(ctx.client.clone(), &namespace);
        let found = api.get_metadata_opt(&order.secret_name).await;
        let Ok(Some(meta)) = found else { continue };
        if meta.annotations().get(ANNOTATION_OWNER) == Some(&owner.reference()) {
            return Ok(Some(Refusal {
                reason: Reason::PolicyViolation,
                message: format!(
                    "spec.providerRef: the keys of {} are in namespace {namespace}, and DkimProvider {} keeps keys in {}; choose a provider that keeps them in {namespace}, or move the Secret {} there first",
                    order.domain, order.provider, order.secret_namespace, order.secret_name
                ),
            }));
        }
    }
    Ok(None)
}

/// What was observed besides the vault itself.
#[must_use]
pub fn all(
    order: &Order,
    vault: &Vault,
    custody: &PerLane<Custody>,
    seen: &Seen,
    signers: &Acknowledged,
    served_drained: bool,
) -> VaultObserved {
    let lanes = vault.rings.map(|lane, _| LaneObserved {
        sights: seen.sights(lane, order, vault),
        custody: custody.get(lane).copied().unwrap_or_default(),
        in_use: signers.in_use.get(lane).copied().unwrap_or_default(),
    });
    VaultObserved { lanes, former: FormerSeen { in_use: signers.former_in_use, published: served_drained } }
}

/// The refusal for want of a permission on Secrets.
#[must_use]
pub fn forbidden(namespace: &str) -> Refusal {
    Refusal {
        reason: Reason::SecretForbidden,
        message: format!(
            "the operator may not read and write Secrets in namespace {namespace}; add it to controller.secretNamespaces of the chart, or set spec.keyNamespace of the DkimProvider to a namespace that is in it"
        ),
    }
}
