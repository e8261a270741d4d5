//! Looking at single names, as publishers do.

use futures::future::join_all;

use super::{Looker, heard};
use crate::lookup::wire::Trip;
use crate::model::name::DnsName;
use crate::model::sighting::{Outcome, ServerAnswer, SlotQuestion, SlotSighting};

impl Looker {
    /// The TXTs at names of ours, as the servers of their zones have them; as resolvers do where none of those is heard.
    pub async fn texts(&self, names: &[DnsName]) -> Vec<Vec<ServerAnswer>> {
        join_all(names.iter().map(|name| async move {
            let ration = Trip::ration();
            let trip = Trip::new(&ration, false);
            let wanted = SlotQuestion { alias: name.clone(), target: name.clone() };
            let mut seen = SlotSighting::default();
            if self.authoritative {
                seen.target_txt = self.provider_side(&wanted, &trip).await;
            }
            if heard(&seen.target_txt).is_empty() {
                self.at_target_by_resolvers(&wanted, &mut seen, &trip).await;
            }
            seen.target_txt
        }))
        .await
    }

    /// What is at names that are to be CNAMEs, as the servers of their zones have it; as resolvers do where none of those is
    /// heard: the CNAME, or the TXT that is there in its place.
    pub async fn links(&self, names: &[DnsName]) -> Vec<Vec<ServerAnswer>> {
        join_all(names.iter().map(|name| async move {
            let ration = Trip::ration();
            let trip = Trip::new(&ration, false);
            let wanted = SlotQuestion { alias: name.clone(), target: name.clone() };
            let mut seen = SlotSighting::default();
            if self.authoritative {
                (_, seen.alias, seen.alias_txt) = self.tenant_side(&wanted, name, &trip).await;
            }
            if heard(&seen.alias).is_empty() {
                self.through_alias(&wanted, &mut seen, &trip).await;
            }
            let SlotSighting { mut alias, alias_txt, .. } = seen;
            for link in alias.iter_mut().filter(|link| matches!(link.outcome, Outcome::NoData { .. })) {
                if let Some(text) = alias_txt.iter().find(|text| text.address == link.address) {
                    link.outcome = text.outcome.clone();
                }
            }
            alias
        }))
        .await
    }
}
