//! The book of a record set's places, which is its status: what is known of them, and what is written down before anything
//! is done. Pure.

use crate::api::{
    DkimRecordSet, DkimRecordSetStatus, PlaceStatus, PublishMethod, PublishState, RecordState, ZoneSpec,
};
use crate::model::publishing::{Kind, Place, method, place_id};

/// What is known of where records are. Of a set that is new to publishers and was not made for them, the embedded server
/// has the records.
pub fn known(set: &DkimRecordSet, held: bool) -> DkimRecordSetStatus {
    if let Some(status) = &set.status {
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
        PlaceStatus {
            id: place.id.clone(),
            zone: place.zone.clone(),
            cnames: place.kind == Kind::Cnames,
            leaving: place.leaving,
            withdraw_at,
            records,
        }
    };
    DkimRecordSetStatus {
        observed_generation: set.metadata.generation,
        places: places.iter().map(place).collect(),
    }
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
