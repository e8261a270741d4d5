//! The present, of three clocks: this machine's, the API server's, and a count of time that nobody sets. One that leaps is
//! outvoted by the other two: a drain is not over because a clock was set forward.
//!
//! At first there is no count to compare with: then the API server's time is taken, so that controllers on any machine agree.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::keyring::later;

/// How far this machine's clock and the API server's may differ at first: beyond it one of them is wrong, and nobody can tell
/// which (five minutes, as for Kerberos, RFC 4120 §5.2.1, and TSIG, RFC 8945 §10).
pub const SKEW: SignedDuration = SignedDuration::from_mins(5);
/// What is added to whole seconds that were rounded down.
const ROUNDED: SignedDuration = SignedDuration::from_secs(1);

/// A time at a moment of the count.
#[derive(Debug, Clone, Copy)]
struct Mark {
    time: Timestamp,
    count: Duration,
}

impl Mark {
    /// What the time is at a later moment of the count.
    fn at(self, count: Duration) -> Timestamp {
        later(self.time, signed(count.saturating_sub(self.count)))
    }
}

fn signed(span: Duration) -> SignedDuration {
    SignedDuration::try_from(span).unwrap_or(SignedDuration::MAX)
}

/// Tells the present. Every `count` is a span since the same moment, of a clock that nobody sets (monotonic).
#[derive(Debug, Default)]
pub struct Present {
    /// The API server's time, at the earliest that its answers allow.
    server: Option<Mark>,
    /// The present as it was told last.
    last: Option<Mark>,
}

impl Present {
    /// An answer of the API server to what was `sent` says the time in whole seconds (`Date`, RFC 9110 §6.6.1).
    pub fn hear(&mut self, said: Timestamp, sent: Duration, heard: Duration) {
        let latest = later(said, ROUNDED + signed(heard.saturating_sub(sent)));
        // What is known already may be nearer to the truth: the answer may have been long under way.
        let known = self.server.map(|mark| mark.at(heard));
        if !known.is_some_and(|known| (said..=latest).contains(&known)) {
            self.server = Some(Mark { time: said, count: heard });
        }
    }

    /// The present, where this machine's clock says `own`: the middle one of the three.
    pub fn tell(&mut self, own: Timestamp, count: Duration) -> Timestamp {
        let server = self.server.map(|mark| mark.at(count));
        let counted = self.last.map(|mark| mark.at(count)).or(server);
        let mut three = [own, server.unwrap_or(own), counted.unwrap_or(own)];
        three.sort_unstable();
        self.last = Some(Mark { time: three[1], count });
        three[1]
    }

    /// By how much this machine's clock is ahead of the API server's; negative where it is behind, none where the API server
    /// has not said the time. A second more than the truth at most, and the time that the quickest answer took.
    #[must_use]
    pub fn skew(&self, own: Timestamp, count: Duration) -> Option<SignedDuration> {
        Some(own.duration_since(self.server?.at(count)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EPOCH: i64 = 1_800_000_000;
    const ROUND_TRIP: u64 = 40;

    /// The true time at a count of milliseconds.
    fn truth(millis: u64) -> Timestamp {
        later(Timestamp::from_second(EPOCH).unwrap(), signed(Duration::from_millis(millis)))
    }

    fn off(time: Timestamp, seconds: i64) -> Timestamp {
        time.checked_add(SignedDuration::from_secs(seconds)).unwrap()
    }

    /// An answer that arrives now, of a server whose clock is off.
    fn answer(present: &mut Present, millis: u64, ahead: i64) {
        let made = off(truth(millis - ROUND_TRIP / 2), ahead);
        let said = Timestamp::from_second(made.as_second()).unwrap();
        present.hear(said, Duration::from_millis(millis - ROUND_TRIP), Duration::from_millis(millis));
    }

    fn told(present: &mut Present, millis: u64, ahead: i64) -> f64 {
        let now = present.tell(off(truth(millis), ahead), Duration::from_millis(millis));
        now.duration_since(truth(millis)).as_secs_f64()
    }

    #[test]
    fn a_server_that_was_never_heard_leaves_this_machine_s_clock() {
        let mut present = Present::default();
        for ahead in [0_i32, 86_400, -86_400] {
            assert_eq!(told(&mut present, 1_000, ahead.into()), f64::from(ahead));
        }
        assert_eq!(present.skew(truth(2_000), Duration::from_millis(2_000)), None);
    }

    #[test]
    fn at_first_the_server_s_time_is_taken() {
        for ahead in [-250, -3, 3, 250] {
            let mut present = Present::default();
            answer(&mut present, 1_000, 0);
            let error = told(&mut present, 1_000, ahead);
            assert!((-1.1..=0.0).contains(&error), "{ahead}: {error}");
        }
    }

    #[test]
    fn an_answer_that_was_long_under_way_says_nothing_new() {
        let mut present = Present::default();
        answer(&mut present, 1_000, 0);
        let slow = Timestamp::from_second(EPOCH + 1).unwrap();
        present.hear(slow, Duration::from_millis(1_500), Duration::from_secs(31));
        let skew = present.skew(truth(31_000), Duration::from_secs(31)).unwrap();
        assert!(skew <= SignedDuration::from_millis(1_100), "{skew:?}");
    }

    proptest! {
        /// Whichever clock leaps, and however often, as long as one does at a time: the present neither runs ahead, nor falls
        /// behind by more than the rounding of what is heard.
        #[test]
        fn one_clock_that_leaps_is_outvoted(
            steps in prop::collection::vec((50_u64..90_000, any::<bool>(), -400_000_000_i64..400_000_000), 1..60),
        ) {
            let mut present = Present::default();
            let mut millis = 1_000;
            answer(&mut present, millis, 0);
            told(&mut present, millis, 0);
            for (passed, of_server, leap) in steps {
                millis += passed;
                let (own, server) = if of_server { (0, leap) } else { (leap, 0) };
                answer(&mut present, millis, server);
                let error = told(&mut present, millis, own);
                prop_assert!((-1.1..=0.05).contains(&error), "{error} at {millis}");
            }
        }

        /// Where both clocks jump alike, as when the machine of both slept, the present follows.
        #[test]
        fn two_that_agree_are_followed(leap in -400_000_000_i64..400_000_000) {
            let mut present = Present::default();
            answer(&mut present, 1_000, 0);
            told(&mut present, 1_000, 0);
            answer(&mut present, 2_000, leap);
            let error = told(&mut present, 2_000, leap) - f64::from(i32::try_from(leap).unwrap());
            prop_assert!((-1.1..=0.05).contains(&error), "{error}");
        }
    }
}
