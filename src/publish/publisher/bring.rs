//! Brings about what shall be at the places of a record set, each in its own way.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt;
use kube::api::Api;

use super::leave::in_one_zone;
use super::{Publisher, Settings};
use crate::api::{
    DkimRecordSet, DkimRecordSetStatus, LABEL_DOMAIN, PublishMethod, PublishState, RecordState, Verification,
};
use crate::controller::Error;
use crate::model::name::DnsName;
use crate::model::publishing::{Mark, Place};
use crate::publish::book::{in_former_objects, reported};
use crate::publish::endpoint::{Brought, Endpoints};
use crate::publish::rfc2136::{self, Desk, Zone};
use crate::publish::sight::{self, Advice};

/// The namespace whose uid stands for the cluster.
const CLUSTER: &str = "kube-system";

/// What was brought about at all places of a set.
pub(super) struct Round {
    /// How it stands with each place.
    pub(super) status: DkimRecordSetStatus,
    /// Whether the object of each place is as it shall be.
    pub(super) written: Vec<bool>,
    /// See [`Brought::beside`].
    pub(super) beside: BTreeMap<String, DnsName>,
}

impl Publisher {
    /// Brings about what shall be at all places; `ahead` is what was written down.
    pub(super) async fn bring_all(
        &self,
        set: &DkimRecordSet,
        places: &[Place],
        ahead: &DkimRecordSetStatus,
    ) -> Result<Round, Error> {
        let mut all = Vec::with_capacity(places.len());
        let mut written = Vec::with_capacity(places.len());
        // Present places come first, so that it is known here what former ones publish beside them.
        let mut beside: BTreeMap<String, DnsName> = BTreeMap::new();
        for place in places {
            let former = ahead.places.iter().find(|known| known.id == place.id);
            let mut withdraw_at = former.and_then(|former| former.withdraw_at.clone());
            let records = if place.wanted.is_empty() && in_one_zone(place, &beside).is_some() {
                // Its time seemed over, and it is not: the object stays, and is as it should be from the next time on.
                withdraw_at = None;
                written.push(false);
                former.map(|former| former.records.clone()).unwrap_or_default()
            } else {
                let brought = self.bring_about(set, place).await?;
                written.push(brought.written);
                beside.extend(brought.beside);
                brought.records
            };
            all.push(reported(place, withdraw_at, records));
        }
        let status = DkimRecordSetStatus { observed_generation: set.metadata.generation, places: all };
        Ok(Round { status, written, beside })
    }

    /// Brings about what shall be at one place.
    async fn bring_about(&self, set: &DkimRecordSet, place: &Place) -> Result<Brought, Error> {
        let plain = |records| Brought::new(records, true);
        let quiet = |state| {
            let all = place.wanted.keys().map(DnsName::to_string);
            all.map(|name| RecordState { name, state, message: String::new() }).collect::<Vec<_>>()
        };
        let Some(outlet) = &place.zone.outlet else { return Ok(plain(quiet(PublishState::Published))) };
        let verification = self.verification(set);
        let incomplete = |field: &str| {
            let message = format!("{field} of the DkimProvider is missing");
            let mut all = quiet(PublishState::Failed);
            all.iter_mut().for_each(|record| record.message.clone_from(&message));
            plain(all)
        };
        match outlet.method {
            PublishMethod::Embedded => Ok(plain(quiet(PublishState::Published))),
            PublishMethod::Rfc2136 => {
                let Some(settings) = &outlet.rfc2136 else {
                    return Ok(incomplete(place.kind.server_field()));
                };
                let Ok(apex) = DnsName::new(&place.zone.apex) else {
                    return Ok(incomplete(place.kind.zone_field()));
                };
                let mark = self.mark(place).await?;
                let desk = self.desk(Zone::new(apex, place.kind, settings));
                Ok(rfc2136::bring_about(&desk, place, settings, &mark).await)
            }
            PublishMethod::DnsEndpoint => {
                let settings = outlet.dns_endpoint.clone().unwrap_or_default();
                let mark = self.mark(place).await?;
                let name = set.name_any();
                Ok(self.endpoints(set, &name, &verification).bring_about(place, &settings, &mark).await)
            }
            PublishMethod::Manual => {
                let looks = place.wanted.iter().map(|(name, wanted)| {
                    let verification = &verification;
                    async move {
                        let awaited = format!(
                            "publish it: {name}. {} IN TXT, with the value {}",
                            wanted.ttl, wanted.text
                        );
                        let advice = Advice { missing: &awaited, another: &awaited, surplus: "" };
                        let answers = sight::answers(verification, name).await;
                        sight::judge(name, wanted, &answers, None, &advice)
                    }
                });
                Ok(plain(futures::future::join_all(looks).await))
            }
        }
    }

    fn endpoints<'a>(
        &'a self,
        set: &'a DkimRecordSet,
        domain: &'a str,
        verification: &'a Verification,
    ) -> Endpoints<'a> {
        let Settings { client, namespace, .. } = &self.settings;
        let label = set.labels().get(LABEL_DOMAIN).map(String::as_str);
        Endpoints { client, home: namespace, domain, label, verification }
    }

    /// Deletes the DNSEndpoints that a set had before each place had one of its own: once, and each as soon as the places whose
    /// records it held have theirs. It says what was right once, beside objects that follow the keys.
    pub(super) async fn tidy(&self, set: &DkimRecordSet, places: &[Place], written: &[bool]) {
        let name = set.name_any();
        if self.memory.is_tidy(&name) {
            return;
        }
        let verification = self.verification(set);
        let endpoints = self.endpoints(set, &name, &verification);
        // Before there is a place nothing says where such an object would be.
        let mut tidy = !places.is_empty();
        for (place, done) in in_former_objects(places, written, &self.settings.namespace) {
            let settings = place.zone.outlet.as_ref().and_then(|outlet| outlet.dns_endpoint.clone());
            if !done {
                tidy = false;
            } else if let Err((_, words)) =
                endpoints.remove_former(place, &settings.unwrap_or_default()).await
            {
                tracing::debug!(domain = name, words, "an old DNSEndpoint is left");
                tidy = false;
            }
        }
        if tidy {
            self.memory.note_tidy(&name);
        }
    }

    fn desk(&self, zone: Zone) -> Desk {
        let Settings { client, namespace, clock, .. } = &self.settings;
        let mut desks = self.desks.lock();
        let open = || Desk::open(client.clone(), namespace, zone.clone(), clock.clone());
        desks.entry(zone.clone()).or_insert_with(open).clone()
    }

    async fn mark(&self, place: &Place) -> Result<Mark, Error> {
        let chosen = place.zone.outlet.as_ref().and_then(|outlet| outlet.owner_id.clone());
        let owner = match chosen {
            Some(owner) => owner,
            None => self.cluster.get_or_try_init(|| self.cluster_id()).await?.clone(),
        };
        Ok(Mark { owner, place: place.id.clone() })
    }

    /// The cluster's own id: the uid of a namespace that every cluster has, and keeps.
    async fn cluster_id(&self) -> Result<String, Error> {
        let api: Api<Namespace> = Api::all(self.settings.client.clone());
        let found =
            api.get_metadata(CLUSTER).await.map_err(Error::api("reading the namespace kube-system"))?;
        Ok(found.metadata.uid.unwrap_or_default())
    }
}
