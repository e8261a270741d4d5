//! Ten years of a fleet in virtual time: each domain with its controller, its signers, two of our DNS servers and a
//! tenant that makes mistakes, for ever the same from the same seed. Every message is verified with what some resolver
//! may legally hold when it arrives.

mod calendar;
mod domain;
mod history;
mod look;
mod mail;
mod tenant;

use std::thread;

use crate::rules::Rules;
use crate::terms::Times;

/// Seconds.
pub type Seconds = i64;

pub(crate) const MINUTE: Seconds = 60;
pub(crate) const HOUR: Seconds = 60 * MINUTE;
pub(crate) const DAY: Seconds = 24 * HOUR;
pub(crate) const YEAR: Seconds = 365 * DAY;

/// How large a simulation is.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Years.
    pub years: u16,
    /// Domains.
    pub domains: u32,
    /// Messages of each domain.
    pub messages: u32,
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Messages signed and verified.
    pub messages: u64,
    /// Their signatures: some are signed twice.
    pub signatures: u64,
    /// Of these, those that a receiver could not verify, through no fault of the tenant.
    pub unverifiable: u64,
    /// Of these, those that failed because the tenant had taken the CNAME away while it was in use.
    pub tenants_fault: u64,
    /// Of these, those that failed as their key had been revoked before they arrived.
    pub revoked: u64,
    /// Messages that no key was there for: between a domain's making or a Secret's loss and the next key.
    pub unsigned: u64,
    /// Rotations.
    pub rotations: u64,
    /// Moves that came to their end.
    pub moves: u64,
    /// Reconciles.
    pub reconciles: u64,
    /// The first message that could not be verified.
    pub first: Option<String>,
}

impl Outcome {
    fn add(&mut self, other: Self) {
        let Self {
            messages,
            signatures,
            unverifiable,
            tenants_fault,
            revoked,
            unsigned,
            rotations,
            moves,
            reconciles,
            first,
        } = other;
        self.messages += messages;
        self.signatures += signatures;
        self.unverifiable += unverifiable;
        self.tenants_fault += tenants_fault;
        self.revoked += revoked;
        self.unsigned += unsigned;
        self.rotations += rotations;
        self.moves += moves;
        self.reconciles += reconciles;
        self.first = self.first.take().or(first);
    }
}

/// The spans of the product as they are by default.
#[must_use]
pub fn times() -> Times {
    let seconds = |n: Seconds| u32::try_from(n).expect("small");
    Times {
        ttl: seconds(5 * MINUTE),
        negative_ttl: seconds(MINUTE),
        cname_ttl: seconds(DAY),
        interval: seconds(180 * DAY),
        drain: seconds(4 * DAY),
        signer_lag: seconds(5 * MINUTE),
        grace: seconds(10 * MINUTE),
        look: 15,
    }
}

/// Runs it, on all processors.
#[must_use]
pub fn run(rules: Rules, size: Size, seed: u64) -> Outcome {
    let threads = u32::try_from(thread::available_parallelism().map_or(1, usize::from)).expect("few");
    thread::scope(|scope| {
        let parts: Vec<_> = (0..threads)
            .map(|part| {
                scope.spawn(move || {
                    let mut outcome = Outcome::default();
                    for domain in (part..size.domains).step_by(threads as usize) {
                        let history = domain::live(rules, size.years, seed, domain);
                        outcome.add(mail::verify(&history, size, seed, domain));
                    }
                    outcome
                })
            })
            .collect();
        let mut outcome = Outcome::default();
        for part in parts {
            outcome.add(part.join().expect("it does not fail"));
        }
        outcome
    })
}
