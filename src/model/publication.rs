//! What is to be published, derived from the keyring and merged with what already is: a record that has signed
//! outlives its key's last use by the drain, whatever happens to keyring, DkimDomain or namespace.

use jiff::{SignedDuration, Timestamp};

use super::guid::Guid;
use super::key::{KeyKind, PublicKey};
use super::keyring::{KeyInfo, Keyring, Phase, later};
use super::name::{DnsName, DomainName, NameError};
use super::record::{KeyRecord, provider_name};
use super::selector::{PerSlot, Selector, SlotId};
use super::words::whole;
use crate::api::PublishedRecord;

/// Where a domain's records are published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// The label that stands for the domain.
    pub guid: Guid,
    /// The organisation's initial domain.
    pub initial_domain: DnsName,
    /// Per slot, the owner name of the TXT.
    pub names: PerSlot<DnsName>,
    /// TTL in seconds.
    pub ttl: u32,
}

impl Placement {
    /// Works out the names.
    ///
    /// # Errors
    /// [`NameError`] where one does not fit in DNS.
    pub fn new(
        guid: Guid,
        initial_domain: DnsName,
        selectors: &PerSlot<Selector>,
        ttl: u32,
    ) -> Result<Self, NameError> {
        let one = provider_name(&selectors[SlotId::One], &guid, &initial_domain)?;
        let two = provider_name(&selectors[SlotId::Two], &guid, &initial_domain)?;
        Ok(Self { guid, initial_domain, names: PerSlot([one, two]), ttl })
    }
}

/// The records to publish now.
///
/// `armed` is a slot whose key is about to be told to signers: its record is marked as signed beforehand, so that
/// no crash between the two writes lets the record go too early. `drain` counts from `now` for records whose key
/// is no longer known.
#[must_use]
pub fn publish(
    existing: &[PublishedRecord],
    keyring: &Keyring,
    placement: &Placement,
    armed: Option<SlotId>,
    drain: SignedDuration,
    now: Timestamp,
) -> Vec<PublishedRecord> {
    let mut records: Vec<PublishedRecord> = Vec::new();
    for (slot, state) in keyring.slots.iter() {
        let Some(key) = state.phase.key() else { continue };
        let before = existing.iter().find(|r| is_record_of(r, key, &placement.names[slot]));
        let told = match &state.phase {
            Phase::Active { since, .. } | Phase::Draining { since, .. } | Phase::Revoked { since, .. } => {
                Some(*since)
            }
            _ if armed == Some(slot) => Some(now),
            _ => None,
        };
        records.push(PublishedRecord {
            selector: state.selector.to_string(),
            name: placement.names[slot].to_string(),
            ttl: i32::try_from(placement.ttl).unwrap_or(i32::MAX),
            value: match &state.phase {
                Phase::Revoked { .. } => KeyRecord::Revoked { algorithm: key.public.algorithm },
                _ => KeyRecord::Key(key.public.clone()),
            }
            .to_string(),
            serial: i64::try_from(key.serial).unwrap_or(i64::MAX),
            signed_since: before.and_then(|r| r.signed_since.clone()).or_else(|| told.map(whole)),
            keep_until: match &state.phase {
                Phase::Draining { until, held: false, .. } | Phase::Revoked { until, .. } => {
                    Some(whole(*until))
                }
                _ => None,
            },
        });
    }
    let known = |r: &PublishedRecord| records.iter().any(|n| n.name == r.name && n.serial == r.serial);
    let kept: Vec<PublishedRecord> =
        release(existing, drain, now).into_iter().filter(|r| !known(r)).collect();
    // Two keys at one name verify at random (RFC 6376 §3.6.2.2): what has signed stays, the newcomer waits.
    records.retain(|n| !kept.iter().any(|k| k.name == n.name));
    records.extend(kept);
    records
}

/// What stays when the claim is gone: records that have signed, for the drain; the others go at once.
#[must_use]
pub fn release(existing: &[PublishedRecord], drain: SignedDuration, now: Timestamp) -> Vec<PublishedRecord> {
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

/// When the next of these records ends. A newcomer may be waiting for its name.
#[must_use]
pub fn next_end(records: &[PublishedRecord], now: Timestamp) -> Option<Timestamp> {
    records.iter().filter_map(|r| r.keep_until.as_ref()).map(|until| until.0).filter(|end| *end > now).min()
}

/// A keyring made anew from what is published, its Secret being gone: names that carry a key which has signed are
/// occupied until that has drained; the others are free.
#[must_use]
pub fn recover(
    domain: &DomainName,
    selectors: &PerSlot<Selector>,
    existing: &[PublishedRecord],
    placement: &Placement,
    drain: SignedDuration,
    now: Timestamp,
) -> Keyring {
    let mut ring = Keyring::new(domain.clone(), selectors.clone(), now);
    ring.last_serial = existing.iter().filter_map(|r| u64::try_from(r.serial).ok()).max().unwrap_or(0);
    let ttl = existing.iter().filter_map(|r| u32::try_from(r.ttl).ok()).max().unwrap_or(0);
    let kept = release(existing, drain, now);
    for slot in SlotId::ALL {
        ring.slots[slot].older_ttl = ttl;
        let name = placement.names[slot].as_str();
        let Some(record) = kept.iter().find(|r| r.name == name) else { continue };
        let Ok(KeyRecord::Key(public)) = KeyRecord::parse(&record.value) else { continue };
        let Ok(fingerprint) = public.fingerprint() else { continue };
        let (Some(since), Some(until)) = (&record.signed_since, &record.keep_until) else { continue };
        let key = KeyInfo {
            serial: u64::try_from(record.serial).unwrap_or(0),
            kind: kind_of(&public),
            public,
            fingerprint,
            created: since.0,
            imported: false,
        };
        ring.slots[slot].phase = Phase::Draining { key, since: since.0, until: until.0, held: false };
    }
    ring
}

fn is_record_of(record: &PublishedRecord, key: &KeyInfo, name: &DnsName) -> bool {
    record.name == name.as_str() && u64::try_from(record.serial).is_ok_and(|serial| serial == key.serial)
}

fn kind_of(public: &PublicKey) -> KeyKind {
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
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    #[test]
    fn the_next_end_is_the_first_that_is_still_to_come() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let record = |until: Option<i64>| PublishedRecord {
            selector: "selector1".into(),
            name: "selector1-contoso-com._domainkey.contoso.onmail.example".into(),
            ttl: 60,
            value: "v=DKIM1; k=rsa; p=".into(),
            serial: 1,
            signed_since: None,
            keep_until: until.map(|second| Time(at(second))),
        };
        let records = [record(None), record(Some(30)), record(Some(20)), record(Some(10))];
        assert_eq!(next_end(&records, at(10)), Some(at(20)));
        assert_eq!(next_end(&records, at(30)), None);
    }
}
