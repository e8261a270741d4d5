//! What the reports of 1,000 signers cost the controller. One line for each figure:
//! `bench NAME VALUE UNIT ref=REFNAME:REFVALUE ratio=R`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a benchmark fails by panicking")]

use std::time::Instant;

use dkim_operator::api::{ANNOTATION_KEYS_IN_USE, LABEL_SIGNER, SignerReport};
use dkim_operator::model::acknowledgement::{Heard, Roster, Told};
use dkim_operator::model::guid::{Guid, GuidStyle};
use dkim_operator::model::home::Home;
use dkim_operator::model::key::{Algorithm, KeyFingerprint, KeyKind, PublicKey};
use dkim_operator::model::keyring::{KeyInfo, Phase};
use dkim_operator::model::name::{DnsName, DomainName};
use dkim_operator::model::selector::{PerSlot, Selector};
use dkim_operator::model::vault::Vault;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use kube::ResourceExt;
use serde_json::json;

const SIGNERS: usize = 1_000;
/// Domains whose keys are switched at once.
const DOMAINS: usize = 1_000;
/// Renewals a second: each signer renews its Lease every minute.
const RATE: f64 = SIGNERS as f64 / 60.0;
const ROUNDS: usize = 20;
/// Of one processor.
const GOAL: f64 = 1.0;

fn main() {
    let vaults: Vec<Vault> = (0..DOMAINS).map(vault).collect();
    let leases: Vec<Vec<u8>> = (0..SIGNERS).map(lease).collect();
    let mut roster = Roster::default();
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    for lease in &leases {
        renew(&mut roster, lease, 0, now);
    }
    // Every signer is behind, and every domain waits: the worst there is.
    let begin = Instant::now();
    for (number, vault) in vaults.iter().enumerate() {
        let found = roster.look(&who(number), told(vault), now);
        assert_eq!(found.behind.len(), SIGNERS);
    }
    let look = begin.elapsed().as_secs_f64() / DOMAINS as f64;
    bench("ack_look_1000_behind", look * 1e6, "us", "goal", 1_000.0, look * 1e6 / 1_000.0);

    let begin = Instant::now();
    let mut freed = 0;
    for round in 1..=ROUNDS {
        for lease in &leases {
            freed += renew(&mut roster, lease, u64::try_from(round).unwrap(), now);
        }
    }
    assert_eq!(freed, DOMAINS, "each domain is freed once, by the last signer that moves");
    let each = begin.elapsed().as_secs_f64() / (SIGNERS * ROUNDS) as f64;
    let percent = each * RATE * 100.0;
    bench("ack_1000_signers_cpu", percent, "%", "goal", GOAL, percent / GOAL);
    bench("ack_report_size", leases.iter().map(Vec::len).max().unwrap() as f64, "bytes", "goal", 1_024.0, {
        leases.iter().map(Vec::len).max().unwrap() as f64 / 1_024.0
    });
}

fn bench(name: &str, value: f64, unit: &str, reference: &str, goal: f64, ratio: f64) {
    println!("bench {name} {value:.3} {unit} ref={reference}:{goal} ratio={ratio:.3}");
}

fn who(number: usize) -> (String, String) {
    ("tenant".to_owned(), format!("d{number}.example"))
}

/// What the watch brings for each renewal, as JSON: with the fields that the API server adds.
fn lease(number: usize) -> Vec<u8> {
    let says = SignerReport { version: Some(1_000_000), ..SignerReport::default() };
    let name = format!("dkim-milter-mail-7c9f6d5b4-{number:05}");
    let lease = json!({
        "metadata": {
            "name": name, "namespace": "mail", "uid": "6f2e0b5e-3a55-4c0e-9d43-0b1de5f0a001",
            "resourceVersion": "1000000", "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": { "app.kubernetes.io/managed-by": "dkim-operator", LABEL_SIGNER: "milter" },
            "annotations": { ANNOTATION_KEYS_IN_USE: serde_json::to_string(&says).unwrap() },
            "managedFields": [{
                "manager": "dkim-operator-signer", "operation": "Apply", "apiVersion": "coordination.k8s.io/v1",
                "time": "2026-01-01T00:00:00Z", "fieldsType": "FieldsV1",
                "fieldsV1": {
                    "f:metadata": {
                        "f:annotations": { "f:dkim-operator.io/keys-in-use": {} },
                        "f:labels": { "f:app.kubernetes.io/managed-by": {}, "f:dkim-operator.io/signer": {} },
                    },
                    "f:spec": { "f:holderIdentity": {}, "f:leaseDurationSeconds": {}, "f:renewTime": {} },
                },
            }],
        },
        "spec": {
            "holderIdentity": format!("mail-7c9f6d5b4-{number:05}"), "leaseDurationSeconds": 180,
            "renewTime": "2026-01-01T00:00:00.000000Z",
        },
    });
    serde_json::to_vec(&lease).unwrap()
}

/// Reads a Lease and hears it; how many domains wait no more.
fn renew(roster: &mut Roster, raw: &[u8], round: u64, now: Timestamp) -> usize {
    let lease: Lease = serde_json::from_slice(raw).unwrap();
    let mut says = SignerReport::of(&lease).unwrap();
    says.version = says.version.map(|version| version + round);
    let heard = Heard {
        version: round.to_string(),
        says,
        renewed: lease.spec.as_ref().and_then(|s| s.renew_time.as_ref()).unwrap().0,
        lasts: SignedDuration::from_secs(180),
        listed: false,
    };
    roster.hear(&lease.namespace().unwrap(), &lease.name_any(), heard, now).len()
}

fn told(vault: &Vault) -> Told<'_> {
    let lag = SignedDuration::from_secs(300);
    Told { namespace: "mail", secret: "dkim-secret", version: Some(1_000_001), vault, lag }
}

/// One key drains, the other signs.
fn vault(number: usize) -> Vault {
    let at = Timestamp::from_second(1_790_000_000).unwrap();
    let domain = DomainName::parse(&format!("d{number}.example")).unwrap();
    let selectors = PerSlot(["selector1", "selector2"].map(|s| Selector::parse(s).unwrap()));
    let home = Home {
        provider: "default".into(),
        guid: Guid::derive(&domain, &GuidStyle::Readable, selectors.0.each_ref()),
        initial_domain: DnsName::new("contoso.onmail.example").unwrap(),
        zone: serde_json::from_value(
            json!({ "apex": "onmail.example", "nameServers": [], "negativeTtl": 60 }),
        )
        .unwrap(),
        ttl: 60,
    };
    let mut vault = Vault::new(domain, home, selectors, at);
    let key = |serial: u64| KeyInfo {
        serial,
        kind: KeyKind::Ed25519,
        public: PublicKey { algorithm: Algorithm::Ed25519, p: format!("{serial:044}") },
        fingerprint: KeyFingerprint::of(&serial.to_be_bytes()),
        created: at,
        imported: false,
    };
    let [one, two] = &mut vault.rings.primary.slots.0;
    let until = Timestamp::from_second(1_801_000_000).unwrap();
    one.phase = Phase::Draining { key: key(1), since: at, until, held: false };
    two.phase = Phase::Active { key: key(2), seen: at, since: at };
    vault
}
