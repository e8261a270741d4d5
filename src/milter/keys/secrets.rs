//! Keys in Secrets: listed once, then watched.
//!
//! The watch is our own and not kube's, because we must know *that we would hear of a change*, also while nothing
//! changes: kube's does not say when a watch that broke is there again.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, Stream, StreamExt};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ListParams, WatchEvent, WatchParams};
use kube::{Client, ResourceExt};
use tokio::time::{sleep, timeout};
use zeroize::Zeroize;

use super::Keys;
use crate::api::signing_config::SIGNING_FILE;
use crate::api::{LABEL_DOMAIN, LABEL_MANAGED_BY, MANAGED_BY};
use crate::model::name::DomainName;
use crate::signing::{DomainKeys, Entry, KeyStore};

/// Secrets of one page of the list: memory holds no more of them at a time.
const PAGE: u32 = 200;
/// The server ends a watch after this many seconds, so that we notice within them where nobody is there any more.
pub const WATCH_SECONDS: u32 = 120;
/// First and longest pause after an error.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// How often keys are looked at that are kept although newer ones cannot be read.
const REVIEW: Duration = Duration::from_secs(5);
/// Most changes that are taken up together.
const GROUP: usize = 500;

type Places = BTreeMap<Arc<Path>, Option<Entry>>;

/// Keeps the keys as they are in the key Secrets of a namespace, for ever.
pub async fn follow_secrets(client: Client, namespace: &str, keys: &Keys) {
    let api: Api<Secret> = Api::namespaced(client, namespace);
    let mut pause = PAUSE.0;
    let mut version: Option<String> = None;
    loop {
        let result = match &version {
            None => list(&api, keys).await,
            Some(version) => watch(&api, version, keys).await,
        };
        match result {
            Ok(next) => {
                pause = PAUSE.0;
                version = next;
            }
            Err(error) => {
                tracing::warn!(%error, "the key Secrets of namespace {namespace} cannot be read or watched; \
                    signing goes on with what is known");
                // What the server itself refuses (an old version, for one) is begun anew.
                version = version.filter(|_| !matches!(error, kube::Error::Api(_)));
                sleep(pause + pause.mul_f64(jitter())).await;
                pause = (pause * 2).min(PAUSE.1);
            }
        }
    }
}

/// Between 0 and 1: many signers shall not come back at one moment.
fn jitter() -> f64 {
    getrandom::u32().map_or(0.5, |random| f64::from(random) / f64::from(u32::MAX))
}

fn selector() -> String {
    format!("{LABEL_MANAGED_BY}={MANAGED_BY},{LABEL_DOMAIN}")
}

/// Lists all. The version to watch from.
async fn list(api: &Api<Secret>, keys: &Keys) -> kube::Result<Option<String>> {
    let older = keys.last();
    let mut entries = BTreeMap::new();
    let mut params = ListParams::default().labels(&selector()).limit(PAGE);
    loop {
        let page = api.list(&params).await?;
        let next = page.metadata.continue_.filter(|token| !token.is_empty());
        for secret in page.items {
            let (place, entry) = read(secret, &older);
            entries.extend(entry.map(|entry| (place, entry)));
        }
        match next {
            Some(token) => params = params.continue_token(&token),
            None => {
                keys.exchange(KeyStore::of(entries));
                let version = page.metadata.resource_version;
                keys.reached(version.as_deref().unwrap_or_default());
                return Ok(version);
            }
        }
    }
}

/// Watches until the server ends it. The version to go on from; `None` where everything must be listed again.
async fn watch(api: &Api<Secret>, version: &str, keys: &Keys) -> kube::Result<Option<String>> {
    let params = WatchParams::default().labels(&selector()).timeout(WATCH_SECONDS);
    let mut version = version.to_owned();
    let events = api.watch(&params, &version).await?;
    futures::pin_mut!(events);
    keys.confirm();
    while let Some(first) = first(&mut events, keys).await {
        let mut changes = Places::new();
        let mut next = Some(first);
        while let Some(event) = next {
            match event? {
                WatchEvent::Added(secret) | WatchEvent::Modified(secret) => {
                    version = secret.resource_version().unwrap_or(version);
                    changes.extend([read(secret, &keys.last())]);
                }
                WatchEvent::Deleted(secret) => {
                    version = secret.resource_version().unwrap_or(version);
                    changes.insert(place(&secret), None);
                    wipe(secret);
                }
                WatchEvent::Bookmark(bookmark) => version = bookmark.metadata.resource_version,
                WatchEvent::Error(status) if status.code == 410 => return Ok(None),
                WatchEvent::Error(status) => return Err(kube::Error::Api(status)),
            }
            next = if changes.len() < GROUP { events.next().now_or_never().flatten() } else { None };
        }
        if changes.is_empty() {
            keys.confirm();
        } else {
            keys.exchange(keys.last().with(changes));
        }
        keys.reached(&version);
    }
    Ok(Some(version))
}

/// The next event. What cannot be read is looked at meanwhile: its earlier keys are not kept for ever.
async fn first<T>(events: &mut (impl Stream<Item = T> + Unpin), keys: &Keys) -> Option<T> {
    while keys.has_unreadable() {
        match timeout(REVIEW, events.next()).await {
            Ok(event) => return event,
            Err(_) => keys.review(),
        }
    }
    events.next().await
}

fn place(secret: &Secret) -> Arc<Path> {
    let namespace = secret.namespace().unwrap_or_default();
    Path::new(&namespace).join(secret.name_any()).into()
}

fn read(secret: Secret, older: &KeyStore) -> (Arc<Path>, Option<Entry>) {
    let place = place(&secret);
    let label = secret.labels().get(LABEL_DOMAIN).and_then(|domain| DomainName::parse(domain).ok());
    let is_ours = secret.data.as_ref().is_some_and(|data| data.contains_key(SIGNING_FILE));
    let entry = is_ours.then(|| {
        let read = DomainKeys::from_secret(&place, &secret, older.at(&place));
        read.map_err(|mut problem| {
            problem.domain = problem.domain.or(label);
            problem
        })
        .into()
    });
    wipe(secret);
    (place, entry)
}

/// Wipes the private keys of an object that is no longer needed.
fn wipe(mut secret: Secret) {
    for bytes in secret.data.iter_mut().flat_map(BTreeMap::values_mut) {
        bytes.0.zeroize();
    }
}
