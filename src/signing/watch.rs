//! The key Secrets of a namespace: listed once, then watched.
//!
//! The watch is our own and not kube's, because signers must know *that they would hear of a change*, also while nothing
//! changes: kube's does not say when a watch that broke is there again.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ListParams, WatchEvent, WatchParams};
use kube::{Client, ResourceExt};
use tokio::time::sleep;
use zeroize::Zeroize;

use crate::api::{LABEL_DOMAIN, LABEL_MANAGED_BY, MANAGED_BY};
use crate::jitter::jitter;

/// Secrets of one page of the list: memory holds no more of them at a time.
const PAGE: u32 = 200;
/// The server ends a watch after this many seconds, so that we notice within them where nobody is there any more.
const WATCH_SECONDS: u32 = 120;
/// A request for a watch that was silent for this long has lost its server.
pub const WATCH_TIMEOUT: Duration = Duration::from_secs(WATCH_SECONDS as u64 + 30);
/// First and longest pause after an error.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// Most changes that are told together.
const GROUP: usize = 500;

/// What is told of the key Secrets.
pub enum News {
    /// A list begins: what was told of an earlier one that did not come to its end, counts no more.
    Begun,
    /// Some of those that are there.
    Page(Vec<Secret>),
    /// All that are there at this version were told; others are gone.
    Listed(String),
    /// These changes, in this order, have led to this version. No changes, where others' objects have changed alone.
    Changed(Vec<Change>, String),
    /// The server was reached, and will tell of a change.
    Reached,
}

/// A change of one Secret.
pub enum Change {
    /// It is like this now.
    Is(Secret),
    /// It was like this, and is gone.
    Gone(Secret),
}

/// Follows the key Secrets of one namespace.
pub struct SecretWatch {
    api: Api<Secret>,
    namespace: String,
    state: State,
    pause: Duration,
}

type Events = BoxStream<'static, kube::Result<WatchEvent<Secret>>>;

enum State {
    /// Everything is to be listed.
    Anew,
    /// The next page, from this token on.
    List(Option<String>),
    /// The last page had this version.
    Listed(String),
    /// A watch is to begin at this version.
    Begin(String),
    /// It runs, and has come to this version.
    Watch(String, Events),
}

impl SecretWatch {
    /// Begins with a list.
    #[must_use]
    pub fn new(client: Client, namespace: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
            state: State::Anew,
            pause: PAUSE.0,
        }
    }

    /// Waits for what is next, for as long as it takes. It may not be given up while it waits: what has come in would be lost.
    pub async fn next(&mut self) -> News {
        loop {
            let state = std::mem::replace(&mut self.state, State::Anew);
            // Whatever the server itself refuses (an old version, for one) is begun anew.
            let goes_on = match &state {
                State::Begin(version) | State::Watch(version, _) => Some(version.clone()),
                _ => None,
            };
            match self.step(state).await {
                Ok((state, Some(news))) => {
                    self.state = state;
                    if matches!(news, News::Listed(_) | News::Changed(..)) {
                        self.pause = PAUSE.0;
                    }
                    return news;
                }
                Ok((state, None)) => {
                    self.state = state;
                    // A server that ends each watch at once is not asked without a pause.
                    sleep(PAUSE.0.mul_f64(jitter())).await;
                }
                Err(error) => {
                    tracing::warn!(
                        %error,
                        "the key Secrets of namespace {} cannot be read or watched; what is known stays good",
                        self.namespace
                    );
                    if let Some(version) = goes_on.filter(|_| !matches!(error, kube::Error::Api(_))) {
                        self.state = State::Begin(version);
                    }
                    sleep(self.pause + self.pause.mul_f64(jitter())).await;
                    self.pause = (self.pause * 2).min(PAUSE.1);
                }
            }
        }
    }

    async fn step(&self, state: State) -> kube::Result<(State, Option<News>)> {
        Ok(match state {
            State::Anew => (State::List(None), Some(News::Begun)),
            State::List(token) => {
                let params = ListParams { continue_token: token, ..ListParams::default() };
                let page = self.api.list(&params.labels(&selector()).limit(PAGE)).await?;
                let next = page.metadata.continue_.filter(|token| !token.is_empty());
                let state = match next {
                    Some(token) => State::List(Some(token)),
                    None => State::Listed(page.metadata.resource_version.unwrap_or_default()),
                };
                (state, Some(News::Page(page.items)))
            }
            State::Listed(version) => (State::Begin(version.clone()), Some(News::Listed(version))),
            State::Begin(version) => {
                let params = WatchParams::default().labels(&selector()).timeout(WATCH_SECONDS);
                let events = self.api.watch(&params, &version).await?.boxed();
                (State::Watch(version, events), Some(News::Reached))
            }
            State::Watch(version, events) => group(version, events).await?,
        })
    }
}

/// The next changes, as many as are there already. Where the server has ended the watch, it begins again.
async fn group(mut version: String, mut events: Events) -> kube::Result<(State, Option<News>)> {
    let mut changes = Vec::new();
    let mut next = events.next().await;
    if next.is_none() {
        return Ok((State::Begin(version), None));
    }
    while let Some(event) = next {
        match event? {
            WatchEvent::Added(secret) | WatchEvent::Modified(secret) => {
                version = secret.resource_version().unwrap_or(version);
                changes.push(Change::Is(secret));
            }
            WatchEvent::Deleted(secret) => {
                version = secret.resource_version().unwrap_or(version);
                changes.push(Change::Gone(secret));
            }
            WatchEvent::Bookmark(bookmark) => version = bookmark.metadata.resource_version,
            WatchEvent::Error(status) if status.code == 410 => return Ok((State::Anew, None)),
            WatchEvent::Error(status) => return Err(kube::Error::Api(status)),
        }
        next = if changes.len() < GROUP { events.next().now_or_never().flatten() } else { None };
    }
    Ok((State::Watch(version.clone(), events), Some(News::Changed(changes, version))))
}

/// Those without a domain are no key Secrets.
fn selector() -> String {
    format!("{LABEL_MANAGED_BY}={MANAGED_BY},{LABEL_DOMAIN}")
}

/// Wipes the private keys of an object that is no longer needed.
pub fn wipe(mut secret: Secret) {
    for bytes in secret.data.iter_mut().flat_map(BTreeMap::values_mut) {
        bytes.0.zeroize();
    }
}
