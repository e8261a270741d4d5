use super::*;
use crate::dns::testing::{APEX, KEY};
use serde_json::json;

fn object(name: &str, version: u64) -> DeserializeGuard<DkimRecordSet> {
    let record = json!({ "selector": "selector1", "name": KEY, "ttl": 300, "value": name, "serial": 1 });
    let spec = json!({
        "provider": "default", "guid": "contoso-com", "drainSeconds": 60, "records": [record],
        "zone": { "apex": APEX, "nameServers": ["ns1.provider.example"], "negativeTtl": 60 },
    });
    guard(name, version, &spec)
}

fn guard(name: &str, version: u64, spec: &serde_json::Value) -> DeserializeGuard<DkimRecordSet> {
    serde_json::from_value(json!({
        "apiVersion": "dkim-operator.io/v1alpha1", "kind": "DkimRecordSet",
        "metadata": { "name": name, "resourceVersion": version.to_string() }, "spec": spec,
    }))
    .unwrap()
}

/// Takes events one after the other.
struct Taker(Known, Progress);

impl Taker {
    fn new() -> Self {
        Self(Known::new(Arc::default()), Progress::default())
    }

    fn take(&mut self, event: Event<DeserializeGuard<DkimRecordSet>>) {
        self.0.take(Ok(event), &self.1);
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.0.store.lock().sets().keys().map(ToString::to_string).collect();
        names.sort_unstable();
        names
    }

    fn texts(&self, name: &str) -> usize {
        self.0.store.lock().sets().get(name).map_or(0, |held| held.texts.len())
    }
}

#[test]
fn what_a_list_lacks_goes_once_it_is_whole() {
    let mut taker = Taker::new();
    taker.take(Event::Init);
    taker.take(Event::InitApply(object("a.com", 1)));
    assert!(!taker.0.listed);
    taker.take(Event::InitDone);
    assert!(taker.0.listed);
    taker.take(Event::Apply(object("b.com", 2)));
    assert_eq!(taker.names(), ["a.com", "b.com"]);
    // The watch starts over, breaks in the middle of the list, and starts over again.
    taker.take(Event::Init);
    taker.take(Event::InitApply(object("x.com", 3)));
    taker.0.take(Err(watcher::Error::NoResourceVersion), &taker.1);
    assert_eq!(taker.names(), ["a.com", "b.com", "x.com"]);
    taker.take(Event::Init);
    taker.take(Event::InitApply(object("b.com", 2)));
    assert_eq!(taker.names(), ["a.com", "b.com", "x.com"]);
    taker.take(Event::InitDone);
    assert_eq!(taker.names(), ["b.com"]);
    taker.take(Event::Delete(object("b.com", 9)));
    assert_eq!((taker.names().len(), taker.0.serial()), (0, 9));
}

#[test]
fn a_set_that_cannot_be_read_is_served_as_it_was() {
    let unreadable = |version| guard("a.com", version, &json!({ "records": 7 }));
    let mut taker = Taker::new();
    taker.take(Event::Init);
    taker.take(Event::InitApply(object("a.com", 1)));
    taker.take(Event::InitDone);
    taker.take(Event::Apply(unreadable(2)));
    assert_eq!(taker.texts("a.com"), 1);
    taker.take(Event::Init);
    taker.take(Event::InitApply(unreadable(3)));
    taker.take(Event::InitDone);
    assert_eq!((taker.texts("a.com"), taker.0.serial()), (1, 3));
}

#[test]
fn the_serial_goes_on_where_32_bits_end() {
    let end = u64::from(u32::MAX);
    let mut taker = Taker::new();
    let mut last: Option<u32> = None;
    for version in [end - 1, end, end + 1, end + 2, end + (1 << 31), end] {
        taker.take(Event::Apply(object("a.com", version)));
        let serial = taker.0.serial();
        // Greater or equal by serial number arithmetic (RFC 1982 §3.2).
        assert!(last.is_none_or(|last| serial.wrapping_sub(last) < 1 << 31), "{version}: {last:?} {serial}");
        last = Some(serial);
    }
    assert_eq!(last, Some((1 << 31) - 1));
}
