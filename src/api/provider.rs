//! `DkimProvider`: one per installation or tariff, written by the mail provider.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::publishing::{KEY_NAME_RULE, SERVER_RULE};
use super::{CustomerDns, DnsEndpointSettings, HumanDuration, PublishMethod, RecordCounts, Rfc2136};

/// How and where the provider publishes keys for its tenants.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[kube(
    group = "dkim-operator.io",
    version = "v1alpha1",
    kind = "DkimProvider",
    category = "mail",
    status = "DkimProviderStatus",
    derive = "PartialEq",
    doc = "Where and how keys are published for tenants' DkimDomains, and what tenants may choose.",
    printcolumn(
        name = "INITIAL DOMAIN",
        type_ = "string",
        json_path = ".spec.initialDomain",
        description = "The provider's domain below which keys are published."
    ),
    printcolumn(
        name = "DEFAULT",
        type_ = "boolean",
        json_path = ".spec.default",
        description = "Whether domains without providerRef use it."
    ),
    printcolumn(
        name = "READY",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether domains are served."
    ),
    printcolumn(
        name = "REASON",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        description = "Why, in one word."
    ),
    printcolumn(
        name = "DOMAINS",
        type_ = "integer",
        json_path = ".status.domains.total",
        description = "How many domains use it."
    ),
    printcolumn(name = "AGE", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.tenancy == 'Trusted' || self.guidPolicy != 'Readable' || self.initialDomain.contains('{namespace}') || size(self.allowedNamespaces.names) == 1").message("a provider that several tenants share must tell them apart, or a CNAME left by one verifies for the next: put {namespace} into initialDomain, or set guidPolicy to Salted or Opaque, or name exactly one namespace in allowedNamespaces.names, or set tenancy to Trusted if all its namespaces belong to one owner").field_path(".tenancy"))]
#[x_kube(validation = Rule::new("has(self.keyNamespace) == has(oldSelf.keyNamespace) && (!has(self.keyNamespace) || self.keyNamespace == oldSelf.keyNamespace)").message("keyNamespace cannot be changed; signers read keys from there. Make a second DkimProvider").field_path(".keyNamespace"))]
#[x_kube(validation = Rule::new("!has(self.customerDns) || self.tenancy == 'Trusted' || self.customerDns.zones.all(z, has(z.namespaces) && size(z.namespaces) > 0)").message("each of customerDns.zones must name the namespaces of the tenant whose zone it is, or anybody could have a CNAME published there; only with tenancy Trusted may they be left out").field_path(".customerDns.zones"))]
pub struct DkimProviderSpec {
    /// The provider's domain below which keys are published, such as onmail.example, or with {namespace} as one
    /// of its labels, such as {namespace}.onmail.example: an organisation per namespace. Cannot be changed.
    #[schemars(length(max = 200))]
    #[x_kube(validation = Rule::new(r"self.matches(r'^(\{namespace\}\.)?([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]*[a-z0-9])?$')").message("initialDomain must be a domain name in lower case with at least two labels, such as onmail.example, and may begin with the label {namespace}, such as {namespace}.onmail.example"))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("initialDomain cannot be changed; tenants' CNAMEs point into it. Make a second DkimProvider"))]
    pub initial_domain: String,

    /// Use this provider for domains that name none.
    #[serde(default)]
    pub default: bool,

    /// How the label that stands for a domain is made: Readable (contoso-com), Salted (readable, then a hash that
    /// differs per namespace) or Opaque (only the hash: tells nothing of the tenant). Cannot be changed.
    #[serde(default)]
    #[x_kube(validation = Rule::new("self == oldSelf").message("guidPolicy cannot be changed; tenants' CNAMEs carry its result. Make a second DkimProvider"))]
    pub guid_policy: GuidPolicy,

    /// Isolated (default): namespaces are different tenants, and a CNAME proves which one. Trusted: all belong to
    /// one owner, who vouches for them.
    #[serde(default)]
    pub tenancy: Tenancy,

    /// What tenants may choose.
    #[serde(default)]
    pub key_policy: KeyPolicy,

    /// How keys get into DNS.
    #[serde(default)]
    pub publish: Publish,

    /// Publish tenants' CNAMEs as well, in zones that the mail provider hosts for them. What is published is looked for like
    /// what tenants publish themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer_dns: Option<CustomerDns>,

    /// How DNS is looked at.
    #[serde(default)]
    pub verification: Verification,

    /// Which namespaces may use this provider.
    #[serde(default)]
    pub allowed_namespaces: AllowedNamespaces,

    /// The namespace in which private keys live, that of the mail system, so that tenants never hold them. The
    /// tenant's own namespace where left out. Cannot be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([a-z0-9-]*[a-z0-9])?$')").message("keyNamespace must be the name of a namespace, such as mail"))]
    pub key_namespace: Option<String>,
}

/// How GUIDs are made.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GuidPolicy {
    /// contoso.com becomes contoso-com.
    #[default]
    Readable,
    /// Readable, then a hash that differs per namespace.
    Salted,
    /// Only the hash.
    Opaque,
}

/// Whether the provider's namespaces trust each other.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tenancy {
    /// They are different tenants.
    #[default]
    Isolated,
    /// They belong to one owner.
    Trusted,
}

/// What tenants may choose.
#[derive(Serialize, Deserialize, KubeSchema, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct KeyPolicy {
    /// Allow RSA keys of 1024 bits, which RFC 8301 advises against.
    #[serde(default)]
    pub allow_rsa1024: bool,
    /// The shortest rotation.interval that tenants may set.
    #[serde(default = "default_min_interval")]
    pub min_interval: HumanDuration,
    /// The shortest rotation.drain that tenants may set.
    #[serde(default = "default_min_drain")]
    pub min_drain: HumanDuration,
    /// The longest time for which a signer may go on with what it read before: kubelet brings a changed Secret
    /// into a pod within about 90 s. Added to every drain.
    #[serde(default = "default_signer_lag")]
    pub signer_lag: HumanDuration,
}

fn default_min_interval() -> HumanDuration {
    HumanDuration::hours(24)
}

fn default_min_drain() -> HumanDuration {
    HumanDuration::hours(24)
}

fn default_signer_lag() -> HumanDuration {
    HumanDuration::minutes(5)
}

impl Default for KeyPolicy {
    fn default() -> Self {
        Self {
            allow_rsa1024: false,
            min_interval: default_min_interval(),
            min_drain: default_min_drain(),
            signer_lag: default_signer_lag(),
        }
    }
}

/// How keys get into DNS.
#[derive(Serialize, Deserialize, KubeSchema, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.method != 'RFC2136' || has(self.rfc2136)").message("publish.method RFC2136 needs publish.rfc2136: the server and the TSIG key that updates are signed with").field_path(".rfc2136"))]
#[x_kube(validation = Rule::new("self.method != 'RFC2136' || has(self.zone)").message("publish.method RFC2136 needs publish.zone: the zone as the server has it, such as onmail.example").field_path(".zone"))]
#[x_kube(validation = Rule::new(SERVER_RULE).message("publish.rfc2136.server must be an IP address or a name, with or without a port, such as 192.0.2.53, [2001:db8::53]:53 or ns0.onmail.example:53; no scheme and no path").field_path(".rfc2136.server"))]
#[x_kube(validation = Rule::new(KEY_NAME_RULE).message("publish.rfc2136.tsig.keyName must be a domain name, as the server's configuration has it, such as dkim-operator").field_path(".rfc2136.tsig.keyName"))]
#[x_kube(validation = Rule::new(r"!has(self.ownerId) || self.ownerId.matches(r'^[a-zA-Z0-9]([a-zA-Z0-9._-]*[a-zA-Z0-9])?$')").message("publish.ownerId must be of letters, digits, dots, dashes and underscores, such as mail-cluster-1").field_path(".ownerId"))]
pub struct Publish {
    /// Embedded (default): the operator's own DNS servers serve the zone. RFC2136: dynamic updates to a DNS server.
    /// DNSEndpoint: objects that external-dns publishes. Manual: your staff publishes what the record sets say. A change
    /// moves the records without a gap.
    #[serde(default)]
    pub method: PublishMethod,
    /// Time to live of the key records in seconds, 300 where left out. A switch waits this long for old answers.
    #[serde(default = "default_ttl")]
    #[schemars(range(min = 1, max = 86400))]
    pub ttl: i32,
    /// Time to live of negative answers in seconds (RFC 2308), 60 where left out.
    #[serde(default = "default_negative_ttl")]
    #[schemars(range(min = 1, max = 86400))]
    pub negative_ttl: i32,
    /// The apex of the zone that the records are in. For Embedded: the zone that the operator's DNS servers are
    /// authoritative for; delegate it by NS. Left out, it is _domainkey.INITIAL-DOMAIN. It must end the initial domain, such
    /// as onmail.example. Needed for RFC2136.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub zone: Option<String>,
    /// The names of the embedded server, as the delegation has them, such as ns1.onmail.example.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 13), inner(length(min = 1, max = 253)))]
    pub name_servers: Vec<String>,
    /// Who owns published records, in the owner marks beside them, where it is not Embedded: two installations never
    /// touch each other's records. The id of the cluster where left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub owner_id: Option<String>,
    /// For method RFC2136: the server and the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rfc2136: Option<Rfc2136>,
    /// For method DNSEndpoint: where the objects are written, and their labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns_endpoint: Option<DnsEndpointSettings>,
}

fn default_ttl() -> i32 {
    300
}

fn default_negative_ttl() -> i32 {
    60
}

impl Default for Publish {
    fn default() -> Self {
        Self {
            ttl: default_ttl(),
            negative_ttl: default_negative_ttl(),
            zone: None,
            name_servers: Vec::new(),
            method: PublishMethod::default(),
            owner_id: None,
            rfc2136: None,
            dns_endpoint: None,
        }
    }
}

/// How DNS is looked at.
#[derive(Serialize, Deserialize, KubeSchema, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Verification {
    /// Recursive resolvers to ask, as IP or IP:port, as tls://IP#NAME for DNS over TLS, or as https://IP/dns-query#NAME for
    /// DNS over HTTPS, where NAME is what the certificate must say. Those of the operator's pod where left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(max = 320)))]
    #[x_kube(validation = Rule::new(r"self.all(r, r.matches(r'^(([0-9]{1,3}(\.[0-9]{1,3}){3}(:[0-9]{1,5})?|[0-9a-fA-F:]*:[0-9a-fA-F:.]*|\[[0-9a-fA-F:.]+\]:[0-9]{1,5})|tls://([0-9]{1,3}(\.[0-9]{1,3}){3}(:[0-9]{1,5})?|[0-9a-fA-F:]*:[0-9a-fA-F:.]*|\[[0-9a-fA-F:.]+\]:[0-9]{1,5})(#[0-9A-Za-z.:-]+)?|https://([0-9]{1,3}(\.[0-9]{1,3}){3}(:[0-9]{1,5})?|\[[0-9a-fA-F:.]+\](:[0-9]{1,5})?)(/[0-9A-Za-z._~/-]*)?(#[0-9A-Za-z.:-]+)?)$'))").message("each of verification.resolvers must be an IP address or IP:port, such as 192.0.2.53 or [2001:db8::53]:53, or for DNS over TLS tls://192.0.2.53#dns.example, or for DNS over HTTPS https://192.0.2.53/dns-query#dns.example; a name cannot be looked up before there is a resolver"))]
    pub resolvers: Vec<String>,
    /// Certificates of authorities, as PEM, that vouch for resolvers asked over TLS or HTTPS. Those of the operator's image
    /// where left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 65536))]
    #[x_kube(validation = Rule::new("self.contains('-----BEGIN CERTIFICATE-----') && self.contains('-----END CERTIFICATE-----')").message("verification.resolverAuthorities must be certificates as PEM, from -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----"))]
    pub resolver_authorities: Option<String>,
    /// Ask the authoritative servers of the zones first (default). Turn it off in networks that let nothing but
    /// the resolvers through; a resolver that is asked before the record is there remembers that it was not.
    #[serde(default = "yes")]
    pub authoritative: bool,
    /// Root servers, as IP or IP:port: where the walk down the delegations to a zone's own servers begins. The
    /// resolvers are asked for them where left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 26), inner(length(max = 64)))]
    #[x_kube(validation = Rule::new(r"self.all(r, r.matches(r'^([0-9]{1,3}(\.[0-9]{1,3}){3}(:[0-9]{1,5})?|[0-9a-fA-F:]*:[0-9a-fA-F:.]*|\[[0-9a-fA-F:.]+\]:[0-9]{1,5})$'))").message("each of verification.rootServers must be an IP address or IP:port, such as 192.0.2.1"))]
    pub root_servers: Vec<String>,
    /// Networks that are not public in which name servers may be asked all the same, such as 10.0.0.0/8. Tenants
    /// choose what their delegations point at, so without this private, loopback and link-local addresses are left
    /// alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 64)))]
    #[x_kube(validation = Rule::new(r"self.all(r, r.matches(r'^((25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])(\.(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])){3}/([0-9]|[12][0-9]|3[0-2])|[0-9a-fA-F:]*:[0-9a-fA-F:.]*/([0-9]{1,2}|1[01][0-9]|12[0-8]))$'))").message("each of verification.allowPrivateNetworks must be a network, such as 10.0.0.0/8 or fd00::/8"))]
    pub allow_private_networks: Vec<String>,
    /// Most questions a second, 500 where left out. Looks that somebody waits for go ahead.
    #[serde(default = "default_queries")]
    #[schemars(range(min = 1, max = 1000))]
    pub queries_per_second: i32,
    /// Most questions a second to one server, 250 where left out.
    #[serde(default = "default_queries_per_server")]
    #[schemars(range(min = 1, max = 1000))]
    pub queries_per_second_per_server: i32,
    /// Most questions a second into one tenant's zone, 50 where left out.
    #[serde(default = "default_queries_per_zone")]
    #[schemars(range(min = 1, max = 1000))]
    pub queries_per_second_per_zone: i32,
    /// Longest time between looks while a record is awaited: the first looks come faster, and after an hour they
    /// become rarer. kubectl dkim check asks for one at once.
    #[serde(default = "default_pending_interval")]
    #[x_kube(validation = Rule::new("!self.matches('^([0-9]+(h|m|s|ms))+$') || duration(self) >= duration('1s')").message("verification.pendingInterval must be 1s or more"))]
    pub pending_interval: HumanDuration,
    /// Time between looks while everything is as it should be.
    #[serde(default = "default_interval")]
    #[x_kube(validation = Rule::new("!self.matches('^([0-9]+(h|m|s|ms))+$') || duration(self) >= duration('1s')").message("verification.interval must be 1s or more"))]
    pub interval: HumanDuration,
    /// How long both CNAMEs must be gone before signing falls back to the default.
    #[serde(default = "default_grace")]
    pub grace: HumanDuration,
}

fn yes() -> bool {
    true
}

fn default_queries() -> i32 {
    500
}

fn default_queries_per_server() -> i32 {
    250
}

fn default_queries_per_zone() -> i32 {
    50
}

fn default_pending_interval() -> HumanDuration {
    HumanDuration::seconds(15)
}

fn default_interval() -> HumanDuration {
    HumanDuration::minutes(15)
}

fn default_grace() -> HumanDuration {
    HumanDuration::minutes(10)
}

impl Default for Verification {
    fn default() -> Self {
        Self {
            resolvers: Vec::new(),
            resolver_authorities: None,
            authoritative: true,
            root_servers: Vec::new(),
            allow_private_networks: Vec::new(),
            queries_per_second: default_queries(),
            queries_per_second_per_server: default_queries_per_server(),
            queries_per_second_per_zone: default_queries_per_zone(),
            pending_interval: default_pending_interval(),
            interval: default_interval(),
            grace: default_grace(),
        }
    }
}

/// Which namespaces may use a provider. Empty: all.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
pub struct AllowedNamespaces {
    /// These namespaces, by name.
    #[serde(default)]
    #[schemars(length(max = 256))]
    pub names: Vec<String>,
    /// Namespaces with all of these labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
}

/// What the operator says of a provider.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct DkimProviderStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Accepted, Stalled; RecordsPublished where the method is not Embedded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The zone that is served, to delegate by NS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// How many domains use it, by state.
    #[serde(default)]
    pub domains: DomainCounts,
    /// How many records are published in DNS that others run, by state; left out for the embedded server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<RecordCounts>,
}

/// Domains by state.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
pub struct DomainCounts {
    /// All.
    pub total: i64,
    /// Signing is what the spec asks for.
    pub ready: i64,
    /// Signed as the domain itself.
    pub enabled: i64,
}
