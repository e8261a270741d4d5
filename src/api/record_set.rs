//! `DkimRecordSet`: what is to be published for one domain, and the claim to it. Written by the controller alone.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DkimRecordSetStatus, Outlet};

/// The TXT records of one domain. The object's name is the domain; creating it is the claim to it.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[kube(
    group = "dkim-operator.io",
    version = "v1alpha1",
    kind = "DkimRecordSet",
    namespaced,
    category = "mail",
    status = "DkimRecordSetStatus",
    derive = "PartialEq",
    doc = "What is published for one domain, and who has claimed it. Written by the operator alone; its name is the domain. Holds nothing secret.",
    selectable = ".spec.guid",
    printcolumn(
        name = "GUID",
        type_ = "string",
        json_path = ".spec.guid",
        description = "The label that stands for the domain."
    ),
    printcolumn(
        name = "PROVIDER",
        type_ = "string",
        json_path = ".spec.provider",
        description = "The DkimProvider."
    ),
    printcolumn(
        name = "CLAIMED BY",
        type_ = "string",
        json_path = ".spec.claimRef.namespace",
        description = "The namespace whose DkimDomain holds the claim; empty while it drains."
    ),
    printcolumn(name = "AGE", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct DkimRecordSetSpec {
    /// The DkimDomain that holds the domain; none once it is deleted and the records only drain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim_ref: Option<ClaimRef>,
    /// The DkimProvider's name.
    pub provider: String,
    /// The label that stands for the domain in the provider's names.
    pub guid: String,
    /// The organisation's initial domain, under which the names are; none in a set that an earlier version wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial_domain: Option<String>,
    /// The zone the records are in.
    pub zone: ZoneSpec,
    /// The DkimDomain is gone and asked that its records stay (deletionPolicy: Orphan).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub orphaned: bool,
    /// Seconds for which a record that has signed stays after the claim is gone: drain and signer lag.
    pub drain_seconds: i64,
    /// The greatest serial of any key of the domain so far, whether it was published or not.
    #[serde(default)]
    pub last_serial: i64,
    /// Nothing is published any more; resolvers may remember until then what was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remembered_until: Option<Time>,
    /// The records, slot by slot.
    #[serde(default)]
    pub records: Vec<PublishedRecord>,
    /// Records under other names, from before a move to another GUID or provider: still in use, or draining.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub former: Vec<FormerPlacement>,
    /// The tenant's CNAMEs, where the mail provider hosts the tenant's zone and has the operator publish them as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cnames: Option<CnamePlacement>,
}

/// The tenant's CNAMEs, and the zone that they are in. Each stays as long as there is a TXT at its target.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
pub struct CnamePlacement {
    /// The tenant's zone, and how records get into it.
    pub zone: ZoneSpec,
    /// The CNAMEs.
    pub records: Vec<PublishedCname>,
}

/// One CNAME to publish.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
pub struct PublishedCname {
    /// The owner name, such as selector1._domainkey.contoso.com.
    pub name: String,
    /// Time to live in seconds.
    pub ttl: i32,
    /// Where it points.
    pub target: String,
}

/// Records under names that the domain had before, or has until its CNAMEs have moved.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct FormerPlacement {
    /// The DkimProvider's name.
    pub provider: String,
    /// The label that stands for the domain in these names.
    pub guid: String,
    /// The initial domain under which these names are; none where an earlier version wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial_domain: Option<String>,
    /// The zone the records are in.
    pub zone: ZoneSpec,
    /// The records.
    pub records: Vec<PublishedRecord>,
}

/// Records that are published at one place: what a publisher works through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed<'a> {
    /// The DkimProvider's name.
    pub provider: &'a str,
    /// The label that stands for the domain in these names.
    pub guid: &'a str,
    /// The initial domain under which these names are, where it is known.
    pub initial_domain: Option<&'a str>,
    /// The zone the records are in.
    pub zone: &'a ZoneSpec,
    /// The records.
    pub records: &'a [PublishedRecord],
}

impl DkimRecordSetSpec {
    /// Every place at which keys of this domain are to be published: the present one first, then former ones.
    pub fn placements(&self) -> impl Iterator<Item = Placed<'_>> {
        let Self {
            provider,
            guid,
            initial_domain,
            zone,
            records,
            former,
            claim_ref: _,
            orphaned: _,
            drain_seconds: _,
            last_serial: _,
            remembered_until: _,
            cnames: _,
        } = self;
        let present = Placed { provider, guid, initial_domain: initial_domain.as_deref(), zone, records };
        std::iter::once(present).chain(former.iter().map(|f| Placed {
            provider: &f.provider,
            guid: &f.guid,
            initial_domain: f.initial_domain.as_deref(),
            zone: &f.zone,
            records: &f.records,
        }))
    }

    /// Whether anything is to be published, at whatever place.
    #[must_use]
    pub fn publishes(&self) -> bool {
        self.placements().any(|place| !place.records.is_empty())
    }
}

impl DkimRecordSet {
    /// What the embedded server is to serve: placements without an outlet, and while records are being moved away from it
    /// those that it served before, in the zone that they were in.
    pub fn embedded(&self) -> impl Iterator<Item = Placed<'_>> {
        let noted = self.status.as_ref().is_some_and(|status| !status.places.is_empty());
        let untouched = !noted && self.metadata.finalizers.as_ref().is_none_or(Vec::is_empty);
        let former =
            self.status.iter().flat_map(|status| &status.places).filter(|place| place.zone.outlet.is_none());
        self.spec.placements().filter_map(move |placed| {
            if placed.zone.outlet.is_none() || untouched {
                return Some(placed);
            }
            let holds =
                |apex: &str, name: &str| name.strip_suffix(apex).is_some_and(|rest| rest.ends_with('.'));
            let all = |apex: &str| placed.records.iter().all(|record| holds(apex, &record.name));
            let place = former.clone().find(|place| all(&place.zone.apex))?;
            Some(Placed { zone: &place.zone, ..placed })
        })
    }
}

/// Who holds a domain.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
pub struct ClaimRef {
    /// The DkimDomain's namespace.
    pub namespace: String,
    /// The DkimDomain's name.
    pub name: String,
    /// The DkimDomain's uid.
    pub uid: String,
}

/// The zone that records are in; where no outlet is named, an embedded server is authoritative for it.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ZoneSpec {
    /// The apex, such as _domainkey.contoso.onmail.example.
    pub apex: String,
    /// The NS records of the apex.
    #[serde(default)]
    pub name_servers: Vec<String>,
    /// Time to live of negative answers in seconds (SOA minimum, RFC 2308 §4).
    pub negative_ttl: i32,
    /// How the records get into the zone, where the embedded server does not serve it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outlet: Option<Box<Outlet>>,
}

/// One TXT record to publish.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PublishedRecord {
    /// The slot's selector, such as selector1.
    pub selector: String,
    /// The owner name, such as selector1-contoso-com._domainkey.contoso.onmail.example.
    pub name: String,
    /// Time to live in seconds.
    pub ttl: i32,
    /// The text, not yet cut into character-strings.
    pub value: String,
    /// The key's serial: counts the keys of a domain from 1 and never repeats.
    pub serial: i64,
    /// When signers were first told to use the key; none while it waits its turn. Once set, the record must
    /// outlive the key's last use by the drain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_since: Option<Time>,
    /// The record must stay until then; none while its key is in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_until: Option<Time>,
}
