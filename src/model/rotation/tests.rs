use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::*;
use crate::model::key::{Algorithm, KeyFingerprint, PublicKey};
use crate::model::keyring::{KeyInfo, Keyring, Link, Mode, Phase, later};
use crate::model::selector::Selector;

const INTERVAL: SignedDuration = SignedDuration::from_hours(24 * 180);
const NEGATIVE_TTL: u32 = 60;
const TTL: u32 = 300;
const CNAME_MEMORY: u32 = 900;

pub(super) fn policy() -> Policy {
    Policy {
        enabled: true,
        kind: KeyKind::Rsa2048,
        cadence: Cadence::Every(INTERVAL),
        offset: SignedDuration::ZERO,
        drain: SignedDuration::from_hours(96),
        signer_lag: SignedDuration::from_mins(5),
        paused: false,
        rotate_at: None,
        compromised_at: None,
        along_with: None,
        retired: false,
        link_per_key: false,
        imports: PerSlot::default(),
        ttl: TTL,
        negative_ttl: NEGATIVE_TTL,
        rounding: 0,
        cname_ttl: CNAME_MEMORY,
        grace: SignedDuration::from_mins(10),
        freshness: SignedDuration::from_mins(1),
    }
}

/// A keyring, a clock and DNS as it is, with the keyring's own TXTs always published.
struct World {
    ring: Keyring,
    policy: Policy,
    now: Timestamp,
    links: PerSlot<LinkSight>,
    keys: PerSlot<KeySight>,
    custody: Custody,
    in_use: PerSlot<bool>,
    history: Vec<Change>,
}

const UP: LinkSight = LinkSight::Verified { older_ttl: CNAME_MEMORY, by_copy: false };
const DOWN: LinkSight = LinkSight::Broken { older_ttl: CNAME_MEMORY };

impl World {
    fn new() -> Self {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let selectors = PerSlot(["selector1", "selector2"].map(|s| Selector::parse(s).unwrap()));
        Self {
            ring: Keyring::new(selectors, now),
            policy: policy(),
            now,
            links: PerSlot([DOWN; 2]),
            keys: PerSlot([KeySight::Matches; 2]),
            custody: PerSlot([true; 2]),
            in_use: PerSlot([false; 2]),
            history: Vec::new(),
        }
    }

    /// One reconcile: decide, apply, make the keys asked for. Deciding again must change nothing.
    fn step(&mut self) -> Decision {
        let evidence = Evidence {
            at: self.now,
            slots: PerSlot::from_fn(|s| SlotEvidence { link: self.links[s], key: self.keys[s] }),
        };
        let observed = Observed { evidence: Some(&evidence), custody: self.custody, in_use: self.in_use };
        let decision = decide(&self.ring, &self.policy, &observed, self.now);
        let now = self.now.max(self.ring.high_water());
        for change in &decision.changes {
            self.ring.apply(change, now);
            if let Change::Generate { slot, kind, import, .. } = change {
                let mut key = key(self.ring.last_serial + 1, *kind, now);
                if *import {
                    let fingerprint = self.policy.imports[*slot].clone().unwrap();
                    key = KeyInfo { kind: KeyKind::Rsa1024, fingerprint, imported: true, ..key };
                }
                self.ring.install(*slot, key);
                self.custody[*slot] = true;
            }
        }
        self.history.extend(decision.changes.clone());
        decision
    }

    fn settle(&mut self) {
        for _ in 0..20 {
            if self.step().changes.is_empty() {
                return;
            }
        }
        panic!("no rest after 20 decisions: {:?}", self.history);
    }

    fn pass(&mut self, seconds: i64) {
        self.now = later(self.now, SignedDuration::from_secs(seconds));
        self.settle();
    }

    fn enabled() -> Self {
        let mut world = Self::new();
        world.links = PerSlot([UP; 2]);
        world.settle();
        world.pass(i64::from(CNAME_MEMORY));
        assert_eq!(world.ring.mode, Mode::Domain);
        assert_eq!(world.ring.active(), Some(SlotId::One));
        world
    }

    fn phase(&self, slot: SlotId) -> &'static str {
        self.ring.slots[slot].phase.as_str()
    }
}

pub(super) fn key(serial: u64, kind: KeyKind, created: Timestamp) -> KeyInfo {
    KeyInfo {
        serial,
        kind,
        public: PublicKey { algorithm: Algorithm::Rsa, p: String::new() },
        fingerprint: KeyFingerprint::of(&serial.to_be_bytes()),
        created,
        imported: false,
    }
}

#[test]
fn signs_with_the_default_first_and_as_the_domain_once_both_cnames_are_trusted() {
    let mut world = World::new();
    world.settle();
    assert_eq!(world.ring.active(), None, "not before our own negative answers have run out");
    world.pass(i64::from(NEGATIVE_TTL));
    assert_eq!(world.ring.active(), Some(SlotId::One));
    assert_eq!(world.ring.mode, Mode::Default);
    world.links[SlotId::One] = UP;
    world.pass(86_400);
    assert_eq!(world.ring.mode, Mode::Default, "one CNAME is not enough");
    world.links[SlotId::Two] = UP;
    world.settle();
    world.pass(i64::from(CNAME_MEMORY) - 1);
    assert_eq!(world.ring.mode, Mode::Default, "a resolver may still remember that it is missing");
    world.pass(1);
    assert_eq!(world.ring.mode, Mode::Domain);
}

#[test]
fn rotates_on_schedule_and_refills_the_drained_slot() {
    let mut world = World::enabled();
    world.pass(180 * 86_400);
    assert_eq!((world.phase(SlotId::One), world.phase(SlotId::Two)), ("Draining", "Active"));
    assert_eq!(world.ring.log.count, 1);
    world.pass(96 * 3600);
    assert_eq!(world.phase(SlotId::One), "Draining", "the signers' lag comes on top of the drain");
    world.pass(300);
    assert_eq!(world.phase(SlotId::One), "Published");
    assert_eq!(world.ring.last_serial, 3);
    let Phase::Published { seen, settled, .. } = world.ring.slots[SlotId::One].phase else { panic!() };
    assert_eq!(settled, later(seen, SignedDuration::from_secs(i64::from(TTL))), "the old key's TTL runs out");
}

/// Resolvers count in whole seconds.
#[test]
fn every_answer_is_waited_for_a_second_longer_than_its_ttl() {
    let mut world = World::new();
    world.policy.rounding = 1;
    world.links = PerSlot([UP; 2]);
    world.settle();
    world.pass(i64::from(NEGATIVE_TTL));
    assert_eq!(world.ring.active(), None);
    world.pass(1);
    assert_eq!(world.ring.active(), Some(SlotId::One));
    world.pass(i64::from(CNAME_MEMORY - NEGATIVE_TTL) - 1);
    assert_eq!(world.ring.mode, Mode::Default, "the tenant's answers");
    world.pass(1);
    assert_eq!(world.ring.mode, Mode::Domain);
}

#[test]
fn a_missing_standby_cname_makes_the_rotation_wait() {
    let mut world = World::enabled();
    world.links[SlotId::Two] = DOWN;
    world.pass(180 * 86_400);
    assert_eq!(world.step().waiting, Some(Wait::LinkDown { slot: SlotId::Two }));
    assert_eq!((world.ring.active(), world.ring.mode), (Some(SlotId::One), Mode::Domain));
}

#[test]
fn a_missing_active_cname_fails_over_to_the_standby() {
    let mut world = World::enabled();
    world.links[SlotId::One] = DOWN;
    world.settle();
    assert_eq!((world.ring.active(), world.ring.mode), (Some(SlotId::Two), Mode::Domain));
    assert!(world.history.iter().any(|c| matches!(c, Change::Activate { cause: Cause::LinkLost, .. })));
}

#[test]
fn both_cnames_missing_falls_back_after_the_grace_and_comes_back() {
    let mut world = World::enabled();
    world.links = PerSlot([DOWN; 2]);
    world.settle();
    assert_eq!(world.ring.mode, Mode::Domain);
    world.pass(600);
    assert_eq!((world.ring.active(), world.ring.mode), (Some(SlotId::One), Mode::Default));
    world.links = PerSlot([UP; 2]);
    world.settle();
    assert_eq!(world.ring.mode, Mode::Default);
    world.pass(i64::from(CNAME_MEMORY));
    assert_eq!(world.ring.mode, Mode::Domain);
}

#[test]
fn what_proves_nothing_changes_nothing() {
    let mut world = World::enabled();
    let before = world.ring.clone();
    world.links = PerSlot([LinkSight::Unclear; 2]);
    world.keys = PerSlot([KeySight::Unclear; 2]);
    world.pass(86_400);
    assert_eq!(world.ring, before);
    world.pass(180 * 86_400);
    assert_eq!(world.step().waiting, Some(Wait::Unclear { slot: SlotId::Two }));
    assert_eq!(world.ring, before);
}

#[test]
fn disabling_signs_with_the_default_at_once_and_enabling_comes_back() {
    let mut world = World::enabled();
    world.policy.enabled = false;
    world.settle();
    assert_eq!((world.ring.active(), world.ring.mode), (Some(SlotId::One), Mode::Default));
    world.policy.enabled = true;
    world.settle();
    assert_eq!(world.ring.mode, Mode::Domain);
}

#[test]
fn a_request_rotates_once_and_paused_holds_it() {
    let mut world = World::enabled();
    world.policy.paused = true;
    world.policy.rotate_at = Some(world.now);
    world.settle();
    assert_eq!(world.step().waiting, Some(Wait::Paused));
    world.policy.paused = false;
    world.settle();
    assert_eq!(world.ring.log.count, 1);
    world.pass(10 * 86_400);
    assert_eq!(world.ring.log.count, 1, "the same request is not carried out twice");
}

#[test]
fn a_request_that_is_withdrawn_is_not_carried_out() {
    let mut world = World::enabled();
    let soon = later(world.now, SignedDuration::from_hours(1));
    world.policy.rotate_at = Some(soon);
    assert_eq!(world.step().next, Some(soon));
    world.policy.rotate_at = None;
    world.pass(7_200);
    assert_eq!(world.ring.log.count, 0);
    // Asked for again it counts again; carried out and taken away, it does not.
    world.policy.rotate_at = Some(soon);
    world.pass(1);
    assert_eq!(world.ring.log.count, 1);
    world.policy.rotate_at = None;
    world.settle();
    world.policy.rotate_at = Some(soon);
    world.pass(10 * 86_400);
    assert_eq!(world.ring.log.count, 1);
}

#[test]
fn a_new_kind_replaces_the_standby_and_then_rotates() {
    let mut world = World::enabled();
    world.policy.kind = KeyKind::Rsa4096;
    world.settle();
    world.pass(i64::from(TTL));
    assert_eq!(world.ring.active(), Some(SlotId::Two));
    let Phase::Active { key, .. } = &world.ring.slots[SlotId::Two].phase else { panic!() };
    assert_eq!(key.kind, KeyKind::Rsa4096);
}

#[test]
fn a_lost_active_key_drains_and_the_standby_takes_over() {
    let mut world = World::enabled();
    world.custody[SlotId::One] = false;
    world.settle();
    assert_eq!((world.phase(SlotId::One), world.ring.active()), ("Draining", Some(SlotId::Two)));
    assert_eq!(world.ring.mode, Mode::Domain);
}

#[test]
fn a_vanished_txt_of_the_active_key_fails_over() {
    let mut world = World::enabled();
    world.keys[SlotId::One] = KeySight::Contradicted;
    world.settle();
    assert_eq!(world.ring.active(), Some(SlotId::Two));
}

#[test]
fn stale_evidence_asks_for_a_look_before_a_switch() {
    let mut world = World::enabled();
    let evidence =
        Evidence { at: world.now, slots: PerSlot([SlotEvidence { link: UP, key: KeySight::Matches }; 2]) };
    let due = later(world.now, INTERVAL);
    let mut observed =
        Observed { evidence: Some(&evidence), custody: world.custody, in_use: PerSlot::default() };
    let decision = decide(&world.ring, &world.policy, &observed, due);
    assert!(decision.look && decision.changes.is_empty(), "{decision:?}");
    let future = Evidence { at: later(due, INTERVAL), ..evidence };
    observed.evidence = Some(&future);
    let decision = decide(&world.ring, &world.policy, &observed, due);
    assert!(decision.look && decision.changes.is_empty(), "from before the clock was set back: {decision:?}");
    observed.evidence = None;
    let without = decide(&world.ring, &world.policy, &observed, due);
    assert!(without.look && without.changes.is_empty());
    world.pass(180 * 86_400);
    assert_eq!(world.ring.log.count, 1);
}

#[test]
fn a_clock_set_back_repeats_nothing() {
    let mut world = World::enabled();
    world.pass(180 * 86_400);
    let (ring, count) = (world.ring.clone(), world.ring.log.count);
    world.now = Timestamp::from_second(1_800_000_000).unwrap();
    world.settle();
    assert_eq!(world.ring, ring);
    assert_eq!(world.ring.log.count, count);
}

#[test]
fn a_compromised_key_is_replaced_at_once_and_revoked_and_so_is_its_equally_old_successor() {
    let mut world = World::enabled();
    world.pass(86_400);
    world.policy.paused = true;
    world.policy.compromised_at = Some(world.now);
    world.settle();
    assert_eq!((world.phase(SlotId::One), world.ring.active()), ("Revoked", Some(SlotId::Two)));
    let first = world.ring.slots[SlotId::Two].phase.key().unwrap().serial;
    // As soon as there is a key that was made later, that one signs.
    world.pass(3_600);
    world.pass(i64::from(TTL));
    assert_eq!((world.ring.active(), world.phase(SlotId::Two)), (Some(SlotId::One), "Revoked"));
    assert!(world.ring.slots[SlotId::One].phase.key().unwrap().serial > first);
    world.pass(3_600);
    world.pass(i64::from(TTL));
    assert_eq!((world.ring.log.count, world.phase(SlotId::Two)), (2, "Published"));
}

#[test]
fn a_compromised_key_without_a_standby_behind_its_cname_gives_way_to_default_signing() {
    let mut world = World::enabled();
    world.links[SlotId::Two] = DOWN;
    world.policy.compromised_at = Some(world.now);
    world.settle();
    assert_eq!((world.ring.mode, world.ring.active()), (Mode::Default, Some(SlotId::Two)));
}

#[test]
fn a_compromised_key_does_not_wait_for_a_standby_whose_cname_cannot_be_seen() {
    let mut world = World::enabled();
    world.links[SlotId::Two] = LinkSight::Unclear;
    world.settle();
    assert_eq!(
        (world.ring.mode, world.ring.active()),
        (Mode::Domain, Some(SlotId::One)),
        "a time-out proves nothing"
    );
    world.policy.compromised_at = Some(world.now);
    world.settle();
    assert_eq!((world.ring.mode, world.ring.active()), (Mode::Default, Some(SlotId::Two)));
}

#[test]
fn a_compromised_key_is_revoked_whatever_else_is_wrong_with_it() {
    for spoil in [
        |world: &mut World| world.links[SlotId::One] = DOWN,
        |world: &mut World| world.keys[SlotId::One] = KeySight::Contradicted,
        |world: &mut World| world.custody[SlotId::One] = false,
        |world: &mut World| world.policy.retired = true,
    ] {
        let mut world = World::enabled();
        spoil(&mut world);
        world.policy.compromised_at = Some(world.now);
        world.settle();
        assert_eq!(world.phase(SlotId::One), "Revoked", "{:?}", world.history);
    }
}

#[test]
fn a_compromised_key_without_a_cname_signs_no_longer_than_it_takes_to_have_another() {
    let mut world = World::enabled();
    world.links = PerSlot([DOWN; 2]);
    world.policy.compromised_at = Some(world.now);
    world.settle();
    assert_eq!((world.ring.mode, world.phase(SlotId::One)), (Mode::Default, "Revoked"));
    assert_eq!(world.ring.active(), Some(SlotId::Two));
}

#[test]
fn a_compromised_key_that_drains_is_revoked_at_once_even_if_a_signer_holds_it() {
    for held in [false, true] {
        let mut world = World::enabled();
        world.pass(180 * 86_400);
        world.in_use[SlotId::One] = held;
        world.settle();
        assert_eq!(world.phase(SlotId::One), "Draining");
        let key = world.ring.slots[SlotId::One].phase.key().unwrap().serial;
        // Of the two, only the older was there by then.
        world.ring.slots[SlotId::Two].phase = match world.ring.slots[SlotId::Two].phase.clone() {
            Phase::Active { key, seen, since } => {
                Phase::Active { key: KeyInfo { created: world.now, ..key }, seen, since }
            }
            other => panic!("{other:?}"),
        };
        world.policy.compromised_at = Some(later(world.now, SignedDuration::from_secs(-60)));
        world.settle();
        assert_eq!((world.phase(SlotId::One), world.phase(SlotId::Two)), ("Revoked", "Active"));
        assert_eq!(world.ring.slots[SlotId::One].phase.key().unwrap().serial, key);
        world.in_use[SlotId::One] = false;
        world.pass(3_600);
        assert_eq!(world.phase(SlotId::One), "Published");
    }
}

#[test]
fn a_signer_that_lags_holds_the_drain_and_it_begins_anew_once_it_has_moved() {
    let mut world = World::enabled();
    world.pass(180 * 86_400);
    assert_eq!(world.phase(SlotId::One), "Draining");
    world.in_use[SlotId::One] = true;
    world.pass(30 * 86_400);
    assert_eq!(world.phase(SlotId::One), "Draining");
    world.in_use[SlotId::One] = false;
    world.settle();
    let Phase::Draining { until, .. } = world.ring.slots[SlotId::One].phase else { panic!() };
    assert_eq!(until, later(world.now, world.policy.drain_time()));
    world.pass(world.policy.drain_time().as_secs() - 1);
    assert_eq!(world.phase(SlotId::One), "Draining");
    world.pass(1);
    assert_eq!(world.phase(SlotId::One), "Published");
}

#[test]
fn retired_keys_stop_signing_and_drain_and_none_is_made() {
    let mut world = World::enabled();
    world.policy.retired = true;
    world.settle();
    assert_eq!((world.phase(SlotId::One), world.phase(SlotId::Two)), ("Draining", "Empty"));
    assert_eq!(world.ring.active(), None);
    world.pass(97 * 3_600);
    assert_eq!((world.phase(SlotId::One), world.phase(SlotId::Two)), ("Empty", "Empty"));
}

#[test]
fn keys_are_rolled_along_with_others() {
    let mut world = World::enabled();
    world.policy.cadence = Cadence::Along;
    world.pass(400 * 86_400);
    assert_eq!(world.ring.log.count, 0);
    world.policy.along_with = Some(world.now);
    world.pass(1);
    assert_eq!(world.ring.log.count, 1);
    world.pass(400 * 86_400);
    assert_eq!(world.ring.log.count, 1);
}

#[test]
fn a_key_that_the_user_brings_has_its_turn_once_whatever_its_kind() {
    let mut world = World::new();
    world.links = PerSlot([UP; 2]);
    let brought = KeyFingerprint::of(b"brought");
    world.policy.imports[SlotId::One] = Some(brought.clone());
    world.settle();
    let key = world.ring.slots[SlotId::One].phase.key().unwrap();
    assert!(key.imported && key.fingerprint == brought && key.kind == KeyKind::Rsa1024);
    world.pass(i64::from(CNAME_MEMORY));
    // It signs first, and gives way to one of the kind that is wanted.
    assert_eq!((world.ring.active(), world.ring.log.count), (Some(SlotId::Two), 1));
    world.pass(97 * 3_600);
    assert!(!world.ring.slots[SlotId::One].phase.key().unwrap().imported);
}

#[test]
fn a_key_brought_to_a_running_domain_takes_the_place_of_the_standby() {
    let mut world = World::enabled();
    let brought = KeyFingerprint::of(b"brought");
    world.policy.imports[SlotId::Two] = Some(brought.clone());
    world.policy.imports[SlotId::One] = Some(KeyFingerprint::of(b"waits for its slot"));
    world.settle();
    assert_eq!(world.ring.slots[SlotId::Two].phase.key().unwrap().fingerprint, brought);
    assert_eq!(world.ring.active(), Some(SlotId::One));
}

#[test]
fn where_the_tenant_publishes_keys_a_rotation_waits_for_the_new_one() {
    let mut world = World::new();
    world.policy.link_per_key = true;
    world.links = PerSlot([UP; 2]);
    world.settle();
    world.pass(i64::from(CNAME_MEMORY));
    assert_eq!(world.ring.mode, Mode::Domain);
    world.pass(180 * 86_400);
    world.links[SlotId::One] = DOWN;
    world.pass(97 * 3_600);
    // The drained slot has a new key that the tenant has not published.
    assert_eq!((world.phase(SlotId::One), world.ring.log.count), ("Published", 1));
    assert!(matches!(world.ring.slots[SlotId::One].link, Link::Down { .. }));
    world.pass(180 * 86_400);
    assert_eq!(world.ring.log.count, 1);
    assert_eq!(world.step().waiting, Some(Wait::LinkDown { slot: SlotId::One }));
    world.links[SlotId::One] = UP;
    world.settle();
    world.pass(i64::from(CNAME_MEMORY));
    assert_eq!(world.ring.log.count, 2);
}

#[test]
fn a_waiting_key_that_is_lost_is_remembered_by_resolvers_like_any_other() {
    let mut world = World::enabled();
    world.custody[SlotId::Two] = false;
    world.settle();
    let Phase::Published { key, seen, settled } = &world.ring.slots[SlotId::Two].phase else { panic!() };
    assert_eq!((key.serial, *settled), (3, later(*seen, SignedDuration::from_secs(i64::from(TTL)))));
}

#[test]
fn a_key_counts_as_published_only_once_every_server_was_heard() {
    let mut world = World::new();
    world.keys = PerSlot([KeySight::MatchesWhereHeard; 2]);
    world.settle();
    assert_eq!(world.phase(SlotId::One), "Generated", "the silent server may have an older answer");
    world.keys = PerSlot([KeySight::Matches; 2]);
    world.settle();
    world.keys = PerSlot([KeySight::MatchesWhereHeard; 2]);
    world.pass(i64::from(NEGATIVE_TTL));
    assert_eq!(world.ring.active(), Some(SlotId::One), "it was heard before");
}

#[test]
fn a_rotation_that_waited_for_a_cname_goes_on_in_the_same_decision_as_signing_falls_back() {
    let mut world = World::enabled();
    world.links = PerSlot([LinkSight::Unclear; 2]);
    world.now = later(world.now, SignedDuration::from_hours(24 * 180));
    assert_eq!(world.step().waiting, Some(Wait::Unclear { slot: SlotId::Two }));
    world.policy.enabled = false;
    world.step();
    assert_eq!((world.ring.active(), world.ring.mode), (Some(SlotId::Two), Mode::Default));
    assert!(world.step().changes.is_empty());
}

#[test]
fn the_latest_moment_is_known_even_when_what_happened_then_is_undone() {
    let mut world = World::new();
    world.settle();
    let seen = world.now;
    world.keys[SlotId::One] = KeySight::Contradicted;
    world.pass(5);
    assert_eq!(world.phase(SlotId::One), "Generated");
    assert_eq!(world.ring.high_water(), later(seen, SignedDuration::from_secs(5)));
}

/// What a random walk may do between two decisions.
#[derive(Debug, Clone)]
enum Event {
    Link(SlotId, LinkSight),
    Key(SlotId, KeySight),
    Pass(i64),
    Back(i64),
    Enable(bool),
    Lose(SlotId),
    Rotate,
    Kind(KeyKind),
}

fn event() -> impl Strategy<Value = Event> {
    let slot = prop_oneof![Just(SlotId::One), Just(SlotId::Two)];
    let link = prop_oneof![3 => Just(UP), 1 => Just(DOWN), 1 => Just(LinkSight::Unclear)];
    let seen = prop_oneof![4 => Just(KeySight::Matches), 1 => Just(KeySight::Contradicted), 1 => Just(KeySight::Unclear)];
    prop_oneof![
        4 => (slot.clone(), link).prop_map(|(s, l)| Event::Link(s, l)),
        2 => (slot.clone(), seen).prop_map(|(s, k)| Event::Key(s, k)),
        6 => (1i64..1_000_000).prop_map(Event::Pass),
        1 => (1i64..1_000_000).prop_map(Event::Back),
        1 => any::<bool>().prop_map(Event::Enable),
        1 => slot.prop_map(Event::Lose),
        2 => Just(Event::Rotate),
        1 => prop_oneof![Just(KeyKind::Rsa2048), Just(KeyKind::Ed25519)].prop_map(Event::Kind),
    ]
}

proptest! {
    /// Through any history: at most one active key; who becomes active was published, settled and seen; what has
    /// signed drains in full; serials never repeat; every state comes to rest.
    #[test]
    fn laws_hold_on_random_walks(events in proptest::collection::vec(event(), 1..60)) {
        let mut world = World::new();
        for event in events {
            match event {
                Event::Link(slot, sight) => world.links[slot] = sight,
                Event::Key(slot, sight) => world.keys[slot] = sight,
                Event::Pass(seconds) => world.now = later(world.now, SignedDuration::from_secs(seconds)),
                Event::Back(seconds) => world.now = later(world.now, SignedDuration::from_secs(-seconds)),
                Event::Enable(enabled) => world.policy.enabled = enabled,
                Event::Lose(slot) => world.custody[slot] = false,
                Event::Rotate => world.policy.rotate_at = Some(world.now),
                Event::Kind(kind) => world.policy.kind = kind,
            }
            let before = world.ring.clone();
            let effective = world.now.max(before.high_water());
            let serial = before.last_serial;
            let decision = world.step();
            for change in &decision.changes {
                match change {
                    Change::Activate { slot, .. } => {
                        let Phase::Published { settled, .. } = &before.slots[*slot].phase else {
                            return Err(TestCaseError::fail(format!("activated from {:?}", before.slots[*slot])));
                        };
                        prop_assert!(*settled <= effective);
                        prop_assert_eq!(world.keys[*slot], KeySight::Matches);
                    }
                    Change::SetMode { mode: Mode::Domain } => {
                        for slot in SlotId::ALL {
                            let trusted = matches!(before.slots[slot].link, Link::Up { trusted_from } if trusted_from <= effective);
                            prop_assert!(trusted);
                            prop_assert_eq!(world.links[slot], UP);
                        }
                    }
                    Change::Generate { slot, .. } => match &before.slots[*slot].phase {
                        Phase::Active { .. } => prop_assert!(false, "a key that signs was replaced"),
                        Phase::Draining { until, held, .. } => prop_assert!(*until <= effective && !held),
                        Phase::Revoked { until, .. } => prop_assert!(*until <= effective),
                        _ => {}
                    },
                    _ => {}
                }
            }
            prop_assert!(world.ring.last_serial >= serial);
            let active = SlotId::ALL.into_iter().filter(|s| matches!(world.ring.slots[*s].phase, Phase::Active { .. })).count();
            prop_assert!(active <= 1);
            for (slot, state) in before.slots.iter() {
                if let Phase::Active { key, .. } = &state.phase {
                    let after = &world.ring.slots[slot].phase;
                    prop_assert_eq!(after.key().map(|k| k.serial), Some(key.serial), "a key that signed left without draining");
                }
            }
            world.settle();
        }
    }
}
