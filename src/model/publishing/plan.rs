//! What shall be where, from a record set and what is known of where its records are.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::{cnames_id, method, place_id};
use crate::api::{
    CnamePlacement, DkimRecordSetSpec, DkimRecordSetStatus, PlaceStatus, PublishMethod, PublishedRecord,
    ZoneSpec,
};
use crate::model::keyring::later;
use crate::model::name::DnsName;

/// How long a record set that was deleted under a living claim is held, so that the claim can be let go first if its
/// holder is gone, too.
const HELD: SignedDuration = SignedDuration::from_secs(30);

/// What a place holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Our TXTs.
    Keys,
    /// The tenant's CNAMEs to them.
    Cnames,
}

impl Kind {
    /// The field of the DkimProvider that says how such records are published.
    #[must_use]
    pub fn method_field(self) -> &'static str {
        match self {
            Self::Keys => "spec.publish.method",
            Self::Cnames => "spec.customerDns.method",
        }
    }

    /// The field with the server that takes updates, and the key for it.
    #[must_use]
    pub fn server_field(self) -> &'static str {
        match self {
            Self::Keys => "spec.publish.rfc2136",
            Self::Cnames => "spec.customerDns.rfc2136",
        }
    }

    /// The field that names the zone.
    #[must_use]
    pub fn zone_field(self) -> &'static str {
        match self {
            Self::Keys => "spec.publish.zone",
            Self::Cnames => "spec.customerDns.zones",
        }
    }

    /// The types of records that are written: the mark is a TXT in any case.
    #[must_use]
    pub fn types(self) -> &'static str {
        match self {
            Self::Keys => "TXT",
            Self::Cnames => "CNAME and TXT",
        }
    }
}

/// A record as it shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The text of a TXT, or the target of a CNAME: the place's kind says which.
    pub text: String,
    /// Seconds.
    pub ttl: u32,
}

/// One place, with what shall be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Stands for the place.
    pub id: String,
    /// The zone, and how records get into it.
    pub zone: ZoneSpec,
    /// What records these are.
    pub kind: Kind,
    /// Whether records are being moved away from here.
    pub leaving: bool,
    /// The records that shall be there.
    pub wanted: BTreeMap<DnsName, Wanted>,
    /// Names that may hold records of ours and shall not any more.
    pub unwanted: BTreeSet<DnsName>,
}

/// What a plan is made from.
#[derive(Debug, Clone, Copy)]
pub struct Book<'a> {
    /// The record set.
    pub spec: &'a DkimRecordSetSpec,
    /// Where its records are, as far as it was written down.
    pub status: &'a DkimRecordSetStatus,
    /// When the object was deleted, where it was.
    pub deleted: Option<Timestamp>,
    /// Now.
    pub now: Timestamp,
}

/// What to do for a record set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// Everything is with the embedded server, nothing is anywhere else.
    Embedded,
    /// Bring these places about.
    Places(Vec<Place>),
    /// Leave the records where they are and let the object go: it was deleted under a living claim and is made again
    /// at once. The new one finds its records by their marks.
    LetGo,
}

/// Plans.
#[must_use]
pub fn plan(book: &Book<'_>) -> Plan {
    let Book { spec, status, deleted, now } = *book;
    if let (Some(deleted), Some(_)) = (deleted, &spec.claim_ref)
        && later(deleted, HELD) <= now
    {
        return Plan::LetGo;
    }
    let drains = |record: &PublishedRecord| record.keep_until.as_ref().is_some_and(|until| until.0 > now);
    let stays = |record: &PublishedRecord| deleted.is_none() || spec.claim_ref.is_some() || drains(record);
    let mut places: Vec<Place> = Vec::new();
    let mut cnames: Option<Place> = None;
    for placed in spec.placements() {
        let id = place_id(placed.zone);
        let at = match places.iter().position(|place| place.id == id) {
            Some(at) => at,
            None => {
                places.push(Place::new(id, placed.zone.clone(), Kind::Keys, false));
                places.len() - 1
            }
        };
        for record in placed.records.iter().filter(|record| stays(record)) {
            let Ok(name) = DnsName::new(&record.name) else { continue };
            let wanted = Wanted { text: record.value.clone(), ttl: u32::try_from(record.ttl).unwrap_or(0) };
            places[at].wanted.entry(name).or_insert(wanted);
        }
    }
    let all: BTreeMap<DnsName, Wanted> = places.iter().flat_map(|place| place.wanted.clone()).collect();
    if let Some(CnamePlacement { zone, records }) = &spec.cnames {
        let mut place = Place::new(cnames_id(zone), zone.clone(), Kind::Cnames, false);
        // A CNAME outlives its DkimDomain as long as the TXT behind it does.
        let serves = |target: &str| {
            spec.claim_ref.is_some()
                || DnsName::new(target)
                    .is_ok_and(|target| places.iter().any(|p| p.wanted.contains_key(&target)))
        };
        for record in records.iter().filter(|record| serves(&record.target)) {
            let Ok(name) = DnsName::new(&record.name) else { continue };
            let wanted = Wanted { text: record.target.clone(), ttl: u32::try_from(record.ttl).unwrap_or(0) };
            place.wanted.insert(name, wanted);
        }
        cnames = Some(place);
    }
    for known in status.places.iter().filter(|known| known.cnames) {
        // CNAMEs that nobody asks us for any more are the tenant's: taken away they would break its mail.
        if let Some(place) = cnames.as_mut().filter(|place| place.id == known.id) {
            let names = known.records.iter().filter_map(|record| DnsName::new(&record.name).ok());
            place.unwanted = names.filter(|name| !place.wanted.contains_key(name)).collect();
        }
    }
    for known in status.places.iter().filter(|known| !known.cnames) {
        let at = match places.iter().position(|place| place.id == known.id) {
            Some(at) => at,
            // No name was written down, so that nothing was ever there: what is elsewhere does not come there now.
            None if known.records.is_empty() && !known.leaving => continue,
            None => {
                let mut place = Place::new(known.id.clone(), known.zone.clone(), Kind::Keys, true);
                if !over(known, now) {
                    place.wanted = within(&all, &known.zone);
                }
                places.push(place);
                places.len() - 1
            }
        };
        let place = &mut places[at];
        let names = known.records.iter().filter_map(|record| DnsName::new(&record.name).ok());
        place.unwanted = names.filter(|name| !place.wanted.contains_key(name)).collect();
    }
    // A place that was left and holds nothing any more is forgotten.
    places.retain(|place| !(place.leaving && place.wanted.is_empty() && place.is_empty_of_ours()));
    places.extend(cnames.filter(|place| !(place.wanted.is_empty() && place.unwanted.is_empty())));
    if places.iter().all(|place| method(&place.zone) == PublishMethod::Embedded) {
        return Plan::Embedded;
    }
    // Where nothing is published yet there may be nothing ever: a claim to the names there may be taken back.
    places.retain(|place| !(place.wanted.is_empty() && place.unwanted.is_empty()));
    Plan::Places(places)
}

impl Place {
    fn new(id: String, zone: ZoneSpec, kind: Kind, leaving: bool) -> Self {
        Self { id, zone, kind, leaving, wanted: BTreeMap::new(), unwanted: BTreeSet::new() }
    }

    /// Whether there is nothing to withdraw: by name, or because nobody here can withdraw it.
    fn is_empty_of_ours(&self) -> bool {
        match method(&self.zone) {
            PublishMethod::Embedded | PublishMethod::Manual => true,
            PublishMethod::Rfc2136 | PublishMethod::DnsEndpoint => self.unwanted.is_empty(),
        }
    }
}

/// Whether the time of a former place is over.
fn over(known: &PlaceStatus, now: Timestamp) -> bool {
    known.withdraw_at.as_ref().is_some_and(|at| at.0 <= now)
}

/// The records whose names are in a zone.
fn within(all: &BTreeMap<DnsName, Wanted>, zone: &ZoneSpec) -> BTreeMap<DnsName, Wanted> {
    let Ok(apex) = DnsName::new(&zone.apex) else { return BTreeMap::new() };
    all.iter().filter(|(name, _)| name.is_in(&apex)).map(|(n, w)| (n.clone(), w.clone())).collect()
}
