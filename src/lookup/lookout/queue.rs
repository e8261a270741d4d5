//! Who is looked at next: what is due, first looks before routine ones, groups in turn.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;

use tokio::time::Instant;

/// After so many first looks in a row a routine one has its turn.
const IN_A_ROW: u32 = 8;

/// Which looks go ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Never looked at, or asked for.
    First,
    /// All else.
    Routine,
}

/// A place in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket {
    due: Instant,
    number: u64,
}

#[derive(Debug)]
struct Entry<K> {
    key: K,
    lane: Lane,
    group: u64,
}

/// What waits, for its time or for its turn.
#[derive(Debug)]
pub struct Queue<K> {
    waiting: BTreeMap<Ticket, Entry<K>>,
    first: Turns<K>,
    routine: Turns<K>,
    count: u64,
    in_a_row: u32,
}

impl<K> Default for Queue<K> {
    fn default() -> Self {
        Self {
            waiting: BTreeMap::new(),
            first: Turns::default(),
            routine: Turns::default(),
            count: 0,
            in_a_row: 0,
        }
    }
}

impl<K> Queue<K> {
    /// Puts a key in.
    pub fn push(&mut self, key: K, due: Instant, lane: Lane, group: u64) -> Ticket {
        self.count += 1;
        let ticket = Ticket { due, number: self.count };
        self.waiting.insert(ticket, Entry { key, lane, group });
        ticket
    }

    /// Takes one out, wherever it is.
    pub fn remove(&mut self, ticket: Ticket) {
        if self.waiting.remove(&ticket).is_none() {
            self.first.cancel(ticket);
            self.routine.cancel(ticket);
        }
    }

    /// Takes the next one whose turn it is; a routine one only if `routine`.
    pub fn pop(&mut self, now: Instant, routine: bool) -> Option<(K, Lane)> {
        while let Some(entry) = self.waiting.first_entry()
            && entry.key().due <= now
        {
            let (ticket, entry) = entry.remove_entry();
            let turns = match entry.lane {
                Lane::First => &mut self.first,
                Lane::Routine => &mut self.routine,
            };
            turns.push(ticket, entry.key, entry.group);
        }
        let patience = self.in_a_row < IN_A_ROW || !routine;
        if patience && let Some(key) = self.first.pop() {
            self.in_a_row += 1;
            return Some((key, Lane::First));
        }
        if routine && let Some(key) = self.routine.pop() {
            self.in_a_row = 0;
            return Some((key, Lane::Routine));
        }
        self.in_a_row = 0;
        self.first.pop().map(|key| (key, Lane::First))
    }

    /// When the next one falls due, of those that are not due at `now`.
    pub fn next_after(&self, now: Instant) -> Option<Instant> {
        let after = (Bound::Excluded(Ticket { due: now, number: u64::MAX }), Bound::Unbounded);
        self.waiting.range(after).next().map(|(ticket, _)| ticket.due)
    }
}

/// Keys whose time has come, group after group.
#[derive(Debug)]
struct Turns<K> {
    groups: HashMap<u64, BTreeMap<Ticket, K>>,
    order: VecDeque<u64>,
    place: HashMap<Ticket, u64>,
}

impl<K> Default for Turns<K> {
    fn default() -> Self {
        Self { groups: HashMap::new(), order: VecDeque::new(), place: HashMap::new() }
    }
}

impl<K> Turns<K> {
    fn push(&mut self, ticket: Ticket, key: K, group: u64) {
        let keys = self.groups.entry(group).or_insert_with(|| {
            self.order.push_back(group);
            BTreeMap::new()
        });
        keys.insert(ticket, key);
        self.place.insert(ticket, group);
    }

    fn cancel(&mut self, ticket: Ticket) {
        if let Some(group) = self.place.remove(&ticket)
            && let Some(keys) = self.groups.get_mut(&group)
        {
            // An empty group is dropped when its turn comes.
            keys.remove(&ticket);
        }
    }

    fn pop(&mut self) -> Option<K> {
        while let Some(group) = self.order.pop_front() {
            let Some(keys) = self.groups.get_mut(&group) else { continue };
            let found = keys.pop_first();
            if keys.is_empty() {
                self.groups.remove(&group);
            } else {
                self.order.push_back(group);
            }
            if let Some((ticket, key)) = found {
                self.place.remove(&ticket);
                return Some(key);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn all(queue: &mut Queue<&'static str>, now: Instant, routine: bool) -> Vec<&'static str> {
        std::iter::from_fn(|| queue.pop(now, routine).map(|(key, _)| key)).collect()
    }

    #[test]
    fn groups_take_turns() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for key in ["a1", "a2", "a3", "b1", "c1", "c2"] {
            queue.push(key, now, Lane::Routine, u64::from(key.as_bytes()[0]));
        }
        assert_eq!(all(&mut queue, now, true), ["a1", "b1", "c1", "a2", "c2", "a3"]);
        assert!(queue.first.groups.is_empty() && queue.routine.place.is_empty());
    }

    #[test]
    fn first_looks_go_ahead_but_not_for_ever() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for _ in 0..20 {
            queue.push("routine", now, Lane::Routine, 1);
        }
        for _ in 0..10 {
            queue.push("first", now, Lane::First, 1);
        }
        let order = all(&mut queue, now, true);
        assert!(order[..8].iter().all(|key| *key == "first"));
        assert_eq!(&order[8..12], ["routine", "first", "first", "routine"]);
        assert_eq!(order.len(), 30);
    }

    #[test]
    fn nothing_comes_before_its_time_or_after_it_was_taken_out() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let later = now + Duration::from_secs(1);
        queue.push("later", later, Lane::First, 1);
        let gone = queue.push("gone", now, Lane::First, 2);
        let waits = queue.push("waits", now, Lane::Routine, 1);
        queue.remove(gone);
        assert_eq!(queue.next_after(now), Some(later));
        assert_eq!(all(&mut queue, now, false), [""; 0], "no routine look was wanted");
        queue.remove(waits);
        assert_eq!(all(&mut queue, now, true), [""; 0]);
        assert_eq!(all(&mut queue, later, true), ["later"]);
        assert_eq!(queue.next_after(now), None);
    }
}
