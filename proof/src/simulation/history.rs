//! What happened to one domain, as a record of what was the case from when.

use super::Seconds;
use crate::keys::KeyId;

/// Values over time.
#[derive(Debug, Clone)]
pub struct Line<T>(Vec<(Seconds, T)>);

impl<T: Copy + PartialEq> Line<T> {
    /// A line that begins with a value.
    pub fn new(value: T) -> Self {
        Self(vec![(Seconds::MIN, value)])
    }

    /// From now on it is this.
    pub fn set(&mut self, now: Seconds, value: T) {
        if self.last() != value {
            self.0.push((now, value));
        }
    }

    /// The value now.
    pub fn last(&self) -> T {
        self.0.last().expect("never empty").1
    }

    /// The value at a moment, and since when.
    pub fn at(&self, at: Seconds) -> (Seconds, T) {
        let after = self.0.partition_point(|(since, _)| *since <= at);
        self.0[after - 1]
    }

    /// The moments at which it changed.
    pub fn changes(&self) -> impl Iterator<Item = Seconds> {
        self.0.iter().skip(1).map(|(since, _)| *since)
    }
}

/// What signers are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// Sign as the domain.
    pub as_domain: bool,
    /// Which slot.
    pub slot: usize,
    /// Which key.
    pub key: KeyId,
}

/// A CNAME of the tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alias {
    /// It is there.
    pub right: bool,
    /// For how long resolvers remember it so.
    pub ttl: Seconds,
    /// Counts its changes.
    pub number: usize,
}

/// Everything that matters to mail.
#[derive(Debug, Clone)]
pub struct History {
    /// What signers are told.
    pub told: Line<Option<Told>>,
    /// What our servers serve: server by server, slot by slot.
    pub served: [[Line<Option<KeyId>>; 2]; 2],
    /// The tenant's CNAMEs.
    pub aliases: [Line<Alias>; 2],
    /// When the controller took note that a CNAME was gone, by number.
    pub noticed: [Vec<Option<Seconds>>; 2],
    /// The keys that were revoked, and when.
    pub revoked: Vec<(KeyId, Seconds)>,
    /// Rotations.
    pub rotations: u64,
    /// Reconciles.
    pub reconciles: u64,
}
