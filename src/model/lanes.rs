//! Lanes: the pairs of slots that a domain signs with. Every domain has the primary one; a domain that asks for a second
//! signature (RFC 8463 beside RSA) has another, with selectors and CNAMEs of its own.

use serde::{Deserialize, Serialize};

/// Which pair of slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LaneId {
    /// The one that every domain has.
    Primary,
    /// That of the second signature.
    Second,
}

impl LaneId {
    /// Both, in order.
    pub const ALL: [LaneId; 2] = [LaneId::Primary, LaneId::Second];
}

/// A thing for each lane that a domain has.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PerLane<T> {
    /// For the primary lane.
    pub primary: T,
    /// For the second one, where there is one.
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    pub second: Option<T>,
}

fn none<T>() -> Option<T> {
    None
}

impl<T> PerLane<T> {
    /// Each lane with its thing, in order.
    pub fn iter(&self) -> impl Iterator<Item = (LaneId, &T)> {
        let second = self.second.iter().map(|thing| (LaneId::Second, thing));
        std::iter::once((LaneId::Primary, &self.primary)).chain(second)
    }

    /// A lane's thing.
    #[must_use]
    pub fn get(&self, lane: LaneId) -> Option<&T> {
        match lane {
            LaneId::Primary => Some(&self.primary),
            LaneId::Second => self.second.as_ref(),
        }
    }

    /// A lane's thing, to be changed.
    pub fn get_mut(&mut self, lane: LaneId) -> Option<&mut T> {
        match lane {
            LaneId::Primary => Some(&mut self.primary),
            LaneId::Second => self.second.as_mut(),
        }
    }

    /// Another thing for each lane.
    pub fn map<U>(&self, mut make: impl FnMut(LaneId, &T) -> U) -> PerLane<U> {
        PerLane {
            primary: make(LaneId::Primary, &self.primary),
            second: self.second.as_ref().map(|thing| make(LaneId::Second, thing)),
        }
    }
}
