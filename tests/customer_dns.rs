//! Tenants' CNAMEs published by the mail provider, which hosts their zones: on real servers of three makes, and in objects for
//! external-dns.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use common::publish::{BOUND, know_endpoints, let_endpoints, put_key, states, until_set};
use common::servers::{Make, Server};
use common::{Outcome, world};
use dkim_operator::api::{ConditionType, PublishState};
use dkim_testbed::{TsigKey, eventually, lookup, nsupdate};
use kube::api::DeleteParams;
use serde_json::json;

async fn hosted(label: &str, make: Make) -> Outcome {
    let world = world().await;
    let (zone, domain) = (format!("hosted-{label}.example"), format!("hosted-{label}.example"));
    let key = TsigKey::random("dkim-operator", "hmac-sha256");
    let server = Server::start(make, &key).await?;
    server.add_zone(&zone, 1).await?;
    world.tree.delegate(&zone, &format!("ns1.{zone}"), server.address().ip()).await?;
    let secret = format!("tsig-hosted-{label}");
    put_key(world, &secret, &key).await?;
    let (namespace, stranger) = (world.plane.namespace().await?, world.plane.namespace().await?);
    let extra = json!({
        "customerDns": {
            "method": "RFC2136",
            "zones": [{ "name": zone, "namespaces": [namespace] }],
            "rfc2136": { "server": server.address().to_string(),
                "tsig": { "keyName": key.name, "algorithm": key.algorithm, "secretRef": { "name": secret } } },
        },
    });
    let provider = format!("hosting-{label}");
    world.apply(&world.provider(&provider, extra)).await?;
    let reference = json!({ "providerRef": { "name": provider } });

    // What somebody has put there stays, and keeps nothing else from being published.
    let occupied = format!("occupied.{zone}");
    let (linked, addressed) = aliases(&occupied);
    for record in [
        format!("add {linked} 60 CNAME elsewhere.example."),
        format!("add {addressed} 60 CAA 0 issue \"ca.example\""),
    ] {
        nsupdate(server.address(), &key, &zone, &record).await?;
    }
    world.create(&namespace, &occupied, reference.clone()).await;
    // Another tenant gets no CNAME in a zone that is not its own.
    let foreign = format!("foreign.{zone}");
    world.create(&stranger, &foreign, reference.clone()).await;

    world.create(&namespace, &domain, reference).await;
    world.until_condition(&namespace, &domain, ConditionType::Enabled, "True").await?;
    let set = until_set(world, &domain, "both CNAMEs are published", |set| {
        let place = set.status.iter().flat_map(|s| &s.places).find(|p| p.cnames).ok_or("no place")?;
        let done = place.records.iter().filter(|r| r.state == PublishState::Published).count();
        if done == 2 { Ok(set.clone()) } else { Err(format!("{:?}", states(set))) }
    })
    .await?;
    let (one, two) = aliases(&domain);
    for record in &set.spec.cnames.as_ref().expect("CNAMEs").records {
        let answer = lookup(server.address(), &record.name, "CNAME").await?;
        assert_eq!(answer.data("CNAME"), [format!("{}.", record.target)], "{answer}");
        assert_eq!(server.texts(&format!("_owner.{}", record.name)).await?.len(), 1);
    }
    // At rest, nothing is sent.
    let serial = server.serial(&zone).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(server.serial(&zone).await?, serial);

    until_set(world, &occupied, "what is in the way is told", |set| {
        let told = states(set);
        let cname = told
            .iter()
            .any(|(_, s, m)| *s == PublishState::Conflict && m.contains("a CNAME to elsewhere.example"));
        let other =
            told.iter().any(|(_, s, m)| *s == PublishState::Pending && m.contains("records of another type"));
        if cname && other { Ok(()) } else { Err(format!("{told:?}")) }
    })
    .await?;
    assert_eq!(lookup(server.address(), &linked, "CNAME").await?.data("CNAME"), ["elsewhere.example."]);
    assert_eq!(lookup(server.address(), &addressed, "CAA").await?.data("CAA").len(), 1);
    assert!(lookup(server.address(), &addressed, "CNAME").await?.data("CNAME").is_empty());
    let strange = world.record_sets().get(&foreign).await?;
    assert_eq!(strange.spec.cnames, None);
    assert_eq!(lookup(server.address(), &aliases(&foreign).0, "CNAME").await?.code, "NXDOMAIN");

    // The domain goes: CNAME and TXT of the key that has signed stay for the drain, then the CNAMEs and their marks go.
    world.domains(&namespace).delete(&domain, &DeleteParams::default()).await?;
    let gone = async || -> Result<bool, String> {
        let set = world.record_sets().get_opt(&domain).await.map_err(|e| e.to_string())?;
        let Some(set) = set else { return Ok(true) };
        let kept = set.spec.records.iter().filter(|r| {
            r.keep_until.as_ref().is_some_and(|t| t.0 > jiff::Timestamp::now() + Duration::from_secs(1))
        });
        for name in kept.map(|r| format!("{}._domainkey.{domain}", r.selector)) {
            let answer = lookup(server.address(), &name, "CNAME").await.map_err(|e| e.to_string())?;
            assert_eq!(answer.data("CNAME").len(), 1, "{name} went before its key");
        }
        Ok(false)
    };
    eventually(BOUND, "the record set is gone", || async {
        if gone().await? { Ok(()) } else { Err("there".to_owned()) }
    })
    .await?;
    for name in [one, two] {
        for name in [name.clone(), format!("_owner.{name}")] {
            let answer = lookup(server.address(), &name, "ANY").await?;
            assert!(
                answer.data("CNAME").is_empty() && answer.data("TXT").is_empty(),
                "{name} is left: {answer}"
            );
        }
    }
    Ok(())
}

/// The names of both CNAMEs of a domain.
fn aliases(domain: &str) -> (String, String) {
    let name = |n: u8| format!("selector{n}._domainkey.{domain}");
    (name(1), name(2))
}

/// What leaves an object, external-dns deletes, and what is seen may be of a server that is behind: who is in it stays in it.
#[tokio::test]
async fn an_object_keeps_the_cnames_that_it_has_and_takes_in_none_that_is_occupied() -> Outcome {
    let world = world().await;
    know_endpoints(world).await?;
    let (namespace, objects) = (world.plane.namespace().await?, world.plane.namespace().await?);
    let_endpoints(world, &objects).await?;
    let key = TsigKey::random("external-dns", "hmac-sha256");
    let (server, zone) = (Server::start(Make::Bind, &key).await?, "hosted-objects.example");
    server.add_zone(zone, 1).await?;
    world.tree.delegate(zone, &format!("ns1.{zone}"), server.address().ip()).await?;
    let (kept, occupied) = aliases(zone);
    nsupdate(server.address(), &key, zone, &format!("add {occupied} 1 CNAME elsewhere.example.")).await?;
    let extra = json!({ "customerDns": {
        "method": "DNSEndpoint", "zones": [{ "name": zone, "namespaces": [namespace] }],
        "dnsEndpoint": { "namespace": objects },
    } });
    world.apply(&world.provider("hosting-objects", extra)).await?;
    world.create(&namespace, zone, json!({ "providerRef": { "name": "hosting-objects" } })).await;
    let names = async || -> Result<Vec<String>, String> {
        let args =
            ["get", "dnsendpoints", "-n", &objects, "-o", "jsonpath={.items[*].spec.endpoints[*].dnsName}"];
        let found = world.plane.kubectl(args).await.map_err(|e| e.to_string())?.stdout;
        Ok(found.split_whitespace().map(str::to_owned).collect())
    };
    let wanted = [kept.clone(), format!("_owner.{kept}")];
    eventually(BOUND, "the free name is in the object", || async {
        let found = names().await?;
        if found == wanted { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await?;
    nsupdate(server.address(), &key, zone, &format!("add {kept} 1 CNAME elsewhere.example.")).await?;
    until_set(world, zone, "what is in the way of both is told", |set| {
        let told = states(set);
        let conflicts =
            told.iter().filter(|(_, s, m)| *s == PublishState::Conflict && m.contains("not ours"));
        if conflicts.count() == 2 { Ok(()) } else { Err(format!("{told:?}")) }
    })
    .await?;
    assert_eq!(names().await?, wanted);
    nsupdate(server.address(), &key, zone, &format!("del {occupied} CNAME")).await?;
    eventually(BOUND, "the other name is taken in when it is free", || async {
        let found = names().await?;
        if found.len() == 4 { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn cnames_in_a_zone_on_bind() -> Outcome {
    hosted("bind", Make::Bind).await
}

#[tokio::test]
async fn cnames_in_a_zone_on_knot() -> Outcome {
    hosted("knot", Make::Knot).await
}

#[tokio::test]
async fn cnames_in_a_zone_on_powerdns() -> Outcome {
    hosted("pdns", Make::Pdns).await
}
