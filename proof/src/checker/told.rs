//! What signers are told, and what must verify because they were.

use super::properties::Broken;
use super::world::{Heard, LinkSeen, State, Story, Used, World};

impl World {
    /// What signers are told, as what must verify.
    pub(super) fn told(&self, s: &State) -> Vec<Used> {
        let Some(secret) = s.secret else { return Vec::new() };
        let view = self.kernel.view(secret);
        let left = self.ticks(self.kernel.times.drain + self.kernel.times.signer_lag);
        let told = view.lanes.iter().enumerate().filter_map(|(lane, ring)| {
            let slot = ring.active?;
            let alias = u8::try_from(2 * lane + slot).expect("few");
            let name = alias + if view.away { 2 } else { 0 };
            let by_alias = ring.as_domain && (self.story.moves() || self.story == Story::Copied);
            let (alias, name) = if by_alias { (Some(alias), alias) } else { (None, name) };
            Some(Used { alias, name, key: ring.keys[slot]?, left, lags: false })
        });
        told.collect()
    }

    /// The aliases by which signers are told to sign as the domain.
    pub(super) fn told_aliases(&self, s: &State) -> Vec<usize> {
        let Some(secret) = s.secret else { return Vec::new() };
        let view = self.kernel.view(secret);
        let lanes = view.lanes.iter().enumerate().filter(|(_, ring)| ring.as_domain);
        lanes.filter_map(|(lane, ring)| Some(2 * lane + ring.active?)).collect()
    }

    /// A signer may be late until the bound for all of them is over.
    pub(super) fn may_lag(&self, s: &State, used: &Used) -> bool {
        let told = self.told(s).iter().any(|told| told.is_same(used));
        !told && !used.lags && used.left > self.ticks(self.kernel.times.drain)
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

    /// The properties that are about a state and not about a step.
    pub(super) fn inspect(&self, s: &mut State) {
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
