//! Apply: bring a decision into the world, in an order that a crash between any two writes cannot hurt.
//!
//! 1. A key about to be told to signers is marked as signed in the record set.
//! 2. The Secret is written in one compare-and-swap: keys, phases, times and signing.json together.
//! 3. The record set follows from the Secret.

use getrandom::SysRng;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use kube::api::{Api, PostParams};

use super::Context;
use super::claim;
use super::error::Error;
use super::glance::Known;
use super::memory::{Version, version};
use super::observe::Custodian;
use super::secret::{self, Keys, Owner, Stored};
use crate::api::{ANNOTATION_GOES_AT, DkimRecordSet, DkimRecordSetSpec, FIELD_MANAGER};
use crate::model::acceptance::Order;
use crate::model::key::{KeyKind, PrivateKey, PublicKey};
use crate::model::keyring::{KeyInfo, Phase};
use crate::model::lanes::LaneId;
use crate::model::publication::{self, Publication};
use crate::model::rotation::{Change, VaultDecision};
use crate::model::selector::SlotId;
use crate::model::vault::{Vault, VaultChange};
use crate::wipe::wipe;

/// What stands in the world after a decision was applied. Status is made from this and nothing else.
#[derive(Debug)]
pub struct Applied {
    /// The key Secret as it is left.
    pub left: Known,
    /// What was changed just now.
    pub changes: Vec<VaultChange>,
    /// When the next published record ends.
    pub next_end: Option<Timestamp>,
    /// The version of the record set.
    pub record_set: Version,
    /// Why the record set could not be written. The Secret was: what has changed is to be told.
    pub fault: Option<Error>,
}

/// The objects as they are.
#[derive(Clone, Copy)]
pub struct There<'a> {
    /// The claim, and what is published.
    pub record_set: &'a DkimRecordSet,
    /// The key Secret.
    pub custodian: &'a Custodian,
}

/// Applies a decision. `brought` are the keys that the user brings.
///
/// # Errors
/// [`Error::Conflict`] where somebody wrote in between: nothing is lost, the next reconcile decides anew.
pub async fn apply(
    ctx: &Context,
    order: &Order,
    owner: &Owner,
    there: There<'_>,
    mut stored: Stored,
    mut brought: Keys,
    decision: &VaultDecision,
) -> Result<Applied, Error> {
    let There { record_set, custodian } = there;
    let now = ctx.clock.sure()?.max(stored.vault.high_water());
    let armed: Vec<(LaneId, SlotId)> = decision.armed().collect();
    let mut record_set = record_set.clone();
    if !armed.is_empty() {
        let spec = record_spec(&record_set, &stored.vault, order, &armed, now);
        record_set = claim::save(ctx, &record_set, spec).await?;
    }
    for change in &decision.changes {
        stored.vault.apply(change, now);
        if let VaultChange::Key { lane, change: Change::Generate { slot, kind, import, .. } } = change {
            let serial = stored.vault.last_serial() + 1;
            let theirs = brought.get_mut(*lane).and_then(|keys| keys[*slot].take()).filter(|_| *import);
            let (key, info) = match theirs {
                Some(key) => take_in(key, *kind, serial, now)?,
                None => make_key(ctx, serial, *kind, now).await?,
            };
            if let Some(ring) = stored.vault.rings.get_mut(*lane) {
                ring.install(*slot, info);
            }
            stored.put(*lane, *slot, key);
        }
    }
    forget_lost(&mut stored);
    let late = ctx.clock.sure()?.duration_since(now) > LONGEST;
    if late && decision.changes.iter().any(counts_from_now) {
        return Err(Error::Late);
    }
    let secret = write_secret(ctx, order, owner, custodian, &stored).await?;
    let spec = record_spec(&record_set, &stored.vault, order, &[], now);
    let (record_set, fault) = match claim::save(ctx, &record_set, spec).await {
        Ok(saved) => (saved, None),
        Err(error) => (record_set, Some(error)),
    };
    Ok(Applied {
        left: Known::part(stored, Some(&secret)).0,
        changes: decision.changes.clone(),
        next_end: publication::next_end(&record_set.spec, now),
        record_set: version(&record_set.metadata),
        fault,
    })
}

/// What stands where a decision on what was `left` asks for no write; `None` where it asks for one, which only the Secret
/// itself can be the ground of.
#[must_use]
pub fn nothing(
    ctx: &Context,
    order: &Order,
    record_set: &DkimRecordSet,
    left: Known,
    decision: &VaultDecision,
) -> Option<Applied> {
    let now = ctx.clock.now().max(left.vault.high_water());
    let same = record_spec(record_set, &left.vault, order, &[], now) == record_set.spec;
    (decision.changes.is_empty() && same).then(|| Applied {
        left,
        changes: Vec::new(),
        next_end: publication::next_end(&record_set.spec, now),
        record_set: version(&record_set.metadata),
        fault: None,
    })
}

/// Longest time from a decision to the Secret's write. A drain counts from the decision, and signers go on with the old
/// key until the write: a controller that was frozen in between would cut the drain short.
const LONGEST: SignedDuration = SignedDuration::from_secs(30);

/// Whether a change is other than a new key, which may take its time to be made.
fn counts_from_now(change: &VaultChange) -> bool {
    !matches!(change, VaultChange::Key { change: Change::Generate { .. }, .. })
}

/// A key that stands in no phase any more, or is revoked, leaves memory and Secret.
fn forget_lost(stored: &mut Stored) {
    for lane in LaneId::ALL {
        for slot in SlotId::ALL {
            let phase = stored.vault.rings.get(lane).map(|ring| &ring.slots[slot].phase);
            let gone = matches!(phase, None | Some(Phase::Empty | Phase::Revoked { .. }));
            if gone && let Some(keys) = stored.keys.get_mut(lane) {
                keys[slot] = None;
            }
        }
    }
}

fn record_spec(
    set: &DkimRecordSet,
    vault: &Vault,
    order: &Order,
    armed: &[(LaneId, SlotId)],
    now: Timestamp,
) -> DkimRecordSetSpec {
    let drain = order.drain_time();
    let Publication { records, former } =
        publication::publish(&set.spec, vault, &order.home, armed, drain, now);
    DkimRecordSetSpec {
        claim_ref: set.spec.claim_ref.clone(),
        provider: order.provider.clone(),
        guid: order.home.guid.to_string(),
        initial_domain: Some(order.home.initial_domain.to_string()),
        zone: order.home.zone.clone(),
        orphaned: false,
        drain_seconds: drain.as_secs(),
        last_serial: publication::last_serial(&set.spec, vault),
        remembered_until: publication::still_remembered(&set.spec, now),
        records,
        former,
        cnames: order.cnames(vault),
    }
}

/// A key that the user brings.
fn take_in(
    key: PrivateKey,
    wanted: KeyKind,
    serial: u64,
    now: Timestamp,
) -> Result<(PrivateKey, KeyInfo), Error> {
    let kind = key.kind()?.unwrap_or(wanted);
    let info = info(key.public()?, serial, kind, now)?;
    Ok((key, KeyInfo { imported: true, ..info }))
}

fn info(public: PublicKey, serial: u64, kind: KeyKind, now: Timestamp) -> Result<KeyInfo, Error> {
    let fingerprint = public.fingerprint()?;
    Ok(KeyInfo { serial, kind, public, fingerprint, created: now, imported: false })
}

/// Makes a key on a thread of its own: it takes tens of milliseconds of pure arithmetic.
async fn make_key(
    ctx: &Context,
    serial: u64,
    kind: KeyKind,
    now: Timestamp,
) -> Result<(PrivateKey, KeyInfo), Error> {
    let _permit = ctx.keygen.acquire().await.map_err(|_| Error::Worker)?;
    let (key, public) = tokio::task::spawn_blocking(move || {
        let key = PrivateKey::generate(kind, &mut SysRng)?;
        let public = key.stated_public()?;
        Ok::<_, Error>((key, public))
    })
    .await
    .map_err(|_| Error::Worker)??;
    Ok((key, info(public, serial, kind, now)?))
}

async fn write_secret(
    ctx: &Context,
    order: &Order,
    owner: &Owner,
    custodian: &Custodian,
    stored: &Stored,
) -> Result<ObjectMeta, Error> {
    let api: Api<Secret> = Api::namespaced(ctx.client.clone(), &order.secret_namespace);
    let params = PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() };
    let mut wanted = secret::write(stored, order, owner)?;
    let result = match &custodian.there {
        Some(there) if secret::same(there, &wanted) => Ok(there.metadata.clone()),
        Some(there) => {
            wanted.metadata.resource_version = there.resource_version();
            // What others put on the object stays.
            for (key, value) in there.annotations().iter().filter(|(key, _)| *key != ANNOTATION_GOES_AT) {
                wanted.annotations_mut().entry(key.clone()).or_insert_with(|| value.clone());
            }
            for (key, value) in there.labels() {
                wanted.labels_mut().entry(key.clone()).or_insert_with(|| value.clone());
            }
            api.replace(&order.secret_name, &params, &wanted).await.map(wiped)
        }
        None => api.create(&params, &wanted).await.map(wiped),
    };
    wipe(&mut wanted);
    result.map_err(Error::api("writing the key Secret"))
}

fn wiped(mut secret: Secret) -> ObjectMeta {
    wipe(&mut secret);
    secret.metadata
}
