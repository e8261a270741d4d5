//! What resolvers may remember of names and keys.

use super::*;

#[test]
fn a_new_name_that_answered_with_another_key_waits_for_that_ones_ttl() {
    let mut world = World::enabled();
    world.announce();
    // A server there was seen with the key before.
    let (lane, slot) = (LaneId::Primary, SlotId::Two);
    world.vault.apply(&VaultChange::Move(Move::Unseen { lane, slot }), world.now);
    world.settle();
    let wait = world.moving().lanes.primary[slot].settled.duration_since(world.now);
    assert!(wait >= SignedDuration::from_secs(300), "{wait}");
}

/// The world a moment before the slot that drains is refilled.
fn about_to_refill() -> World {
    let mut world = World::enabled();
    world.pass(180 * 86_400);
    assert_eq!(world.vault.rings.primary.slots[SlotId::One].phase.as_str(), "Draining");
    world.pass(96 * 3_600 + 299);
    world
}

fn wait_of(world: &World, slot: SlotId) -> i64 {
    match &world.vault.rings.primary.slots[slot].phase {
        Phase::Published { seen, settled, .. } => settled.duration_since(*seen).as_secs(),
        other => panic!("{other:?}"),
    }
}

fn set_ttls(world: &mut World, ttl: u32, negative_ttl: i32) {
    world.wanted.ttl = ttl;
    world.wanted.zone.negative_ttl = negative_ttl;
    world.policy.ttl = ttl;
    world.policy.negative_ttl = u32::try_from(negative_ttl).unwrap();
    world.settle();
}

#[test]
fn what_was_answered_under_a_greater_ttl_is_waited_for_once() {
    let mut world = about_to_refill();
    set_ttls(&mut world, 30, 60);
    world.pass(1);
    assert!(wait_of(&world, SlotId::One) >= 300, "{}", wait_of(&world, SlotId::One));
    // The next key answers under the lower TTL from the beginning.
    for slot in [SlotId::Two, SlotId::One] {
        world.pass(180 * 86_400);
        world.pass(97 * 3_600);
        assert!(wait_of(&world, slot) < if slot == SlotId::Two { 302 } else { 62 }, "{slot:?}");
    }
}

#[test]
fn a_key_that_is_replaced_before_it_has_settled_leaves_its_predecessors_ttl() {
    let mut world = about_to_refill();
    set_ttls(&mut world, 30, 60);
    world.pass(1);
    // The kind that is wanted changes while the new key settles.
    world.policy.kind = KeyKind::Rsa4096;
    world.settle();
    assert!(wait_of(&world, SlotId::One) >= 300);
}

#[test]
fn absence_is_remembered_for_as_long_as_it_was_answered() {
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    let mut before = home("a.example");
    before.zone.negative_ttl = 3_600;
    let mut vault = vault(before, now);
    vault.rings.primary.install(SlotId::One, key(1, KeyKind::Rsa2048, now));
    vault.apply(&VaultChange::Move(Move::Refresh { home: home("a.example") }), now);
    let evidence =
        Evidence { at: now, slots: PerSlot([SlotEvidence { link: UP, key: KeySight::Matches }; 2]) };
    let observed =
        Observed { evidence: Some(&evidence), custody: PerSlot([true; 2]), in_use: PerSlot::default() };
    let decision = decide(&vault.rings.primary, &policy(), &observed, now);
    let settled = decision.changes.iter().find_map(|change| match change {
        Change::Seen { settled, .. } => Some(settled.duration_since(now).as_secs()),
        _ => None,
    });
    assert!(settled.unwrap() >= 3_600, "{settled:?}");
}

#[test]
fn names_of_before_a_move_answer_under_their_own_ttl() {
    let mut world = about_to_refill();
    let mut elsewhere = home("b.example");
    elsewhere.ttl = 30;
    world.wanted = elsewhere;
    world.policy.ttl = 30;
    world.pass(1);
    assert!(wait_of(&world, SlotId::One) >= 300);
}

#[test]
fn what_was_withdrawn_is_remembered_from_when_the_record_set_let_it_go() {
    let mut world = World::enabled();
    world.announce();
    world.follow("b.example");
    world.pass(1);
    world.pass(i64::from(OLDER));
    assert_eq!(world.vault.home, home("b.example"));
    // The write of the record set fails, or the controller dies before it.
    world.served_drained = true;
    world.pass(97 * 3_600);
    world.pass(600);
    assert!(world.vault.former[0].has_drained(world.now) && world.vault.former[0].withdrawn.is_none());
    world.served_drained = false;
    world.pass(600);
    assert_eq!(world.vault.former[0].withdrawn, Some(world.now));
    world.pass(299);
    assert!(!world.vault.former.is_empty());
    world.pass(2);
    assert!(world.vault.former.is_empty());
}
