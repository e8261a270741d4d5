use proptest::prelude::*;

use super::*;

const EPOCH: i64 = 1_800_000_000;
const ROUND_TRIP: u64 = 40;

/// Clocks in a world of which the truth is known, in milliseconds.
struct World {
    present: Present,
    truth: u64,
    /// For how long the machine stood still and did not count.
    paused: u64,
}

impl World {
    /// One that has begun, all clocks right.
    fn begun() -> Self {
        let mut world = Self { present: Present::default(), truth: 1_000, paused: 0 };
        world.answer(0);
        world.present.begin(world.time(0), world.count()).unwrap();
        world
    }

    fn pass(&mut self, millis: u64) {
        self.truth += millis;
    }

    /// The truth, set by so many seconds.
    fn time(&self, off: i64) -> Timestamp {
        let millis = i64::try_from(self.truth).unwrap();
        Timestamp::from_millisecond(EPOCH * 1000 + millis + off * 1000).unwrap()
    }

    fn count(&self) -> Duration {
        Duration::from_millis(self.truth - self.paused)
    }

    /// An answer arrives now, of a server whose clock is off.
    fn answer(&mut self, off: i64) {
        let made = self.time(off).checked_sub(SignedDuration::from_millis(20)).unwrap();
        let said = Timestamp::from_second(made.as_second()).unwrap();
        self.present.hear(said, self.count() - Duration::from_millis(ROUND_TRIP), self.count());
    }

    /// What is told where the machine's clock is off: how far from the truth in seconds, and how sure.
    fn told(&mut self, off: i64) -> (f64, Standing) {
        let told = self.present.tell(self.time(off), self.count());
        (told.present.duration_since(self.time(0)).as_secs_f64(), told.standing)
    }
}

/// What is heard is rounded down, and was under way.
fn is_true(error: f64) -> bool {
    (-1.1..=0.05).contains(&error)
}

#[test]
fn a_server_that_was_never_heard_leaves_this_machine_s_clock() {
    let mut world = World { present: Present::default(), truth: 1_000, paused: 0 };
    assert_eq!(world.present.begin(world.time(0), world.count()), Err(Unready::Unheard));
    for off in [0_i32, 86_400, -86_400] {
        assert_eq!(world.told(off.into()), (f64::from(off), Standing::Agreed));
    }
    assert_eq!(world.present.skew(world.time(0), world.count()), None);
}

#[test]
fn it_begins_with_the_server_s_time_where_both_say_the_same() {
    for (off, begins) in [(-33, false), (-29, true), (-3, true), (3, true), (28, true), (33, false)] {
        let mut world = World { present: Present::default(), truth: 1_000, paused: 0 };
        world.answer(0);
        let begun = world.present.begin(world.time(off), world.count());
        assert_eq!(begun.is_ok(), begins, "{off}: {begun:?}");
        if begins {
            let (error, _) = world.told(off);
            assert!(is_true(error), "{off}: {error}");
        }
    }
}

#[test]
fn a_leap_between_the_beginning_and_what_is_told_first_is_outvoted() {
    for (own, server) in [(86_400, 0), (-86_400, 0), (0, -86_400)] {
        let mut world = World::begun();
        world.answer(server);
        let (error, standing) = world.told(own);
        assert!(is_true(error) && standing != Standing::Agreed, "{error} {standing:?}");
    }
}

#[test]
fn an_answer_that_was_long_under_way_says_nothing_new() {
    let mut world = World::begun();
    let said = Timestamp::from_second(EPOCH + 1).unwrap();
    world.pass(30_000);
    world.present.hear(said, Duration::from_millis(1_500), world.count());
    let skew = world.present.skew(world.time(0), world.count()).unwrap();
    assert!(skew <= SignedDuration::from_millis(1_100), "{skew:?}");
}

#[test]
fn a_machine_that_was_paused_and_does_not_know_is_in_doubt_until_it_does() {
    let mut world = World::begun();
    world.pass(600_000);
    world.paused = 600_000;
    world.answer(0);
    // Its clock stood still as well.
    let (error, standing) = world.told(-600);
    assert!(matches!(standing, Standing::Doubtful { .. }) && error < -599.0, "{error} {standing:?}");
    // Then NTP sets it.
    let (error, standing) = world.told(0);
    assert!(standing == Standing::Agreed && is_true(error), "{error} {standing:?}");
}

proptest! {
    /// Whichever clock leaps, and however often, as long as one does at a time: the present neither runs ahead, nor falls
    /// behind by more than the rounding of what is heard. In doubt nothing is done; that is where the server is ahead alone.
    #[test]
    fn one_clock_that_leaps_is_outvoted(
        steps in prop::collection::vec((50_u64..90_000, any::<bool>(), -400_000_000_i64..400_000_000), 1..60),
    ) {
        let mut world = World::begun();
        for (passed, of_server, leap) in steps {
            world.pass(passed);
            let (own, server) = if of_server { (0, leap) } else { (leap, 0) };
            world.answer(server);
            let (error, standing) = world.told(own);
            prop_assert!(is_true(error), "{error} after {} ms: {standing:?}", world.truth);
            let doubts = matches!(standing, Standing::Doubtful { .. });
            prop_assert!(!doubts || (of_server && leap > 0), "{standing:?}");
        }
    }

    /// A machine that is paused now and then, and learns of it later, while the server's clock leaps: the present is never ahead
    /// of the truth by more than clocks may differ.
    #[test]
    fn pauses_and_leaps_put_nothing_ahead_of_the_truth(
        steps in prop::collection::vec((50_u64..90_000, 0_u64..3, -400_000_i64..400_000, 0_u64..100_000), 1..60),
    ) {
        let mut world = World::begun();
        let mut behind = 0;
        for (passed, what, leap, pause) in steps {
            world.pass(passed);
            let (mut own, mut server) = (-behind, 0);
            match what {
                0 => {
                    world.pass(pause);
                    world.paused += pause;
                    behind += i64::try_from(pause / 1000).unwrap();
                    own = -behind;
                }
                1 => {
                    behind = 0;
                    own = 0;
                }
                _ => server = leap,
            }
            world.answer(server);
            let (error, standing) = world.told(own);
            let most = if matches!(standing, Standing::Doubtful { .. }) { 0.05 } else { 31.0 };
            prop_assert!(error <= most, "{error}: {own} {server} {standing:?}");
        }
    }

    /// Where both clocks jump alike, as when the machine of both slept, the present follows.
    #[test]
    fn two_that_agree_are_followed(leap in -400_000_000_i64..400_000_000) {
        let mut world = World::begun();
        world.pass(1_000);
        world.answer(leap);
        let (error, standing) = world.told(leap);
        prop_assert!(is_true(error - f64::from(i32::try_from(leap).unwrap())), "{error}");
        prop_assert_eq!(standing, Standing::Agreed);
    }
}
