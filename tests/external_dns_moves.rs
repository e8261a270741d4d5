//! Keys that external-dns takes over without a gap: from the embedded server, from a server with dynamic updates, within one zone, and
//! from the objects of an earlier version.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use common::external_dns::{Stage, rotate};
use common::poller::Poller;
use common::publish::{
    BOUND, Site, former_object, leave_embedded, let_endpoints, methods, put_key, rfc2136, states, until_set,
};
use common::servers::Make;
use common::{Outcome, World};
use dkim_operator::api::{ConditionType, PublishMethod, PublishState};
use dkim_operator::model::publishing::place_id;
use dkim_testbed::{TsigKey, eventually, nsupdate, txt};
use serde_json::{Value, json};

/// Waits until external-dns has published what is still served elsewhere, too.
async fn until_copied(stage: &Stage, domain: &str) -> Outcome {
    let set = stage.world.record_sets().get(domain).await?;
    eventually(BOUND, "external-dns has published it", || stage.has(&set)).await?;
    Ok(())
}

/// Waits until records are at this place alone.
async fn until_alone(world: &World, domain: &str, method: PublishMethod) -> Result<(), dkim_testbed::Error> {
    until_set(world, domain, &format!("all is published by {method:?}, and nothing elsewhere"), |set| {
        let methods = methods(set);
        if methods == [(method, false)] { Ok(()) } else { Err(format!("{methods:?} {:?}", states(set))) }
    })
    .await
}

#[tokio::test]
async fn from_the_embedded_server_without_a_gap() -> Outcome {
    let stage = Stage::new("extmover.example").await?;
    let (world, zone) = (stage.world, stage.zone.as_str());
    world.operator.delegate(&world.tree, zone).await?;
    world.apply(&world.provider_in("extmover", zone, json!({ "zone": zone }))).await?;
    let domain = "tenant-extmover.example";
    let namespace = world.enabled(domain, json!({ "providerRef": { "name": "extmover" } })).await?;
    let poller = Poller::start(world, format!("selector1._domainkey.{domain}"), domain.to_owned());

    world.apply(&world.provider_in("extmover", zone, stage.publish())).await?;
    until_copied(&stage, domain).await?;
    // The zone is delegated to both, then to the new one alone.
    stage.delegate().await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    leave_embedded(world, zone).await?;
    until_alone(world, domain, PublishMethod::DnsEndpoint).await?;
    poller.unbroken(50).await;
    world.until_condition(&namespace, domain, ConditionType::Ready, "True").await?;
    Ok(())
}

#[tokio::test]
async fn from_a_server_with_dynamic_updates_without_a_gap() -> Outcome {
    let stage = Stage::new("extupdated.example").await?;
    let (world, zone) = (stage.world, stage.zone.as_str());
    let mut site = Site::new(world, "extupdated", Make::Bind, "hmac-sha256").await?;
    site.zone = zone.to_owned();
    let domain = "tenant-extupdated.example";
    let namespace = world.enabled(domain, site.reference()).await?;
    let poller = Poller::start(world, format!("selector1._domainkey.{domain}"), domain.to_owned());

    world.apply(&world.provider_in(&site.provider, zone, stage.publish())).await?;
    until_copied(&stage, domain).await?;
    // A key that comes meanwhile comes to both.
    rotate(world, &namespace, domain).await;
    until_set(world, domain, "the next key is there", |set| {
        let serials: Vec<i64> = set.spec.records.iter().map(|record| record.serial).collect();
        if serials.contains(&3) { Ok(()) } else { Err(format!("{serials:?} {:?}", states(set))) }
    })
    .await?;
    until_copied(&stage, domain).await?;
    world.tree.delegate(zone, &format!("ns2.{zone}"), stage.server.address().ip()).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    world.tree.root().remove_record(zone, "NS", Some(&format!("ns1.{zone}."))).await?;
    world.tree.unbound().flush_name(zone).await?;
    let record = site.record(&namespace, domain);
    eventually(BOUND, "nothing of ours is left at the former place", || async {
        let texts = site.server.texts(&record).await.map_err(|e| e.to_string())?;
        let marks = site.server.texts(&format!("_owner.{record}")).await.map_err(|e| e.to_string())?;
        if texts.is_empty() && marks.is_empty() { Ok(()) } else { Err(format!("{texts:?} {marks:?}")) }
    })
    .await?;
    poller.unbroken(50).await;
    world.until_condition(&namespace, domain, ConditionType::Ready, "True").await?;
    Ok(())
}

/// external-dns leaves alone what it does not own. It is told so, and given the names it takes over what is there.
#[tokio::test]
async fn within_one_zone_when_it_is_given_the_names() -> Outcome {
    let key = TsigKey::random("dkim-operator", "hmac-sha256");
    let stage = Stage::updated_with("extgiven.example", &key).await?;
    stage.delegate().await?;
    let (world, zone, domain) = (stage.world, stage.zone.as_str(), "tenant-extgiven.example");
    put_key(world, "tsig-extgiven", &key).await?;
    let provider = |publish: Value| world.provider_in("extgiven", zone, publish);
    let updates = rfc2136(stage.server.address(), &key, zone, "tsig-extgiven");
    world.apply(&provider(updates)).await?;
    let namespace = world.enabled(domain, json!({ "providerRef": { "name": "extgiven" } })).await?;
    let poller = Poller::start(world, format!("selector1._domainkey.{domain}"), domain.to_owned());

    world.apply(&provider(stage.publish())).await?;
    until_set(world, domain, "it says how external-dns gets the names", |set| {
        let told = states(set).iter().any(|(leaving, _, m)| *leaving && m.contains("its ownership record"));
        if told { Ok(()) } else { Err(format!("{:?}", states(set))) }
    })
    .await?;
    // Meanwhile keys are rolled as before.
    rotate(world, &namespace, domain).await;
    let set = until_set(world, domain, "the next key is published", |set| {
        let done = states(set).iter().filter(|(l, s, _)| !l && *s == PublishState::Published).count() == 2;
        let next = set.spec.records.iter().any(|record| record.serial == 3);
        if done && next { Ok(set.clone()) } else { Err(format!("{:?}", states(set))) }
    })
    .await?;
    for record in &set.spec.records {
        for name in [record.name.clone(), format!("_owner.{}", record.name)] {
            let owned = "heritage=external-dns,external-dns/owner=mail";
            let add = format!("add _extdns-txt.{name} 1 TXT {}", txt(owned));
            nsupdate(stage.server.address(), &key, zone, &add).await?;
        }
    }
    let over = until_alone(world, domain, PublishMethod::DnsEndpoint).await;
    if let Err(error) = over {
        return Err(format!("{error}\n{}", stage.last_words().await).into());
    }
    rotate(world, &namespace, domain).await;
    stage.until_published(domain, &[3, 4]).await?;
    poller.unbroken(50).await;
    world.until_condition(&namespace, domain, ConditionType::Ready, "True").await?;
    Ok(())
}

/// external-dns owns what it has published, and takes it away with its object: that stays until external-dns has let go.
#[tokio::test]
async fn back_to_updates_within_one_zone_when_external_dns_lets_go() -> Outcome {
    let key = TsigKey::random("dkim-operator", "hmac-sha256");
    let stage = Stage::updated_with("extback.example", &key).await?;
    stage.delegate().await?;
    let (world, zone, domain) = (stage.world, stage.zone.clone(), "tenant-extback.example");
    put_key(world, "tsig-extback", &key).await?;
    let provider = |publish: Value| world.provider_in("extback", &zone, publish);
    world.apply(&provider(stage.publish())).await?;
    let namespace = world.enabled(domain, json!({ "providerRef": { "name": "extback" } })).await?;
    let poller = Poller::start(world, format!("selector1._domainkey.{domain}"), domain.to_owned());

    let updates = rfc2136(stage.server.address(), &key, &zone, "tsig-extback");
    world.apply(&provider(updates)).await?;
    until_set(world, domain, "it says that external-dns goes on", |set| {
        let told = states(set).iter().any(|(leaving, _, m)| *leaving && m.contains("still publishes"));
        if told { Ok(()) } else { Err(format!("{:?}", states(set))) }
    })
    .await?;
    // Much longer than the drain.
    tokio::time::sleep(Duration::from_secs(12)).await;
    let objects = ["get", "dnsendpoints", "-n", &stage.objects, "-o", "name"];
    assert!(world.plane.kubectl(objects).await?.ok()?.contains(domain), "the object stays");

    let Stage { external_dns, server, objects, .. } = stage;
    drop(external_dns);
    until_alone(world, domain, PublishMethod::Rfc2136).await?;
    let left = world.plane.kubectl(["get", "dnsendpoints", "-n", &objects, "-o", "name"]).await?.ok()?;
    assert_eq!(left.trim(), "");
    rotate(world, &namespace, domain).await;
    until_set(world, domain, "the next key is published by an update", |set| {
        let serials: Vec<i64> = set.spec.records.iter().map(|record| record.serial).collect();
        let all = states(set);
        let done = all.iter().all(|(leaving, s, _)| !leaving && *s == PublishState::Published);
        if serials.contains(&3) && done { Ok(()) } else { Err(format!("{serials:?} {all:?}")) }
    })
    .await?;
    poller.unbroken(50).await;
    drop(server);
    Ok(())
}

/// What is published by the one object that an earlier version wrote for a domain goes on being published by that of its place.
#[tokio::test]
async fn the_object_of_an_earlier_version_is_followed_without_a_gap() -> Outcome {
    let stage = Stage::without_rights("extformer.example").await?;
    stage.delegate().await?;
    let (world, domain) = (stage.world, "tenant-extformer.example");
    let mut publish = stage.publish();
    publish["ownerId"] = json!("extformer");
    world.apply(&world.provider_in("extformer", &stage.zone, publish)).await?;
    world.tree.add_zone(domain, 1).await?;
    let namespace = world.plane.namespace().await?;
    world.create(&namespace, domain, json!({ "providerRef": { "name": "extformer" } })).await;
    let set = until_set(world, domain, "both keys wait for the right to be written", |set| {
        let all = states(set);
        let waits = all.iter().filter(|(_, s, m)| *s == PublishState::Failed && m.contains("may not write"));
        if waits.count() == 2 { Ok(set.clone()) } else { Err(format!("{all:?}")) }
    })
    .await?;
    world.apply(&former_object(&set, &stage.objects, "extformer")).await?;
    eventually(BOUND, "the old object is published", || stage.has(&set)).await?;
    world.publish_cnames(&namespace, domain).await?;
    let poller = Poller::start(world, format!("selector1._domainkey.{domain}"), domain.to_owned());

    let_endpoints(world, &stage.objects).await?;
    let name = format!("dnsendpoint.externaldns.k8s.io/{domain}.{}", place_id(&set.spec.zone));
    eventually(BOUND, "the object of the place is there alone", || async {
        let args = ["get", "dnsendpoints", "-n", &stage.objects, "-o", "name"];
        let there = world.plane.kubectl(args).await.map_err(|e| e.to_string())?.stdout;
        if there.trim() == name { Ok(()) } else { Err(there) }
    })
    .await?;
    stage.until_published(domain, &[1, 2]).await?;
    world.until_condition(&namespace, domain, ConditionType::Enabled, "True").await?;
    // external-dns looks each second.
    tokio::time::sleep(Duration::from_secs(3)).await;
    poller.unbroken(50).await;
    rotate(world, &namespace, domain).await;
    stage.until_published(domain, &[2, 3]).await?;
    Ok(())
}
