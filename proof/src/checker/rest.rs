//! Nothing is pending forever: from every state, once faults end, the world comes to rest within a bound.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use super::world::{Action, Crash, Life, LinkSeen, Sight, Sky, State, Story, World};

/// Ticks within which the world comes to rest: a drain, a settling, a clock that was set back, and a rotation.
const BOUND: u8 = 24;
/// Farther than any bound.
const NEVER: u8 = u8::MAX;
/// What comes to rest: everything at once, but of two lanes each in its own time, as one is rolled after the other.
const PARTS: usize = 3;
/// All of them, as bits.
const ALL: u8 = (1 << PARTS) - 1;

/// How many ticks each part is from rest.
pub type Far = [u8; PARTS];

impl World {
    /// Whether this state comes to rest within the bound.
    #[must_use]
    pub fn comes_to_rest(&self, state: &State) -> bool {
        let mut s = State { kept: None, slow: None, faults: 0, ..state.clone() };
        self.forget(&mut s);
        let (mut path, mut met) = (Vec::new(), 0);
        let mut far = [NEVER; PARTS];
        while path.len() <= usize::from(BOUND) && met != ALL {
            let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(&s);
            if let Some(known) = self.rest.lock().expect("no thread failed").get(&hash) {
                far = *known;
                break;
            }
            self.settle(&mut s);
            let rests = self.at_rest(&s);
            met |= rests;
            path.push((hash, rests));
            self.happen(&mut s, Action::Tick);
            self.forget(&mut s);
        }
        let mut known = self.rest.lock().expect("no thread failed");
        for (hash, rests) in path.into_iter().rev() {
            for (part, far) in far.iter_mut().enumerate() {
                *far = if rests & (1 << part) == 0 { far.saturating_add(1) } else { 0 };
            }
            // What is too far from here may only not have been followed to its end.
            if far.iter().all(|far| *far <= BOUND) {
                known.insert(hash, far);
            }
        }
        far.iter().all(|far| *far <= BOUND)
    }

    /// What happens in a tick when nothing goes wrong.
    fn settle(&self, s: &mut State) {
        self.servers().for_each(|serve| self.happen(s, serve));
        for action in [Action::LetGo, Action::Sweep] {
            let fits = match action {
                Action::LetGo => matches!(s.life, Life::Leaving | Life::Erasing),
                _ => s.life == Life::Gone && s.set.is_some(),
            };
            if fits {
                self.happen(s, action);
            }
        }
        self.tenant_follows(s);
        if s.life == Life::Present {
            self.happen(s, Action::Reconcile(Sight::Fresh(Sky::Clear), Crash::Never));
        }
    }

    /// The parts that are at rest.
    fn at_rest(&self, s: &State) -> u8 {
        match s.life {
            Life::Leaving | Life::Erasing => return 0,
            Life::Gone => return if s.set.is_none() { ALL } else { 0 },
            Life::Orphaned => return ALL,
            Life::Present => {}
        }
        let Some(secret) = s.secret else { return 0 };
        let view = self.kernel.view(secret);
        let moved = view.moving.is_none() && view.away == s.spec.away && !view.former;
        let doubled = (view.lanes.len() == 2) == s.spec.second;
        if !moved || !doubled || view.lanes.iter().any(|lane| lane.stolen) || (s.spec.brings && !view.brought)
        {
            return 0;
        }
        let home = if view.away { LinkSeen::Next } else { LinkSeen::Right };
        let (mut waits, mut rests) = (s.spec.paused, ALL);
        for (lane, ring) in view.lanes.iter().enumerate() {
            let right = [0, 1].map(|slot| match s.links[2 * lane + slot].now {
                LinkSeen::Copy(key) => ring.keys[slot] == Some(key),
                led => led == home,
            });
            let kind = s.spec.ed25519 || lane == 1;
            let done = ring.active.is_some_and(|active| {
                let as_wished = match (s.spec.enabled, right) {
                    (false, _) => !ring.as_domain,
                    (true, [true, true]) => ring.as_domain,
                    (true, _) => !ring.as_domain || right[active],
                };
                // A rotation may wait for the tenant's CNAME; the grace of the one in use is the tenant's time.
                waits |= ring.as_domain && !right[1 - active];
                let rotated = ring.next.is_none_or(|next| next > s.clock)
                    && ring.keys.iter().flatten().all(|key| key.ed25519 == kind);
                as_wished && (waits || (ring.published[1 - active] && rotated))
            });
            if !done {
                rests &= !(1 << lane);
            }
        }
        if !waits && !view.along {
            rests &= !(1 << 2);
        }
        if self.story == Story::Doubled || rests == ALL { rests } else { 0 }
    }

    /// What is past does not count.
    fn forget(&self, s: &mut State) {
        s.caches = Default::default();
        s.used.clear();
        (s.since_switch, s.asked, s.broken) = (0, 0, 0);
        (s.whole, s.unset) = (false, false);
        self.order_servers(s);
        for link in &mut s.links {
            (link.memory, link.other) = (0, 0);
        }
    }
}
