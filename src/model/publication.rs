//! What is to be published, derived from the vault and merged with what already is: a record that has signed outlives
//! its key's last use by the drain, whatever happens to vault, DkimDomain or namespace.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::home::Home;
use super::key::{KeyKind, PublicKey};
use super::keyring::{KeyInfo, Keyring, Phase, Slot};
use super::lanes::{LaneId, PerLane};
use super::name::DomainName;
use super::record::KeyRecord;
use super::selector::{PerSlot, Selector, SlotId};
use super::vault::{FormerHome, Vault};
use super::words::whole;
use crate::api::{DeletionPolicy, DkimRecordSetSpec, FormerPlacement, PublishedRecord};
use crate::model::keyring::later;

/// Records by place.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Publication {
    /// Where the spec places them.
    pub records: Vec<PublishedRecord>,
    /// Elsewhere, from before a move or until it is done.
    pub former: Vec<FormerPlacement>,
}

/// The records to publish now. `wanted` is where the spec places the keys.
///
/// `armed` are slots whose keys are about to be told to signers: their records are marked as signed beforehand, so
/// that no crash between the two writes lets a record go too early. `drain` counts from `now` for records whose key
/// is no longer known.
#[must_use]
pub fn publish(
    existing: &DkimRecordSetSpec,
    vault: &Vault,
    wanted: &Home,
    armed: &[(LaneId, SlotId)],
    drain: SignedDuration,
    now: Timestamp,
) -> Publication {
    let before: Vec<&PublishedRecord> = existing.placements().flat_map(|place| place.records).collect();
    let mut places = vec![place(wanted, derive(vault, wanted, None, armed, &before, now))];
    for home in vault.homes().filter(|home| !home.is_at(wanted)) {
        add(&mut places, place(home, derive(vault, home, None, armed, &before, now)));
    }
    for former in vault.former.iter().filter(|former| !former.home.is_at(wanted)) {
        add(&mut places, place(&former.home, derive(vault, &former.home, Some(former), armed, &before, now)));
    }
    let kept = keep(existing, &places, drain, now);
    for place in &mut places {
        // Two keys at one name verify at random (RFC 6376 §3.6.2.2): what has signed stays, the newcomer waits.
        place.records.retain(|n| !kept.iter().any(|k| k.records.iter().any(|r| r.name == n.name)));
    }
    kept.into_iter().for_each(|old| add(&mut places, old));
    let mut places = places.into_iter();
    let records = places.next().map(|present| present.records).unwrap_or_default();
    Publication { records, former: places.filter(|place| !place.records.is_empty()).collect() }
}

fn place(home: &Home, records: Vec<PublishedRecord>) -> FormerPlacement {
    let Home { provider, guid, initial_domain, zone, ttl: _ } = home;
    FormerPlacement {
        provider: provider.clone(),
        guid: guid.to_string(),
        initial_domain: Some(initial_domain.to_string()),
        zone: zone.clone(),
        records,
    }
}

/// Adds a place, or its records to one that is the same for a publisher. A name is never there twice.
fn add(places: &mut Vec<FormerPlacement>, place: FormerPlacement) {
    let there: Vec<String> = places.iter().flat_map(|p| &p.records).map(|r| r.name.clone()).collect();
    let mut fresh = place;
    fresh.records.retain(|record| !there.contains(&record.name));
    let below = |place: &FormerPlacement| {
        let [one, other] = [&place.initial_domain, &fresh.initial_domain];
        one.is_none() || other.is_none() || one == other
    };
    let same = places.iter_mut().find(|p| {
        p.provider == fresh.provider && p.guid == fresh.guid && p.zone.apex == fresh.zone.apex && below(p)
    });
    match same {
        Some(same) => same.records.extend(fresh.records),
        None => places.push(fresh),
    }
}

/// The records of a vault's keys at one home; at a former one only those of keys that were there when it was left.
fn derive(
    vault: &Vault,
    home: &Home,
    former: Option<&FormerHome>,
    armed: &[(LaneId, SlotId)],
    existing: &[&PublishedRecord],
    now: Timestamp,
) -> Vec<PublishedRecord> {
    let mut records = Vec::new();
    for (lane, ring) in vault.rings.iter() {
        for (slot, state) in ring.slots.iter() {
            let (Some(key), Ok(name)) = (state.phase.key(), home.target(&state.selector)) else { continue };
            let unknown = |former: &FormerHome| key.created > former.left && !former.reached;
            if former.is_some_and(|former| unknown(former) || former.has_drained(now)) {
                continue;
            }
            let before = existing.iter().find(|r| is_record_of(r, key, name.as_str()));
            let told = match &state.phase {
                Phase::Active { since, .. }
                | Phase::Draining { since, .. }
                | Phase::Revoked { since, .. } => Some(*since),
                _ if armed.contains(&(lane, slot)) => Some(now),
                _ => None,
            };
            let signed_since = before.and_then(|r| r.signed_since.clone()).or_else(|| told.map(whole));
            if former.is_some_and(|former| !former.reached) && signed_since.is_none() {
                continue;
            }
            records.push(PublishedRecord {
                selector: state.selector.to_string(),
                name: name.to_string(),
                ttl: i32::try_from(home.ttl).unwrap_or(i32::MAX),
                value: value(state, key),
                serial: serial(key),
                signed_since,
                keep_until: match (former, &state.phase) {
                    (Some(former), _) => Some(whole(former.until)).filter(|_| !former.held),
                    (None, Phase::Draining { until, held: false, .. } | Phase::Revoked { until, .. }) => {
                        Some(whole(*until))
                    }
                    (None, _) => None,
                },
            });
        }
    }
    records
}

fn value(state: &Slot, key: &KeyInfo) -> String {
    let record = match &state.phase {
        Phase::Revoked { .. } => KeyRecord::Revoked { algorithm: key.public.algorithm },
        _ => KeyRecord::Key(key.public.clone()),
    };
    record.to_string()
}

fn serial(key: &KeyInfo) -> i64 {
    i64::try_from(key.serial).unwrap_or(i64::MAX)
}

/// What is published, is not derived from the vault any more, and has signed.
fn keep(
    existing: &DkimRecordSetSpec,
    derived: &[FormerPlacement],
    drain: SignedDuration,
    now: Timestamp,
) -> Vec<FormerPlacement> {
    let known = |old: &PublishedRecord| {
        let mut all = derived.iter().flat_map(|place| &place.records);
        all.any(|new| new.name == old.name && new.serial == old.serial)
    };
    let places = existing.placements().map(|place| FormerPlacement {
        provider: place.provider.to_owned(),
        guid: place.guid.to_owned(),
        initial_domain: place.initial_domain.map(str::to_owned),
        zone: place.zone.clone(),
        records: release(place.records, drain, now).into_iter().filter(|r| !known(r)).collect(),
    });
    places.filter(|place| !place.records.is_empty()).collect()
}

/// What stays when the claim is gone: records that have signed, for the drain; the others go at once.
fn release(existing: &[PublishedRecord], drain: SignedDuration, now: Timestamp) -> Vec<PublishedRecord> {
    let mut kept = Vec::new();
    for record in existing {
        if record.signed_since.is_none() {
            continue;
        }
        let until = record.keep_until.as_ref().map_or_else(|| later(now, drain), |t| t.0);
        if until > now {
            kept.push(PublishedRecord { keep_until: Some(whole(until)), ..record.clone() });
        }
    }
    kept
}

/// [`release`] at every place.
fn release_all(existing: &DkimRecordSetSpec, drain: SignedDuration, now: Timestamp) -> Publication {
    let former = existing
        .former
        .iter()
        .map(|place| FormerPlacement { records: release(&place.records, drain, now), ..place.clone() });
    Publication {
        records: release(&existing.records, drain, now),
        former: former.filter(|place| !place.records.is_empty()).collect(),
    }
}

/// What is left of a record set whose claim is let go as the DkimDomain asked; none where the object goes.
///
/// Where nothing is published any more it stays for as long as resolvers may remember what was, which is `rounding` seconds
/// longer than a TTL says: a claim that is made meanwhile lets its names settle, and counts its keys on.
#[must_use]
pub fn let_go(
    existing: &DkimRecordSetSpec,
    how: DeletionPolicy,
    rounding: u32,
    now: Timestamp,
) -> Option<DkimRecordSetSpec> {
    let left = match how {
        DeletionPolicy::Orphan => {
            return Some(DkimRecordSetSpec { claim_ref: None, orphaned: true, ..existing.clone() });
        }
        DeletionPolicy::Drain => {
            release_all(existing, SignedDuration::from_secs(existing.drain_seconds), now)
        }
        DeletionPolicy::Immediate => Publication::default(),
    };
    let Publication { records, former } = left;
    let silent = records.is_empty() && former.is_empty();
    let until = remembered_until(existing, rounding, now).filter(|_| silent);
    if silent && until.is_none_or(|until| until <= now) {
        return None;
    }
    let remembered_until = until.map(whole);
    Some(DkimRecordSetSpec { claim_ref: None, records, former, remembered_until, ..existing.clone() })
}

/// Until when resolvers may remember what is published, or was until it was withdrawn.
fn remembered_until(existing: &DkimRecordSetSpec, rounding: u32, now: Timestamp) -> Option<Timestamp> {
    let records = existing.placements().flat_map(|place| place.records);
    let ttl = records.map(|record| i64::from(record.ttl)).max();
    let until = ttl.map(|ttl| later(now, SignedDuration::from_secs(ttl.saturating_add(rounding.into()))));
    until.max(existing.remembered_until.as_ref().map(|until| until.0))
}

/// Until when resolvers may remember what a claim before the present one had published, where that is not over.
#[must_use]
pub fn still_remembered(existing: &DkimRecordSetSpec, now: Timestamp) -> Option<Time> {
    existing.remembered_until.clone().filter(|until| until.0 > now)
}

/// Whether names of homes that have drained are still published: the write that takes them out is to come.
#[must_use]
pub fn serves_drained(existing: &DkimRecordSetSpec, vault: &Vault, now: Timestamp) -> bool {
    let now = now.max(vault.high_water());
    let mut drained = vault.former.iter().filter(|former| former.has_drained(now)).peekable();
    if drained.peek().is_none() {
        return false;
    }
    let selectors =
        || vault.rings.iter().flat_map(|(_, ring)| ring.slots.iter().map(|(_, slot)| &slot.selector));
    let names = |home: &Home| selectors().filter_map(|s| home.target(s).ok()).collect::<Vec<_>>();
    let wanted: Vec<_> = vault.homes().flat_map(names).collect();
    let gone: Vec<_> = drained.flat_map(|f| names(&f.home)).filter(|name| !wanted.contains(name)).collect();
    let is_gone = |record: &PublishedRecord| gone.iter().any(|name| name.as_str() == record.name);
    existing.placements().any(|place| place.records.iter().any(is_gone))
}

/// When records end.
fn ends(spec: &DkimRecordSetSpec) -> impl Iterator<Item = Timestamp> {
    let records = spec.placements().flat_map(|place| place.records);
    records.filter_map(|record| record.keep_until.as_ref()).map(|until| until.0)
}

/// When something of a record set that nobody claims is over next.
#[must_use]
pub fn over_at(spec: &DkimRecordSetSpec) -> Option<Timestamp> {
    ends(spec).chain(spec.remembered_until.as_ref().map(|until| until.0)).min()
}

/// When the next of these records ends. A newcomer may be waiting for its name.
#[must_use]
pub fn next_end(spec: &DkimRecordSetSpec, now: Timestamp) -> Option<Timestamp> {
    ends(spec).filter(|end| *end > now).min()
}

/// The greatest serial of any key so far, as vault and record set know it.
#[must_use]
pub fn last_serial(existing: &DkimRecordSetSpec, vault: &Vault) -> i64 {
    existing.last_serial.max(i64::try_from(vault.last_serial()).unwrap_or(i64::MAX))
}

/// The same where there is no vault.
fn last_published(existing: &DkimRecordSetSpec) -> u64 {
    let records = existing.placements().flat_map(|place| place.records);
    let last = records.map(|record| record.serial).chain([existing.last_serial]).max();
    last.and_then(|last| u64::try_from(last).ok()).unwrap_or(0)
}

/// Whether a vault is older than what is published: its Secret was put back from a backup. Its keys may have been retired
/// since, and their serials given to others. A record set never runs ahead of its vault otherwise.
#[must_use]
pub fn is_ahead_of(existing: &DkimRecordSetSpec, vault: &Vault) -> bool {
    last_published(existing) > vault.last_serial()
}

/// A vault made anew from what is published, its Secret being gone: names that carry a key which has signed are
/// occupied until that has drained; the others are free.
#[must_use]
pub fn recover(
    domain: &DomainName,
    home: &Home,
    selectors: &PerLane<PerSlot<Selector>>,
    existing: &DkimRecordSetSpec,
    drain: SignedDuration,
    now: Timestamp,
) -> Vault {
    let all: Vec<&PublishedRecord> = existing.placements().flat_map(|place| place.records).collect();
    let mut vault = Vault::new(domain.clone(), home.clone(), selectors.primary.clone(), now);
    vault.rings = selectors.map(|_, selectors| Keyring::new(selectors.clone(), now));
    let last = last_published(existing);
    let ttl = all.iter().filter_map(|r| u32::try_from(r.ttl).ok()).max().unwrap_or(0);
    let remembered = still_remembered(existing, now).map(|until| until.0.duration_since(now).as_secs());
    let ttl = ttl.max(remembered.and_then(|seconds| u32::try_from(seconds).ok()).unwrap_or(0));
    // Also behind a claim under which nothing is published yet: its names may be those of a former place.
    let kept: Vec<PublishedRecord> =
        existing.placements().flat_map(|place| release(place.records, drain, now)).collect();
    for lane in LaneId::ALL {
        let Some(ring) = vault.rings.get_mut(lane) else { continue };
        ring.last_serial = last;
        for slot in SlotId::ALL {
            ring.slots[slot].older_ttl = ttl;
            if let Some(phase) = home.target(&ring.slots[slot].selector).ok().and_then(|name| {
                let record = kept.iter().find(|r| r.name == name.as_str())?;
                recovered(record)
            }) {
                ring.slots[slot].phase = phase;
            }
        }
    }
    vault
}

fn recovered(record: &PublishedRecord) -> Option<Phase> {
    let KeyRecord::Key(public) = KeyRecord::parse(&record.value).ok()? else { return None };
    let (since, until) = (record.signed_since.as_ref()?.0, record.keep_until.as_ref()?.0);
    let key = KeyInfo {
        serial: u64::try_from(record.serial).unwrap_or(0),
        kind: kind_of(&public),
        fingerprint: public.fingerprint().ok()?,
        public,
        created: since,
        imported: false,
    };
    Some(Phase::Draining { key, since, until, held: false })
}

fn is_record_of(record: &PublishedRecord, key: &KeyInfo, name: &str) -> bool {
    record.name == name && u64::try_from(record.serial).is_ok_and(|serial| serial == key.serial)
}

/// The kind of a public key, by the length of its `p=`.
#[must_use]
pub fn kind_of(public: &PublicKey) -> KeyKind {
    use super::key::Algorithm;
    match (public.algorithm, public.p.len()) {
        (Algorithm::Ed25519, _) => KeyKind::Ed25519,
        (Algorithm::Rsa, 0..=250) => KeyKind::Rsa1024,
        (Algorithm::Rsa, 251..=450) => KeyKind::Rsa2048,
        (Algorithm::Rsa, 451..=620) => KeyKind::Rsa3072,
        (Algorithm::Rsa, _) => KeyKind::Rsa4096,
    }
}

#[cfg(test)]
mod tests;
