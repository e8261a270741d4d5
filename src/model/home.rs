//! The place where a domain's keys are published: the names that its CNAMEs point at.

use serde::{Deserialize, Serialize};

use super::guid::Guid;
use super::name::{DnsName, NameError};
use super::record::provider_name;
use super::selector::{PerSlot, Selector, SlotId};
use crate::api::ZoneSpec;

/// Where a domain's keys are published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Home {
    /// The DkimProvider's name.
    pub provider: String,
    /// The label that stands for the domain.
    pub guid: Guid,
    /// The organisation's initial domain.
    pub initial_domain: DnsName,
    /// The zone the records are in.
    pub zone: ZoneSpec,
    /// TTL of the records in seconds.
    pub ttl: u32,
}

impl Home {
    /// Whether the same names are meant, whatever else differs.
    #[must_use]
    pub fn is_at(&self, other: &Self) -> bool {
        self.guid == other.guid && self.initial_domain == other.initial_domain
    }

    /// Seconds for which resolvers may remember that a name there does not answer.
    #[must_use]
    pub fn negative_ttl(&self) -> u32 {
        u32::try_from(self.zone.negative_ttl).unwrap_or(0)
    }

    /// The owner name of a selector's TXT.
    ///
    /// # Errors
    /// [`NameError`] where it does not fit in DNS.
    pub fn target(&self, selector: &Selector) -> Result<DnsName, NameError> {
        provider_name(selector, &self.guid, &self.initial_domain)
    }

    /// The owner names of both selectors' TXTs.
    ///
    /// # Errors
    /// As [`Home::target`].
    pub fn targets(&self, selectors: &PerSlot<Selector>) -> Result<PerSlot<DnsName>, NameError> {
        Ok(PerSlot([self.target(&selectors[SlotId::One])?, self.target(&selectors[SlotId::Two])?]))
    }
}
