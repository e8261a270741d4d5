//! The life of one domain: what its tenant, its servers and its controller do.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use dkim_operator::api::DkimRecordSetSpec;
use dkim_operator::api::signing_config::SigningConfig;
use dkim_operator::model::acceptance::Order;
use dkim_operator::model::home::Home;
use dkim_operator::model::key::KeyKind;
use dkim_operator::model::keyring::Phase;
use dkim_operator::model::lanes::LaneId;
use dkim_operator::model::rotation::{Change, Move};
use dkim_operator::model::selector::{PerSlot, Selector, SlotId};
use jiff::Timestamp;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::calendar::Event;
use super::history::{ALIASES, History, LANES, Told, Way};
use super::look::Look;
use super::tenant::{Kept, NEGATIVE_TTL};
use super::{DAY, MINUTE, Seconds, YEAR, times};
use crate::keys::{self, KeyId};
use crate::operator::{self, Eyes, Plan, Stored};
use crate::rules::Rules;
use crate::sight::TextAnswer;
use crate::terms::{self, Wishes};

/// See the module.
pub struct Life {
    rules: Rules,
    pub(super) rng: StdRng,
    events: BinaryHeap<Reverse<(Seconds, u64, Event)>>,
    count: u64,
    pub(super) wishes: Wishes,
    /// Whether it gets another name now and then.
    pub(super) moves: bool,
    order: Order,
    pub(super) secret: Option<Stored>,
    set: DkimRecordSetSpec,
    pub(super) silent: [bool; 2],
    pub(super) tenant_silent: bool,
    pub(super) kept: [Kept; ALIASES],
    last_look: Option<Look>,
    /// The homes whose names are known.
    homes: Vec<Home>,
    next_reconcile: Seconds,
    pub(super) history: History,
}

pub fn moment(at: Seconds) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + at).expect("in range")
}

/// Lives through the years.
pub fn live(rules: Rules, years: u16, seed: u64, domain: u32) -> History {
    // A tenth of the fleet goes by a schedule, each domain at its own moment of a day; a tenth brings a key; a fifth signs
    // twice; a fifth moves now and then, as does half of those that sign twice.
    let schedule = (domain % 10 == 1).then_some(("30 3 1 */6 *", 86_400));
    let (second, moves) = (domain % 5 == 2, domain % 5 == 3 || domain % 10 == 2);
    let brings = (domain % 10 == 4).then_some(SlotId::Two);
    let wishes = Wishes { schedule, second, brings, number: domain, ..Wishes::default() };
    let order = terms::order(&times(), &wishes);
    let mut life = Life {
        rules,
        rng: StdRng::seed_from_u64(seed ^ (u64::from(domain) << 32)),
        events: BinaryHeap::new(),
        count: 0,
        set: operator::empty_set(&order),
        order,
        wishes,
        moves,
        secret: None,
        silent: [false; 2],
        tenant_silent: false,
        kept: [Kept::default(); ALIASES],
        last_look: None,
        homes: Vec::new(),
        next_reconcile: 0,
        history: History::new(Seconds::from(NEGATIVE_TTL)),
    };
    life.foresee(years);
    let end = Seconds::from(years) * YEAR + 10 * DAY;
    while let Some(Reverse((now, _, event))) = life.events.pop() {
        if now > end {
            break;
        }
        life.happen(now, event);
    }
    life.history
}

impl Life {
    pub(super) fn at(&mut self, at: Seconds, event: Event) {
        self.count += 1;
        self.events.push(Reverse((at, self.count, event)));
    }

    fn happen(&mut self, now: Seconds, event: Event) {
        match event {
            Event::Reconcile => {
                if now == self.next_reconcile {
                    self.reconcile(now);
                }
                return;
            }
            Event::Serve(server) => self.serve(now, server),
            Event::Silence(server, silent) => self.silent[server] = silent,
            Event::TenantSilence(silent) => self.tenant_silent = silent,
            Event::Follow(alias) => {
                let shown = self.shown(alias);
                let kept = &mut self.kept[alias];
                (kept.leads, kept.follows) = (shown.or(kept.leads), false);
                self.set_alias(now, alias);
            }
            Event::Break(alias, outage) => {
                self.kept[alias].outage = outage;
                self.set_alias(now, alias);
            }
            Event::LoseSecret => self.store(now, None),
            Event::LoseKey(slot) => {
                let mut secret = self.secret.clone();
                if let Some(secret) = &mut secret {
                    secret.keys.primary[SlotId::ALL[slot]] = false;
                }
                self.store(now, secret);
            }
            Event::Request => self.wishes.rotate_at = Some(moment(now)),
            Event::Enable(enabled) => self.wishes.enabled = enabled,
            Event::Pause(paused) => self.wishes.paused = paused,
            Event::Compromise => self.wishes.compromised_at = Some(moment(now)),
            Event::Second(second) => self.wishes.second = second,
            Event::Move(number) => self.wishes.moved = number,
            Event::LoseSet => {
                // What only the record set knows of is lost with it; nobody deletes that in these years.
                if self.set_is_known(now) {
                    self.set = operator::empty_set(&self.order);
                    return self.reconcile(now);
                }
            }
            Event::OtherKind => {
                let ed25519 = self.wishes.kind == KeyKind::Ed25519;
                self.wishes.kind = if ed25519 { KeyKind::Rsa2048 } else { KeyKind::Ed25519 };
            }
        }
        if event.is_edit() {
            self.order = terms::order(&times(), &self.wishes);
        }
        // Edits wake the controller at once, what happens in DNS at its next look; and at times it is away.
        let soon = match self.rng.random_range(0..20) {
            0 => self.pause().min(DAY),
            _ => self.rng.random_range(1..15 * MINUTE),
        };
        self.reconcile_at(now + soon);
    }

    /// One of our servers serves what the record set says.
    fn serve(&mut self, now: Seconds, server: usize) {
        let mut all = vec![TextAnswer::Nothing; self.history.names.len()];
        for record in self.set.placements().flat_map(|place| place.records) {
            let name = self.history.name(&record.name);
            if all.len() <= name {
                all.resize(name + 1, TextAnswer::Nothing);
            }
            all[name] = keys::in_record(&record.value).map_or(TextAnswer::Revoked, TextAnswer::Key);
        }
        for (name, here) in self.history.names.iter_mut().zip(all) {
            name.served[server].set(now, here);
        }
    }

    /// Whether the Secret knows of all that is published.
    fn set_is_known(&self, now: Seconds) -> bool {
        let Some(secret) = &self.secret else { return false };
        let empty = operator::empty_set(&self.order);
        let again = self.rules.publish(&self.order, &empty, &secret.vault, &[], moment(now));
        let known = |name: &str, serial: i64| {
            let mut all = again.placements().flat_map(|place| place.records);
            all.any(|record| record.name == name && record.serial == serial)
        };
        let mut all = self.set.placements().flat_map(|place| place.records);
        all.all(|record| known(&record.name, record.serial))
    }

    fn reconcile_at(&mut self, at: Seconds) {
        self.next_reconcile = at;
        self.at(at, Event::Reconcile);
    }

    /// Knows the names that a look is about.
    fn learn_names(&mut self) {
        let Self { secret, order, history, homes, .. } = self;
        let vault = secret.as_ref().map(|secret| &secret.vault);
        let next = vault.and_then(|vault| vault.moving.as_ref()).map(|moving| &moving.to);
        for home in [Some(&order.home), vault.map(|vault| &vault.home), next].into_iter().flatten() {
            if homes.iter().any(|known| known.is_at(home)) {
                continue;
            }
            homes.push(home.clone());
            for selector in ["selector1", "selector2", "ed1", "ed2"] {
                let selector = Selector::parse(selector).expect("a selector");
                history.name(home.target(&selector).expect("a name").as_str());
            }
        }
    }

    fn reconcile(&mut self, now: Seconds) {
        self.history.reconciles += 1;
        self.learn_names();
        let look = match self.last_look.take() {
            Some(last) if self.rng.random_bool(0.1) => last,
            _ => self.look(now),
        };
        let fresh = look.at == moment(now);
        let plan = self.decide(now, &look);
        self.last_look = Some(look);
        let changes: Vec<Change> = plan.changes().map(|(_, change)| change.clone()).collect();
        let nothing = plan.decision.changes.is_empty();
        let again = now + self.rng.random_range(1..15);
        let dies = if nothing { 9 } else { self.rng.random_range(0..40) };
        if let Some(mark) = plan.mark {
            self.publish(now, mark);
        }
        if dies == 0 {
            return self.reconcile_at(again);
        }
        let switched = changes.iter().any(|c| matches!(c, Change::Activate { .. }));
        self.history.rotations += u64::from(switched);
        let moved = plan.decision.changes.iter().any(is_finish);
        self.history.moves += u64::from(moved);
        if self.secret.as_ref() != Some(&plan.secret) {
            self.store(now, Some(plan.secret));
        }
        if fresh && !self.set.records.is_empty() && !self.tenant_silent {
            self.notice(now);
        }
        if dies == 1 {
            return self.reconcile_at(again);
        }
        self.publish(now, plan.follow);
        if !nothing {
            self.read_status(now);
        }
        if !nothing || plan.decision.look {
            return self.reconcile_at(again);
        }
        // Nothing to do until time or somebody brings news; but an old look may have missed some.
        let pace = now + if fresh { 30 * DAY } else { self.rng.random_range(15..15 * MINUTE) };
        let wake =
            plan.decision.wake.map(|wake| wake.as_second() - 1_800_000_000 + self.rng.random_range(0..5));
        self.reconcile_at(wake.map_or(pace, |wake| wake.max(now + 1).min(pace)));
    }

    fn decide(&self, now: Seconds, look: &Look) -> Plan {
        let at = moment(now);
        let before = operator::open(&self.order, self.secret.as_ref(), &self.set, at);
        let make = |serial: u64, kind: KeyKind, import: bool, created: Timestamp| {
            if import {
                return keys::take_in(serial, created);
            }
            let serial = u16::try_from(serial).expect("small");
            keys::make(KeyId { serial, tag: 0, ed25519: kind == KeyKind::Ed25519 }, created)
        };
        let seen = |lane: LaneId, home: &Home| {
            let ring = before.vault.rings.get(lane)?;
            let selectors = PerSlot::from_fn(|slot| ring.slots[slot].selector.clone());
            look.at_names(lane, &home.targets(&selectors).ok()?, &self.history)
        };
        let in_use = before.vault.rings.map(|_, _| PerSlot([false; 2]));
        let eyes = Eyes { look: &seen, in_use, former_in_use: false };
        operator::plan(&self.rules, &self.order, &before, &self.set, &eyes, at, make)
    }

    /// What a look found wrong is known from the moment it has been put to use.
    fn notice(&mut self, now: Seconds) {
        for alias in 0..ALIASES {
            let gone = self.history.aliases[alias].last().leads.is_none();
            if let Some(last) = self.history.noticed[alias].last_mut().filter(|_| gone) {
                last.get_or_insert(now);
            }
        }
    }

    fn publish(&mut self, now: Seconds, set: DkimRecordSetSpec) {
        if self.set == set {
            return;
        }
        self.set = set;
        for server in [0, 1] {
            let late = match self.rng.random_range(0..20) {
                0 => self.pause().min(2 * DAY),
                _ => self.rng.random_range(0..5),
            };
            self.at(now + late, Event::Serve(server));
        }
    }

    fn store(&mut self, now: Seconds, secret: Option<Stored>) {
        let rings = secret.iter().flat_map(|secret| secret.vault.rings.iter());
        for slot in rings.flat_map(|(_, ring)| ring.slots.0.iter()) {
            if let Phase::Revoked { key, .. } = &slot.phase {
                let id = keys::identify(&key.public);
                if self.history.revoked.iter().all(|(known, _)| *known != id) {
                    self.history.revoked.push((id, now));
                }
            }
        }
        self.secret = secret;
        for (lane, told) in self.told().into_iter().enumerate() {
            self.history.told[lane].set(now, told);
        }
    }

    /// The signatures that signers are told to make, by pair of slots.
    fn told(&mut self) -> [Option<Told>; LANES] {
        let mut told = [None; LANES];
        let Some(secret) = &self.secret else { return told };
        let config = SigningConfig::of(&secret.vault, &self.order.signature);
        for signature in config.signatures {
            let by_key = |(_, slot): &(SlotId, &dkim_operator::model::keyring::Slot)| {
                slot.phase.key().is_some_and(|key| key.serial == signature.serial)
            };
            for (lane, ring) in secret.vault.rings.iter() {
                let Some((slot, state)) = ring.slots.iter().find(by_key) else { continue };
                let Some(key) = state.phase.key() else { continue };
                let way = if signature.d == config.domain.as_str() {
                    Way::Alias(2 * lane as usize + slot as usize)
                } else {
                    Way::Name(self.history.name(&format!("{}._domainkey.{}", signature.s, signature.d)))
                };
                told[lane as usize] = Some(Told { way, key: keys::identify(&key.public) });
            }
        }
        told
    }
}

fn is_finish(change: &dkim_operator::model::vault::VaultChange) -> bool {
    matches!(change, dkim_operator::model::vault::VaultChange::Move(Move::Finish { .. }))
}
