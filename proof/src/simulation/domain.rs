//! The life of one domain: what its tenant, its servers and its controller do.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use dkim_operator::api::DkimRecordSetSpec;
use dkim_operator::model::acceptance::Order;
use dkim_operator::model::home::Home;
use dkim_operator::model::key::KeyKind;
use dkim_operator::model::keyring::{Mode, Phase};
use dkim_operator::model::lanes::{LaneId, PerLane};
use dkim_operator::model::rotation::Change;
use dkim_operator::model::selector::{PerSlot, SlotId};
use dkim_operator::model::sighting::Observation;
use jiff::Timestamp;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::history::{Alias, History, Line, Told};
use super::{DAY, HOUR, MINUTE, Seconds, YEAR, times};
use crate::keys::{self, KeyId};
use crate::operator::{self, Eyes, Stored};
use crate::rules::Rules;
use crate::sight::{self, AliasAnswer, TextAnswer};
use crate::terms::{self, Wishes};

/// Seconds for which resolvers remember that a name of the tenant's zone is not there.
const NEGATIVE_TTL: u32 = 900;
/// TTL of the tenant's CNAMEs.
const CNAME_TTL: Seconds = HOUR;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// The controller looks and decides.
    Reconcile,
    /// One of our servers hears of the record set.
    Serve(usize),
    /// One of our servers can be heard again, or not.
    Silence(usize, bool),
    /// The tenant's servers can be heard again, or not.
    TenantSilence(bool),
    /// The tenant puts a CNAME in place, takes it away, or puts another there.
    SetAlias(usize, u8),
    /// Somebody deletes the Secret.
    LoseSecret,
    /// Somebody takes a private key out of it.
    LoseKey(usize),
    /// The tenant asks for a rotation.
    Request,
    /// The tenant enables or disables.
    Enable(bool),
    /// The tenant pauses or resumes.
    Pause(bool),
    /// The tenant asks for the other kind of key.
    OtherKind,
    /// All keys fall into the wrong hands, and the tenant says so.
    Compromise,
    /// Somebody deletes the record set, and the controller sees it at once.
    LoseSet,
}

struct Life {
    rules: Rules,
    rng: StdRng,
    events: BinaryHeap<Reverse<(Seconds, u64, Event)>>,
    count: u64,
    wishes: Wishes,
    order: Order,
    secret: Option<Stored>,
    set: DkimRecordSetSpec,
    silent: [bool; 2],
    tenant_silent: bool,
    aliases: [u8; 2],
    last_look: Option<Observation>,
    next_reconcile: Seconds,
    history: History,
}

const RIGHT: u8 = 0;
const MISSING: u8 = 1;
const WRONG: u8 = 2;

fn moment(at: Seconds) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + at).expect("in range")
}

/// Lives through the years.
pub fn live(rules: Rules, years: u16, seed: u64, domain: u32) -> History {
    // A tenth of the fleet goes by a schedule, each domain at its own moment of a day.
    let schedule = (domain % 10 == 1).then_some(("30 3 1 */6 *", 86_400));
    let wishes = Wishes { schedule, number: domain, ..Wishes::default() };
    let order = terms::order(&times(), &wishes);
    let gone = Alias { right: false, ttl: Seconds::from(NEGATIVE_TTL), number: 0 };
    let mut life = Life {
        rules,
        rng: StdRng::seed_from_u64(seed ^ (u64::from(domain) << 32)),
        events: BinaryHeap::new(),
        count: 0,
        set: operator::empty_set(&order),
        order,
        wishes,
        secret: None,
        silent: [false; 2],
        tenant_silent: false,
        aliases: [MISSING; 2],
        last_look: None,
        next_reconcile: 0,
        history: History {
            told: Line::new(None),
            served: [[Line::new(None), Line::new(None)], [Line::new(None), Line::new(None)]],
            aliases: [Line::new(gone), Line::new(gone)],
            noticed: [vec![None], vec![None]],
            revoked: Vec::new(),
            rotations: 0,
            reconciles: 0,
        },
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
    fn at(&mut self, at: Seconds, event: Event) {
        self.count += 1;
        self.events.push(Reverse((at, self.count, event)));
    }

    /// So many times a year, at random.
    fn often(&mut self, years: u16, a_year: f64) -> Vec<Seconds> {
        let span = Seconds::from(years) * YEAR;
        let whole = (f64::from(years) * a_year * 2.0).floor();
        #[allow(clippy::cast_possible_truncation, reason = "a small count")]
        let count = self.rng.random_range(0..=whole as i64);
        (0..count).map(|_| self.rng.random_range(0..span)).collect()
    }

    /// A pause: mostly short, now and then long.
    fn pause(&mut self) -> Seconds {
        match self.rng.random_range(0..10) {
            0..6 => self.rng.random_range(1..30 * MINUTE),
            6..9 => self.rng.random_range(1..DAY),
            _ => self.rng.random_range(1..20 * DAY),
        }
    }

    /// Puts what others will do in the years to come on the calendar.
    fn foresee(&mut self, years: u16) {
        self.at(0, Event::Reconcile);
        for slot in [0, 1] {
            let published = self.rng.random_range(0..10 * DAY);
            self.at(published, Event::SetAlias(slot, RIGHT));
            for at in self.often(years, 0.5) {
                let wrong = if self.rng.random_bool(0.5) { MISSING } else { WRONG };
                let back = at + self.pause();
                self.at(at, Event::SetAlias(slot, wrong));
                self.at(back, Event::SetAlias(slot, RIGHT));
            }
            for at in self.often(years, 0.05) {
                self.at(at, Event::LoseKey(slot));
            }
        }
        for server in [0, 1] {
            for at in self.often(years, 1.0) {
                let back = at + self.pause();
                self.at(at, Event::Silence(server, true));
                self.at(back, Event::Silence(server, false));
            }
        }
        for at in self.often(years, 1.0) {
            let back = at + self.pause();
            self.at(at, Event::TenantSilence(true));
            self.at(back, Event::TenantSilence(false));
        }
        for at in self.often(years, 0.1) {
            self.at(at, Event::LoseSecret);
        }
        for at in self.often(years, 0.3) {
            self.at(at, Event::Request);
        }
        for at in self.often(years, 0.1) {
            self.at(at, Event::OtherKind);
        }
        for at in self.often(years, 0.05) {
            self.at(at, Event::Compromise);
        }
        for at in self.often(years, 0.05) {
            self.at(at, Event::LoseSet);
        }
        for at in self.often(years, 0.2) {
            let back = at + self.pause();
            self.at(at, Event::Enable(false));
            self.at(back, Event::Enable(true));
        }
        for at in self.often(years, 0.2) {
            let back = at + self.pause();
            self.at(at, Event::Pause(true));
            self.at(back, Event::Pause(false));
        }
    }

    fn happen(&mut self, now: Seconds, event: Event) {
        match event {
            Event::Reconcile => {
                if now == self.next_reconcile {
                    self.reconcile(now);
                }
                return;
            }
            Event::Serve(server) => {
                for slot in [0, 1] {
                    let name = self.order.lanes.primary.targets[SlotId::ALL[slot]].to_string();
                    let key = self
                        .set
                        .records
                        .iter()
                        .find(|r| r.name == name)
                        .and_then(|r| keys::in_record(&r.value));
                    self.history.served[server][slot].set(now, key);
                }
            }
            Event::Silence(server, silent) => self.silent[server] = silent,
            Event::TenantSilence(silent) => self.tenant_silent = silent,
            Event::SetAlias(slot, what) => self.set_alias(now, slot, what),
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
            Event::LoseSet => {
                // What only the record set knows of is lost with it; nobody deletes that in these years.
                let known = |serial: i64| {
                    let ring = self.secret.as_ref().map(|secret| &secret.vault.rings.primary);
                    let mut phases = ring.into_iter().flat_map(|ring| ring.slots.0.iter());
                    phases.any(|slot| {
                        slot.phase.key().is_some_and(|key| i64::try_from(key.serial) == Ok(serial))
                    })
                };
                if self.set.records.iter().all(|record| known(record.serial)) {
                    self.set = operator::empty_set(&self.order);
                    return self.reconcile(now);
                }
            }
            Event::OtherKind => {
                let ed25519 = self.wishes.kind == KeyKind::Ed25519;
                self.wishes.kind = if ed25519 { KeyKind::Rsa2048 } else { KeyKind::Ed25519 };
            }
        }
        if matches!(
            event,
            Event::Request | Event::Enable(_) | Event::Pause(_) | Event::OtherKind | Event::Compromise
        ) {
            self.order = terms::order(&times(), &self.wishes);
        }
        // Edits wake the controller at once, what happens in DNS at its next look; and at times it is away.
        let soon = match self.rng.random_range(0..20) {
            0 => self.pause().min(DAY),
            _ => self.rng.random_range(1..15 * MINUTE),
        };
        self.reconcile_at(now + soon);
    }

    fn set_alias(&mut self, now: Seconds, slot: usize, what: u8) {
        if self.aliases[slot] == what {
            return;
        }
        self.aliases[slot] = what;
        let ttl = if what == MISSING { Seconds::from(NEGATIVE_TTL) } else { CNAME_TTL };
        let number = self.history.noticed[slot].len();
        self.history.noticed[slot].push(None);
        self.history.aliases[slot].set(now, Alias { right: what == RIGHT, ttl, number });
    }

    fn reconcile_at(&mut self, at: Seconds) {
        self.next_reconcile = at;
        self.at(at, Event::Reconcile);
    }

    fn look(&self, now: Seconds) -> Observation {
        let aliases = self.aliases.map(|what| match what {
            _ if self.tenant_silent => AliasAnswer::Failed,
            RIGHT => AliasAnswer::Right { ttl: 3600, negative_ttl: NEGATIVE_TTL },
            MISSING => AliasAnswer::Missing { negative_ttl: NEGATIVE_TTL },
            _ => AliasAnswer::Wrong { ttl: 3600, negative_ttl: NEGATIVE_TTL },
        });
        let texts = [0, 1].map(|server: usize| {
            [0, 1].map(|slot: usize| match self.history.served[server][slot].last() {
                _ if self.silent[server] => TextAnswer::Silent,
                None => TextAnswer::Nothing,
                Some(key) => TextAnswer::Key(key),
            })
        });
        sight::observation(moment(now), &self.order.lanes.primary.targets, aliases, texts)
    }

    fn reconcile(&mut self, now: Seconds) {
        self.history.reconciles += 1;
        let look = match self.last_look.take() {
            Some(last) if self.rng.random_bool(0.1) => last,
            _ => self.look(now),
        };
        let fresh = look.at == moment(now);
        let at = moment(now);
        let before = operator::open(&self.order, self.secret.as_ref(), &self.set, at);
        let make = |serial: u64, kind: KeyKind, _import: bool, created: Timestamp| {
            let serial = u16::try_from(serial).expect("small");
            keys::make(KeyId { serial, tag: 0, ed25519: kind == KeyKind::Ed25519 }, created)
        };
        let seen = |_: LaneId, _: &Home| Some(look.clone());
        let in_use = PerLane { primary: PerSlot([false; 2]), second: None };
        let eyes = Eyes { look: &seen, in_use, former_in_use: false };
        let plan = operator::plan(&self.rules, &self.order, &before, &self.set, &eyes, at, make);
        self.last_look = Some(look);
        let changes: Vec<Change> = plan.changes().map(|(_, change)| change.clone()).collect();
        let again = now + self.rng.random_range(1..15);
        let dies = if changes.is_empty() { 9 } else { self.rng.random_range(0..40) };
        if let Some(mark) = plan.mark {
            self.publish(now, mark);
        }
        if dies == 0 {
            return self.reconcile_at(again);
        }
        let switched = changes.iter().any(|c| matches!(c, Change::Activate { .. }));
        self.history.rotations += u64::from(switched);
        self.store(now, Some(plan.secret));
        if fresh && !self.set.records.is_empty() && !self.tenant_silent {
            for slot in [0, 1] {
                if self.aliases[slot] != RIGHT
                    && let Some(last) = self.history.noticed[slot].last_mut()
                {
                    last.get_or_insert(now);
                }
            }
        }
        if dies == 1 {
            return self.reconcile_at(again);
        }
        self.publish(now, plan.follow);
        if !changes.is_empty() || plan.decision.look {
            return self.reconcile_at(again);
        }
        // Nothing to do until time or somebody brings news; but an old look may have missed some.
        let pace = now + if fresh { 30 * DAY } else { self.rng.random_range(15..15 * MINUTE) };
        let wake =
            plan.decision.wake.map(|wake| wake.as_second() - 1_800_000_000 + self.rng.random_range(0..5));
        self.reconcile_at(wake.map_or(pace, |wake| wake.max(now + 1).min(pace)));
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
        for slot in secret.iter().flat_map(|secret| secret.vault.rings.primary.slots.0.iter()) {
            if let Phase::Revoked { key, .. } = &slot.phase {
                let id = keys::identify(&key.public);
                if self.history.revoked.iter().all(|(known, _)| *known != id) {
                    self.history.revoked.push((id, now));
                }
            }
        }
        self.secret = secret;
        let told = self.secret.as_ref().and_then(|secret| {
            let ring = &secret.vault.rings.primary;
            let slot = ring.active()?;
            let key = ring.slots[slot].phase.key()?;
            let as_domain = ring.mode == Mode::Domain;
            Some(Told { as_domain, slot: slot as usize, key: keys::identify(&key.public) })
        });
        self.history.told.set(now, told);
    }
}
