//! When to look again: soon at first, later less often, and never before the answer can have changed.

use std::time::Duration;

use tokio::time::Instant;

use crate::jitter::jitter;
use crate::model::diagnosis::{LinkEvidence, link_evidence};
use crate::model::sighting::{Observation, Outcome, Question, ServerAnswer, ServerRole, SlotSighting};

/// The first pause while something is awaited; each further one is twice as long, up to what the pace says.
pub const FIRST: Duration = Duration::from_secs(2);
/// For so long after something is new somebody is at work on it, and the pace is kept.
const AWAITED: Duration = Duration::from_secs(600);
/// What has not changed for longer is looked at less often: after an hour every two minutes.
const PATIENCE: u32 = 24;
/// The longest pause while something is awaited, unless the pace itself is slower.
const SLOWEST: Duration = Duration::from_secs(900);

/// How often to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// From the end of one look to the next. While a record is awaited, the first looks come faster, and those
    /// after a long wait slower.
    pub every: Duration,
}

/// Where a domain is on the way from fast to slow.
#[derive(Debug, Clone, Copy)]
pub struct Rhythm {
    since: Instant,
    looks: u32,
}

/// A pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pause {
    /// Its length.
    pub time: Duration,
    /// What people are told, in seconds: no less than its length, and seldom something new.
    pub promise: u32,
}

impl Rhythm {
    /// The beginning: something is new.
    pub fn new(since: Instant) -> Self {
        Self { since, looks: 0 }
    }

    /// The pause after a look that ends now.
    pub fn pause(&mut self, pace: Pace, question: &Question, seen: &Observation, now: Instant) -> Pause {
        let every = pace.every;
        let fast = FIRST.saturating_mul(1_u32.checked_shl(self.looks).unwrap_or(u32::MAX));
        self.looks = self.looks.saturating_add(1);
        if is_there(question, seen) {
            return Pause { time: every, promise: seconds(every) };
        }
        let slowest = every.max(SLOWEST.min(every * 16));
        let waited = now.saturating_duration_since(self.since).saturating_sub(AWAITED);
        let mut time = if fast < every { fast } else { (waited / PATIENCE).clamp(every, slowest) };
        // What a resolver remembers it says again until then.
        if let Some(rest) = remembered(question, seen) {
            time = time.max(rest.min(slowest));
        }
        let promise = if time <= every { every } else { slowest };
        Pause { time, promise: seconds(promise) }
    }
}

fn is_there(question: &Question, seen: &Observation) -> bool {
    let mut pairs = question.slots.0.iter().zip(&seen.slots.0);
    pairs.all(|(wanted, seen)| {
        matches!(link_evidence(wanted, seen), LinkEvidence::Verified { .. }) || is_copied(seen)
    })
}

/// Whether the alias shows the very TXT of the target: flattened, or published there by the tenant.
fn is_copied(seen: &SlotSighting) -> bool {
    let texts = |answers: &[ServerAnswer]| {
        answers.iter().find_map(|answer| match &answer.outcome {
            Outcome::Txt { texts, .. } => Some(texts.clone()),
            _ => None,
        })
    };
    let copy = texts(&seen.alias_txt);
    copy.is_some() && copy == texts(&seen.target_txt)
}

/// For how long nothing new can be heard, where only resolvers have something to learn.
fn remembered(question: &Question, seen: &Observation) -> Option<Duration> {
    let mut least: Option<u32> = None;
    for (wanted, seen) in question.slots.0.iter().zip(&seen.slots.0) {
        for answer in &seen.alias {
            let rest = match &answer.outcome {
                Outcome::Cname { target, .. } if *target == wanted.target => continue,
                Outcome::Cname { ttl, .. } | Outcome::OddCname { ttl, .. } | Outcome::Txt { ttl, .. } => *ttl,
                Outcome::NoData { negative_ttl } | Outcome::NxDomain { negative_ttl } => *negative_ttl,
                Outcome::Failed(_) => 0,
            };
            if answer.role == ServerRole::Authoritative || rest == 0 {
                return None;
            }
            least = Some(least.map_or(rest, |least| least.min(rest)));
        }
    }
    least.map(|rest| Duration::from_secs(u64::from(rest)))
}

fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_millis().div_ceil(1000)).unwrap_or(u32::MAX)
}

/// A pause somewhat shorter, so that domains made together are not looked at together for ever.
pub fn spread(pause: Duration) -> Duration {
    pause.mul_f64(0.85 + 0.15 * jitter())
}
