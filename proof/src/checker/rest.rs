//! Nothing is pending forever: from every state, once faults end, the world comes to rest within a bound.

use super::store::TICK;
use super::world::{Action, Crash, Life, LinkSeen, Sight, Sky, State, World};

/// Ticks within which the world comes to rest: a drain, a settling, a clock that was set back, and a rotation.
const BOUND: u8 = 24;

impl World {
    /// Whether this state comes to rest within the bound.
    #[must_use]
    pub fn comes_to_rest(&self, state: &State) -> bool {
        let mut s = State {
            kept: None,
            slow: None,
            caches: Default::default(),
            used: Vec::new(),
            since_switch: 0,
            asked: 0,
            faults: 0,
            broken: 0,
            whole: false,
            unset: false,
            ..state.clone()
        };
        s.links.iter_mut().for_each(|link| {
            link.memory = 0;
            link.other = 0;
        });
        let mut path = Vec::new();
        let mut known = None;
        let bound = if self.story == super::world::Story::Doubled { 2 * BOUND } else { BOUND };
        while path.len() <= usize::from(bound) {
            if let Some(far) = self.rest.lock().expect("no thread failed").get(&s) {
                known = Some(*far);
                break;
            }
            path.push(s.clone());
            for action in [Action::Serve(0), Action::Serve(1), Action::LetGo, Action::Sweep] {
                let fits = match action {
                    Action::LetGo => s.life == Life::Leaving,
                    Action::Sweep => s.life == Life::Gone && s.set.is_some(),
                    _ => true,
                };
                if fits {
                    self.happen(&mut s, action);
                }
            }
            self.tenant_follows(&mut s);
            if s.life == Life::Present {
                self.happen(&mut s, Action::Reconcile(Sight::Fresh(Sky::Clear), Crash::Never));
            }
            if self.at_rest(&s) {
                known = Some(0);
                break;
            }
            self.happen(&mut s, Action::Tick);
            forget(&mut s);
        }
        let Some(known) = known else { return false };
        let mut rest = self.rest.lock().expect("no thread failed");
        let mut far = known;
        for state in path.into_iter().rev() {
            rest.insert(state, far);
            far += 1;
        }
        far <= bound
    }

    fn at_rest(&self, s: &State) -> bool {
        match s.life {
            Life::Leaving => return false,
            Life::Gone => return s.set.is_none(),
            Life::Orphaned => return true,
            Life::Present => {}
        }
        let Some(secret) = s.secret else { return false };
        let view = self.kernel.view(secret);
        let moved = view.moving.is_none() && view.away == s.spec.away && !view.former;
        let doubled = (view.lanes.len() == 2) == s.spec.second;
        if !moved || !doubled || view.lanes.iter().any(|lane| lane.stolen) || (s.spec.brings && !view.brought)
        {
            return false;
        }
        let home = if view.away { LinkSeen::Next } else { LinkSeen::Right };
        let mut waits = false;
        for (lane, ring) in view.lanes.iter().enumerate() {
            let Some(active) = ring.active else { return false };
            let right = [0, 1].map(|slot| match s.links[2 * lane + slot].now {
                LinkSeen::Copy(key) => ring.keys[slot] == Some(key),
                led => led == home,
            });
            let as_wished = match (s.spec.enabled, right) {
                (false, _) => !ring.as_domain,
                (true, [true, true]) => ring.as_domain,
                (true, _) => !ring.as_domain || right[active],
            };
            // A rotation may wait for the tenant's CNAME; the grace of the one in use is the tenant's time.
            waits |= s.spec.paused || (ring.as_domain && !right[1 - active]);
            let kind = s.spec.ed25519 || lane == 1;
            let rotated = ring.next.is_none_or(|next| next > s.clock)
                && ring.keys.iter().flatten().all(|key| key.ed25519 == kind);
            if !as_wished || !(waits || (ring.published[1 - active] && rotated)) {
                return false;
            }
        }
        waits || view.along
    }

    /// The span from a switch to the end of what it began, in ticks.
    #[must_use]
    pub fn cycle(&self) -> u32 {
        let times = &self.kernel.times;
        (times.drain + times.signer_lag + times.ttl) / u32::try_from(TICK).expect("small")
    }
}

fn forget(s: &mut State) {
    s.caches = Default::default();
    s.used.clear();
    s.since_switch = 0;
    s.asked = 0;
    s.broken = 0;
    s.whole = false;
    s.unset = false;
    s.links.iter_mut().for_each(|link| {
        link.memory = 0;
        link.other = 0;
    });
}
