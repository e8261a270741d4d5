//! The key Secrets of a namespace: listed once, then watched.
//!
//! The watch is our own and not kube's, because signers must know *that they would hear of a change*, also while nothing
//! changes: kube's does not say when a watch that broke is there again.

use std::time::Duration;

use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ListParams, WatchEvent, WatchParams};
use kube::{Client, ResourceExt};
use tokio::time::sleep;

use super::key_secret::KeySecret;
use crate::api::{LABEL_DOMAIN, LABEL_MANAGED_BY, MANAGED_BY};
use crate::jitter::jitter;

/// Secrets of one page of the list: memory holds no more of them at a time.
const PAGE: u32 = 200;
/// The server ends a watch after this many seconds, so that we notice within them where nobody is there any more.
const WATCH_SECONDS: u32 = 120;
/// A request for a watch that was silent for this long has lost its server.
pub const WATCH_TIMEOUT: Duration = Duration::from_secs(WATCH_SECONDS as u64 + 30);
/// First and longest pause after an error, each up to twice as long by chance: a key waits for a signer that cannot read.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));
/// Most changes that are told together.
const GROUP: usize = 500;

/// What is told of the key Secrets.
pub enum News {
    /// A list begins: what was told of an earlier one that did not come to its end, counts no more.
    Begun,
    /// Some of those that are there.
    Page(Vec<KeySecret>),
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
    Is(KeySecret),
    /// It was like this, and is gone.
    Gone(KeySecret),
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
    /// It has come to this version and broke, which is still to be told.
    Broken(String, kube::Error),
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
            let goes_on = match &state {
                State::List(token) => Some(State::List(token.clone())),
                State::Begin(version) | State::Watch(version, _) | State::Broken(version, _) => {
                    Some(State::Begin(version.clone()))
                }
                State::Anew | State::Listed(_) => None,
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
                    if is_gone(&error) {
                        tracing::debug!(%error, "the key Secrets of namespace {} are listed anew", self.namespace);
                    } else {
                        tracing::warn!(
                            %error,
                            "the key Secrets of namespace {} cannot be read or watched; what is known stays good",
                            self.namespace
                        );
                    }
                    if let Some(state) = goes_on.filter(|_| passes(&error)) {
                        self.state = state;
                    }
                    sleep(self.pause + self.pause.mul_f64(jitter())).await;
                    self.pause = (self.pause * 2).min(PAUSE.1);
                }
            }
        }
    }

    async fn step(&mut self, state: State) -> kube::Result<(State, Option<News>)> {
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
                (state, Some(News::Page(page.items.into_iter().map(KeySecret::from).collect())))
            }
            State::Listed(version) => (State::Begin(version.clone()), Some(News::Listed(version))),
            State::Begin(version) => {
                let params = WatchParams::default().labels(&selector()).timeout(WATCH_SECONDS);
                let events = self.api.watch(&params, &version).await?.boxed();
                (State::Watch(version, events), Some(News::Reached))
            }
            State::Watch(version, events) => group(version, events).await?,
            State::Broken(_, error) => return Err(error),
        })
    }
}

/// The next changes, as many as are there already; what comes before an error is told before it. Where the server has ended
/// the watch, it begins again.
async fn group(mut version: String, mut events: Events) -> kube::Result<(State, Option<News>)> {
    let mut changes = Vec::new();
    let mut next = events.next().await;
    if next.is_none() {
        return Ok((State::Begin(version), None));
    }
    let mut some = false;
    let state = loop {
        match next.map(|event| event.and_then(read)) {
            Some(Ok((reached, change))) => {
                version = reached.unwrap_or(version);
                changes.extend(change);
                some = true;
            }
            Some(Err(error)) if some => break State::Broken(version.clone(), error),
            Some(Err(error)) => return Err(error),
            None => break State::Watch(version.clone(), events),
        }
        next = if changes.len() < GROUP { events.next().now_or_never().flatten() } else { None };
    };
    Ok((state, Some(News::Changed(changes, version))))
}

/// The version that an event leads to, and the change.
fn read(event: WatchEvent<Secret>) -> kube::Result<(Option<String>, Option<Change>)> {
    Ok(match event {
        WatchEvent::Added(secret) | WatchEvent::Modified(secret) => {
            (secret.resource_version(), Some(Change::Is(secret.into())))
        }
        WatchEvent::Deleted(secret) => (secret.resource_version(), Some(Change::Gone(secret.into()))),
        WatchEvent::Bookmark(bookmark) => (Some(bookmark.metadata.resource_version), None),
        WatchEvent::Error(status) => return Err(kube::Error::Api(status)),
    })
}

/// Whether the server does not remember the version or the token any more.
fn is_gone(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 410)
}

/// Whether the same request may do later. Everything is listed anew after anything else: to ask again for what was not understood,
/// or is not known to the server, would go on for ever.
fn passes(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => {
            // A server that was put back to an earlier state does not know the version yet.
            let ahead = status.message.contains("Too large resource version");
            matches!(status.code, 401 | 403 | 408 | 429 | 502..=504) && !ahead
        }
        kube::Error::SerdeError(_) | kube::Error::LinesCodecMaxLineLengthExceeded => false,
        _ => true,
    }
}

/// Those without a domain are no key Secrets.
fn selector() -> String {
    format!("{LABEL_MANAGED_BY}={MANAGED_BY},{LABEL_DOMAIN}")
}

#[cfg(test)]
mod tests;
