//! How a looker looks: whom it may ask, and how much.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::reach::Reach;
use super::resolver::Resolver;
use crate::api::Verification;

/// The port of DNS (RFC 1035 §4.2).
pub const DNS_PORT: u16 = 53;

/// How a looker looks.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LookupConfig {
    /// Recursive resolvers; those of the system where empty.
    pub resolvers: Vec<Resolver>,
    /// Authorities, as PEM, that certificates of resolvers asked over TLS or HTTPS are checked against; those of the system
    /// where none are given.
    pub authorities: Option<String>,
    /// Whether to ask the zones' own servers.
    pub authoritative: bool,
    /// Root servers, where the walk down the delegations begins; the resolvers are asked for them where empty.
    pub roots: Vec<SocketAddr>,
    /// Which addresses may be asked because a delegation names them.
    pub reach: Reach,
    /// How many questions a second.
    pub limits: Limits,
}

impl Default for LookupConfig {
    fn default() -> Self {
        Self {
            resolvers: Vec::new(),
            authorities: None,
            authoritative: true,
            roots: Vec::new(),
            reach: Reach::default(),
            limits: Limits::default(),
        }
    }
}

/// Most questions a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Limits {
    /// In all.
    pub total: u32,
    /// To one server.
    pub server: u32,
    /// Into one tenant's zone, whichever of its servers are asked.
    pub zone: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { total: 500, server: 250, zone: 50 }
    }
}

impl LookupConfig {
    /// From a provider's settings. An address or network that cannot be read is left out; the API server lets
    /// none in.
    #[must_use]
    pub fn of(verification: &Verification) -> Self {
        let addresses =
            |texts: &[String]| texts.iter().filter_map(|text| socket_address(text)).collect::<Vec<_>>();
        let resolvers = verification.resolvers.iter().filter_map(|text| text.parse().ok());
        let networks = verification.allow_private_networks.iter().filter_map(|text| network(text));
        let rate = |number: i32| u32::try_from(number).unwrap_or(1).max(1);
        Self {
            resolvers: resolvers.collect(),
            authorities: verification.resolver_authorities.clone(),
            authoritative: verification.authoritative,
            roots: addresses(&verification.root_servers),
            reach: Reach::allowing(networks),
            limits: Limits {
                total: rate(verification.queries_per_second),
                server: rate(verification.queries_per_second_per_server),
                zone: rate(verification.queries_per_second_per_zone),
            },
        }
    }
}

/// Reads `IP` or `IP:port`.
#[must_use]
fn socket_address(text: &str) -> Option<SocketAddr> {
    text.parse().ok().or_else(|| Some(SocketAddr::new(text.parse().ok()?, DNS_PORT)))
}

/// Reads `IP/LENGTH`, or an address alone.
#[must_use]
pub fn network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}
