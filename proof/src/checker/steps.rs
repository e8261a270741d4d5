//! How the world goes on: each action's effect.

use std::sync::Arc;

use super::properties::Broken;
use super::reconcile::look;
use super::store::LONG_AGO;
use super::view::View;
use super::world::{
    Action, Crash, Life, Link, LinkSeen, Look, STEP_BACK, Sight, Sky, Slow, State, Story, Used, World,
};

impl State {
    pub(super) fn break_(&mut self, property: Broken) {
        self.broken |= 1 << property as u8;
    }
}

impl World {
    /// Makes it happen.
    pub(super) fn happen(&self, s: &mut State, action: Action) {
        match action {
            Action::Tick => self.tick(s),
            Action::Serve(server) => self.serve(s, server),
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
                let held = |u: &Used| {
                    let view = s.secret.map(|secret| self.kernel.view(secret));
                    let held = |view: Arc<View>| {
                        let names = view.needs_former(u).then_some(view.former_held);
                        names.unwrap_or(view.lanes[0].held[name % 2])
                    };
                    view.is_some_and(held)
                };
                let held = s.used.iter().filter(|u| usize::from(u.name) == name && u.lags).all(held);
                let told = self.told(s);
                for used in s.used.iter_mut().filter(|u| usize::from(u.name) == name && u.lags) {
                    (used.lags, used.left) = (false, drain);
                }
                // Where the controller was away for all of the time that it lagged, nobody knows that it did.
                if !held {
                    s.used.retain(|u| usize::from(u.name) != name || told.iter().any(|told| told.is_same(u)));
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
                self.set_link(s, i, ours);
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
            Action::ClockLeap(ahead) => {
                s.faults -= 1;
                s.clock = self.kernel.present(ahead);
            }
            Action::Delete => {
                s.faults -= 1;
                s.life = Life::Leaving;
            }
            Action::Erase => {
                s.faults -= 1;
                s.life = Life::Erasing;
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
            self.servers().for_each(|serve| self.happen(s, serve));
            for action in [Action::Reconcile(Sight::Fresh(Sky::Clear), Crash::Never), Action::Tick] {
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
            let told = current.iter().any(|now| now.is_same(used));
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

    pub(super) fn interval(&self) -> u8 {
        u8::try_from(i64::from(self.kernel.times.interval) / super::store::TICK).expect("small")
    }

    pub(super) fn ticks(&self, seconds: u32) -> u8 {
        u8::try_from(seconds / super::store::TICK as u32).expect("small")
    }
}

/// A request's time a tick later, held where the keyring's note of it is held.
fn older_request(at: i8) -> i8 {
    let long_ago = -i8::try_from(LONG_AGO).expect("small");
    if at - 1 <= -STEP_BACK { long_ago } else { at - 1 }
}
