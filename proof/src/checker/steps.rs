//! How the world goes on: each action's effect, and which properties a step breaks.

use super::kernel::{Call, Writes, facts};
use super::properties::Broken;
use super::store::LONG_AGO;
use super::world::faults;
use super::world::{
    Action, Crash, Heard, Life, Link, LinkSeen, Look, NAMES, STEP_BACK, Sight, Sky, Slow, State, Story, TOP,
    Used, WATCHED, World,
};

impl State {
    fn break_(&mut self, property: Broken) {
        self.broken |= 1 << property as u8;
    }
}

impl World {
    /// What can happen in a state.
    pub(super) fn possible(&self, s: &State, actions: &mut Vec<Action>) {
        let may = |kind: u16| s.faults > 0 && self.kinds & kind != 0;
        actions.push(Action::Tick);
        if !s.unset {
            actions.extend([0, 1].map(Action::Serve));
        }
        match s.life {
            Life::Present => self.controllers(s, actions),
            Life::Leaving => actions.push(Action::LetGo),
            Life::Orphaned => actions.push(Action::Recreate),
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
        for i in 0..NAMES {
            if let Some(shown) = self.shown(s, i).filter(|shown| *shown != s.links[i].now) {
                actions.push(Action::SetLink(i, shown));
            }
            if may(faults::LAG) && s.used.iter().any(|u| usize::from(u.name) == i && self.may_lag(s, u)) {
                actions.push(Action::Lag(i));
            }
            if s.used.iter().any(|u| usize::from(u.name) == i && u.lags) {
                actions.push(Action::CatchUp(i));
            }
        }
        if s.life == Life::Present && may(faults::LOSS) && self.set_is_known(s) {
            actions.push(Action::LoseSet);
        }
        if may(faults::COMPROMISE) && s.life == Life::Present && s.secret.is_some() {
            actions.push(Action::Compromise);
        }
        if may(faults::MOVE) && s.life == Life::Present && s.secret.is_some() {
            actions.push(Action::Relocate(!s.spec.away));
        }
        if self.story == Story::Doubled && !s.spec.second {
            actions.push(Action::Double(true));
        }
        if s.spec.paused && self.story != Story::Moved {
            actions.push(Action::Pause(false));
        }
        if !s.spec.enabled {
            actions.push(Action::Enable(true));
        }
        if may(faults::EDIT) {
            actions.push(Action::Request);
            actions.push(if self.story == Story::Doubled {
                Action::Double(false)
            } else {
                Action::OtherKind
            });
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
            actions.push(if self.story == Story::Orphaned { Action::Orphan } else { Action::Delete });
        }
        if may(faults::STALE) && s.set.is_some() && s.kept.is_none() {
            actions.push(Action::KeepLook);
        }
    }

    fn controllers(&self, s: &State, actions: &mut Vec<Action>) {
        // The two servers are alike: which of them is silent makes no difference.
        let skies = [Sky::Clear, Sky::OneSilent, Sky::OursSilent, Sky::TenantUnclear];
        let few = matches!(self.story, Story::Moved | Story::Doubled);
        let skies = skies.into_iter().filter(|sky| !few || matches!(sky, Sky::Clear | Sky::TenantUnclear));
        actions.extend(skies.map(|sky| Action::Reconcile(Sight::Fresh(sky), Crash::Never)));
        if !few {
            actions.push(Action::Reconcile(Sight::Blind, Crash::Never));
        }
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
                    published.map(|here| here.first().map_or(Heard::Nothing, |(heard, _)| *heard));
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
                s.whole = false;
                self.put_secret(s, None);
            }
            Action::LoseSet => {
                s.faults -= 1;
                (s.unset, s.whole) = (true, !self.told(s).is_empty());
                self.put_set(s, Some(self.kernel.empty_set(s.spec)));
            }
            Action::Compromise => self.compromise(s),
            Action::Lag(name) => {
                s.faults -= 1;
                let late: Vec<bool> =
                    s.used.iter().map(|u| usize::from(u.name) == name && self.may_lag(s, u)).collect();
                s.used.iter_mut().zip(late).for_each(|(used, late)| used.lags |= late);
            }
            Action::CatchUp(name) => {
                let drain = self.ticks(self.kernel.times.drain);
                let held = s.secret.is_some_and(|secret| self.kernel.view(secret).lanes[0].held[name]);
                let told = self.told(s);
                for used in s.used.iter_mut().filter(|u| usize::from(u.name) == name && u.lags) {
                    (used.lags, used.left) = (false, drain);
                }
                // Where the controller was away for all of the time that it lagged, nobody knows that it did.
                if !held {
                    s.used
                        .retain(|u| usize::from(u.name) != name || told.iter().any(|told| told.key == u.key));
                }
            }
            Action::Relocate(away) => {
                s.faults -= 1;
                s.spec.away = away;
            }
            Action::Double(second) => {
                s.faults -= u8::from(!second);
                s.spec.second = second;
            }
            Action::LoseKey(i) => {
                s.faults -= 1;
                s.whole = false;
                let secret = s.secret.map(|id| self.kernel.without_key(id, i));
                self.put_secret(s, secret);
            }
            Action::SetLink(i, ours @ (LinkSeen::Right | LinkSeen::Next | LinkSeen::Copy(_))) => {
                let link = &mut s.links[i];
                match (link.now, ours) {
                    (LinkSeen::Copy(_), LinkSeen::Copy(_)) => link.memory = LinkSeen::WRONG_TTL,
                    (LinkSeen::Right, LinkSeen::Next) | (LinkSeen::Next, LinkSeen::Right) => {
                        link.other = LinkSeen::WRONG_TTL;
                    }
                    _ => {}
                }
                link.now = ours;
            }
            Action::SetLink(i, wrong) => {
                s.faults -= 1;
                // The controller has not seen it yet; what it knew of before goes on to count down.
                s.links[i] = Link { now: wrong, memory: 0, other: 0 };
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
            Action::Orphan => {
                s.faults -= 1;
                s.life = Life::Orphaned;
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
            Action::Recreate => {
                if s.life == Life::Orphaned {
                    s.whole = !self.told(s).is_empty();
                    if !self.kernel.rules.takes_up_orphans() {
                        self.put_secret(s, None);
                    }
                }
                s.life = Life::Present;
            }
        }
        self.inspect(s);
    }

    /// Until both keys are published, the CNAMEs in place and trusted, and the newest switch is as old as any.
    pub(super) fn run_in(&self, s: &mut State) {
        if self.story != Story::Copied {
            s.links[..2].iter_mut().for_each(|link| link.now = LinkSeen::Right);
        }
        let more = if matches!(self.story, Story::Doubled | Story::Copied) { 4 } else { 0 };
        if self.story == Story::Doubled {
            s.links[2..].iter_mut().for_each(|link| link.now = LinkSeen::Right);
        }
        for _ in 0..self.interval() + more {
            self.tenant_follows(s);
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
        let current = self.told(s);
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
            let told =
                current.iter().any(|now| (now.alias, now.name, now.key) == (used.alias, used.name, used.key));
            if !told && !used.lags {
                used.left -= 1;
            }
        }
        s.used.retain(|used| used.left > 0);
        for link in &mut s.links {
            if link.now.is_ours() {
                link.memory = link.memory.saturating_sub(1);
            }
            link.other = link.other.saturating_sub(1);
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
        for slot in 0..NAMES {
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

    /// What signers are told, as what must verify.
    pub(super) fn told(&self, s: &State) -> Vec<Used> {
        let Some(secret) = s.secret else { return Vec::new() };
        let view = self.kernel.view(secret);
        let left = self.ticks(self.kernel.times.drain + self.kernel.times.signer_lag);
        let told = view.lanes.iter().enumerate().filter_map(|(lane, ring)| {
            let slot = ring.active?;
            let alias = u8::try_from(2 * lane + slot).expect("few");
            let name = alias + if view.away { 2 } else { 0 };
            let by_alias = ring.as_domain && matches!(self.story, Story::Moved | Story::Copied);
            let (alias, name) = if by_alias { (Some(alias), alias) } else { (None, name) };
            Some(Used { alias, name, key: ring.keys[slot]?, left, lags: false })
        });
        told.collect()
    }

    /// The aliases by which signers are told to sign as the domain.
    fn told_aliases(&self, s: &State) -> Vec<usize> {
        let Some(secret) = s.secret else { return Vec::new() };
        let view = self.kernel.view(secret);
        let lanes = view.lanes.iter().enumerate().filter(|(_, ring)| ring.as_domain);
        lanes.filter_map(|(lane, ring)| Some(2 * lane + ring.active?)).collect()
    }

    fn ticks(&self, seconds: u32) -> u8 {
        u8::try_from(seconds / super::store::TICK as u32).expect("small")
    }

    /// What the tenant is shown to put at an alias.
    fn shown(&self, s: &State, alias: usize) -> Option<LinkSeen> {
        let lane = alias / 2;
        if lane == 1 && self.story != Story::Doubled {
            return None;
        }
        let view = s.secret.map(|secret| self.kernel.view(secret));
        if s.spec.copies {
            let view = view?;
            let ring = view.lanes.get(lane)?;
            // A copy is not replaced before the controller has seen that it is the old one.
            let known = !s.links[alias].now.is_ours() || ring.looked[alias % 2];
            return Some(LinkSeen::Copy(ring.keys[alias % 2]?)).filter(|_| known);
        }
        // Nor does a CNAME change before the controller has seen where it led.
        let followed = s.links[alias].now.is_ours();
        if followed
            && view.as_ref().is_some_and(|view| view.moving == Some(true) && !view.next_looked[alias % 2])
        {
            return None;
        }
        let away = view.is_some_and(|view| if view.moving == Some(true) { !view.away } else { view.away });
        Some(if away { LinkSeen::Next } else { LinkSeen::Right })
    }

    /// The tenant does what is shown, but leaves alone what is wrong.
    pub(super) fn tenant_follows(&self, s: &mut State) {
        for alias in 0..NAMES {
            let follows = s.spec.copies || s.links[alias].now.is_ours();
            if let Some(shown) = self.shown(s, alias).filter(|shown| follows && *shown != s.links[alias].now)
            {
                self.happen(s, Action::SetLink(alias, shown));
            }
        }
    }

    /// A signer may be late until the bound for all of them is over.
    fn may_lag(&self, s: &State, used: &Used) -> bool {
        let told = self.told(s).iter().any(|told| told.key == used.key);
        !told && !used.lags && used.left > self.ticks(self.kernel.times.drain)
    }

    /// Whether the Secret knows of all that is published.
    fn set_is_known(&self, s: &State) -> bool {
        let (Some(secret), Some(set)) = (s.secret, s.set) else { return false };
        let view = self.kernel.view(secret);
        let known: Vec<_> = view.lanes.iter().flat_map(|ring| ring.keys).flatten().collect();
        let published = self.kernel.published(set);
        let mut all = published.iter().flatten();
        self.kernel.publishes(set)
            && all.all(|(heard, _)| matches!(heard, Heard::Key(key) if known.contains(key)))
    }

    /// Every key there is, is in the wrong hands.
    fn compromise(&self, s: &mut State) {
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
    fn forget_stolen(&self, s: &mut State) {
        let State { stolen, used, .. } = s;
        used.retain(|u| !stolen.contains(&(u.key, true)));
    }

    /// The names at which verifiers may look for the key.
    fn asked(&self, s: &State, used: &Used) -> Vec<usize> {
        let Some(alias) = used.alias.map(usize::from) else { return vec![usize::from(used.name)] };
        let link = s.links[alias];
        match link.now {
            LinkSeen::Right | LinkSeen::Next if link.other > 0 => vec![alias, alias + 2],
            LinkSeen::Right => vec![alias],
            LinkSeen::Next => vec![alias + 2],
            _ => Vec::new(),
        }
    }

    fn call(&self, s: &State, set: u32, sight: Sight) -> Call {
        let look = match sight {
            Sight::Fresh(sky) => Some(look(s, sky)),
            Sight::Kept => s.kept.clone(),
            Sight::Blind => None,
        };
        let in_use = [0, 1].map(|slot| s.used.iter().any(|used| used.lags && used.name == slot));
        let secret = s.secret.filter(|_| !s.unset || self.kernel.rules.rebuilds());
        Call { secret, set, spec: s.spec, look, clock: s.clock, tag: s.tag, in_use }
    }

    fn reconcile(&self, s: &mut State, sight: Sight, crash: Crash) {
        let set = s.set.unwrap_or_else(|| self.kernel.empty_set(s.spec));
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
        let published = self.kernel.published(writes.follow);
        let valid = |key| published.iter().flatten().any(|(heard, _)| *heard == Heard::Key(key));
        if s.stolen.iter().any(|(key, left)| *left && valid(*key)) {
            s.break_(Broken::CondemnedEnds);
        }
        if std::mem::take(&mut s.whole) && self.told(s).is_empty() {
            s.break_(Broken::KeysSurvive);
        }
        let first_look = self.kernel.is_new(call.set);
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
        let rounds = if matches!(self.story, Story::Moved | Story::Doubled | Story::Copied) { 3 } else { 1 };
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
        if bits & facts::BROUGHT_TWICE != 0 {
            s.break_(Broken::BroughtOnce);
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
        let shown = |secret: u32| self.kernel.view(secret).moving == Some(true);
        let first_shown = shown(writes.secret) && !s.secret.is_some_and(shown);
        self.put_secret(s, Some(writes.secret));
        if first_shown {
            let all = s.used.iter().filter_map(|used| Some((usize::from(used.alias?), used.key)));
            let early = all.clone().any(|(alias, key)| {
                let there = if self.kernel.view(writes.secret).away { alias } else { alias + 2 };
                s.caches[there].iter().any(|(held, _)| *held != Heard::Key(key))
            });
            if early {
                s.break_(Broken::MovedLate);
            }
        }
        self.renumber(s, writes);
    }

    fn put_secret(&self, s: &mut State, secret: Option<u32>) {
        let (before, aliases) = (self.told(s), self.told_aliases(s));
        if s.secret != secret
            && let Some(Slow::Writing { secret_same, .. }) = &mut s.slow
        {
            *secret_same = false;
        }
        s.secret = secret;
        let after = self.told(s);
        for (key, left) in &mut s.stolen {
            let told = |all: &[Used]| all.iter().any(|used| used.key == *key);
            if *left && told(&after) {
                s.broken |= 1 << Broken::CondemnedSignsNoMore as u32;
            }
            *left |= told(&before) && !told(&after);
        }
        for told in after {
            let same = |u: &&mut Used| (u.alias, u.name, u.key) == (told.alias, told.name, told.key);
            match s.used.iter_mut().find(same) {
                Some(used) => used.left = told.left,
                None => s.used.push(told),
            }
        }
        s.used.sort_unstable();
        self.forget_stolen(s);
        for alias in self.told_aliases(s) {
            if !aliases.contains(&alias) && s.links[alias].memory > 0 {
                s.break_(Broken::LinkSettled);
            }
        }
    }

    /// New keys: none may bear a serial that was published before. Then all serials are lowered.
    fn renumber(&self, s: &mut State, writes: &mut Writes) {
        let view = self.kernel.view(writes.secret);
        let keys: Vec<_> = view.lanes.iter().flat_map(|ring| ring.keys).flatten().collect();
        let keys: Vec<_> = keys.into_iter().filter(|key| key.tag != crate::keys::BROUGHT).collect();
        let reused = keys.iter().map(|key| key.tag).max().unwrap_or(0);
        s.tag = if reused > s.tag { reused % 6 } else { s.tag };
        let top = keys.iter().map(|key| key.serial).max().unwrap_or(0);
        let by = if keys.is_empty() { 0 } else { top.cast_signed() - TOP.cast_signed() };
        let fresh = s.set.is_some_and(|set| self.kernel.is_new(set)) && !s.unset;
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
        let lower_link = |seen: &mut LinkSeen| {
            if let LinkSeen::Copy(key) = seen {
                *key = super::store::lower(*key, by);
            }
        };
        s.served.iter_mut().flatten().for_each(lower);
        s.caches.iter_mut().flatten().for_each(|(heard, _)| lower(heard));
        s.kept.iter_mut().flat_map(|look| look.txt.iter_mut().flatten()).for_each(lower);
        s.used.iter_mut().for_each(|used| used.key = super::store::lower(used.key, by));
        s.stolen.iter_mut().for_each(|(key, _)| *key = super::store::lower(*key, by));
        s.stolen.retain(|(key, _)| key.serial > TOP - WATCHED);
        s.links.iter_mut().map(|link| &mut link.now).for_each(lower_link);
        s.kept.iter_mut().flat_map(|look| &mut look.links).for_each(lower_link);
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
        if set.is_some_and(|set| self.kernel.publishes(set)) {
            s.unset = false;
        }
        for here in &published {
            if here.len() > 1 {
                s.break_(Broken::OneKeyAtAName);
            }
            for (heard, _) in here {
                let Heard::Key(key) = heard else { continue };
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
        let left = s.set.and_then(|set| self.kernel.release(set, s.clock));
        // A claim made later counts on from the records that are left.
        let published = left.map(|set| self.kernel.published(set).concat()).unwrap_or_default();
        s.published.retain(|key| published.iter().any(|(heard, _)| *heard == Heard::Key(*key)));
        self.put_set(s, left);
    }

    /// What a look found wrong is known from the moment it has been put to use.
    fn notice(&self, s: &mut State, call: &Call) {
        let Some(look) =
            call.look.as_ref().filter(|look| look.at == s.clock && !self.kernel.is_new(call.set))
        else {
            return;
        };
        for i in 0..NAMES {
            if !s.links[i].now.is_ours() && look.links[i] == s.links[i].now {
                s.links[i].memory = s.links[i].memory.max(s.links[i].now.memory());
            }
        }
    }

    /// The properties that are about a state and not about a step.
    fn inspect(&self, s: &mut State) {
        let published = s.set.map(|set| self.kernel.published(set)).unwrap_or_default();
        for used in s.used.clone() {
            for name in self.asked(s, &used) {
                if self.story != Story::Copied || used.alias.is_none() {
                    if s.caches[name].iter().any(|(held, _)| *held != Heard::Key(used.key)) {
                        s.break_(Broken::Verifiable);
                    }
                    if !s.unset && !published[name].iter().any(|(heard, _)| *heard == Heard::Key(used.key)) {
                        s.break_(Broken::PublishedInUse);
                    }
                }
            }
            let copied = used.alias.map(|alias| s.links[usize::from(alias)].now);
            if self.story == Story::Copied && copied.is_some_and(|copy| copy != LinkSeen::Copy(used.key)) {
                s.break_(Broken::Verifiable);
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
            txt[server] = [Heard::Silent; NAMES];
        }
    }
    Look { at: s.clock, links: s.links.map(|link| if tenant { LinkSeen::Unclear } else { link.now }), txt }
}
