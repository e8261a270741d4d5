//! Whether a DkimDomain can be served, and as what: spec, provider and namespace in, a resolved [`Order`] or a
//! [`Refusal`] out.

mod identity;
mod keys;
mod order;
mod place;
mod provider;
mod refusal;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use super::lanes::PerLane;
use super::name::DomainName;
use crate::api::{Delegation, DkimDomainSpec, DkimProviderSpec, Reason, SignatureRequest};

pub use identity::identity;
pub use order::{Lane, Order};
pub use provider::{allows, check_provider, guid_may_be_chosen};
pub use refusal::Refusal;

/// What stands in `initialDomain` for the namespace.
const NAMESPACE: &str = "{namespace}";

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
    let domain = DomainName::parse(&spec.domain).map_err(|e| Refusal::invalid("domain", e))?;
    let selectors = keys::selectors("selectors", &spec.selectors)?;
    let home = place::home(&domain, &selectors, spec, provider_name, provider, tenant)?;
    let policy = keys::policy(&domain, spec, provider_name, provider)?;
    let second = keys::second(spec, &selectors, &policy)?;
    let lane = |selectors, policy| place::lane(&domain, &home, selectors, policy);
    let lanes = PerLane {
        primary: lane(selectors, policy)?,
        second: second.map(|(selectors, policy)| lane(selectors, policy)).transpose()?,
    };
    keys::imports(spec, &lanes)?;
    let identity = spec.signature.identity.as_ref().map(|text| identity(text, domain.as_str()));
    let identity = identity.transpose().map_err(|fault| Refusal::invalid("signature.identity", fault))?;
    Ok(Order {
        lanes,
        home,
        delegation: spec.delegation,
        hosted: match spec.delegation {
            Delegation::Cname => place::hosted(&domain, provider, tenant),
            Delegation::Txt => None,
        },
        secret_namespace: provider.key_namespace.clone().unwrap_or_else(|| tenant.namespace.to_owned()),
        secret_name: format!("dkim-{domain}"),
        provider: provider_name.to_owned(),
        signature: SignatureRequest { identity, ..spec.signature.clone() },
        imports: spec.import_keys.clone(),
        allow_rsa1024: provider.key_policy.allow_rsa1024,
        domain,
    })
}

fn positive(seconds: i32) -> u32 {
    u32::try_from(seconds).unwrap_or(0)
}
