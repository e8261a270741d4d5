//! The operator's functions over numbered keyrings and record sets. Each distinct call is made once.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, RwLock};

use dkim_operator::api::PublishedRecord;
use dkim_operator::model::acceptance::Order;
use dkim_operator::model::key::KeyKind;
use dkim_operator::model::keyring::{Link, Mode, Phase, later};
use dkim_operator::model::rotation::{Cause, Change, Policy};
use dkim_operator::model::selector::{PerSlot, SlotId};
use dkim_operator::model::sighting::Observation;
use dkim_operator::model::vault::Vault;
use jiff::Timestamp;

use super::store::{PRESENT, Store, TICK, age, at, renumber};
use super::world::{LinkSeen, Look, Spec, TOP};
use crate::keys::{self, KeyId};
use crate::operator::{self, Plan, Stored};
use crate::rules::Rules;
use crate::sight::{self, AliasAnswer, TextAnswer as Heard};
use crate::terms::{self, Times, Wishes};

/// Facts about a decision that the properties are about, as bits.
pub mod facts {
    /// A server's failure was taken for an answer, or an old look for a new one.
    pub const FAILURE_USED: u16 = 1;
    /// Signing fell back before the grace was over.
    pub const EARLY_FALLBACK: u16 = 2;
    /// A switch by schedule.
    pub const BY_SCHEDULE: u16 = 4;
    /// A switch by request.
    pub const BY_REQUEST: u16 = 8;
    /// Any switch.
    pub const SWITCHED: u16 = 16;
    /// A change bears a moment earlier than the latest one that was known.
    pub const RAN_BACK: u16 = 32;
    /// A rotation began during a pause.
    pub const PAUSE_BROKEN: u16 = 64;
}

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

/// What the properties need to know of a Secret.
#[derive(Debug, Clone)]
pub struct View {
    /// The slot that signs.
    pub active: Option<usize>,
    /// Signing as the domain.
    pub as_domain: bool,
    /// The keys.
    pub keys: [Option<KeyId>; 2],
    /// Whether each waits, published.
    pub published: [bool; 2],
    /// The next rotation, in ticks from the present.
    pub next: Option<i8>,
}

struct Memo<K, V>(RwLock<HashMap<K, V>>);

impl<K: Hash + Eq + Clone, V: Clone> Memo<K, V> {
    fn new() -> Self {
        Self(RwLock::new(HashMap::new()))
    }

    fn get(&self, key: &K, make: impl FnOnce() -> V) -> V {
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
    secrets: Store<(Vault, PerSlot<bool>)>,
    sets: Store<Vec<PublishedRecord>>,
    orders: Memo<Spec, Arc<Order>>,
    plans: Memo<Call, Writes>,
    views: Memo<u32, Arc<View>>,
    aged_secrets: Memo<u32, u32>,
    aged_sets: Memo<u32, u32>,
    lowered_secrets: Memo<(u32, i16), u32>,
    lowered_sets: Memo<(u32, i16), u32>,
    names: Memo<u32, [Vec<KeyId>; 2]>,
    released: Memo<(u32, i8), u32>,
}

fn slot(index: usize) -> SlotId {
    SlotId::ALL[index]
}

fn ticks(time: Timestamp) -> i8 {
    let ticks = (time.as_second() - PRESENT).div_euclid(TICK);
    i8::try_from(ticks.clamp(-100, 100)).expect("clamped")
}

impl Kernel {
    /// A kernel with these rules and spans.
    #[must_use]
    pub fn new(rules: Rules, times: Times) -> Self {
        Self {
            rules,
            times,
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
    pub fn empty_set(&self) -> u32 {
        self.sets.put(Vec::new())
    }

    fn order(&self, spec: Spec) -> Arc<Order> {
        self.orders.get(&spec, || Arc::new(self.order_anew(spec)))
    }

    fn order_anew(&self, spec: Spec) -> Order {
        let wishes = Wishes {
            enabled: spec.enabled,
            paused: spec.paused,
            kind: if spec.ed25519 { KeyKind::Ed25519 } else { KeyKind::Rsa2048 },
            rotate_at: spec.rotate_at.map(at),
        };
        terms::order(&self.times, &wishes)
    }

    /// Decides, and works out the writes.
    pub fn plan(&self, call: &Call) -> Writes {
        self.plans.get(call, || self.plan_anew(call))
    }

    fn plan_anew(&self, call: &Call) -> Writes {
        let order = self.order(call.spec);
        let now = at(call.clock);
        let secret = call.secret.map(|id| {
            let (vault, keys) = (*self.secrets.get(id)).clone();
            Stored { vault, keys }
        });
        let records = self.sets.get(call.set);
        let before = operator::open(&order, secret.as_ref(), &records, now);
        let observation = call.look.as_ref().map(|look| observe(look, &order));
        let make = |serial: u64, kind: KeyKind, now: Timestamp| {
            let serial = u16::try_from(serial).expect("small");
            let tag = if serial > TOP { 0 } else { call.tag + 1 };
            keys::make(KeyId { serial, tag, ed25519: kind == KeyKind::Ed25519 }, now)
        };
        let plan = operator::plan(&self.rules, &order, &before, &records, observation.as_ref(), now, make);
        let secret_id = self.put_secret(plan.secret.clone());
        Writes {
            mark: plan.mark.as_ref().map(|records| self.sets.put(age(records, 0))),
            secret: secret_id,
            changed: call.secret != Some(secret_id),
            follow: self.sets.put(age(&plan.follow, 0)),
            facts: judge(&before.vault, &plan, &order.lanes.primary.policy, call, now),
        }
    }

    fn put_secret(&self, mut stored: Stored) -> u32 {
        stored.vault.rings.primary.log.count = 0;
        self.secrets.put((age(&stored.vault, 0), stored.keys))
    }

    /// A Secret seen a tick later.
    pub fn older_secret(&self, id: u32) -> u32 {
        self.aged_secrets.get(&id, || {
            let (vault, keys) = &*self.secrets.get(id);
            self.secrets.put((age(vault, 1), *keys))
        })
    }

    /// A record set seen a tick later.
    pub fn older_set(&self, id: u32) -> u32 {
        self.aged_sets.get(&id, || self.sets.put(age(&*self.sets.get(id), 1)))
    }

    /// A Secret with lower serials.
    pub fn lower_secret(&self, id: u32, by: i16) -> u32 {
        self.lowered_secrets.get(&(id, by), || {
            let (vault, keys) = &*self.secrets.get(id);
            self.secrets.put((renumber(vault, by), *keys))
        })
    }

    /// A record set with lower serials.
    pub fn lower_set(&self, id: u32, by: i16) -> u32 {
        self.lowered_sets.get(&(id, by), || self.sets.put(renumber(&*self.sets.get(id), by)))
    }

    /// A Secret from which somebody took one private key.
    pub fn without_key(&self, id: u32, index: usize) -> u32 {
        let (vault, mut keys) = (*self.secrets.get(id)).clone();
        keys[slot(index)] = false;
        self.secrets.put((vault, keys))
    }

    /// The keys that a record set publishes at each slot's name.
    pub fn published(&self, set: u32) -> [Vec<KeyId>; 2] {
        self.names.get(&set, || {
            let records = self.sets.get(set);
            ["selector1", "selector2"].map(|selector| {
                let here = records.iter().filter(|r| r.selector == selector);
                here.filter_map(|r| keys::in_record(&r.value)).collect()
            })
        })
    }

    /// What is left of a record set whose claim is let go.
    pub fn release(&self, set: u32, clock: i8) -> u32 {
        self.released.get(&(set, clock), || {
            let drain = self.order(Spec::default()).drain_time();
            self.sets.put(age(&self.rules.release(&self.sets.get(set), drain, at(clock)), 0))
        })
    }

    /// Whether some record of a released set has drained.
    pub fn has_drained(&self, set: u32, clock: i8) -> bool {
        let records = self.sets.get(set);
        let first = records.iter().filter_map(|r| r.keep_until.as_ref().map(|t| t.0)).min();
        first.is_none_or(|end| end <= at(clock))
    }

    /// What the properties need to know of a Secret.
    pub fn view(&self, id: u32) -> Arc<View> {
        self.views.get(&id, || {
            let ring = &self.secrets.get(id).0.rings.primary;
            let by_schedule = ring.log.last.and_then(|last| {
                let policy = &self.order(Spec::default()).lanes.primary.policy;
                policy.cadence.next(last, policy.offset)
            });
            let next = [by_schedule, ring.log.pending_request].into_iter().flatten().min();
            Arc::new(View {
                active: ring.active().map(|s| usize::from(s == SlotId::Two)),
                as_domain: ring.mode == Mode::Domain,
                keys: SlotId::ALL.map(|s| ring.slots[s].phase.key().map(|k| keys::identify(&k.public))),
                published: SlotId::ALL.map(|s| matches!(ring.slots[s].phase, Phase::Published { .. })),
                next: next.map(ticks),
            })
        })
    }

    /// For people: a Secret and a record set in words.
    pub fn describe(&self, secret: Option<u32>, set: Option<u32>) -> String {
        let secret = secret.map(|id| serde_json::to_string(&self.secrets.get(id).0).expect("it serialises"));
        let set = set.map(|id| serde_json::to_string(&*self.sets.get(id)).expect("it serialises"));
        let text = format!("secret {}\nset {}", secret.unwrap_or_default(), set.unwrap_or_default());
        // Keys are mostly padding.
        let long = "A".repeat(8);
        text.split(&long).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("…")
    }
}

fn judge(before: &Vault, plan: &Plan, policy: &Policy, call: &Call, now: Timestamp) -> u16 {
    let mut bits = 0;
    let unclear_link =
        |s: SlotId| call.look.as_ref().is_none_or(|look| look.links[s as usize] == LinkSeen::Unclear);
    let unclear_key = |s: SlotId| {
        call.look
            .as_ref()
            .is_none_or(|look| look.txt.iter().all(|server| server[s as usize] == Heard::Silent))
    };
    let effective = now.max(before.high_water());
    let old_look = call.look.as_ref().is_none_or(|look| later(at(look.at), policy.freshness) < effective);
    for change in plan.changes() {
        let failed = match change {
            Change::LinkUp { slot, .. } | Change::LinkDown { slot, .. } | Change::LinkMemory { slot, .. } => {
                unclear_link(*slot)
            }
            Change::Seen { slot, .. } | Change::Unseen { slot } | Change::Activate { slot, .. } => {
                unclear_key(*slot)
            }
            Change::SetMode { mode: Mode::Domain } => SlotId::ALL.into_iter().any(unclear_link),
            _ => false,
        };
        if failed {
            bits |= facts::FAILURE_USED;
        }
        let told = matches!(change, Change::Activate { .. } | Change::SetMode { mode: Mode::Domain });
        if told && old_look {
            bits |= facts::FAILURE_USED;
        }
        if let Change::Activate { cause, .. } = change {
            bits |= facts::SWITCHED;
            match cause {
                Cause::Schedule => bits |= facts::BY_SCHEDULE,
                Cause::Request => bits |= facts::BY_REQUEST,
                _ => {}
            }
            if policy.paused && matches!(cause, Cause::Schedule | Cause::Request | Cause::NewKind) {
                bits |= facts::PAUSE_BROKEN;
            }
        }
    }
    let fell_back = plan.changes().any(|c| matches!(c, Change::SetMode { mode: Mode::Default }));
    if fell_back
        && policy.enabled
        && let Some(active) = before.rings.primary.active()
    {
        let down_long = match before.rings.primary.slots[active].link {
            Link::Down { since, .. } => later(since, policy.grace) <= now.max(before.high_water()),
            Link::Up { .. } => false,
        };
        // Where no key is left, anything is better than mail without a signature.
        let none_left = plan.changes().any(|c| matches!(c, Change::Lost { .. }));
        if !down_long && !none_left {
            bits |= facts::EARLY_FALLBACK;
        }
    }
    let ring = &plan.secret.vault.rings.primary;
    let ran_back = plan.changes().any(|change| {
        let moment = match change {
            Change::Activate { .. } => ring.log.last,
            Change::SetMode { .. } => Some(ring.mode_since),
            Change::LinkDown { since, .. } => Some(*since),
            Change::Seen { slot, .. } => match &ring.slots[*slot].phase {
                Phase::Published { seen, .. } => Some(*seen),
                _ => None,
            },
            _ => None,
        };
        moment.is_some_and(|moment| moment < before.high_water())
    });
    if ran_back {
        bits |= facts::RAN_BACK;
    }
    bits
}

/// Answers as real servers would give them.
fn observe(look: &Look, order: &Order) -> Observation {
    let seconds = |ticks: u8| u32::from(ticks) * u32::try_from(TICK).expect("small");
    let negative_ttl = seconds(LinkSeen::NEGATIVE_TTL);
    let aliases = look.links.map(|link| match link {
        LinkSeen::Right => AliasAnswer::Right { negative_ttl },
        LinkSeen::Missing => AliasAnswer::Missing { negative_ttl },
        LinkSeen::Wrong => AliasAnswer::Wrong { ttl: seconds(LinkSeen::WRONG_TTL), negative_ttl },
        LinkSeen::Unclear => AliasAnswer::Failed,
    });
    sight::observation(at(look.at), order, aliases, look.txt)
}
