//! What tenant and provider ask for, put through the operator's own acceptance.

use std::collections::BTreeMap;

use dkim_operator::model::acceptance::{self, Order, Tenant};
use dkim_operator::model::key::KeyKind;
use dkim_operator::model::selector::SlotId;
use jiff::Timestamp;
use serde_json::{from_value, json};

use crate::keys;

/// Every span that rotation goes by, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Times {
    /// TTL of our TXT records.
    pub ttl: u32,
    /// TTL of our negative answers.
    pub negative_ttl: u32,
    /// The longest TTL of a tenant's CNAME.
    pub cname_ttl: u32,
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
    /// Every key made up to this moment is in the wrong hands.
    pub compromised_at: Option<Timestamp>,
    /// A second signature is wanted.
    pub second: bool,
    /// Another label stands for the domain, so that the keys' names are others.
    pub moved: u32,
    /// The tenant publishes copies of the keys, not CNAMEs.
    pub copies: bool,
    /// The tenant brings a key for a slot.
    pub brings: Option<SlotId>,
    /// By cron instead of the interval, and within how many seconds of it.
    pub schedule: Option<(&'static str, u32)>,
    /// Which domain it is.
    pub number: u32,
}

impl Default for Wishes {
    fn default() -> Self {
        Self {
            enabled: true,
            paused: false,
            kind: KeyKind::Rsa2048,
            rotate_at: None,
            compromised_at: None,
            second: false,
            moved: 0,
            copies: false,
            brings: None,
            schedule: None,
            number: 0,
        }
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
    let mut domain = json!({
        "domain": format!("contoso{}.com", wishes.number),
        "enabled": wishes.enabled,
        "key": { "algorithm": algorithm },
        "rotation": {
            "interval": seconds(times.interval),
            "jitter": "0s",
            "drain": seconds(times.drain),
            "paused": wishes.paused,
            "rotateAt": wishes.rotate_at,
            "compromisedAt": wishes.compromised_at,
        },
    });
    if wishes.second {
        domain["secondSignature"] = json!({ "selectors": ["ed1", "ed2"] });
    }
    if wishes.moved > 0 {
        domain["guid"] = format!("contoso-elsewhere{}", wishes.moved).into();
    }
    if wishes.copies {
        domain["delegation"] = "TXT".into();
    }
    if let Some((schedule, jitter)) = wishes.schedule {
        domain["rotation"]["schedule"] = schedule.into();
        domain["rotation"]["jitter"] = seconds(jitter).into();
    }
    let labels = BTreeMap::new();
    let tenant = Tenant { namespace: "contoso", uid: "1", labels: &labels };
    let provider = from_value(provider).expect("a valid provider");
    let domain = from_value(domain).expect("a valid domain");
    let mut order = acceptance::accept(&domain, "default", &provider, &tenant).expect("an order");
    if let Some(slot) = wishes.brings {
        let theirs = keys::make(keys::THEIRS, Timestamp::UNIX_EPOCH);
        order.lanes.primary.policy.imports[slot] = Some(theirs.fingerprint);
    }
    // The resolvers here count to the tick: a spare second would hide faults as large.
    for policy in
        std::iter::once(&mut order.lanes.primary).chain(&mut order.lanes.second).map(|l| &mut l.policy)
    {
        policy.rounding = 0;
        policy.cname_ttl = times.cname_ttl;
    }
    order
}
