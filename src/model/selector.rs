//! Selectors (RFC 6376 §3.1): the label that tells two keys of one domain apart.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Longest selector taken, each hyphen counted twice. RFC 6376 would allow more, but the provider's label is
/// `SELECTOR-GUID`, hyphens of the selector doubled, and has 63 bytes for both.
pub const MAX_SELECTOR: usize = 30;

/// Why a text is not a usable selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" is no usable selector: 1 to {MAX_SELECTOR} lower-case letters, digits and inner hyphens (a hyphen counts twice), such as selector1"
)]
pub struct SelectorError(String);

/// One selector: a single lower-case LDH label of at most 30 characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Selector(String);

impl Selector {
    /// Parses a selector, folding case.
    ///
    /// # Errors
    /// [`SelectorError`] where it is no LDH label of 1 to 30 characters.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let folded = text.to_ascii_lowercase();
        let ldh = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let fits = !folded.is_empty()
            && width(&folded) <= MAX_SELECTOR
            && folded.bytes().all(ldh)
            && !folded.starts_with('-')
            && !folded.ends_with('-');
        if fits { Ok(Self(folded)) } else { Err(SelectorError(text.chars().take(64).collect())) }
    }

    /// Bytes that it takes in the provider's label.
    #[must_use]
    pub fn width(&self) -> usize {
        width(&self.0)
    }

    /// The selector as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn width(text: &str) -> usize {
    text.len() + text.matches('-').count()
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Selector({})", self.0)
    }
}

impl TryFrom<String> for Selector {
    type Error = SelectorError;
    fn try_from(text: String) -> Result<Self, SelectorError> {
        Self::parse(&text)
    }
}

impl From<Selector> for String {
    fn from(selector: Selector) -> Self {
        selector.0
    }
}

/// Which of a domain's two slots: an index that cannot be out of range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum SlotId {
    /// The slot of the first selector (`selector1`).
    #[serde(rename = "1")]
    One,
    /// The slot of the second selector (`selector2`).
    #[serde(rename = "2")]
    Two,
}

impl SlotId {
    /// Both slots in order.
    pub const ALL: [SlotId; 2] = [SlotId::One, SlotId::Two];

    /// The other slot.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::One => Self::Two,
            Self::Two => Self::One,
        }
    }
}

/// A pair of things, one per slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct PerSlot<T>(pub [T; 2]);

impl<T> PerSlot<T> {
    /// Makes a pair by asking for each slot in turn.
    pub fn from_fn(mut make: impl FnMut(SlotId) -> T) -> Self {
        Self([make(SlotId::One), make(SlotId::Two)])
    }

    /// Each slot with its thing, in order.
    pub fn iter(&self) -> impl Iterator<Item = (SlotId, &T)> {
        SlotId::ALL.into_iter().zip(self.0.iter())
    }
}

impl<T> std::ops::Index<SlotId> for PerSlot<T> {
    type Output = T;
    fn index(&self, slot: SlotId) -> &T {
        let [one, two] = &self.0;
        match slot {
            SlotId::One => one,
            SlotId::Two => two,
        }
    }
}

impl<T> std::ops::IndexMut<SlotId> for PerSlot<T> {
    fn index_mut(&mut self, slot: SlotId) -> &mut T {
        let [one, two] = &mut self.0;
        match slot {
            SlotId::One => one,
            SlotId::Two => two,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_usual_selectors_and_refuses_odd_ones() {
        for good in ["selector1", "s1", "K1", "mail-2026", &"a".repeat(30)] {
            assert!(Selector::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "a.b", "a_b", "sélecteur", &"a".repeat(31), &"a-".repeat(11)] {
            assert!(Selector::parse(bad).is_err(), "{bad}");
        }
    }
}
