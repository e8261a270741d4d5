//! Acknowledgement, the signer's half: a Lease says that this signer lives and which keys it uses, so that no key goes
//! while it is in use, and a signer that is stuck is seen.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use crate::api::{
    ANNOTATION_KEYS_IN_USE, HumanDuration, LABEL_MANAGED_BY, LABEL_SIGNER, LONGEST_REPORT, MANAGED_BY,
    SignerReport,
};
use crate::jitter::jitter;
use crate::model::key::KeyFingerprint;

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

/// Arguments of roles that sign.
#[derive(Debug, Clone, clap::Args)]
pub struct AcknowledgeArgs {
    /// Say in a Lease which keys are in use, so that none is taken away that this signer still uses, and that it is seen
    /// where it is stuck. Needs the right to create and patch Leases beside the key Secrets.
    #[arg(long, env = "DKIM_OPERATOR_ACKNOWLEDGE", default_value_t = true, action = clap::ArgAction::Set)]
    pub acknowledge: bool,
    /// With --key-dir: the namespace that the mounted Secrets are from. Nothing is said where left out.
    #[arg(long, env = "DKIM_OPERATOR_ACKNOWLEDGE_NAMESPACE")]
    pub acknowledge_namespace: Option<String>,
    /// How often the Lease is renewed, such as 60s. It lasts three times as long.
    #[arg(long, env = "DKIM_OPERATOR_ACKNOWLEDGE_EVERY", default_value = "60s", value_parser = every)]
    pub acknowledge_every: Duration,
    /// What this signer is called among those of its kind; the host name (that of the pod) where left out.
    #[arg(long, env = "DKIM_OPERATOR_INSTANCE")]
    pub instance: Option<String>,
}

impl AcknowledgeArgs {
    /// Where to report to, if anywhere: the namespace whose Secrets are watched, or from which files are mounted.
    #[must_use]
    pub fn namespace(&self, watched: Option<&str>) -> Option<String> {
        let namespace = watched.map(str::to_owned).or_else(|| self.acknowledge_namespace.clone());
        namespace.filter(|_| self.acknowledge)
    }

    /// A reporter of that kind.
    #[must_use]
    pub fn reporter(&self, client: Client, namespace: String, kind: &str) -> Reporter {
        let instance = self.instance.clone().unwrap_or_else(host_name);
        Reporter {
            leases: Api::namespaced(client, &namespace),
            name: lease_name(kind, &instance),
            kind: kind.to_owned(),
            instance,
            every: self.acknowledge_every,
            hold: None,
            said: watch::channel(Said::default()).0,
        }
    }
}

fn every(text: &str) -> Result<Duration, String> {
    let span = HumanDuration::parse(text)?;
    match Duration::try_from(span.0) {
        Ok(span) if (Duration::from_secs(1)..=Duration::from_secs(1_200)).contains(&span) => Ok(span),
        _ => Err("write a time span from 1s to 20m".to_owned()),
    }
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "unnamed".to_owned() } else { name.trim().to_owned() }
}

/// The name of the Lease: letters, digits, dashes and dots, as Kubernetes has them.
fn lease_name(kind: &str, instance: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c.to_ascii_lowercase() } else { '-' };
    let name: String = format!("dkim-{kind}-{instance}").chars().map(plain).take(200).collect();
    let parts: Vec<&str> =
        name.split('.').map(|part| part.trim_matches('-')).filter(|p| !p.is_empty()).collect();
    parts.join(".")
}

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
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: AcknowledgeArgs,
    }

    fn args(words: &[&str]) -> Result<AcknowledgeArgs, String> {
        Cli::try_parse_from(["signer"].iter().chain(words)).map(|cli| cli.args).map_err(|e| e.to_string())
    }

    #[test]
    fn files_are_told_of_only_where_it_is_said_whence_they_come() {
        let namespace = |words: &[&str], watched| args(words).unwrap().namespace(watched);
        assert_eq!(namespace(&[], Some("mail")).as_deref(), Some("mail"));
        assert_eq!(namespace(&[], None), None);
        assert_eq!(namespace(&["--acknowledge-namespace", "mail"], None).as_deref(), Some("mail"));
        assert_eq!(namespace(&["--acknowledge=false"], Some("mail")), None);
        assert!(args(&["--acknowledge-every", "0s"]).unwrap_err().contains("from 1s to 20m"));
    }

    #[test]
    fn names_are_such_as_kubernetes_takes() {
        assert_eq!(lease_name("milter", "mail-0"), "dkim-milter-mail-0");
        assert_eq!(lease_name("sync-opendkim", "MX_1.contoso.com."), "dkim-sync-opendkim-mx-1.contoso.com");
        assert_eq!(lease_name("milter", "-ü-"), "dkim-milter");
        assert!(lease_name("milter", &"a".repeat(300)).len() <= 200);
    }

    fn reporter() -> Reporter {
        let uri = "http://127.0.0.1:9/".parse().unwrap();
        let client = Client::try_from(kube::Config::new(uri)).unwrap();
        args(&["--instance", "a"]).unwrap().reporter(client, "mail".into(), "milter")
    }

    #[tokio::test]
    async fn a_last_word_is_said_once() {
        let reporter = reporter();
        let (due, words) = (|spoken| reporter.said.borrow().is_due(spoken), || reporter.words());
        reporter.last_word();
        assert!(!due(0), "there is nothing to say yet");
        reporter.reached(Some(7), std::iter::empty(), false);
        assert!(due(0) && due(words()), "again and again");
        reporter.last_word();
        reporter.unknown();
        assert!(due(words() - 1) && !due(words()), "the last one said counts");
        assert_eq!(reporter.said().0.unwrap().version, Some(7), "what is known stays known");
        let spoken = words();
        reporter.last_word();
        assert!(!due(spoken), "else each further change would hold anew, for ever");
        reporter.goes_on();
        assert!(due(words()), "it is seen again, and cannot be told");
        reporter.last_word();
        assert!(due(spoken) && !due(words()));
        reporter.reached(Some(8), std::iter::empty(), false);
        assert!(due(words()));
    }

    #[tokio::test]
    async fn what_may_use_any_key_is_the_last_word_only_where_one_was_asked_for() {
        for last in [false, true] {
            let reporter = reporter().for_another(Duration::from_secs(60));
            if last {
                reporter.last_word();
            }
            reporter.unknown();
            let any = SignerReport { version: Some(0), hold_seconds: Some(60), ..SignerReport::default() };
            assert_eq!(reporter.said(), (Some(any), last));
            let said = reporter.said.borrow();
            assert!(said.is_due(said.words - 1));
            assert_eq!(said.is_due(said.words), !last);
        }
    }

    #[tokio::test]
    async fn says_no_more_than_fits() {
        let reporter = reporter();
        let said = || reporter.said.borrow().report.clone().unwrap();
        let names = |count: usize| (0..count).map(|n| format!("dkim-{n}.com"));
        reporter.reached(Some(6), names(MOST.0 + 1), false);
        assert_eq!(said().version, Some(0), "no report at all would mean one that can be trusted to follow");
        reporter.reached(Some(7), names(MOST.0), false);
        assert_eq!((said().version, said().except.len()), (Some(7), MOST.0));
        reporter.reached(Some(8), names(MOST.0 + 1), false);
        assert_eq!(said().version, Some(7), "it is not true of all the others");
        reporter.last_word();
        reporter.reached(Some(8), names(MOST.0 + 1), false);
        assert!(!reporter.said().1, "what signs was found again, so it is renewed");
        let key = KeyFingerprint::of(b"key");
        reporter.uses(names(MOST.1).map(|domain| (domain, vec![&key])), true);
        assert_eq!(said().keys.len(), MOST.1);
        let text = serde_json::to_string(&said()).unwrap();
        assert!(text.len() < 16_000, "{}", text.len());
        reporter.uses(names(MOST.1 + 1).map(|domain| (domain, vec![&key])), false);
        assert_eq!((said(), reporter.said.borrow().left), (SignerReport::default(), 1));
        let long = |n: usize| (format!("{n}.{}", "a".repeat(200)), vec![&key]);
        let reporter = reporter.for_another(Duration::from_secs(60));
        reporter.uses((0..MOST.1).map(long), false);
        let said = reporter.said.borrow().report.clone().unwrap();
        assert_eq!(said, SignerReport { hold_seconds: Some(60), ..SignerReport::default() });
    }
}
