//! One record set after the other: plan, write down, bring about, look, report.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::Api;
use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Client, Resource, ResourceExt};
use parking_lot::Mutex;
use tokio::sync::OnceCell;

use super::book::{ahead, in_former_objects, is_withdrawn, known, names};
use super::endpoint::{Brought, Endpoints};
use super::memory::{Basis, Memory};
use super::rfc2136::{self, Desk, Zone};
use super::sets::Sets;
use super::sight::{self, Advice};
use super::{FINALIZER, Now};
use crate::api::{
    DkimProvider, DkimRecordSet, DkimRecordSetStatus, LABEL_DOMAIN, PlaceStatus, PublishMethod, PublishState,
    RecordState, Verification,
};
use crate::controller::{Class, Error};
use crate::jitter::jitter;
use crate::model::name::DnsName;
use crate::model::publishing::{Book, Kind, Mark, Place, Plan, has_moved, method, plan, still_beside};
use crate::model::words::whole;

/// Pause before a set at rest is compared with DNS again: what somebody took away comes back.
const RESYNC: Duration = Duration::from_secs(600);
/// Pause before what is published is compared with DNS again after a former place was left.
const AFTERWARDS: Duration = Duration::from_secs(60);
/// The namespace whose uid stands for the cluster.
const CLUSTER: &str = "kube-system";

/// Record sets as they are watched.
type Guarded = DeserializeGuard<DkimRecordSet>;

/// What a publisher works with.
pub struct Settings {
    /// The API server.
    pub client: Client,
    /// The namespace of the record sets.
    pub namespace: String,
    /// All providers: how DNS is asked.
    pub providers: Store<DkimProvider>,
    /// Where time comes from.
    pub now: Now,
}

/// Publishes record sets.
pub struct Publisher {
    settings: Settings,
    memory: Memory,
    desks: Mutex<HashMap<Zone, Desk>>,
    cluster: OnceCell<String>,
}

impl Publisher {
    /// A publisher.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { settings, memory: Memory::default(), desks: Mutex::default(), cluster: OnceCell::new() }
    }

    /// Works on one record set.
    ///
    /// # Errors
    /// [`Error`] where the API server could not be asked. What DNS says is in the set's status.
    pub async fn reconcile(guard: Arc<Guarded>, this: Arc<Self>) -> Result<Action, Error> {
        // What cannot be read stays published as it is; the sweep has said so.
        let Ok(set) = &guard.0 else { return Ok(Action::await_change()) };
        this.work(set).await
    }

    /// What to do after an error.
    #[must_use]
    #[allow(clippy::needless_pass_by_value, reason = "the signature kube asks for")]
    pub fn on_error(guard: Arc<Guarded>, error: &Error, this: Arc<Self>) -> Action {
        let name = guard.meta().name.clone().unwrap_or_default();
        let class = error.class();
        match class {
            Class::Conflict => tracing::debug!(object = name, %error, "publish again"),
            _ => tracing::warn!(object = name, %error, "publishing failed"),
        }
        Action::requeue(this.memory.pause(&name).min(class.pause(5, jitter())))
    }

    async fn work(&self, set: &DkimRecordSet) -> Result<Action, Error> {
        let name = set.name_any();
        let held = set.finalizers().iter().any(|finalizer| finalizer == FINALIZER);
        let deleted = set.metadata.deletion_timestamp.as_ref().map(|at| at.0);
        let now = (self.settings.now)();
        let known = known(set, held);
        let places = match plan(&Book { spec: &set.spec, status: &known, deleted, now }) {
            Plan::Places(places) => places,
            Plan::Embedded | Plan::LetGo => {
                self.memory.forget(&name);
                if set.status.as_ref().is_some_and(|status| *status != DkimRecordSetStatus::default())
                    && deleted.is_none()
                {
                    self.sets().save(set, set.resource_version(), &DkimRecordSetStatus::default()).await?;
                    // The write brings the object back.
                    return Ok(Action::await_change());
                }
                if held {
                    self.sets().let_go(set).await?;
                }
                return Ok(Action::await_change());
            }
        };
        if !held {
            if deleted.is_none() {
                // Where the records are now is written down first: once the set is held, one without a status is a new one.
                let version = match &set.status {
                    Some(_) => set.resource_version(),
                    None => {
                        self.sets().save(set, set.resource_version(), &ahead(set, &known, &places)).await?
                    }
                };
                self.sets().hold(set, version).await?;
            }
            return Ok(Action::await_change());
        }
        let basis = self.basis(set, set.status.as_ref());
        if deleted.is_none()
            && let Some(rest) = self.memory.rest(&name, &basis)
        {
            return Ok(Action::requeue(rest));
        }
        if set.status.as_ref().and_then(|status| status.observed_generation) != set.metadata.generation {
            // Something new is to be published: it is not waited for as long as for what had been awaited before.
            self.memory.renew(&name, set.metadata.generation);
        }
        let ahead = ahead(set, &known, &places);
        let mut version = set.resource_version();
        if set.status.as_ref() != Some(&ahead)
            && names(&ahead) != set.status.as_ref().map(names).unwrap_or_default()
        {
            version = self.sets().save(set, version, &ahead).await?;
        }
        let mut status = DkimRecordSetStatus {
            observed_generation: set.metadata.generation,
            places: Vec::with_capacity(places.len()),
        };
        let mut written = Vec::with_capacity(places.len());
        // Present places come first, so that it is known here what former ones publish beside them.
        let mut beside: BTreeMap<String, DnsName> = BTreeMap::new();
        for place in &places {
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
            status.places.push(PlaceStatus {
                id: place.id.clone(),
                zone: place.zone.clone(),
                cnames: place.kind == Kind::Cnames,
                leaving: place.leaving,
                withdraw_at,
                records,
            });
        }
        self.tidy(set, &places, &written).await;
        self.leave(set, &places, &beside, &mut status).await;
        let withdrawn = deleted.is_some() && is_withdrawn(&places, &status);
        // A place that was left and holds nothing any more is forgotten.
        let over = |place: &Place| place.leaving && place.wanted.is_empty();
        let mut left = places.iter().map(over);
        let before = status.places.len();
        status.places.retain(|place| !(left.next().unwrap_or(false) && place.records.is_empty()));
        let forgotten = status.places.len() < before;
        if set.status.as_ref() != Some(&status) {
            self.sets().save(set, version, &status).await?;
        }
        if withdrawn {
            tracing::info!(domain = name, "its records are withdrawn");
            self.memory.forget(&name);
            self.sets().let_go(set).await?;
            return Ok(Action::await_change());
        }
        let mut rest = self.rest(set, &name, &status);
        if forgotten {
            // Whatever external-dns makes of the end of its object shows soon.
            rest = rest.min(AFTERWARDS);
        }
        self.memory.note(&name, self.basis(set, Some(&status)), rest);
        Ok(Action::requeue(rest))
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
    async fn tidy(&self, set: &DkimRecordSet, places: &[Place], written: &[bool]) {
        let name = set.name_any();
        if self.memory.is_tidy(&name) {
            return;
        }
        let verification = self.verification(set);
        let endpoints = self.endpoints(set, &name, &verification);
        let mut tidy = true;
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

    /// Sets, moves or takes back the time at which former places are left. A place is left the drain after DNS was seen
    /// to answer from the new one: until then resolvers may know the former servers.
    async fn leave(
        &self,
        set: &DkimRecordSet,
        places: &[Place],
        beside: &BTreeMap<String, DnsName>,
        status: &mut DkimRecordSetStatus,
    ) {
        let now = (self.settings.now)();
        let published: Vec<String> = status
            .places
            .iter()
            .filter(|place| !place.leaving && !place.cnames)
            .flat_map(|place| place.records.iter())
            .filter(|record| record.state == PublishState::Published)
            .map(|record| record.name.clone())
            .collect();
        for (former, reported) in places.iter().zip(&mut status.places) {
            if !former.leaving || former.wanted.is_empty() {
                continue;
            }
            let verdict = match in_one_zone(former, beside) {
                Some(name) => Err(still_beside(name)),
                None => self.moved(set, former, places, &published).await,
            };
            match verdict {
                Ok(()) => {
                    let drain = SignedDuration::from_secs(set.spec.drain_seconds.max(0));
                    let at = now.checked_add(drain).unwrap_or(Timestamp::MAX);
                    reported.withdraw_at.get_or_insert_with(|| whole(at));
                }
                Err(words) => {
                    reported.withdraw_at = None;
                    for record in reported.records.iter_mut().filter(|record| record.message.is_empty()) {
                        record.message = format!("kept at the former place: {words}");
                    }
                }
            }
        }
    }

    async fn moved(
        &self,
        set: &DkimRecordSet,
        former: &Place,
        places: &[Place],
        published: &[String],
    ) -> Result<(), String> {
        let verification = self.verification(set);
        for (name, wanted) in &former.wanted {
            if !published.iter().any(|done| done == name.as_str()) {
                return Err(format!("{name} is not published at the new one yet"));
            }
            let present =
                places.iter().find(|p| !p.leaving && p.kind == Kind::Keys && p.wanted.contains_key(name));
            let Some(present) = present else { continue };
            let answers = sight::answers(&verification, name).await;
            has_moved(former, present, name, wanted, &answers)?;
        }
        Ok(())
    }

    fn rest(&self, set: &DkimRecordSet, name: &str, status: &DkimRecordSetStatus) -> Duration {
        let now = (self.settings.now)();
        let waits = status.places.iter().any(|place| {
            let open = place.records.iter().any(|record| record.state != PublishState::Published);
            open || (place.leaving && place.withdraw_at.is_none())
        });
        let resync = RESYNC.mul_f64(0.9 + 0.2 * jitter());
        let mut rest = match waits {
            true => self.memory.pause(name),
            false => {
                self.memory.settle(name);
                resync
            }
        };
        let ends = status.places.iter().filter_map(|place| place.withdraw_at.as_ref());
        let kept =
            set.spec.placements().flat_map(|placed| placed.records).filter_map(|r| r.keep_until.as_ref());
        let kept = kept.filter(|_| set.metadata.deletion_timestamp.is_some());
        for end in ends.chain(kept).filter(|end| end.0 > now) {
            let left = Duration::try_from(end.0.duration_since(now)).unwrap_or(resync);
            rest = rest.min(left + Duration::from_millis(50));
        }
        if set.metadata.deletion_timestamp.is_some() {
            rest = rest.min(Duration::from_secs(5));
        }
        rest
    }

    fn basis(&self, set: &DkimRecordSet, status: Option<&DkimRecordSetStatus>) -> Basis {
        let provider = self.settings.providers.get(&ObjectRef::new(&set.spec.provider));
        Basis {
            uid: set.uid(),
            generation: set.metadata.generation,
            deleted: set.metadata.deletion_timestamp.is_some(),
            status: serde_json::to_string(&status).unwrap_or_default(),
            provider: provider.map(|p| format!("{:?}", p.metadata.generation)),
        }
    }

    fn verification(&self, set: &DkimRecordSet) -> Verification {
        let provider = self.settings.providers.get(&ObjectRef::new(&set.spec.provider));
        provider.map(|provider| provider.spec.verification.clone()).unwrap_or_default()
    }

    fn desk(&self, zone: Zone) -> Desk {
        let Settings { client, namespace, now, .. } = &self.settings;
        let mut desks = self.desks.lock();
        let open = || Desk::open(client.clone(), namespace, zone.clone(), now.clone());
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

    fn sets(&self) -> Sets {
        Sets::new(&self.settings.client, &self.settings.namespace)
    }
}

/// A name that external-dns still publishes for a former place in the zone of a present one, if there is any: it owns what is at that
/// name, and takes it away with the object.
fn in_one_zone<'a>(place: &Place, beside: &'a BTreeMap<String, DnsName>) -> Option<&'a DnsName> {
    let objects = place.leaving && method(&place.zone) == PublishMethod::DnsEndpoint;
    beside.get(&place.id).filter(|_| objects)
}
