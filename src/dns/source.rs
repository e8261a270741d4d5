//! Follows the DkimRecordSets and publishes a new snapshot after each change.

use std::collections::{HashMap, HashSet};
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
    let mut complained = HashSet::new();
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
        let (snapshot, complaints) = Snapshot::build(known.sets.values(), known.serial());
        let complaints = HashSet::from_iter(complaints);
        // Once, not after every change of any set.
        for complaint in complaints.difference(&complained) {
            tracing::warn!("not served: {complaint}");
        }
        complained = complaints;
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
    /// The greatest resource version seen.
    version: u64,
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
        let version = object.meta().resource_version.as_deref().and_then(|v| v.parse().ok());
        self.version = self.version.max(version.unwrap_or(0));
    }

    /// The SOA serial: the lower half of the version, which grows with every change, by serial number arithmetic
    /// also where it wraps (RFC 1982 §3.2).
    fn serial(&self) -> u32 {
        u32::try_from(self.version & u64::from(u32::MAX)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::testing::{APEX, KEY, set};
    use serde_json::json;

    fn object(name: &str, version: u64) -> DeserializeGuard<DkimRecordSet> {
        let spec = set(name, APEX, &[(KEY, name)]).spec;
        guard(name, version, &serde_json::to_value(spec).unwrap())
    }

    fn guard(name: &str, version: u64, spec: &serde_json::Value) -> DeserializeGuard<DkimRecordSet> {
        serde_json::from_value(json!({
            "apiVersion": "dkim-operator.io/v1alpha1", "kind": "DkimRecordSet",
            "metadata": { "name": name, "resourceVersion": version.to_string() }, "spec": spec,
        }))
        .unwrap()
    }

    fn names(known: &Known) -> Vec<&str> {
        let mut names: Vec<&str> = known.sets.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn a_list_replaces_what_was_known_once_it_is_whole() {
        let mut known = Known::default();
        known.take(Ok(Event::Init));
        known.take(Ok(Event::InitApply(object("a.com", 1))));
        assert!((names(&known).is_empty(), known.listed) == (true, false));
        known.take(Ok(Event::InitDone));
        assert!(known.listed);
        known.take(Ok(Event::Apply(object("b.com", 2))));
        assert_eq!(names(&known), ["a.com", "b.com"]);
        // The watch starts over, breaks in the middle of the list, and starts over again.
        known.take(Ok(Event::Init));
        known.take(Ok(Event::InitApply(object("x.com", 3))));
        known.take(Err(watcher::Error::NoResourceVersion));
        assert_eq!(names(&known), ["a.com", "b.com"]);
        known.take(Ok(Event::Init));
        known.take(Ok(Event::InitApply(object("b.com", 2))));
        known.take(Ok(Event::InitDone));
        assert_eq!(names(&known), ["b.com"]);
        known.take(Ok(Event::Delete(object("b.com", 9))));
        assert_eq!((names(&known).len(), known.serial()), (0, 9));
    }

    #[test]
    fn a_set_that_cannot_be_read_is_served_as_it_was() {
        let unreadable = |version| guard("a.com", version, &json!({ "records": 7 }));
        let mut known = Known::default();
        known.take(Ok(Event::Init));
        known.take(Ok(Event::InitApply(object("a.com", 1))));
        known.take(Ok(Event::InitDone));
        known.take(Ok(Event::Apply(unreadable(2))));
        assert_eq!(known.sets["a.com"].spec.records.len(), 1);
        known.take(Ok(Event::Init));
        known.take(Ok(Event::InitApply(unreadable(3))));
        known.take(Ok(Event::InitDone));
        assert_eq!(known.sets["a.com"].spec.records.len(), 1);
        assert_eq!(known.serial(), 3);
    }

    #[test]
    fn the_serial_goes_on_where_32_bits_end() {
        let end = u64::from(u32::MAX);
        let mut known = Known::default();
        let mut last: Option<u32> = None;
        for version in [end - 1, end, end + 1, end + 2, end + (1 << 31), end] {
            known.take(Ok(Event::Apply(object("a.com", version))));
            let serial = known.serial();
            // Greater or equal by serial number arithmetic (RFC 1982 §3.2).
            assert!(
                last.is_none_or(|last| serial.wrapping_sub(last) < 1 << 31),
                "{version}: {last:?} {serial}"
            );
            last = Some(serial);
        }
        assert_eq!(last, Some((1 << 31) - 1));
    }
}
