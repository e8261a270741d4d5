//! The key Secret: the truth about a domain's keys, read and written as one object.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::ResourceExt;

use super::error::Error;
use crate::api::signing_config::{FORMAT_VERSION as SIGNING_FORMAT_VERSION, SIGNING_FILE, SigningConfig};
use crate::api::{ANNOTATION_GOES_AT, ANNOTATION_OWNER, LABEL_DOMAIN, LABEL_MANAGED_BY, MANAGED_BY};
use crate::model::acceptance::Order;
use crate::model::key::PrivateKey;
use crate::model::keyring::Keyring;
use crate::model::lanes::{LaneId, PerLane};
use crate::model::name::DomainName;
use crate::model::rotation::Custody;
use crate::model::selector::{PerSlot, SlotId};
use crate::model::vault::{FORMAT_VERSION, Vault};
use crate::wipe::wipe;

/// The key of the rotation state within the Secret.
pub const STATE_FILE: &str = "state.json";

/// Private keys, slot by slot.
pub type Keys = PerLane<PerSlot<Option<PrivateKey>>>;

/// What a Secret held.
#[derive(Debug)]
pub struct Stored {
    /// Phases and times.
    pub vault: Vault,
    /// The private keys in hand, each checked against its fingerprint on record.
    pub keys: Keys,
}

impl Stored {
    /// Which private keys are in hand.
    #[must_use]
    pub fn custody(&self) -> PerLane<Custody> {
        let of = |lane: LaneId| {
            PerSlot::from_fn(|slot| self.keys.get(lane).is_some_and(|keys| keys[slot].is_some()))
        };
        self.vault.rings.map(|lane, _| of(lane))
    }

    /// Puts a private key where it belongs.
    pub fn put(&mut self, lane: LaneId, slot: SlotId, key: PrivateKey) {
        let keys = match lane {
            LaneId::Primary => &mut self.keys.primary,
            LaneId::Second => self.keys.second.get_or_insert_with(|| PerSlot::from_fn(|_| None)),
        };
        keys[slot] = Some(key);
    }
}

/// A Secret that was found under our name.
#[derive(Debug)]
pub enum Found {
    /// Ours and readable.
    Stored(Box<Stored>),
    /// Ours, but the state in it is missing or not to be understood.
    Unreadable,
    /// Made by somebody else.
    Foreign,
    /// Ours, but written by a later version of this program.
    TooNew,
}

/// File name of a slot's private key.
fn key_file(keyring: &Keyring, slot: SlotId) -> String {
    format!("{}.pem", keyring.slots[slot].selector)
}

/// Reads a Secret. The private halves are checked against the public ones unless this very version of the object is
/// `known` from before: that takes most of a millisecond for each key.
#[must_use]
pub fn read(secret: &Secret, domain: &DomainName, known: bool) -> Found {
    if secret.labels().get(LABEL_MANAGED_BY).map(String::as_str) != Some(MANAGED_BY) {
        return Found::Foreign;
    }
    let Some(data) = &secret.data else { return Found::Unreadable };
    let Some(state) = data.get(STATE_FILE) else { return Found::Unreadable };
    let Ok(version) = serde_json::from_slice::<FormatVersion>(&state.0) else { return Found::Unreadable };
    if version.format_version > FORMAT_VERSION {
        return Found::TooNew;
    }
    let Ok(vault) = serde_json::from_slice::<Vault>(&state.0) else { return Found::Unreadable };
    if vault.domain != *domain {
        return Found::Unreadable;
    }
    let keys = vault.rings.map(|_, ring| {
        PerSlot::from_fn(|slot| {
            let recorded = ring.slots[slot].phase.key()?;
            let pem = std::str::from_utf8(&data.get(&key_file(ring, slot))?.0).ok()?;
            let key = PrivateKey::from_pem_as_stated(pem).ok()?;
            let public = if known { key.stated_public() } else { key.public() };
            (public.ok()? == recorded.public).then_some(key)
        })
    });
    Found::Stored(Box::new(Stored { vault, keys }))
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct FormatVersion {
    format_version: u32,
}

/// Writes a Secret: state, signing configuration and keys, all in one object.
///
/// # Errors
/// [`Error::Json`] only if our own types cannot be serialised.
pub fn write(stored: &Stored, order: &Order, owner: &Owner) -> Result<Secret, Error> {
    let json = |step| move |source| Error::Json { step, source };
    let vault = &stored.vault;
    let mut data = BTreeMap::new();
    let state = serde_json::to_vec_pretty(vault).map_err(json("writing state.json"))?;
    data.insert(STATE_FILE.to_owned(), ByteString(state));
    let signing = SigningConfig::of(vault, &order.signature);
    let signing = serde_json::to_vec_pretty(&signing).map_err(json("writing signing.json"))?;
    data.insert(SIGNING_FILE.to_owned(), ByteString(signing));
    for (lane, keys) in stored.keys.iter() {
        let Some(ring) = vault.rings.get(lane) else { continue };
        for (slot, key) in keys.iter() {
            if let (Some(key), Some(_)) = (key, ring.slots[slot].phase.key()) {
                data.insert(key_file(ring, slot), ByteString(key.expose_pem().as_bytes().to_vec()));
            }
        }
    }
    Ok(Secret {
        metadata: ObjectMeta {
            name: Some(order.secret_name.clone()),
            namespace: Some(order.secret_namespace.clone()),
            labels: Some(BTreeMap::from([
                (LABEL_MANAGED_BY.to_owned(), MANAGED_BY.to_owned()),
                (LABEL_DOMAIN.to_owned(), domain_label(&order.domain)),
            ])),
            annotations: Some(BTreeMap::from([(ANNOTATION_OWNER.to_owned(), owner.reference())])),
            owner_references: (owner.namespace == order.secret_namespace).then(|| vec![owner.as_reference()]),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".to_owned()),
        data: Some(data),
        ..Secret::default()
    })
}

/// Takes keys and state out of a Secret, and tells signers to sign nothing. It is to go at `goes_at` and not with its
/// DkimDomain: kubelet leaves the files of a deleted Secret in the pods that have mounted it, so that a signer there would
/// sign on.
///
/// # Errors
/// [`Error::Json`] only if our own types cannot be serialised.
pub fn hollow(secret: &mut Secret, domain: &DomainName, goes_at: Timestamp) -> Result<(), Error> {
    let nothing = SigningConfig {
        format_version: SIGNING_FORMAT_VERSION,
        domain: domain.clone(),
        signatures: Vec::new(),
    };
    let json = |source| Error::Json { step: "writing signing.json", source };
    let nothing = serde_json::to_vec_pretty(&nothing).map_err(json)?;
    wipe(secret);
    secret.data = Some(BTreeMap::from([(SIGNING_FILE.to_owned(), ByteString(nothing))]));
    secret.owner_references_mut().clear();
    secret.annotations_mut().insert(ANNOTATION_GOES_AT.to_owned(), goes_at.to_string());
    Ok(())
}

/// When a Secret without keys is to go.
#[must_use]
pub fn goes_at(meta: &ObjectMeta) -> Option<Timestamp> {
    meta.annotations.as_ref()?.get(ANNOTATION_GOES_AT)?.parse().ok()
}

/// Whether it holds no keys and no state.
#[must_use]
pub fn is_hollow(secret: &Secret) -> bool {
    let kept = |name: &String| name == STATE_FILE || name.ends_with(".pem");
    !secret.data.iter().flat_map(BTreeMap::keys).any(kept)
}

/// Whether two Secrets of ours say the same: data, labels, annotations and owners that we set.
#[must_use]
pub fn same(there: &Secret, wanted: &Secret) -> bool {
    let subset = |there: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>| {
        wanted.iter().all(|(k, v)| there.get(k) == Some(v))
    };
    there.data == wanted.data
        && subset(there.labels(), wanted.labels())
        && subset(there.annotations(), wanted.annotations())
        && there.owner_references() == wanted.owner_references()
}

/// The DkimDomain a Secret belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

impl Owner {
    /// `NAMESPACE/NAME`.
    #[must_use]
    pub fn reference(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    fn as_reference(&self) -> OwnerReference {
        OwnerReference {
            api_version: format!("{}/v1alpha1", crate::api::GROUP),
            kind: "DkimDomain".to_owned(),
            name: self.name.clone(),
            uid: self.uid.clone(),
            controller: Some(true),
            block_owner_deletion: None,
        }
    }
}

/// The domain as a label value: itself, or where it is over 63 bytes its end behind a hash.
#[must_use]
pub fn domain_label(domain: &DomainName) -> String {
    use sha2::{Digest, Sha256};
    let text = domain.as_str();
    if text.len() <= 63 {
        return text.to_owned();
    }
    let hash = data_encoding::HEXLOWER.encode(&Sha256::digest(text));
    let tail: String = text.chars().skip(text.len().saturating_sub(40)).collect();
    format!("{}.{}", hash.get(..20).unwrap_or_default(), tail.trim_start_matches(['.', '-']))
}
