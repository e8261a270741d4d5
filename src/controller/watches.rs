//! The watches that feed the reconciles, and the controllers over them.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use futures::{Future, FutureExt, StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{Api, PartialObjectMeta};
use kube::core::DeserializeGuard;
use kube::runtime::controller::{Action, Config, Controller};
use kube::runtime::reflector::{self, ObjectRef};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Resource, ResourceExt};

use super::clock::Clock;
use super::context::{Context, ControllerOptions, Stores};
use super::error::Error;
use super::eyes::Eye;
use super::relist::{News, Relist};
use super::{Guarded, on_error, parse_owner, provider, reconcile, release, signers};
use crate::api::{ANNOTATION_OWNER, DkimProvider, DkimRecordSet, LABEL_MANAGED_BY, MANAGED_BY};
use crate::lookup::Lookout;
use crate::publish::{self, Publisher};

/// Runs the controller until `stop` is done. `ready` is set once every watch has listed.
///
/// # Errors
/// None at present: what fails is retried for ever, and told through readiness and logs.
pub async fn run(
    client: Client,
    options: ControllerOptions,
    clock: Arc<dyn Clock>,
    ready: tokio::sync::watch::Sender<bool>,
    stop: impl Future<Output = ()> + Send + Sync + 'static,
) -> Result<(), Error> {
    let (lookout, looked) = Lookout::fair(crate::lookup::LookoutConfig::default(), namespace_of);
    let stop = stop.shared();
    let (record_sets, record_writer) = reflector::store();
    let (namespaces, namespace_writer) = reflector::store();
    let (providers, provider_writer) = reflector::store::<DkimProvider>();

    let (domains, domain_writer) = reflector::store();
    let stores = Stores {
        providers: providers.clone(),
        record_sets: record_sets.clone(),
        namespaces: namespaces.clone(),
        domains: domains.clone(),
    };
    let ctx = Arc::new(Context::new(client.clone(), &options, clock, stores, lookout));

    options.metrics.register(|registry| {
        registry.register_collector(Box::new(signers::Gauges(ctx.clone())));
        ctx.metrics.register(registry);
    });

    // One watch feeds two: what it sees wakes DkimDomains, and goes on to the objects' own controller.
    let (set_seen, sets_seen) = futures::channel::mpsc::unbounded();
    let (provider_seen, providers_seen) = futures::channel::mpsc::unbounded();
    let (set_published, sets_published) = futures::channel::mpsc::unbounded();
    let set_api: Api<DeserializeGuard<DkimRecordSet>> = Api::namespaced(client.clone(), &options.namespace);
    let namespace_api: Api<PartialObjectMeta<Namespace>> = Api::all(client.clone());
    let provider_api: Api<DkimProvider> = Api::all(client.clone());
    let domain_watch = watcher(Api::<Guarded>::all(client.clone()), watcher::Config::default())
        .default_backoff()
        .modify(without_managers)
        .reflect(domain_writer)
        .applied_objects();
    let set_watch = watcher(set_api, watcher::Config::default())
        .default_backoff()
        .modify(without_managers)
        .reflect(record_writer);
    let namespace_watch = watcher(namespace_api, watcher::Config::default())
        .default_backoff()
        .modify(slim)
        .reflect(namespace_writer);
    let provider_watch =
        watcher(provider_api, watcher::Config::default()).default_backoff().reflect(provider_writer);

    // What a watch sees becomes the names of DkimDomains to look at.
    let (wake, woken) = futures::channel::mpsc::unbounded::<ObjectRef<Guarded>>();
    let feeds = [
        feed(
            set_watch.touched_objects().map_ok({
                let ctx = ctx.clone();
                move |guard: DeserializeGuard<DkimRecordSet>| {
                    let concerned = of_record_set(&ctx, &guard);
                    let _ = set_published.unbounded_send(Ok(guard.clone()));
                    let _ = set_seen.unbounded_send(Ok(guard));
                    concerned
                }
            }),
            wake.clone(),
            "DkimRecordSets",
        )
        .boxed(),
        feed(
            namespace_watch.touched_objects().map_ok({
                let ctx = ctx.clone();
                move |namespace: PartialObjectMeta<Namespace>| in_namespace(&ctx, &namespace.name_any())
            }),
            wake.clone(),
            "Namespaces",
        )
        .boxed(),
        feed(
            provider_watch.touched_objects().map_ok({
                let ctx = ctx.clone();
                let mut known = HashMap::new();
                move |provider: DkimProvider| {
                    let concerned = of_provider(&ctx, &mut known, &provider);
                    let _ = provider_seen.unbounded_send(Ok(provider));
                    concerned
                }
            }),
            wake.clone(),
            "DkimProviders",
        )
        .boxed(),
        signers::follow(&client, &options, &ctx, &wake).boxed(),
        secrets(client.clone(), &options, &ctx, wake).boxed(),
    ];
    let feeds = futures::future::join_all(feeds);

    let until = |stop: futures::future::Shared<_>| async move {
        let () = stop.await;
    };
    let domains = Controller::for_stream(domain_watch, domains)
        .with_config(Config::default().concurrency(options.concurrency.max(1)))
        .reconcile_on(woken)
        .reconcile_on(looked.map(|eye| Arc::unwrap_or_clone(eye.object)))
        .graceful_shutdown_on(until(stop.clone()))
        .run(reconcile, on_error, ctx.clone())
        .for_each(|_| futures::future::ready(()));
    let sweeps = Controller::for_stream(sets_seen, record_sets.clone())
        .with_config(Config::default().concurrency(4))
        .graceful_shutdown_on(until(stop.clone()))
        .run(release::sweep, retry, ctx.clone())
        .for_each(|_| futures::future::ready(()));
    let publisher = Arc::new(Publisher::new(publish::Settings {
        client: client.clone(),
        namespace: options.namespace.clone(),
        providers: providers.clone(),
        clock: ctx.clock.clone(),
    }));
    let publications = Controller::for_stream(sets_published, record_sets.clone())
        .with_config(Config::default().concurrency(options.concurrency.max(1)))
        .graceful_shutdown_on(until(stop.clone()))
        .run(Publisher::reconcile, Publisher::on_error, publisher)
        .for_each(|_| futures::future::ready(()));
    let counts = Controller::for_stream(providers_seen, providers.clone())
        .with_config(Config::default().concurrency(1))
        .graceful_shutdown_on(until(stop.clone()))
        .run(provider::reconcile, retry, ctx.clone())
        .for_each(|_| futures::future::ready(()));

    // Deciding on half a picture would refuse what is in order: wait until every list is in.
    let listed = async {
        let _ = tokio::join!(
            providers.wait_until_ready(),
            record_sets.wait_until_ready(),
            namespaces.wait_until_ready(),
            ctx.signers.listed()
        );
        let _ = ready.send(true);
    };
    let work = async {
        listed.await;
        tracing::info!("every watch has listed; reconciling");
        futures::join!(domains, sweeps, publications, counts);
    };
    tokio::select! {
        () = work => {}
        _ = feeds => {}
        () = until(stop).then(|()| tokio::time::sleep(Duration::from_secs(20))) => {
            tracing::warn!("reconciles still under way 20 s after the signal; leaving");
        }
    }
    Ok(())
}

/// Namespaces take turns in looking at DNS.
fn namespace_of(eye: &Eye) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    eye.object.namespace.hash(&mut hasher);
    hasher.finish()
}

/// Objects are kept without the lists of who set which field: those are the greater part of them. An object that is written
/// without the lists keeps the ones it has.
fn without_managers<K: Resource>(object: &mut K) {
    object.meta_mut().managed_fields = None;
}

/// Namespaces are kept for name, uid and labels alone.
fn slim(namespace: &mut PartialObjectMeta<Namespace>) {
    without_managers(namespace);
    namespace.metadata.annotations = None;
}

async fn feed<E: std::fmt::Display>(
    stream: impl futures::Stream<Item = Result<Vec<ObjectRef<Guarded>>, E>>,
    wake: futures::channel::mpsc::UnboundedSender<ObjectRef<Guarded>>,
    what: &'static str,
) {
    let mut stream = std::pin::pin!(stream);
    while let Some(item) = stream.next().await {
        match item {
            Ok(keys) => keys.into_iter().for_each(|key| {
                let _ = wake.unbounded_send(key);
            }),
            Err(error) => tracing::warn!(%error, "the watch of {what} is interrupted; it begins again"),
        }
    }
}

/// Key Secrets as metadata only, in the namespaces the operator is allowed to see.
fn secrets(
    client: Client,
    options: &ControllerOptions,
    ctx: &Arc<Context>,
    wake: futures::channel::mpsc::UnboundedSender<ObjectRef<Guarded>>,
) -> impl Future<Output = ()> + use<> {
    let config = watcher::Config::default().labels(&format!("{LABEL_MANAGED_BY}={MANAGED_BY}"));
    let apis: Vec<Api<PartialObjectMeta<Secret>>> = match &options.secret_namespaces {
        None => vec![Api::all(client)],
        Some(list) => list.iter().map(|namespace| Api::namespaced(client.clone(), namespace)).collect(),
    };
    let ctx = ctx.clone();
    let watches = apis.into_iter().map(move |api| {
        let ctx = ctx.clone();
        let mut listed = Relist::default();
        let owner = |secret: &PartialObjectMeta<Secret>| {
            secret.annotations().get(ANNOTATION_OWNER).and_then(|text| parse_owner(text))
        };
        watcher(api, config.clone()).default_backoff().map_ok(move |event| {
            let news =
                listed.follow(event, |secret| ((secret.namespace(), secret.name_any()), owner(secret)));
            let concerned = news.into_iter().filter_map(|news| match news {
                News::Seen(secret) => {
                    release::delete_later(&ctx, &secret);
                    let owner = owner(&secret)?;
                    ctx.memory.saw_secret(&owner, &secret.metadata);
                    Some(owner)
                }
                News::Gone(owner) => {
                    ctx.memory.missed_secret(owner.as_ref()?);
                    owner
                }
            });
            concerned.collect::<Vec<_>>()
        })
    });
    feed(futures::stream::select_all(watches.map(|w| w.boxed())).map_err(|e| e.to_string()), wake, "Secrets")
}

fn of_record_set(ctx: &Context, guard: &DeserializeGuard<DkimRecordSet>) -> Vec<ObjectRef<Guarded>> {
    let name =
        guard.0.as_ref().map_or_else(|bad| bad.metadata.name.clone().unwrap_or_default(), |s| s.name_any());
    ctx.contenders(&name)
}

fn in_namespace(ctx: &Context, namespace: &str) -> Vec<ObjectRef<Guarded>> {
    let there = ctx.domains.state_filter(|d| ResourceExt::namespace(d).as_deref() == Some(namespace));
    there.iter().map(|d| ObjectRef::from_obj(d.as_ref())).collect()
}

/// The domains that a change of a provider's spec concerns. A change of its status, such as the count of domains,
/// concerns none.
fn of_provider(
    ctx: &Context,
    known: &mut HashMap<String, (Option<String>, Option<i64>)>,
    provider: &DkimProvider,
) -> Vec<ObjectRef<Guarded>> {
    let name = provider.name_any();
    let there = ctx.providers.get(&ObjectRef::new(&name)).is_some();
    let news = match there {
        true => {
            let now = (provider.uid(), provider.metadata.generation);
            known.insert(name.clone(), now.clone()) != Some(now)
        }
        false => known.remove(&name).is_some(),
    };
    if !news {
        return Vec::new();
    }
    ctx.memory.saw_provider();
    let uses = |d: &Guarded| {
        d.0.as_ref().is_ok_and(|d| match &d.spec.provider_ref {
            Some(reference) => reference.name == name,
            None => true,
        })
    };
    ctx.domains.state_filter(uses).iter().map(|d| ObjectRef::from_obj(d.as_ref())).collect()
}

#[allow(clippy::needless_pass_by_value, reason = "the signature kube asks for")]
fn retry<K: kube::Resource<DynamicType = ()>>(object: Arc<K>, error: &Error, ctx: Arc<Context>) -> Action {
    let class = error.class();
    ctx.metrics.errors(class);
    let name = object.meta().name.clone().unwrap_or_default();
    tracing::warn!(object = name, %error, "reconcile failed");
    Action::requeue(ctx.spread(class.pause(2, 0.5)))
}
