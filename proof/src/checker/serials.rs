//! Serials, which would grow for ever.

use super::kernel::Writes;
use super::store;
use super::world::{Heard, LinkSeen, Slow, State, TOP, WATCHED, World};

impl World {
    /// New keys: none may bear a serial that was published before. Then all serials are lowered.
    pub(super) fn renumber(&self, s: &mut State, writes: &mut Writes) {
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
                *key = store::lower(*key, by);
            }
        };
        let lower_link = |seen: &mut LinkSeen| {
            if let LinkSeen::Copy(key) = seen {
                *key = store::lower(*key, by);
            }
        };
        s.served.iter_mut().flatten().for_each(lower);
        s.caches.iter_mut().flatten().for_each(|(heard, _)| lower(heard));
        s.kept.iter_mut().flat_map(|look| look.txt.iter_mut().flatten()).for_each(lower);
        s.used.iter_mut().for_each(|used| used.key = store::lower(used.key, by));
        s.stolen.iter_mut().for_each(|(key, _)| *key = store::lower(*key, by));
        s.stolen.retain(|(key, _)| key.serial > TOP - WATCHED);
        s.links.iter_mut().map(|link| &mut link.now).for_each(lower_link);
        s.kept.iter_mut().flat_map(|look| &mut look.links).for_each(lower_link);
        s.published.iter_mut().for_each(|key| *key = store::lower(*key, by));
        s.published.retain(|key| key.serial > TOP - WATCHED);
    }
}
