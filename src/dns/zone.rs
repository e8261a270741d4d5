//! A snapshot of everything that is served, built from record sets. Immutable once built.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use jiff::Timestamp;

use crate::api::DkimRecordSetSpec;
use crate::model::name::DnsName;

/// Longest text that is served, in bytes: several times a key record of RSA 4096, and sure to fit in a message over
/// TCP.
const MAX_TEXT: usize = 4096;

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
    /// The SOA minimum: the least that any of its sets asks for. Each set's controller waits as long as its own set
    /// says before a new key signs, so a greater one would let resolvers remember for longer than some wait.
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
            let negative_ttl = u32::try_from(set.spec.zone.negative_ttl).unwrap_or(0);
            let apex = zones.entry(name).or_insert_with(|| Apex { negative_ttl, ..Apex::default() });
            apex.negative_ttl = apex.negative_ttl.min(negative_ttl);
            for server in &set.spec.zone.name_servers {
                match DnsName::new(server) {
                    Ok(server) => _ = apex.name_servers.insert(server),
                    Err(_) => complaints.push(format!("{}: name server {server} is no name", set.name)),
                }
            }
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
                if record.value.is_empty() || record.value.len() > MAX_TEXT {
                    let length = record.value.len();
                    complaints.push(format!(
                        "{}: the text of {name} has {length} bytes, not 1 to {MAX_TEXT}",
                        set.name
                    ));
                    continue;
                }
                if snapshot.records.contains_key(&name) {
                    complaints.push(format!(
                        "{}: {name} is there already, in this or an older record set; two keys at one name would verify at random",
                        set.name
                    ));
                    continue;
                }
                let ttl = u32::try_from(record.ttl).unwrap_or(0);
                snapshot.records.insert(name, Text { ttl, text: record.value.clone() });
            }
        }
        // A zone makes the names between it and a zone above it exist as well.
        let mut between = HashSet::new();
        for name in snapshot.records.keys().chain(snapshot.zones.keys()) {
            let Some((zone, _)) = snapshot.above(name) else { continue };
            let mut above = name.parent();
            while let Some(name) = above.filter(|name| *name != zone) {
                above = name.parent();
                between.insert(name);
            }
        }
        snapshot.between = between;
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

    /// The zone that holds what is directly above a name; `None` where that is not ours.
    #[must_use]
    pub(super) fn above(&self, name: &DnsName) -> Option<(DnsName, &Apex)> {
        self.zone_of(&name.parent()?)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::testing::{APEX, KEY, set};

    fn name(text: &str) -> DnsName {
        DnsName::new(text).unwrap()
    }

    fn kind(snapshot: &Snapshot, at: &str) -> &'static str {
        match snapshot.find(&name(at)) {
            Found::Elsewhere => "elsewhere",
            Found::Apex { .. } => "apex",
            Found::Text { .. } => "text",
            Found::Between { .. } => "between",
            Found::Nothing { .. } => "nothing",
        }
    }

    #[test]
    fn every_name_has_its_place() {
        let sets = [set("contoso.com", APEX, &[(KEY, "v=DKIM1; p="), (&format!("a.b.c.{APEX}"), "x")])];
        let (snapshot, complaints) = Snapshot::build(&sets, 1);
        assert_eq!((complaints.as_slice(), snapshot.size()), ([].as_slice(), (1, 2)));
        for (at, expected) in [
            (APEX, "apex"),
            (KEY, "text"),
            (&format!("a.b.c.{APEX}"), "text"),
            (&format!("b.c.{APEX}"), "between"),
            (&format!("c.{APEX}"), "between"),
            (&format!("x.a.b.c.{APEX}"), "nothing"),
            (&format!("x.c.{APEX}"), "nothing"),
            (&format!("*.{APEX}"), "nothing"),
            ("onmail.example", "elsewhere"),
            ("example", "elsewhere"),
            (&format!("x{APEX}"), "elsewhere"),
        ] {
            assert_eq!(kind(&snapshot, at), expected, "{at}");
        }
    }

    #[test]
    fn a_zone_below_a_zone_makes_the_names_between_exist() {
        let sets = [
            set("a.com", "onmail.example", &[("k._domainkey.onmail.example", "x")]),
            set("b.com", "_domainkey.b.c.onmail.example", &[("k._domainkey.b.c.onmail.example", "y")]),
        ];
        let (snapshot, complaints) = Snapshot::build(&sets, 1);
        assert_eq!(complaints, [""; 0]);
        for (at, expected) in [
            ("c.onmail.example", "between"),
            ("b.c.onmail.example", "between"),
            ("_domainkey.b.c.onmail.example", "apex"),
            ("_domainkey.onmail.example", "between"),
            ("x.b.c.onmail.example", "nothing"),
            ("example", "elsewhere"),
        ] {
            assert_eq!(kind(&snapshot, at), expected, "{at}");
        }
        let above = snapshot.above(&name("_domainkey.b.c.onmail.example")).unwrap();
        assert_eq!(above.0, name("onmail.example"));
        assert!(snapshot.above(&name("onmail.example")).is_none());
    }

    #[test]
    fn what_cannot_be_served_is_said_and_hurts_nothing_else() {
        let at = |label: &str| format!("{label}.{APEX}");
        let (long, most) = ("x".repeat(MAX_TEXT + 1), "x".repeat(MAX_TEXT));
        let mut bad = set(
            "bad.com",
            APEX,
            &[
                (&at("empty"), ""),
                (&at("long"), &long),
                (&at("most"), &most),
                ("two..dots", "x"),
                ("else.where", "x"),
                (APEX, "x"),
                (&at("twice"), "first"),
                (&at("twice"), "second"),
                (&at("good"), "good"),
            ],
        );
        bad.spec.zone.name_servers.push("no name".to_owned());
        let (snapshot, complaints) = Snapshot::build([&bad, &set("fine.com", APEX, &[(KEY, "fine")])], 1);
        assert_eq!(complaints.len(), 7, "{complaints:#?}");
        assert!(complaints.iter().all(|c| c.starts_with("bad.com: ")), "{complaints:#?}");
        for (at, expected) in [
            (at("empty"), "nothing"),
            (at("long"), "nothing"),
            (at("most"), "text"),
            (at("good"), "text"),
            (KEY.to_owned(), "text"),
        ] {
            assert_eq!(kind(&snapshot, &at), expected, "{at}");
        }
        let Found::Text { text, apex, .. } = snapshot.find(&name(&at("twice"))) else { panic!() };
        assert_eq!(text.text, "first");
        assert_eq!(apex.name_servers.len(), 1);
    }

    #[test]
    fn the_older_set_keeps_a_name_and_the_shortest_negative_ttl_counts() {
        let (mut old, mut new) =
            (set("old.com", APEX, &[(KEY, "old")]), set("new.com", APEX, &[(KEY, "new")]));
        new.created = old.created + jiff::SignedDuration::from_secs(1);
        (old.spec.zone.negative_ttl, new.spec.zone.negative_ttl) = (60, 300);
        for order in [[&old, &new], [&new, &old]] {
            let (snapshot, complaints) = Snapshot::build(order, 1);
            assert_eq!(complaints.len(), 1);
            assert!(complaints[0].starts_with("new.com: "), "{complaints:?}");
            let Found::Text { text, apex, .. } = snapshot.find(&name(KEY)) else { panic!() };
            assert_eq!((text.text.as_str(), apex.negative_ttl), ("old", 60));
        }
    }
}
