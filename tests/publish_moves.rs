//! Records published by others (external-dns, people), and moved from one place to another without a gap.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use common::poller::Poller;
use common::publish::{
    BOUND, Site, former_object, know_endpoints, leave_embedded, let_endpoints, methods, put_key, settings,
    states, until_set,
};
use common::servers::{Make, Server};
use common::{Outcome, condition, world};
use dkim_operator::api::{ConditionType, DkimRecordSet, PublishMethod, PublishState};
use dkim_testbed::{Bind, TsigKey, eventually, lookup, nsupdate, txt};
use serde_json::{Value, json};

#[tokio::test]
async fn from_the_embedded_server_to_bind_and_on_to_knot_without_a_gap() -> Outcome {
    let world = world().await;
    let zone = "mover.example";
    let embedded = world.operator.dns_addresses()[0];
    world.operator.delegate(&world.tree, zone).await?;
    let extra = json!({ "initialDomain": format!("{{namespace}}.{zone}"), "publish": { "zone": zone } });
    world.apply(&world.provider("mover", extra.clone())).await?;
    let domain = "tenant-mover.example";
    let namespace = world.enabled(domain, json!({ "providerRef": { "name": "mover" } })).await?;
    let set = world.record_sets().get(domain).await?;
    assert_eq!(set.status, None, "nothing is written for the embedded server");
    let record = set.spec.records[0].name.clone();
    let poller = Poller::start(world, format!("selector1._domainkey.{domain}"), domain.to_owned());

    let key = TsigKey::random("dkim-operator", "hmac-sha256");
    put_key(world, "tsig-mover", &key).await?;
    let bind = Server::start(Make::Bind, &key).await?;
    bind.add_zone(zone, 1).await?;
    let mut provider = world.provider("mover", extra.clone());
    merge(&mut provider["spec"]["publish"], settings(&bind, &key, zone, "tsig-mover"));
    world.apply(&provider).await?;
    until_set(world, domain, "published on BIND, kept on the embedded server", |set| {
        let methods = methods(set);
        let wanted = [(PublishMethod::Rfc2136, false), (PublishMethod::Embedded, true)];
        let told =
            states(set).iter().any(|(leaving, _, m)| *leaving && m.contains("kept at the former place"));
        let done = states(set)
            .iter()
            .filter(|(leaving, ..)| !leaving)
            .all(|(_, s, _)| *s == PublishState::Published);
        if methods == wanted && told && done { Ok(()) } else { Err(format!("{methods:?} {:?}", states(set))) }
    })
    .await?;
    assert_eq!(bind.texts(&record).await?.len(), 1);
    assert_eq!(lookup(embedded, &record, "TXT").await?.data("TXT").len(), 1, "the delegation leads here yet");

    // The zone is delegated to both, then to the new one alone.
    world.tree.delegate(zone, &format!("ns1.{zone}"), bind.address().ip()).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    leave_embedded(world, zone).await?;
    until_set(world, domain, "the embedded server is left", |set| {
        let methods = methods(set);
        if methods == [(PublishMethod::Rfc2136, false)] {
            Ok(())
        } else {
            Err(format!("{methods:?} {:?}", states(set)))
        }
    })
    .await?;
    eventually(BOUND, "the embedded server stops serving the zone", || async {
        let answer = lookup(embedded, &record, "TXT").await.map_err(|e| e.to_string())?;
        if answer.code == "REFUSED" { Ok(()) } else { Err(answer.to_string()) }
    })
    .await?;

    // On to another server; the records at the first one are withdrawn when they have drained.
    let knot = Server::start(Make::Knot, &key).await?;
    knot.add_zone(zone, 1).await?;
    let mut provider = world.provider("mover", extra);
    merge(&mut provider["spec"]["publish"], settings(&knot, &key, zone, "tsig-mover"));
    world.apply(&provider).await?;
    until_set(world, domain, "published on Knot, too", |set| {
        let methods = methods(set);
        let wanted = [(PublishMethod::Rfc2136, false), (PublishMethod::Rfc2136, true)];
        if methods == wanted { Ok(()) } else { Err(format!("{methods:?}")) }
    })
    .await?;
    world.tree.delegate(zone, &format!("ns2.{zone}"), knot.address().ip()).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    world.tree.root().remove_record(zone, "NS", Some(&format!("ns1.{zone}."))).await?;
    world.tree.unbound().flush_name(zone).await?;
    eventually(BOUND, "nothing of ours is left on BIND", || async {
        let texts = bind.texts(&record).await.map_err(|e| e.to_string())?;
        let marks = bind.texts(&format!("_owner.{record}")).await.map_err(|e| e.to_string())?;
        if texts.is_empty() && marks.is_empty() { Ok(()) } else { Err(format!("{texts:?} {marks:?}")) }
    })
    .await?;
    assert_eq!(knot.texts(&record).await?.len(), 1);
    poller.unbroken(50).await;
    world.until_condition(&namespace, domain, ConditionType::Ready, "True").await?;
    Ok(())
}

fn merge(into: &mut Value, from: Value) {
    for (key, value) in from.as_object().expect("an object") {
        into[key] = value.clone();
    }
}

/// The former place is left on proof alone: a server that cannot be heard gives none, however long.
#[tokio::test]
async fn what_cannot_be_heard_is_not_moved_to() -> Outcome {
    let world = world().await;
    let site = Site::new(world, "unheard", Make::Bind, "hmac-sha256").await?;
    let (zone, domain) = (site.zone.as_str(), "tenant-unheard.example");
    let namespace = world.enabled(domain, site.reference()).await?;
    let knot = Server::start(Make::Knot, &site.key).await?;
    knot.add_zone(zone, 1).await?;
    let publish = settings(&knot, &site.key, zone, "tsig-unheard");
    world.apply(&world.provider_in(&site.provider, zone, publish)).await?;
    let record = site.record(&namespace, domain);
    eventually(BOUND, "the key is at both places", || async {
        let there = [&site.server, &knot].map(|server| server.texts(&record));
        let there = futures::future::try_join_all(there).await.map_err(|e| e.to_string())?;
        if there.iter().all(|texts| texts.len() == 1) { Ok(()) } else { Err(format!("{there:?}")) }
    })
    .await?;

    // One of its two servers is silent.
    let silent = Bind::start(&[]).await?;
    silent.pause().await?;
    for (name, ip) in [("ns2", knot.address().ip()), ("ns3", silent.address().ip())] {
        world.tree.delegate(zone, &format!("{name}.{zone}"), ip).await?;
    }
    world.tree.root().remove_record(zone, "NS", Some(&format!("ns1.{zone}."))).await?;
    until_set(world, domain, "it says that not every server was heard", |set| {
        let all = states(set);
        let told = all.iter().any(|(leaving, _, m)| *leaving && m.contains("gives no clear answer for"));
        if told { Ok(()) } else { Err(format!("{all:?}")) }
    })
    .await?;
    // Much longer than the drain.
    tokio::time::sleep(Duration::from_secs(8)).await;
    let former = site.server.address();
    let kept = [record.clone(), format!("_owner.{record}")]
        .map(|name| async move { lookup(former, &name, "TXT").await.map(|answer| answer.data("TXT").len()) });
    assert_eq!(futures::future::try_join_all(kept).await?, [1, 1], "nothing is withdrawn");
    world.tree.root().remove_record(zone, "NS", Some(&format!("ns3.{zone}."))).await?;
    eventually(BOUND, "the former place is left once all servers of the zone are heard", || async {
        let texts = site.server.texts(&record).await.map_err(|e| e.to_string())?;
        if texts.is_empty() { Ok(()) } else { Err(format!("{texts:?}")) }
    })
    .await?;
    assert_eq!(knot.texts(&record).await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn people_publish_what_the_record_set_says() -> Outcome {
    let world = world().await;
    let mut site = Site::new(world, "byhand", Make::Knot, "hmac-sha256").await?;
    site.provider = "byhand-manual".to_owned();
    let by_hand = json!({ "method": "Manual", "zone": site.zone, "nameServers": [] });
    world.apply(&world.provider_in(&site.provider, &site.zone, by_hand)).await?;
    let (namespace, domain) = (world.plane.namespace().await?, "tenant-byhand.example");
    world.tree.add_zone(domain, 1).await?;
    world.create(&namespace, domain, site.reference()).await;
    let records = until_set(world, domain, "it says what to publish", |set| {
        let states = states(set);
        let asked = states.len() == 2
            && states
                .iter()
                .all(|(_, s, m)| *s == PublishState::Pending && m.contains("publish it: selector"));
        if asked { Ok(set.spec.records.clone()) } else { Err(format!("{states:?}")) }
    })
    .await?;
    world
        .until(&namespace, domain, "the tenant is told whom to wait for", |d| {
            let (_, _, message) = condition(d, ConditionType::RecordsPublished).ok_or("nothing")?;
            if message.contains("by hand") { Ok(()) } else { Err(message) }
        })
        .await?;
    for record in &records {
        site.foreign(&format!("add {} 1 TXT {}", record.name, txt(&record.value))).await?;
    }
    world.publish_cnames(&namespace, domain).await?;
    world.until_condition(&namespace, domain, ConditionType::Enabled, "True").await?;
    Ok(())
}

#[tokio::test]
async fn external_dns_publishes_what_the_objects_say() -> Outcome {
    let world = world().await;
    let site = Site::new(world, "extdns", Make::Bind, "hmac-sha256").await?;
    let place = world.plane.namespace().await?;
    let (namespace, domain) = (world.plane.namespace().await?, "tenant-extdns.example");
    let through = json!({ "method": "DNSEndpoint", "zone": site.zone, "nameServers": [],
        "dnsEndpoint": { "namespace": place, "labels": { "dns": "public" } } });
    world.apply(&world.provider_in("extdns-objects", &site.zone, through)).await?;
    world.tree.add_zone(domain, 1).await?;
    world.create(&namespace, domain, json!({ "providerRef": { "name": "extdns-objects" } })).await;
    let failed = |words: &'static str| {
        move |set: &DkimRecordSet| {
            let states = states(set);
            let told = states.iter().any(|(_, s, m)| *s == PublishState::Failed && m.contains(words));
            if told { Ok(()) } else { Err(format!("{states:?}")) }
        }
    };
    until_set(world, domain, "it says that a right is missing", failed("publish.dnsEndpointNamespaces"))
        .await?;
    know_endpoints(world).await?;
    // As an earlier version has left one: it goes when each place has its own.
    let set =
        until_set(world, domain, "both keys are in the record set", |set| match set.spec.records.len() {
            2 => Ok(set.clone()),
            _ => Err(format!("{:?}", set.spec.records)),
        });
    let old = former_object(&set.await?, &place, "an-earlier-one");
    world.apply(&old).await?;
    let_endpoints(world, &place).await?;
    let selector = format!("dkim-operator.io/domain-name={domain}");
    let object = eventually(BOUND, "the object is written", || async {
        let args = ["get", "dnsendpoints", "-l", &selector, "-n", &place, "-o", "json"];
        let text =
            world.plane.kubectl(args).await.map_err(|e| e.to_string())?.ok().map_err(|e| e.to_string())?;
        let list: Value = serde_json::from_str(&text).map_err(|e| e.to_string())?;
        let object = &list["items"][0];
        let endpoints = object["spec"]["endpoints"].as_array().map_or(0, Vec::len);
        if endpoints == 4 { Ok(object.clone()) } else { Err(text) }
    })
    .await?;
    let (labels, annotations) = (&object["metadata"]["labels"], &object["metadata"]["annotations"]);
    assert_eq!(
        (&labels["dns"], &labels["app.kubernetes.io/managed-by"]),
        (&json!("public"), &json!("dkim-operator"))
    );
    assert_eq!(annotations["dkim-operator.io/record-set"], format!("dkim-system/{domain}"));
    let id = labels["dkim-operator.io/place"].as_str().expect("the place").to_owned();
    assert_eq!(object["metadata"]["name"], format!("{domain}.{id}"));
    assert_eq!(
        object["metadata"]["ownerReferences"],
        Value::Null,
        "records outlive a record set that comes back"
    );
    eventually(BOUND, "the old object is gone", || async {
        let found = world.plane.kubectl(["get", "dnsendpoints", domain, "-n", &place]).await;
        let found = found.map_err(|e| e.to_string())?;
        if found.stderr.contains("NotFound") { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await?;
    // Somebody else's object of this name is left alone.
    let theirs = format!("{domain}.{id}");
    let mark = |value: &str| {
        let patch = json!({ "metadata": { "annotations": { "dkim-operator.io/record-set": value } } });
        let patch = if value.is_empty() { json!({ "metadata": { "annotations": null } }) } else { patch };
        ["patch", "dnsendpoints", &theirs, "-n", &place, "--type=merge", "-p", &patch.to_string()]
            .map(str::to_owned)
    };
    world.plane.kubectl(mark("elsewhere/its-own")).await?.ok()?;
    until_set(world, domain, "it says whose the object is", |set| {
        let states = states(set);
        let told = |(_, s, m): &(bool, PublishState, String)| {
            *s == PublishState::Conflict
                && m.contains("elsewhere/its-own")
                && m.contains("remove the annotation")
        };
        if states.len() == 2 && states.iter().all(told) { Ok(()) } else { Err(format!("{states:?}")) }
    })
    .await?;
    world.plane.kubectl(mark("")).await?.ok()?;
    until_set(world, domain, "it waits for external-dns", |set| {
        let states = states(set);
        let told = states
            .iter()
            .all(|(_, s, m)| *s == PublishState::Pending && m.contains("--managed-record-types=TXT"));
        if told && states.len() == 2 { Ok(()) } else { Err(format!("{states:?}")) }
    })
    .await?;
    // As external-dns does with RFC 2136: each target is the data of a record in the form of zone files.
    for endpoint in object["spec"]["endpoints"].as_array().expect("endpoints") {
        let word = |field: &str| endpoint[field].as_str().expect(field).to_owned();
        let data = endpoint["targets"][0].as_str().expect("a target");
        let add = format!("add {} {} {} {data}", word("dnsName"), endpoint["recordTTL"], word("recordType"));
        nsupdate(site.server.address(), &site.key, &site.zone, &add).await?;
    }
    world.publish_cnames(&namespace, domain).await?;
    world.until_condition(&namespace, domain, ConditionType::Enabled, "True").await?;
    let record = site.record(&namespace, domain);
    let set = world.record_sets().get(domain).await?;
    let value = &set.spec.records.iter().find(|r| r.name == record).expect("the record").value;
    assert_eq!(site.server.texts(&record).await?.join(" and "), *value);
    world.plane.kubectl(["delete", "dkim", domain, "-n", &namespace, "--timeout=30s"]).await?.ok()?;
    eventually(BOUND, "the object is gone when the record has drained", || async {
        let args = ["get", "dnsendpoints", "-n", &place, "-o", "name"];
        let left = world.plane.kubectl(args).await.map_err(|e| e.to_string())?.stdout;
        let set = world.record_sets().get_opt(domain).await.map_err(|e| e.to_string())?;
        if left.trim().is_empty() && set.is_none() { Ok(()) } else { Err(left) }
    })
    .await?;
    Ok(())
}
