//! One desk for each zone of a server: what is handed in while an update is under way goes together into the next one.

use std::net::SocketAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::Api;
use tokio::sync::{mpsc, oneshot};
use zeroize::Zeroizing;

use super::client::{self, Target, UpdateError};
use super::tsig::{Key, KeyFault};
use super::update;
use crate::api::Rfc2136;
use crate::controller::Clock;
use crate::model::name::DnsName;
use crate::model::publishing::{Change, Data, Kind};
use crate::wipe::wipe;

/// Most jobs that wait.
const QUEUE: usize = 1024;
/// Most bytes of text in one update: several times as much as a message has to hold stays under its 65,535.
const MOST: usize = 12_000;

/// A zone at a server, and the key for it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Zone {
    /// The zone's name.
    pub apex: DnsName,
    /// What is published there: which fields of the DkimProvider faults are told of.
    pub kind: Kind,
    /// The server as the provider wrote it.
    pub server: String,
    /// The key's name.
    pub key_name: String,
    /// How updates are authenticated.
    pub algorithm: crate::api::TsigAlgorithm,
    /// The Secret's name and entry.
    pub secret: (String, String),
}

impl Zone {
    /// The zone of a place.
    #[must_use]
    pub fn new(apex: DnsName, kind: Kind, settings: &Rfc2136) -> Self {
        let Rfc2136 { server, tsig } = settings;
        Self {
            apex,
            kind,
            server: server.clone(),
            key_name: tsig.key_name.clone(),
            algorithm: tsig.algorithm,
            secret: (tsig.secret_ref.name.clone(), tsig.secret_ref.key.clone()),
        }
    }
}

struct Job {
    address: SocketAddr,
    changes: Vec<Change>,
    done: oneshot::Sender<Result<(), UpdateError>>,
}

/// Takes changes and answers when they are made.
#[derive(Debug, Clone)]
pub struct Desk {
    jobs: mpsc::Sender<Job>,
}

impl Desk {
    /// Opens a desk. Its task ends with its last handle.
    #[must_use]
    pub fn open(client: Client, namespace: &str, zone: Zone, clock: Arc<dyn Clock>) -> Self {
        let (jobs, waiting) = mpsc::channel(QUEUE);
        let secrets = Api::namespaced(client, namespace);
        tokio::spawn(Clerk { secrets, namespace: namespace.to_owned(), zone, clock }.work(waiting));
        Self { jobs }
    }

    /// Makes changes, all of them or none.
    ///
    /// # Errors
    /// [`UpdateError`].
    pub async fn update(&self, address: SocketAddr, changes: Vec<Change>) -> Result<(), UpdateError> {
        let (done, answer) = oneshot::channel();
        let gone = || UpdateError::Unsayable("the worker for this zone has ended".to_owned());
        self.jobs.send(Job { address, changes, done }).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

struct Clerk {
    secrets: Api<Secret>,
    namespace: String,
    zone: Zone,
    clock: Arc<dyn Clock>,
}

impl Clerk {
    async fn work(self, mut waiting: mpsc::Receiver<Job>) {
        let mut kept: Option<Job> = None;
        loop {
            let Some(first) = (match kept.take() {
                Some(job) => Some(job),
                None => waiting.recv().await,
            }) else {
                return;
            };
            let mut size = weight(&first);
            let mut batch = vec![first];
            while let Ok(job) = waiting.try_recv() {
                size += weight(&job);
                if size > MOST || job.address != batch[0].address {
                    kept = Some(job);
                    break;
                }
                batch.push(job);
            }
            self.handle(batch).await;
        }
    }

    async fn handle(&self, batch: Vec<Job>) {
        let key = match self.key().await {
            Ok(key) => key,
            Err(error) => {
                return batch.into_iter().for_each(|job| _ = job.done.send(Err(error.clone())));
            }
        };
        let together = self.send(&key, &batch).await;
        // One job's fault must not hold up the others.
        let alone = batch.len() > 1
            && matches!(
                together,
                Err(UpdateError::Changed | UpdateError::Refused { .. } | UpdateError::Unsayable(_))
            );
        if batch.len() > 1 {
            tracing::debug!(zone = %self.zone.apex, sets = batch.len(), ok = together.is_ok(), "one update for several record sets");
        }
        for job in batch {
            let outcome = if alone { self.send(&key, [&job]).await } else { together.clone() };
            _ = job.done.send(outcome);
        }
    }

    async fn send<'a>(&self, key: &Key, jobs: impl IntoIterator<Item = &'a Job>) -> Result<(), UpdateError> {
        let jobs: Vec<&Job> = jobs.into_iter().collect();
        let Some(address) = jobs.first().map(|job| job.address) else { return Ok(()) };
        let changes = jobs.iter().flat_map(|job| &job.changes);
        let id = u16::try_from(getrandom::u32().unwrap_or_default() & 0xffff).unwrap_or_default();
        let message = update::message(id, &self.zone.apex, changes)
            .map_err(|error| UpdateError::Unsayable(error.to_string()))?;
        let target = Target {
            address,
            server: &self.zone.server,
            zone: self.zone.apex.as_str(),
            key_name: &self.zone.key_name,
            kind: self.zone.kind,
        };
        let now = u64::try_from(self.clock.now().as_second()).unwrap_or_default();
        client::send(target, message, key, now).await
    }

    /// The key, read anew each time: a changed Secret is used at once, and no copy stays in memory.
    async fn key(&self) -> Result<Key, UpdateError> {
        let (name, entry) = &self.zone.secret;
        let place = format!("Secret {}/{name}", self.namespace);
        let mut secret = match self.secrets.get_opt(name).await {
            Ok(Some(secret)) => secret,
            Ok(None) => {
                return Err(UpdateError::Secret(format!(
                    "{place} with the TSIG key is not there; create it: kubectl create secret generic {name} --namespace {} --from-literal={entry}=BASE64-SECRET",
                    self.namespace
                )));
            }
            Err(kube::Error::Api(status)) if status.code == 403 => {
                return Err(UpdateError::Secret(format!(
                    "the operator may not read {place}; add {name} to publish.tsigSecrets of the chart"
                )));
            }
            Err(error) => {
                tracing::debug!(%error, "reading the TSIG key");
                return Err(UpdateError::Unreachable {
                    server: "the API server".to_owned(),
                    words: format!("does not give {place}"),
                });
            }
        };
        let bytes =
            secret.data.as_mut().and_then(|data| data.remove(entry)).map(|bytes| Zeroizing::new(bytes.0));
        wipe(&mut secret);
        let bytes = bytes.ok_or_else(|| {
            UpdateError::Secret(format!(
                "{place} has no entry {entry}; {}.tsig.secretRef.key of the DkimProvider names the one with the TSIG secret",
                self.zone.kind.server_field()
            ))
        })?;
        Key::new(&self.zone.key_name, self.zone.algorithm, &bytes).map_err(|fault| {
            UpdateError::Secret(match fault {
                KeyFault::Name(_) => {
                    format!("{}.tsig.keyName of the DkimProvider: {fault}", self.zone.kind.server_field())
                }
                KeyFault::Base64 | KeyFault::Empty => format!("{place}, entry {entry}: {fault}"),
            })
        })
    }
}

/// Roughly the bytes of a job's texts.
fn weight(job: &Job) -> usize {
    let of = |change: &Change| {
        let new = change.record.iter().filter_map(|(data, _)| match data {
            Data::Text(text) => Some(text),
            Data::Cname(_) => None,
        });
        let texts = change.before.texts.iter().map(|(text, _)| text).chain(new);
        let length: usize = texts.flat_map(|text| text.txt_data.iter()).map(|part| part.len()).sum();
        length + 300
    };
    job.changes.iter().map(of).sum()
}
