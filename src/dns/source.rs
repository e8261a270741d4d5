//! Follows the DkimRecordSets and publishes a new snapshot after each change.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::api::Api;
use kube::core::DeserializeGuard;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, Resource, ResourceExt};
use tokio::sync::watch;

use super::zone::{Set, Snapshot};
use crate::api::DkimRecordSet;

/// How long to gather changes before a snapshot is built.
const GATHER: Duration = Duration::from_millis(10);

/// Follows until dropped. A set that cannot be read stays as it was when it could.
pub async fn follow(
    client: Client,
    namespace: &str,
    publish: watch::Sender<Arc<Snapshot>>,
    ready: watch::Sender<bool>,
) {
    let api: Api<DeserializeGuard<DkimRecordSet>> = Api::namespaced(client, namespace);
    let mut events = watcher(api, watcher::Config::default()).default_backoff().boxed();
    let mut known = Known::default();
    loop {
        let Some(event) = events.next().await else { return };
        known.take(event);
        // One list or a burst of changes makes one snapshot.
        let gather = tokio::time::sleep(GATHER);
        tokio::pin!(gather);
        loop {
            tokio::select! {
                more = events.next() => match more {
                    Some(event) => known.take(event),
                    None => return,
                },
                () = &mut gather => break,
            }
        }
        if !known.listed {
            continue;
        }
        let (snapshot, complaints) = Snapshot::build(known.sets.values(), known.serial);
        for complaint in complaints {
            tracing::warn!("not served: {complaint}");
        }
        let (zones, records) = snapshot.size();
        tracing::debug!(zones, records, serial = snapshot.serial, "serving");
        publish.send_replace(Arc::new(snapshot));
        ready.send_replace(true);
    }
}

#[derive(Default)]
struct Known {
    sets: HashMap<String, Set>,
    /// Sets of a list that is still coming in.
    fresh: Option<HashMap<String, Set>>,
    listed: bool,
    /// The greatest resource version seen, its lower 32 bits: grows with every change (RFC 1982).
    serial: u32,
}

impl Known {
    fn take(&mut self, event: Result<Event<DeserializeGuard<DkimRecordSet>>, watcher::Error>) {
        match event {
            Ok(Event::Init) => self.fresh = Some(HashMap::new()),
            Ok(Event::InitApply(object)) => {
                let name = object.name_any();
                let set = self.read(&object).or_else(|| self.sets.get(&name).cloned());
                if let (Some(fresh), Some(set)) = (&mut self.fresh, set) {
                    fresh.insert(name, set);
                }
            }
            Ok(Event::InitDone) => {
                if let Some(fresh) = self.fresh.take() {
                    self.sets = fresh;
                }
                self.listed = true;
            }
            Ok(Event::Apply(object)) => {
                if let Some(set) = self.read(&object) {
                    self.sets.insert(set.name.clone(), set);
                }
            }
            Ok(Event::Delete(object)) => {
                self.count(&object);
                self.sets.remove(&object.name_any());
            }
            Err(error) => {
                tracing::warn!(%error, "the watch of DkimRecordSets is interrupted; the last zones are served")
            }
        }
    }

    fn read(&mut self, object: &DeserializeGuard<DkimRecordSet>) -> Option<Set> {
        self.count(object);
        match &object.0 {
            Ok(set) => Some(Set {
                name: set.name_any(),
                created: set.meta().creation_timestamp.as_ref().map(|t| t.0).unwrap_or_default(),
                spec: set.spec.clone(),
            }),
            Err(invalid) => {
                tracing::warn!(name = object.name_any(), error = %invalid.error, "a DkimRecordSet cannot be read; it is served as it was");
                None
            }
        }
    }

    fn count(&mut self, object: &DeserializeGuard<DkimRecordSet>) {
        let version = object.meta().resource_version.as_deref().and_then(|v| v.parse::<u64>().ok());
        let serial = version.and_then(|v| u32::try_from(v & u64::from(u32::MAX)).ok());
        self.serial = self.serial.max(serial.unwrap_or(0));
    }
}
