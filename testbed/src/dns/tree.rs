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
    /// The zone of the hosting server that holds the delegation; the root's where there is none.
    parent: Option<String>,
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

    /// As [`DnsTree::start`], with a signed root and a resolver that validates DNSSEC. Zones below are not signed
    /// but by [`DnsTree::sign`].
    ///
    /// # Errors
    /// Where one of them does not start.
    pub async fn start_signed() -> Result<Self> {
        let (root, hosting) = tokio::try_join!(Knot::start(), Knot::start())?;
        root.add_zone(".", 1).await?;
        let ds = root.sign(".").await?;
        let resolver = Unbound::validating(root.address().ip(), Caching::default(), &ds).await?;
        Ok(Self { resolver, hosting, root, delegations: Mutex::default() })
    }

    /// Signs a tenant's zone and has its parent vouch for it; with `broken`, for a key that the zone does not have.
    ///
    /// # Errors
    /// Where a server refuses.
    pub async fn sign(&self, zone: &str, broken: bool) -> Result<()> {
        let mut ds = self.hosting.sign(zone).await?;
        if broken {
            let digest = ds.rsplit(' ').next().map_or(0, str::len);
            ds.truncate(ds.len() - digest);
            ds.push_str(&"0".repeat(digest));
        }
        self.root.add_to(".", zone, DELEGATION_TTL, "DS", &ds).await
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

    /// Adds or replaces a tenant's zone as a whole, by the text of a zone file (with SOA; `$ORIGIN` is the zone),
    /// and delegates it: the way for zones with thousands of records.
    ///
    /// # Errors
    /// Where the name cannot be used, or the server refuses the text.
    pub async fn set_zone(&self, zone: &str, text: &str) -> Result<()> {
        let zone = absolute(zone)?;
        self.hosting.set_zone(&zone, text).await?;
        self.delegate(&zone, &format!("ns1.{zone}"), self.hosting.address().ip()).await
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
        let delegation = Delegation { zone, server, ip, parent };
        let mut delegations = self.delegations.lock().await;
        if delegations.contains(&delegation) {
            return Ok(());
        }
        let Delegation { zone, server, ip, parent } = &delegation;
        let (knot, within) = self.parent(parent.as_deref());
        if is_within(server, within) {
            knot.add_to(within, server, DELEGATION_TTL, address_kind(*ip), &ip.to_string()).await?;
        }
        knot.add_to(within, zone, DELEGATION_TTL, "NS", server).await?;
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
        for Delegation { zone, server, ip, parent } in gone {
            let (knot, within) = self.parent(parent.as_deref());
            knot.remove_from(within, &zone, "NS", Some(&server)).await?;
            let still =
                |other: &Delegation| (&other.server, other.ip, &other.parent) == (&server, ip, &parent);
            if !kept.iter().any(still) {
                knot.remove_from(within, &server, address_kind(ip), Some(&ip.to_string())).await?;
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

    fn parent<'a>(&'a self, zone: Option<&'a str>) -> (&'a Knot, &'a str) {
        zone.map_or((&self.root, "."), |zone| (&self.hosting, zone))
    }
}
