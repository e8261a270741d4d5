//! A DkimDomain as it is served.

use jiff::SignedDuration;

use crate::api::{CnamePlacement, Delegation, KeyImport, PublishedCname, SignatureRequest, ZoneSpec};
use crate::model::home::Home;
use crate::model::lanes::{LaneId, PerLane};
use crate::model::name::{DnsName, DomainName};
use crate::model::record::CNAME_TTL;
use crate::model::rotation::{Policy, Wanted};
use crate::model::selector::{PerSlot, Selector, SlotId};
use crate::model::sighting::{Question, SlotQuestion};
use crate::model::vault::Vault;

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
