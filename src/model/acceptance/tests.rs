use std::collections::BTreeMap;

use jiff::SignedDuration;

use super::*;
use crate::api::{GuidPolicy, HumanDuration, Tenancy};
use crate::model::lanes::LaneId;

#[test]
fn an_identity_of_another_domain_is_refused() {
    let spec = domain(serde_json::json!({ "signature": { "identity": "@other.example" } }));
    let fault = accepted(&spec, &provider()).unwrap_err();
    assert!(fault.message.starts_with("spec.signature.identity: other.example is neither"), "{fault}");
}

fn provider() -> DkimProviderSpec {
    serde_json::from_value(serde_json::json!({ "initialDomain": "{namespace}.onmail.example" })).unwrap()
}

fn domain(extra: serde_json::Value) -> DkimDomainSpec {
    let mut spec = serde_json::json!({ "domain": "contoso.com" });
    for (key, value) in extra.as_object().unwrap() {
        spec[key] = value.clone();
    }
    serde_json::from_value(spec).unwrap()
}

fn accepted(spec: &DkimDomainSpec, provider: &DkimProviderSpec) -> Result<Order, Refusal> {
    let labels = BTreeMap::new();
    accept(spec, "default", provider, &Tenant { namespace: "contoso", uid: "u", labels: &labels })
}

#[test]
fn the_records_are_exactly_those_of_the_product() {
    let order = accepted(&domain(serde_json::json!({})), &provider()).unwrap();
    let question = order.question(LaneId::Primary, &order.lanes.primary.targets).unwrap();
    let [one, two] = &question.slots.0;
    assert_eq!(one.alias.as_str(), "selector1._domainkey.contoso.com");
    assert_eq!(one.target.as_str(), "selector1-contoso-com._domainkey.contoso.onmail.example");
    assert_eq!(two.target.as_str(), "selector2-contoso-com._domainkey.contoso.onmail.example");
    assert_eq!(order.home.zone.apex, "_domainkey.contoso.onmail.example");
    assert_eq!(
        (order.secret_namespace.as_str(), order.secret_name.as_str()),
        ("contoso", "dkim-contoso.com")
    );
}

/// With one server of many that is dead a look takes seconds, and in line behind others a minute.
#[test]
fn a_look_is_fresh_when_it_ends() {
    for (pause, least) in [(1, 61), (15, 75), (300, 600)] {
        let mut provider = provider();
        provider.verification.pending_interval = HumanDuration(SignedDuration::from_secs(pause));
        let policy = accepted(&domain(serde_json::json!({})), &provider).unwrap().lanes.primary.policy;
        assert_eq!(policy.freshness, SignedDuration::from_secs(least), "{pause}");
    }
}

#[test]
fn a_shared_provider_must_tell_tenants_apart() {
    let mut shared = provider();
    shared.initial_domain = "onmail.example".into();
    assert_eq!(check_provider(&shared).unwrap_err().reason, Reason::ProviderInvalid);
    for change in [
        |p: &mut DkimProviderSpec| p.tenancy = Tenancy::Trusted,
        |p: &mut DkimProviderSpec| p.guid_policy = GuidPolicy::Salted,
        |p: &mut DkimProviderSpec| p.guid_policy = GuidPolicy::Opaque,
        |p: &mut DkimProviderSpec| p.allowed_namespaces.names = vec!["one".into()],
    ] {
        let mut provider = shared.clone();
        change(&mut provider);
        check_provider(&provider).unwrap();
    }
}

#[test]
fn refusals_name_field_fault_and_remedy() {
    let cases = [
        (serde_json::json!({ "domain": "contoso" }), "single label"),
        (serde_json::json!({ "selectors": ["a", "a"] }), "must differ"),
        (serde_json::json!({ "key": { "size": 1024 } }), "keyPolicy.allowRsa1024"),
        (serde_json::json!({ "key": { "size": 1000 } }), "none of 1024"),
        (serde_json::json!({ "rotation": { "interval": "1h" } }), "shorter than the 24h"),
        (serde_json::json!({ "rotation": { "drain": "1h" } }), "spec.rotation.drain"),
        (serde_json::json!({ "rotation": { "schedule": "daily" } }), "no cron schedule"),
        (serde_json::json!({ "rotation": { "schedule": "0 * * * *" } }), "1h is shorter than the 24h"),
        (serde_json::json!({ "guid": "-x" }), "no usable GUID"),
    ];
    for (extra, words) in cases {
        let message = accepted(&domain(extra), &provider()).unwrap_err().message;
        assert!(message.contains(words) && message.starts_with("spec."), "{message}");
    }
}

#[test]
fn a_chosen_guid_is_refused_where_it_is_all_that_tells_tenants_apart() {
    let mut salted = provider();
    salted.initial_domain = "onmail.example".into();
    salted.guid_policy = GuidPolicy::Salted;
    let spec = domain(serde_json::json!({ "guid": "fabrikam-com" }));
    assert_eq!(accepted(&spec, &salted).unwrap_err().reason, Reason::PolicyViolation);
    assert!(accepted(&spec, &provider()).is_ok());
}
