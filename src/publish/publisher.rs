//! One record set after the other: plan, write down, bring about, look, report.

mod bring;
mod leave;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Client, Resource, ResourceExt};
use parking_lot::Mutex;
use tokio::sync::OnceCell;

use super::FINALIZER;
use super::book::{ahead, forget, is_withdrawn, known, names};
use super::memory::{Basis, Memory};
use super::rfc2136::{Desk, Zone};
use super::sets::Sets;
use crate::api::{DkimProvider, DkimRecordSet, DkimRecordSetStatus, PublishState, Verification};
use crate::controller::{Class, Clock, Error};
use crate::jitter::jitter;
use crate::model::publishing::{Book, Plan, plan};
use bring::Round;

/// Pause before a set at rest is compared with DNS again: what somebody took away comes back.
const RESYNC: Duration = Duration::from_secs(600);
/// Pause before what is published is compared with DNS again after a former place was left.
const AFTERWARDS: Duration = Duration::from_secs(60);

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
    pub clock: Arc<dyn Clock>,
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
        let now = self.settings.clock.sure()?;
        let known = known(set, held);
        let places = match plan(&Book { spec: &set.spec, status: &known, deleted, now }) {
            Plan::Places(places) => places,
            Plan::Embedded | Plan::LetGo => return self.let_go(set, held).await,
        };
        if !held {
            if deleted.is_none() {
                self.hold(set, &ahead(set, &known, &places)).await?;
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
        let version = self.write_down(set, &ahead).await?;
        let Round { mut status, written, beside } = self.bring_all(set, &places, &ahead).await?;
        self.tidy(set, &places, &written).await;
        let now = self.settings.clock.sure()?;
        self.leave(set, &places, &beside, &mut status, now).await;
        let withdrawn = deleted.is_some() && is_withdrawn(&places, &status);
        let forgotten = forget(&places, &mut status);
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

    /// No place is ours: what was said of places goes, and then the finalizer.
    async fn let_go(&self, set: &DkimRecordSet, held: bool) -> Result<Action, Error> {
        self.memory.forget(&set.name_any());
        let nothing = DkimRecordSetStatus::default();
        if set.metadata.deletion_timestamp.is_none()
            && set.status.as_ref().is_some_and(|status| *status != nothing)
        {
            self.sets().save(set, set.resource_version(), &nothing).await?;
            // The write brings the object back.
        } else if held {
            self.sets().let_go(set).await?;
        }
        Ok(Action::await_change())
    }

    /// Puts our finalizer on. Where the records are now is written down first: once the set is held, one without a status is a
    /// new one.
    async fn hold(&self, set: &DkimRecordSet, ahead: &DkimRecordSetStatus) -> Result<(), Error> {
        let version = match &set.status {
            Some(status) if !status.places.is_empty() => set.resource_version(),
            _ => self.sets().save(set, set.resource_version(), ahead).await?,
        };
        self.sets().hold(set, version).await
    }

    /// Writes down places and names before anything is sent there. Returns the set's version after that.
    async fn write_down(
        &self,
        set: &DkimRecordSet,
        ahead: &DkimRecordSetStatus,
    ) -> Result<Option<String>, Error> {
        let version = set.resource_version();
        if set.status.as_ref() == Some(ahead)
            || names(ahead) == set.status.as_ref().map(names).unwrap_or_default()
        {
            return Ok(version);
        }
        self.sets().save(set, version, ahead).await
    }

    fn rest(&self, set: &DkimRecordSet, name: &str, status: &DkimRecordSetStatus) -> Duration {
        let now = self.settings.clock.now();
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

    fn sets(&self) -> Sets {
        Sets::new(&self.settings.client, &self.settings.namespace)
    }
}
