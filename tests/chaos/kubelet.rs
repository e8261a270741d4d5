//! Brings Secrets into signers' directories as kubelet does: late, but never later than `signerLag`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dkim_operator::api::{LABEL_DOMAIN, LABEL_MANAGED_BY, MANAGED_BY};
use dkim_testbed::Mount;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::sleep_until;

use crate::Fallible;
use crate::common::random::Random;
use crate::ledger::Ledger;
use crate::stage::SIGNER_LAG;

/// How often to look.
const EVERY: Duration = Duration::from_millis(100);
/// What is left of the lag for the way from the look to the signature.
const MARGIN: Duration = Duration::from_millis(500);

/// All mounts of a node.
pub struct Kubelet {
    secrets: Api<Secret>,
    directory: PathBuf,
    random: Random,
    mounts: BTreeMap<String, Mounted>,
    seen: Arc<Seen>,
}

/// What others may know of it.
#[derive(Default)]
pub struct Seen {
    pub ledger: Mutex<Ledger>,
    good_until: Mutex<BTreeMap<String, Instant>>,
}

impl Seen {
    /// For how long a signer may go on with what is shown.
    pub fn good_until(&self, domain: &str) -> Option<Instant> {
        self.good_until.lock().get(domain).copied()
    }
}

struct Mounted {
    mount: Mount,
    version: String,
    /// The last moment at which what is shown was surely what the API server had.
    current: Instant,
    next: Option<Next>,
}

/// A version that is on its way into the mount.
struct Next {
    version: String,
    data: BTreeMap<String, ByteString>,
    current: Instant,
    due: Instant,
}

impl Kubelet {
    pub fn new(secrets: Api<Secret>, directory: &Path, seed: u64) -> Self {
        Self {
            secrets,
            directory: directory.to_owned(),
            random: Random::new(seed ^ 0x6b75_6265),
            mounts: BTreeMap::new(),
            seen: Arc::default(),
        }
    }

    pub fn seen(&self) -> Arc<Seen> {
        self.seen.clone()
    }

    /// Looks until it is told to stop, and once more then.
    pub async fn work(mut self, mut stopped: watch::Receiver<bool>) -> Fallible {
        while !*stopped.borrow_and_update() {
            let next = Instant::now() + EVERY;
            self.look().await?;
            sleep_until(next.into()).await;
        }
        self.look().await
    }

    /// Looks, if the API server answers; shows what is due.
    async fn look(&mut self) -> Fallible {
        let params = ListParams::default().labels(&format!("{LABEL_MANAGED_BY}={MANAGED_BY}"));
        // Read from etcd itself: the answer is of this moment or a later one.
        let began = Instant::now();
        let answer = tokio::time::timeout(Duration::from_secs(2), self.secrets.list(&params)).await;
        if let Ok(Ok(list)) = answer {
            for secret in list {
                self.seen.ledger.lock().note(&secret);
                self.take(secret, began)?;
            }
        }
        for mounted in self.mounts.values_mut() {
            mounted.show_if_due()?;
        }
        let good = |(domain, mounted): (&String, &Mounted)| {
            (domain.clone(), mounted.current + SIGNER_LAG - MARGIN / 2)
        };
        *self.seen.good_until.lock() = self.mounts.iter().map(good).collect();
        Ok(())
    }

    fn take(&mut self, secret: Secret, now: Instant) -> Fallible {
        let domain = secret.labels().get(LABEL_DOMAIN).cloned().unwrap_or_default();
        let version = secret.resource_version().unwrap_or_default();
        let data = secret.data.unwrap_or_default();
        let Some(mounted) = self.mounts.get_mut(&domain) else {
            let mut mount = Mount::new(self.directory.join(&domain));
            mount.show(files(&data))?;
            self.mounts.insert(domain, Mounted { mount, version, current: now, next: None });
            return Ok(());
        };
        if mounted.version == version {
            mounted.current = now;
        } else if let Some(next) = mounted.next.as_mut().filter(|next| next.version == version) {
            next.current = now;
        } else {
            let left = (mounted.current + SIGNER_LAG - MARGIN).saturating_duration_since(now);
            let most = u64::try_from(left.as_millis())?;
            // At once, as late as can be, or at any time between.
            let lag = match self.random.below(3) {
                0 => 0,
                1 => most,
                _ => self.random.below(most + 1),
            };
            let due = now + Duration::from_millis(lag);
            mounted.next = Some(Next { version, data, current: now, due });
        }
        Ok(())
    }
}

impl Mounted {
    fn show_if_due(&mut self) -> Fallible {
        let Some(next) = self.next.take_if(|next| next.due <= Instant::now()) else { return Ok(()) };
        self.mount.show(files(&next.data))?;
        (self.version, self.current) = (next.version, next.current);
        Ok(())
    }
}

fn files(data: &BTreeMap<String, ByteString>) -> impl Iterator<Item = (&String, &[u8])> {
    data.iter().map(|(name, bytes)| (name, bytes.0.as_slice()))
}
