//! When places that records were moved away from are left.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::Publisher;
use crate::api::{DkimRecordSet, DkimRecordSetStatus, PublishMethod, PublishState};
use crate::model::name::DnsName;
use crate::model::publishing::{Kind, Place, has_moved, method, still_beside};
use crate::model::words::whole;
use crate::publish::sight;

impl Publisher {
    /// Sets, moves or takes back the time at which former places are left. A place is left the drain after DNS was seen
    /// to answer from the new one: until then resolvers may know the former servers.
    pub(super) async fn leave(
        &self,
        set: &DkimRecordSet,
        places: &[Place],
        beside: &BTreeMap<String, DnsName>,
        status: &mut DkimRecordSetStatus,
        now: Timestamp,
    ) {
        let published: Vec<String> = status
            .places
            .iter()
            .filter(|place| !place.leaving && !place.cnames)
            .flat_map(|place| place.records.iter())
            .filter(|record| record.state == PublishState::Published)
            .map(|record| record.name.clone())
            .collect();
        for (former, reported) in places.iter().zip(&mut status.places) {
            if !former.leaving || former.wanted.is_empty() {
                continue;
            }
            let verdict = match in_one_zone(former, beside) {
                Some(name) => Err(still_beside(name)),
                None => self.moved(set, former, places, &published).await,
            };
            match verdict {
                Ok(()) => {
                    let drain = SignedDuration::from_secs(set.spec.drain_seconds.max(0));
                    let at = now.checked_add(drain).unwrap_or(Timestamp::MAX);
                    reported.withdraw_at.get_or_insert_with(|| whole(at));
                }
                Err(words) => {
                    reported.withdraw_at = None;
                    for record in reported.records.iter_mut().filter(|record| record.message.is_empty()) {
                        record.message = format!("kept at the former place: {words}");
                    }
                }
            }
        }
    }

    async fn moved(
        &self,
        set: &DkimRecordSet,
        former: &Place,
        places: &[Place],
        published: &[String],
    ) -> Result<(), String> {
        let verification = self.verification(set);
        for (name, wanted) in &former.wanted {
            if !published.iter().any(|done| done == name.as_str()) {
                return Err(format!("{name} is not published at the new one yet"));
            }
            let present =
                places.iter().find(|p| !p.leaving && p.kind == Kind::Keys && p.wanted.contains_key(name));
            let Some(present) = present else { continue };
            let answers = sight::answers(&verification, name).await;
            has_moved(former, present, name, wanted, &answers)?;
        }
        Ok(())
    }
}

/// A name that external-dns still publishes for a former place in the zone of a present one, if there is any: it owns what is at that
/// name, and takes it away with the object.
pub(super) fn in_one_zone<'a>(place: &Place, beside: &'a BTreeMap<String, DnsName>) -> Option<&'a DnsName> {
    let objects = place.leaving && method(&place.zone) == PublishMethod::DnsEndpoint;
    beside.get(&place.id).filter(|_| objects)
}
