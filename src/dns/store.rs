//! Keeps the snapshot up to date, record set by record set: a change costs what it changes, however much is served.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::history::{Change, History, Piece, is_after};
use super::set::{Claim, Held, MAX_SERVERS, Set, twice};
use super::snapshot::{Node, Snapshot, Text, Zone};
use super::wire_name::{WireName, labels, suffixes};

/// The record sets that are held, by name.
pub type Sets = HashMap<Arc<str>, Arc<Held>>;

/// All that is known, and the snapshot made of it.
#[derive(Debug, Default)]
pub struct Store {
    current: Snapshot,
    sets: Sets,
    zones: HashMap<WireName, Claims>,
    /// How many zones have so many labels.
    depths: BTreeMap<usize, usize>,
    /// How many texts and zones are below a name.
    below: HashMap<WireName, usize>,
    /// Texts at names where an older set's text, or a zone, is served.
    waiting: HashMap<WireName, Vec<Arc<Text>>>,
    /// What was at each name that has changed since the last commit.
    touched: HashMap<WireName, Option<Node>>,
    /// There has been a commit: from then on changes are recorded.
    recording: bool,
}

/// What all sets ask of a zone, each different claim with the number of sets that make it.
type Claims = Vec<(Arc<Claim>, usize)>;

/// What a commit does to a zone.
#[derive(Default)]
struct Delta {
    change: Change,
    /// Not to be told piece by piece: whole zones came or went.
    reset: bool,
}

impl Store {
    /// Takes a set as it is now; returns what of it cannot be served, in words.
    pub fn apply(&mut self, set: &Set) -> Vec<String> {
        let (mut held, mut complaints) = Held::new(set);
        let before = self.sets.remove(set.name.as_str());
        let (mut old_texts, old_claims) = match &before {
            Some(before) => (before.texts.clone(), before.claims.clone()),
            None => (Vec::new(), Vec::new()),
        };
        for claim in &mut held.claims {
            *claim = self.claim(claim);
        }
        for claim in &old_claims {
            self.disclaim(claim);
        }
        // What stays as it is keeps its place.
        let mut fresh = Vec::new();
        for text in &mut held.texts {
            match old_texts.iter().position(|old| **old == **text) {
                Some(at) => *text = old_texts.swap_remove(at),
                None => fresh.push(Arc::clone(text)),
            }
        }
        for text in &old_texts {
            self.remove_text(text);
        }
        for text in fresh {
            if let Some(loser) = self.add_text(text) {
                complaints.push(format!("{}: {}", loser.origin.set, twice(&loser.name)));
            }
        }
        self.sets.insert(Arc::clone(&held.origin.set), Arc::new(held));
        complaints
    }

    /// Takes a set away.
    pub fn remove(&mut self, name: &str) {
        let Some(held) = self.sets.remove(name) else { return };
        for text in &held.texts {
            self.remove_text(text);
        }
        for claim in &held.claims {
            self.disclaim(claim);
        }
    }

    /// Takes all sets away that are not among these.
    pub fn retain(&mut self, names: &HashSet<String>) {
        let gone: Vec<Arc<str>> =
            self.sets.keys().filter(|name| !names.contains(&***name)).cloned().collect();
        for name in gone {
            self.remove(&name);
        }
    }

    /// Ends a change: zones that are different get a serial, `version` or the next one where that is not greater.
    /// Returns those zones.
    pub fn commit(&mut self, version: u32) -> Vec<WireName> {
        let deltas = if self.recording { self.deltas() } else { self.everything() };
        self.recording = true;
        let mut changed = Vec::new();
        for (name, mut delta) in deltas {
            let Some(zone) = self.current.zone(&name).cloned() else { continue };
            let serial = match () {
                // Zero is the serial of a zone that never was.
                () if zone.serial == 0 || is_after(version, zone.serial) => version,
                () => zone.serial.wrapping_add(1),
            };
            let history = if delta.reset {
                Arc::default()
            } else {
                (delta.change.from, delta.change.to) = (zone.serial, serial);
                Arc::new(zone.history.with(delta.change))
            };
            let next = Zone { serial, history, ..(*zone).clone() };
            self.current.put(&name, Some(Node::Zone(Arc::new(next))));
            changed.push(name);
        }
        changed
    }

    /// Sets the serial of a zone, as it was when the zone was stored.
    pub fn restore_serial(&mut self, name: &WireName, serial: u32) {
        if let Some(zone) = self.current.zone(name).cloned() {
            let next = Zone { serial, history: Arc::default(), ..(*zone).clone() };
            self.current.put(name, Some(Node::Zone(Arc::new(next))));
        }
    }

    /// Nothing has changed since the last commit.
    #[must_use]
    pub fn is_committed(&self) -> bool {
        self.touched.is_empty()
    }

    /// What is served after the last commit.
    #[must_use]
    pub fn snapshot(&self) -> &Snapshot {
        &self.current
    }

    /// What is held.
    #[must_use]
    pub fn sets(&self) -> &Sets {
        &self.sets
    }

    /// A first commit: every zone is new.
    fn everything(&mut self) -> BTreeMap<WireName, Delta> {
        let new = || Delta { reset: true, ..Delta::default() };
        self.zones.keys().map(|name| (name.clone(), new())).collect()
    }

    /// What has changed since the last commit, zone by zone.
    fn deltas(&mut self) -> BTreeMap<WireName, Delta> {
        let mut deltas: BTreeMap<WireName, Delta> = BTreeMap::new();
        for (name, before) in std::mem::take(&mut self.touched) {
            let after = self.current.node(&name).cloned();
            let above = self.current.zone_above(&name).map(|zone| zone.name.clone());
            match (&before, &after) {
                (Some(Node::Zone(old)), Some(Node::Zone(new))) => {
                    if old.name_servers == new.name_servers && old.negative_ttl == new.negative_ttl {
                        continue;
                    }
                    let change = &mut deltas.entry(name.clone()).or_default().change;
                    change.negative_ttl_before = old.negative_ttl;
                    change.primary_before = Some(old.primary().clone());
                    let ns = |servers: &[WireName], but: &[WireName]| -> Vec<Piece> {
                        let servers = servers.iter().filter(|server| !but.contains(server)).cloned();
                        servers.map(|server| Piece::Ns { owner: name.clone(), server }).collect()
                    };
                    change.removed.extend(ns(&old.name_servers, &new.name_servers));
                    change.added.extend(ns(&new.name_servers, &old.name_servers));
                    // The zone above has these NS records, too.
                    if let Some(above) = above {
                        deltas.entry(above).or_default().reset = true;
                    }
                }
                (Some(Node::Zone(_)), _) | (_, Some(Node::Zone(_))) => {
                    // Names have moved between this zone and the one above.
                    for zone in [Some(name), above].into_iter().flatten() {
                        deltas.entry(zone).or_default().reset = true;
                    }
                }
                (old, new) => {
                    let text = |node: &Option<Node>| match node {
                        Some(Node::Text(text)) => Some(Arc::clone(text)),
                        _ => None,
                    };
                    let (old, new) = (text(old), text(new));
                    let record = |text: &Option<Arc<Text>>| text.as_ref().map(|t| t.record.clone());
                    if record(&old) == record(&new) {
                        continue;
                    }
                    if let Some(zone) = above {
                        let change = &mut deltas.entry(zone).or_default().change;
                        change.removed.extend(old.map(Piece::Text));
                        change.added.extend(new.map(Piece::Text));
                    }
                }
            }
        }
        for (name, delta) in &mut deltas {
            if let (None, Some(zone)) = (&delta.change.primary_before, self.current.zone(name)) {
                delta.change.primary_before = Some(zone.primary().clone());
                delta.change.negative_ttl_before = zone.negative_ttl;
            }
        }
        deltas
    }

    /// Puts a node where it belongs and remembers what was there.
    fn put(&mut self, name: &WireName, node: Option<Node>) {
        let before = self.current.put(name, node);
        if self.recording {
            self.touched.entry(name.clone()).or_insert(before);
        }
    }

    /// Counts a name below all names above it.
    fn raise(&mut self, name: &WireName) {
        for above in suffixes(name).skip(1) {
            if let Some(count) = self.below.get_mut(above) {
                *count += 1;
                continue;
            }
            let above = WireName::from_wire(above);
            self.below.insert(above.clone(), 1);
            if self.current.node(&above).is_none() {
                self.put(&above.clone(), Some(Node::Between(above)));
            }
        }
    }

    /// The opposite of [`Store::raise`].
    fn lower(&mut self, name: &WireName) {
        for above in suffixes(name).skip(1) {
            let Some(count) = self.below.get_mut(above) else { continue };
            *count -= 1;
            if *count > 0 {
                continue;
            }
            self.below.remove(above);
            if let Some(Node::Between(name)) = self.current.node(above) {
                self.put(&name.clone(), None);
            }
        }
    }

    /// Adds a text; returns the one that is not served because of another, if so.
    fn add_text(&mut self, text: Arc<Text>) -> Option<Arc<Text>> {
        let name = text.name.clone();
        self.raise(&name);
        let loser = match self.current.node(&name) {
            Some(Node::Text(there)) if there.origin > text.origin => {
                let there = Arc::clone(there);
                self.put(&name, Some(Node::Text(text)));
                Some(there)
            }
            Some(Node::Text(_) | Node::Zone(_)) => Some(text),
            Some(Node::Between(_)) | None => {
                self.put(&name, Some(Node::Text(text)));
                None
            }
        };
        if let Some(loser) = &loser {
            self.waiting.entry(name).or_default().push(Arc::clone(loser));
        }
        loser
    }

    fn remove_text(&mut self, text: &Arc<Text>) {
        let name = &text.name;
        if matches!(self.current.node(name), Some(Node::Text(there)) if Arc::ptr_eq(there, text)) {
            let next = self.next_at(name);
            self.put(name, next);
        } else if let Some(waiting) = self.waiting.get_mut(name) {
            waiting.retain(|other| !Arc::ptr_eq(other, text));
            if waiting.is_empty() {
                self.waiting.remove(name);
            }
        }
        self.lower(name);
    }

    /// What is at a name once the text or zone there is gone: the oldest text that waits, or nothing.
    fn next_at(&mut self, name: &WireName) -> Option<Node> {
        if let Some(waiting) = self.waiting.get_mut(name) {
            let oldest = (0..waiting.len()).min_by(|a, b| {
                let origin = |at: &usize| waiting.get(*at).map(|text| &text.origin);
                origin(a).cmp(&origin(b))
            });
            let text = oldest.map(|at| waiting.swap_remove(at));
            if waiting.is_empty() {
                self.waiting.remove(name);
            }
            if let Some(text) = text {
                return Some(Node::Text(text));
            }
        }
        self.below.contains_key(name).then(|| Node::Between(name.clone()))
    }

    /// Counts a claim; the same one is held once for all sets.
    fn claim(&mut self, claim: &Arc<Claim>) -> Arc<Claim> {
        let claims = self.zones.entry(claim.apex.clone()).or_default();
        if let Some((same, count)) = claims.iter_mut().find(|(other, _)| other == claim) {
            *count += 1;
            return Arc::clone(same);
        }
        claims.push((Arc::clone(claim), 1));
        if claims.len() == 1 {
            *self.depths.entry(labels(&claim.apex).count()).or_default() += 1;
            self.raise(&claim.apex);
            if let Some(Node::Text(there)) = self.current.node(&claim.apex) {
                let there = Arc::clone(there);
                self.waiting.entry(claim.apex.clone()).or_default().push(there);
            }
        }
        self.settle_zone(&claim.apex);
        Arc::clone(claim)
    }

    fn disclaim(&mut self, claim: &Arc<Claim>) {
        let Some(claims) = self.zones.get_mut(&claim.apex) else { return };
        let Some(at) = claims.iter().position(|(other, _)| Arc::ptr_eq(other, claim)) else { return };
        if let Some((_, count)) = claims.get_mut(at) {
            *count -= 1;
            if *count > 0 {
                return;
            }
        }
        claims.swap_remove(at);
        if claims.is_empty() {
            self.zones.remove(&claim.apex);
            let depth = labels(&claim.apex).count();
            if let Some(count) = self.depths.get_mut(&depth) {
                *count -= 1;
                if *count == 0 {
                    self.depths.remove(&depth);
                }
            }
            let next = self.next_at(&claim.apex);
            self.put(&claim.apex, next);
            self.lower(&claim.apex);
        }
        self.settle_zone(&claim.apex);
    }

    /// Makes the zone's node what its claims ask for.
    fn settle_zone(&mut self, name: &WireName) {
        self.current.set_deepest(self.depths.keys().next_back().copied().unwrap_or(0));
        let Some(claims) = self.zones.get(name) else { return };
        let mut name_servers: Vec<WireName> =
            claims.iter().flat_map(|(claim, _)| claim.servers.iter().cloned()).collect();
        name_servers.sort();
        name_servers.dedup();
        name_servers.truncate(MAX_SERVERS);
        let negative_ttl = claims.iter().map(|(claim, _)| claim.negative).min().unwrap_or(0);
        let there = self.current.zone(name);
        if there.is_some_and(|z| z.name_servers == name_servers && z.negative_ttl == negative_ttl) {
            return;
        }
        // A zone that went and came back within one change goes on where it was.
        let before = match self.touched.get(name) {
            Some(Some(Node::Zone(before))) => Some(before),
            _ => None,
        };
        let there = there.or(before);
        let serial = there.map_or(0, |zone| zone.serial);
        let history: Arc<History> = there.map(|zone| Arc::clone(&zone.history)).unwrap_or_default();
        let zone = Zone { name: name.clone(), name_servers, negative_ttl, serial, history };
        self.put(name, Some(Node::Zone(Arc::new(zone))));
    }
}

impl Snapshot {
    /// A snapshot of sets, every zone with this serial; and what cannot be served, in words.
    #[must_use]
    pub fn build<'a>(sets: impl IntoIterator<Item = &'a Set>, serial: u32) -> (Self, Vec<String>) {
        let mut store = Store::default();
        let complaints = sets.into_iter().flat_map(|set| store.apply(set)).collect();
        store.commit(serial);
        (store.current, complaints)
    }
}

#[cfg(test)]
mod tests;
