//! Everything that is served, at one instant. Immutable once published: a change makes a new snapshot, which shares
//! all but the few shards that are different with the one before.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use jiff::Timestamp;

use super::history::History;
use super::query::{IN, Name, kind};
use super::wire_name::{WireName, parent, suffixes};

/// How many parts a snapshot has: one change copies one part. A power of two.
const SHARDS: usize = 1024;
/// Longest character-string of a TXT record (RFC 1035 §3.3).
const MAX_STRING: usize = 255;
/// Shifts a hash to the number of its shard.
const SHIFT: u32 = u64::BITS - SHARDS.trailing_zeros();

/// Where a record comes from.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// When the record set was created: of two with one owner name the older one is served.
    pub created: Timestamp,
    /// Its name.
    pub set: Arc<str>,
}

/// A key record, ready to be sent.
#[derive(Debug, PartialEq, Eq)]
pub struct Text {
    /// The owner.
    pub name: WireName,
    /// The record after its owner: type, class, TTL, length, character-strings.
    pub record: Box<[u8]>,
    /// Whose it is.
    pub origin: Arc<Origin>,
}

impl Text {
    /// Renders a record.
    #[must_use]
    pub fn new(name: WireName, ttl: u32, text: &str, origin: Arc<Origin>) -> Self {
        let strings = text.len() + text.len().div_ceil(MAX_STRING);
        let mut record = Vec::with_capacity(10 + strings);
        record.extend(kind::TXT.to_be_bytes());
        record.extend(IN.to_be_bytes());
        record.extend(ttl.to_be_bytes());
        record.extend(u16::try_from(strings).unwrap_or(0).to_be_bytes());
        for string in text.as_bytes().chunks(MAX_STRING) {
            // At most 255 bytes each.
            record.push(u8::try_from(string.len()).unwrap_or(0));
            record.extend(string);
        }
        Self { name, record: record.into(), origin }
    }

    /// Seconds.
    #[must_use]
    pub fn ttl(&self) -> u32 {
        self.record.get(4..8).and_then(|b| b.first_chunk()).map_or(0, |b| u32::from_be_bytes(*b))
    }

    /// The text, its character-strings joined.
    #[must_use]
    pub fn text(&self) -> String {
        let mut rest = self.record.get(10..).unwrap_or_default();
        let mut text = Vec::with_capacity(rest.len());
        while let Some((length, after)) = rest.split_first() {
            let Some((string, more)) = after.split_at_checked(usize::from(*length)) else { break };
            text.extend_from_slice(string);
            rest = more;
        }
        String::from_utf8_lossy(&text).into_owned()
    }
}

/// A zone's own records.
#[derive(Debug, Clone)]
pub struct Zone {
    /// The apex.
    pub name: WireName,
    /// The NS records, in order.
    pub name_servers: Vec<WireName>,
    /// The SOA minimum: the least that any of its sets asks for. Each set's controller waits as long as its own set
    /// says before a new key signs, so a greater one would let resolvers remember for longer than some wait.
    pub negative_ttl: u32,
    /// The SOA serial: the version of the last change in the zone.
    pub serial: u32,
    /// The last changes.
    pub history: Arc<History>,
}

impl Zone {
    /// The primary server's name in the SOA.
    #[must_use]
    pub fn primary(&self) -> &WireName {
        self.name_servers.first().unwrap_or(&self.name)
    }
}

/// What is at a name.
#[derive(Debug, Clone)]
pub enum Node {
    /// A key record.
    Text(Arc<Text>),
    /// The apex of a zone.
    Zone(Arc<Zone>),
    /// Nothing, but there is something below it.
    Between(WireName),
}

impl Node {
    /// The owner.
    #[must_use]
    pub fn name(&self) -> &WireName {
        match self {
            Self::Text(text) => &text.name,
            Self::Zone(zone) => &zone.name,
            Self::Between(name) => name,
        }
    }
}

/// What a question meets.
#[derive(Debug, Clone, Copy)]
pub enum Found<'a> {
    /// Not in a zone of ours.
    Elsewhere,
    /// The apex of a zone.
    Apex(&'a Zone),
    /// A key record.
    Text(&'a Text),
    /// A name in a zone without records that has names below it (RFC 8020: it exists).
    Between(&'a Zone),
    /// In a zone, but not there.
    Nothing(&'a Zone),
}

#[derive(Debug, Clone)]
struct Entry {
    hash: u64,
    node: Node,
}

/// Everything that is served.
#[derive(Debug, Clone)]
pub struct Snapshot {
    seed: RandomState,
    /// Each sorted by hash.
    shards: Vec<Arc<Vec<Entry>>>,
    /// Most labels of a zone: no longer name need be looked for.
    deepest: usize,
    /// How many zones and key records there are.
    size: (usize, usize),
    /// It comes from a file and the API server has not been heard of yet: a name may be missing that is there. So
    /// nothing is denied.
    pub unsure: bool,
}

impl Default for Snapshot {
    fn default() -> Self {
        let shards = vec![Arc::default(); SHARDS];
        Self { seed: RandomState::new(), shards, deepest: 0, size: (0, 0), unsure: false }
    }
}

impl Snapshot {
    /// A number for a name, the same in every snapshot that comes of this one. Not to be guessed from outside.
    #[must_use]
    pub fn hash(&self, name: &[u8]) -> u64 {
        self.seed.hash_one(name)
    }

    fn shard(&self, hash: u64) -> Option<&Arc<Vec<Entry>>> {
        self.shards.get(usize::try_from(hash >> SHIFT).unwrap_or(0))
    }

    /// What is at a name.
    #[must_use]
    pub fn node(&self, name: &[u8]) -> Option<&Node> {
        self.node_at(self.hash(name), name)
    }

    fn node_at(&self, hash: u64, name: &[u8]) -> Option<&Node> {
        let shard = self.shard(hash)?;
        let first = shard.partition_point(|entry| entry.hash < hash);
        let same = shard.get(first..)?.iter().take_while(|entry| entry.hash == hash);
        same.map(|entry| &entry.node).find(|node| **node.name() == *name)
    }

    /// What a question meets; `hash` is that of the name.
    #[must_use]
    pub fn find(&self, name: &Name, hash: u64) -> Found<'_> {
        let node = self.node_at(hash, name.wire());
        match node {
            Some(Node::Text(text)) => return Found::Text(text),
            Some(Node::Zone(zone)) => return Found::Apex(zone),
            Some(Node::Between(_)) | None => {}
        }
        // No zone has more labels than the deepest one.
        let skipped = name.labels().saturating_sub(self.deepest);
        let Some(zone) = suffixes(name.wire()).skip(skipped).find_map(|at| self.zone(at)) else {
            return Found::Elsewhere;
        };
        if node.is_some() { Found::Between(zone) } else { Found::Nothing(zone) }
    }

    /// The zone with this apex.
    #[must_use]
    pub fn zone(&self, name: &[u8]) -> Option<&Arc<Zone>> {
        match self.node(name) {
            Some(Node::Zone(zone)) => Some(zone),
            _ => None,
        }
    }

    /// The zone that a name is in.
    #[must_use]
    pub fn zone_of(&self, name: &[u8]) -> Option<&Arc<Zone>> {
        suffixes(name).find_map(|at| self.zone(at))
    }

    /// The zone that holds what is directly above a name; `None` where that is not ours.
    #[must_use]
    pub fn zone_above(&self, name: &[u8]) -> Option<&Arc<Zone>> {
        self.zone_of(parent(name)?)
    }

    /// Everything, in no order.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.shards.iter().flat_map(|shard| shard.iter()).map(|entry| &entry.node)
    }

    /// All zones, in no order.
    pub fn zones(&self) -> impl Iterator<Item = &Arc<Zone>> {
        self.nodes().filter_map(|node| if let Node::Zone(zone) = node { Some(zone) } else { None })
    }

    /// How many zones and key records are served.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        self.size
    }

    /// Tells how many labels the deepest zone has.
    pub(super) fn set_deepest(&mut self, labels: usize) {
        self.deepest = labels;
    }

    /// Puts a node at a name, or takes it away; returns what was there.
    pub(super) fn put(&mut self, name: &[u8], node: Option<Node>) -> Option<Node> {
        let hash = self.hash(name);
        let shard = self.shards.get_mut(usize::try_from(hash >> SHIFT).unwrap_or(0))?;
        let first = shard.partition_point(|entry| entry.hash < hash);
        let same = shard.iter().skip(first).take_while(|entry| entry.hash == hash);
        let at = same.enumerate().find(|(_, entry)| **entry.node.name() == *name).map(|(n, _)| first + n);
        let shard = Arc::make_mut(shard);
        count(&mut self.size, node.as_ref(), 1);
        let before = match (at, node) {
            (Some(at), Some(node)) => shard.get_mut(at).map(|entry| std::mem::replace(&mut entry.node, node)),
            (Some(at), None) => Some(shard.remove(at).node),
            (None, Some(node)) => {
                shard.insert(first, Entry { hash, node });
                None
            }
            (None, None) => None,
        };
        count(&mut self.size, before.as_ref(), -1);
        before
    }
}

fn count(size: &mut (usize, usize), node: Option<&Node>, by: isize) {
    match node {
        Some(Node::Zone(_)) => size.0 = size.0.saturating_add_signed(by),
        Some(Node::Text(_)) => size.1 = size.1.saturating_add_signed(by),
        Some(Node::Between(_)) | None => {}
    }
}
