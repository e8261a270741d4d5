//! Keys that are lost, brought, or not where they should be.

use super::*;

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
