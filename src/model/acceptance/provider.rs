//! Whether a provider can serve anybody, and whom.

use super::{NAMESPACE, Refusal, Tenant};
use crate::api::{AllowedNamespaces, DkimProviderSpec, GuidPolicy, PublishMethod, Reason, Tenancy};
use crate::model::name::{DnsName, DomainName};

/// Checks a provider on its own.
///
/// # Errors
/// A [`Refusal`] that names the field.
pub fn check_provider(spec: &DkimProviderSpec) -> Result<(), Refusal> {
    let invalid = |message: String| Refusal::new(Reason::ProviderInvalid, message);
    let sample = spec.initial_domain.replace(NAMESPACE, "namespace");
    DomainName::parse(&sample).map_err(|e| invalid(format!("spec.initialDomain: {e}")))?;
    let told_apart = guid_may_be_chosen(spec) || spec.guid_policy != GuidPolicy::Readable;
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

/// Whether a namespace may use a provider.
#[must_use]
pub fn allows(allowed: &AllowedNamespaces, tenant: &Tenant<'_>) -> bool {
    let by_name = allowed.names.is_empty() || allowed.names.iter().any(|n| n == tenant.namespace);
    by_name && allowed.match_labels.iter().all(|(key, value)| tenant.labels.get(key) == Some(value))
}

/// Whether tenants of a provider may choose their GUIDs: not where nothing else tells them apart.
#[must_use]
pub fn guid_may_be_chosen(provider: &DkimProviderSpec) -> bool {
    provider.tenancy == Tenancy::Trusted
        || provider.initial_domain.contains(NAMESPACE)
        || provider.allowed_namespaces.names.len() == 1
}
