//! What tenant and provider ask for, put through the operator's own acceptance.

use std::collections::BTreeMap;

use dkim_operator::model::acceptance::{self, Order, Tenant};
use dkim_operator::model::key::KeyKind;
use jiff::Timestamp;
use serde_json::{from_value, json};

/// Every span that rotation goes by, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Times {
    /// TTL of our TXT records.
    pub ttl: u32,
    /// TTL of our negative answers.
    pub negative_ttl: u32,
    /// From one rotation to the next.
    pub interval: u32,
    /// How long a key stays published after its last use: the longest that a message may be under way.
    pub drain: u32,
    /// The longest for which a signer goes on with what it read before.
    pub signer_lag: u32,
    /// How long the CNAMEs may be gone before signing falls back.
    pub grace: u32,
    /// From one look at DNS to the next while something is awaited.
    pub look: u32,
}

/// What a user may edit at any time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Wishes {
    /// Sign as the domain.
    pub enabled: bool,
    /// Begin no rotation.
    pub paused: bool,
    /// The kind of key; RSA-2048 or Ed25519.
    pub kind: KeyKind,
    /// Rotate once at this time.
    pub rotate_at: Option<Timestamp>,
}

impl Default for Wishes {
    fn default() -> Self {
        Self { enabled: true, paused: false, kind: KeyKind::Rsa2048, rotate_at: None }
    }
}

/// The order that the operator makes of it.
#[must_use]
pub fn order(times: &Times, wishes: &Wishes) -> Order {
    let seconds = |n: u32| format!("{n}s");
    let provider = json!({
        "initialDomain": "onmail.example",
        "tenancy": "Trusted",
        "keyPolicy": { "minInterval": "1s", "minDrain": "1s", "signerLag": seconds(times.signer_lag) },
        "publish": { "ttl": times.ttl, "negativeTtl": times.negative_ttl },
        "verification": { "pendingInterval": seconds(times.look), "grace": seconds(times.grace) },
    });
    let algorithm = if wishes.kind == KeyKind::Ed25519 { "Ed25519" } else { "RSA" };
    let domain = json!({
        "domain": "contoso.com",
        "enabled": wishes.enabled,
        "key": { "algorithm": algorithm },
        "rotation": {
            "interval": seconds(times.interval),
            "jitter": "0s",
            "drain": seconds(times.drain),
            "paused": wishes.paused,
            "rotateAt": wishes.rotate_at,
        },
    });
    let labels = BTreeMap::new();
    let tenant = Tenant { namespace: "contoso", uid: "1", labels: &labels };
    let provider = from_value(provider).expect("a valid provider");
    let domain = from_value(domain).expect("a valid domain");
    let mut order = acceptance::accept(&domain, "default", &provider, &tenant).expect("an order");
    // The resolvers here count to the tick: a spare second would hide faults as large.
    order.lanes.primary.policy.rounding = 0;
    order
}
