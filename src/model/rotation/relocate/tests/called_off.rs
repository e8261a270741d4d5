//! Moves that are called off, and the names that are left.

use super::*;

#[test]
fn a_move_called_off_leaves_the_new_names_to_drain() {
    let mut world = World::enabled();
    world.wanted = home("b.example");
    world.pass(301);
    world.wanted = home("a.example");
    world.settle();
    assert!(world.vault.moving.is_none());
    assert_eq!(world.vault.former[0].home, home("b.example"));
    world.pass(1);
    world.pass(97 * 3_600);
    world.pass(301);
    assert!(world.vault.former.is_empty());
}

#[test]
fn names_of_a_move_called_off_stay_while_a_cname_leads_there_by_which_mail_was_signed() {
    let mut world = World::enabled();
    world.announce();
    let active = world.vault.rings.primary.active().unwrap();
    world.cnames[active] = Some(home("b.example"));
    world.wanted = home("a.example");
    // No look is as young as that the tenant has followed.
    world.pass(0);
    let former = |world: &World| world.vault.former.first().map(|former| (former.held, former.until));
    assert_eq!(former(&world).map(|(held, _)| held), Some(true), "{:#?}", world.vault);
    world.pass(1);
    // The other key signs, by a CNAME that leads home; that of the key before may be held for a signer that is late.
    assert_eq!(world.vault.rings.primary.active(), Some(active.other()));
    assert_eq!(former(&world).map(|(held, _)| held), Some(true));
    world.pass(97 * 3_600);
    assert_eq!(former(&world), Some((false, later(world.now, world.policy.drain_time()))));
    world.pass(97 * 3_600);
    world.pass(301);
    assert_eq!(former(&world), None);
}

#[test]
fn names_that_no_cname_in_use_leads_to_are_held_again_for_a_signer_that_is_late() {
    let mut world = World::enabled();
    world.announce();
    world.follow("b.example");
    world.wanted = home("a.example");
    world.settle();
    world.pass(1);
    world.pass(600);
    assert_eq!((world.vault.rings.primary.mode, world.vault.former[0].held), (Mode::Default, false));
    // Once the lag is over a signer is found to sign as the domain still.
    world.former_in_use = true;
    world.pass(300);
    world.pass(30 * 86_400);
    assert!(world.vault.former.first().is_some_and(|former| former.held));
    world.former_in_use = false;
    world.pass(1);
    assert_eq!(world.vault.former[0].until, later(world.now, world.policy.drain_time()));
}

#[test]
fn a_move_called_off_twice_is_waited_for_as_the_first_time() {
    let mut world = World::enabled();
    world.announce();
    world.follow("b.example");
    // Both CNAMEs lead there, and go on to do so: the tenant does not follow back.
    world.wanted = home("a.example");
    world.step();
    let (held, begun) = (world.vault.former.clone(), world.vault.moving.clone());
    assert_eq!((held.len(), held[0].held, begun), (1, true, None));
    world.wanted = home("b.example");
    world.step();
    world.now = later(world.now, SignedDuration::from_secs(1));
    world.step();
    assert_eq!(world.moving().announced, None);
    world.wanted = home("a.example");
    world.step();
    let former = |world: &World| world.vault.former.iter().map(|f| (f.held, f.reached)).collect::<Vec<_>>();
    assert_eq!(former(&world), [(true, true)]);
}

/// A move was called off that the tenant was told of; its CNAMEs are seen where they belong. Resolvers remember these for a day.
fn parted() -> World {
    let mut world = World::enabled();
    (world.policy.drain, world.policy.cname_ttl) = (SignedDuration::from_mins(1), 86_400);
    world.announce();
    world.wanted = home("a.example");
    world.settle();
    world.pass(1);
    world
}

#[test]
fn names_that_a_cname_has_left_stay_for_as_long_as_resolvers_may_follow_it() {
    let mut world = parted();
    world.pass(86_400 - 1);
    let drained = |world: &World| world.vault.former[0].has_drained(world.now);
    assert!(!drained(&world));
    world.pass(1);
    assert!(drained(&world));
}

#[test]
fn a_key_that_is_new_waits_while_resolvers_may_be_led_to_names_of_a_move_called_off() {
    let mut world = parted();
    let count = |world: &World| world.vault.rings.primary.log.count;
    let rotate = |world: &mut World| {
        world.policy.rotate_at = Some(world.now);
        world.settle();
    };
    rotate(&mut world);
    assert_eq!(count(&world), 1, "the next key had settled under both names");
    world.pass(600);
    world.pass(600);
    rotate(&mut world);
    assert_eq!(count(&world), 1, "nobody has looked for this one there");
    world.pass(86_400);
    assert_eq!(count(&world), 2);
}
