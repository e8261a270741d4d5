//! Where a domain's records go: the provider's names for it, and the zones that hold them and the tenant's CNAMEs.

use super::{Lane, NAMESPACE, Refusal, Tenant, guid_may_be_chosen, positive};
use crate::api::{
    CustomerDns, CustomerMethod, DkimDomainSpec, DkimProviderSpec, GuidPolicy, Outlet, Publish,
    PublishMethod, Reason, ZoneSpec,
};
use crate::model::guid::{Guid, GuidStyle};
use crate::model::home::Home;
use crate::model::name::{DnsName, DomainName};
use crate::model::publishing;
use crate::model::rotation::Policy;
use crate::model::selector::{PerSlot, Selector, SlotId};

/// The provider's names for a domain.
pub(super) fn home(
    domain: &DomainName,
    selectors: &PerSlot<Selector>,
    spec: &DkimDomainSpec,
    provider_name: &str,
    provider: &DkimProviderSpec,
    tenant: &Tenant<'_>,
) -> Result<Home, Refusal> {
    let pair = selectors.0.each_ref();
    let initial = provider.initial_domain.replace(NAMESPACE, tenant.namespace);
    let initial = DnsName::new(initial).map_err(|e| Refusal::invalid("providerRef", e))?;
    let style = match provider.guid_policy {
        GuidPolicy::Readable => GuidStyle::Readable,
        GuidPolicy::Salted => GuidStyle::Salted { salt: tenant.uid },
        GuidPolicy::Opaque => GuidStyle::Opaque { salt: tenant.uid },
    };
    let guid = match &spec.guid {
        Some(chosen) => chosen_guid(chosen, provider_name, provider, pair)?,
        None => Guid::derive(domain, &style, pair),
    };
    let apex = match &provider.publish.zone {
        Some(zone) => DnsName::new(zone),
        None => DnsName::new(format!("_domainkey.{initial}")),
    };
    let apex = apex.map_err(|e| Refusal::invalid("providerRef", e))?;
    Ok(Home {
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
    })
}

/// Where the records of a pair of keys are: at the tenant's names and at the provider's.
pub(super) fn lane(
    domain: &DomainName,
    home: &Home,
    selectors: PerSlot<Selector>,
    policy: Policy,
) -> Result<Lane, Refusal> {
    let alias =
        |slot: SlotId| domain.domainkey_name(&selectors[slot]).map_err(|e| Refusal::invalid("domain", e));
    let aliases = PerSlot([alias(SlotId::One)?, alias(SlotId::Two)?]);
    let targets = home.targets(&selectors).map_err(|e| Refusal::invalid("domain", e))?;
    if home.zone.outlet.is_some() {
        for name in &targets.0 {
            publishing::mark_name(name)
                .map_err(|e| Refusal::invalid("domain", format!("its owner mark: {e}")))?;
        }
    }
    Ok(Lane { selectors, policy, aliases, targets })
}

/// A chosen GUID proves nothing of who chose it, so it is taken only where the name beneath it tells tenants apart.
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
    Guid::chosen(chosen, selectors).map_err(|e| Refusal::invalid("guid", e))
}

/// The zone that holds a tenant's CNAMEs, where the provider hosts it for the tenant's namespace.
pub(super) fn hosted(
    domain: &DomainName,
    provider: &DkimProviderSpec,
    tenant: &Tenant<'_>,
) -> Option<ZoneSpec> {
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
