//! A receiver that never stops asking.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::World;

/// For how long a text may be heard that is published no more: its TTL of a second, and what the test itself takes.
const REMEMBERED: Duration = Duration::from_secs(5);

/// Asks the resolver for a name over and over, and counts.
pub struct Poller {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<(u32, Vec<String>)>,
}

impl Poller {
    /// Every answer must be one text, and one of those that are known then or were shortly before: resolvers remember.
    pub fn start(world: &'static World, alias: String, domain: String) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let (mut count, mut faults) = (0, Vec::new());
            let mut known: HashMap<String, Instant> = HashMap::new();
            while !stopped.load(Ordering::Relaxed) {
                let set = world.record_sets().get(&domain).await.expect("the record set");
                known.extend(set.spec.records.into_iter().map(|record| (record.value, Instant::now())));
                match world.tree.lookup(&alias, "TXT").await {
                    Ok(answer) => {
                        let texts = answer.data("TXT");
                        let known = |text: &str| known.get(text).is_some_and(|at| at.elapsed() < REMEMBERED);
                        if texts.len() != 1 || !known(texts[0]) {
                            faults.push(answer.to_string());
                        }
                    }
                    Err(error) => faults.push(error.to_string()),
                }
                count += 1;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            (count, faults)
        });
        Self { stop, task }
    }

    /// Stops. There were more answers than `least`, and none of them was wrong.
    pub async fn unbroken(self, least: u32) {
        self.stop.store(true, Ordering::Relaxed);
        let (count, faults) = self.task.await.expect("the poller ends");
        println!("{count} answers of the resolver, {} of them wrong", faults.len());
        assert!(count > least && faults.is_empty(), "{} of {count}: {:?}", faults.len(), faults.first());
    }
}
