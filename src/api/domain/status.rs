//! What the status of a DkimDomain says.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the operator sees and does. Derived from the key Secret and from DNS; wiping it loses nothing.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct DkimDomainStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Reconciling and Stalled (kstatus), and the steps to it. Every reason is in the documentation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Every record the tenant must publish, and what DNS says of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub records: Vec<RecordStatus>,
    /// What signers are told to sign with now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing: Option<SigningStatus>,
    /// The two slots.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["selector"]))]
    pub keys: Vec<KeyStatus>,
    /// When keys were and will be rolled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<RotationStatus>,
    /// The Secret that holds the keys, for signers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
}

/// One record to publish.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
pub struct RecordStatus {
    /// The whole name, such as selector1._domainkey.contoso.com.
    pub name: String,
    /// The name below the domain, as most DNS consoles want it: selector1._domainkey.
    pub host: String,
    /// The record type: CNAME, or TXT where delegation is TXT.
    #[serde(rename = "type")]
    pub type_: String,
    /// What it points at, or its text.
    pub value: String,
    /// Time to live in seconds.
    pub ttl: i32,
    /// What DNS says: Verified, Missing, WrongTarget and so on; Pending before the first look.
    pub state: String,
    /// The state in words: which server said what, and what to do.
    pub diagnosis: String,
}

/// What signers are told to sign with.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SigningStatus {
    /// The selector, s=.
    pub selector: String,
    /// The signing domain, d=: this domain, or the provider's while default signing.
    pub domain: String,
    /// SHA-256 of the public key.
    pub fingerprint: String,
    /// Since when.
    pub since: Time,
    /// The second signature, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub second: Option<SecondSigning>,
}

/// The second signature.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SecondSigning {
    /// The selector, s=.
    pub selector: String,
    /// SHA-256 of the public key.
    pub fingerprint: String,
}

/// One slot.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct KeyStatus {
    /// The slot's selector.
    pub selector: String,
    /// Empty, Generated, Published, Active, Draining or Revoked.
    pub phase: String,
    /// SHA-256 of the public key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// RSA or Ed25519.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<String>,
    /// Bits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<i32>,
    /// When the key was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<Time>,
    /// When it was first seen in DNS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<Time>,
    /// While it drains or is revoked: until when its name says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drains_until: Option<Time>,
    /// A signer still uses it though another key signs: it stays until none does, and drains anew from then on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held: bool,
}

/// Rotation, past and future.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RotationStatus {
    /// How often keys were switched.
    pub count: i64,
    /// The last switch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Time>,
    /// The next switch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Time>,
    /// Idle, Due, Draining, Revoking or Preparing.
    pub phase: String,
    /// Why a rotation that is due has not happened, and until when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<String>,
    /// The signers that still use a key which they were told to leave, so that it stays published: up to ten.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signers_behind: Vec<String>,
}

/// A Secret by namespace and name.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
pub struct SecretRef {
    /// Its namespace: the tenant's, or the provider's keyNamespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}
