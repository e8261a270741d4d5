//! What is to go wrong, and when: decided by the seed alone.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::common::random::Random;

/// What is hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    Controller,
    ControllerLink,
    ControllerClock,
    Dns(usize),
    DnsLink(usize),
    Apiserver,
    Etcd,
    Resolver,
    Hosting,
    Domain(usize),
}

/// What happens to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// SIGKILL, and a start on the same data and ports.
    Kill,
    /// SIGSTOP and SIGCONT; for a link: nothing gets through.
    Stall,
    /// It is an hour ahead.
    SetForward,
    /// It is a quarter of an hour behind.
    SetBack,
    /// `spec.enabled` is false for a while.
    Disable,
    /// `spec.rotation.rotateAt` is now.
    Rotate,
}

/// One fault.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    /// From the beginning.
    pub at: Duration,
    pub target: Target,
    pub action: Action,
    /// From the fault to the beginning of its end.
    pub lasting: Duration,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (at, lasting) = (self.at.as_secs_f64(), self.lasting.as_secs_f64());
        write!(f, "[{at:>6.1}s] {:?} {:?} for {lasting:.1}s", self.action, self.target)
    }
}

/// How often, of all faults; how long in milliseconds at least and at most; how long afterwards it is left alone.
const FAULTS: [(u64, Action, Target, u64, u64, u64); 16] = [
    (5, Action::Kill, Target::Controller, 0, 3000, 1000),
    (2, Action::Stall, Target::Controller, 300, 4000, 1000),
    (3, Action::Stall, Target::ControllerLink, 300, 4000, 1000),
    (2, Action::SetForward, Target::ControllerClock, 300, 6000, 1000),
    (1, Action::SetBack, Target::ControllerClock, 300, 6000, 1000),
    (3, Action::Kill, Target::Dns(0), 0, 3000, 1000),
    (3, Action::Stall, Target::Dns(0), 300, 4000, 1000),
    (3, Action::Stall, Target::DnsLink(0), 300, 4000, 1000),
    (2, Action::Kill, Target::Apiserver, 0, 2000, 12_000),
    (2, Action::Stall, Target::Apiserver, 300, 3000, 3000),
    (1, Action::Kill, Target::Etcd, 0, 2000, 12_000),
    (2, Action::Stall, Target::Etcd, 300, 3000, 3000),
    (1, Action::Stall, Target::Resolver, 300, 1500, 3000),
    (2, Action::Stall, Target::Hosting, 300, 3000, 3000),
    (2, Action::Disable, Target::Domain(0), 2000, 8000, 4000),
    (2, Action::Rotate, Target::Domain(0), 0, 0, 1000),
];

/// The faults of a run, without end.
pub struct Schedule {
    random: Random,
    now: Duration,
    domains: u64,
    dns_servers: u64,
    busy: BTreeMap<Target, Duration>,
}

impl Schedule {
    pub fn new(seed: u64, domains: usize, dns_servers: usize) -> Self {
        let [domains, dns_servers] = [domains, dns_servers].map(|n| u64::try_from(n).unwrap());
        Self { random: Random::new(seed), now: Duration::ZERO, domains, dns_servers, busy: BTreeMap::new() }
    }

    fn pick(&mut self) -> Fault {
        let all: u64 = FAULTS.iter().map(|(weight, ..)| weight).sum();
        let mut at = self.random.below(all);
        let mut drawn = FAULTS.iter();
        let (_, action, target, least, most, rest) = loop {
            let fault = drawn.next().expect("a number below the sum of the weights");
            match at.checked_sub(fault.0) {
                Some(left) => at = left,
                None => break *fault,
            }
        };
        let mut one_of = |count: u64| usize::try_from(self.random.below(count)).unwrap();
        let target = match target {
            Target::Dns(_) => Target::Dns(one_of(self.dns_servers)),
            Target::DnsLink(_) => Target::DnsLink(one_of(self.dns_servers)),
            Target::Domain(_) => Target::Domain(one_of(self.domains)),
            one => one,
        };
        let lasting = self.random.between(least, most);
        let until = self.now + lasting + Duration::from_millis(rest);
        let place = place(target);
        if self.busy.get(&place).is_none_or(|until| *until <= self.now) {
            self.busy.insert(place, until);
            return Fault { at: self.now, target, action, lasting };
        }
        self.now += Duration::from_millis(200);
        self.pick()
    }
}

/// What can stand only one fault at a time.
fn place(target: Target) -> Target {
    match target {
        Target::Etcd => Target::Apiserver,
        other => other,
    }
}

impl Iterator for Schedule {
    type Item = Fault;

    fn next(&mut self) -> Option<Fault> {
        self.now += self.random.between(1200, 4500);
        Some(self.pick())
    }
}
