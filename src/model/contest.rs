//! The contest for a GUID: of several domains that want one label below one initial domain, which publishes under it.
//!
//! A record set claims a GUID by naming it, before anything is published there. Who has claimed it looks at all who had done so
//! before, at least, and publishes only when nobody else does, by a write over that very claim: of any two, the one that claims
//! last sees the other. Who ranks behind takes its claim back, so that the first is alone soon.

mod words;

use jiff::Timestamp;

use super::acceptance::Order;
use crate::api::{DkimRecordSetSpec, FormerPlacement, Placed};

pub use words::Holder;

/// What a domain wants to publish under.
#[derive(Debug, Clone, Copy)]
pub struct Bid<'a>(pub &'a Order);

/// A record set in the contest.
#[derive(Debug, Clone, Copy)]
pub struct Contender<'a> {
    /// The object's name: the domain.
    pub name: &'a str,
    /// What is to be published for it.
    pub spec: &'a DkimRecordSetSpec,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// Whether its GUID was chosen, not derived from the domain.
    pub chosen: bool,
}

/// How a contender stands among the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Nobody else is there: it may publish.
    Alone,
    /// It comes first, and others have not taken their claims back yet.
    First {
        /// One of them.
        before: String,
    },
    /// Another one comes first.
    Behind {
        /// Which.
        of: String,
        /// Whether that one publishes there already.
        serves: bool,
    },
}

/// Who goes first: no two contenders are of one rank.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank<'a> {
    stage: Stage,
    created: Option<Timestamp>,
    /// A GUID that was derived goes before one that was chosen: whoever did not choose did not look for others.
    chosen: bool,
    name: &'a str,
}

/// How far a contender has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// It publishes under the GUID.
    Serves,
    /// It publishes elsewhere, and would move.
    Moves,
    /// It publishes nothing yet.
    Begins,
}

impl Bid<'_> {
    /// Whether a set claims the GUID for its present place.
    #[must_use]
    pub fn is_claimed_by(&self, spec: &DkimRecordSetSpec) -> bool {
        spec.placements().next().is_some_and(|present| self.is_at(&present))
    }

    /// Whether a set publishes at the names already, be they its present ones: nobody comes before it any more.
    #[must_use]
    pub fn is_served_by(&self, spec: &DkimRecordSetSpec) -> bool {
        spec.placements().any(|place| self.is_at(&place) && self.has_names(&place))
    }

    /// Whether the set of another domain publishes under the names, or is about to. One that was let go begins nothing.
    #[must_use]
    pub fn is_contested_by(&self, name: &str, spec: &DkimRecordSetSpec) -> bool {
        let begins = |place: &Placed<'_>| place.records.is_empty() && spec.claim_ref.is_some();
        // Names say all, whatever the place is called.
        let meets = |place: &Placed<'_>| self.has_names(place) || (self.is_at(place) && begins(place));
        name != self.0.domain.as_str() && spec.placements().any(|place| meets(&place))
    }

    /// How the domain's own set stands among all; one that has not claimed the GUID is behind anybody.
    #[must_use]
    pub fn standing<'a>(
        &self,
        ours: Option<&Contender<'_>>,
        others: impl IntoIterator<Item = Contender<'a>>,
    ) -> Standing {
        let others = others.into_iter().filter(|other| self.is_contested_by(other.name, other.spec));
        match others.min_by(|a, b| self.rank(a).cmp(&self.rank(b))) {
            None => Standing::Alone,
            Some(first) if ours.is_none_or(|ours| self.is_before(&first, ours)) => {
                Standing::Behind { of: first.name.to_owned(), serves: self.is_served_by(first.spec) }
            }
            Some(next) => Standing::First { before: next.name.to_owned() },
        }
    }

    /// Whether one contender goes before another.
    fn is_before(&self, one: &Contender<'_>, other: &Contender<'_>) -> bool {
        self.rank(one) < self.rank(other)
    }

    /// The claim of a set that has been somewhere else: what it publishes there goes on.
    #[must_use]
    pub fn claim(&self, spec: &DkimRecordSetSpec) -> DkimRecordSetSpec {
        let home = &self.0.home;
        let DkimRecordSetSpec { provider, guid, initial_domain, zone, records, mut former, .. } =
            spec.clone();
        if !records.is_empty() {
            former.insert(0, FormerPlacement { provider, guid, initial_domain, zone, records });
        }
        DkimRecordSetSpec {
            provider: home.provider.clone(),
            guid: home.guid.to_string(),
            initial_domain: Some(home.initial_domain.to_string()),
            zone: home.zone.clone(),
            records: Vec::new(),
            former,
            ..spec.clone()
        }
    }

    fn rank<'a>(&self, contender: &Contender<'a>) -> Rank<'a> {
        let Contender { name, spec, created, chosen } = *contender;
        let stage = match () {
            () if self.is_served_by(spec) => Stage::Serves,
            () if spec.publishes() => Stage::Moves,
            () => Stage::Begins,
        };
        Rank { stage, created, chosen, name }
    }

    /// As [`Home::is_at`](super::home::Home::is_at): organisations may share a zone, and do not share names.
    fn is_at(&self, place: &Placed<'_>) -> bool {
        let home = &self.0.home;
        let same = match place.initial_domain {
            Some(initial) => initial == home.initial_domain.as_str(),
            None => place.zone.apex == home.zone.apex,
        };
        place.guid == home.guid.as_str() && same
    }

    fn has_names(&self, place: &Placed<'_>) -> bool {
        let mut wanted = self.0.lanes.iter().flat_map(|(_, lane)| lane.targets.0.iter());
        wanted.any(|name| place.records.iter().any(|record| record.name == name.as_str()))
    }
}

/// What a set is without a claim under which nothing is published yet, where it publishes elsewhere.
#[must_use]
pub fn unclaimed(spec: &DkimRecordSetSpec) -> Option<DkimRecordSetSpec> {
    if !spec.records.is_empty() || spec.former.is_empty() {
        return None;
    }
    let mut former = spec.former.clone();
    let FormerPlacement { provider, guid, initial_domain, zone, records } = former.remove(0);
    Some(DkimRecordSetSpec { provider, guid, initial_domain, zone, records, former, ..spec.clone() })
}

#[cfg(test)]
mod tests;
