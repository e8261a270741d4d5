//! Keys that fall into the wrong hands.

use super::world::{Slow, State, World};

impl World {
    /// Every key there is, is in the wrong hands.
    pub(super) fn compromise(&self, s: &mut State) {
        s.faults -= 1;
        s.spec.compromised = true;
        let told = self.told(s);
        let written = match &s.slow {
            Some(Slow::Writing { writes, .. }) => Some(writes.secret),
            _ => None,
        };
        for secret in s.secret.into_iter().chain(written) {
            for key in self.kernel.view(secret).lanes.iter().flat_map(|ring| ring.keys).flatten() {
                let left = s.used.iter().any(|u| u.key == key) && told.iter().all(|told| told.key != key);
                if s.stolen.iter().all(|(known, _)| *known != key) {
                    s.stolen.push((key, left));
                }
            }
        }
        s.stolen.sort_unstable();
        s.secret = s.secret.map(|id| self.kernel.stolen_secret(id));
        s.set = s.set.map(|id| self.kernel.stolen_set(id));
        match &mut s.slow {
            Some(Slow::Reading { set, .. }) => *set = self.kernel.stolen_set(*set),
            Some(Slow::Writing { writes, .. }) => {
                writes.mark = writes.mark.map(|id| self.kernel.stolen_set(id));
                writes.secret = self.kernel.stolen_secret(writes.secret);
                writes.follow = self.kernel.stolen_set(writes.follow);
            }
            None => {}
        }
        self.forget_stolen(s);
    }

    /// What was signed with a key in the wrong hands need not verify once signers are told of another.
    pub(super) fn forget_stolen(&self, s: &mut State) {
        let State { stolen, used, .. } = s;
        used.retain(|u| !stolen.contains(&(u.key, true)));
    }
}
