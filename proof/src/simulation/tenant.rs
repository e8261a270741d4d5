//! The tenant, who keeps the CNAMEs.

use dkim_operator::model::lanes::LaneId;
use dkim_operator::model::selector::SlotId;
use rand::RngExt;

use super::calendar::Event;
use super::domain::Life;
use super::history::{ALIASES, Alias};
use super::{DAY, Seconds};

/// Seconds for which resolvers remember that a name of the tenant's zone is not there.
pub const NEGATIVE_TTL: u32 = 900;
/// TTL of the tenant's CNAMEs.
pub const CNAME_TTL: u32 = 3600;

/// What the tenant has in place of a CNAME by mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outage {
    /// Nothing.
    Missing,
    /// Another.
    Wrong,
}

/// A CNAME as the tenant keeps it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Kept {
    /// What was put there as it was shown.
    pub leads: Option<usize>,
    /// What is wrong.
    pub outage: Option<Outage>,
    /// The tenant is about to put what is shown.
    pub follows: bool,
}

impl Life {
    /// The name that status shows as the target of a CNAME.
    pub(super) fn shown(&mut self, alias: usize) -> Option<usize> {
        let vault = &self.secret.as_ref()?.vault;
        let ring = vault.rings.get(LaneId::ALL[alias / 2])?;
        let next = vault.moving.as_ref().filter(|moving| moving.announced.is_some());
        let home = next.map_or(&vault.home, |moving| &moving.to);
        let target = home.target(&ring.slots[SlotId::ALL[alias % 2]].selector).ok()?;
        Some(self.history.name(target.as_str()))
    }

    /// The tenant sees what is shown, and acts in its own time.
    pub(super) fn read_status(&mut self, now: Seconds) {
        for alias in 0..ALIASES {
            let kept = self.kept[alias];
            let shown = self.shown(alias);
            if kept.follows || shown.is_none() || kept.leads == shown {
                continue;
            }
            let first = kept.leads.is_none();
            let when = if first { self.rng.random_range(0..10 * DAY) } else { self.pause() };
            self.kept[alias].follows = true;
            self.at(now + when, Event::Follow(alias));
        }
    }

    pub(super) fn set_alias(&mut self, now: Seconds, alias: usize) {
        let Kept { leads, outage, .. } = self.kept[alias];
        let missing = outage == Some(Outage::Missing) || (leads.is_none() && outage.is_none());
        let ttl = Seconds::from(if missing { NEGATIVE_TTL } else { CNAME_TTL });
        let leads = leads.filter(|_| outage.is_none());
        let last = self.history.aliases[alias].last();
        if (last.leads, last.ttl) == (leads, ttl) {
            return;
        }
        let number = self.history.noticed[alias].len();
        self.history.noticed[alias].push(None);
        self.history.aliases[alias].set(now, Alias { leads, ttl, number });
    }
}
