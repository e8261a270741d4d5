//! When keys are rolled: at a regular interval, or by a cron schedule; each domain at a moment of its own within the
//! jitter, so that a million domains do not roll at midnight.

use std::fmt;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

use super::keyring::later;
use super::name::DomainName;

/// How many runs of a schedule are looked at for the shortest gap between two: a year of weekly ones.
const RUNS: usize = 53;

/// Why a text is no schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// It cannot be read.
    #[error(
        "\"{text}\" is no cron schedule ({fault}): five fields, minute hour day-of-month month day-of-week, in UTC, such as \"0 3 1 */6 *\""
    )]
    Syntax {
        /// What was written.
        text: String,
        /// What is wrong with it.
        fault: String,
    },
    /// It never comes.
    #[error("\"{0}\" names a moment that never comes; such as \"0 3 1 */6 *\" would do")]
    Never(String),
}

/// A cron schedule: five fields, in UTC.
#[derive(Clone)]
pub struct Schedule(Box<Cron>);

impl Schedule {
    /// Reads a schedule.
    ///
    /// # Errors
    /// [`ScheduleError`] says what is wrong.
    pub fn parse(text: &str) -> Result<Self, ScheduleError> {
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let shown = || text.chars().take(80).collect::<String>();
        let cron = parser
            .parse(text)
            .map_err(|fault| ScheduleError::Syntax { text: shown(), fault: fault.to_string() })?;
        let schedule = Self(Box::new(cron));
        match schedule.next(Timestamp::UNIX_EPOCH) {
            Some(_) => Ok(schedule),
            None => Err(ScheduleError::Never(shown())),
        }
    }

    /// The first run after `at`.
    #[must_use]
    pub fn next(&self, at: Timestamp) -> Option<Timestamp> {
        let civil = TimeZone::UTC.to_datetime(at);
        let next = self.0.find_next_occurrence(&civil, false).ok()?;
        TimeZone::UTC.to_timestamp(next).ok()
    }

    /// The shortest time between two runs, over the next ones after `at`.
    #[must_use]
    pub fn shortest_gap(&self, at: Timestamp) -> SignedDuration {
        let mut shortest = SignedDuration::MAX;
        let mut before = None;
        let mut run = self.next(at);
        for _ in 0..RUNS {
            let Some(this) = run else { break };
            if let Some(before) = before {
                shortest = shortest.min(this.duration_since(before));
            }
            before = Some(this);
            run = self.next(this);
        }
        shortest
    }
}

impl PartialEq for Schedule {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for Schedule {}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Schedule({})", self.0.as_str())
    }
}

/// When the next rotation is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cadence {
    /// This long after the last one.
    Every(SignedDuration),
    /// At the next run of a schedule.
    At(Schedule),
    /// Only when the keys that are rolled along with these are.
    Along,
}

impl Cadence {
    /// When the rotation after one at `last` is due, `offset` being the domain's own part of the jitter.
    #[must_use]
    pub fn next(&self, last: Timestamp, offset: SignedDuration) -> Option<Timestamp> {
        match self {
            Self::Every(interval) => Some(later(later(last, *interval), offset)),
            // A rotation that came `offset` after a run belongs to that run, not to the next.
            Self::At(schedule) => Some(later(schedule.next(last)?, offset)),
            Self::Along => None,
        }
    }

    /// The jitter where none is asked for: a twentieth of the time between rotations, an hour at most.
    #[must_use]
    pub fn usual_jitter(&self) -> SignedDuration {
        let between = match self {
            Self::Every(interval) => *interval,
            Self::At(schedule) => schedule.shortest_gap(Timestamp::UNIX_EPOCH),
            Self::Along => return SignedDuration::ZERO,
        };
        SignedDuration::from_hours(1).min(between / 20)
    }
}

/// A domain's own part of a jitter: always the same one, evenly spread over domains, less than `jitter`.
#[must_use]
pub fn offset(domain: &DomainName, jitter: SignedDuration) -> SignedDuration {
    let digest = Sha256::digest(domain.as_str());
    let head: [u8; 4] = digest.first_chunk::<4>().copied().unwrap_or_default();
    let part = i128::from(u32::from_be_bytes(head));
    let nanos = (jitter.as_nanos().max(0) * part) >> 32;
    let seconds = i64::try_from(nanos / 1_000_000_000).unwrap_or(0);
    SignedDuration::new(seconds, i32::try_from(nanos % 1_000_000_000).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_schedule_runs_in_utc() {
        let schedule = Schedule::parse("30 3 1 */6 *").unwrap();
        assert_eq!(schedule.next(at("2026-01-01T03:30:00Z")), Some(at("2026-07-01T03:30:00Z")));
        assert_eq!(schedule.next(at("2026-07-01T03:29:59Z")), Some(at("2026-07-01T03:30:00Z")));
        let cadence = Cadence::At(schedule);
        let offset = SignedDuration::from_mins(40);
        // It came 40 minutes after the run: the next is half a year away, not this one again.
        assert_eq!(cadence.next(at("2026-07-01T04:10:00Z"), offset), Some(at("2027-01-01T04:10:00Z")));
    }

    #[test]
    fn the_shortest_gap_is_that_between_the_closest_runs() {
        let gap = |text: &str| Schedule::parse(text).unwrap().shortest_gap(at("2026-01-01T00:00:00Z"));
        assert_eq!(gap("0 0 * * *"), SignedDuration::from_hours(24));
        assert_eq!(gap("0 0 1 * *"), SignedDuration::from_hours(28 * 24));
        assert_eq!(gap("0 0,1 1 * *"), SignedDuration::from_hours(1));
    }

    #[test]
    fn what_is_no_schedule_is_told() {
        for (text, words) in [
            ("", "five fields"),
            ("@", "five fields"),
            ("61 * * * *", "five fields"),
            ("* * * * * *", "five fields"),
            ("0 0 30 2 *", "never comes"),
        ] {
            let fault = Schedule::parse(text).unwrap_err().to_string();
            assert!(fault.contains(words), "{text}: {fault}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "\\PC{0,40}") {
            let _ = Schedule::parse(&text);
        }

        #[test]
        fn an_offset_is_within_the_jitter(label in "[a-z]{1,20}", seconds in 0i64..1_000_000) {
            let domain = DomainName::parse(&format!("{label}.example")).unwrap();
            let jitter = SignedDuration::from_secs(seconds);
            let offset = offset(&domain, jitter);
            prop_assert!(offset >= SignedDuration::ZERO && (offset < jitter || jitter.is_zero()));
        }
    }

    #[test]
    fn offsets_spread_evenly() {
        let jitter = SignedDuration::from_secs(1000);
        let mut tenths = [0; 10];
        for n in 0..10_000 {
            let domain = DomainName::parse(&format!("d{n}.example")).unwrap();
            tenths[usize::try_from(offset(&domain, jitter).as_secs() / 100).unwrap()] += 1;
        }
        assert!(tenths.iter().all(|n| (800..1200).contains(n)), "{tenths:?}");
    }
}
