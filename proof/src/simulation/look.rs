//! What the controller sees of DNS at a moment.

use dkim_operator::model::lanes::LaneId;
use dkim_operator::model::name::DnsName;
use dkim_operator::model::selector::PerSlot;
use dkim_operator::model::sighting::Observation;
use jiff::Timestamp;

use super::Seconds;
use super::domain::{Life, moment};
use super::history::{ALIASES, History};
use super::tenant::{CNAME_TTL, Kept, NEGATIVE_TTL, Outage};
use crate::sight::{self, AliasAnswer, TextAnswer};

/// A look at everything.
pub struct Look {
    /// When.
    pub at: Timestamp,
    /// The tenant's CNAMEs; none where the tenant's servers are silent.
    aliases: Option<[Kept; ALIASES]>,
    /// What each of our servers says of each name, by number.
    texts: [Vec<TextAnswer>; 2],
}

impl Life {
    /// Looks.
    pub(super) fn look(&self, now: Seconds) -> Look {
        let texts = [0, 1].map(|server: usize| {
            let names = self.history.names.iter();
            names
                .map(|name| if self.silent[server] { TextAnswer::Silent } else { name.served[server].last() })
                .collect()
        });
        Look { at: moment(now), aliases: (!self.tenant_silent).then_some(self.kept), texts }
    }
}

impl Look {
    /// What it tells of one pair of names and the CNAMEs that should lead there; nothing where these names were not known yet.
    pub fn at_names(
        &self,
        lane: LaneId,
        targets: &PerSlot<DnsName>,
        history: &History,
    ) -> Option<Observation> {
        let number = |target: &DnsName| {
            let known = history.names.iter().position(|name| name.text == target.as_str());
            known.filter(|number| *number < self.texts[0].len())
        };
        let numbers = [number(&targets.0[0])?, number(&targets.0[1])?];
        let aliases = [0, 1].map(|slot: usize| {
            let Some(kept) = self.aliases.map(|all| all[2 * lane as usize + slot]) else {
                return AliasAnswer::Failed;
            };
            let (ttl, negative_ttl) = (CNAME_TTL, NEGATIVE_TTL);
            match (kept.outage, kept.leads) {
                (Some(Outage::Missing), _) | (None, None) => AliasAnswer::Missing { negative_ttl },
                (None, Some(leads)) if leads == numbers[slot] => AliasAnswer::Right { ttl, negative_ttl },
                _ => AliasAnswer::Wrong { ttl, negative_ttl },
            }
        });
        let texts = self.texts.each_ref().map(|server| numbers.map(|number| server[number]));
        Some(sight::observation(self.at, targets, aliases, texts, 1))
    }
}
