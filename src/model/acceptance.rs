//! Whether a DkimDomain can be served, and as what: spec, provider and namespace in, a resolved [`Order`] or a
//! [`Refusal`] out.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::cadence::{self, Cadence, Schedule};
use super::diagnosis::MAX_POSITIVE;
use super::guid::{Guid, GuidStyle};
use super::home::Home;
use super::key::KeyKind;
use super::lanes::{LaneId, PerLane};
use super::name::{DnsName, DomainName};
use super::publishing;
use super::record::CNAME_TTL;
use super::rotation::{Policy, ROUNDING, Wanted};
use super::selector::{PerSlot, Selector, SlotId};
use super::sighting::{LONGEST_LOOK, Question, SlotQuestion};
use super::vault::Vault;
use crate::api::{
    AllowedNamespaces, CnamePlacement, CustomerDns, CustomerMethod, Delegation, DkimDomainSpec,
    DkimProviderSpec, GuidPolicy, HumanDuration, KeyAlgorithm, KeyImport, Outlet, Publish, PublishMethod,
    PublishedCname, Reason, SignatureRequest, Tenancy, ZoneSpec,
};

/// What stands in `initialDomain` for the namespace.
const NAMESPACE: &str = "{namespace}";

/// Why something is refused, in words that say what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The reason for the condition.
    pub reason: Reason,
    /// Field, fault and remedy.
    pub message: String,
}

impl Refusal {
    fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

/// The namespace a DkimDomain is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant<'a> {
    /// The namespace's name.
    pub namespace: &'a str,
    /// Its uid.
    pub uid: &'a str,
    /// Its labels.
    pub labels: &'a BTreeMap<String, String>,
}

/// A DkimDomain resolved against its provider: everything the rest of a reconcile needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    /// The domain.
    pub domain: DomainName,
    /// Where records go.
    pub home: Home,
    /// The pairs of keys to sign with.
    pub lanes: PerLane<Lane>,
    /// What the tenant publishes.
    pub delegation: Delegation,
    /// The tenant's zone, where the provider hosts it and has its CNAMEs published as well.
    pub hosted: Option<ZoneSpec>,
    /// The provider's name.
    pub provider: String,
    /// The namespace of the key Secret.
    pub secret_namespace: String,
    /// The name of the key Secret.
    pub secret_name: String,
    /// How messages are signed.
    pub signature: SignatureRequest,
    /// Keys that the user brings.
    pub imports: Vec<KeyImport>,
    /// Whether they may be RSA keys of 1024 bits.
    pub allow_rsa1024: bool,
}

/// One pair of keys to sign with, resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct Lane {
    /// The selectors.
    pub selectors: PerSlot<Selector>,
    /// What rotation goes by.
    pub policy: Policy,
    /// Where the tenant's records belong.
    pub aliases: PerSlot<DnsName>,
    /// What they point at.
    pub targets: PerSlot<DnsName>,
}

impl Order {
    /// The selectors of every lane.
    #[must_use]
    pub fn selectors(&self) -> PerLane<PerSlot<Selector>> {
        self.lanes.map(|_, lane| lane.selectors.clone())
    }

    /// From the last use of a key to the end of its publication.
    #[must_use]
    pub fn drain_time(&self) -> SignedDuration {
        self.lanes.primary.policy.drain_time()
    }

    /// What the rotation of all lanes goes by.
    #[must_use]
    pub fn wanted(&self) -> Wanted<'_> {
        Wanted {
            home: &self.home,
            policies: PerLane {
                primary: &self.lanes.primary.policy,
                second: self.lanes.second.as_ref().map(|lane| &lane.policy),
            },
            second: self.lanes.second.as_ref().map(|lane| &lane.selectors),
        }
    }

    /// The tenant's CNAMEs, where they are ours to publish: those that its status shows. In a move they follow only when the
    /// new targets answer everywhere.
    #[must_use]
    pub fn cnames(&self, vault: &Vault) -> Option<CnamePlacement> {
        let zone = self.hosted.clone()?;
        let announced = vault.moving.as_ref().filter(|moving| moving.announced.is_some());
        let home = announced.map_or(&vault.home, |moving| &moving.to);
        let of = |lane: &Lane, slot: SlotId| {
            let (name, target) = (&lane.aliases[slot], home.target(&lane.selectors[slot]).ok()?);
            let ttl = i32::try_from(CNAME_TTL).unwrap_or(i32::MAX);
            Some(PublishedCname { name: name.to_string(), ttl, target: target.to_string() })
        };
        let each = self.lanes.iter().flat_map(|(_, lane)| SlotId::ALL.map(|slot| of(lane, slot)));
        let records: Vec<PublishedCname> = each.flatten().collect();
        Some(CnamePlacement { zone, records })
    }

    /// What to look for in DNS for a lane, the keys being at `targets`.
    #[must_use]
    pub fn question(&self, lane: LaneId, targets: &PerSlot<DnsName>) -> Option<Question> {
        let aliases = &self.lanes.get(lane)?.aliases;
        let slots = PerSlot::from_fn(|slot| SlotQuestion {
            alias: aliases[slot].clone(),
            target: targets[slot].clone(),
        });
        Some(Question { domain: self.domain.clone(), slots })
    }
}

/// Checks a provider on its own.
///
/// # Errors
/// A [`Refusal`] that names the field.
pub fn check_provider(spec: &DkimProviderSpec) -> Result<(), Refusal> {
    let invalid = |message: String| Refusal::new(Reason::ProviderInvalid, message);
    let sample = spec.initial_domain.replace(NAMESPACE, "namespace");
    DomainName::parse(&sample).map_err(|e| invalid(format!("spec.initialDomain: {e}")))?;
    let told_apart = spec.tenancy == Tenancy::Trusted
        || spec.guid_policy != GuidPolicy::Readable
        || spec.initial_domain.contains(NAMESPACE)
        || spec.allowed_namespaces.names.len() == 1;
    if !told_apart {
        return Err(invalid(
            "spec.tenancy: this provider is shared by several namespaces and nothing in its names tells them apart, so a CNAME left by one tenant would verify for the next. Put {namespace} into spec.initialDomain, or set spec.guidPolicy to Salted or Opaque, or name exactly one namespace in spec.allowedNamespaces.names, or set spec.tenancy to Trusted if all of them belong to one owner.".into(),
        ));
    }
    if let Some(zone) = &spec.publish.zone {
        let zone = DnsName::new(zone).map_err(|e| invalid(format!("spec.publish.zone: {e}")))?;
        let below = DnsName::new(format!("_domainkey.{sample}"))
            .map_err(|e| invalid(format!("spec.initialDomain: {e}")))?;
        if !below.is_in(&zone) || zone.as_str().contains("{") {
            return Err(invalid(format!(
                "spec.publish.zone: {zone} does not contain the names that are published; it must be _domainkey.{0} or end {0}",
                spec.initial_domain
            )));
        }
    }
    for server in &spec.publish.name_servers {
        DnsName::new(server).map_err(|e| invalid(format!("spec.publish.nameServers: {e}")))?;
    }
    if spec.publish.method == PublishMethod::Rfc2136 {
        if spec.publish.rfc2136.is_none() {
            return Err(invalid(
                "spec.publish.rfc2136: method RFC2136 needs the server and the TSIG key that updates are signed with".into(),
            ));
        }
        if spec.publish.zone.is_none() {
            return Err(invalid(
                "spec.publish.zone: method RFC2136 needs the zone as the server has it, such as onmail.example".into(),
            ));
        }
    }
    for zone in spec.customer_dns.iter().flat_map(|customer| &customer.zones) {
        DnsName::new(&zone.name).map_err(|e| invalid(format!("spec.customerDns.zones: {e}")))?;
        if zone.namespaces.is_empty() && spec.tenancy != Tenancy::Trusted {
            return Err(invalid(format!(
                "spec.customerDns.zones: {} names no namespaces, so any tenant could have a CNAME published there, which proves control of the domain; name those of the tenant whose zone it is",
                zone.name
            )));
        }
    }
    Ok(())
}

/// The zone that holds a tenant's CNAMEs, where the provider hosts it for the tenant's namespace.
fn hosted(domain: &DomainName, provider: &DkimProviderSpec, tenant: &Tenant<'_>) -> Option<ZoneSpec> {
    let CustomerDns { method, zones, rfc2136, dns_endpoint } = provider.customer_dns.as_ref()?;
    let name = DnsName::new(domain.as_str()).ok()?;
    let around = zones.iter().filter_map(|zone| Some((DnsName::new(&zone.name).ok()?, zone)));
    // The innermost zone has the name; one around it may be somebody else's.
    let (apex, zone) = around
        .filter(|(apex, _)| name.is_in(apex))
        .max_by_key(|(apex, _)| apex.as_str().split('.').count())?;
    let theirs = zone.namespaces.is_empty() || zone.namespaces.iter().any(|n| n == tenant.namespace);
    let outlet = Outlet {
        method: (*method).into(),
        owner_id: provider.publish.owner_id.clone(),
        rfc2136: rfc2136.clone().filter(|_| *method == CustomerMethod::Rfc2136),
        dns_endpoint: dns_endpoint.clone().filter(|_| *method == CustomerMethod::DnsEndpoint),
    };
    theirs.then(|| ZoneSpec {
        apex: apex.to_string(),
        name_servers: Vec::new(),
        negative_ttl: provider.publish.negative_ttl,
        outlet: Some(Box::new(outlet)),
    })
}

/// Where records go, if not to the embedded server.
fn outlet(publish: &Publish) -> Option<Outlet> {
    let Publish {
        method,
        owner_id,
        rfc2136,
        dns_endpoint,
        ttl: _,
        negative_ttl: _,
        zone: _,
        name_servers: _,
    } = publish;
    // Settings of another method are a provider's notes, and no part of the place.
    match method {
        PublishMethod::Embedded => None,
        PublishMethod::Rfc2136 => Some(Outlet {
            method: *method,
            owner_id: owner_id.clone(),
            rfc2136: rfc2136.clone(),
            dns_endpoint: None,
        }),
        PublishMethod::DnsEndpoint => Some(Outlet {
            method: *method,
            owner_id: owner_id.clone(),
            rfc2136: None,
            dns_endpoint: dns_endpoint.clone(),
        }),
        PublishMethod::Manual => {
            Some(Outlet { method: *method, owner_id: None, rfc2136: None, dns_endpoint: None })
        }
    }
}

/// Whether a namespace may use a provider.
#[must_use]
pub fn allows(allowed: &AllowedNamespaces, tenant: &Tenant<'_>) -> bool {
    let by_name = allowed.names.is_empty() || allowed.names.iter().any(|n| n == tenant.namespace);
    by_name && allowed.match_labels.iter().all(|(key, value)| tenant.labels.get(key) == Some(value))
}

/// Resolves a DkimDomain.
///
/// # Errors
/// A [`Refusal`] with field, fault and remedy.
pub fn accept(
    spec: &DkimDomainSpec,
    provider_name: &str,
    provider: &DkimProviderSpec,
    tenant: &Tenant<'_>,
) -> Result<Order, Refusal> {
    check_provider(provider).map_err(|refusal| Refusal {
        message: format!("DkimProvider {provider_name} is refused: {}", refusal.message),
        ..refusal
    })?;
    if !allows(&provider.allowed_namespaces, tenant) {
        return Err(Refusal::new(
            Reason::NamespaceNotAllowed,
            format!(
                "DkimProvider {provider_name} does not allow namespace {}; ask the provider to add it to spec.allowedNamespaces, or set spec.providerRef to another one",
                tenant.namespace
            ),
        ));
    }
    let invalid = |field: &str, fault: &dyn std::fmt::Display| {
        Refusal::new(Reason::InvalidSpec, format!("spec.{field}: {fault}"))
    };
    let domain = DomainName::parse(&spec.domain).map_err(|e| invalid("domain", &e))?;
    let selectors = selectors("selectors", &spec.selectors)?;
    let pair = [&selectors[SlotId::One], &selectors[SlotId::Two]];
    let initial = provider.initial_domain.replace(NAMESPACE, tenant.namespace);
    let initial = DnsName::new(initial).map_err(|e| invalid("providerRef", &e))?;
    let style = match provider.guid_policy {
        GuidPolicy::Readable => GuidStyle::Readable,
        GuidPolicy::Salted => GuidStyle::Salted { salt: tenant.uid },
        GuidPolicy::Opaque => GuidStyle::Opaque { salt: tenant.uid },
    };
    let guid = match &spec.guid {
        Some(chosen) => chosen_guid(chosen, provider_name, provider, pair)?,
        None => Guid::derive(&domain, &style, pair),
    };
    let apex = match &provider.publish.zone {
        Some(zone) => DnsName::new(zone).map_err(|e| invalid("providerRef", &e))?,
        None => DnsName::new(format!("_domainkey.{initial}")).map_err(|e| invalid("providerRef", &e))?,
    };
    let home = Home {
        provider: provider_name.to_owned(),
        guid,
        initial_domain: initial,
        zone: ZoneSpec {
            apex: apex.to_string(),
            name_servers: provider.publish.name_servers.clone(),
            negative_ttl: provider.publish.negative_ttl,
            outlet: outlet(&provider.publish).map(Box::new),
        },
        ttl: positive(provider.publish.ttl),
    };
    let policy = policy(&domain, spec, provider_name, provider)?;
    let second = second(spec, &selectors, &policy)?;
    let place = |selectors: PerSlot<Selector>, policy: Policy| -> Result<Lane, Refusal> {
        let alias = |slot: SlotId| domain.domainkey_name(&selectors[slot]).map_err(|e| invalid("domain", &e));
        let aliases = PerSlot([alias(SlotId::One)?, alias(SlotId::Two)?]);
        let targets = home.targets(&selectors).map_err(|e| invalid("domain", &e))?;
        if home.zone.outlet.is_some() {
            for name in &targets.0 {
                publishing::mark_name(name)
                    .map_err(|e| invalid("domain", &format!("its owner mark: {e}")))?;
            }
        }
        Ok(Lane { selectors, policy, aliases, targets })
    };
    let lanes = PerLane {
        primary: place(selectors, policy)?,
        second: second.map(|(selectors, policy)| place(selectors, policy)).transpose()?,
    };
    imports(spec, &lanes)?;
    let signature = SignatureRequest {
        identity: match &spec.signature.identity {
            Some(text) => {
                Some(identity(text, domain.as_str()).map_err(|fault| invalid("signature.identity", &fault))?)
            }
            None => None,
        },
        ..spec.signature.clone()
    };
    Ok(Order {
        lanes,
        home,
        delegation: spec.delegation,
        hosted: match spec.delegation {
            Delegation::Cname => hosted(&domain, provider, tenant),
            Delegation::Txt => None,
        },
        secret_namespace: provider.key_namespace.clone().unwrap_or_else(|| tenant.namespace.to_owned()),
        secret_name: format!("dkim-{domain}"),
        provider: provider_name.to_owned(),
        signature,
        imports: spec.import_keys.clone(),
        allow_rsa1024: provider.key_policy.allow_rsa1024,
        domain,
    })
}

/// An `i=` tag in its usual form, for signatures of a domain: an address, or a domain with an @ before it, at or below that
/// domain (RFC 6376 §3.5). Its local part holds nothing that would have to be quoted.
///
/// # Errors
/// What is wrong with it.
pub fn identity(text: &str, signing: &str) -> Result<String, String> {
    let (local, domain) = text.split_once('@').ok_or_else(|| format!("{text} has no @"))?;
    if let Some(odd) = local.chars().find(|c| !c.is_ascii_alphanumeric() && !"._+-".contains(*c)) {
        return Err(format!(
            "{odd:?} cannot stand before the @; letters, digits, dot, dash, plus and underline can"
        ));
    }
    let domain = DomainName::parse(domain).map_err(|fault| fault.to_string())?;
    let below =
        domain.as_str().strip_suffix(signing).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    if !below {
        return Err(format!(
            "{domain} is neither {signing} nor below it, so that receivers would not take the signature"
        ));
    }
    Ok(format!("{local}@{domain}"))
}

/// The lane of the second signature: rolled along with the primary one, of the other kind.
fn second(
    spec: &DkimDomainSpec,
    primary: &PerSlot<Selector>,
    policy: &Policy,
) -> Result<Option<(PerSlot<Selector>, Policy)>, Refusal> {
    let Some(wanted) = &spec.second_signature else { return Ok(None) };
    let invalid = |fault: String| Refusal::new(Reason::InvalidSpec, format!("spec.secondSignature{fault}"));
    if policy.kind == KeyKind::Ed25519 {
        return Err(invalid(
            ": the first signature is Ed25519 already; set spec.key.algorithm to RSA, which every receiver verifies, or leave secondSignature out".into(),
        ));
    }
    let selectors = selectors("secondSignature.selectors", &wanted.selectors)?;
    if let Some((_, twice)) = selectors.iter().find(|(_, s)| primary.0.contains(s)) {
        return Err(invalid(format!(
            ".selectors: {twice} is one of spec.selectors as well; a selector names one key, so choose another, such as ed1"
        )));
    }
    let policy =
        Policy { kind: KeyKind::Ed25519, cadence: Cadence::Along, rotate_at: None, ..policy.clone() };
    Ok(Some((selectors, policy)))
}

/// Each key that is brought has a slot, and no slot has two.
fn imports(spec: &DkimDomainSpec, lanes: &PerLane<Lane>) -> Result<(), Refusal> {
    for (number, import) in spec.import_keys.iter().enumerate() {
        let invalid = |fault: String| {
            Refusal::new(Reason::InvalidSpec, format!("spec.importKeys[{number}].selector: {fault}"))
        };
        let all: Vec<String> =
            lanes.iter().flat_map(|(_, l)| l.selectors.0.iter().map(ToString::to_string)).collect();
        if !all.contains(&import.selector) {
            return Err(invalid(format!(
                "{} is none of this domain's selectors ({}); name one of them, or name your key's selector in spec.selectors",
                import.selector,
                all.join(", ")
            )));
        }
        if spec.import_keys.iter().take(number).any(|other| other.selector == import.selector) {
            return Err(invalid(format!("{} has a key already; leave one of the two out", import.selector)));
        }
    }
    Ok(())
}

fn selectors(field: &str, names: &[String]) -> Result<PerSlot<Selector>, Refusal> {
    let invalid = |fault: String| Refusal::new(Reason::InvalidSpec, format!("spec.{field}: {fault}"));
    let [one, two] = names else {
        return Err(invalid("name exactly two selectors, such as selector1 and selector2".into()));
    };
    let one = Selector::parse(one).map_err(|e| invalid(e.to_string()))?;
    let two = Selector::parse(two).map_err(|e| invalid(e.to_string()))?;
    if one == two {
        return Err(invalid("the two selectors must differ, such as selector1 and selector2".into()));
    }
    Ok(PerSlot([one, two]))
}

/// A chosen GUID proves nothing of who chose it, so it is taken only where the name beneath it tells tenants apart.
/// Whether tenants of a provider may choose their GUIDs: not where nothing else tells them apart.
#[must_use]
pub fn guid_may_be_chosen(provider: &DkimProviderSpec) -> bool {
    provider.tenancy == Tenancy::Trusted
        || provider.initial_domain.contains(NAMESPACE)
        || provider.allowed_namespaces.names.len() == 1
}

fn chosen_guid(
    chosen: &str,
    provider_name: &str,
    provider: &DkimProviderSpec,
    selectors: [&Selector; 2],
) -> Result<Guid, Refusal> {
    if !guid_may_be_chosen(provider) {
        return Err(Refusal::new(
            Reason::PolicyViolation,
            format!(
                "spec.guid: DkimProvider {provider_name} tells its tenants apart by the GUID alone, so it cannot be chosen; leave spec.guid out"
            ),
        ));
    }
    Guid::chosen(chosen, selectors).map_err(|e| Refusal::new(Reason::InvalidSpec, format!("spec.guid: {e}")))
}

fn policy(
    domain: &DomainName,
    spec: &DkimDomainSpec,
    provider_name: &str,
    provider: &DkimProviderSpec,
) -> Result<Policy, Refusal> {
    let rules = &provider.key_policy;
    let at_least = |field: &str, value: HumanDuration, least: HumanDuration| {
        if value >= least {
            return Ok(());
        }
        Err(Refusal::new(
            Reason::PolicyViolation,
            format!(
                "spec.rotation.{field}: {value} is shorter than the {least} that DkimProvider {provider_name} allows; set {least} or more"
            ),
        ))
    };
    let rotation = &spec.rotation;
    let cadence = match &rotation.schedule {
        None => {
            at_least("interval", rotation.interval, rules.min_interval)?;
            Cadence::Every(rotation.interval.0)
        }
        Some(text) => {
            let schedule = Schedule::parse(text)
                .map_err(|e| Refusal::new(Reason::InvalidSpec, format!("spec.rotation.schedule: {e}")))?;
            let gap = HumanDuration(schedule.shortest_gap(Timestamp::UNIX_EPOCH));
            at_least("schedule", gap, rules.min_interval)?;
            Cadence::At(schedule)
        }
    };
    at_least("drain", rotation.drain, rules.min_drain)?;
    let jitter = rotation.jitter.map_or_else(|| cadence.usual_jitter(), |jitter| jitter.0);
    Ok(Policy {
        enabled: spec.enabled,
        kind: kind(spec, provider_name, rules.allow_rsa1024)?,
        offset: cadence::offset(domain, jitter),
        cadence,
        compromised_at: rotation.compromised_at.as_ref().map(|t| t.0),
        along_with: None,
        retired: false,
        link_per_key: spec.delegation == Delegation::Txt,
        imports: PerSlot::default(),
        drain: spec.rotation.drain.0,
        signer_lag: rules.signer_lag.0,
        paused: spec.rotation.paused,
        rotate_at: spec.rotation.rotate_at.as_ref().map(|t| t.0),
        ttl: positive(provider.publish.ttl),
        negative_ttl: positive(provider.publish.negative_ttl),
        rounding: ROUNDING,
        cname_ttl: MAX_POSITIVE,
        grace: provider.verification.grace.0,
        freshness: freshness(provider.verification.pending_interval.0),
    })
}

/// How old a look may be, `pause` being that from the end of one to the next. One round of looks may be missed; and a look
/// counts from its beginning, so it is not to be too old at its end, however long it took.
fn freshness(pause: SignedDuration) -> SignedDuration {
    let longest = SignedDuration::try_from(LONGEST_LOOK).unwrap_or(SignedDuration::MAX);
    pause.saturating_mul(2).max(longest.saturating_add(pause))
}

fn kind(spec: &DkimDomainSpec, provider_name: &str, allow_rsa1024: bool) -> Result<KeyKind, Refusal> {
    match (spec.key.algorithm, spec.key.size) {
        (KeyAlgorithm::Ed25519, None) => Ok(KeyKind::Ed25519),
        (KeyAlgorithm::Ed25519, Some(_)) => Err(Refusal::new(
            Reason::InvalidSpec,
            "spec.key.size: it belongs to RSA; leave it out for Ed25519",
        )),
        (KeyAlgorithm::Rsa, None | Some(2048)) => Ok(KeyKind::Rsa2048),
        (KeyAlgorithm::Rsa, Some(3072)) => Ok(KeyKind::Rsa3072),
        (KeyAlgorithm::Rsa, Some(4096)) => Ok(KeyKind::Rsa4096),
        (KeyAlgorithm::Rsa, Some(1024)) if allow_rsa1024 => Ok(KeyKind::Rsa1024),
        (KeyAlgorithm::Rsa, Some(1024)) => Err(Refusal::new(
            Reason::PolicyViolation,
            format!(
                "spec.key.size: DkimProvider {provider_name} does not allow 1024 bits (RFC 8301 advises against it); set 2048, or ask the provider for keyPolicy.allowRsa1024"
            ),
        )),
        (KeyAlgorithm::Rsa, Some(other)) => Err(Refusal::new(
            Reason::InvalidSpec,
            format!("spec.key.size: {other} is none of 1024, 2048, 3072 and 4096; set 2048"),
        )),
    }
}

fn positive(seconds: i32) -> u32 {
    u32::try_from(seconds).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_at_the_domain_or_below() {
        for (text, normal) in [
            ("@contoso.com", "@contoso.com"),
            ("News+1@Lists.Contoso.COM.", "News+1@lists.contoso.com"),
            ("@bücher.contoso.com", "@xn--bcher-kva.contoso.com"),
        ] {
            assert_eq!(identity(text, "contoso.com").as_deref(), Ok(normal));
        }
        for (text, says) in [
            ("contoso.com", "has no @"),
            ("joe@", "domain"),
            ("joe@x@contoso.com", ""),
            ("joe;d@contoso.com", "';' cannot stand"),
            ("joe@notcontoso.com", "is neither"),
            ("joe@com", ""),
            ("joe@contoso.com.example", "is neither"),
        ] {
            let fault = identity(text, "contoso.com").unwrap_err();
            assert!(fault.contains(says), "{text}: {fault}");
        }
        let spec = domain(serde_json::json!({ "signature": { "identity": "@other.example" } }));
        let fault = accepted(&spec, &provider()).unwrap_err();
        assert!(fault.message.starts_with("spec.signature.identity: other.example is neither"), "{fault}");
    }

    fn provider() -> DkimProviderSpec {
        serde_json::from_value(serde_json::json!({ "initialDomain": "{namespace}.onmail.example" })).unwrap()
    }

    fn domain(extra: serde_json::Value) -> DkimDomainSpec {
        let mut spec = serde_json::json!({ "domain": "contoso.com" });
        for (key, value) in extra.as_object().unwrap() {
            spec[key] = value.clone();
        }
        serde_json::from_value(spec).unwrap()
    }

    fn accepted(spec: &DkimDomainSpec, provider: &DkimProviderSpec) -> Result<Order, Refusal> {
        let labels = BTreeMap::new();
        accept(spec, "default", provider, &Tenant { namespace: "contoso", uid: "u", labels: &labels })
    }

    #[test]
    fn the_records_are_exactly_those_of_the_product() {
        let order = accepted(&domain(serde_json::json!({})), &provider()).unwrap();
        let question = order.question(LaneId::Primary, &order.lanes.primary.targets).unwrap();
        let [one, two] = &question.slots.0;
        assert_eq!(one.alias.as_str(), "selector1._domainkey.contoso.com");
        assert_eq!(one.target.as_str(), "selector1-contoso-com._domainkey.contoso.onmail.example");
        assert_eq!(two.target.as_str(), "selector2-contoso-com._domainkey.contoso.onmail.example");
        assert_eq!(order.home.zone.apex, "_domainkey.contoso.onmail.example");
        assert_eq!(
            (order.secret_namespace.as_str(), order.secret_name.as_str()),
            ("contoso", "dkim-contoso.com")
        );
    }

    /// With one server of many that is dead a look takes seconds, and in line behind others a minute.
    #[test]
    fn a_look_is_fresh_when_it_ends() {
        for (pause, least) in [(1, 61), (15, 75), (300, 600)] {
            let mut provider = provider();
            provider.verification.pending_interval = HumanDuration(SignedDuration::from_secs(pause));
            let policy = accepted(&domain(serde_json::json!({})), &provider).unwrap().lanes.primary.policy;
            assert_eq!(policy.freshness, SignedDuration::from_secs(least), "{pause}");
        }
    }

    #[test]
    fn a_shared_provider_must_tell_tenants_apart() {
        let mut shared = provider();
        shared.initial_domain = "onmail.example".into();
        assert_eq!(check_provider(&shared).unwrap_err().reason, Reason::ProviderInvalid);
        for change in [
            |p: &mut DkimProviderSpec| p.tenancy = Tenancy::Trusted,
            |p: &mut DkimProviderSpec| p.guid_policy = GuidPolicy::Salted,
            |p: &mut DkimProviderSpec| p.guid_policy = GuidPolicy::Opaque,
            |p: &mut DkimProviderSpec| p.allowed_namespaces.names = vec!["one".into()],
        ] {
            let mut provider = shared.clone();
            change(&mut provider);
            check_provider(&provider).unwrap();
        }
    }

    #[test]
    fn refusals_name_field_fault_and_remedy() {
        let cases = [
            (serde_json::json!({ "domain": "contoso" }), "single label"),
            (serde_json::json!({ "selectors": ["a", "a"] }), "must differ"),
            (serde_json::json!({ "key": { "size": 1024 } }), "keyPolicy.allowRsa1024"),
            (serde_json::json!({ "key": { "size": 1000 } }), "none of 1024"),
            (serde_json::json!({ "rotation": { "interval": "1h" } }), "shorter than the 24h"),
            (serde_json::json!({ "rotation": { "drain": "1h" } }), "spec.rotation.drain"),
            (serde_json::json!({ "rotation": { "schedule": "daily" } }), "no cron schedule"),
            (serde_json::json!({ "rotation": { "schedule": "0 * * * *" } }), "1h is shorter than the 24h"),
            (serde_json::json!({ "guid": "-x" }), "no usable GUID"),
        ];
        for (extra, words) in cases {
            let message = accepted(&domain(extra), &provider()).unwrap_err().message;
            assert!(message.contains(words) && message.starts_with("spec."), "{message}");
        }
    }

    #[test]
    fn a_chosen_guid_is_refused_where_it_is_all_that_tells_tenants_apart() {
        let mut salted = provider();
        salted.initial_domain = "onmail.example".into();
        salted.guid_policy = GuidPolicy::Salted;
        let spec = domain(serde_json::json!({ "guid": "fabrikam-com" }));
        assert_eq!(accepted(&spec, &salted).unwrap_err().reason, Reason::PolicyViolation);
        assert!(accepted(&spec, &provider()).is_ok());
    }
}
