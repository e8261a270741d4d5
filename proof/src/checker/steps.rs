//! How the world goes on: each action's effect, and which properties a step breaks.

use super::kernel::{Call, Writes, facts};
use super::properties::Broken;
use super::store::LONG_AGO;
use super::world::faults;
use super::world::{
    Action, Crash, Heard, Life, Link, LinkSeen, Look, STEP_BACK, Sight, Sky, Slow, State, TOP, Used, WATCHED,
    World,
};

impl State {
    fn break_(&mut self, property: Broken) {
        self.broken |= 1 << property as u8;
    }
}

impl World {
    /// What can happen in a state.
    pub(super) fn possible(&self, s: &State, actions: &mut Vec<Action>) {
        let may = |kind: u8| s.faults > 0 && self.kinds & kind != 0;
        actions.push(Action::Tick);
        actions.extend([0, 1].map(Action::Serve));
        match s.life {
            Life::Present => self.controllers(s, actions),
            Life::Leaving => actions.push(Action::LetGo),
            Life::Gone => {
                // Where no record set is left, nobody can know what resolvers still remember of the last one.
                let remembered = s.caches.iter().flatten().any(|(held, _)| matches!(held, Heard::Key(_)));
                if s.set.is_some() {
                    actions.extend([Action::Recreate, Action::Sweep]);
                } else if !remembered {
                    actions.push(Action::Recreate);
                }
            }
        }
        match s.slow {
            Some(Slow::Reading { .. }) if s.life == Life::Present => {
                actions.extend([Action::SlowDecide(Sight::Fresh(Sky::Clear)), Action::SlowDies]);
                if s.kept.is_some() {
                    actions.push(Action::SlowDecide(Sight::Kept));
                }
            }
            Some(Slow::Writing { .. }) => actions.extend([Action::SlowWrite, Action::SlowDies]),
            Some(Slow::Reading { .. }) => actions.push(Action::SlowDies),
            None => {}
        }
        for i in [0, 1] {
            if s.links[i].now != LinkSeen::Right {
                actions.push(Action::SetLink(i, LinkSeen::Right));
            }
            if may(faults::TENANT) {
                for wrong in [LinkSeen::Missing, LinkSeen::Wrong] {
                    if s.links[i].now != wrong {
                        actions.push(Action::SetLink(i, wrong));
                    }
                }
            }
            if may(faults::LOSS) && s.secret.is_some() {
                actions.push(Action::LoseKey(i));
            }
        }
        if s.spec.paused {
            actions.push(Action::Pause(false));
        }
        if !s.spec.enabled {
            actions.push(Action::Enable(true));
        }
        if may(faults::EDIT) {
            actions.extend([Action::Request, Action::OtherKind]);
            if !s.spec.paused {
                actions.push(Action::Pause(true));
            }
            if s.spec.enabled {
                actions.push(Action::Enable(false));
            }
        }
        if may(faults::LOSS) && s.secret.is_some() {
            actions.push(Action::LoseSecret);
        }
        if may(faults::CLOCK) && s.clock == 0 {
            actions.push(Action::ClockBack);
        }
        if may(faults::DELETE) && s.life == Life::Present {
            actions.push(Action::Delete);
        }
        if may(faults::STALE) && s.set.is_some() && s.kept.is_none() {
            actions.push(Action::KeepLook);
        }
    }

    fn controllers(&self, s: &State, actions: &mut Vec<Action>) {
        // The two servers are alike: which of them is silent makes no difference.
        let skies = [Sky::Clear, Sky::OneSilent, Sky::OursSilent, Sky::TenantUnclear];
        actions.extend(skies.map(|sky| Action::Reconcile(Sight::Fresh(sky), Crash::Never)));
        actions.push(Action::Reconcile(Sight::Blind, Crash::Never));
        if s.kept.is_some() {
            actions.push(Action::Reconcile(Sight::Kept, Crash::Never));
        }
        if s.faults > 0 && self.kinds & faults::CRASH != 0 {
            let fresh = Sight::Fresh(Sky::Clear);
            actions
                .extend([Crash::AfterMark, Crash::AfterSecret].map(|crash| Action::Reconcile(fresh, crash)));
        }
        if s.faults > 0 && self.kinds & faults::SECOND != 0 && s.slow.is_none() && s.set.is_some() {
            actions.push(Action::SlowRead);
        }
    }

    /// Makes it happen.
    pub(super) fn happen(&self, s: &mut State, action: Action) {
        match action {
            Action::Tick => self.tick(s),
            Action::Serve(server) => {
                let published = s.set.map(|set| self.kernel.published(set)).unwrap_or_default();
                s.served[server] =
                    published.map(|keys| keys.first().map_or(Heard::Nothing, |key| Heard::Key(*key)));
                self.remember(s);
            }
            Action::Reconcile(sight, crash) => self.reconcile(s, sight, crash),
            Action::KeepLook => {
                s.faults -= 1;
                s.kept = Some(look(s, Sky::Clear));
            }
            Action::SlowRead => {
                s.faults -= 1;
                s.slow = s.set.map(|set| Slow::Reading { set, set_same: true, age: 0 });
            }
            Action::SlowDecide(sight) => self.slow_decide(s, sight),
            Action::SlowWrite => self.slow_write(s),
            Action::SlowDies => s.slow = None,
            Action::LoseSecret => {
                s.faults -= 1;
                self.put_secret(s, None);
            }
            Action::LoseKey(i) => {
                s.faults -= 1;
                let secret = s.secret.map(|id| self.kernel.without_key(id, i));
                self.put_secret(s, secret);
            }
            Action::SetLink(i, LinkSeen::Right) => s.links[i].now = LinkSeen::Right,
            Action::SetLink(i, wrong) => {
                s.faults -= 1;
                // The controller has not seen it yet; what it knew of before goes on to count down.
                s.links[i] = Link { now: wrong, memory: 0 };
            }
            Action::Pause(paused) => {
                s.faults -= u8::from(paused);
                s.spec.paused = paused;
            }
            Action::Enable(enabled) => {
                s.faults -= u8::from(!enabled);
                s.spec.enabled = enabled;
            }
            Action::Request => {
                s.faults -= 1;
                s.spec.rotate_at = Some(0);
                s.asked = (s.asked + 1).min(2);
            }
            Action::OtherKind => {
                s.faults -= 1;
                s.spec.ed25519 = !s.spec.ed25519;
            }
            Action::ClockBack => {
                s.faults -= 1;
                s.clock = -STEP_BACK;
            }
            Action::Delete => {
                s.faults -= 1;
                s.life = Life::Leaving;
            }
            Action::LetGo if s.secret.is_some() => self.put_secret(s, None),
            Action::LetGo => {
                self.release(s);
                s.life = Life::Gone;
            }
            Action::Sweep => {
                if s.set.is_some_and(|set| self.kernel.has_drained(set, s.clock)) {
                    self.release(s);
                }
            }
            Action::Recreate => s.life = Life::Present,
        }
        self.inspect(s);
    }

    /// Until both keys are published, the CNAMEs in place and trusted, and the newest switch is as old as any.
    pub(super) fn run_in(&self, s: &mut State) {
        s.links.iter_mut().for_each(|link| link.now = LinkSeen::Right);
        for _ in 0..self.interval() {
            for action in [
                Action::Serve(0),
                Action::Serve(1),
                Action::Reconcile(Sight::Fresh(Sky::Clear), Crash::Never),
                Action::Tick,
            ] {
                self.happen(s, action);
            }
        }
    }

    fn tick(&self, s: &mut State) {
        let current = self.told(s).map(|(_, slot, key)| (slot, key));
        s.secret = s.secret.map(|id| self.kernel.older_secret(id));
        s.set = s.set.map(|id| self.kernel.older_set(id));
        match &mut s.slow {
            Some(Slow::Reading { set, age, .. }) => {
                *set = self.kernel.older_set(*set);
                *age += 1;
            }
            Some(Slow::Writing { writes, age, .. }) => {
                writes.mark = writes.mark.map(|id| self.kernel.older_set(id));
                writes.secret = self.kernel.older_secret(writes.secret);
                writes.follow = self.kernel.older_set(writes.follow);
                *age += 1;
            }
            None => {}
        }
        for cache in &mut s.caches {
            for (_, left) in cache.iter_mut() {
                *left -= 1;
            }
            cache.retain(|(_, left)| *left > 0);
        }
        for used in &mut s.used {
            if current != Some((used.slot, used.key)) {
                used.left -= 1;
            }
        }
        s.used.retain(|used| used.left > 0);
        for link in &mut s.links {
            if link.now == LinkSeen::Right {
                link.memory = link.memory.saturating_sub(1);
            }
        }
        s.kept = s.kept.take().map(|look| Look { at: look.at - 1, ..look });
        s.kept.take_if(|look| look.at < -Self::OLDEST_LOOK);
        s.spec.rotate_at = s.spec.rotate_at.map(older_request);
        s.since_switch = (s.since_switch + 1).min(self.interval());
        s.slow.take_if(|slow| match slow {
            Slow::Reading { age, .. } => *age > Self::LONGEST_READ,
            // What was decided before is not written to the Secret any more; the record set may still follow.
            Slow::Writing { step, age, .. } => *step < 2 || *age > Self::LONGEST_READ,
        });
        self.remember(s);
    }

    /// Ticks that a controller may spend between reading the record set and deciding, and before its last write.
    const LONGEST_READ: u8 = 2;
    /// Ticks after which nobody goes by a look any more.
    const OLDEST_LOOK: i8 = 3;

    fn interval(&self) -> u8 {
        u8::try_from(i64::from(self.kernel.times.interval) / super::store::TICK).expect("small")
    }

    /// Resolvers may have asked any server just now.
    pub(super) fn remember(&self, s: &mut State) {
        let tick = super::store::TICK as u32;
        let (ttl, negative) = (self.kernel.times.ttl / tick, self.kernel.times.negative_ttl / tick);
        for slot in [0, 1] {
            for server in [0, 1] {
                let answer = s.served[server][slot];
                let left =
                    u8::try_from(if answer == Heard::Nothing { negative } else { ttl }).expect("small");
                match s.caches[slot].iter_mut().find(|(held, _)| *held == answer) {
                    Some(entry) => entry.1 = left,
                    None => s.caches[slot].push((answer, left)),
                }
            }
            s.caches[slot].sort_unstable();
        }
    }

    /// What signers are told: as the domain or not, which slot, which key.
    pub(super) fn told(&self, s: &State) -> Option<(bool, u8, crate::keys::KeyId)> {
        let view = self.kernel.view(s.secret?);
        let slot = view.active?;
        Some((view.as_domain, u8::try_from(slot).expect("two"), view.keys[slot]?))
    }

    fn call(&self, s: &State, set: u32, sight: Sight) -> Call {
        let look = match sight {
            Sight::Fresh(sky) => Some(look(s, sky)),
            Sight::Kept => s.kept.clone(),
            Sight::Blind => None,
        };
        Call { secret: s.secret, set, spec: s.spec, look, clock: s.clock, tag: s.tag }
    }

    fn reconcile(&self, s: &mut State, sight: Sight, crash: Crash) {
        let set = s.set.unwrap_or_else(|| self.kernel.empty_set());
        if s.set.is_none() {
            self.put_set(s, Some(set));
        }
        let call = self.call(s, set, sight);
        let mut writes = self.kernel.plan(&call);
        if crash != Crash::Never {
            s.faults -= 1;
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
        let again = self.kernel.plan(&self.call(s, writes.follow, sight));
        let first_look = call.set == self.kernel.empty_set();
        // A seeded fault may make decisions restless; it is to be caught for the harm it does.
        let first_look = first_look || self.kernel.rules.mutant.is_some();
        if !first_look && (again.changed || again.follow != writes.follow) {
            s.break_(Broken::RestIsRest);
        }
    }

    fn slow_decide(&self, s: &mut State, sight: Sight) {
        let Some(Slow::Reading { set, set_same, .. }) = s.slow else { return };
        let writes = self.kernel.plan(&self.call(s, set, sight));
        let step = u8::from(writes.mark.is_none());
        s.slow = Some(Slow::Writing { writes, step, set_same, secret_same: true, age: 0 });
    }

    fn slow_write(&self, s: &mut State) {
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

    /// The Secret's write, which tells signers.
    fn write_secret(&self, s: &mut State, writes: &mut Writes) {
        if !writes.changed {
            return;
        }
        let bits = writes.facts;
        if bits & facts::FAILURE_USED != 0 {
            s.break_(Broken::FailuresProveNothing);
        }
        if bits & facts::EARLY_FALLBACK != 0 {
            s.break_(Broken::GraceKept);
        }
        if bits & facts::RAN_BACK != 0 {
            s.break_(Broken::TimeRunsOn);
        }
        if bits & facts::PAUSE_BROKEN != 0 {
            s.break_(Broken::PauseKept);
        }
        if bits & facts::BY_SCHEDULE != 0 && s.since_switch < self.interval() {
            s.break_(Broken::OneRotation);
        }
        if bits & facts::BY_REQUEST != 0 {
            if s.asked == 0 {
                s.break_(Broken::OneRotation);
            }
            s.asked = s.asked.saturating_sub(1);
        }
        if bits & facts::SWITCHED != 0 {
            s.since_switch = 0;
        }
        self.put_secret(s, Some(writes.secret));
        self.renumber(s, writes);
    }

    fn put_secret(&self, s: &mut State, secret: Option<u32>) {
        let before = self.told(s);
        if s.secret != secret
            && let Some(Slow::Writing { secret_same, .. }) = &mut s.slow
        {
            *secret_same = false;
        }
        s.secret = secret;
        let after = self.told(s);
        let Some((as_domain, slot, key)) = after else { return };
        let tick = super::store::TICK as u32;
        let left =
            u8::try_from((self.kernel.times.drain + self.kernel.times.signer_lag) / tick).expect("small");
        match s.used.iter_mut().find(|u| (u.slot, u.key) == (slot, key)) {
            Some(used) => used.left = left,
            None => s.used.push(Used { slot, key, left }),
        }
        s.used.sort_unstable();
        let same_way = before.is_some_and(|(domain, before_slot, _)| domain && before_slot == slot);
        if as_domain && !same_way && s.links[usize::from(slot)].memory > 0 {
            s.break_(Broken::LinkSettled);
        }
    }

    /// New keys: none may bear a serial that was published before. Then all serials are lowered.
    fn renumber(&self, s: &mut State, writes: &mut Writes) {
        let view = self.kernel.view(writes.secret);
        let reused = view.keys.iter().flatten().map(|key| key.tag).max().unwrap_or(0);
        s.tag = if reused > s.tag { reused % 6 } else { s.tag };
        let top = view.keys.iter().flatten().map(|key| key.serial).max().unwrap_or(0);
        let by = top.cast_signed() - TOP.cast_signed();
        let fresh = s.set == Some(self.kernel.empty_set());
        if fresh && by < 0 {
            // The first keys of a new claim; nothing else knows of them.
            s.secret = s.secret.map(|id| self.kernel.lower_secret(id, by));
            writes.secret = self.kernel.lower_secret(writes.secret, by);
            writes.follow = self.kernel.lower_set(writes.follow, by);
        }
        if by <= 0 {
            return;
        }
        s.secret = s.secret.map(|id| self.kernel.lower_secret(id, by));
        s.set = s.set.map(|id| self.kernel.lower_set(id, by));
        let lower_writes = |writes: &mut Writes| {
            writes.mark = writes.mark.map(|id| self.kernel.lower_set(id, by));
            writes.secret = self.kernel.lower_secret(writes.secret, by);
            writes.follow = self.kernel.lower_set(writes.follow, by);
        };
        lower_writes(writes);
        match &mut s.slow {
            Some(Slow::Reading { set, .. }) => *set = self.kernel.lower_set(*set, by),
            Some(Slow::Writing { writes, .. }) => lower_writes(writes),
            None => {}
        }
        let lower = |heard: &mut Heard| {
            if let Heard::Key(key) = heard {
                *key = super::store::lower(*key, by);
            }
        };
        s.served.iter_mut().flatten().for_each(lower);
        s.caches.iter_mut().flatten().for_each(|(heard, _)| lower(heard));
        s.kept.iter_mut().flat_map(|look| look.txt.iter_mut().flatten()).for_each(lower);
        s.used.iter_mut().for_each(|used| used.key = super::store::lower(used.key, by));
        s.published.iter_mut().for_each(|key| *key = super::store::lower(*key, by));
        s.published.retain(|key| key.serial > TOP - WATCHED);
    }

    fn put_set(&self, s: &mut State, set: Option<u32>) {
        if s.set == set {
            return;
        }
        match &mut s.slow {
            Some(Slow::Reading { set_same, .. } | Slow::Writing { set_same, .. }) => *set_same = false,
            None => {}
        }
        s.set = set;
        let published = set.map(|id| self.kernel.published(id)).unwrap_or_default();
        for keys in &published {
            if keys.len() > 1 {
                s.break_(Broken::OneKeyAtAName);
            }
            for key in keys {
                if s.published.iter().any(|other| other.serial == key.serial && other != key) {
                    s.break_(Broken::SerialsOnce);
                }
                if key.serial > TOP - WATCHED && !s.published.contains(key) {
                    s.published.push(*key);
                    s.published.sort_unstable();
                }
            }
        }
        if set.is_none() {
            s.published.clear();
        }
    }

    fn release(&self, s: &mut State) {
        let left = s.set.map(|set| self.kernel.release(set, s.clock));
        let left = left.filter(|set| *set != self.kernel.empty_set());
        // A claim made later counts on from the records that are left.
        let published = left.map(|set| self.kernel.published(set).concat()).unwrap_or_default();
        s.published.retain(|key| published.contains(key));
        self.put_set(s, left);
    }

    /// What a look found wrong is known from the moment it has been put to use.
    fn notice(&self, s: &mut State, call: &Call) {
        let Some(look) =
            call.look.as_ref().filter(|look| look.at == s.clock && call.set != self.kernel.empty_set())
        else {
            return;
        };
        for i in [0, 1] {
            if s.links[i].now != LinkSeen::Right && look.links[i] == s.links[i].now {
                s.links[i].memory = s.links[i].memory.max(s.links[i].now.memory());
            }
        }
    }

    /// The properties that are about a state and not about a step.
    fn inspect(&self, s: &mut State) {
        let published = s.set.map(|set| self.kernel.published(set)).unwrap_or_default();
        for used in s.used.clone() {
            let slot = usize::from(used.slot);
            if s.caches[slot].iter().any(|(held, _)| *held != Heard::Key(used.key)) {
                s.break_(Broken::Verifiable);
            }
            if !published[slot].contains(&used.key) {
                s.break_(Broken::PublishedInUse);
            }
        }
    }
}

/// A request's time a tick later, held where the keyring's note of it is held.
fn older_request(at: i8) -> i8 {
    let long_ago = -i8::try_from(LONG_AGO).expect("small");
    if at - 1 <= -STEP_BACK { long_ago } else { at - 1 }
}

/// What a look finds.
fn look(s: &State, sky: Sky) -> Look {
    let tenant = sky == Sky::TenantUnclear;
    let silent = match sky {
        Sky::Clear | Sky::TenantUnclear => [false, false],
        Sky::OneSilent => [false, true],
        Sky::OursSilent => [true, true],
    };
    let mut txt = s.served;
    for server in [0, 1] {
        if silent[server] {
            txt[server] = [Heard::Silent; 2];
        }
    }
    Look { at: s.clock, links: s.links.map(|link| if tenant { LinkSeen::Unclear } else { link.now }), txt }
}
