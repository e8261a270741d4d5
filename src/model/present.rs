//! The present, of three clocks: this machine's, the API server's, and a count of time that nobody sets. One that leaps is
//! outvoted by the other two: a drain is not over because a clock was set forward.
//!
//! At first there is no count to compare with: then the API server's time is taken, so that controllers on any machine agree.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::keyring::later;

/// How far clocks may differ. A node without NTP is off by seconds; a receiver's resolver that a step of this length would
/// break has to have asked within it.
pub const TOLERANCE: SignedDuration = SignedDuration::from_secs(30);
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

/// How the clocks stand to each other. Spans are positive where what is named is ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// They agree, or nothing but this machine's is known.
    Agreed,
    /// This machine's is off, against the other two.
    MachineOff(SignedDuration),
    /// The API server's is behind the other two.
    ServerOff(SignedDuration),
    /// Nobody can tell: the API server's is ahead of the other two, which stood still if this machine was paused; or all differ.
    Doubtful {
        /// The API server's against the count.
        server: SignedDuration,
        /// This machine's against the count.
        own: SignedDuration,
    },
}

/// What was told of the present.
#[derive(Debug, Clone, Copy)]
pub struct Told {
    /// The present; in doubt the earliest that it can be.
    pub present: Timestamp,
    /// How sure that is.
    pub standing: Standing,
}

/// Why there is no present to begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unready {
    /// The API server has not said the time.
    Unheard,
    /// The clocks differ too much: this machine's against the API server's.
    Apart(SignedDuration),
}

/// Tells the present. Every `count` is a span since the same moment, of a clock that nobody sets and that counts on while the
/// machine sleeps.
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

    /// Begins with the API server's time, so that controllers on any machine agree, where this machine's clock says the same.
    ///
    /// # Errors
    /// [`Unready`]: one of the two is wrong, and nobody can tell which.
    pub fn begin(&mut self, own: Timestamp, count: Duration) -> Result<(), Unready> {
        let server = self.server.ok_or(Unready::Unheard)?.at(count);
        let apart = own.duration_since(server);
        if apart.abs() > TOLERANCE {
            return Err(Unready::Apart(apart));
        }
        self.last = Some(Mark { time: server, count });
        Ok(())
    }

    /// The present, where this machine's clock says `own`: the middle one of the three.
    pub fn tell(&mut self, own: Timestamp, count: Duration) -> Told {
        let server = self.server.map_or(own, |mark| mark.at(count));
        let counted = self.last.map_or(server, |mark| mark.at(count));
        let standing = match self.server {
            Some(_) => standing(own, server, counted),
            None => Standing::Agreed,
        };
        let mut three = [own, server, counted];
        three.sort_unstable();
        let present = if matches!(standing, Standing::Doubtful { .. }) { counted } else { three[1] };
        self.last = Some(Mark { time: present, count });
        Told { present, standing }
    }

    /// By how much this machine's clock is ahead of the API server's; negative where it is behind, none where the API server
    /// has not said the time. A second more than the truth at most, and the time that the quickest answer took.
    #[must_use]
    pub fn skew(&self, own: Timestamp, count: Duration) -> Option<SignedDuration> {
        Some(own.duration_since(self.server?.at(count)))
    }
}

fn standing(own: Timestamp, server: Timestamp, counted: Timestamp) -> Standing {
    let far = |span: SignedDuration| span.abs() > TOLERANCE;
    let of_own = own.duration_since(counted);
    let of_server = server.duration_since(counted);
    match (far(of_own), far(of_server)) {
        (false, false) => Standing::Agreed,
        (true, false) => Standing::MachineOff(of_own),
        // Nothing makes a machine count too much.
        (false, true) if of_server.is_negative() => Standing::ServerOff(of_server),
        // Both moved alike: this machine was paused, and is right again; or both were set.
        (true, true) if !far(own.duration_since(server)) => Standing::Agreed,
        _ => Standing::Doubtful { server: of_server, own: of_own },
    }
}

#[cfg(test)]
mod tests;
