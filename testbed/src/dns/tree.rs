//! A root, tenants' zones below it, and a resolver over them.

use std::net::{IpAddr, SocketAddr};

use tokio::sync::Mutex;

use super::zone::{absolute, address_kind, is_within};
use super::{Answer, Caching, Knot, Unbound, lookup};
use crate::Result;

/// How long resolvers may keep a delegation, in seconds: short, so that a changed one is seen soon.
const DELEGATION_TTL: u32 = 1;

/// A whole DNS of one's own: a root server, a hosting server with the tenants' zones, which are delegated to it
/// by NS and glue, and a recursive resolver. All of it ends with this value.
///
/// A zone can be delegated to any other address, too: to another [`Knot`], or to a server under test.
#[derive(Debug)]
pub struct DnsTree {
    resolver: Unbound,
    hosting: Knot,
    root: Knot,
    delegations: Mutex<Vec<Delegation>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Delegation {
    zone: String,
    server: String,
    ip: IpAddr,
    in_hosting: bool,
}

impl DnsTree {
    /// Starts root, hosting server and resolver.
    ///
    /// # Errors
    /// Where one of them does not start.
    pub async fn start() -> Result<Self> {
        Self::start_with(Caching::default()).await
    }

    /// Starts them with limits to what the resolver may keep.
    ///
    /// # Errors
    /// Where one of them does not start.
    pub async fn start_with(caching: Caching) -> Result<Self> {
        let (root, hosting) = tokio::try_join!(Knot::start(), Knot::start())?;
        root.add_zone(".", 1).await?;
        let resolver = Unbound::start(root.address().ip(), caching).await?;
        Ok(Self { resolver, hosting, root, delegations: Mutex::default() })
    }

    /// Adds a tenant's zone, whose negative answers live `soa_minimum` seconds (1 is usual in tests), to the
    /// hosting server and delegates it.
    ///
    /// # Errors
    /// Where the name cannot be used.
    pub async fn add_zone(&self, zone: &str, soa_minimum: u32) -> Result<()> {
        self.add_zone_on(&self.hosting, zone, soa_minimum).await
    }

    /// Adds a zone to another server and delegates it there.
    ///
    /// # Errors
    /// Where the name cannot be used.
    pub async fn add_zone_on(&self, server: &Knot, zone: &str, soa_minimum: u32) -> Result<()> {
        let zone = absolute(zone)?;
        server.add_zone(&zone, soa_minimum).await?;
        self.delegate(&zone, &format!("ns1.{zone}"), server.address().ip()).await
    }

    /// Takes a zone away from the hosting server, and its delegation from the parent.
    ///
    /// # Errors
    /// Where a server refuses.
    pub async fn remove_zone(&self, zone: &str) -> Result<()> {
        self.undelegate(zone).await?;
        self.hosting.remove_zone(zone).await.map(drop)
    }

    /// Adds a record to the tenant's zone that holds it; `data` is as in a zone file (see [`crate::txt`]).
    ///
    /// # Errors
    /// Where no zone of the hosting server holds the name, or the server refuses.
    pub async fn add_record(&self, name: &str, ttl: u32, kind: &str, data: &str) -> Result<()> {
        self.hosting.add_record(name, ttl, kind, data).await
    }

    /// Removes all records of one name and type that were added; returns how many those were.
    ///
    /// # Errors
    /// Where no zone of the hosting server holds the name, or the server refuses.
    pub async fn remove(&self, name: &str, kind: &str) -> Result<usize> {
        self.hosting.remove_record(name, kind, None).await
    }

    /// Delegates a zone to the server at `ip`, port 53, in the zone above it: a NS record and, where `server` is
    /// below that zone, its address. A further call with another name adds a further server.
    ///
    /// # Errors
    /// Where a name cannot be used.
    pub async fn delegate(&self, zone: &str, server: &str, ip: IpAddr) -> Result<()> {
        let (zone, server) = (absolute(zone)?, absolute(server)?);
        let above = zone.split_once('.').map_or("", |(_, above)| above);
        let parent = if above.is_empty() { None } else { self.hosting.zone_of(above).await };
        let delegation = Delegation { in_hosting: parent.is_some(), zone, server, ip };
        let parent_zone = parent.unwrap_or_else(|| ".".to_owned());
        let mut delegations = self.delegations.lock().await;
        if delegations.contains(&delegation) {
            return Ok(());
        }
        let Delegation { zone, server, ip, in_hosting } = &delegation;
        let knot = self.parent(*in_hosting);
        if is_within(server, &parent_zone) {
            knot.add_record(server, DELEGATION_TTL, address_kind(*ip), &ip.to_string()).await?;
        }
        knot.add_record(zone, DELEGATION_TTL, "NS", server).await?;
        delegations.push(delegation);
        Ok(())
    }

    /// Takes the delegation of a zone away; servers' addresses that others still need stay.
    ///
    /// # Errors
    /// Where the parent's server refuses.
    pub async fn undelegate(&self, zone: &str) -> Result<()> {
        let zone = absolute(zone)?;
        let mut delegations = self.delegations.lock().await;
        let (gone, kept): (Vec<_>, Vec<_>) =
            delegations.iter().cloned().partition(|delegation| delegation.zone == zone);
        for Delegation { zone, server, ip, in_hosting } in gone {
            let knot = self.parent(in_hosting);
            knot.remove_record(&zone, "NS", Some(&server)).await?;
            let needed = kept.iter().any(|other| other.server == server && other.ip == ip);
            if !needed {
                knot.remove_record(&server, address_kind(ip), Some(&ip.to_string())).await?;
            }
        }
        *delegations = kept;
        Ok(())
    }

    /// The recursive resolver's address.
    #[must_use]
    pub fn resolver(&self) -> SocketAddr {
        self.resolver.address()
    }

    /// The address of the authoritative server with the tenants' zones.
    #[must_use]
    pub fn authoritative(&self) -> SocketAddr {
        self.hosting.address()
    }

    /// The recursive resolver itself.
    #[must_use]
    pub fn unbound(&self) -> &Unbound {
        &self.resolver
    }

    /// The authoritative server with the tenants' zones.
    #[must_use]
    pub fn hosting(&self) -> &Knot {
        &self.hosting
    }

    /// The root server.
    #[must_use]
    pub fn root(&self) -> &Knot {
        &self.root
    }

    /// Asks the resolver.
    ///
    /// # Errors
    /// Where no answer comes.
    pub async fn lookup(&self, name: &str, kind: &str) -> Result<Answer> {
        lookup(self.resolver(), name, kind).await
    }

    fn parent(&self, in_hosting: bool) -> &Knot {
        if in_hosting { &self.hosting } else { &self.root }
    }
}
