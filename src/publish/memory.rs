//! What is known of each record set from the last time: whether it may rest, and how often it had to be tried.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::jitter::jitter;

/// Pause before the first look at something that is awaited.
const FIRST: Duration = Duration::from_millis(500);
/// Longest pause while something is awaited.
const LONGEST: Duration = Duration::from_secs(60);

/// What a record set was worked on from: nothing is to be done until one of it changes, or time comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Basis {
    /// The object's uid.
    pub uid: Option<String>,
    /// The spec's generation.
    pub generation: Option<i64>,
    /// Whether it is being deleted.
    pub deleted: bool,
    /// Its status, as JSON.
    pub status: String,
    /// What else it depends on.
    pub provider: Option<String>,
}

#[derive(Debug, Default)]
struct Entry {
    rest: Option<(Basis, Instant)>,
    tries: i32,
    /// The generation of the spec that pauses were begun anew for.
    renewed: Option<i64>,
    tidy: bool,
}

/// Remembers, set by set.
#[derive(Debug, Default)]
pub struct Memory {
    entries: Mutex<HashMap<String, Entry>>,
}

impl Memory {
    /// For how long nothing is to be done for a set.
    pub fn rest(&self, name: &str, basis: &Basis) -> Option<Duration> {
        let entries = self.entries.lock();
        let (known, until) = entries.get(name)?.rest.as_ref()?;
        let left = until.checked_duration_since(Instant::now())?;
        (known == basis && !left.is_zero()).then_some(left)
    }

    /// Notes that a set was worked on.
    pub fn note(&self, name: &str, basis: Basis, rest: Duration) {
        let mut entries = self.entries.lock();
        entries.entry(name.to_owned()).or_default().rest = Some((basis, Instant::now() + rest));
    }

    /// The pause before the next try of a set for which something is awaited; it grows, and is spread over ±25 %, so that sets
    /// that wait for the same thing are not all tried at once.
    pub fn pause(&self, name: &str) -> Duration {
        let mut entries = self.entries.lock();
        let entry = entries.entry(name.to_owned()).or_default();
        let pause = FIRST.mul_f64(1.5f64.powi(entry.tries)).min(LONGEST);
        entry.tries = (entry.tries + 1).min(60);
        pause.mul_f64(0.75 + 0.5 * jitter())
    }

    /// What a set says is new: pauses begin anew, once for each generation, however often it is tried.
    pub fn renew(&self, name: &str, generation: Option<i64>) {
        let mut entries = self.entries.lock();
        let entry = entries.entry(name.to_owned()).or_default();
        if entry.renewed != generation {
            (entry.renewed, entry.tries) = (generation, 0);
        }
    }

    /// Nothing is awaited any more: pauses begin anew.
    pub fn settle(&self, name: &str) {
        if let Some(entry) = self.entries.lock().get_mut(name) {
            entry.tries = 0;
        }
    }

    /// Whether nothing is left of how an earlier version published a set.
    pub fn is_tidy(&self, name: &str) -> bool {
        self.entries.lock().get(name).is_some_and(|entry| entry.tidy)
    }

    /// Notes that nothing is.
    pub fn note_tidy(&self, name: &str) {
        self.entries.lock().entry(name.to_owned()).or_default().tidy = true;
    }

    /// Forgets a set.
    pub fn forget(&self, name: &str) {
        self.entries.lock().remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basis(generation: i64) -> Basis {
        Basis {
            uid: Some("u".into()),
            generation: Some(generation),
            deleted: false,
            status: String::new(),
            provider: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn rests_until_something_changes_or_time_comes() {
        let memory = Memory::default();
        assert_eq!(memory.rest("a", &basis(1)), None);
        memory.note("a", basis(1), Duration::from_secs(10));
        assert_eq!(memory.rest("a", &basis(1)), Some(Duration::from_secs(10)));
        assert_eq!(memory.rest("a", &basis(2)), None);
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(memory.rest("a", &basis(1)), None);
    }

    fn is_about(pause: Duration, middle: Duration) -> bool {
        pause >= middle.mul_f64(0.75) && pause <= middle.mul_f64(1.25)
    }

    #[test]
    fn pauses_grow_to_a_bound_spread_and_begin_anew() {
        let memory = Memory::default();
        assert!(is_about(memory.pause("a"), FIRST));
        assert!(is_about(memory.pause("a"), FIRST.mul_f64(1.5)));
        let late: Vec<Duration> = (0..200).map(|_| memory.pause("a")).skip(100).collect();
        assert!(late.iter().all(|pause| is_about(*pause, LONGEST)), "{late:?}");
        assert!(late.iter().any(|pause| *pause != late[0]), "{late:?}");
        memory.settle("a");
        assert!(is_about(memory.pause("a"), FIRST));
    }

    #[test]
    fn a_set_that_fails_again_and_again_is_tried_less_and_less_often() {
        let memory = Memory::default();
        let tried = |generation| {
            memory.renew("a", Some(generation));
            memory.pause("a")
        };
        let pauses: Vec<Duration> = (0..50).map(|_| tried(1)).collect();
        assert!(is_about(pauses[49], LONGEST), "{pauses:?}");
        assert!(is_about(tried(2), FIRST), "what it says is new");
        assert!(is_about(tried(2), FIRST.mul_f64(1.5)));
    }
}
