//! One reconcile as pure steps over Secret and record set: the operator's own functions, in the order in which
//! `controller/apply.rs` calls them.

use dkim_operator::api::DkimRecordSetSpec;
use dkim_operator::model::acceptance::Order;
use dkim_operator::model::home::Home;
use dkim_operator::model::key::KeyKind;
use dkim_operator::model::keyring::{KeyInfo, Keyring, Phase};
use dkim_operator::model::lanes::{LaneId, PerLane};
use dkim_operator::model::publication;
use dkim_operator::model::rotation::{
    Change, FormerSeen, LaneObserved, Move, Sights, VaultDecision, VaultObserved,
};
use dkim_operator::model::selector::{PerSlot, SlotId};
use dkim_operator::model::sighting::Observation;
use dkim_operator::model::vault::{Vault, VaultChange};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::rules::Rules;

/// What is in the key Secret: the vault, and which private keys lie beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// The vault.
    pub vault: Vault,
    /// Whether each slot's private key is there.
    pub keys: PerLane<PerSlot<bool>>,
}

/// A reconcile that has been decided and not yet written.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What was decided.
    pub decision: VaultDecision,
    /// First write, where a key is about to sign: the record set with its mark.
    pub mark: Option<DkimRecordSetSpec>,
    /// Second write: the Secret.
    pub secret: Stored,
    /// Third write: the record set.
    pub follow: DkimRecordSetSpec,
}

impl Plan {
    /// The changes of keys.
    pub fn changes(&self) -> impl Iterator<Item = (LaneId, &Change)> {
        self.decision.changes.iter().filter_map(|change| match change {
            VaultChange::Key { lane, change } => Some((*lane, change)),
            _ => None,
        })
    }

    /// The steps of a move.
    pub fn moves(&self) -> impl Iterator<Item = &Move> {
        self.decision.changes.iter().filter_map(|change| match change {
            VaultChange::Move(step) => Some(step),
            _ => None,
        })
    }
}

/// A record set without records.
#[must_use]
pub fn empty_set(order: &Order) -> DkimRecordSetSpec {
    DkimRecordSetSpec {
        claim_ref: None,
        provider: order.provider.clone(),
        guid: order.home.guid.to_string(),
        initial_domain: Some(order.home.initial_domain.to_string()),
        zone: order.home.zone.clone(),
        orphaned: false,
        drain_seconds: order.drain_time().as_secs(),
        last_serial: 0,
        remembered_until: None,
        records: Vec::new(),
        former: Vec::new(),
        cnames: None,
    }
}

/// The Secret as it is, or where it is gone, or older than what is published, as it is made anew from the record set.
#[must_use]
pub fn open(order: &Order, secret: Option<&Stored>, set: &DkimRecordSetSpec, now: Timestamp) -> Stored {
    if let Some(stored) = secret.filter(|stored| !publication::is_ahead_of(set, &stored.vault)) {
        return stored.clone();
    }
    let (selectors, drain) = (order.selectors(), order.drain_time());
    let vault = publication::recover(&order.domain, &order.home, &selectors, set, drain, now);
    let keys = vault.rings.map(|_, _| PerSlot([false; 2]));
    Stored { vault, keys }
}

/// What a reconcile has seen of the world.
pub struct Eyes<'a> {
    /// The last look at the names of a home, for a lane; none where nobody has looked.
    pub look: &'a dyn Fn(LaneId, &Home) -> Option<Observation>,
    /// In which slots a signer still uses the key before.
    pub in_use: PerLane<PerSlot<bool>>,
    /// Whether a signer still signs by names of before a move.
    pub former_in_use: bool,
}

/// Decides, and works out all three writes. `make` makes the key of a serial, or takes in the one that the user brings.
#[must_use]
pub fn plan(
    rules: &Rules,
    order: &Order,
    before: &Stored,
    set: &DkimRecordSetSpec,
    eyes: &Eyes<'_>,
    now: Timestamp,
    mut make: impl FnMut(u64, KeyKind, bool, Timestamp) -> KeyInfo,
) -> Plan {
    // Before anything is published nobody looks.
    let looks = set.publishes();
    let lanes = before.vault.rings.map(|lane, ring| {
        let sight = |home: &Home, ring: &Keyring| {
            let observation = (eyes.look)(lane, home).filter(|_| looks)?;
            rules.evidence(&observation, order, lane, home, ring)
        };
        let next = before.vault.moving.as_ref().zip(before.vault.next_ring(lane));
        let sights = Sights {
            home: sight(&before.vault.home, ring),
            next: next.and_then(|(moving, ring)| sight(&moving.to, &ring)),
        };
        let custody = before.keys.get(lane).copied().unwrap_or_default();
        let in_use = eyes.in_use.get(lane).copied().unwrap_or_default();
        LaneObserved { sights, custody, in_use }
    });
    let published = publication::serves_drained(set, &before.vault, now);
    let observed = VaultObserved { lanes, former: FormerSeen { in_use: eyes.former_in_use, published } };
    let decision = rules.decide(&before.vault, order, &observed, now);
    let now = rules.moment(&before.vault, now);
    let armed: Vec<(LaneId, SlotId)> = decision.armed().collect();
    let mark = (!armed.is_empty()).then(|| rules.publish(order, set, &before.vault, &armed, now));
    let mut secret = before.clone();
    for change in &decision.changes {
        rules.apply(&mut secret.vault, change, now);
        secret.keys.second =
            secret.vault.rings.second.is_some().then(|| secret.keys.second.unwrap_or_default());
        let VaultChange::Key { lane, change: Change::Generate { slot, kind, import, .. } } = change else {
            continue;
        };
        let key = make(rules.next_serial(&secret.vault), *kind, *import, now);
        if let (Some(ring), Some(keys)) = (secret.vault.rings.get_mut(*lane), secret.keys.get_mut(*lane)) {
            ring.install(*slot, key);
            keys[*slot] = true;
        }
    }
    for (lane, ring) in secret.vault.rings.iter() {
        for (slot, state) in ring.slots.iter() {
            if let (Phase::Empty | Phase::Revoked { .. }, Some(keys)) =
                (&state.phase, secret.keys.get_mut(lane))
            {
                keys[slot] = false;
            }
        }
    }
    let follow = rules.publish(order, mark.as_ref().unwrap_or(set), &secret.vault, &[], now);
    Plan { decision, mark, secret, follow }
}
