//! A record set as the server sees it, and what of it can be served.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::snapshot::{Origin, Text};
use super::wire_name::{WireName, is_below};
use crate::model::name::DnsName;

/// Longest text that is served, in bytes: several times a key record of RSA 4096, and sure to fit in a message over
/// TCP.
const MAX_TEXT: usize = 4096;
/// Most name servers of a zone that are served: their names are sure to fit in a message over TCP.
pub const MAX_SERVERS: usize = 64;

/// One record set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Set {
    /// The object's name: the domain.
    pub name: String,
    /// When it was created: of two sets with one owner name the older one is served.
    pub created: Timestamp,
    /// What it wants served, zone by zone.
    pub zones: Vec<Part>,
}

/// What a set wants in one zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The zone's name.
    pub apex: String,
    /// The NS records of the apex.
    pub servers: Vec<String>,
    /// The SOA minimum, in seconds.
    pub negative: u32,
    /// The TXT records: owner, TTL in seconds, text.
    pub texts: Vec<(String, u32, String)>,
}

/// What a set asks of a zone's own records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The zone's name.
    pub apex: WireName,
    /// The NS records, in order.
    pub servers: Vec<WireName>,
    /// The SOA minimum, in seconds.
    pub negative: u32,
}

/// What of a set can be served.
#[derive(Debug)]
pub struct Held {
    /// Whose it is.
    pub origin: Arc<Origin>,
    /// Its zones.
    pub claims: Vec<Arc<Claim>>,
    /// Its key records.
    pub texts: Vec<Arc<Text>>,
}

impl Held {
    /// What can be served, and what cannot, in words.
    #[must_use]
    pub fn new(set: &Set) -> (Self, Vec<String>) {
        let origin = Arc::new(Origin { created: set.created, set: set.name.as_str().into() });
        let mut held = Self { origin, claims: Vec::new(), texts: Vec::new() };
        let mut complaints = Vec::new();
        for part in &set.zones {
            held.take(part, |complaint| complaints.push(format!("{}: {complaint}", set.name)));
        }
        (held, complaints)
    }

    fn take(&mut self, part: &Part, mut complain: impl FnMut(String)) {
        let Ok(apex) = DnsName::new(&part.apex) else {
            return complain(format!("zone.apex {} is no name", part.apex));
        };
        let apex = WireName::from(&apex);
        let mut servers = Vec::new();
        for server in &part.servers {
            match DnsName::new(server) {
                Ok(name) => servers.push(WireName::from(&name)),
                Err(_) => complain(format!("name server {server} is no name")),
            }
        }
        servers.sort();
        servers.dedup();
        if servers.len() > MAX_SERVERS {
            complain(format!(
                "{} name servers are more than the {MAX_SERVERS} that are served",
                servers.len()
            ));
            servers.truncate(MAX_SERVERS);
        }
        for (name, ttl, text) in &part.texts {
            let Ok(owner) = DnsName::new(name) else {
                complain(format!("{name} is no name"));
                continue;
            };
            let owner = WireName::from(&owner);
            if !is_below(&owner, &apex) {
                complain(format!("{owner} is not below {apex}, the zone it is for"));
            } else if text.is_empty() || text.len() > MAX_TEXT {
                let length = text.len();
                complain(format!("the text of {owner} has {length} bytes, not 1 to {MAX_TEXT}"));
            } else if self.texts.iter().any(|other| other.name == owner) {
                complain(twice(&owner));
            } else {
                self.texts.push(Arc::new(Text::new(owner, *ttl, text, Arc::clone(&self.origin))));
            }
        }
        let claim = Claim { apex, servers, negative: part.negative };
        // Records from before a move are often in the same zone.
        if !self.claims.iter().any(|other| **other == claim) {
            self.claims.push(Arc::new(claim));
        }
    }

    /// As it can be stored.
    #[must_use]
    pub fn to_set(&self) -> Set {
        let inside = |claim: &Claim, text: &Text| is_below(&text.name, &claim.apex);
        // In the deepest of its zones, as each text stood in one only.
        let home = |text: &Text| {
            let fitting = self.claims.iter().filter(|claim| inside(claim, text));
            fitting.max_by_key(|claim| claim.apex.len())
        };
        let zones = self.claims.iter().map(|claim| Part {
            apex: claim.apex.text(),
            servers: claim.servers.iter().map(WireName::text).collect(),
            negative: claim.negative,
            texts: self
                .texts
                .iter()
                .filter(|text| home(text).is_some_and(|at| Arc::ptr_eq(at, claim)))
                .map(|text| (text.name.text(), text.ttl(), text.text()))
                .collect(),
        });
        Set { name: self.origin.set.to_string(), created: self.origin.created, zones: zones.collect() }
    }
}

/// The complaint about a name that is asked for twice.
#[must_use]
pub fn twice(name: &WireName) -> String {
    format!(
        "{name} is there already, in this or an older record set; two keys at one name would verify at random"
    )
}
