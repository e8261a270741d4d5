//! Acknowledgement, the signer's half: a Lease says that this signer lives and which keys it uses, so that no key goes
//! while it is in use, and a signer that is stuck is seen.

mod args;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use crate::api::{
    ANNOTATION_KEYS_IN_USE, LABEL_MANAGED_BY, LABEL_SIGNER, LONGEST_REPORT, MANAGED_BY, SignerReport,
};
use crate::jitter::jitter;
use crate::model::key::KeyFingerprint;

pub use args::AcknowledgeArgs;

/// The field manager of a signer's Lease.
const FIELD_MANAGER: &str = "dkim-operator-signer";
/// Most Secrets that are named as exceptions, and most domains whose keys are named.
const MOST: (usize, usize) = (64, 256);
/// A Lease lasts for so many renewals.
const RENEWALS: u32 = 3;
/// When a key was left, that is said within this time: each signer at a moment of its own.
const SOON: Duration = Duration::from_secs(1);
/// But not more often than this.
const CALM: Duration = Duration::from_secs(5);
/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
struct Said {
    report: Option<SignerReport>,
    /// How often a key was left that was in use.
    left: u64,
    /// How often there was something to say.
    words: u64,
    /// It is said once, and then nothing until more is known.
    last: bool,
}

impl Said {
    /// What is to be said by one who has said so much already.
    fn is_due(&self, spoken: u64) -> bool {
        self.report.is_some() && (!self.last || self.words != spoken)
    }
}

/// Says which keys are in use.
#[derive(Debug, Clone)]
pub struct Reporter {
    leases: Api<Lease>,
    name: String,
    kind: String,
    instance: String,
    every: Duration,
    /// For how long what signs may go on without this.
    hold: Option<Duration>,
    said: watch::Sender<Said>,
}

impl Reporter {
    /// It reports for another program, which goes on signing when this falls silent or ends: keys that it uses are held for
    /// so long after that.
    #[must_use]
    pub fn for_another(self, hold: Duration) -> Self {
        Self { hold: Some(hold), ..self }
    }

    /// Every change of key Secrets up to this version is in use, but for those Secrets whose earlier version still is.
    /// `left`: a key that was in use is in use no more.
    pub fn reached(&self, version: Option<u64>, except: impl Iterator<Item = String>, left: bool) {
        let except: Vec<String> = except.take(MOST.0 + 1).collect();
        if except.len() <= MOST.0 {
            self.say(SignerReport { version, except, ..SignerReport::default() }, left);
        } else {
            // More than can be named: what was said before stays true of them all, and is said on.
            self.goes_on();
            self.unknown();
        }
    }

    /// These are the keys in use, domain by domain.
    pub fn uses<'a>(&self, keys: impl Iterator<Item = (String, Vec<&'a KeyFingerprint>)>, left: bool) {
        let names = |(domain, keys): (String, Vec<&KeyFingerprint>)| {
            (domain, keys.into_iter().map(SignerReport::name_of).collect())
        };
        let mut report =
            SignerReport { keys: keys.take(MOST.1 + 1).map(names).collect(), ..SignerReport::default() };
        if report.keys.len() > MOST.1 {
            report.keys.clear();
        }
        self.say(report, left);
    }

    /// Whether what signs has followed is not known any more: what was said before is repeated once, and then runs out as if
    /// this had fallen silent. Said again, that changes nothing: what it holds, it holds from the first time on.
    pub fn last_word(&self) {
        self.said.send_if_modified(|said| {
            let first = !said.last;
            said.last = true;
            said.words += u64::from(first);
            first
        });
    }

    /// What signs goes on with what was said before: that is repeated from now on, last word or not.
    pub fn goes_on(&self) {
        self.said.send_if_modified(|said| std::mem::take(&mut said.last));
    }

    /// Where nothing was said yet: what signs may use any key. That is the last word where the last word was asked for.
    pub fn unknown(&self) {
        let report = self.held(SignerReport { version: Some(0), ..SignerReport::default() });
        self.said.send_if_modified(|said| {
            let first = said.report.is_none();
            if first {
                said.report = Some(report);
                said.words += 1;
            }
            first
        });
    }

    /// What is said, and whether it is the last word.
    #[cfg(test)]
    pub fn said(&self) -> (Option<SignerReport>, bool) {
        let said = self.said.borrow();
        (said.report.clone(), said.last)
    }

    /// How often there was something to say.
    #[cfg(test)]
    pub fn words(&self) -> u64 {
        self.said.borrow().words
    }

    /// With how long it holds.
    fn held(&self, report: SignerReport) -> SignerReport {
        let seconds = |hold: Duration| u32::try_from(hold.as_secs()).unwrap_or(u32::MAX);
        SignerReport { hold_seconds: self.hold.map(seconds), ..report }
    }

    fn say(&self, report: SignerReport, left: bool) {
        let mut report = self.held(report);
        // Names of domains may be long.
        if serde_json::to_string(&report).is_ok_and(|text| text.len() > LONGEST_REPORT) {
            report.keys.clear();
        }
        self.said.send_modify(|said| {
            said.report = Some(report);
            said.left += u64::from(left);
            said.words += 1;
            said.last = false;
        });
    }

    /// Renews the Lease for ever, from the first time on that there is something to say, but for last words.
    pub async fn run(&self) {
        let mut said = self.said.subscribe();
        let mut complaint = String::new();
        let mut spoken = 0;
        loop {
            let due = said.wait_for(|said| said.is_due(spoken)).await;
            let due = due.map(|said| (said.report.clone().unwrap_or_default(), said.left, said.words)).ok();
            // The sender lives as long as this does.
            let Some((report, left, words)) = due else { return std::future::pending().await };
            let result = self.write(Some(&report)).await;
            let now = Instant::now();
            match &result {
                Ok(()) => {
                    complaint.clear();
                    spoken = words;
                }
                Err(error) if *error != complaint => {
                    tracing::warn!(
                        "the Lease {} cannot be renewed, so nobody waits for this signer: {error}",
                        self.name
                    );
                    complaint.clone_from(error);
                }
                Err(_) => {}
            }
            let pause = if result.is_ok() { self.every } else { self.every.min(4 * CALM) };
            let next = now + pause.mul_f64(0.75 + jitter() / 2.0);
            tokio::select! {
                () = sleep_until(next) => {}
                () = news(&mut said, left), if result.is_ok() => {
                    sleep_until((now + CALM.min(self.every)).max(Instant::now() + SOON.mul_f64(jitter())).min(next)).await;
                }
            }
        }
    }

    /// This has ended. The signer says good-bye; where another program goes on signing, the last word stays.
    pub async fn end(&self, signing_goes_on: bool) {
        let last = self.said.borrow().report.clone();
        let Some(last) = last else { return };
        if let Err(error) = self.write(Some(&last).filter(|_| signing_goes_on)).await {
            tracing::debug!("the Lease {} could not be written for the last time: {error}", self.name);
        }
    }

    async fn write(&self, report: Option<&SignerReport>) -> Result<(), String> {
        let seconds = (self.every * RENEWALS).as_secs_f64().ceil();
        let annotations = report.map(|report| match serde_json::to_string(report) {
            Ok(text) => json!({ ANNOTATION_KEYS_IN_USE: text }),
            Err(_) => json!({}),
        });
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {
                "name": self.name,
                "labels": { LABEL_MANAGED_BY: MANAGED_BY, LABEL_SIGNER: self.kind },
                "annotations": annotations.unwrap_or_default(),
            },
            "spec": {
                // Nobody holds it any more.
                "holderIdentity": report.map(|_| &self.instance),
                "leaseDurationSeconds": report.map_or(1.0, |_| seconds),
                "renewTime": Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string(),
            },
        });
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let patch = Patch::Apply(&lease);
        match timeout(PATIENCE, self.leases.patch(&self.name, &params, &patch)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(kube::Error::Api(status))) => Err(status.message),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {PATIENCE:?}")),
        }
    }
}

/// As [`Reporter::run`], where there is a reporter; never ends.
pub async fn report(reporter: Option<&Reporter>) {
    match reporter {
        Some(reporter) => reporter.run().await,
        None => std::future::pending().await,
    }
}

/// Waits until a key was left since.
async fn news(said: &mut watch::Receiver<Said>, known: u64) {
    if said.wait_for(|said| said.left != known).await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests;
