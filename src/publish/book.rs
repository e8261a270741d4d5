//! The book of a record set's places, which is its status: what is known of them, and what is written down before anything
//! is done. Pure.

use std::collections::HashMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::{
    DkimRecordSet, DkimRecordSetStatus, PlaceStatus, PublishMethod, PublishState, RecordState, ZoneSpec,
};
use crate::model::publishing::{Kind, Place, method, place_id};

/// What is known of where records are. Of a set that is new to publishers and was not made for them, the embedded server
/// has the records; so it has of one that publishers have let go of.
pub fn known(set: &DkimRecordSet, held: bool) -> DkimRecordSetStatus {
    if let Some(status) = set.status.as_ref().filter(|status| held || !status.places.is_empty()) {
        return status.clone();
    }
    if held {
        return DkimRecordSetStatus::default();
    }
    let mut places: Vec<PlaceStatus> = Vec::new();
    for placed in
        set.spec.placements().filter(|placed| placed.zone.outlet.is_some() && !placed.records.is_empty())
    {
        let zone = ZoneSpec { outlet: None, ..placed.zone.clone() };
        let id = place_id(&zone);
        if places.iter().all(|place| place.id != id) {
            let records = Vec::new();
            places.push(PlaceStatus { id, zone, cnames: false, leaving: true, withdraw_at: None, records });
        }
    }
    DkimRecordSetStatus { observed_generation: None, places }
}

/// The status that is written before anything is done: every name that may get a record is in it.
pub fn ahead(set: &DkimRecordSet, known: &DkimRecordSetStatus, places: &[Place]) -> DkimRecordSetStatus {
    let place = |place: &Place| {
        let before = known.places.iter().find(|known| known.id == place.id);
        let mut records = before.map(|before| before.records.clone()).unwrap_or_default();
        for name in place.wanted.keys() {
            if !records.iter().any(|record| record.name == name.as_str()) {
                records.push(RecordState {
                    name: name.to_string(),
                    state: PublishState::Pending,
                    message: String::new(),
                });
            }
        }
        let withdraw_at = before.filter(|_| place.leaving).and_then(|before| before.withdraw_at.clone());
        reported(place, withdraw_at, records)
    };
    DkimRecordSetStatus {
        observed_generation: set.metadata.generation,
        places: places.iter().map(place).collect(),
    }
}

/// What a status says of a place.
pub fn reported(place: &Place, withdraw_at: Option<Time>, records: Vec<RecordState>) -> PlaceStatus {
    PlaceStatus {
        id: place.id.clone(),
        zone: place.zone.clone(),
        cnames: place.kind == Kind::Cnames,
        leaving: place.leaving,
        withdraw_at,
        records,
    }
}

/// Forgets places that were left and hold nothing any more. Returns whether there were any.
pub fn forget(places: &[Place], status: &mut DkimRecordSetStatus) -> bool {
    let mut left = places.iter().map(|place| place.leaving && place.wanted.is_empty());
    let before = status.places.len();
    status.places.retain(|place| !(left.next().unwrap_or(false) && place.records.is_empty()));
    status.places.len() < before
}

/// Places and names of a status.
pub fn names(status: &DkimRecordSetStatus) -> Vec<(String, bool, Vec<String>)> {
    let of = |place: &PlaceStatus| {
        let names = place.records.iter().map(|record| record.name.clone()).collect();
        (place.id.clone(), place.leaving, names)
    };
    status.places.iter().map(of).collect()
}

/// Whether nothing of a deleted set is left anywhere that we could take away.
pub fn is_withdrawn(places: &[Place], status: &DkimRecordSetStatus) -> bool {
    places.iter().zip(&status.places).all(|(place, reported)| match method(&place.zone) {
        PublishMethod::Embedded | PublishMethod::Manual => place.wanted.is_empty(),
        PublishMethod::Rfc2136 | PublishMethod::DnsEndpoint => {
            place.wanted.is_empty() && reported.records.is_empty()
        }
    })
}

/// One place of each object that an earlier version wrote for all places of a kind in a namespace, and whether all of those are
/// written by now. `written` goes with `places`, `home` is the operator's namespace.
pub fn in_former_objects<'a>(places: &'a [Place], written: &[bool], home: &str) -> Vec<(&'a Place, bool)> {
    let mut objects: HashMap<(Kind, String), (&Place, bool)> = HashMap::new();
    let with_objects = places.iter().zip(written);
    for (place, done) in with_objects.filter(|(p, _)| method(&p.zone) == PublishMethod::DnsEndpoint) {
        let settings = place.zone.outlet.as_ref().and_then(|outlet| outlet.dns_endpoint.as_ref());
        let namespace = settings.and_then(|settings| settings.namespace.clone());
        let at = (place.kind, namespace.unwrap_or_else(|| home.to_owned()));
        objects.entry(at).or_insert((place, true)).1 &= *done;
    }
    objects.into_values().collect()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use serde_json::json;

    use super::*;

    fn place(method: &str, namespace: Option<&str>, kind: Kind) -> Place {
        let settings = namespace.map_or(json!({}), |namespace| json!({ "namespace": namespace }));
        let outlet = json!({ "method": method, "dnsEndpoint": settings });
        let zone = json!({ "apex": "onmail.example", "negativeTtl": 60, "outlet": outlet });
        let zone: ZoneSpec = serde_json::from_value(zone).unwrap();
        let (wanted, unwanted) = (BTreeMap::new(), BTreeSet::new());
        Place { id: place_id(&zone), zone, kind, leaving: false, wanted, unwanted }
    }

    /// A claim to a place of publishers that was taken back leaves an empty status behind.
    #[test]
    fn what_publishers_let_go_of_is_with_the_embedded_server() {
        let zone = |outlet: serde_json::Value| json!({ "apex": "onmail.example", "negativeTtl": 60, "outlet": outlet });
        let record =
            json!({ "selector": "s", "name": "s.onmail.example", "ttl": 60, "value": "v", "serial": 1 });
        let spec = json!({ "provider": "p", "guid": "g", "zone": zone(json!({ "method": "Manual" })),
            "drainSeconds": 60, "records": [record] });
        let mut set = DkimRecordSet::new("contoso.com", serde_json::from_value(spec).unwrap());
        for status in [None, Some(DkimRecordSetStatus::default())] {
            set.status = status;
            assert_eq!(set.embedded().count(), 1, "the server has it until publishers say where it is");
            let places = known(&set, false).places;
            assert!(places.len() == 1 && places[0].leaving && places[0].zone.outlet.is_none(), "{places:?}");
            assert_eq!(known(&set, true), DkimRecordSetStatus::default(), "it was made for publishers");
        }
    }

    #[test]
    fn an_old_object_goes_when_the_places_whose_records_it_held_are_written() {
        let places = [
            place("DNSEndpoint", None, Kind::Keys),
            place("DNSEndpoint", Some("dkim-system"), Kind::Keys),
            place("DNSEndpoint", Some("external-dns"), Kind::Keys),
            place("DNSEndpoint", Some("external-dns"), Kind::Cnames),
            place("Manual", None, Kind::Keys),
        ];
        let found = in_former_objects(&places, &[true, false, true, false, false], "dkim-system");
        let done = |kind, namespace: &str| {
            let found: Vec<bool> = found
                .iter()
                .filter(|(place, _)| {
                    let settings = place.zone.outlet.as_ref().and_then(|o| o.dns_endpoint.as_ref());
                    let at = settings.and_then(|s| s.namespace.as_deref()).unwrap_or("dkim-system");
                    place.kind == kind && at == namespace
                })
                .map(|(_, done)| *done)
                .collect();
            found
        };
        assert_eq!(found.len(), 3);
        assert_eq!(done(Kind::Keys, "dkim-system"), [false], "one of two is not written");
        assert_eq!(done(Kind::Keys, "external-dns"), [true], "that of another kind does not matter");
        assert_eq!(done(Kind::Cnames, "external-dns"), [false]);
    }
}
