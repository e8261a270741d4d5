//! One record set after the other: plan, write down, bring about, look, report.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Client, Resource, ResourceExt};
use parking_lot::Mutex;
use tokio::sync::OnceCell;

use super::endpoint::Endpoints;
use super::memory::{Basis, Memory};
use super::rfc2136::{self, Desk, Zone};
use super::{FINALIZER, Now, sight};
use crate::api::{
    DkimProvider, DkimRecordSet, DkimRecordSetStatus, PlaceStatus, PublishMethod, PublishState, RecordState,
    Verification, ZoneSpec,
};
use crate::controller::{Class, Error};
use crate::model::name::DnsName;
use crate::model::publishing::{Book, Kind, Mark, Place, Plan, has_moved, method, plan};
use crate::model::words::whole;

/// The field manager of the status.
const STATUS_MANAGER: &str = "dkim-operator-publish";
/// Pause before a set at rest is compared with DNS again: what somebody took away comes back.
const RESYNC: Duration = Duration::from_secs(600);
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
        Action::requeue(this.memory.pause(&name).min(class.pause(5, 0.5)))
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
                    self.save(set, set.resource_version(), &DkimRecordSetStatus::default()).await?;
                    // The write brings the object back.
                    return Ok(Action::await_change());
                }
                if held {
                    self.let_go(set).await?;
                }
                return Ok(Action::await_change());
            }
        };
        if !held {
            if deleted.is_none() {
                // Where the records are now is written down first: once the set is held, one without a status is a new one.
                let version = match &set.status {
                    Some(_) => set.resource_version(),
                    None => self.save(set, set.resource_version(), &ahead(set, &known, &places)).await?,
                };
                self.hold(set, version).await?;
            }
            return Ok(Action::await_change());
        }
        let basis = self.basis(set, set.status.as_ref());
        if deleted.is_none()
            && let Some(rest) = self.memory.rest(&name, &basis)
        {
            return Ok(Action::requeue(rest));
        }
        let ahead = ahead(set, &known, &places);
        let mut version = set.resource_version();
        if set.status.as_ref() != Some(&ahead)
            && names(&ahead) != set.status.as_ref().map(names).unwrap_or_default()
        {
            version = self.save(set, version, &ahead).await?;
        }
        let mut status = DkimRecordSetStatus {
            observed_generation: set.metadata.generation,
            places: Vec::with_capacity(places.len()),
        };
        for place in &places {
            let records = self.bring_about(set, place).await?;
            let former = ahead.places.iter().find(|known| known.id == place.id);
            status.places.push(PlaceStatus {
                id: place.id.clone(),
                zone: place.zone.clone(),
                cnames: place.kind == Kind::Cnames,
                leaving: place.leaving,
                withdraw_at: former.and_then(|former| former.withdraw_at.clone()),
                records,
            });
        }
        self.leave(set, &places, &mut status).await;
        if set.status.as_ref() != Some(&status) {
            self.save(set, version, &status).await?;
        }
        if deleted.is_some() && is_withdrawn(&places, &status) {
            tracing::info!(domain = name, "its records are withdrawn");
            self.memory.forget(&name);
            self.let_go(set).await?;
            return Ok(Action::await_change());
        }
        let rest = self.rest(set, &name, &status);
        self.memory.note(&name, self.basis(set, Some(&status)), rest);
        Ok(Action::requeue(rest))
    }

    /// Brings about what shall be at one place.
    async fn bring_about(&self, set: &DkimRecordSet, place: &Place) -> Result<Vec<RecordState>, Error> {
        let quiet = |state| {
            let all = place.wanted.keys().map(DnsName::to_string);
            all.map(|name| RecordState { name, state, message: String::new() }).collect::<Vec<_>>()
        };
        let Some(outlet) = &place.zone.outlet else { return Ok(quiet(PublishState::Published)) };
        let verification = self.verification(set);
        let incomplete = |field: &str| {
            let message = format!("{field} of the DkimProvider is missing");
            let mut all = quiet(PublishState::Failed);
            all.iter_mut().for_each(|record| record.message.clone_from(&message));
            all
        };
        match outlet.method {
            PublishMethod::Embedded => Ok(quiet(PublishState::Published)),
            PublishMethod::Rfc2136 => {
                let Some(settings) = &outlet.rfc2136 else { return Ok(incomplete(place.kind.server_field())) };
                let Ok(apex) = DnsName::new(&place.zone.apex) else { return Ok(incomplete(place.kind.zone_field())) };
                let mark = self.mark(place).await?;
                let desk = self.desk(Zone::new(apex, place.kind, settings));
                Ok(rfc2136::bring_about(&desk, place, settings, &mark).await)
            }
            PublishMethod::DnsEndpoint => {
                let settings = outlet.dns_endpoint.clone().unwrap_or_default();
                let mark = self.mark(place).await?;
                let Settings { client, namespace, .. } = &self.settings;
                let name = match place.kind {
                    Kind::Keys => set.name_any(),
                    Kind::Cnames => super::endpoint::cnames_object(&set.name_any()),
                };
                let endpoints = Endpoints { client, namespace, name: &name, verification: &verification };
                Ok(endpoints.bring_about(place, &settings, &mark).await)
            }
            PublishMethod::Manual => {
                let looks = place.wanted.iter().map(|(name, wanted)| {
                    let verification = &verification;
                    async move {
                        let awaited = format!(
                            "publish it: {name}. {} IN TXT, with the value {}",
                            wanted.ttl, wanted.text
                        );
                        let answers = sight::answers(verification, name).await;
                        sight::judge(name, wanted, &answers, None, &awaited)
                    }
                });
                Ok(futures::future::join_all(looks).await)
            }
        }
    }

    /// Sets, moves or takes back the time at which former places are left. A place is left the drain after DNS was seen
    /// to answer from the new one: until then resolvers may know the former servers.
    async fn leave(&self, set: &DkimRecordSet, places: &[Place], status: &mut DkimRecordSetStatus) {
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
            let verdict = self.moved(set, former, places, &published).await;
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
        let resync =
            RESYNC.mul_f64(0.9 + 0.2 * f64::from(getrandom::u32().unwrap_or_default()) / f64::from(u32::MAX));
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

    fn sets(&self) -> Api<DkimRecordSet> {
        Api::namespaced(self.settings.client.clone(), &self.settings.namespace)
    }

    /// Writes the status over the version that was read: somebody else's news in it must not be lost. Returns the
    /// version that was written.
    async fn save(
        &self,
        set: &DkimRecordSet,
        version: Option<String>,
        status: &DkimRecordSetStatus,
    ) -> Result<Option<String>, Error> {
        let body = serde_json::json!({
            "apiVersion": DkimRecordSet::api_version(&()),
            "kind": DkimRecordSet::kind(&()),
            "metadata": { "name": set.name_any(), "uid": set.metadata.uid, "resourceVersion": version },
            "status": status,
        });
        let params = PatchParams::apply(STATUS_MANAGER).force();
        match self.sets().patch_status(&set.name_any(), &params, &Patch::Apply(&body)).await {
            Ok(written) => Ok(written.metadata.resource_version),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(version),
            Err(error) => Err(Error::api("writing the status of a record set")(error)),
        }
    }

    /// Puts our finalizer on, if nobody has written since `version`.
    async fn hold(&self, set: &DkimRecordSet, version: Option<String>) -> Result<(), Error> {
        let mut wanted = set.clone();
        wanted.metadata.resource_version = version;
        wanted.finalizers_mut().push(FINALIZER.to_owned());
        self.replace(&wanted).await
    }

    /// Takes our finalizer off, whatever the status has become meanwhile, but not if the spec is a new one.
    async fn let_go(&self, set: &DkimRecordSet) -> Result<(), Error> {
        let found = self.sets().get_opt(&set.name_any()).await.map_err(Error::api("reading a record set"))?;
        let Some(mut wanted) = found.filter(|found| found.metadata.uid == set.metadata.uid) else {
            return Ok(());
        };
        if wanted.metadata.generation != set.metadata.generation {
            return Err(Error::Conflict("letting go of a record set"));
        }
        wanted.finalizers_mut().retain(|finalizer| finalizer != FINALIZER);
        self.replace(&wanted).await
    }

    async fn replace(&self, wanted: &DkimRecordSet) -> Result<(), Error> {
        let params = PostParams { field_manager: Some(STATUS_MANAGER.into()), ..PostParams::default() };
        match self.sets().replace(&wanted.name_any(), &params, wanted).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(Error::api("writing the finalizer of a record set")(error)),
        }
    }
}

/// What is known of where records are. Of a set that is new to publishers and was not made for them, the embedded server
/// has the records.
fn known(set: &DkimRecordSet, held: bool) -> DkimRecordSetStatus {
    if let Some(status) = &set.status {
        return status.clone();
    }
    if held {
        return DkimRecordSetStatus::default();
    }
    let mut places: Vec<PlaceStatus> = Vec::new();
    for placed in
        set.spec.placements().filter(|placed| placed.zone.outlet.is_some() && !placed.records.is_empty())
    {
        let zone = ZoneSpec { outlet: None, ..placed.zone.clone() };
        let id = crate::model::publishing::place_id(&zone);
        if places.iter().all(|place| place.id != id) {
            let records = Vec::new();
            places.push(PlaceStatus { id, zone, cnames: false, leaving: true, withdraw_at: None, records });
        }
    }
    DkimRecordSetStatus { observed_generation: None, places }
}

/// The status that is written before anything is done: every name that may get a record is in it.
fn ahead(set: &DkimRecordSet, known: &DkimRecordSetStatus, places: &[Place]) -> DkimRecordSetStatus {
    let place = |place: &Place| {
        let before = known.places.iter().find(|known| known.id == place.id);
        let mut records = before.map(|before| before.records.clone()).unwrap_or_default();
        for name in place.wanted.keys() {
            if !records.iter().any(|record| record.name == name.as_str()) {
                records.push(RecordState {
                    name: name.to_string(),
                    state: PublishState::Pending,
                    message: String::new(),
                });
            }
        }
        let withdraw_at = before.filter(|_| place.leaving).and_then(|before| before.withdraw_at.clone());
        PlaceStatus {
            id: place.id.clone(),
            zone: place.zone.clone(),
            cnames: place.kind == Kind::Cnames,
            leaving: place.leaving,
            withdraw_at,
            records,
        }
    };
    DkimRecordSetStatus {
        observed_generation: set.metadata.generation,
        places: places.iter().map(place).collect(),
    }
}

/// Places and names of a status.
fn names(status: &DkimRecordSetStatus) -> Vec<(String, bool, Vec<String>)> {
    let of = |place: &PlaceStatus| {
        let names = place.records.iter().map(|record| record.name.clone()).collect();
        (place.id.clone(), place.leaving, names)
    };
    status.places.iter().map(of).collect()
}

/// Whether nothing of a deleted set is left anywhere that we could take away.
fn is_withdrawn(places: &[Place], status: &DkimRecordSetStatus) -> bool {
    places.iter().zip(&status.places).all(|(place, reported)| match method(&place.zone) {
        PublishMethod::Embedded | PublishMethod::Manual => place.wanted.is_empty(),
        PublishMethod::Rfc2136 | PublishMethod::DnsEndpoint => {
            place.wanted.is_empty() && reported.records.is_empty()
        }
    })
}
