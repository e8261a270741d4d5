//! The signers that report: their Leases are followed, and what they say is brought to the domains it concerns.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::channel::mpsc::UnboundedSender;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, DeleteParams, Preconditions};
use kube::runtime::WatchStreamExt;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, ResourceExt};
use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use tokio::sync::watch;

use super::Guarded;
use super::context::{Context, ControllerOptions};
use crate::api::{LABEL_MANAGED_BY, LABEL_SIGNER, MANAGED_BY, SignerReport};
use crate::model::acceptance::Order;
use crate::model::acknowledgement::{Acknowledged, Heard, MOST_SIGNERS, Roster, Told, Who};
use crate::model::vault::Vault;

/// How often Leases are looked for that ran out long ago.
const SWEEP: Duration = Duration::from_secs(600);

/// What signers say, and whom it has concerned.
pub struct Signers {
    roster: Mutex<Roster>,
    /// How often a DkimDomain was woken by what a signer said.
    news: Mutex<HashMap<Who, u64>>,
    /// How many watches have not listed yet.
    unlisted: watch::Sender<usize>,
}

impl Signers {
    /// Nothing is known yet; `watches` will list.
    #[must_use]
    pub fn new(options: &ControllerOptions) -> Self {
        let watches = options.secret_namespaces.as_ref().map_or(1, Vec::len);
        Self { roster: Mutex::default(), news: Mutex::default(), unlisted: watch::channel(watches).0 }
    }

    /// Waits until every watch has listed: a signer that is not known yet is one that nobody waits for.
    pub async fn listed(&self) {
        // The sender lives as long as this does.
        let _ = self.unlisted.subscribe().wait_for(|left| *left == 0).await;
    }

    /// A number that changes whenever what signers say frees a DkimDomain.
    #[must_use]
    pub fn news(&self, key: &ObjectRef<Guarded>) -> u64 {
        self.news.lock().get(&who(key)).copied().unwrap_or_default()
    }

    /// Drops what is kept for a DkimDomain.
    pub fn forget(&self, key: &ObjectRef<Guarded>) {
        self.roster.lock().forget(&who(key));
        self.news.lock().remove(&who(key));
    }

    fn wake(&self, freed: Vec<Who>, wake: &UnboundedSender<ObjectRef<Guarded>>) {
        let mut news = self.news.lock();
        for (namespace, name) in freed {
            let object = ObjectRef::new(&name).within(&namespace);
            *news.entry((namespace, name)).or_default() += 1;
            let _ = wake.unbounded_send(object);
        }
    }
}

fn who(key: &ObjectRef<Guarded>) -> Who {
    (key.namespace.clone().unwrap_or_default(), key.name.clone())
}

impl Context {
    /// What signers say of a domain whose Secret holds `vault` in this version.
    #[must_use]
    pub fn acknowledged(
        &self,
        key: &ObjectRef<Guarded>,
        order: &Order,
        version: Option<u64>,
        vault: &Vault,
    ) -> Acknowledged {
        let told = Told {
            namespace: &order.secret_namespace,
            secret: &order.secret_name,
            version,
            vault,
            lag: order.lanes.primary.policy.signer_lag,
        };
        self.signers.roster.lock().look(&who(key), told, self.clock.now())
    }
}

/// Follows the Leases of signers in the namespaces where key Secrets may be.
pub fn follow(
    client: &Client,
    options: &ControllerOptions,
    ctx: &Arc<Context>,
    wake: &UnboundedSender<ObjectRef<Guarded>>,
) -> impl Future<Output = ()> + use<> {
    let scopes: Vec<Option<String>> = match &options.secret_namespaces {
        None => vec![None],
        Some(list) => list.iter().cloned().map(Some).collect(),
    };
    let watches = scopes.into_iter().map(|scope| {
        let ear = Ear { client: client.clone(), scope, ctx: ctx.clone(), wake: wake.clone() };
        ear.listen()
    });
    let watches: Vec<_> = watches.collect();
    async move {
        futures::future::join_all(watches).await;
    }
}

/// One watch.
struct Ear {
    client: Client,
    scope: Option<String>,
    ctx: Arc<Context>,
    wake: UnboundedSender<ObjectRef<Guarded>>,
}

impl Ear {
    async fn listen(self) {
        let api: Api<Lease> = match &self.scope {
            None => Api::all(self.client.clone()),
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
        };
        let labels = format!("{LABEL_MANAGED_BY}={MANAGED_BY},{LABEL_SIGNER}");
        let config = watcher::Config::default().labels(&labels);
        let mut events = watcher(api, config).default_backoff().boxed();
        let mut listing: Option<HashMap<String, BTreeSet<String>>> = None;
        let mut sweep = tokio::time::interval(SWEEP);
        let mut first = true;
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                _ = sweep.tick() => {
                    self.sweep().await;
                    continue;
                }
            };
            match event {
                None => return,
                Some(Err(error)) => {
                    let refused = is_forbidden(&error);
                    tracing::warn!(%error, "the Leases of signers cannot be watched{}", if refused {
                        ": nobody is waited for beyond the signer lag"
                    } else {
                        ""
                    });
                    if refused {
                        self.has_listed(&mut first);
                    } else {
                        self.hearing(false);
                    }
                }
                Some(Ok(Event::Init)) => listing = Some(HashMap::new()),
                Some(Ok(Event::InitApply(lease))) => {
                    if let (Some(listing), Some(namespace)) = (&mut listing, lease.namespace()) {
                        listing.entry(namespace).or_default().insert(lease.name_any());
                    }
                    self.hear(&lease, true).await;
                }
                Some(Ok(Event::InitDone)) => {
                    self.hearing(true);
                    self.keep(&listing.take().unwrap_or_default());
                    self.has_listed(&mut first);
                    self.sweep().await;
                }
                Some(Ok(Event::Apply(lease))) => {
                    self.hearing(true);
                    self.hear(&lease, false).await;
                }
                Some(Ok(Event::Delete(lease))) => {
                    self.hearing(true);
                    let namespace = lease.namespace().unwrap_or_default();
                    let mut roster = self.ctx.signers.roster.lock();
                    let freed = roster.gone(&namespace, &lease.name_any(), self.ctx.clock.now());
                    drop(roster);
                    self.ctx.signers.wake(freed, &self.wake);
                }
            }
        }
    }

    fn name(&self) -> &str {
        self.scope.as_deref().unwrap_or_default()
    }

    fn hearing(&self, works: bool) {
        self.ctx.signers.roster.lock().hearing(self.name(), works, self.ctx.clock.now());
    }

    fn has_listed(&self, first: &mut bool) {
        if std::mem::take(first) {
            self.ctx.signers.unlisted.send_modify(|left| *left = left.saturating_sub(1));
        }
    }

    async fn hear(&self, lease: &Lease, listed: bool) {
        let (namespace, name) = (lease.namespace().unwrap_or_default(), lease.name_any());
        let now = self.ctx.clock.now();
        let freed = match heard(lease, listed, now) {
            Some(heard) => self.ctx.signers.roster.lock().hear(&namespace, &name, heard, now),
            None => {
                // It has ended and said so.
                let which = Preconditions { uid: lease.uid(), resource_version: lease.resource_version() };
                self.delete(&namespace, &name, which).await;
                self.ctx.signers.roster.lock().gone(&namespace, &name, now)
            }
        };
        self.ctx.signers.wake(freed, &self.wake);
    }

    /// What was not listed any more is gone.
    fn keep(&self, listed: &HashMap<String, BTreeSet<String>>) {
        let now = self.ctx.clock.now();
        let mut roster = self.ctx.signers.roster.lock();
        let known: Vec<String> = match &self.scope {
            Some(namespace) => vec![namespace.clone()],
            None => roster.namespaces().map(str::to_owned).collect(),
        };
        let none = BTreeSet::new();
        let mut freed = Vec::new();
        for namespace in known {
            freed.extend(roster.keep(&namespace, listed.get(&namespace).unwrap_or(&none), now));
        }
        drop(roster);
        self.ctx.signers.wake(freed, &self.wake);
    }

    /// Deletes what signers left behind that ended without a word, long ago.
    async fn sweep(&self) {
        let now = self.ctx.clock.now();
        let (old, census) = {
            let roster = self.ctx.signers.roster.lock();
            (roster.forgotten(now), roster.census(now))
        };
        if census.uncounted > 0 {
            tracing::warn!(
                "{} Leases of signers do not count: there are more than {MOST_SIGNERS} in a namespace",
                census.uncounted
            );
        }
        for (namespace, name) in old {
            if self.scope.as_ref().is_none_or(|scope| *scope == namespace) {
                tracing::info!("the signer behind Lease {namespace}/{name} has not been heard of for a day");
                self.delete(&namespace, &name, Preconditions::default()).await;
            }
        }
    }

    /// One that was written since stays. Renewals of others are not heard meanwhile, so that it may not take long.
    async fn delete(&self, namespace: &str, name: &str, which: Preconditions) {
        const PATIENCE: Duration = Duration::from_secs(5);
        let api: Api<Lease> = Api::namespaced(self.client.clone(), namespace);
        let params = DeleteParams { preconditions: Some(which), ..DeleteParams::default() };
        match tokio::time::timeout(PATIENCE, api.delete(name, &params)).await {
            Ok(Ok(_)) => {}
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the Lease {namespace}/{name} cannot be deleted"),
            Err(_) => tracing::warn!("the Lease {namespace}/{name} cannot be deleted within {PATIENCE:?}"),
        }
    }
}

fn is_forbidden(error: &watcher::Error) -> bool {
    use watcher::Error::{InitialListFailed, WatchFailed, WatchStartFailed};
    match error {
        InitialListFailed(kube::Error::Api(status))
        | WatchStartFailed(kube::Error::Api(status))
        | WatchFailed(kube::Error::Api(status)) => status.code == 403,
        _ => false,
    }
}

/// What a Lease tells; nothing where its signer has let it go. A signer that says nothing that can be understood is one
/// that lives.
fn heard(lease: &Lease, listed: bool, now: Timestamp) -> Option<Heard> {
    let spec = lease.spec.as_ref();
    spec.and_then(|spec| spec.holder_identity.as_ref()).filter(|holder| !holder.is_empty())?;
    let renewed = spec.and_then(|spec| spec.renew_time.as_ref()).map_or(now, |at| at.0);
    let seconds = spec.and_then(|spec| spec.lease_duration_seconds).unwrap_or_default();
    Some(Heard {
        version: lease.resource_version().unwrap_or_default(),
        says: SignerReport::of(lease).unwrap_or_default(),
        renewed,
        lasts: SignedDuration::from_secs(i64::from(seconds)),
        listed,
    })
}

/// The numbers of signers, counted when they are asked for.
pub struct Gauges(pub Arc<Context>);

impl fmt::Debug for Gauges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gauges")
    }
}

impl Collector for Gauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let census = self.0.signers.roster.lock().census(self.0.clock.now());
        let help = "Signers that report which keys they use: current, behind for longer than the signer lag, lost, or \
            uncounted because there are too many Leases";
        let mut signers = encoder.encode_descriptor("signers", help, None, MetricType::Gauge)?;
        for (state, count) in [
            ("current", census.current),
            ("behind", census.behind),
            ("lost", census.lost),
            ("uncounted", census.uncounted),
        ] {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            ConstGauge::new(count).encode(signers.encode_family(&[("state", state)])?)?;
        }
        let help =
            "For how long the signer that is behind most has been told to use another key; 0 where none is";
        let behind = encoder.encode_descriptor("signer_behind_seconds", help, None, MetricType::Gauge)?;
        ConstGauge::new(census.longest.as_secs()).encode(behind)
    }
}
