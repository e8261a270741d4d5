//! Keys in the wrong hands.

use super::*;

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
