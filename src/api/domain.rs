//! `DkimDomain`: one per domain that sends mail, written by the tenant.

mod signature;
mod status;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::HumanDuration;

pub use signature::SignatureRequest;
pub use status::*;

/// What a tenant asks for: that mail from this domain is signed.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[kube(
    group = "dkim-operator.io",
    version = "v1alpha1",
    kind = "DkimDomain",
    namespaced,
    shortname = "dkim",
    shortname = "dkims",
    category = "mail",
    status = "DkimDomainStatus",
    derive = "PartialEq",
    doc = "A domain whose mail is signed with DKIM. Publish the two CNAMEs that status.records shows, once; keys are made, published, switched on and rolled for ever.",
    selectable = ".spec.domain",
    printcolumn(
        name = "DOMAIN",
        type_ = "string",
        json_path = ".spec.domain",
        description = "The domain after the @ of the sender."
    ),
    printcolumn(
        name = "ENABLED",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Enabled\")].status",
        description = "Whether mail is signed as this domain rather than as the provider."
    ),
    printcolumn(
        name = "SIGNING",
        type_ = "string",
        json_path = ".status.signing.selector",
        description = "The selector that signs now."
    ),
    printcolumn(
        name = "READY",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether signing is what the spec asks for."
    ),
    printcolumn(
        name = "REASON",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        description = "Why, in one word."
    ),
    printcolumn(
        name = "NEXT ROTATION",
        type_ = "string",
        json_path = ".status.rotation.next",
        description = "When the next key takes over."
    ),
    printcolumn(name = "AGE", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.secondSignature) || !has(oldSelf.secondSignature) || self.secondSignature.selectors == oldSelf.secondSignature.selectors").message("secondSignature.selectors cannot be changed; the CNAMEs that are published carry them. Leave secondSignature out until its keys have drained, then set it anew").field_path(".secondSignature"))]
pub struct DkimDomainSpec {
    /// The domain after the @ of the sender, such as contoso.com. International domains may be written as they
    /// are read or as xn--. Every domain stands alone: subdomains need a DkimDomain of their own. Cannot be changed.
    #[schemars(length(max = 253))]
    #[x_kube(validation = Rule::new(r"self.matches(r'^[^\s/@:*_]*$')").message("domain must be what stands after the @ of the sender, such as contoso.com: no scheme, path, @, port, wildcard, underscore or space"))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("domain cannot be changed; make a new DkimDomain for the other domain and delete this one"))]
    #[x_kube(validation = Rule::new("self.contains('.') && !self.startsWith('.') && !self.contains('..')").message("domain must be a whole domain name with at least two labels, such as contoso.com"))]
    pub domain: String,

    /// Sign as this domain (true) or with the provider's default signature (false). Mail leaves signed either way.
    #[serde(default = "yes")]
    pub enabled: bool,

    /// The DkimProvider that publishes the keys; the one marked default where left out. A change moves the
    /// domain: both names are published until your CNAMEs lead to the new ones, which status.records shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_ref: Option<ProviderRef>,

    /// Which kind of key to make. A change is brought in by the next rotation.
    #[serde(default)]
    pub key: KeyRequest,

    /// When keys are rolled.
    #[serde(default)]
    pub rotation: RotationRequest,

    /// The two selectors. Change them only if the default ones are taken by another service. Cannot be changed later.
    #[serde(default = "default_selectors")]
    #[schemars(length(max = 2), inner(length(max = 30)))]
    #[x_kube(validation = Rule::new("size(self) == 2 && self[0] != self[1]").message("selectors must be two different names, such as selector1 and selector2"))]
    #[x_kube(validation = Rule::new("self.all(s, s.matches('^[a-z0-9]([a-z0-9-]*[a-z0-9])?$'))").message("each of selectors must be one DNS label of a-z, 0-9 and inner hyphens, without dots, such as selector1"))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("selectors cannot be changed; the CNAMEs that are published carry them"))]
    pub selectors: Vec<String>,

    /// The label that stands for this domain in the provider's names. Derived from the domain where left out; set
    /// it when moving from a provider whose CNAMEs are already published. A change moves the domain, as with providerRef.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 53))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([a-z0-9-]*[a-z0-9])?$')").message("guid must be one DNS label of a-z, 0-9 and inner hyphens, without dots, such as contoso-com"))]
    pub guid: Option<String>,

    /// How messages are signed.
    #[serde(default)]
    pub signature: SignatureRequest,

    /// Sign twice: with an Ed25519 key (RFC 8463) beside the RSA key, for receivers that verify it. It has selectors and
    /// CNAMEs of its own; both keys are rolled together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub second_signature: Option<SecondSignature>,

    /// What you publish: CNAMEs, once and for good (the default); or, where your DNS host refuses CNAMEs, the keys
    /// themselves as TXT: then status.records shows them, and each rotation waits until you have published the next.
    #[serde(default)]
    pub delegation: Delegation,

    /// Keys to begin with, instead of new ones: those that sign already, so that a move needs no change of DNS. Each is
    /// taken in once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    pub import_keys: Vec<KeyImport>,

    /// What happens when this DkimDomain is deleted. Drain (default): signing stops, keys stay published for the drain,
    /// then all goes. Immediate: all goes at once, and mail under way no longer verifies. Orphan: the key Secret and the
    /// published keys stay as they are for ever, and a DkimDomain for the same domain takes them over.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

/// A second signature.
#[derive(Serialize, Deserialize, KubeSchema, Debug, Clone, PartialEq, Eq)]
pub struct SecondSignature {
    /// The two selectors of its keys.
    #[serde(default = "second_selectors")]
    #[schemars(length(max = 2), inner(length(max = 30)))]
    #[x_kube(validation = Rule::new("size(self) == 2 && self[0] != self[1]").message("secondSignature.selectors must be two different names, such as ed1 and ed2"))]
    #[x_kube(validation = Rule::new("self.all(s, s.matches('^[a-z0-9]([a-z0-9-]*[a-z0-9])?$'))").message("each of secondSignature.selectors must be one DNS label of a-z, 0-9 and inner hyphens, without dots, such as ed1"))]
    pub selectors: Vec<String>,
}

fn second_selectors() -> Vec<String> {
    vec!["ed1".to_owned(), "ed2".to_owned()]
}

/// What the tenant publishes.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Delegation {
    /// CNAMEs to the provider's names, once.
    #[default]
    #[serde(rename = "CNAME")]
    Cname,
    /// The keys themselves, anew with each rotation.
    #[serde(rename = "TXT")]
    Txt,
}

/// What happens when a DkimDomain is deleted.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeletionPolicy {
    /// Signing stops; keys stay published until mail under way has arrived.
    #[default]
    Drain,
    /// All goes at once.
    Immediate,
    /// Keys and records stay.
    Orphan,
}

/// A key to begin with.
#[derive(Serialize, Deserialize, KubeSchema, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct KeyImport {
    /// The selector whose key it is: one of selectors or of secondSignature.selectors.
    #[schemars(length(min = 1, max = 30))]
    pub selector: String,
    /// Where it is, in the namespace of this DkimDomain.
    pub secret_key_ref: SecretKeyRef,
}

/// A key of a Secret's data.
#[derive(Serialize, Deserialize, KubeSchema, Debug, Clone, PartialEq, Eq)]
pub struct SecretKeyRef {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Which of its data: a private key as PEM, PKCS#8 or PKCS#1. tls.key where left out.
    #[serde(default = "default_secret_key")]
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

fn default_secret_key() -> String {
    "tls.key".to_owned()
}

fn yes() -> bool {
    true
}

fn default_selectors() -> Vec<String> {
    vec!["selector1".to_owned(), "selector2".to_owned()]
}

/// A DkimProvider by name.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
pub struct ProviderRef {
    /// The provider's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Key algorithms on offer.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyAlgorithm {
    /// rsa-sha256, which every receiver verifies.
    #[default]
    #[serde(rename = "RSA")]
    Rsa,
    /// ed25519-sha256 (RFC 8463), which a part of the receivers verifies.
    Ed25519,
}

/// Which kind of key to make.
#[derive(Serialize, Deserialize, KubeSchema, Debug, Clone, PartialEq, Eq)]
#[x_kube(validation = Rule::new("self.algorithm == 'RSA' || !has(self.size)").message("key.size belongs to RSA; leave it out for Ed25519").field_path(".size"))]
pub struct KeyRequest {
    /// RSA, which every receiver verifies, or Ed25519, which a part of them does.
    #[serde(default)]
    pub algorithm: KeyAlgorithm,
    /// Bits of an RSA key: 2048 where left out, 3072 or 4096; 1024 only where the provider allows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self in [1024, 2048, 3072, 4096]").message("key.size must be 1024, 2048, 3072 or 4096"))]
    pub size: Option<i32>,
}

impl Default for KeyRequest {
    fn default() -> Self {
        Self { algorithm: KeyAlgorithm::Rsa, size: None }
    }
}

/// When keys are rolled.
#[derive(Serialize, Deserialize, KubeSchema, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RotationRequest {
    /// Time from one switch to the next, such as 4320h (180 days, the default).
    #[serde(default = "default_interval")]
    #[x_kube(validation = Rule::new("!self.matches('^([0-9]+(h|m|s|ms))+$') || duration(self) > duration('0s')").message("rotation.interval must be greater than zero, such as 4320h"))]
    pub interval: HumanDuration,

    /// Roll keys by a cron schedule instead of the interval: minute, hour, day of month, month, day of week, in UTC,
    /// such as "0 3 1 */6 *": at 03:00 on the first of January and July.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 80))]
    pub schedule: Option<String>,

    /// Each domain is rolled up to this long after its time, always by the same part of it, so that not all are
    /// rolled at once. A twentieth of the time between rotations where left out, an hour at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter: Option<HumanDuration>,

    /// How long a key that has signed stays published after its last use, such as 96h (the default).
    #[serde(default = "default_drain")]
    pub drain: HumanDuration,

    /// While true no rotation begins; one under way is finished.
    #[serde(default)]
    pub paused: bool,

    /// Rotate once, at this time or as soon after it as the next key is ready; taken away before, it is withdrawn. kubectl dkim
    /// rotate sets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotate_at: Option<Time>,

    /// Every key made up to this time is in the wrong hands: the next key takes over at once, whatever else is set,
    /// the old one is published as revoked, and if the next one is as old it goes as soon as there is another. Mail
    /// under way that was signed with them no longer verifies. kubectl dkim rotate --compromised sets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compromised_at: Option<Time>,
}

fn default_interval() -> HumanDuration {
    HumanDuration::hours(180 * 24)
}

fn default_drain() -> HumanDuration {
    HumanDuration::hours(96)
}

impl Default for RotationRequest {
    fn default() -> Self {
        Self {
            interval: default_interval(),
            schedule: None,
            jitter: None,
            drain: default_drain(),
            paused: false,
            rotate_at: None,
            compromised_at: None,
        }
    }
}
