//! The tenant's CNAMEs come and go.

use super::*;
use crate::model::keyring::Link;

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
