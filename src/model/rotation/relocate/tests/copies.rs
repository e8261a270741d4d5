//! Where the DNS host shows copies in place of CNAMEs.

use super::*;

#[test]
fn a_move_of_a_flattened_domain_waits_until_its_cnames_show() {
    let mut world = World::enabled();
    let (old, new) = (home("a.example"), home("b.example"));
    world.flattened = true;
    world.settle();
    world.wanted = new.clone();
    world.settle();
    world.pass(301);
    assert!(world.moving().announced.is_some());
    for _ in 0..20 {
        world.pass(30 * 86_400);
    }
    assert_eq!((&world.vault.home, world.vault.rings.primary.mode), (&old, Mode::Domain));
    assert!(world.vault.rings.primary.log.count >= 3, "rotations go on");
    // It need not have led to the old name all the time, but the copies do not tell.
    world.cnames = PerSlot([Some(new.clone()), Some(new.clone())]);
    world.pass(86_400);
    assert_eq!(world.vault.home, old);
    world.flattened = false;
    world.pass(1);
    assert_eq!(world.vault.home, old, "what was there before may be remembered");
    world.pass(i64::from(OLDER));
    assert_eq!((&world.vault.home, world.vault.rings.primary.mode), (&new, Mode::Domain));
}

#[test]
fn names_of_a_move_called_off_stay_while_copies_hide_where_the_cnames_lead() {
    let mut world = World::enabled();
    world.flattened = true;
    world.announce();
    world.follow("b.example");
    world.wanted = home("a.example");
    world.settle();
    world.pass(1);
    world.pass(300 * 86_400);
    assert!(world.vault.former.first().is_some_and(|former| former.held), "{:#?}", world.vault.former);
    assert_eq!(world.vault.rings.primary.mode, Mode::Domain, "the key is there by either name");
    world.flattened = false;
    world.cnames = PerSlot([Some(home("a.example")), Some(home("a.example"))]);
    world.pass(1);
    assert!(!world.vault.former[0].held);
    world.pass(97 * 3_600);
    world.pass(301);
    assert!(world.vault.former.is_empty());
}

#[test]
fn default_signing_ends_by_no_copy_of_a_name_that_drains() {
    let mut world = World::enabled();
    (world.policy.enabled, world.flattened) = (false, true);
    world.settle();
    world.announce();
    assert_eq!(world.vault.home, home("b.example"));
    world.policy.enabled = true;
    world.pass(1);
    world.pass(2 * 3_600);
    assert_eq!(world.vault.rings.primary.mode, Mode::Default, "the CNAMEs lead to the names of before");
    world.pass(97 * 3_600);
    assert!(world.vault.former[0].has_drained(world.now));
    world.pass(299);
    assert!(world.vault.doubts_copies(Mode::Default), "copies of what was there may still be shown");
    world.pass(2);
    assert!(world.vault.former.is_empty());
    world.follow("b.example");
    world.pass(1);
    world.pass(2 * 3_600);
    assert_eq!(world.vault.rings.primary.mode, Mode::Domain);
}

#[test]
fn a_copy_begins_nothing_where_names_of_before_go() {
    let mut world = World::enabled();
    world.announce();
    world.follow("b.example");
    world.pass(1);
    world.pass(i64::from(OLDER));
    assert_eq!((&world.vault.home, world.vault.rings.primary.mode), (&home("b.example"), Mode::Domain));
    // The host goes over to copies while the names of before drain: no key begins to sign by one of these.
    world.flattened = true;
    let count = world.vault.rings.primary.log.count;
    world.policy.rotate_at = Some(world.now);
    world.pass(86_400);
    assert_eq!(world.vault.rings.primary.log.count, count);
    let waits = world.step().lanes.primary.waiting;
    assert!(matches!(waits, Some(Wait::FormerNames { .. })), "{waits:?}");
    world.pass(97 * 3_600);
    world.pass(301);
    assert_eq!(world.vault.rings.primary.log.count, count + 1);
}

#[test]
fn default_signing_ends_by_no_copy_of_a_name_that_has_yet_to_settle() {
    let mut world = World::enabled();
    (world.policy.enabled, world.flattened) = (false, true);
    world.settle();
    world.wanted = home("b.example");
    world.settle();
    assert_eq!(world.moving().announced, None);
    assert!(world.vault.doubts_copies(Mode::Default) && !world.vault.doubts_copies(Mode::Domain));
}
