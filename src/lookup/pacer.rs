//! No more questions than allowed: in all, to one server, into one zone, and in one look.
//!
//! Questions are spaced evenly instead of sent in bursts, so that no second sees more than the limit, wherever it
//! begins. Looks that somebody waits for go ahead of routine ones, which together get four fifths of all.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{Instant, sleep_until};

use super::config::Limits;
use crate::model::name::DnsName;

/// Questions may be sent so much later than planned, and the next as planned, because timers are no finer. The
/// spacing makes up for it.
const SLACK: Duration = Duration::from_millis(2);
/// Most gates kept for servers, and for zones.
const MAX_GATES: usize = 20_000;

/// Lets one question through at a time, a spacing apart. Who came first goes first.
#[derive(Debug)]
struct Gate {
    spacing: Duration,
    next: Mutex<Option<Instant>>,
}

impl Gate {
    fn new(per_second: f64) -> Self {
        let spacing = Duration::from_secs_f64((1.0 + SLACK.as_secs_f64() * 2.0) / per_second.max(0.01));
        Self { spacing, next: Mutex::new(None) }
    }

    /// Waits for the turn. Dropping what is returned without [`Turn::take`] gives the turn to the next.
    async fn turn(&self) -> Turn<'_> {
        let next = self.next.lock().await;
        if let Some(at) = *next {
            sleep_until(at).await;
        }
        Turn { next, spacing: self.spacing }
    }
}

struct Turn<'a> {
    next: MutexGuard<'a, Option<Instant>>,
    spacing: Duration,
}

impl Turn<'_> {
    fn take(mut self, now: Instant) {
        let planned = self.next.unwrap_or(now);
        let earliest = now.checked_sub(SLACK).unwrap_or(now);
        *self.next = Some(planned.max(earliest) + self.spacing);
    }
}

/// Spaces the questions of one looker.
#[derive(Debug)]
pub struct Pacer {
    limits: Limits,
    total: Gate,
    routine: Gate,
    servers: parking_lot::Mutex<HashMap<IpAddr, Arc<Gate>>>,
    zones: parking_lot::Mutex<HashMap<DnsName, Arc<Gate>>>,
}

impl Pacer {
    /// A pacer with these limits.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let total = f64::from(limits.total);
        Self {
            limits,
            total: Gate::new(total),
            routine: Gate::new(total * 0.8),
            servers: parking_lot::Mutex::default(),
            zones: parking_lot::Mutex::default(),
        }
    }

    /// Waits until a question may be sent.
    pub async fn pass(&self, server: IpAddr, zone: Option<&DnsName>, urgent: bool) {
        // Each gate is held while the next is waited for, always in this order, so that the spacing is that of
        // what is really sent.
        let zone = zone.map(|zone| gate(&self.zones, zone.clone(), self.limits.zone));
        let zone = match &zone {
            Some(gate) => Some(gate.turn().await),
            None => None,
        };
        let server = gate(&self.servers, server, self.limits.server);
        let server = server.turn().await;
        let routine = if urgent { None } else { Some(self.routine.turn().await) };
        let total = self.total.turn().await;
        let now = Instant::now();
        total.take(now);
        server.take(now);
        for turn in [zone, routine].into_iter().flatten() {
            turn.take(now);
        }
    }
}

fn gate<K: Eq + Hash>(gates: &parking_lot::Mutex<HashMap<K, Arc<Gate>>>, key: K, limit: u32) -> Arc<Gate> {
    let mut gates = gates.lock();
    if gates.len() >= MAX_GATES && !gates.contains_key(&key) {
        let now = Instant::now();
        // Nobody waits at it, and whoever came now would not have to.
        let idle = |gate: &Arc<Gate>| {
            Arc::strong_count(gate) == 1
                && gate.next.try_lock().is_ok_and(|next| next.is_none_or(|at| at <= now))
        };
        gates.retain(|_, gate| !idle(gate));
    }
    gates.entry(key).or_insert_with(|| Arc::new(Gate::new(f64::from(limit)))).clone()
}

/// What one look may use up: a hostile delegation must not make us ask without end (NXNSAttack).
#[derive(Debug)]
pub struct Ration {
    left: AtomicU32,
    until: parking_lot::Mutex<Instant>,
    last: Instant,
}

impl Ration {
    /// So many questions, within so much time; more of it, up to `longest`, where questions had to wait in line.
    #[must_use]
    pub fn new(questions: u32, time: Duration, longest: Duration) -> Self {
        let now = Instant::now();
        Self {
            left: AtomicU32::new(questions),
            until: parking_lot::Mutex::new(now + time),
            last: now + longest,
        }
    }

    /// A question had to wait in line: there is at least `time` left for it and for what comes after.
    pub fn waited(&self, time: Duration) {
        let mut until = self.until.lock();
        *until = (*until).max(Instant::now() + time).min(self.last);
    }

    /// Whether nothing is left of it.
    #[must_use]
    pub fn is_spent(&self) -> bool {
        self.left.load(Ordering::Relaxed) == 0 || Instant::now() >= self.until()
    }

    /// Takes one question out; `None` where none is left.
    pub fn take(&self) -> Option<()> {
        if Instant::now() >= self.until() {
            return None;
        }
        let less = |left: u32| left.checked_sub(1);
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).ok().map(drop)
    }

    /// When time is up.
    #[must_use]
    pub fn until(&self) -> Instant {
        *self.until.lock()
    }

    /// When it is up in any case.
    #[must_use]
    pub fn last(&self) -> Instant {
        self.last
    }
}

#[cfg(test)]
mod tests;
