//! What happened to one domain, as a record of what was the case from when.

use super::Seconds;
use crate::keys::KeyId;
use crate::sight::TextAnswer;

/// Pairs of slots that a domain may sign with.
pub const LANES: usize = 2;
/// The tenant's CNAMEs: two for each pair of slots.
pub const ALIASES: usize = 2 * LANES;

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

/// Where a signature says that its key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Behind one of the tenant's CNAMEs.
    Alias(usize),
    /// At one of our names.
    Name(usize),
}

/// A signature that signers are told to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// Where its key is looked for.
    pub way: Way,
    /// Which key.
    pub key: KeyId,
}

/// A CNAME of the tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alias {
    /// To which of our names it leads, if to one.
    pub leads: Option<usize>,
    /// For how long resolvers remember it so.
    pub ttl: Seconds,
    /// Counts its changes.
    pub number: usize,
}

/// One of our names, as each of our servers serves it.
#[derive(Debug, Clone)]
pub struct Name {
    /// In words.
    pub text: String,
    /// What is served.
    pub served: [Line<TextAnswer>; 2],
}

/// Everything that matters to mail.
#[derive(Debug, Clone)]
pub struct History {
    /// What signers are told, signature by signature.
    pub told: [Line<Option<Told>>; LANES],
    /// Our names, by number.
    pub names: Vec<Name>,
    /// The tenant's CNAMEs.
    pub aliases: [Line<Alias>; ALIASES],
    /// When the controller took note that a CNAME was gone, by number.
    pub noticed: [Vec<Option<Seconds>>; ALIASES],
    /// The keys that were revoked, and when.
    pub revoked: Vec<(KeyId, Seconds)>,
    /// Rotations.
    pub rotations: u64,
    /// Moves that came to their end.
    pub moves: u64,
    /// Reconciles.
    pub reconciles: u64,
}

impl History {
    /// Of a domain to which nothing has happened yet, in a zone that denies names for so many seconds.
    pub fn new(negative_ttl: Seconds) -> Self {
        let gone = Alias { leads: None, ttl: negative_ttl, number: 0 };
        Self {
            told: [None; LANES].map(Line::new),
            names: Vec::new(),
            aliases: [gone; ALIASES].map(Line::new),
            // From the first it must be reckoned with that no CNAME is there.
            noticed: [Some(0); ALIASES].map(|known| vec![known]),
            revoked: Vec::new(),
            rotations: 0,
            moves: 0,
            reconciles: 0,
        }
    }

    /// A name's number.
    pub fn name(&mut self, text: &str) -> usize {
        if let Some(known) = self.names.iter().position(|name| name.text == text) {
            return known;
        }
        let served = [TextAnswer::Nothing; 2].map(Line::new);
        self.names.push(Name { text: text.to_owned(), served });
        self.names.len() - 1
    }
}
