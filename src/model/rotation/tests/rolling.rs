//! When keys are rolled, and when they are not.

use super::*;

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
fn the_latest_moment_is_known_even_when_what_happened_then_is_undone() {
    let mut world = World::new();
    world.settle();
    let seen = world.now;
    world.keys[SlotId::One] = KeySight::Contradicted;
    world.pass(5);
    assert_eq!(world.phase(SlotId::One), "Generated");
    assert_eq!(world.ring.high_water(), later(seen, SignedDuration::from_secs(5)));
}
