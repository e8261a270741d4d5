//! What the tenant does about the CNAMEs.

use super::world::{Action, LinkSeen, NAMES, State, Story, World};

impl World {
    /// The tenant puts what belongs there.
    pub(super) fn set_link(&self, s: &mut State, alias: usize, ours: LinkSeen) {
        let lane = s.secret.and_then(|secret| self.kernel.view(secret).lanes.get(alias / 2).cloned());
        let unseen = lane.is_none_or(|lane| lane.unseen[alias % 2]);
        let ttl = self.ticks(self.kernel.times.cname_ttl);
        let link = &mut s.links[alias];
        match (link.now, ours) {
            (LinkSeen::Copy(_), LinkSeen::Copy(_)) => link.memory = ttl,
            (LinkSeen::Right, LinkSeen::Next) | (LinkSeen::Next, LinkSeen::Right) => {
                link.other = ttl;
            }
            // Nobody has looked: what was there before is remembered for as long as what is there now.
            _ if unseen => link.memory = ttl,
            _ => {}
        }
        link.now = ours;
    }

    /// What the tenant is shown to put at an alias.
    pub(super) fn shown(&self, s: &State, alias: usize) -> Option<LinkSeen> {
        let lane = alias / 2;
        if lane == 1 && self.story != Story::Doubled {
            return None;
        }
        let view = s.secret.map(|secret| self.kernel.view(secret));
        if s.spec.copies {
            let view = view?;
            return view.lanes.get(lane)?.keys[alias % 2].map(LinkSeen::Copy);
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
}
