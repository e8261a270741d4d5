//! What holds through any history.

use proptest::prelude::*;

use super::*;
use crate::model::keyring::Link;

/// What a random walk may do between two decisions.
#[derive(Debug, Clone)]
enum Event {
    Link(SlotId, LinkSight),
    Key(SlotId, KeySight),
    Pass(i64),
    Back(i64),
    Enable(bool),
    Lose(SlotId),
    Rotate,
    Kind(KeyKind),
}

fn event() -> impl Strategy<Value = Event> {
    let slot = prop_oneof![Just(SlotId::One), Just(SlotId::Two)];
    let link = prop_oneof![3 => Just(UP), 1 => Just(DOWN), 1 => Just(LinkSight::Unclear)];
    let seen = prop_oneof![4 => Just(KeySight::Matches), 1 => Just(KeySight::Contradicted), 1 => Just(KeySight::Unclear)];
    prop_oneof![
        4 => (slot.clone(), link).prop_map(|(s, l)| Event::Link(s, l)),
        2 => (slot.clone(), seen).prop_map(|(s, k)| Event::Key(s, k)),
        6 => (1i64..1_000_000).prop_map(Event::Pass),
        1 => (1i64..1_000_000).prop_map(Event::Back),
        1 => any::<bool>().prop_map(Event::Enable),
        1 => slot.prop_map(Event::Lose),
        2 => Just(Event::Rotate),
        1 => prop_oneof![Just(KeyKind::Rsa2048), Just(KeyKind::Ed25519)].prop_map(Event::Kind),
    ]
}

proptest! {
    /// Through any history: at most one active key; who becomes active was published, settled and seen; what has
    /// signed drains in full; serials never repeat; every state comes to rest.
    #[test]
    fn laws_hold_on_random_walks(events in proptest::collection::vec(event(), 1..60)) {
        let mut world = World::new();
        for event in events {
            match event {
                Event::Link(slot, sight) => world.links[slot] = sight,
                Event::Key(slot, sight) => world.keys[slot] = sight,
                Event::Pass(seconds) => world.now = later(world.now, SignedDuration::from_secs(seconds)),
                Event::Back(seconds) => world.now = later(world.now, SignedDuration::from_secs(-seconds)),
                Event::Enable(enabled) => world.policy.enabled = enabled,
                Event::Lose(slot) => world.custody[slot] = false,
                Event::Rotate => world.policy.rotate_at = Some(world.now),
                Event::Kind(kind) => world.policy.kind = kind,
            }
            let before = world.ring.clone();
            let effective = world.now.max(before.high_water());
            let serial = before.last_serial;
            let decision = world.step();
            for change in &decision.changes {
                match change {
                    Change::Activate { slot, .. } => {
                        let Phase::Published { settled, .. } = &before.slots[*slot].phase else {
                            return Err(TestCaseError::fail(format!("activated from {:?}", before.slots[*slot])));
                        };
                        prop_assert!(*settled <= effective);
                        prop_assert_eq!(world.keys[*slot], KeySight::Matches);
                    }
                    Change::SetMode { mode: Mode::Domain } => {
                        for slot in SlotId::ALL {
                            let trusted = matches!(before.slots[slot].link, Link::Up { trusted_from } if trusted_from <= effective);
                            prop_assert!(trusted);
                            prop_assert_eq!(world.links[slot], UP);
                        }
                    }
                    Change::Generate { slot, .. } => match &before.slots[*slot].phase {
                        Phase::Active { .. } => prop_assert!(false, "a key that signs was replaced"),
                        Phase::Draining { until, held, .. } => prop_assert!(*until <= effective && !held),
                        Phase::Revoked { until, .. } => prop_assert!(*until <= effective),
                        _ => {}
                    },
                    _ => {}
                }
            }
            prop_assert!(world.ring.last_serial >= serial);
            let active = SlotId::ALL.into_iter().filter(|s| matches!(world.ring.slots[*s].phase, Phase::Active { .. })).count();
            prop_assert!(active <= 1);
            for (slot, state) in before.slots.iter() {
                if let Phase::Active { key, .. } = &state.phase {
                    let after = &world.ring.slots[slot].phase;
                    prop_assert_eq!(after.key().map(|k| k.serial), Some(key.serial), "a key that signed left without draining");
                }
            }
            world.settle();
        }
    }
}
