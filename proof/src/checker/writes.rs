//! Writes to Secret and record set, and what each of them may break.

use super::judge::facts;
use super::kernel::Writes;
use super::properties::Broken;
use super::world::{Heard, Life, Slow, State, TOP, Used, WATCHED, World};

impl World {
    /// Whether the Secret knows of all that is published.
    pub(super) fn set_is_known(&self, s: &State) -> bool {
        let (Some(secret), Some(set)) = (s.secret, s.set) else { return false };
        let view = self.kernel.view(secret);
        let known: Vec<_> = view.lanes.iter().flat_map(|ring| ring.keys).flatten().collect();
        let published = self.kernel.published(set);
        let mut all = published.iter().flatten();
        self.kernel.publishes(set)
            && all.all(|(heard, _)| matches!(heard, Heard::Key(key) if known.contains(key)))
    }

    /// The Secret's write, which tells signers.
    pub(super) fn write_secret(&self, s: &mut State, writes: &mut Writes) {
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

    pub(super) fn put_secret(&self, s: &mut State, secret: Option<u32>) {
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
            match s.used.iter_mut().find(|used| used.is_same(&told)) {
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

    pub(super) fn put_set(&self, s: &mut State, set: Option<u32>) {
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

    /// The claim is let go. One that is made later counts on, as long as anything is left of the record set.
    pub(super) fn release(&self, s: &mut State) {
        let at_once = s.life == Life::Erasing;
        let left = s.set.and_then(|set| self.kernel.release(set, s.clock, at_once));
        if at_once {
            // That mail under way fails is what was asked for.
            s.used.clear();
        }
        self.put_set(s, left);
    }
}
