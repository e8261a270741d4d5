//! Second signatures and moves.

use super::*;

#[test]
fn a_lane_that_no_look_has_told_of_at_the_next_names_begins_anew_there() {
    let mut world = World::enabled();
    let ring = Keyring::new(pair("ed1", "ed2"), world.now);
    world.vault.apply(&VaultChange::Move(Move::Begin { to: home("b.example") }), world.now);
    let second = world.vault.rings.second.insert(ring);
    second.install(SlotId::One, key(9, KeyKind::Ed25519, world.now));
    let up = Link::Up { trusted_from: world.now };
    second.slots[SlotId::One].link = up;
    world.vault.apply(&VaultChange::Move(Move::Finish { drain: SignedDuration::ZERO }), world.now);
    let link = world.vault.rings.second.as_ref().unwrap().slots[SlotId::One].link;
    assert_eq!(link, Link::unseen(world.now), "what was known is of the names of before");
}

#[test]
fn a_second_signature_is_rolled_along_and_goes_when_it_is_no_longer_wanted() {
    let mut world = World::enabled();
    world.second = Some(pair("ed1", "ed2"));
    world.settle();
    world.pass(i64::from(OLDER));
    let second = world.vault.rings.second.as_ref().unwrap();
    assert_eq!((second.mode, second.active()), (Mode::Domain, Some(SlotId::One)));
    assert_eq!(second.slots[SlotId::One].phase.key().unwrap().kind, KeyKind::Ed25519);
    world.pass(180 * 86_400);
    let counts = world.vault.rings.map(|_, ring| ring.log.count);
    assert_eq!((counts.primary, counts.second), (1, Some(1)));
    world.second = None;
    world.settle();
    assert_eq!(world.vault.rings.second.as_ref().unwrap().active(), None);
    world.pass(97 * 3_600);
    world.settle();
    assert_eq!(world.vault.rings.second, None);
    assert!(world.vault.rings.primary.active().is_some());
}

#[test]
fn nobody_looks_for_a_lane_that_is_wanted_no_more() {
    let mut world = World::enabled();
    world.second = Some(pair("ed1", "ed2"));
    world.settle();
    world.pass(i64::from(OLDER));
    world.announce();
    (world.wanted, world.second) = (home("a.example"), None);
    world.settle();
    world.now = later(world.now, SignedDuration::from_secs(1));
    let sights = Sights { home: Some(world.evidence(&world.vault.home)), next: None };
    let lane = |sights| LaneObserved { sights, custody: PerSlot([true; 2]), in_use: PerSlot::default() };
    let lanes = PerLane { primary: lane(sights), second: Some(lane(Sights::default())) };
    let observed = VaultObserved { lanes, former: FormerSeen::default() };
    let policies = PerLane { primary: &world.policy, second: None };
    let wanted = Wanted { home: &world.wanted, policies, second: None };
    let decision = decide_vault(&world.vault, &wanted, &observed, world.now);
    assert!(world.vault.former[0].held, "its keys drain, and where its CNAMEs lead is not known");
    assert_eq!((decision.changes, decision.look), (Vec::new(), false));
}
