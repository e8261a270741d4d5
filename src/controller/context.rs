//! What every reconcile shares.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, PartialObjectMeta};
use kube::core::DeserializeGuard;
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Client, Resource};
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tokio::sync::Semaphore;

use super::Guarded;
use super::clock::Clock;
use super::contests::Contests;
use super::departures::Departures;
use super::error::Class;
use super::eyes::Eye;
use super::glance::Glances;
use super::memory::{Memory, Surroundings, version};
use super::signers::Signers;
use crate::api::{ClaimRef, DkimDomain, DkimProvider, DkimRecordSet, Verification};
use crate::jitter::jitter;
use crate::lookup::{Look, Looker, Lookout, LookupConfig, Timed};
use crate::model::acceptance::Order;
use crate::model::name::DomainName;

/// How a controller is run.
#[derive(Debug, Clone)]
pub struct ControllerOptions {
    /// The namespace of the record sets.
    pub namespace: String,
    /// The namespaces in which key Secrets may be; `None` is all of them.
    pub secret_namespaces: Option<Vec<String>>,
    /// Most reconciles at a time.
    pub concurrency: u16,
    /// Most keys made at a time.
    pub key_threads: usize,
    /// Where what is counted is registered.
    pub metrics: crate::metrics::Metrics,
}

/// What every reconcile shares.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// The namespace of the record sets.
    pub namespace: String,
    /// The namespaces in which key Secrets may be; any where `None`.
    pub secret_namespaces: Option<BTreeSet<String>>,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// All providers.
    pub providers: Store<DkimProvider>,
    /// All record sets.
    pub record_sets_seen: Store<DeserializeGuard<DkimRecordSet>>,
    /// All namespaces' metadata.
    pub namespaces: Store<PartialObjectMeta<Namespace>>,
    /// All DkimDomains.
    pub domains: Store<Guarded>,
    /// The eye on DNS.
    pub lookout: Lookout<Eye>,
    /// Limits key generation to the processors there are.
    pub keygen: Semaphore,
    /// Pauses after errors, object by object.
    pub backoff: Backoff,
    /// Publishes Events.
    pub recorder: Recorder,
    /// What reconciles were made from.
    pub memory: Memory,
    /// What key Secrets were left as, without the keys.
    pub glances: Glances,
    /// Emptied key Secrets that wait for their end.
    pub departures: Departures,
    /// Claims that are contested.
    pub contests: Contests,
    /// The signers that report.
    pub signers: Signers,
    /// Counters.
    pub metrics: Counters,
    lookers: Mutex<HashMap<LookupConfig, Arc<dyn Look>>>,
    contenders: Mutex<HashMap<DomainName, BTreeSet<(String, String)>>>,
}

/// The stores a context reads from.
pub struct Stores {
    /// All providers.
    pub providers: Store<DkimProvider>,
    /// All record sets.
    pub record_sets: Store<DeserializeGuard<DkimRecordSet>>,
    /// All namespaces' metadata.
    pub namespaces: Store<PartialObjectMeta<Namespace>>,
    /// All DkimDomains.
    pub domains: Store<Guarded>,
}

impl Context {
    /// Puts a context together.
    #[must_use]
    pub fn new(
        client: Client,
        options: &ControllerOptions,
        clock: Arc<dyn Clock>,
        stores: Stores,
        lookout: Lookout<Eye>,
    ) -> Self {
        let Stores { providers, record_sets, namespaces, domains } = stores;
        let reporter =
            Reporter { controller: "dkim-operator".into(), instance: std::env::var("HOSTNAME").ok() };
        Self {
            recorder: Recorder::new(client.clone(), reporter),
            namespace: options.namespace.clone(),
            secret_namespaces: options.secret_namespaces.as_ref().map(|n| n.iter().cloned().collect()),
            client,
            clock,
            providers,
            record_sets_seen: record_sets,
            namespaces,
            domains,
            lookout,
            keygen: Semaphore::new(options.key_threads.max(1)),
            backoff: Backoff::default(),
            memory: Memory::default(),
            glances: Glances::default(),
            departures: Departures::default(),
            contests: Contests::default(),
            signers: Signers::new(options),
            metrics: Counters::default(),
            lookers: Mutex::default(),
            contenders: Mutex::default(),
        }
    }

    /// The record sets.
    #[must_use]
    pub fn record_sets(&self) -> Api<DkimRecordSet> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// A record set as the watch has it.
    #[must_use]
    pub fn cached_record_set(&self, name: &str) -> Option<DkimRecordSet> {
        let key = ObjectRef::new(name).within(&self.namespace);
        self.record_sets_seen.get(&key).and_then(|guard| guard.0.as_ref().ok().cloned())
    }

    /// A namespace's metadata as the watch has it.
    #[must_use]
    pub fn cached_namespace(&self, name: &str) -> Option<ObjectMeta> {
        self.namespaces.get(&ObjectRef::new(name)).map(|n| n.metadata.clone())
    }

    /// What surrounds a DkimDomain now.
    #[must_use]
    pub fn surroundings(&self, domain: &DkimDomain, key: &ObjectRef<Guarded>) -> Surroundings {
        let namespace = domain.metadata.namespace.as_deref().and_then(|name| self.cached_namespace(name));
        Surroundings {
            namespace: namespace.as_ref().and_then(version),
            providers: self.memory.providers(),
            looks: self.looks(key),
            signers: self.signers.news(key),
        }
    }

    /// Whether the watch knows the very DkimDomain behind a claim.
    #[must_use]
    pub fn domain_exists(&self, claim: &ClaimRef) -> bool {
        let key = ObjectRef::new(&claim.name).within(&claim.namespace);
        self.domains.get(&key).is_some_and(|d| d.meta().uid.as_deref() == Some(claim.uid.as_str()))
    }

    /// Whether the DkimDomain behind a claim chose its GUID, as far as the watch knows it.
    #[must_use]
    pub fn chose_guid(&self, claim: Option<&ClaimRef>) -> bool {
        let claimant = claim.and_then(|c| self.domains.get(&ObjectRef::new(&c.name).within(&c.namespace)));
        claimant.is_some_and(|d| d.0.as_ref().is_ok_and(|d| d.spec.guid.is_some()))
    }

    /// Whether some other DkimDomain chose this GUID.
    #[must_use]
    pub fn others_choose(&self, order: &Order) -> bool {
        let wants = |d: &DkimDomain| {
            d.spec.guid.as_ref().is_some_and(|guid| guid.eq_ignore_ascii_case(order.home.guid.as_str()))
                && DomainName::parse(&d.spec.domain).is_ok_and(|domain| domain != order.domain)
        };
        self.domains.find(|guard| guard.0.as_ref().is_ok_and(wants)).is_some()
    }

    /// What looks for a provider, with its settings.
    #[must_use]
    pub fn looker(&self, provider: &str) -> Option<(Arc<dyn Look>, Verification)> {
        let provider = self.providers.get(&ObjectRef::new(provider))?;
        let verification = provider.spec.verification.clone();
        let config = LookupConfig::of(&verification);
        let mut lookers = self.lookers.lock();
        let new = || -> Arc<dyn Look> {
            let clock = Arc::clone(&self.clock);
            Arc::new(Timed::new(Arc::new(Looker::new(config.clone())), move || clock.now()))
        };
        let looker = lookers.entry(config.clone()).or_insert_with(new).clone();
        Some((looker, verification))
    }

    /// The namespaces in which keys of a tenant may be: its own and those that providers name, as far as the
    /// operator may look there.
    #[must_use]
    pub fn key_namespaces(&self, tenant: &str) -> BTreeSet<String> {
        let named = self.providers.state().into_iter().filter_map(|p| p.spec.key_namespace.clone());
        let may = |name: &String| self.secret_namespaces.as_ref().is_none_or(|may| may.contains(name));
        named.chain([tenant.to_owned()]).filter(may).collect()
    }

    /// Notes that a DkimDomain wants a domain, so that it hears when the claim is let go.
    pub fn contend(&self, domain: &DomainName, key: &ObjectRef<Guarded>) {
        let who = (key.namespace.clone().unwrap_or_default(), key.name.clone());
        self.contenders.lock().entry(domain.clone()).or_default().insert(who);
    }

    /// Everybody who wants a domain.
    #[must_use]
    pub fn contenders(&self, domain: &str) -> Vec<ObjectRef<Guarded>> {
        let Ok(domain) = DomainName::parse(domain) else { return Vec::new() };
        let contenders = self.contenders.lock();
        let all = contenders.get(&domain).into_iter().flatten();
        all.map(|(namespace, name)| ObjectRef::new(name).within(namespace)).collect()
    }

    /// Drops what is kept in memory for a DkimDomain.
    pub fn forget(&self, key: &ObjectRef<Guarded>) {
        self.look_no_more(key);
        self.backoff.forget(key);
        self.memory.forget(key);
        self.glances.forget(key);
        self.signers.forget(key);
        self.contests.forget(key);
        let who = (key.namespace.clone().unwrap_or_default(), key.name.clone());
        self.contenders.lock().retain(|_, set| {
            set.remove(&who);
            !set.is_empty()
        });
    }

    /// A pause spread by ±10 %, so that objects made together do not wake together for ever.
    #[must_use]
    pub fn spread(&self, pause: Duration) -> Duration {
        pause.mul_f64(0.9 + 0.2 * jitter())
    }
}

/// Pauses after errors, object by object.
#[derive(Debug, Default)]
pub struct Backoff {
    tries: Mutex<HashMap<ObjectRef<Guarded>, u32>>,
}

impl Backoff {
    /// The pause before the next try.
    pub fn next(&self, key: &ObjectRef<Guarded>, class: Class) -> Duration {
        let mut tries = self.tries.lock();
        let count = tries.entry(key.clone()).or_insert(0);
        *count = count.saturating_add(1);
        class.pause(*count, jitter())
    }

    /// Begins anew after a success.
    pub fn forget(&self, key: &ObjectRef<Guarded>) {
        self.tries.lock().remove(key);
    }
}

/// What is counted.
#[derive(Debug, Clone, Default)]
pub struct Counters {
    /// Reconciles that failed, by class.
    failed: Family<[(&'static str, &'static str); 1], Counter>,
}

impl Counters {
    /// Has them shown.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Reconciles that failed and are tried again, by what the error asks for";
        registry.register("reconcile_errors", help, self.failed.clone());
    }

    /// Counts a failed reconcile.
    pub fn errors(&self, class: Class) {
        self.failed.get_or_create(&[("class", class.label())]).inc();
    }
}
