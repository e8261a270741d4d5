//! The operator's functions over numbered keyrings and record sets. Each distinct call is made once.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, RwLock};

use dkim_operator::api::DkimRecordSetSpec;
use dkim_operator::model::acceptance::Order;
use dkim_operator::model::home::Home;
use dkim_operator::model::key::KeyKind;
use dkim_operator::model::keyring::{KeyInfo, Link, Mode, Phase, later};
use dkim_operator::model::lanes::{LaneId, PerLane};
use dkim_operator::model::name::DnsName;
use dkim_operator::model::rotation::{Cause, Change, Move, Policy};
use dkim_operator::model::selector::{PerSlot, SlotId};
use dkim_operator::model::sighting::Observation;
use jiff::Timestamp;

use super::store::{KNOWN_STOLEN, PRESENT, STOLEN, Store, TICK, age, ago, at, renumber, steal};
use super::world::{LinkSeen, Look, NAMES, Spec, TOP};
use crate::keys::{self, KeyId};
use crate::operator::{self, Eyes, Plan, Stored};
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
    /// A key that was brought was taken in a second time.
    pub const BROUGHT_TWICE: u16 = 128;
    /// The tenant was shown new names, or signers told of them, before every key had settled there.
    pub const MOVED_EARLY: u16 = 256;
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
    /// In which slots of the primary lane a signer reports to use the key before.
    pub in_use: [bool; 2],
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

/// What the properties need to know of one lane of a Secret.
#[derive(Debug, Clone)]
pub struct LaneView {
    /// The slot that signs.
    pub active: Option<usize>,
    /// Signing as the domain.
    pub as_domain: bool,
    /// The keys.
    pub keys: [Option<KeyId>; 2],
    /// Whether each waits, published.
    pub published: [bool; 2],
    /// Whether each may still sign.
    pub fresh: [bool; 2],
    /// Whether a signer is known to use the key before.
    pub held: [bool; 2],
    /// Whether the controller has seen what else is at each alias.
    pub looked: [bool; 2],
    /// The next rotation, in ticks from the present.
    pub next: Option<i8>,
    /// Whether some key in it is in the wrong hands.
    pub stolen: bool,
    /// The last switch.
    last: Option<Timestamp>,
}

/// What the properties need to know of a Secret.
#[derive(Debug, Clone)]
pub struct View {
    /// Lane by lane.
    pub lanes: Vec<LaneView>,
    /// Its names are the other ones.
    pub away: bool,
    /// A move is under way, and where it has come to: the new CNAMEs are shown.
    pub moving: Option<bool>,
    /// Whether the controller has seen where each alias leads instead of to the new name.
    pub next_looked: [bool; 2],
    /// Names from before a move still drain.
    pub former: bool,
    /// The second lane was rolled with the first.
    pub along: bool,
    /// A key that was brought is in it, or was.
    pub brought: bool,
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
    /// Whether it matters which key was made before another.
    pub ages_matter: bool,
    index: Vec<(String, usize)>,
    secrets: Store<Stored>,
    sets: Store<DkimRecordSetSpec>,
    orders: Memo<Spec, Arc<Order>>,
    plans: Memo<Call, Writes>,
    views: Memo<u32, Arc<View>>,
    aged_secrets: Memo<u32, u32>,
    aged_sets: Memo<u32, u32>,
    lowered_secrets: Memo<(u32, i16), u32>,
    lowered_sets: Memo<(u32, i16), u32>,
    names: Memo<u32, [Vec<(Heard, u16)>; NAMES]>,
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
    pub fn new(rules: Rules, times: Times, ages_matter: bool) -> Self {
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
            ages_matter,
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
        set.last_serial == 0 && !operator::publishes(&set)
    }

    /// Whether a record set publishes anything.
    pub fn publishes(&self, set: u32) -> bool {
        operator::publishes(&self.sets.get(set))
    }

    fn order(&self, spec: Spec) -> Arc<Order> {
        self.orders.get(&spec, || Arc::new(order_anew(&self.times, spec)))
    }

    fn age<T: serde::Serialize + serde::de::DeserializeOwned>(&self, thing: &T, ticks: i8) -> T {
        age(thing, ticks, self.ages_matter)
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
            Some(observe(call.look.as_ref()?, lane, first, &targets))
        };
        let second = before.vault.rings.second.is_some().then(PerSlot::default);
        let in_use = PerLane { primary: PerSlot(call.in_use), second };
        let eyes = Eyes { look: &look, in_use, former_in_use: false };
        let make = |serial: u64, kind: KeyKind, import: bool, now: Timestamp| {
            if import {
                return KeyInfo { serial, ..keys::make(THEIRS, now) };
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

    fn index_of(&self, name: &str) -> usize {
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

    /// What is left of a record set whose claim is let go; none where it is nothing.
    pub fn release(&self, set: u32, clock: i8) -> Option<u32> {
        let left = self.released.get(&(set, clock), || {
            let drain = self.order(Spec::default()).drain_time();
            let set = (*self.sets.get(set)).clone();
            let left = self.rules.release(&set, drain, at(clock));
            self.sets
                .put(self.age(&DkimRecordSetSpec { records: left.records, former: left.former, ..set }, 0))
        });
        operator::publishes(&self.sets.get(left)).then_some(left)
    }

    /// Whether some record of a released set has drained.
    pub fn has_drained(&self, set: u32, clock: i8) -> bool {
        let set = self.sets.get(set);
        let records = set.placements().flat_map(|place| place.records);
        let first = records.filter_map(|r| r.keep_until.as_ref().map(|t| t.0)).min();
        first.is_none_or(|end| end <= at(clock))
    }

    /// What the properties need to know of a Secret.
    pub fn view(&self, id: u32) -> Arc<View> {
        self.views.get(&id, || {
            let vault = &self.secrets.get(id).vault;
            let lanes: Vec<LaneView> =
                vault.rings.iter().map(|(lane, ring)| self.view_lane(lane, ring)).collect();
            let along = lanes.get(1).is_none_or(|second| second.last >= lanes[0].last);
            let second = vault.rings.second.is_some();
            let name = vault.home.target(&vault.rings.primary.slots[SlotId::One].selector).expect("a name");
            Arc::new(View {
                lanes,
                away: !second && self.index_of(name.as_str()) == 2,
                moving: vault.moving.as_ref().map(|moving| moving.announced.is_some()),
                next_looked: SlotId::ALL.map(|s| {
                    vault.moving.as_ref().is_none_or(|moving| has_looked(moving.lanes.primary[s].link))
                }),
                former: !vault.former.is_empty(),
                along,
                brought: !vault.rings.primary.log.imported.is_empty(),
            })
        })
    }

    fn view_lane(&self, lane: LaneId, ring: &dkim_operator::model::keyring::Keyring) -> LaneView {
        let by_schedule = ring.log.last.filter(|_| lane == LaneId::Primary).and_then(|last| {
            let policy = &self.order(Spec::default()).lanes.primary.policy;
            policy.cadence.next(last, policy.offset)
        });
        let next = [by_schedule, ring.log.pending_request].into_iter().flatten().min();
        let phases = SlotId::ALL.map(|s| &ring.slots[s].phase);
        LaneView {
            active: ring.active().map(|s| s as usize),
            as_domain: ring.mode == Mode::Domain,
            keys: phases.map(|phase| phase.key().map(|k| keys::identify(&k.public))),
            published: phases.map(|phase| matches!(phase, Phase::Published { .. })),
            fresh: phases.map(|phase| {
                matches!(phase, Phase::Generated { .. } | Phase::Published { .. } | Phase::Active { .. })
            }),
            held: phases.map(|phase| matches!(phase, Phase::Draining { held: true, .. })),
            looked: SlotId::ALL.map(|s| has_looked(ring.slots[s].link)),
            next: next.map(ticks),
            stolen: phases.iter().filter_map(|phase| phase.key()).any(|key| key.created == ago(STOLEN)),
            last: ring.log.last,
        }
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

fn judge(stored: &Stored, plan: &Plan, policy: &Policy, call: &Call, now: Timestamp) -> u16 {
    let mut bits = 0;
    let before = &stored.vault;
    for step in plan.moves() {
        let early = match step {
            Move::Announce | Move::Finish { .. } => call.look.is_none(),
            _ => false,
        };
        if early {
            bits |= facts::MOVED_EARLY;
        }
    }
    for (lane, change) in plan.changes() {
        let imported = before.rings.get(lane).is_some_and(|ring| !ring.log.imported.is_empty());
        if imported && matches!(change, Change::Generate { import: true, .. }) {
            bits |= facts::BROUGHT_TWICE;
        }
    }
    let unclear_link = |i: usize| call.look.as_ref().is_none_or(|look| look.links[i] == LinkSeen::Unclear);
    let unclear_key = |i: usize| {
        call.look.as_ref().is_none_or(|look| look.txt.iter().all(|server| server[i] == Heard::Silent))
    };
    let effective = now.max(before.high_water());
    let old_look = call.look.as_ref().is_none_or(|look| later(at(look.at), policy.freshness) < effective);
    let first = if call.spec.second { 0 } else { 2 * usize::from(away(before)) };
    for (lane, change) in plan.changes() {
        let base = 2 * usize::from(lane == LaneId::Second);
        let unclear_link = |s: SlotId| unclear_link(base + s as usize);
        let unclear_key = |s: SlotId| unclear_key(first + base + s as usize);
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
            if lane == LaneId::Second {
                continue;
            }
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
    let primary = || plan.changes().filter(|(lane, _)| *lane == LaneId::Primary).map(|(_, change)| change);
    let fell_back = primary().any(|c| matches!(c, Change::SetMode { mode: Mode::Default }));
    // Better as the provider than with a key in the wrong hands.
    let emergency = primary().any(|c| matches!(c, Change::Activate { cause: Cause::Compromised, .. }));
    let fell_back = fell_back && !emergency;
    if fell_back
        && policy.enabled
        && let Some(active) = before.rings.primary.active()
    {
        let down_long = match before.rings.primary.slots[active].link {
            Link::Down { since, .. } => later(since, policy.grace) <= now.max(before.high_water()),
            Link::Up { .. } => false,
        };
        // Where no key is left, anything is better than mail without a signature.
        let none_left = primary().any(|c| matches!(c, Change::Lost { .. }));
        if !down_long && !none_left {
            bits |= facts::EARLY_FALLBACK;
        }
    }
    let ring = &plan.secret.vault.rings.primary;
    let ran_back = primary().any(|change| {
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

fn has_looked(link: Link) -> bool {
    matches!(link, Link::Down { older_ttl, .. } if older_ttl > 0)
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
        ..Wishes::default()
    };
    let mut order = terms::order(times, &wishes);
    if spec.brings {
        order.lanes.primary.policy.imports[SlotId::Two] = Some(keys::make(THEIRS, at(0)).fingerprint);
    }
    order
}

/// The key that the user brings.
const THEIRS: KeyId = KeyId { serial: 0, tag: keys::BROUGHT, ed25519: false };

fn away(vault: &dkim_operator::model::vault::Vault) -> bool {
    vault.home.guid.to_string().contains("elsewhere")
}

/// Answers as real servers would give them, to somebody who asks about names from `first` on.
fn observe(look: &Look, lane: LaneId, first: usize, targets: &PerSlot<DnsName>) -> Observation {
    let seconds = |ticks: u8| u32::from(ticks) * u32::try_from(TICK).expect("small");
    let negative_ttl = seconds(LinkSeen::NEGATIVE_TTL);
    let ttl = seconds(LinkSeen::WRONG_TTL);
    let base = 2 * usize::from(lane == LaneId::Second);
    let away = lane == LaneId::Primary && first == 2;
    let aliases = [0, 1].map(|slot| match look.links[base + slot] {
        LinkSeen::Right if away => AliasAnswer::Wrong { ttl, negative_ttl },
        LinkSeen::Next if !away => AliasAnswer::Wrong { ttl, negative_ttl },
        LinkSeen::Right | LinkSeen::Next => AliasAnswer::Right { negative_ttl },
        LinkSeen::Copy(key) => AliasAnswer::Copy { key, ttl, negative_ttl },
        LinkSeen::Missing => AliasAnswer::Missing { negative_ttl },
        LinkSeen::Wrong => AliasAnswer::Wrong { ttl, negative_ttl },
        LinkSeen::Unclear => AliasAnswer::Failed,
    });
    let texts = look.txt.map(|server| [server[first], server[first + 1]]);
    sight::observation(at(look.at), targets, aliases, texts)
}
