//! A snapshot of everything that is served, built from record sets. Immutable once built.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use jiff::Timestamp;

use crate::api::DkimRecordSetSpec;
use crate::model::name::DnsName;

/// One record set as the server sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Set {
    /// The object's name: the domain.
    pub name: String,
    /// When it was created: of two sets with one owner name the older one is served.
    pub created: Timestamp,
    /// What it says.
    pub spec: DkimRecordSetSpec,
}

/// A key record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// Seconds.
    pub ttl: u32,
    /// The text, not yet cut into character-strings.
    pub text: String,
}

/// A zone's own records.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Apex {
    /// The NS records.
    pub name_servers: BTreeSet<DnsName>,
    /// The SOA minimum: the greatest that any of its sets asks for, since controllers wait for it.
    pub negative_ttl: u32,
}

/// Everything that is served.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    zones: HashMap<DnsName, Apex>,
    records: HashMap<DnsName, Text>,
    /// Names that have something below them and nothing themselves.
    between: HashSet<DnsName>,
    /// The SOA serial of every zone.
    pub serial: u32,
}

/// What is at a name.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// Not in a zone of ours.
    Elsewhere,
    /// The apex of a zone.
    Apex {
        /// The zone's name.
        name: DnsName,
        /// Its own records.
        apex: &'a Apex,
    },
    /// A key record.
    Text {
        /// The zone's name.
        zone: DnsName,
        /// Its own records.
        apex: &'a Apex,
        /// The record.
        text: &'a Text,
    },
    /// A name without records that has names below it (RFC 8020: it exists).
    Between {
        /// The zone's name.
        zone: DnsName,
        /// Its own records.
        apex: &'a Apex,
    },
    /// In a zone of ours, but not there.
    Nothing {
        /// The zone's name.
        zone: DnsName,
        /// Its own records.
        apex: &'a Apex,
    },
}

impl Snapshot {
    /// Builds a snapshot. What cannot be served is left out and returned as a list of complaints.
    #[must_use]
    pub fn build<'a>(sets: impl IntoIterator<Item = &'a Set>, serial: u32) -> (Self, Vec<String>) {
        let mut sets: Vec<&Set> = sets.into_iter().collect();
        sets.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
        let mut snapshot = Self { serial, ..Self::default() };
        let mut complaints = Vec::new();
        let mut zones: BTreeMap<DnsName, Apex> = BTreeMap::new();
        for set in &sets {
            let Ok(name) = DnsName::new(&set.spec.zone.apex) else {
                complaints.push(format!("{}: zone.apex {} is no name", set.name, set.spec.zone.apex));
                continue;
            };
            let apex = zones.entry(name).or_default();
            apex.negative_ttl = apex.negative_ttl.max(u32::try_from(set.spec.zone.negative_ttl).unwrap_or(0));
            let servers = set.spec.zone.name_servers.iter().filter_map(|s| DnsName::new(s).ok());
            apex.name_servers.extend(servers);
        }
        snapshot.zones = zones.into_iter().collect();
        for set in &sets {
            for record in &set.spec.records {
                let Ok(name) = DnsName::new(&record.name) else {
                    complaints.push(format!("{}: {} is no name", set.name, record.name));
                    continue;
                };
                if snapshot.zone_of(&name).is_none() || snapshot.zones.contains_key(&name) {
                    complaints.push(format!("{}: {name} is in no zone that is served", set.name));
                    continue;
                }
                if snapshot.records.contains_key(&name) {
                    complaints.push(format!(
                        "{}: {name} is taken by an older record set; two keys at one name would verify at random",
                        set.name
                    ));
                    continue;
                }
                let ttl = u32::try_from(record.ttl).unwrap_or(0);
                snapshot.records.insert(name, Text { ttl, text: record.value.clone() });
            }
        }
        for name in snapshot.records.keys() {
            let mut above = name.parent();
            while let Some(name) = above {
                if snapshot.zones.contains_key(&name) {
                    break;
                }
                above = name.parent();
                snapshot.between.insert(name);
            }
        }
        (snapshot, complaints)
    }

    fn zone_of(&self, name: &DnsName) -> Option<(DnsName, &Apex)> {
        let mut at = Some(name.clone());
        while let Some(candidate) = at {
            if let Some(apex) = self.zones.get(&candidate) {
                return Some((candidate, apex));
            }
            at = candidate.parent();
        }
        None
    }

    /// What is at a name.
    #[must_use]
    pub fn find(&self, name: &DnsName) -> Found<'_> {
        let Some((zone, apex)) = self.zone_of(name) else { return Found::Elsewhere };
        if zone == *name {
            return Found::Apex { name: zone, apex };
        }
        if let Some(text) = self.records.get(name) {
            return Found::Text { zone, apex, text };
        }
        if self.between.contains(name) {
            return Found::Between { zone, apex };
        }
        Found::Nothing { zone, apex }
    }

    /// How many zones and records are served.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        (self.zones.len(), self.records.len())
    }
}
