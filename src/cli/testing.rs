//! Domains as the operator leaves them, for tests.

use std::sync::LazyLock;

use getrandom::SysRng;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use serde_json::{Value, json};

use crate::api::signing_config::SigningConfig;
use crate::api::{DkimDomain, LABEL_MANAGED_BY, MANAGED_BY};
use crate::model::key::{KeyFingerprint, KeyKind, PrivateKey};
use crate::model::keyring::{KeyInfo, Phase};
use crate::model::testing;

/// What a terminal without colours shows.
pub fn seen(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

/// The present.
pub fn now() -> Timestamp {
    "2026-05-09T12:00:00Z".parse().unwrap()
}

fn object(namespace: &str, name: &str, spec: &Value, status: Option<&Value>) -> DkimDomain {
    let mut object = json!({
        "apiVersion": "dkim-operator.io/v1alpha1", "kind": "DkimDomain",
        "metadata": { "namespace": namespace, "name": name, "generation": 2 },
        "spec": spec,
    });
    if let Some(status) = status {
        object["status"] = status.clone();
    }
    serde_json::from_value(object).unwrap()
}

/// A domain that was just applied.
pub fn bare(namespace: &str, name: &str, domain: &str) -> DkimDomain {
    object(namespace, name, &json!({ "domain": domain }), None)
}

fn condition(type_: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({ "type": type_, "status": status, "reason": reason, "message": message,
            "observedGeneration": 2, "lastTransitionTime": "2026-05-01T08:00:00Z" })
}

fn record(domain: &str, guid: &str, selector: &str, state: &str, diagnosis: &str) -> Value {
    json!({ "name": format!("{selector}._domainkey.{domain}"), "host": format!("{selector}._domainkey"),
            "type": "CNAME", "value": format!("{selector}-{guid}._domainkey.contoso.onmail.example"),
            "ttl": 3600, "state": state, "diagnosis": diagnosis })
}

/// The fingerprint of a key that is made of these bytes.
pub fn fingerprint(key: &str) -> String {
    KeyFingerprint::of(key.as_bytes()).to_string()
}

/// A domain that signs, its former key draining.
pub fn contoso() -> DkimDomain {
    let fine = "ns1.contoso.com (192.0.2.1) has the CNAME as it should be.";
    let status = json!({
        "observedGeneration": 2,
        "conditions": [
            condition("Ready", "True", "SigningAsDomain", "mail is signed as contoso.com"),
            condition("Accepted", "True", "Accepted", "the spec is in order"),
            condition("KeysGenerated", "True", "KeysReady", "both slots hold a key"),
            condition("CnamesVerified", "True", "CnamesSeen", "both CNAMEs are in DNS"),
            condition("Enabled", "True", "SigningAsDomain", "mail is signed as contoso.com"),
            condition("Rotating", "True", "Draining", "the key before drains until 2026-05-12 08:00:00 UTC"),
            condition("RotationBlocked", "False", "Idle", "nothing to rotate now"),
        ],
        "records": [
            record("contoso.com", "contoso-com", "selector1", "Verified", fine),
            record("contoso.com", "contoso-com", "selector2", "Verified", fine),
        ],
        "signing": { "selector": "selector2", "domain": "contoso.com",
                     "fingerprint": fingerprint("b2"), "since": "2026-05-08T08:00:00Z" },
        "keys": [
            { "selector": "selector1", "phase": "Draining", "fingerprint": fingerprint("a1"), "algorithm": "RSA",
              "size": 2048, "created": "2025-11-01T08:00:00Z", "drainsUntil": "2026-05-12T08:00:00Z" },
            { "selector": "selector2", "phase": "Active", "fingerprint": fingerprint("b2"), "algorithm": "Ed25519",
              "size": 256, "created": "2025-11-02T08:00:00Z", "published": "2025-11-02T08:05:00Z" },
        ],
        "rotation": { "count": 3, "last": "2026-05-08T08:00:00Z", "next": "2026-11-04T08:00:00Z", "phase": "Draining" },
        "secretRef": { "namespace": "mail", "name": "dkim-contoso.com" },
    });
    object("mail", "contoso", &json!({ "domain": "contoso.com" }), Some(&status))
}

/// A domain whose second CNAME is missing, with a rotation that waits for it.
pub fn blocked() -> DkimDomain {
    let missing = "ns1.example (192.0.2.9) says that selector2._domainkey.xn--bcher-kva.example is not there; publish the CNAME.";
    let guid = "xn----bcher--kva-example";
    let domain = "xn--bcher-kva.example";
    let status = json!({
        "observedGeneration": 1,
        "conditions": [
            condition("Ready", "False", "CnamesMissing", missing),
            condition("Reconciling", "True", "CnamesMissing", missing),
            condition("CnamesVerified", "False", "CnamesMissing", missing),
            condition("Enabled", "False", "CnamesMissing", missing),
            condition("RotationBlocked", "True", "CnameMissing", "the CNAME selector2 is not there"),
        ],
        "records": [
            record(domain, guid, "selector1", "Missing", missing),
            record(domain, guid, "selector2", "Timeout", "192.0.2.9 did not answer in time."),
        ],
        "signing": { "selector": format!("selector1-{guid}"), "domain": "contoso.onmail.example",
                     "fingerprint": fingerprint("c3"), "since": "2026-05-09T11:58:30Z" },
        "keys": [
            { "selector": "selector1", "phase": "Active", "fingerprint": fingerprint("c3"), "algorithm": "RSA",
              "size": 2048, "created": "2026-05-09T11:58:00Z", "published": "2026-05-09T11:58:30Z" },
            { "selector": "selector2", "phase": "Empty" },
        ],
        "rotation": { "count": 1, "last": "2026-05-09T11:58:30Z", "next": "2026-05-09T11:59:00Z", "phase": "Due",
                      "waitingFor": "the CNAME selector2._domainkey.xn--bcher-kva.example is not there" },
    });
    let spec = json!({ "domain": "Bücher.example", "providerRef": { "name": "books" }, "rotation": { "paused": true } });
    object("art", "books", &spec, Some(&status))
}

/// A domain that signs twice.
pub fn twice_signed() -> DkimDomain {
    let mut object = contoso();
    object.spec.second_signature = serde_json::from_value(json!({ "selectors": ["ed1", "ed2"] })).unwrap();
    let status = object.status.as_mut().unwrap();
    for (selector, phase, key) in [("ed1", "Published", "e1"), ("ed2", "Active", "e2")] {
        let record = record("contoso.com", "contoso-com", selector, "Verified", "The CNAME is there.");
        status.records.push(serde_json::from_value(record).unwrap());
        status.keys.push(
            serde_json::from_value(json!({
                "selector": selector, "phase": phase, "fingerprint": fingerprint(key), "algorithm": "Ed25519",
                "size": 256, "created": "2025-11-02T08:00:00Z", "published": "2025-11-02T08:05:00Z",
            }))
            .unwrap(),
        );
    }
    let second = json!({ "selector": "ed2", "fingerprint": fingerprint("e2") });
    status.signing.as_mut().unwrap().second = Some(serde_json::from_value(second).unwrap());
    object
}

/// A domain whose tenant publishes the keys itself; the next one is not there yet.
pub fn published_as_txt() -> DkimDomain {
    let record = |selector: &str, key: &str, state: &str, diagnosis: &str| {
        let p = data_encoding::BASE64.encode(key.as_bytes());
        json!({ "name": format!("{selector}._domainkey.contoso.com"), "host": format!("{selector}._domainkey"),
                "type": "TXT", "value": format!("v=DKIM1; k=rsa; p={p}"), "ttl": 300,
                "state": state, "diagnosis": diagnosis })
    };
    let status = json!({
        "observedGeneration": 2,
        "conditions": [
            condition("Ready", "True", "SigningAsDomain", "mail is signed as contoso.com"),
            condition("RotationBlocked", "True", "CnameMissing", "the record selector2 is not there"),
        ],
        "records": [
            record("selector1", "c3", "Verified", "The key is at selector1._domainkey.contoso.com."),
            record("selector2", "d4", "Missing", "This key is not at selector2._domainkey.contoso.com."),
        ],
        "signing": { "selector": "selector1", "domain": "contoso.com",
                     "fingerprint": fingerprint("c3"), "since": "2026-05-08T08:00:00Z" },
        "keys": [
            { "selector": "selector1", "phase": "Active", "fingerprint": fingerprint("c3"), "algorithm": "RSA",
              "size": 2048, "created": "2026-01-01T08:00:00Z", "published": "2026-01-01T09:00:00Z" },
            { "selector": "selector2", "phase": "Generated", "fingerprint": fingerprint("d4"), "algorithm": "RSA",
              "size": 2048, "created": "2026-05-09T08:00:00Z" },
        ],
        "rotation": { "count": 1, "last": "2026-05-08T08:00:00Z", "next": "2026-11-04T08:00:00Z", "phase": "Preparing" },
        "secretRef": { "namespace": "mail", "name": "dkim-contoso.com" },
    });
    object("mail", "contoso", &json!({ "domain": "contoso.com", "delegation": "TXT" }), Some(&status))
}

/// A key, which Ed25519 makes at once.
pub fn new_key() -> PrivateKey {
    PrivateKey::generate(KeyKind::Ed25519, &mut SysRng).unwrap()
}

/// The key Secret of [`contoso`], always with the same keys: selector1 signs, selector2 drains.
pub fn key_secret() -> Secret {
    static SECRET: LazyLock<Secret> = LazyLock::new(make_key_secret);
    SECRET.clone()
}

fn make_key_secret() -> Secret {
    let made: Timestamp = "2026-01-01T08:00:00Z".parse().unwrap();
    let (active, before) = (new_key(), new_key());
    let info = |key: &PrivateKey, serial| {
        let public = key.public().unwrap();
        let fingerprint = public.fingerprint().unwrap();
        KeyInfo { serial, kind: KeyKind::Ed25519, public, fingerprint, created: made, imported: false }
    };
    let mut vault = testing::vault(testing::home("contoso.onmail.example"), made);
    vault.rings.primary.last_serial = 4;
    let [one, two] = &mut vault.rings.primary.slots.0;
    one.phase = Phase::Active { key: info(&active, 4), seen: made, since: made };
    let until = "2026-05-12T08:00:00Z".parse().unwrap();
    two.phase = Phase::Draining { key: info(&before, 3), since: made, until, held: false };
    let signing = SigningConfig::of(&vault, &contoso().spec.signature);
    let files = [
        ("state.json", serde_json::to_string_pretty(&vault).unwrap()),
        ("signing.json", serde_json::to_string_pretty(&signing).unwrap()),
        ("selector1.pem", active.expose_pem().to_owned()),
        ("selector2.pem", before.expose_pem().to_owned()),
    ];
    let data = files.map(|(name, text)| (name.to_owned(), ByteString(text.into_bytes())));
    let mut secret = Secret { data: Some(data.into()), ..Secret::default() };
    secret.labels_mut().insert(LABEL_MANAGED_BY.into(), MANAGED_BY.into());
    secret
}
