//! What a look at both names proves of a CNAME.

use super::*;

#[test]
fn a_cname_that_leads_to_a_new_name_without_the_key_is_no_link() {
    let home = Evidence {
        at: Timestamp::UNIX_EPOCH,
        slots: PerSlot([SlotEvidence { link: DOWN, key: KeySight::Matches }; 2]),
    };
    let next = |key| Evidence { slots: PerSlot([SlotEvidence { link: UP, key }; 2]), ..home };
    let merged = |key, settled| {
        let sights = Sights { home: Some(home), next: Some(next(key)) };
        sights.merged(PerSlot([settled; 2]), true).unwrap().slots[SlotId::One].link
    };
    assert_eq!(merged(KeySight::Matches, true), UP);
    assert_eq!(
        merged(KeySight::Matches, false),
        LinkSight::Unclear,
        "resolvers may remember what was there before"
    );
    assert_eq!(merged(KeySight::Contradicted, true), DOWN);
    assert_eq!(merged(KeySight::Unclear, true), LinkSight::Unclear);
}

#[test]
fn a_copy_is_good_at_home_during_a_move_and_no_link_to_the_next_name() {
    let seen =
        |link, key| Evidence { at: Timestamp::UNIX_EPOCH, slots: PerSlot([SlotEvidence { link, key }; 2]) };
    let merged = |home, next| {
        let next = seen(next, KeySight::Matches);
        let sights = Sights { home: Some(seen(home, KeySight::Matches)), next: Some(next) };
        sights.merged(PerSlot([true; 2]), true).unwrap().slots[SlotId::One].link
    };
    assert_eq!(merged(COPIED, COPIED), COPIED);
    assert_eq!(merged(COPIED, DOWN), COPIED);
    assert_eq!(merged(DOWN, COPIED), LinkSight::Unclear, "nor of one that is gone");
}

#[test]
fn a_cname_that_the_tenant_may_move_is_no_link_to_a_key_that_is_not_at_the_next_name() {
    let now = Timestamp::UNIX_EPOCH;
    let seen =
        |link| Evidence { at: now, slots: PerSlot([SlotEvidence { link, key: KeySight::Matches }; 2]) };
    let sights = Sights { home: Some(seen(UP)), next: Some(seen(DOWN)) };
    let merged =
        |settled, announced| sights.merged(PerSlot([settled; 2]), announced).unwrap().slots[SlotId::One].link;
    assert_eq!(merged(true, true), UP);
    assert_eq!(merged(false, true), LinkSight::Unclear);
    assert_eq!(merged(false, false), UP, "a move to where nothing answers hinders no rotation");
}
