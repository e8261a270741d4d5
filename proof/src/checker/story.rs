//! The small worlds.

use super::world::Spec;

/// Kinds of faults, as bits.
pub mod faults {
    /// The controller dies between two writes.
    pub const CRASH: u16 = 1;
    /// The Secret or a key in it is deleted by hand.
    pub const LOSS: u16 = 2;
    /// The tenant takes a CNAME away or puts another there.
    pub const TENANT: u16 = 4;
    /// The spec is edited.
    pub const EDIT: u16 = 8;
    /// The clock is set back.
    pub const CLOCK: u16 = 16;
    /// The DkimDomain is deleted.
    pub const DELETE: u16 = 32;
    /// A second controller is at work, and slow.
    pub const SECOND: u16 = 64;
    /// Somebody goes by an old look.
    pub const STALE: u16 = 128;
    /// The keys fall into the wrong hands.
    pub const COMPROMISE: u16 = 256;
    /// A signer that reports lags.
    pub const LAG: u16 = 512;
    /// The domain gets another name at the provider.
    pub const MOVE: u16 = 1024;
    /// Any.
    pub const ALL: u16 = u16::MAX;
}

/// A small world of its own: where its histories begin, and which faults are met in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Story {
    /// A DkimDomain that was just made.
    New,
    /// One that signs as the domain, both keys published.
    Running,
    /// Such a one whose keys fall into the wrong hands.
    Compromised,
    /// Such a one with a signer that reports which key it uses.
    Reported,
    /// Such a one that is deleted with its keys left behind.
    Orphaned,
    /// Such a one that moves.
    Moved,
    /// Such a one whose move is called off, or goes wrong: controllers die, or are two, or do not hear all servers.
    CalledOff,
    /// Such a one whose tenant's DNS host shows copies of the keys, now and then or always, where there are CNAMEs.
    Hidden,
    /// Such a one that is rolled while it moves.
    Rolled,
    /// One that signs as its provider and moves, with a signer that reports which names it uses.
    Trailing,
    /// Such a one with a second signature.
    Doubled,
    /// Such a one whose tenant publishes copies of the keys.
    Copied,
    /// A new one to which the user brings a key.
    Brought,
}

impl Story {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::New,
        Self::Running,
        Self::Compromised,
        Self::Reported,
        Self::Orphaned,
        Self::Moved,
        Self::CalledOff,
        Self::Hidden,
        Self::Rolled,
        Self::Trailing,
        Self::Doubled,
        Self::Copied,
        Self::Brought,
    ];

    /// For people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::New => "a new domain",
            Self::Running => "a domain that runs",
            Self::Compromised => "keys in the wrong hands",
            Self::Reported => "a signer that reports",
            Self::Orphaned => "keys left behind",
            Self::Moved => "a domain that moves",
            Self::CalledOff => "a move that is called off",
            Self::Hidden => "copies that hide the CNAMEs of a move",
            Self::Rolled => "a rotation during a move",
            Self::Trailing => "a signer that trails behind a move",
            Self::Doubled => "a second signature",
            Self::Copied => "keys published by the tenant",
            Self::Brought => "a key that is brought",
        }
    }

    /// The faults that are met in it, one at a time.
    #[must_use]
    pub fn kinds(self) -> u16 {
        use faults::{CLOCK, COMPROMISE, CRASH, DELETE, EDIT, LAG, LOSS, MOVE, SECOND, STALE, TENANT};
        match self {
            Self::New => 0,
            Self::Running => CRASH | LOSS | TENANT | EDIT | CLOCK | DELETE | SECOND | STALE,
            Self::Compromised => COMPROMISE,
            Self::Reported => LAG,
            Self::Orphaned => DELETE,
            Self::Moved | Self::Hidden | Self::Rolled => MOVE,
            Self::CalledOff => MOVE | CRASH | SECOND,
            Self::Trailing => MOVE | LAG,
            Self::Doubled => EDIT,
            Self::Copied => 0,
            Self::Brought => 0,
        }
    }

    /// Faults at most in one of its histories, in the default run.
    #[must_use]
    pub fn faults(self) -> u8 {
        match self {
            // It takes a move for one to be called off, or for a signer to trail behind it.
            Self::CalledOff | Self::Hidden | Self::Trailing => 2,
            _ => u8::from(self.kinds() != 0),
        }
    }

    /// Whether names change in it.
    #[must_use]
    pub fn moves(self) -> bool {
        matches!(self, Self::Moved | Self::CalledOff | Self::Hidden | Self::Rolled | Self::Trailing)
    }

    /// What the spec says from the first.
    #[must_use]
    pub fn spec(self) -> Spec {
        Spec {
            second: self == Self::Doubled,
            copies: self == Self::Copied,
            brings: self == Self::Brought,
            ..Spec::default()
        }
    }
}
