//! How key records get into DNS, and what publishers report of it.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ZoneSpec;

/// How records get into DNS.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum PublishMethod {
    /// The operator's own DNS servers serve them.
    #[default]
    Embedded,
    /// Dynamic updates to a DNS server (RFC 2136), signed with a shared key (TSIG, RFC 8945).
    #[serde(rename = "RFC2136")]
    Rfc2136,
    /// DNSEndpoint objects, which external-dns publishes.
    #[serde(rename = "DNSEndpoint")]
    DnsEndpoint,
    /// The mail provider's staff publishes them; the operator says what, and looks.
    Manual,
}

impl PublishMethod {
    /// The word as it stands in a manifest.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Embedded => "Embedded",
            Self::Rfc2136 => "RFC2136",
            Self::DnsEndpoint => "DNSEndpoint",
            Self::Manual => "Manual",
        }
    }
}

/// A server that takes dynamic updates.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Rfc2136 {
    /// The zone's primary server, as IP, IP:port or name:port, such as 192.0.2.53 or ns0.onmail.example:53.
    #[schemars(length(min = 1, max = 260))]
    pub server: String,
    /// The key that updates are signed with.
    pub tsig: Tsig,
}

/// A key shared with the server (TSIG, RFC 8945).
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Tsig {
    /// The key's name, as the server's configuration has it, such as dkim-operator.
    #[schemars(length(min = 1, max = 253))]
    pub key_name: String,
    /// hmac-sha256 (default), hmac-sha384 or hmac-sha512.
    #[serde(default)]
    pub algorithm: TsigAlgorithm,
    /// Where the secret is, in base64, as the server's configuration has it.
    pub secret_ref: TsigSecretRef,
}

/// How updates are authenticated.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TsigAlgorithm {
    /// HMAC with SHA-256.
    #[default]
    #[serde(rename = "hmac-sha256")]
    HmacSha256,
    /// HMAC with SHA-384.
    #[serde(rename = "hmac-sha384")]
    HmacSha384,
    /// HMAC with SHA-512.
    #[serde(rename = "hmac-sha512")]
    HmacSha512,
}

/// An entry of a Secret in the operator's namespace.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
pub struct TsigSecretRef {
    /// The Secret's name; it is in the operator's namespace, and named in the chart's publish.tsigSecrets.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The entry of the Secret; secret where left out.
    #[serde(default = "default_secret_key")]
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

fn default_secret_key() -> String {
    "secret".to_owned()
}

/// What the API server holds `rfc2136.server` to: an IP address or a name, with or without a port.
pub(super) const SERVER_RULE: &str = r"!has(self.rfc2136) || self.rfc2136.server.matches(r'^([0-9]{1,3}(\.[0-9]{1,3}){3}(:[0-9]{1,5})?|[0-9a-fA-F:]*:[0-9a-fA-F:.]*|\[[0-9a-fA-F:.]+\](:[0-9]{1,5})?|[a-zA-Z0-9]([a-zA-Z0-9.-]*[a-zA-Z0-9])?(:[0-9]{1,5})?)$')";
/// What it holds `rfc2136.tsig.keyName` to.
pub(super) const KEY_NAME_RULE: &str = r"!has(self.rfc2136) || self.rfc2136.tsig.keyName.matches(r'^[a-zA-Z0-9_]([a-zA-Z0-9_.-]*[a-zA-Z0-9_.])?$')";

/// How DNSEndpoint objects are written.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq, Default)]
pub struct DnsEndpointSettings {
    /// The namespace of the objects, named in the chart's publish.dnsEndpointNamespaces; the operator's own where
    /// left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
    /// Labels for the objects, such as those that external-dns selects by.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// Tenants' CNAMEs that the operator publishes, too, in zones that the mail provider hosts for them.
#[derive(Serialize, Deserialize, KubeSchema, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.method != 'RFC2136' || has(self.rfc2136)").message("customerDns.method RFC2136 needs customerDns.rfc2136: the server and the TSIG key that updates are signed with").field_path(".rfc2136"))]
#[x_kube(validation = Rule::new(SERVER_RULE).message("customerDns.rfc2136.server must be an IP address or a name, with or without a port, such as 192.0.2.53, [2001:db8::53]:53 or ns0.contoso.com:53; no scheme and no path").field_path(".rfc2136.server"))]
#[x_kube(validation = Rule::new(KEY_NAME_RULE).message("customerDns.rfc2136.tsig.keyName must be a domain name, as the server's configuration has it, such as dkim-operator").field_path(".rfc2136.tsig.keyName"))]
#[x_kube(validation = Rule::new(r"self.zones.all(z, z.name.matches(r'^[a-zA-Z0-9_]([a-zA-Z0-9_-]*[a-zA-Z0-9_])?(\.[a-zA-Z0-9_]([a-zA-Z0-9_-]*[a-zA-Z0-9_])?)*\.?$'))").message("the name of each of customerDns.zones must be that of a zone, such as contoso.com; international ones as xn--").field_path(".zones"))]
pub struct CustomerDns {
    /// RFC2136: dynamic updates to a DNS server. DNSEndpoint: objects that external-dns publishes.
    pub method: CustomerMethod,
    /// The zones. CNAMEs of domains in other zones are published by their tenants.
    #[schemars(length(min = 1, max = 500))]
    pub zones: Vec<CustomerZone>,
    /// For method RFC2136: the server and the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rfc2136: Option<Rfc2136>,
    /// For method DNSEndpoint: where the objects are written, and their labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns_endpoint: Option<DnsEndpointSettings>,
}

/// How tenants' CNAMEs get into DNS.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, PartialEq, Eq)]
pub enum CustomerMethod {
    /// Dynamic updates to a DNS server (RFC 2136).
    #[serde(rename = "RFC2136")]
    Rfc2136,
    /// DNSEndpoint objects, which external-dns publishes.
    #[serde(rename = "DNSEndpoint")]
    DnsEndpoint,
}

impl From<CustomerMethod> for PublishMethod {
    fn from(method: CustomerMethod) -> Self {
        match method {
            CustomerMethod::Rfc2136 => Self::Rfc2136,
            CustomerMethod::DnsEndpoint => Self::DnsEndpoint,
        }
    }
}

/// A zone of a tenant that the mail provider hosts.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
pub struct CustomerZone {
    /// The zone's apex, such as contoso.com. Domains below it are in it as well.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The namespaces of the tenant whose zone it is: nobody else's DkimDomain gets a CNAME there, which would be proof of
    /// control. Only with tenancy Trusted may it be left out; then it means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 63)))]
    pub namespaces: Vec<String>,
}

/// Where records go in place of the embedded server. Part of a record set, so that they can be withdrawn from there
/// when the DkimProvider is changed or gone.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Outlet {
    /// How they get there.
    pub method: PublishMethod,
    /// Who owns them, in owner marks; the cluster's own id where left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_id: Option<String>,
    /// For RFC2136.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rfc2136: Option<Rfc2136>,
    /// For DNSEndpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns_endpoint: Option<DnsEndpointSettings>,
}

/// What publishers say of a record set.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
pub struct DkimRecordSetStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where records are, or may be. Written before anything is sent there, so that nothing is left behind.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub places: Vec<PlaceStatus>,
}

/// One place with records of a set.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PlaceStatus {
    /// Stands for the place in owner marks.
    pub id: String,
    /// The zone, and how records get into it.
    pub zone: ZoneSpec,
    /// Whether these are CNAMEs in the tenant's own zone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cnames: bool,
    /// Whether the set's spec no longer names it: the records are being moved away from here.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub leaving: bool,
    /// When the records are withdrawn from here: set once DNS was seen to answer from the new place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdraw_at: Option<Time>,
    /// The records.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub records: Vec<RecordState>,
}

/// How it stands with one record at one place.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RecordState {
    /// The owner name.
    pub name: String,
    /// Published, Pending, Conflict, Failed or Withdrawing.
    pub state: PublishState,
    /// What that means and what to do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// How it stands with a record.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PublishState {
    /// The servers have it as it should be.
    Published,
    /// It is on its way, or awaited.
    Pending,
    /// Somebody else's record is at its name; it is left alone.
    Conflict,
    /// It cannot be published; the message says why.
    Failed,
    /// It is to go, and may still be there.
    Withdrawing,
}

impl PublishState {
    /// The word as it stands in status.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Published => "Published",
            Self::Pending => "Pending",
            Self::Conflict => "Conflict",
            Self::Failed => "Failed",
            Self::Withdrawing => "Withdrawing",
        }
    }
}

/// Records of a provider by how it stands with them, where the embedded server does not serve them.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
pub struct RecordCounts {
    /// The servers have them.
    pub published: i64,
    /// On their way.
    pub pending: i64,
    /// Somebody else's record is at the name.
    pub conflict: i64,
    /// They cannot be published.
    pub failed: i64,
}
