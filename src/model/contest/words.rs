//! What is told of a lost contest.

use super::Bid;
use crate::api::{DkimRecordSetSpec, Placed, Reason};
use crate::model::acceptance::Refusal;

/// Who keeps a GUID from a domain.
#[derive(Debug, Clone, Copy)]
pub struct Holder<'a> {
    /// The domain.
    pub domain: &'a str,
    /// Whether it publishes there already.
    pub serves: bool,
}

impl Bid<'_> {
    /// The refusal of a domain whose record set is `ours`, if there is any; `chosen` is whether it chose the GUID.
    #[must_use]
    pub fn lost(&self, chosen: bool, ours: Option<&DkimRecordSetSpec>, to: Holder<'_>) -> Refusal {
        let order = self.0;
        let (guid, initial) = (&order.home.guid, &order.home.initial_domain);
        let wish = match chosen {
            true => format!("spec.guid: {guid}"),
            false => format!("spec.domain: {guid}, the GUID of {},", order.domain),
        };
        let Holder { domain, serves } = to;
        let stands = match serves {
            true => format!("already stands below {initial} for the domain {domain}"),
            false => format!(
                "is wanted below {initial} for the domain {domain} as well, which keeps it from this one"
            ),
        };
        let choose = match chosen {
            true => "choose another GUID",
            false => "choose a GUID in spec.guid",
        };
        let runs = ours.and_then(|ours| ours.placements().find(|place| !place.records.is_empty()));
        let rest = match runs {
            None if chosen => ", or leave spec.guid out".to_owned(),
            None => String::new(),
            Some(there) => format!(
                ", or {}. Until then it moves nowhere and no key of it rotates; the keys stay under the names that they have, and mail goes on verifying",
                self.back(chosen, &there)
            ),
        };
        Refusal { reason: Reason::GuidTaken, message: format!("{wish} {stands}; {choose}{rest}") }
    }

    /// What undoes a move from there.
    fn back(&self, chosen: bool, there: &Placed<'_>) -> String {
        let home = &self.0.home;
        let provider = there.provider != home.provider;
        let guid = there.guid != home.guid.as_str() && (chosen || !provider);
        match (provider, guid) {
            (true, true) => format!("set spec.providerRef to {} and spec.guid back", there.provider),
            (true, false) => format!("set spec.providerRef to {} again", there.provider),
            (false, true) => "set spec.guid back".to_owned(),
            (false, false) => "ask the mail provider, whose initial domain was another one".to_owned(),
        }
    }
}
