//! Follows the DkimRecordSets and publishes a new snapshot after each change.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::api::{Api, ListParams};
use kube::core::DeserializeGuard;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, Resource, ResourceExt};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::timeout;

use super::keeper::Keeper;
use super::notify::Secondary;
use super::progress::Progress;
use super::serving::Serving;
use super::set::{Part, Set};
use super::store::Store;
use crate::api::{DkimRecordSet, Placed};

/// How long to gather changes before a snapshot is made.
const GATHER: Duration = Duration::from_millis(10);
/// How long to ask for the version of a list.
const ASK: Duration = Duration::from_secs(2);
/// For how long after a start names that are not in the file are not denied, while the API server may still be heard.
const UNSURE: Duration = Duration::from_secs(10);

/// Where what is followed goes.
pub struct Follow {
    /// What is served.
    pub serving: Arc<Serving>,
    /// What is held, loaded from the file or empty.
    pub store: Arc<Mutex<Store>>,
    /// Saves it.
    pub keeper: Option<Arc<Keeper>>,
    /// Who is told of changes.
    pub secondaries: Arc<[Secondary]>,
    /// How it goes.
    pub progress: Arc<Progress>,
    /// Set once answers are given.
    pub ready: watch::Sender<bool>,
}

impl Follow {
    /// Follows until dropped. A set that cannot be read stays as it was when it could.
    pub async fn run(self, client: Client, namespace: &str) {
        let api: Api<DeserializeGuard<DkimRecordSet>> = Api::namespaced(client.clone(), namespace);
        let versions: Api<DkimRecordSet> = Api::namespaced(client, namespace);
        let mut events = watcher(api, watcher::Config::default()).default_backoff().boxed();
        let mut known = Known::new(Arc::clone(&self.store));
        let sure = tokio::time::sleep(UNSURE);
        tokio::pin!(sure);
        let mut served = self.store.lock().snapshot().size();
        let mut loaded = served.0 > 0;
        if loaded {
            self.publish(true);
        }
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                () = &mut sure, if loaded => {
                    loaded = false;
                    tracing::warn!("the API server is away; the zones of the last run are served");
                    self.publish(false);
                    self.ready.send_replace(true);
                    continue;
                }
            };
            let Some(event) = event else { return };
            known.take(event, &self.progress);
            // One list or a burst of changes makes one snapshot.
            let gather = tokio::time::sleep(GATHER);
            tokio::pin!(gather);
            loop {
                tokio::select! {
                    more = events.next() => match more {
                        Some(event) => known.take(event, &self.progress),
                        None => return,
                    },
                    () = &mut gather => break,
                }
            }
            if !known.listed {
                continue;
            }
            if std::mem::take(&mut known.relisted) {
                // What was deleted meanwhile has left no version behind.
                let one = ListParams::default().limit(1);
                let list = versions.list_metadata(&one);
                if let Ok(Ok(list)) = timeout(ASK, list).await {
                    known.count(list.metadata.resource_version.as_deref());
                }
            }
            let first = !std::mem::replace(&mut known.published, true);
            let (changed, now_served) = {
                let mut store = self.store.lock();
                (store.commit(known.serial()), store.snapshot().size())
            };
            // A zone whose last set has left is among the changed ones no more.
            let fewer = std::mem::replace(&mut served, now_served) != now_served;
            if first || fewer || !changed.is_empty() {
                loaded = false;
                self.publish(false);
                self.ready.send_replace(true);
                self.progress.published();
                for secondary in self.secondaries.iter() {
                    secondary.tell(&changed);
                }
                if let Some(keeper) = &self.keeper {
                    keeper.changed();
                }
            }
        }
    }

    fn publish(&self, unsure: bool) {
        let mut snapshot = self.store.lock().snapshot().clone();
        snapshot.unsure = unsure;
        let (zones, records) = snapshot.size();
        tracing::debug!(zones, records, "serving");
        self.serving.publish(snapshot);
    }
}

struct Known {
    store: Arc<Mutex<Store>>,
    /// The sets of a list that is still coming in.
    seen: Option<HashSet<String>>,
    /// There has been a whole list.
    listed: bool,
    /// There has been a whole list since the last look.
    relisted: bool,
    /// A list has been published.
    published: bool,
    /// The greatest resource version seen.
    version: u64,
    /// The watch has failed, and has not been heard since.
    interrupted: bool,
    /// What was said of each set.
    complained: HashMap<String, Vec<String>>,
}

impl Known {
    fn new(store: Arc<Mutex<Store>>) -> Self {
        Self {
            store,
            seen: None,
            listed: false,
            relisted: false,
            published: false,
            version: 0,
            interrupted: false,
            complained: HashMap::new(),
        }
    }

    fn take(
        &mut self,
        event: Result<Event<DeserializeGuard<DkimRecordSet>>, watcher::Error>,
        progress: &Progress,
    ) {
        // The first comes before each attempt, and says nothing about its success.
        if !matches!(event, Ok(Event::Init) | Err(_)) {
            self.interrupted = false;
            progress.heard(true);
        }
        match event {
            Ok(Event::Init) => self.seen = Some(HashSet::new()),
            Ok(Event::InitApply(object)) => {
                if let Some(seen) = &mut self.seen {
                    seen.insert(object.name_any());
                }
                self.apply(&object);
            }
            Ok(Event::InitDone) => {
                if let Some(seen) = self.seen.take() {
                    self.store.lock().retain(&seen);
                    self.complained.retain(|name, _| seen.contains(name));
                }
                (self.listed, self.relisted) = (true, true);
                progress.listed();
            }
            Ok(Event::Apply(object)) => self.apply(&object),
            Ok(Event::Delete(object)) => {
                self.count(object.meta().resource_version.as_deref());
                let name = object.name_any();
                self.store.lock().remove(&name);
                self.complained.remove(&name);
            }
            // Once, not at every attempt.
            Err(error) if !std::mem::replace(&mut self.interrupted, true) => {
                progress.heard(false);
                tracing::warn!(%error, "the watch of DkimRecordSets is interrupted; the last zones are served");
            }
            Err(error) => tracing::debug!(%error, "the watch of DkimRecordSets is still interrupted"),
        }
    }

    fn apply(&mut self, object: &DeserializeGuard<DkimRecordSet>) {
        self.count(object.meta().resource_version.as_deref());
        let name = object.name_any();
        match &object.0 {
            Ok(set) => {
                let complaints = self.store.lock().apply(&wanted(set));
                // Once, not after every change of the set.
                let said = self.complained.get(&name).map_or(&[][..], Vec::as_slice);
                for complaint in complaints.iter().filter(|complaint| !said.contains(complaint)) {
                    tracing::warn!("not served: {complaint}");
                }
                if complaints.is_empty() {
                    self.complained.remove(&name);
                } else {
                    self.complained.insert(name, complaints);
                }
            }
            Err(invalid) => {
                tracing::warn!(name, error = %invalid.error, "a DkimRecordSet cannot be read; it is served as it was");
            }
        }
    }

    fn count(&mut self, version: Option<&str>) {
        self.version = self.version.max(version.and_then(|v| v.parse().ok()).unwrap_or(0));
    }

    /// The SOA serial: the lower half of the version, which grows with every change, by serial number arithmetic
    /// also where it wraps (RFC 1982 §3.2).
    fn serial(&self) -> u32 {
        u32::try_from(self.version & u64::from(u32::MAX)).unwrap_or_default()
    }
}

/// Takes from an object what it wants served: this is the one place where a zone is taken up.
fn wanted(object: &DkimRecordSet) -> Set {
    let seconds = |value: i32| u32::try_from(value).unwrap_or(0);
    let part = |placed: Placed<'_>| Part {
        apex: placed.zone.apex.clone(),
        servers: placed.zone.name_servers.clone(),
        negative: seconds(placed.zone.negative_ttl),
        texts: placed.records.iter().map(|r| (r.name.clone(), seconds(r.ttl), r.value.clone())).collect(),
    };
    Set {
        name: object.name_any(),
        created: object.meta().creation_timestamp.as_ref().map(|t| t.0).unwrap_or_default(),
        zones: object.embedded().map(part).collect(),
    }
}

#[cfg(test)]
mod tests;
