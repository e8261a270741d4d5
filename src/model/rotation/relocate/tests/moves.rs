//! Moves that are made to their end.

use super::*;

#[test]
fn a_move_goes_on_only_as_the_tenant_s_cnames_do() {
    let mut world = World::enabled();
    let (old, new) = (home("a.example"), home("b.example"));
    world.wanted = new.clone();
    world.settle();
    assert_eq!(world.moving().announced, None);
    // What the new names answered before, absence or an earlier key, may be remembered until then.
    world.pass(299);
    assert_eq!(world.moving().announced, None);
    world.pass(2);
    assert!(world.moving().announced.is_some());
    world.pass(400 * 86_400);
    assert_eq!((&world.vault.home, world.vault.rings.primary.mode), (&old, Mode::Domain));
    world.cnames[SlotId::One] = Some(new.clone());
    world.pass(86_400);
    assert_eq!(world.vault.home, old, "one CNAME is not both");
    assert_eq!(world.vault.rings.primary.mode, Mode::Domain, "wherever it leads the key is there");
    world.cnames[SlotId::Two] = Some(new.clone());
    world.pass(1);
    assert_eq!(world.vault.home, old, "a resolver may still follow the old CNAME");
    world.pass(i64::from(OLDER));
    assert_eq!((&world.vault.home, world.vault.rings.primary.mode), (&new, Mode::Domain));
    assert_eq!(world.vault.former[0].until, later(world.now, world.policy.drain_time()));
    assert!(world.vault.rings.primary.active().is_some());
    world.pass(97 * 3_600);
    world.pass(301);
    assert!(world.vault.former.is_empty() && world.vault.moving.is_none());
}

#[test]
fn rotations_go_on_during_a_move() {
    let mut world = World::enabled();
    world.wanted = home("b.example");
    world.pass(301);
    for _ in 0..20 {
        world.pass(30 * 86_400);
    }
    assert!(world.vault.rings.primary.log.count >= 3, "{}", world.vault.rings.primary.log.count);
}

#[test]
fn default_signing_moves_as_soon_as_the_new_names_are_settled() {
    let mut world = World::enabled();
    world.policy.enabled = false;
    world.settle();
    world.cnames = PerSlot([None, None]);
    world.wanted = home("b.example");
    world.settle();
    assert_eq!(world.vault.home, home("a.example"));
    world.pass(301);
    world.settle();
    assert_eq!(world.vault.home, home("b.example"));
    assert_eq!(world.vault.former.len(), 1);
}

#[test]
fn cnames_that_no_move_has_waited_for_are_looked_at_anew() {
    let mut world = World::enabled();
    world.policy.enabled = false;
    world.settle();
    world.wanted = home("b.example");
    world.follow("b.example");
    world.settle();
    world.pass(301);
    assert_eq!(world.vault.home, home("b.example"));
    world.policy.enabled = true;
    world.pass(i64::from(OLDER) - 1);
    assert_eq!(world.vault.rings.primary.mode, Mode::Default, "a resolver may have been led back and forth");
    world.pass(1);
    assert_eq!(world.vault.rings.primary.mode, Mode::Domain);
}

#[test]
fn names_of_before_stay_while_a_signer_uses_them_and_drain_from_then_on() {
    let mut world = World::enabled();
    world.policy.enabled = false;
    world.settle();
    world.announce();
    world.settle();
    assert_eq!(world.vault.home, home("b.example"));
    world.former_in_use = true;
    world.pass(400);
    assert!(world.vault.former[0].held);
    world.pass(30 * 86_400);
    assert_eq!(world.vault.former.len(), 1);
    world.former_in_use = false;
    world.pass(1);
    assert!(!world.vault.former[0].held);
    assert_eq!(world.vault.former[0].until, later(world.now, world.policy.drain_time()));
    world.pass(97 * 3_600);
    world.pass(301);
    assert!(world.vault.former.is_empty());
}

#[test]
fn new_names_take_over_at_once_where_nothing_was_signed() {
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    let mut vault = vault(home("a.example"), now);
    let key = key(1, KeyKind::Rsa2048, now);
    vault.rings.primary.slots[SlotId::One].phase = Phase::Published { key, seen: now, settled: now };
    let policy = policy();
    let sights = PerLane { primary: Sights::default(), second: None };
    let moves = relocate(&vault, &home("b.example"), &policy, &sights, FormerSeen::default(), now);
    assert_eq!(moves, [Move::Settle { home: home("b.example") }]);
    vault.apply(&VaultChange::Move(moves[0].clone()), now);
    assert_eq!(vault.rings.primary.slots[SlotId::One].phase.as_str(), "Generated");
    assert!(matches!(vault.rings.get(LaneId::Primary).unwrap().slots[SlotId::One].link, Link::Down { .. }));
}

#[test]
fn what_concerns_new_names_begins_no_move() {
    let mut world = World::enabled();
    let before = world.vault.clone();
    for change in [
        Move::Seen { lane: LaneId::Primary, slot: SlotId::One, serial: 1, settled: world.now },
        Move::Link { lane: LaneId::Second, slot: SlotId::One, link: Link::Up { trusted_from: world.now } },
        Move::Unseen { lane: LaneId::Primary, slot: SlotId::Two },
    ] {
        world.vault.apply(&VaultChange::Move(change), world.now);
    }
    assert_eq!(world.vault, before);
}
