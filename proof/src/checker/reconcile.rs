//! What controllers do: reconciles whole, broken off, or slow.

use super::kernel::Call;
use super::properties::Broken;
use super::world::{Crash, Heard, LinkSeen, Look, NAMES, Sight, Sky, Slow, State, Story, World};

impl World {
    fn call(&self, s: &State, set: u32, sight: Sight) -> Call {
        let look = match sight {
            Sight::Fresh(sky) => Some(look(s, sky)),
            Sight::Kept => s.kept.clone(),
            Sight::Blind => None,
        };
        let (in_use, former_in_use) = self.reported(s);
        let secret = s.secret.filter(|_| !s.unset || self.kernel.rules.rebuilds());
        Call { secret, set, spec: s.spec, look, clock: s.clock, tag: s.tag, in_use, former_in_use }
    }

    /// What signers that report still use: keys that drain, slot by slot, and names of before a move.
    fn reported(&self, s: &State) -> ([bool; 2], bool) {
        let Some(secret) = s.secret else { return Default::default() };
        let view = self.kernel.view(secret);
        let late = || s.used.iter().filter(|used| used.lags);
        let ring = &view.lanes[0];
        let keys = [0, 1].map(|slot| ring.drains[slot] && late().any(|u| ring.keys[slot] == Some(u.key)));
        (keys, view.former && late().any(|u| view.needs_former(u)))
    }

    pub(super) fn reconcile(&self, s: &mut State, sight: Sight, crash: Crash) {
        let set = s.set.unwrap_or_else(|| self.kernel.empty_set(s.spec));
        if s.set.is_none() {
            self.put_set(s, Some(set));
        }
        let call = self.call(s, set, sight);
        let mut writes = self.kernel.plan(&call);
        match crash {
            Crash::Never => {}
            // Before the first write nothing is lost.
            Crash::AfterMark if writes.mark.is_none() => return,
            Crash::AfterSecret if !writes.changed => return,
            Crash::AfterMark | Crash::AfterSecret => s.faults -= 1,
        }
        if let Some(mark) = writes.mark {
            self.put_set(s, Some(mark));
        }
        if crash == Crash::AfterMark {
            return;
        }
        self.write_secret(s, &mut writes);
        self.notice(s, &call);
        if crash == Crash::AfterSecret {
            return;
        }
        self.put_set(s, Some(writes.follow));
        let published = self.kernel.published(writes.follow);
        let valid = |key| published.iter().flatten().any(|(heard, _)| *heard == Heard::Key(key));
        if s.stolen.iter().any(|(key, left)| *left && valid(*key)) {
            s.break_(Broken::CondemnedEnds);
        }
        if std::mem::take(&mut s.whole) && self.told(s).is_empty() {
            s.break_(Broken::KeysSurvive);
        }
        // Before anything is published nobody looks.
        let first_look = !self.kernel.publishes(call.set);
        // A seeded fault may make decisions restless; it is to be caught for the harm it does.
        if !first_look
            && self.kernel.rules.mutant.is_none()
            && !self.rests(&self.call(s, writes.follow, sight))
        {
            s.break_(Broken::RestIsRest);
        }
    }

    /// Whether deciding again on the same look writes nothing; where that is judged against keys and names that were not
    /// there when it was made, soon nothing.
    fn rests(&self, call: &Call) -> bool {
        let rounds =
            if self.story.moves() || matches!(self.story, Story::Doubled | Story::Copied) { 3 } else { 1 };
        let mut call = call.clone();
        for _ in 0..rounds {
            let again = self.kernel.plan(&call);
            if !again.changed && again.follow == call.set {
                return true;
            }
            (call.secret, call.set) = (Some(again.secret), again.follow);
        }
        false
    }

    pub(super) fn slow_decide(&self, s: &mut State, sight: Sight) {
        let Some(Slow::Reading { set, set_same, .. }) = s.slow else { return };
        let writes = self.kernel.plan(&self.call(s, set, sight));
        let step = u8::from(writes.mark.is_none());
        s.slow = Some(Slow::Writing { writes, step, set_same, secret_same: true, age: 0 });
    }

    pub(super) fn slow_write(&self, s: &mut State) {
        let Some(Slow::Writing { mut writes, step, set_same, secret_same, age }) = s.slow.take() else {
            return;
        };
        let compares = self.kernel.rules.compares();
        match step {
            0 if set_same || !compares => {
                self.put_set(s, writes.mark);
                s.slow = Some(Slow::Writing { writes, step: 1, set_same: true, secret_same, age });
            }
            1 if !writes.changed => {
                s.slow = Some(Slow::Writing { writes, step: 2, set_same, secret_same, age });
            }
            1 if secret_same || !compares => {
                self.write_secret(s, &mut writes);
                writes.changed = false;
                s.slow = Some(Slow::Writing { writes, step: 2, set_same, secret_same: true, age });
            }
            2 if set_same || !compares => self.put_set(s, Some(writes.follow)),
            _ => {}
        }
    }

    /// What a look found wrong is known from the moment it has been put to use.
    fn notice(&self, s: &mut State, call: &Call) {
        let Some(look) =
            call.look.as_ref().filter(|look| look.at == s.clock && self.kernel.publishes(call.set))
        else {
            return;
        };
        for i in 0..NAMES {
            if !s.links[i].now.is_ours() && look.links[i] == s.links[i].now {
                s.links[i].memory = s.links[i].memory.max(s.links[i].now.memory());
            }
        }
    }
}

/// What a look finds.
pub(super) fn look(s: &State, sky: Sky) -> Look {
    let silent = match sky {
        Sky::Clear | Sky::TenantUnclear | Sky::TenantHides => [false, false],
        Sky::OneSilent(server) => [server == 0, server == 1],
        Sky::OursSilent => [true, true],
    };
    let mut txt = s.served;
    for server in [0, 1] {
        if silent[server] {
            txt[server] = [Heard::Silent; NAMES];
        }
    }
    let mut links = s.links.map(|link| link.now);
    for (alias, seen) in links.iter_mut().enumerate() {
        match (sky, *seen) {
            (Sky::TenantUnclear, _) => *seen = LinkSeen::Unclear,
            (Sky::TenantHides, LinkSeen::Right) => *seen = copied(s, alias),
            (Sky::TenantHides, LinkSeen::Next) => *seen = copied(s, alias + 2),
            _ => {}
        }
    }
    Look { at: s.clock, links, txt }
}

/// What a host shows in a CNAME's place that asks for what the CNAME leads to, as resolvers do, and remembers it as they do.
fn copied(s: &State, name: usize) -> LinkSeen {
    let keys = s.caches[name].iter().filter_map(|(held, _)| match held {
        Heard::Key(key) => Some(*key),
        _ => None,
    });
    keys.min().map_or(LinkSeen::Missing, LinkSeen::Copy)
}
