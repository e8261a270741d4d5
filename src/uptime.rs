//! A count of time that nobody sets.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// For how long the machine runs, sleep included. The kernel says by the same count when processes have begun.
pub fn since_boot() -> Duration {
    Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default()
}
