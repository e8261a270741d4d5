//! Response-rate limiting: a server that answers everybody is a tool for floods, since UDP lets anybody send as
//! somebody else. Answers of one kind to one network are limited; what is over that is dropped, or cut so that an
//! honest client comes again over TCP.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::Duration;

/// Places in the table of one thread: 2 MB. A power of two.
const PLACES: usize = 1 << 16;
/// Places that a network's answers of one kind may be in.
const WAYS: usize = 4;
/// How long a burst may last at the full rate before it counts.
const BURST: Duration = Duration::from_secs(2);

/// What an answer is, for limiting: answers that look the same to a victim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sort {
    /// The records of a name.
    Records(u64),
    /// Names that are not there, or types, in a zone.
    Denial(u64),
    /// A fault.
    Fault,
}

/// What to do with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Send it.
    Send,
    /// Send it without records, as truncated.
    Cut,
    /// Do not send it.
    Drop,
}

/// How many answers are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    /// Answers of one sort a second to one network; 0 is no limit.
    pub same: u32,
    /// Answers of all sorts a second to one network; 0 is no limit.
    pub all: u32,
    /// Every how many answers over the limit one is sent as truncated; 0 is never.
    pub slip: u32,
}

#[derive(Debug, Clone, Copy, Default)]
struct Place {
    /// Whose it is.
    tag: u64,
    /// Nanoseconds until which it has used up its rate.
    full: u64,
}

/// The limits of one thread. There is one for each, so that they need not wait for each other.
#[derive(Debug)]
pub struct Limiter {
    seed: RandomState,
    places: Vec<Place>,
    same: Option<Pace>,
    all: Option<Pace>,
    slip: u32,
    over: u32,
}

/// Nanoseconds of one answer, and how far ahead a network may be.
#[derive(Debug, Clone, Copy)]
struct Pace {
    each: u64,
    ahead: u64,
}

impl Pace {
    fn new(rate: u32, threads: usize) -> Option<Self> {
        // The kernel spreads the clients over the threads.
        let threads = u64::try_from(threads.max(1)).unwrap_or(1);
        let each = 1_000_000_000u64.checked_mul(threads)?.checked_div(u64::from(rate))?;
        let ahead = u64::try_from(BURST.as_nanos()).unwrap_or(u64::MAX).max(each);
        Some(Self { each, ahead })
    }
}

impl Limiter {
    /// For one of so many threads.
    #[must_use]
    pub fn new(rates: Rates, threads: usize) -> Self {
        let (same, all) = (Pace::new(rates.same, threads), Pace::new(rates.all, threads));
        let places = if same.is_some() || all.is_some() { PLACES } else { 0 };
        Self {
            seed: RandomState::new(),
            places: vec![Place::default(); places],
            same,
            all,
            slip: rates.slip,
            over: 0,
        }
    }

    /// Counts an answer; `now` is in nanoseconds of any clock that does not go back.
    pub fn judge(&mut self, ip: IpAddr, sort: Sort, now: u64) -> Verdict {
        if self.same.is_none() && self.all.is_none() {
            return Verdict::Send;
        }
        let network = network(ip);
        let mut fits = true;
        if let Some(pace) = self.same {
            fits &= self.count(self.seed.hash_one((network, sort)), pace, now);
        }
        if let Some(pace) = self.all {
            fits &= self.count(self.seed.hash_one(network), pace, now);
        }
        if fits {
            return Verdict::Send;
        }
        self.over = self.over.wrapping_add(1);
        if self.slip > 0 && self.over.is_multiple_of(self.slip) { Verdict::Cut } else { Verdict::Drop }
    }

    fn count(&mut self, tag: u64, pace: Pace, now: u64) -> bool {
        let first = usize::try_from(tag).unwrap_or(0) & (PLACES - WAYS);
        let Some(ways) = self.places.get_mut(first..first + WAYS) else { return true };
        let at = ways.iter().position(|place| place.tag == tag).unwrap_or_else(|| {
            // The one that has been quiet longest makes room.
            let quietest = ways.iter().enumerate().min_by_key(|(_, place)| place.full);
            quietest.map_or(0, |(at, _)| at)
        });
        let Some(place) = ways.get_mut(at) else { return true };
        if place.tag != tag {
            *place = Place { tag, full: 0 };
        }
        let full = place.full.max(now).saturating_add(pace.each);
        if full - now > pace.ahead {
            return false;
        }
        place.full = full;
        true
    }
}

/// The network of a client: the first 24 bits of IPv4, 56 of IPv6.
fn network(ip: IpAddr) -> u64 {
    match ip {
        IpAddr::V4(ip) => u64::from(ip.to_bits() >> 8) | 1 << 63,
        IpAddr::V6(ip) => u64::try_from(ip.to_bits() >> 72).unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn limiter(same: u32, all: u32, slip: u32) -> Limiter {
        Limiter::new(Rates { same, all, slip }, 1)
    }

    fn sent(limiter: &mut Limiter, ip: &str, sort: Sort, count: u32, from: u64) -> u32 {
        let ip = ip.parse().unwrap();
        let each = SECOND / u64::from(count);
        let at = |n: u32| from + u64::from(n) * each;
        u32::try_from((0..count).filter(|n| limiter.judge(ip, sort, at(*n)) == Verdict::Send).count())
            .unwrap()
    }

    #[test]
    fn a_network_gets_its_rate_after_a_burst() {
        let mut limiter = limiter(100, 0, 0);
        let same = Sort::Records(1);
        assert_eq!(sent(&mut limiter, "192.0.2.1", same, 100, SECOND), 100);
        // Two seconds' worth may come at once; then it is the rate.
        let burst: u32 = (2..12).map(|s| sent(&mut limiter, "192.0.2.7", same, 1000, s * SECOND)).sum();
        assert!((1195..=1205).contains(&burst), "{burst}");
        // Other networks, other names and quiet times are not touched.
        assert_eq!(sent(&mut limiter, "192.0.3.1", same, 100, 12 * SECOND), 100);
        assert_eq!(sent(&mut limiter, "192.0.2.1", Sort::Records(2), 100, 12 * SECOND), 100);
        assert_eq!(sent(&mut limiter, "192.0.2.1", same, 100, 20 * SECOND), 100);
    }

    #[test]
    fn all_sorts_together_have_a_rate_too() {
        let mut limiter = limiter(0, 100, 0);
        let ip = "2001:db8::1".parse().unwrap();
        let sent =
            (0..1000).filter(|n| limiter.judge(ip, Sort::Records(*n), SECOND) == Verdict::Send).count();
        assert_eq!(sent, 200);
        let neighbour = "2001:db8:0:ff::2".parse().unwrap();
        assert_eq!(limiter.judge(neighbour, Sort::Fault, SECOND), Verdict::Drop);
        let other = "2001:db8:0:100::1".parse().unwrap();
        assert_eq!(limiter.judge(other, Sort::Fault, SECOND), Verdict::Send);
    }

    #[test]
    fn some_of_what_is_over_comes_cut() {
        let mut limiter = limiter(1, 0, 2);
        let ip = "192.0.2.1".parse().unwrap();
        let said: Vec<Verdict> = (0..6).map(|_| limiter.judge(ip, Sort::Fault, SECOND)).collect();
        use Verdict::{Cut, Drop, Send};
        assert_eq!(said, [Send, Send, Drop, Cut, Drop, Cut]);
    }

    #[test]
    fn threads_share_the_rate_and_zero_is_no_limit() {
        let mut quarter = Limiter::new(Rates { same: 100, all: 0, slip: 0 }, 4);
        let ip = "192.0.2.1".parse().unwrap();
        let sent = (0..1000).filter(|_| quarter.judge(ip, Sort::Fault, SECOND) == Verdict::Send).count();
        assert_eq!(sent, 50);
        let mut none = limiter(0, 0, 2);
        assert!((0..1000).all(|_| none.judge(ip, Sort::Fault, SECOND) == Verdict::Send));
        assert!(none.places.is_empty());
    }

    #[test]
    fn many_networks_do_not_hide_one() {
        let mut limiter = limiter(10, 0, 0);
        let flooding = "192.0.2.1".parse().unwrap();
        let mut sent = 0;
        for n in 0..200_000u32 {
            let now = SECOND + u64::from(n) * 50_000;
            if limiter.judge(flooding, Sort::Fault, now) == Verdict::Send {
                sent += 1;
            }
            limiter.judge(IpAddr::V4(std::net::Ipv4Addr::from_bits(n << 8)), Sort::Fault, now);
        }
        // Ten seconds at the rate, and the burst.
        assert!(sent <= 130, "{sent}");
    }
}
