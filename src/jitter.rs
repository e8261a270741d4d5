//! Chance for pauses: what happens at one moment to many is not to happen to them at one moment again.

/// A number in 0..=1; quality does not matter, spread does.
#[must_use]
pub fn jitter() -> f64 {
    getrandom::u32().map_or(0.5, |random| f64::from(random) / f64::from(u32::MAX))
}
