//! Emptied key Secrets that wait for their end: one task for each, however often a watch tells of it.

use std::collections::HashMap;

use parking_lot::Mutex;
use tokio::task::AbortHandle;

/// Namespace and name.
pub type Place = (String, String);

/// The tasks that wait.
#[derive(Debug, Default)]
pub struct Departures(Mutex<HashMap<Place, AbortHandle>>);

impl Departures {
    /// A task waits for a Secret; one that waited for it before does so no more.
    pub fn await_one(&self, place: Place, task: AbortHandle) {
        let mut all = self.0.lock();
        // Before it grows: each is looked at a few times in all, however many there are.
        if all.len() == all.capacity() {
            all.retain(|_, task| !task.is_finished());
        }
        if let Some(before) = all.insert(place, task) {
            before.abort();
        }
    }

    /// A Secret stays.
    pub fn forget(&self, place: &Place) {
        if let Some(before) = self.0.lock().remove(place) {
            before.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_waits_for_each_however_often_it_is_told() {
        let all = Departures::default();
        let place = |name: &str| ("mail".to_owned(), name.to_owned());
        let mut tasks = Vec::new();
        for name in ["a", "a", "b", "a"] {
            let task = tokio::spawn(std::future::pending::<()>());
            all.await_one(place(name), task.abort_handle());
            tasks.push(task);
        }
        all.forget(&place("b"));
        let last = tasks.pop().unwrap();
        for task in tasks {
            assert!(task.await.unwrap_err().is_cancelled());
        }
        assert!(!last.is_finished());
        assert_eq!(all.0.lock().len(), 1);
    }
}
