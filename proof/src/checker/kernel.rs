//! The operator's functions over numbered keyrings and record sets. Each distinct call is made once.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, RwLock};

use dkim_operator::api::{DeletionPolicy, DkimRecordSetSpec};
use dkim_operator::model::acceptance::Order;
use dkim_operator::model::home::Home;
use dkim_operator::model::key::KeyKind;
use dkim_operator::model::lanes::{LaneId, PerLane};
use dkim_operator::model::name::DnsName;
use dkim_operator::model::publication;
use dkim_operator::model::selector::{PerSlot, SlotId};
use dkim_operator::model::sighting::Observation;
use jiff::Timestamp;

use super::judge::judge;
use super::store::{Chronology, KNOWN_STOLEN, PRESENT, Store, TICK, age, ago, at, renumber, steal};
use super::view::View;
use super::world::{LinkSeen, Look, NAMES, Spec, TOP};
use crate::keys::{self, KeyId};
use crate::operator::{self, Eyes, Stored};
use crate::rules::Rules;
use crate::sight::{self, AliasAnswer, TextAnswer as Heard};
use crate::terms::{self, Times, Wishes};

/// What a reconcile is given.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Call {
    /// The Secret.
    pub secret: Option<u32>,
    /// The record set.
    pub set: u32,
    /// The spec.
    pub spec: Spec,
    /// The last look at DNS.
    pub look: Option<Look>,
    /// The controller's clock against the true time.
    pub clock: i8,
    /// Tells a new key from one that bore its serial before.
    pub tag: u8,
    /// In which slots of the primary lane a signer reports to use the key before.
    pub in_use: [bool; 2],
    /// Whether one reports to sign by names of before a move.
    pub former_in_use: bool,
}

/// The writes that come of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Writes {
    /// First the record set, where a key is about to sign.
    pub mark: Option<u32>,
    /// Then the Secret.
    pub secret: u32,
    /// Whether that says anything new.
    pub changed: bool,
    /// Then the record set again.
    pub follow: u32,
    /// Bits of [`facts`].
    pub facts: u16,
}

pub(super) struct Memo<K, V>(RwLock<HashMap<K, V>>);

impl<K: Hash + Eq + Clone, V: Clone> Memo<K, V> {
    fn new() -> Self {
        Self(RwLock::new(HashMap::new()))
    }

    pub(super) fn get(&self, key: &K, make: impl FnOnce() -> V) -> V {
        if let Some(value) = self.0.read().expect("no thread failed").get(key) {
            return value.clone();
        }
        let value = make();
        self.0.write().expect("no thread failed").insert(key.clone(), value.clone());
        value
    }
}

/// See the module.
pub struct Kernel {
    /// The rules in force.
    pub rules: Rules,
    /// The spans, in seconds: ticks times [`TICK`].
    pub times: Times,
    /// What matters of times.
    pub chronology: Chronology,
    index: Vec<(String, usize)>,
    pub(super) secrets: Store<Stored>,
    sets: Store<DkimRecordSetSpec>,
    orders: Memo<Spec, Arc<Order>>,
    plans: Memo<Call, Writes>,
    pub(super) views: Memo<u32, Arc<View>>,
    aged_secrets: Memo<u32, u32>,
    aged_sets: Memo<u32, u32>,
    lowered_secrets: Memo<(u32, i16), u32>,
    lowered_sets: Memo<(u32, i16), u32>,
    names: Memo<u32, [Vec<(Heard, u16)>; NAMES]>,
    released: Memo<(u32, i8, bool), Option<u32>>,
}

fn slot(index: usize) -> SlotId {
    SlotId::ALL[index]
}

pub(super) fn ticks(time: Timestamp) -> i8 {
    let ticks = (time.as_second() - PRESENT).div_euclid(TICK);
    i8::try_from(ticks.clamp(-100, 100)).expect("clamped")
}

impl Kernel {
    /// A kernel with these rules and spans.
    #[must_use]
    pub fn new(rules: Rules, times: Times, chronology: Chronology) -> Self {
        let mut index = Vec::new();
        let mut learn = |spec: Spec, second: bool, first: usize| {
            let order = order_anew(&times, spec);
            let lane = if second { order.lanes.second.as_ref() } else { Some(&order.lanes.primary) };
            for (slot, name) in lane.into_iter().flat_map(|lane| lane.targets.iter()) {
                index.push((name.to_string(), first + slot as usize));
            }
        };
        learn(Spec::default(), false, 0);
        learn(Spec { away: true, ..Spec::default() }, false, 2);
        learn(Spec { second: true, ..Spec::default() }, true, 2);
        Self {
            rules,
            times,
            chronology,
            index,
            secrets: Store::default(),
            sets: Store::default(),
            orders: Memo::new(),
            plans: Memo::new(),
            views: Memo::new(),
            aged_secrets: Memo::new(),
            aged_sets: Memo::new(),
            lowered_secrets: Memo::new(),
            lowered_sets: Memo::new(),
            names: Memo::new(),
            released: Memo::new(),
        }
    }

    /// A record set without records.
    pub fn empty_set(&self, spec: Spec) -> u32 {
        self.sets.put(operator::empty_set(&self.order(spec)))
    }

    /// Whether a record set has no records and knows of none.
    pub fn is_new(&self, set: u32) -> bool {
        let set = self.sets.get(set);
        set.last_serial == 0 && !set.publishes()
    }

    /// Whether a record set publishes anything.
    pub fn publishes(&self, set: u32) -> bool {
        self.sets.get(set).publishes()
    }

    pub(super) fn order(&self, spec: Spec) -> Arc<Order> {
        self.orders.get(&spec, || Arc::new(order_anew(&self.times, spec)))
    }

    fn age<T: serde::Serialize + serde::de::DeserializeOwned>(&self, thing: &T, ticks: i8) -> T {
        age(thing, ticks, self.chronology)
    }

    /// Decides, and works out the writes.
    pub fn plan(&self, call: &Call) -> Writes {
        self.plans.get(call, || self.plan_anew(call))
    }

    fn plan_anew(&self, call: &Call) -> Writes {
        let order = self.order(call.spec);
        let now = at(call.clock);
        let secret = call.secret.map(|id| (*self.secrets.get(id)).clone());
        let set = self.sets.get(call.set);
        let before = operator::open(&order, secret.as_ref(), &set, now);
        let look = |lane: LaneId, home: &Home| {
            let ring = before.vault.rings.get(lane)?;
            let selectors = PerSlot::from_fn(|slot| ring.slots[slot].selector.clone());
            let targets = home.targets(&selectors).ok()?;
            let first = self.index_of(targets[SlotId::One].as_str());
            self.observe(call, lane, first, &targets)
        };
        let second = before.vault.rings.second.is_some().then(PerSlot::default);
        let in_use = PerLane { primary: PerSlot(call.in_use), second };
        let eyes = Eyes { look: &look, in_use, former_in_use: call.former_in_use };
        let make = |serial: u64, kind: KeyKind, import: bool, now: Timestamp| {
            if import {
                return keys::take_in(serial, now);
            }
            let serial = u16::try_from(serial).expect("small");
            let tag = if serial > TOP { 0 } else { call.tag + 1 };
            keys::make(KeyId { serial, tag, ed25519: kind == KeyKind::Ed25519 }, now)
        };
        let plan = operator::plan(&self.rules, &order, &before, &set, &eyes, now, make);
        let secret_id = self.put_secret(plan.secret.clone());
        Writes {
            mark: plan.mark.as_ref().map(|set| self.sets.put(self.age(set, 0))),
            secret: secret_id,
            changed: call.secret != Some(secret_id),
            follow: self.sets.put(self.age(&plan.follow, 0)),
            facts: judge(&before, &plan, &order.lanes.primary.policy, call, now),
        }
    }

    /// Answers as real servers would give them, to somebody who asks about names from `first` on.
    fn observe(
        &self,
        call: &Call,
        lane: LaneId,
        first: usize,
        targets: &PerSlot<DnsName>,
    ) -> Option<Observation> {
        let look = call.look.as_ref()?;
        let seconds = |ticks: u8| u32::from(ticks) * u32::try_from(TICK).expect("small");
        let negative_ttl = seconds(LinkSeen::NEGATIVE_TTL);
        let ttl = self.times.cname_ttl;
        // A host that hides CNAMEs passes our TTL on; a tenant who publishes copies chooses a longer one.
        let (copy_ttl, own_ttl) = if call.spec.copies { (ttl, 1) } else { (self.times.ttl, self.times.ttl) };
        let base = 2 * usize::from(lane == LaneId::Second);
        let away = lane == LaneId::Primary && first == 2;
        let aliases = [0, 1].map(|slot| match look.links[base + slot] {
            LinkSeen::Right if away => AliasAnswer::Wrong { ttl, negative_ttl },
            LinkSeen::Next if !away => AliasAnswer::Wrong { ttl, negative_ttl },
            LinkSeen::Right | LinkSeen::Next => AliasAnswer::Right { ttl, negative_ttl },
            LinkSeen::Copy(key) => AliasAnswer::Copy { key, ttl: copy_ttl, negative_ttl },
            LinkSeen::Missing => AliasAnswer::Missing { negative_ttl },
            LinkSeen::Wrong => AliasAnswer::Wrong { ttl, negative_ttl },
            LinkSeen::Unclear => AliasAnswer::Failed,
        });
        let texts = look.txt.map(|server| [server[first], server[first + 1]]);
        Some(sight::observation(at(look.at), targets, aliases, texts, own_ttl))
    }

    pub(super) fn index_of(&self, name: &str) -> usize {
        self.index.iter().find(|(known, _)| known == name).expect("a name of this world").1
    }

    fn put_secret(&self, mut stored: Stored) -> u32 {
        for lane in LaneId::ALL {
            if let Some(ring) = stored.vault.rings.get_mut(lane) {
                ring.log.count = 0;
            }
        }
        self.secrets.put(self.age(&stored, 0))
    }

    /// A Secret seen a tick later.
    pub fn older_secret(&self, id: u32) -> u32 {
        self.aged_secrets.get(&id, || self.secrets.put(self.age(&*self.secrets.get(id), 1)))
    }

    /// A record set seen a tick later.
    pub fn older_set(&self, id: u32) -> u32 {
        self.aged_sets.get(&id, || self.sets.put(self.age(&*self.sets.get(id), 1)))
    }

    /// A Secret with lower serials.
    pub fn lower_secret(&self, id: u32, by: i16) -> u32 {
        self.lowered_secrets.get(&(id, by), || self.secrets.put(renumber(&*self.secrets.get(id), by)))
    }

    /// A record set with lower serials.
    pub fn lower_set(&self, id: u32, by: i16) -> u32 {
        self.lowered_sets.get(&(id, by), || self.sets.put(renumber(&*self.sets.get(id), by)))
    }

    /// A Secret from which somebody took one private key.
    pub fn without_key(&self, id: u32, index: usize) -> u32 {
        let mut stored = (*self.secrets.get(id)).clone();
        stored.keys.primary[slot(index)] = false;
        self.secrets.put(stored)
    }

    /// A Secret whose keys are in the wrong hands.
    pub fn stolen_secret(&self, id: u32) -> u32 {
        self.secrets.put(steal(&*self.secrets.get(id)))
    }

    /// A record set whose keys are in the wrong hands.
    pub fn stolen_set(&self, id: u32) -> u32 {
        self.sets.put(steal(&*self.sets.get(id)))
    }

    /// What a record set publishes at each name, and its serial.
    pub fn published(&self, set: u32) -> [Vec<(Heard, u16)>; NAMES] {
        self.names.get(&set, || {
            let mut names: [Vec<(Heard, u16)>; NAMES] = Default::default();
            let set = self.sets.get(set);
            for record in set.placements().flat_map(|place| place.records) {
                let heard = keys::in_record(&record.value).map_or(Heard::Revoked, Heard::Key);
                let serial = u16::try_from(record.serial).expect("small");
                names[self.index_of(&record.name)].push((heard, serial));
            }
            names
        })
    }

    /// What is left of a record set whose claim is let go, with all its records at once or not; none where it is nothing.
    pub fn release(&self, set: u32, clock: i8, at_once: bool) -> Option<u32> {
        self.released.get(&(set, clock, at_once), || {
            let how = if at_once { DeletionPolicy::Immediate } else { DeletionPolicy::Drain };
            let left = self.rules.release(&self.sets.get(set), how, at(clock))?;
            Some(self.sets.put(self.age(&left, 0)))
        })
    }

    /// The controller's clock where that of its machine leaps so many ticks ahead.
    pub fn present(&self, ahead: i8) -> i8 {
        let off = self.rules.present(at(ahead), at(0)).duration_since(at(0));
        i8::try_from(off.as_secs() / TICK).unwrap_or(ahead)
    }

    /// Whether something of a released set is over.
    pub fn has_drained(&self, set: u32, clock: i8) -> bool {
        publication::over_at(&self.sets.get(set)).is_none_or(|end| end <= at(clock))
    }

    /// For people: a Secret and a record set in words.
    pub fn describe(&self, secret: Option<u32>, set: Option<u32>) -> String {
        let secret =
            secret.map(|id| serde_json::to_string(&self.secrets.get(id).vault).expect("it serialises"));
        let set = set.map(|id| serde_json::to_string(&*self.sets.get(id)).expect("it serialises"));
        let text = format!("secret {}\nset {}", secret.unwrap_or_default(), set.unwrap_or_default());
        // Keys are mostly padding.
        let long = "A".repeat(8);
        text.split(&long).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("…")
    }
}

fn order_anew(times: &Times, spec: Spec) -> Order {
    let wishes = Wishes {
        enabled: spec.enabled,
        paused: spec.paused,
        kind: if spec.ed25519 { KeyKind::Ed25519 } else { KeyKind::Rsa2048 },
        rotate_at: spec.rotate_at.map(at),
        compromised_at: spec.compromised.then(|| ago(KNOWN_STOLEN)),
        second: spec.second,
        moved: u32::from(spec.away),
        copies: spec.copies,
        brings: spec.brings.then_some(SlotId::Two),
        ..Wishes::default()
    };
    terms::order(times, &wishes)
}

pub(super) fn away(vault: &dkim_operator::model::vault::Vault) -> bool {
    vault.home.guid.to_string().contains("elsewhere")
}
