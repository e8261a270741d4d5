//! When the signer's files are written next.

use std::time::Duration;

use tokio::time::Instant;

/// How long to gather changes before files are written.
pub const GATHER: Duration = Duration::from_millis(50);
/// The first pause after a failure; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause after failures.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// When something is due, and how long to wait after failures.
#[derive(Debug, Default)]
pub struct Pace {
    next: Option<Instant>,
    /// The last pause, while it fails.
    pause: Option<Duration>,
}

impl Pace {
    /// When something is due, if anything is.
    pub fn next(&self) -> Option<Instant> {
        self.next
    }

    /// A key has changed. One list or a burst of changes is one change of the files. It waits for a pause after a failure, not
    /// for old files whose time has not come.
    pub fn news(&mut self) {
        let soon = Instant::now() + GATHER;
        let failing = self.pause.is_some();
        self.next = Some(self.next.map_or(soon, |at| if failing { at } else { at.min(soon) }));
    }

    /// All went well, and something is due again after this long.
    pub fn done(&mut self, next: Option<Duration>) {
        *self = Self { next: next.map(|after| Instant::now() + after), pause: None };
    }

    /// It failed. Returns after how long it is tried again.
    pub fn failed(&mut self) -> Duration {
        let pause = self.pause.map_or(FIRST_PAUSE, |before| (before * 2).min(LONGEST_PAUSE));
        *self = Self { next: Some(Instant::now() + pause), pause: Some(pause) };
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn changes_are_gathered_and_wait_after_failures_alone() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        pace.news();
        assert_eq!(pace.next(), Some(now + GATHER));
        pace.done(Some(Duration::from_secs(600)));
        pace.news();
        assert_eq!(pace.next(), Some(now + GATHER), "old files wait, new ones do not");
        for pause in [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000] {
            assert_eq!(pace.failed(), Duration::from_millis(pause));
            pace.news();
            assert_eq!(pace.next(), Some(now + Duration::from_millis(pause)));
        }
        pace.done(None);
        assert_eq!(pace.next(), None);
        assert_eq!(pace.failed(), FIRST_PAUSE);
    }
}
