//! Random numbers that can be replayed.

use std::time::Duration;

/// A small generator (xorshift64*): the same seed gives the same numbers with every version of everything.
pub struct Random(u64);

impl Random {
    /// Zero, which this generator cannot use, is taken for one.
    pub fn new(seed: u64) -> Self {
        Self(seed.max(1))
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        // The upper bits are the good ones.
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) % bound.max(1)
    }

    /// A span no longer than another.
    pub fn upto(&mut self, most: Duration) -> Duration {
        self.between(0, u64::try_from(most.as_millis()).unwrap_or(u64::MAX))
    }

    /// A span between two, in milliseconds.
    pub fn between(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(least + self.below((most - least).saturating_add(1)))
    }
}

/// A seed that nobody chose.
pub fn fresh_seed() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_microsecond()).unwrap_or(1)
}
