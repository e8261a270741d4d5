//! One reconcile as pure steps over Secret and record set: the operator's own functions, in the order in which
//! `controller/apply.rs` calls them.

use dkim_operator::api::{DkimRecordSetSpec, PublishedRecord};
use dkim_operator::model::acceptance::Order;
use dkim_operator::model::key::KeyKind;
use dkim_operator::model::keyring::{KeyInfo, Phase};
use dkim_operator::model::lanes::{LaneId, PerLane};
use dkim_operator::model::publication;
use dkim_operator::model::rotation::{Change, LaneObserved, Sights, VaultDecision};
use dkim_operator::model::selector::{PerSlot, SlotId};
use dkim_operator::model::sighting::Observation;
use dkim_operator::model::vault::{Vault, VaultChange};
use jiff::Timestamp;

use crate::rules::Rules;

/// What is in the key Secret: the vault, and which private keys lie beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The vault.
    pub vault: Vault,
    /// Whether each slot's private key is there.
    pub keys: PerSlot<bool>,
}

/// A reconcile that has been decided and not yet written.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What was decided.
    pub decision: VaultDecision,
    /// First write, where a key is about to sign: the record set with its mark.
    pub mark: Option<Vec<PublishedRecord>>,
    /// Second write: the Secret.
    pub secret: Stored,
    /// Third write: the record set.
    pub follow: Vec<PublishedRecord>,
}

impl Plan {
    /// The changes of keys.
    pub fn changes(&self) -> impl Iterator<Item = &Change> {
        self.decision.changes.iter().filter_map(|change| match change {
            VaultChange::Key { change, .. } => Some(change),
            _ => None,
        })
    }
}

/// The record set as an object.
fn set(order: &Order, records: &[PublishedRecord]) -> DkimRecordSetSpec {
    DkimRecordSetSpec {
        claim_ref: None,
        provider: order.provider.clone(),
        guid: order.home.guid.to_string(),
        zone: order.home.zone.clone(),
        orphaned: false,
        drain_seconds: order.drain_time().as_secs(),
        // What is left of a claim here are its records.
        last_serial: 0,
        records: records.to_vec(),
        former: Vec::new(),
        cnames: None,
    }
}

/// The Secret as it is, or where it is gone, as it is made anew from the record set.
#[must_use]
pub fn open(order: &Order, secret: Option<&Stored>, records: &[PublishedRecord], now: Timestamp) -> Stored {
    if let Some(stored) = secret {
        return stored.clone();
    }
    let existing = set(order, records);
    let vault = publication::recover(
        &order.domain,
        &order.home,
        &order.selectors(),
        &existing,
        order.drain_time(),
        now,
    );
    Stored { vault, keys: PerSlot([false; 2]) }
}

/// Decides, and works out all three writes. `make` makes the key with a serial.
#[must_use]
pub fn plan(
    rules: &Rules,
    order: &Order,
    before: &Stored,
    records: &[PublishedRecord],
    observation: Option<&Observation>,
    now: Timestamp,
    mut make: impl FnMut(u64, KeyKind, Timestamp) -> KeyInfo,
) -> Plan {
    // Before anything is published nobody looks.
    let observation = observation.filter(|_| !records.is_empty());
    let home = observation.map(|o| rules.evidence(o, order, &before.vault.rings.primary));
    let primary = LaneObserved {
        sights: Sights { home, next: None },
        custody: before.keys,
        in_use: PerSlot([false; 2]),
    };
    let decision = rules.decide(&before.vault, order, &PerLane { primary, second: None }, now);
    let now = rules.moment(&before.vault, now);
    let publish = |records: &[PublishedRecord], vault: &Vault, armed: &[(LaneId, SlotId)]| {
        let existing = set(order, records);
        let all = publication::publish(&existing, vault, &order.home, armed, order.drain_time(), now);
        assert!(all.former.is_empty(), "nothing moves here");
        all.records
    };
    let armed: Vec<(LaneId, SlotId)> = decision.armed().collect();
    let mark = (!armed.is_empty()).then(|| publish(records, &before.vault, &armed));
    let mut secret = before.clone();
    for change in &decision.changes {
        secret.vault.apply(change, now);
        if let VaultChange::Key { change: Change::Generate { slot, kind, .. }, .. } = change {
            let key = make(rules.next_serial(&secret.vault), *kind, now);
            secret.vault.rings.primary.install(*slot, key);
            secret.keys[*slot] = true;
        }
    }
    for slot in SlotId::ALL {
        let phase = &secret.vault.rings.primary.slots[slot].phase;
        if matches!(phase, Phase::Empty | Phase::Revoked { .. }) {
            secret.keys[slot] = false;
        }
    }
    let follow = publish(mark.as_deref().unwrap_or(records), &secret.vault, &[]);
    Plan { decision, mark, secret, follow }
}
