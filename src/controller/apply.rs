//! Apply: bring a decision into the world, in an order that a crash between any two writes cannot hurt.
//!
//! 1. A key about to be told to signers is marked as signed in the record set.
//! 2. The Secret is written in one compare-and-swap: keys, phases, times and signing.json together.
//! 3. The record set follows from the Secret.

use getrandom::SysRng;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::{Api, PostParams};

use super::Context;
use super::claim;
use super::error::Error;
use super::memory::{Version, version};
use super::observe::Custodian;
use super::secret::{self, Owner, Stored};
use crate::api::{DkimRecordSet, DkimRecordSetSpec, FIELD_MANAGER};
use crate::model::acceptance::Order;
use crate::model::key::{KeyKind, PrivateKey};
use crate::model::keyring::{KeyInfo, Keyring, Phase};
use crate::model::publication;
use crate::model::rotation::{Change, Decision};
use crate::model::selector::SlotId;

/// What stands in the world after a decision was applied. Status is made from this and nothing else.
#[derive(Debug)]
pub struct Applied {
    /// The keyring as it is stored.
    pub keyring: Keyring,
    /// What was changed just now.
    pub changes: Vec<Change>,
    /// When the next published record ends.
    pub next_end: Option<Timestamp>,
    /// The version of the record set.
    pub record_set: Version,
    /// The version of the key Secret.
    pub secret: Version,
}

/// Applies a decision.
///
/// # Errors
/// [`Error::Conflict`] where somebody wrote in between: nothing is lost, the next reconcile decides anew.
pub async fn apply(
    ctx: &Context,
    order: &Order,
    owner: &Owner,
    record_set: &DkimRecordSet,
    custodian: &Custodian,
    mut stored: Stored,
    decision: &Decision,
) -> Result<Applied, Error> {
    let now = ctx.clock.now().max(stored.keyring.high_water());
    let armed = decision.changes.iter().find_map(|change| match change {
        Change::Activate { slot, .. } => Some(*slot),
        _ => None,
    });
    let mut record_set = record_set.clone();
    if armed.is_some() {
        let spec = record_spec(&record_set, &stored.keyring, order, armed, now);
        record_set = claim::save(ctx, &record_set, spec).await?;
    }
    for change in &decision.changes {
        stored.keyring.apply(change, now);
        if let Change::Generate { slot, kind, .. } = change {
            let (key, info) = make_key(ctx, stored.keyring.last_serial, *kind, now).await?;
            stored.keyring.install(*slot, info);
            stored.keys[*slot] = Some(key);
        }
    }
    forget_lost(&mut stored);
    let secret = write_secret(ctx, order, owner, custodian, &stored).await?;
    let spec = record_spec(&record_set, &stored.keyring, order, None, now);
    let record_set = claim::save(ctx, &record_set, spec).await?;
    Ok(Applied {
        keyring: stored.keyring,
        changes: decision.changes.clone(),
        next_end: publication::next_end(&record_set.spec.records, now),
        record_set: version(&record_set.metadata),
        secret,
    })
}

/// A key that stands in no phase any more, or is revoked, leaves memory and Secret.
fn forget_lost(stored: &mut Stored) {
    for slot in SlotId::ALL {
        if matches!(stored.keyring.slots[slot].phase, Phase::Empty | Phase::Revoked { .. }) {
            stored.keys[slot] = None;
        }
    }
}

fn record_spec(
    set: &DkimRecordSet,
    keyring: &Keyring,
    order: &Order,
    armed: Option<SlotId>,
    now: Timestamp,
) -> DkimRecordSetSpec {
    let drain = order.policy.drain_time();
    DkimRecordSetSpec {
        claim_ref: set.spec.claim_ref.clone(),
        provider: order.provider.clone(),
        guid: order.placement.guid.to_string(),
        zone: order.zone.clone(),
        drain_seconds: drain.as_secs(),
        former: set.spec.former.clone(),
        records: publication::publish(&set.spec.records, keyring, &order.placement, armed, drain, now),
    }
}

/// Makes a key on a thread of its own: it takes tens of milliseconds of pure arithmetic.
async fn make_key(
    ctx: &Context,
    last_serial: u64,
    kind: KeyKind,
    now: Timestamp,
) -> Result<(PrivateKey, KeyInfo), Error> {
    let _permit = ctx.keygen.acquire().await.map_err(|_| Error::Worker)?;
    let (key, public) = tokio::task::spawn_blocking(move || {
        let key = PrivateKey::generate(kind, &mut SysRng)?;
        let public = key.public()?;
        Ok::<_, Error>((key, public))
    })
    .await
    .map_err(|_| Error::Worker)??;
    let fingerprint = public.fingerprint()?;
    Ok((key, KeyInfo { serial: last_serial + 1, kind, public, fingerprint, created: now, imported: false }))
}

async fn write_secret(
    ctx: &Context,
    order: &Order,
    owner: &Owner,
    custodian: &Custodian,
    stored: &Stored,
) -> Result<Version, Error> {
    let api: Api<Secret> = Api::namespaced(ctx.client.clone(), &order.secret_namespace);
    let params = PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() };
    let mut wanted = secret::write(stored, order, owner)?;
    let result = match &custodian.there {
        Some(there) if secret::same(there, &wanted) => Ok(version(&there.metadata)),
        Some(there) => {
            wanted.metadata.resource_version = there.resource_version();
            // What others put on the object stays.
            for (key, value) in there.annotations() {
                wanted.annotations_mut().entry(key.clone()).or_insert_with(|| value.clone());
            }
            for (key, value) in there.labels() {
                wanted.labels_mut().entry(key.clone()).or_insert_with(|| value.clone());
            }
            api.replace(&order.secret_name, &params, &wanted).await.map(wiped)
        }
        None => api.create(&params, &wanted).await.map(wiped),
    };
    secret::wipe(&mut wanted);
    result.map_err(Error::api("writing the key Secret"))
}

fn wiped(mut secret: Secret) -> Version {
    secret::wipe(&mut secret);
    version(&secret.metadata)
}
