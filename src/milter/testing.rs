//! What the tests of this room share.

#[path = "../../tests/common/mta.rs"]
pub mod mta;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::{Counters, Keys, Policy, Shared};
use crate::signing::{KeyStore, Verdict, Verifier};

pub type Records = Vec<(String, String)>;

const LONG: Duration = Duration::from_secs(3600);

/// The policy by default.
pub fn policy() -> Policy {
    Policy {
        trusted: ["127.0.0.0/8", "::1/128"].map(|net| net.parse().unwrap()).to_vec(),
        authenticated: true,
        macros: vec!["daemon_name=ORIGINATING".parse().unwrap()],
        ..Policy::default()
    }
}

pub fn shared(store: Option<KeyStore>, policy: Policy) -> Arc<Shared> {
    let counters = Counters::default();
    let keys = Keys::new(LONG, LONG, counters.clone(), watch::channel(false).0);
    if let Some(store) = store {
        keys.exchange(store);
    }
    Arc::new(Shared { policy, keys: Arc::new(keys), counters, now: jiff::Timestamp::now })
}

/// What a receiver says of each signature.
pub fn verdicts(records: &Records, message: &str) -> Vec<Verdict> {
    let verifier = Verifier::offline(records.iter().map(|(n, t)| (n.as_str(), t.as_str()))).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let report = runtime.block_on(verifier.verify(message.as_bytes()));
    report.signatures.iter().map(|s| s.verdict).collect()
}

/// The value of a metric.
pub fn metric(counters: &Counters, line: &str) -> u64 {
    let mut registry = prometheus_client::registry::Registry::default();
    counters.register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    let value = text.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(' ')?.parse().ok());
    value.unwrap_or_else(|| panic!("{line} is not in:\n{text}"))
}
