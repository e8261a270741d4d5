//! Wrong manifests through kubectl: each is refused, or reported in status, with field, fault and remedy.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{Outcome, condition, world};
use dkim_operator::api::ConditionType;
use serde_json::{Value, json};

/// What kubectl says, without what differs from run to run.
fn plain(text: &str, namespace: &str) -> String {
    text.replace(namespace, "NAMESPACE").trim().to_owned()
}

#[tokio::test]
async fn refused_by_the_api_server() -> Outcome {
    let world = world().await;
    let namespace = world.plane.namespace().await?;
    let domain = |extra: Value| world.domain(&namespace, "bad.example", extra);
    let publish = |extra: Value| world.provider("bad", json!({ "publish": extra }));
    let looks = |extra: Value| world.provider("bad", json!({ "verification": extra }));
    let hosted = |extra: Value| {
        let mut manifest = world.provider(
            "bad",
            json!({ "customerDns": { "method": "RFC2136", "zones": [
            { "name": "contoso.com", "namespaces": ["contoso"] }] } }),
        );
        let customer_dns = manifest["spec"]["customerDns"].as_object_mut().unwrap();
        customer_dns.extend(extra.as_object().unwrap().clone());
        manifest
    };
    let updates = |server: &str, key: &str| json!({ "server": server, "tsig": { "keyName": key, "secretRef": { "name": "tsig" } } });
    let cases = [
        ("no dot in the domain", domain(json!({ "domain": "contoso" }))),
        ("a URL for a domain", domain(json!({ "domain": "https://contoso.com" }))),
        ("an address for a domain", domain(json!({ "domain": "user@contoso.com" }))),
        ("a key size that does not exist", domain(json!({ "key": { "size": 2000 } }))),
        ("a size for Ed25519", domain(json!({ "key": { "algorithm": "Ed25519", "size": 2048 } }))),
        ("an unknown algorithm", domain(json!({ "key": { "algorithm": "DSA" } }))),
        ("the same selector twice", domain(json!({ "selectors": ["s1", "s1"] }))),
        ("one selector", domain(json!({ "selectors": ["s1"] }))),
        ("a selector with a dot", domain(json!({ "selectors": ["a.b", "c"] }))),
        ("days in a duration", domain(json!({ "rotation": { "drain": "4d" } }))),
        ("a rotation without pause", domain(json!({ "rotation": { "interval": "0s" } }))),
        ("a duration beyond all bounds", domain(json!({ "rotation": { "interval": "9999999h" } }))),
        ("an expiry of minutes", domain(json!({ "signature": { "expiration": "10m" } }))),
        ("an identity without a domain", domain(json!({ "signature": { "identity": "joe" } }))),
        (
            "an identity with a display name",
            domain(json!({ "signature": { "identity": "Joe <joe@bad.example>" } })),
        ),
        ("a header with its colon", domain(json!({ "signature": { "extraHeaders": ["List-Id:"] } }))),
        (
            "the same selector twice for the second signature",
            domain(json!({ "secondSignature": { "selectors": ["ed1", "ed1"] } })),
        ),
        (
            "a selector of the second signature with a dot",
            domain(json!({ "secondSignature": { "selectors": ["ed.1", "ed2"] } })),
        ),
        (
            "a key to begin with that is nowhere",
            domain(json!({ "importKeys": [{ "selector": "selector1" }] })),
        ),
        ("a misspelt field", domain(json!({ "selector": "s1" }))),
        ("a word for a number", domain(json!({ "key": { "size": "big" } }))),
        ("a GUID with a dot", domain(json!({ "guid": "contoso.com" }))),
        ("a signature over itself", domain(json!({ "signature": { "extraHeaders": ["DKIM-Signature"] } }))),
        (
            "a shared provider that does not tell tenants apart",
            world.provider("bad", json!({ "initialDomain": "shared.example" })),
        ),
        (
            "an initial domain with a wildcard",
            world.provider("bad", json!({ "initialDomain": "*.onmail.example" })),
        ),
        (
            "a provider with a bad resolver",
            world.provider("bad", json!({ "verification": { "resolvers": ["ns1"] } })),
        ),
        ("a resolver over HTTPS by name", looks(json!({ "resolvers": ["https://dns.example/dns-query"] }))),
        (
            "a resolver over HTTPS with blanks",
            looks(json!({ "resolvers": ["https://192.0.2.53/dns query"] })),
        ),
        ("authorities that are no certificates", looks(json!({ "resolverAuthorities": "dns.example" }))),
        ("a root server by name", looks(json!({ "rootServers": ["a.root-servers.net"] }))),
        ("an address for a network", looks(json!({ "allowPrivateNetworks": ["10.0.0.1"] }))),
        ("no questions at all", looks(json!({ "queriesPerSecond": 0 }))),
        ("looks without a pause", looks(json!({ "pendingInterval": "10ms" }))),
        ("a namespace in capitals", world.provider("bad", json!({ "keyNamespace": "Mail" }))),
        ("a time to live of nothing", publish(json!({ "ttl": 0 }))),
        ("CNAMEs by updates without a server", hosted(json!({}))),
        ("CNAMEs by a method for keys", hosted(json!({ "method": "Embedded" }))),
        (
            "a URL for the server of CNAMEs",
            hosted(json!({ "rfc2136": updates("https://ns0.example/", "k") })),
        ),
        (
            "a TSIG key's name with blanks for CNAMEs",
            hosted(json!({ "rfc2136": updates("192.0.2.53", "my key") })),
        ),
        ("CNAMEs in no zone", hosted(json!({ "method": "DNSEndpoint", "zones": [] }))),
        (
            "CNAMEs in a zone of nobody's",
            hosted(json!({ "method": "DNSEndpoint", "zones": [{ "name": "contoso.com" }] })),
        ),
        (
            "CNAMEs in a zone that is no name",
            hosted(json!({ "method": "DNSEndpoint",
                "zones": [{ "name": "contoso com", "namespaces": ["contoso"] }] })),
        ),
        (
            "objects in a namespace without a name",
            publish(json!({ "method": "DNSEndpoint", "dnsEndpoint": { "namespace": "" } })),
        ),
        ("a method that does not exist", publish(json!({ "method": "Route53" }))),
        ("updates without a server", publish(json!({ "method": "RFC2136" }))),
        ("updates without a zone", {
            let mut manifest = publish(json!({ "method": "RFC2136", "rfc2136": updates("192.0.2.53", "k") }));
            manifest["spec"]["publish"].as_object_mut().unwrap().remove("zone");
            manifest
        }),
        (
            "a URL for a DNS server",
            publish(json!({ "method": "RFC2136", "rfc2136": updates("https://ns0.example/", "k") })),
        ),
        (
            "a TSIG key's name with blanks",
            publish(json!({ "method": "RFC2136", "rfc2136": updates("192.0.2.53", "my key") })),
        ),
        ("a TSIG algorithm that is broken", {
            let mut updates = updates("192.0.2.53", "k");
            updates["tsig"]["algorithm"] = json!("hmac-md5");
            publish(json!({ "method": "RFC2136", "rfc2136": updates }))
        }),
        ("an owner with a comma", publish(json!({ "method": "Manual", "ownerId": "a,b" }))),
    ];
    let mut said = String::new();
    for (what, manifest) in cases {
        let output =
            world.plane.kubectl_with(["apply", "--server-side", "-f", "-"], &manifest.to_string()).await?;
        assert!(!output.status.success(), "{what} was taken");
        said.push_str(&format!("## {what}\n{}\n\n", plain(&output.stderr, &namespace)));
    }
    insta::assert_snapshot!(said);
    Ok(())
}

#[tokio::test]
async fn immutable_fields_stay() -> Outcome {
    let world = world().await;
    let namespace = world.plane.namespace().await?;
    world.create(&namespace, "fixed.example", json!({ "secondSignature": {} })).await;
    let mut said = String::new();
    let changes = [
        json!({ "domain": "other.example" }),
        json!({ "selectors": ["a", "b"] }),
        json!({ "secondSignature": { "selectors": ["a", "b"] } }),
    ];
    for change in changes {
        let patch = json!({ "spec": change }).to_string();
        let args = ["patch", "dkim", "fixed.example", "-n", &namespace, "--type=merge", "-p", &patch];
        let output = world.plane.kubectl(args).await?;
        assert!(!output.status.success(), "{patch} was taken");
        said.push_str(&format!("{}\n", plain(&output.stderr, &namespace)));
    }
    insta::assert_snapshot!(said);
    Ok(())
}

#[tokio::test]
async fn reported_in_status() -> Outcome {
    let world = world().await;
    let namespace = world.plane.namespace().await?;
    let long = format!("{}.{}.{}.{}.example", "a".repeat(60), "b".repeat(60), "c".repeat(60), "d".repeat(50));
    let cases = [
        ("weak", json!({ "domain": "weak.example", "key": { "size": 1024 } })),
        ("nobody", json!({ "domain": "nobody.example", "providerRef": { "name": "nobody" } })),
        ("long", json!({ "domain": long })),
        ("address", json!({ "domain": "192.0.2.1" })),
        ("daily", json!({ "domain": "daily.example", "rotation": { "schedule": "every day" } })),
        (
            "twice",
            json!({ "domain": "twice.example", "secondSignature": { "selectors": ["selector1", "ed2"] } }),
        ),
        (
            "brought",
            json!({ "domain": "brought.example",
                    "importKeys": [{ "selector": "old", "secretKeyRef": { "name": "old-keys" } }] }),
        ),
        ("strange", json!({ "domain": "strange.example", "signature": { "identity": "@other.example" } })),
        ("hasty", json!({ "domain": "hasty.example", "rotation": { "drain": "10ms" } })),
    ];
    let mut said = String::new();
    for (name, extra) in cases {
        let mut manifest = world.domain(&namespace, name, extra);
        manifest["metadata"]["name"] = json!(name);
        world.apply(&manifest).await?;
        let (reason, message) = world
            .until(&namespace, name, "it is refused", |d| {
                let stalled = condition(d, ConditionType::Stalled).ok_or("not stalled")?;
                let accepted = condition(d, ConditionType::Accepted).ok_or("not decided")?;
                assert_eq!((stalled.0.as_str(), accepted.0.as_str()), ("True", "False"));
                Ok((accepted.1, accepted.2))
            })
            .await?;
        said.push_str(&format!("{name}: {reason}: {}\n", plain(&message, &namespace)));
    }
    insta::assert_snapshot!(said);
    Ok(())
}
