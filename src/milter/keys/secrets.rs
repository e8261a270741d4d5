//! Keys in Secrets, as they are listed and watched.

use std::collections::BTreeMap;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::{Client, ResourceExt};
use tokio::time::sleep;

use super::Keys;
use crate::api::LABEL_DOMAIN;
use crate::api::signing_config::SIGNING_FILE;
use crate::model::name::DomainName;
use crate::signing::{Change, DomainKeys, Entry, KeySecret, KeyStore, News, SecretWatch};

/// How often keys are looked at that are kept although newer ones cannot be read.
const REVIEW: Duration = Duration::from_secs(5);

/// Keeps the keys as they are in the key Secrets of a namespace, for ever.
pub async fn follow_secrets(client: Client, namespace: &str, keys: &Keys) {
    let mut watch = SecretWatch::new(client, namespace);
    let mut listed = BTreeMap::new();
    loop {
        let news = next(&mut watch, keys).await;
        let older = keys.last();
        match news {
            News::Begun => listed.clear(),
            News::Page(secrets) => {
                let entries = secrets.iter().map(|secret| read(secret, &older));
                listed.extend(entries.filter_map(|(place, entry)| Some((place, entry?))));
            }
            News::Listed(version) => {
                keys.exchange(KeyStore::of(std::mem::take(&mut listed)));
                keys.reached(&version);
            }
            News::Reached => keys.confirm(),
            News::Changed(changes, version) => {
                if changes.is_empty() {
                    keys.confirm();
                } else {
                    let changes: BTreeMap<_, _> =
                        changes.into_iter().map(|change| changed(change, &older)).collect();
                    keys.exchange(older.with(changes));
                }
                keys.reached(&version);
            }
        }
    }
}

/// The next news. What cannot be read is looked at meanwhile: its earlier keys are not kept for ever.
async fn next(watch: &mut SecretWatch, keys: &Keys) -> News {
    let mut news = pin!(watch.next());
    loop {
        tokio::select! {
            news = &mut news => return news,
            () = sleep(REVIEW), if keys.has_unreadable() => keys.review(),
        }
    }
}

fn changed(change: Change, older: &KeyStore) -> (Arc<Path>, Option<Entry>) {
    match change {
        Change::Is(secret) => read(&secret, older),
        Change::Gone(secret) => (place(&secret), None),
    }
}

fn place(secret: &Secret) -> Arc<Path> {
    let namespace = secret.namespace().unwrap_or_default();
    Path::new(&namespace).join(secret.name_any()).into()
}

fn read(secret: &KeySecret, older: &KeyStore) -> (Arc<Path>, Option<Entry>) {
    let place = place(secret);
    let label = secret.labels().get(LABEL_DOMAIN).and_then(|domain| DomainName::parse(domain).ok());
    let is_ours = secret.data.as_ref().is_some_and(|data| data.contains_key(SIGNING_FILE));
    let entry = is_ours.then(|| {
        let read = DomainKeys::from_secret(&place, secret, older.at(&place));
        read.map_err(|mut problem| {
            problem.domain = problem.domain.or(label);
            problem
        })
        .into()
    });
    (place, entry)
}
