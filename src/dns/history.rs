//! What changed in a zone, change by change: what incremental transfers send (RFC 1995).

use std::collections::VecDeque;
use std::sync::Arc;

use super::snapshot::{Node, Snapshot, Text, Zone};
use super::wire_name::{WireName, is_below};

/// Most changes that are kept for a zone.
const MOST_CHANGES: usize = 512;
/// Most records in all changes that are kept for a zone. A secondary that is farther behind gets the whole zone.
const MOST_RECORDS: usize = 4096;

/// One record as transfers send it; SOA is not among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// A key record.
    Text(Arc<Text>),
    /// An NS record: of the apex, or of a zone below.
    Ns {
        /// The owner.
        owner: WireName,
        /// The server.
        server: WireName,
    },
}

/// One change of a zone.
#[derive(Debug, Default)]
pub struct Change {
    /// The serial before.
    pub from: u32,
    /// The serial after.
    pub to: u32,
    /// The SOA minimum before: it is part of the SOA that is removed.
    pub negative_ttl_before: u32,
    /// The first name server before, which is in that SOA as well.
    pub primary_before: Option<WireName>,
    /// What is not there any more.
    pub removed: Vec<Piece>,
    /// What is new.
    pub added: Vec<Piece>,
}

/// The last changes of a zone, each beginning at the serial where the one before ended.
#[derive(Debug, Clone, Default)]
pub struct History {
    changes: VecDeque<Arc<Change>>,
    records: usize,
}

impl History {
    /// The history after one more change.
    #[must_use]
    pub fn with(&self, change: Change) -> Self {
        let mut next = self.clone();
        next.records += change.removed.len() + change.added.len();
        next.changes.push_back(Arc::new(change));
        while next.changes.len() > MOST_CHANGES || next.records > MOST_RECORDS {
            let Some(oldest) = next.changes.pop_front() else { break };
            next.records = next.records.saturating_sub(oldest.removed.len() + oldest.added.len());
        }
        next
    }

    /// The changes since a serial; `None` where that is not known any more, or never was.
    pub fn since(&self, serial: u32) -> Option<impl Iterator<Item = &Arc<Change>> + use<'_>> {
        let first = self.changes.iter().position(|change| change.from == serial)?;
        Some(self.changes.range(first..))
    }
}

/// All records of a zone but its SOA: NS records first, also those of zones below.
#[must_use]
pub fn pieces(snapshot: &Snapshot, zone: &WireName) -> Vec<Piece> {
    let mut texts = Vec::new();
    let mut servers = Vec::new();
    let ns = |of: &Zone| -> Vec<Piece> {
        let piece = |server: &WireName| Piece::Ns { owner: of.name.clone(), server: server.clone() };
        of.name_servers.iter().map(piece).collect()
    };
    if let Some(zone) = snapshot.zone(zone) {
        servers.extend(ns(zone));
    }
    for node in snapshot.nodes().filter(|node| is_below(node.name(), zone)) {
        if snapshot.zone_above(node.name()).is_none_or(|above| above.name != *zone) {
            continue;
        }
        match node {
            Node::Text(text) => texts.push(Piece::Text(Arc::clone(text))),
            Node::Zone(below) => servers.extend(ns(below)),
            Node::Between(_) => {}
        }
    }
    servers.extend(texts);
    servers
}

/// Whether `a` is after `b` by serial number arithmetic (RFC 1982 §3.2).
#[must_use]
pub fn is_after(a: u32, b: u32) -> bool {
    a != b && a.wrapping_sub(b) < 1 << 31
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece() -> Piece {
        let name = |text: &str| WireName::from(&crate::model::name::DnsName::new(text).unwrap());
        Piece::Ns { owner: name("a"), server: name("b") }
    }

    #[test]
    fn a_known_serial_gives_the_changes_after_it() {
        let mut history = History::default();
        for from in 1..=3 {
            history = history.with(Change { from, to: from + 1, ..Change::default() });
        }
        let since = |serial| history.since(serial).map(|all| all.map(|c| c.to).collect::<Vec<_>>());
        assert_eq!(since(2), Some(vec![3, 4]));
        assert_eq!((since(4), since(0)), (None, None));
    }

    #[test]
    fn it_forgets_the_oldest() {
        let mut history = History::default();
        for from in 0..1000 {
            history = history.with(Change { from, to: from + 1, added: vec![piece()], ..Change::default() });
        }
        assert_eq!(history.since(999 - 511).unwrap().count(), 512);
        assert!(history.since(999 - 512).is_none());
        let added = vec![piece(); MOST_RECORDS + 1];
        history = history.with(Change { from: 1000, to: 1001, added, ..Change::default() });
        assert!(history.since(1000).is_none());
        assert_eq!(history.records, 0);
    }

    #[test]
    fn serials_are_compared_around_the_end() {
        assert!(is_after(1, 0) && is_after(0, u32::MAX) && is_after(5, u32::MAX - 5));
        assert!(!is_after(0, 0) && !is_after(0, 1) && !is_after(u32::MAX, 0));
    }
}
