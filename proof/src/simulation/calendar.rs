//! What others do to a domain in the years to come.

use rand::RngExt;

use super::domain::Life;
use super::history::ALIASES;
use super::tenant::Outage;
use super::{DAY, MINUTE, Seconds, YEAR};

/// What happens to a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    /// The controller looks and decides.
    Reconcile,
    /// One of our servers hears of the record set.
    Serve(usize),
    /// One of our servers can be heard again, or not.
    Silence(usize, bool),
    /// The tenant's servers can be heard again, or not.
    TenantSilence(bool),
    /// The tenant puts a CNAME as it is shown.
    Follow(usize),
    /// The tenant takes a CNAME away or puts another there, or puts it back.
    Break(usize, Option<Outage>),
    /// Somebody deletes the Secret.
    LoseSecret,
    /// Somebody takes a private key out of it.
    LoseKey(usize),
    /// The tenant asks for a rotation.
    Request,
    /// The tenant enables or disables.
    Enable(bool),
    /// The tenant pauses or resumes.
    Pause(bool),
    /// The tenant asks for the other kind of key.
    OtherKind,
    /// The tenant wants a second signature, or no longer.
    Second(bool),
    /// The domain gets another name at the provider: the number of the name.
    Move(u32),
    /// All keys fall into the wrong hands, and the tenant says so.
    Compromise,
    /// Somebody deletes the record set, and the controller sees it at once.
    LoseSet,
}

impl Event {
    /// Whether it is an edit of the DkimDomain.
    pub fn is_edit(self) -> bool {
        matches!(
            self,
            Self::Request
                | Self::Enable(_)
                | Self::Pause(_)
                | Self::OtherKind
                | Self::Second(_)
                | Self::Move(_)
                | Self::Compromise
        )
    }
}

impl Life {
    /// So many times a year, at random.
    fn often(&mut self, years: u16, a_year: f64) -> Vec<Seconds> {
        let span = Seconds::from(years) * YEAR;
        let whole = (f64::from(years) * a_year * 2.0).floor();
        #[allow(clippy::cast_possible_truncation, reason = "a small count")]
        let count = self.rng.random_range(0..=whole as i64);
        (0..count).map(|_| self.rng.random_range(0..span)).collect()
    }

    /// A pause: mostly short, now and then long.
    pub(super) fn pause(&mut self) -> Seconds {
        match self.rng.random_range(0..10) {
            0..6 => self.rng.random_range(1..30 * MINUTE),
            6..9 => self.rng.random_range(1..DAY),
            _ => self.rng.random_range(1..20 * DAY),
        }
    }

    /// For a while, so many times a year.
    fn now_and_then(&mut self, years: u16, a_year: f64, begins: Event, ends: Event) {
        for at in self.often(years, a_year) {
            let back = at + self.pause();
            self.at(at, begins);
            self.at(back, ends);
        }
    }

    /// Puts what others will do in the years to come on the calendar.
    pub(super) fn foresee(&mut self, years: u16) {
        self.at(0, Event::Reconcile);
        for alias in 0..ALIASES {
            for outage in [Outage::Missing, Outage::Wrong] {
                self.now_and_then(years, 0.25, Event::Break(alias, Some(outage)), Event::Break(alias, None));
            }
        }
        for server in [0, 1] {
            self.now_and_then(years, 1.0, Event::Silence(server, true), Event::Silence(server, false));
        }
        self.now_and_then(years, 1.0, Event::TenantSilence(true), Event::TenantSilence(false));
        self.now_and_then(years, 0.2, Event::Enable(false), Event::Enable(true));
        self.now_and_then(years, 0.2, Event::Pause(true), Event::Pause(false));
        for (a_year, event) in [
            (0.05, Event::LoseKey(0)),
            (0.05, Event::LoseKey(1)),
            (0.1, Event::LoseSecret),
            (0.3, Event::Request),
            (0.05, Event::Compromise),
            (0.05, Event::LoseSet),
        ] {
            for at in self.often(years, a_year) {
                self.at(at, event);
            }
        }
        if !self.wishes.second {
            for at in self.often(years, 0.1) {
                self.at(at, Event::OtherKind);
            }
        } else {
            self.now_and_then(years, 0.2, Event::Second(false), Event::Second(true));
        }
        if self.moves {
            for (number, at) in self.often(years, 0.4).into_iter().enumerate() {
                let number = u32::try_from(number).expect("few");
                self.at(at, Event::Move(number + 1));
                // Some are called off, before the tenant has followed or after.
                if self.rng.random_bool(0.3) {
                    let back = at + self.pause();
                    self.at(back, Event::Move(number));
                }
            }
        }
    }
}
