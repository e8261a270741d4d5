//! external-dns itself, publishing the operator's DNSEndpoints into real servers: keys of all sizes, their rotation and their
//! end, tenants' CNAMEs and their move to another GUID, and the one provider of external-dns that cannot do it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::external_dns::{Stage, rotate, settled};
use common::poller::Poller;
use common::publish::{BOUND, know_endpoints, let_endpoints, put_key, settings, states, until_set};
use common::servers::{Make, Server};
use common::{Outcome, condition, world};
use dkim_operator::api::{ConditionType, PublishState};
use dkim_testbed::{ExternalDns, TsigKey, eventually, lookup, nsupdate, to_rfc2136};
use kube::api::DeleteParams;
use serde_json::{Value, json};

#[tokio::test]
async fn keys_of_all_sizes_come_are_rolled_and_go() -> Outcome {
    let stage = Stage::new("extdns.example").await?;
    stage.delegate().await?;
    let world = stage.world;
    world.apply(&world.provider_in("extdns", &stage.zone, stage.publish())).await?;
    let namespace = world.plane.namespace().await?;
    // The label of a name's key is as long as a label may be: external-dns puts nothing in front of it.
    let long = format!("{}.example", "l".repeat(45));
    let domains = [("small-extdns.example", 2048), ("great-extdns.example", 4096), (long.as_str(), 2048)];
    for (domain, size) in domains {
        let extra = json!({ "providerRef": { "name": "extdns" }, "key": { "size": size } });
        world.tree.add_zone(domain, 1).await?;
        world.create(&namespace, domain, extra).await;
    }
    for (domain, size) in domains {
        let set = stage.until_published(domain, &[1, 2]).await?;
        let length = set.spec.records[0].value.len();
        assert_eq!(length > 700, size == 4096, "{domain}: {length}");
        world.publish_cnames(&namespace, domain).await?;
    }
    for (domain, _) in domains {
        world.until_condition(&namespace, domain, ConditionType::Enabled, "True").await?;
    }
    // Each name has its next key after the first one has drained: the text is replaced, none is left.
    for (domain, _) in domains {
        rotate(world, &namespace, domain).await;
    }
    let mut names = Vec::new();
    for (domain, _) in domains {
        let set = stage.until_published(domain, &[2, 3]).await?;
        names.extend(set.spec.records.iter().map(|record| record.name.clone()));
        world.until_condition(&namespace, domain, ConditionType::Ready, "True").await?;
    }
    for (domain, _) in domains {
        world.domains(&namespace).delete(domain, &DeleteParams::default()).await?;
    }
    for name in names {
        // external-dns's own record of ownership goes, too.
        for name in [name.clone(), format!("_owner.{name}"), format!("_extdns-txt.{name}")] {
            eventually(BOUND, &format!("{name} is gone"), || async {
                let texts = stage.texts(&name).await?;
                if texts.is_empty() { Ok(()) } else { Err(format!("{texts:?}")) }
            })
            .await?;
        }
    }
    let left =
        world.plane.kubectl(["get", "dnsendpoints", "-n", &stage.objects, "-o", "name"]).await?.ok()?;
    assert_eq!(left.trim(), "");
    Ok(())
}

#[tokio::test]
async fn tenants_cnames_come_and_go() -> Outcome {
    let stage = Stage::new("hosted-extdns.example").await?;
    stage.delegate().await?;
    let (world, domain) = (stage.world, "hosted-extdns.example");
    let namespace = world.plane.namespace().await?;
    let extra = json!({
        "customerDns": {
            "method": "DNSEndpoint", "zones": [{ "name": domain, "namespaces": [namespace] }],
            "dnsEndpoint": { "namespace": stage.objects },
        },
    });
    world.apply(&world.provider("hosting-extdns", extra)).await?;
    // What somebody has put there stays, and keeps nothing else from being published.
    let occupied = format!("occupied.{domain}");
    let taken = format!("selector1._domainkey.{occupied}");
    let zone = format!(
        "@ 600 IN SOA ns1 hostmaster 1 2 2 3600 1\n@ 600 IN NS ns1\nns1 600 IN A {}\n{taken}. 60 IN CNAME elsewhere.example.\n",
        stage.server.address().ip()
    );
    stage.server.set_zone(domain, &zone).await?;
    let reference = json!({ "providerRef": { "name": "hosting-extdns" } });
    world.create(&namespace, &occupied, reference.clone()).await;
    until_set(world, &occupied, "what is in the way is told", |set| {
        let told = states(set);
        let conflicts: Vec<_> = told.iter().filter(|(_, s, _)| *s == PublishState::Conflict).collect();
        let done = told.iter().filter(|(_, s, _)| *s == PublishState::Published).count();
        // The keys at the embedded server and the other CNAME.
        match conflicts.as_slice() {
            [(_, _, message)] if done == 3 && message.contains("a CNAME to elsewhere.example") => Ok(()),
            _ => Err(format!("{told:?}")),
        }
    })
    .await?;
    assert_eq!(lookup(stage.server.address(), &taken, "CNAME").await?.data("CNAME"), ["elsewhere.example."]);

    world.create(&namespace, domain, reference).await;
    world.until_condition(&namespace, domain, ConditionType::Enabled, "True").await?;
    let set = until_set(world, domain, "both CNAMEs are reported", |set| {
        let place = set.status.iter().flat_map(|s| &s.places).find(|p| p.cnames).ok_or("no place")?;
        let done = place.records.iter().filter(|r| r.state == PublishState::Published).count();
        if done == 2 { Ok(set.clone()) } else { Err(format!("{:?}", states(set))) }
    })
    .await?;
    let cnames = set.spec.cnames.expect("CNAMEs").records;
    for record in &cnames {
        let answer = lookup(stage.server.address(), &record.name, "CNAME").await?;
        assert_eq!(answer.data("CNAME"), [format!("{}.", record.target)], "{answer}");
    }
    // To other names: each CNAME is changed, and never away.
    let poller = Poller::start(world, cnames[0].name.clone(), domain.to_owned());
    world.patch(&namespace, domain, json!({ "guid": "elsewhere-extdns" })).await;
    until_set(world, domain, "both CNAMEs lead to the new names", |set| {
        let place = set.status.iter().flat_map(|s| &s.places).find(|p| p.cnames).ok_or("no place")?;
        let led = set.spec.cnames.iter().flat_map(|c| &c.records);
        let led = led.filter(|record| record.target.contains("elsewhere-extdns")).count();
        let done = place.records.iter().filter(|r| r.state == PublishState::Published).count();
        if (led, done) == (2, 2) { Ok(()) } else { Err(format!("{led} {:?}", states(set))) }
    })
    .await?;
    world.until_condition(&namespace, domain, ConditionType::Ready, "True").await?;
    poller.unbroken(20).await;
    for record in &cnames {
        let answer = lookup(stage.server.address(), &record.name, "CNAME").await?;
        assert!(answer.data("CNAME").iter().all(|target| target.contains("elsewhere-extdns")), "{answer}");
    }
    world.domains(&namespace).delete(domain, &DeleteParams::default()).await?;
    for record in &cnames {
        eventually(BOUND, &format!("{} is gone", record.name), || async {
            let answer =
                lookup(stage.server.address(), &record.name, "CNAME").await.map_err(|e| e.to_string())?;
            if answer.data("CNAME").is_empty() { Ok(()) } else { Err(answer.to_string()) }
        })
        .await?;
    }
    Ok(())
}

/// Its provider rfc2136 reads a TXT back in pieces and cannot take it away again. The operator sees that, says what helps, and
/// goes on signing with the key that is right.
#[tokio::test]
async fn its_provider_rfc2136_leaves_old_keys_and_the_operator_says_what_helps() -> Outcome {
    let world = world().await;
    know_endpoints(world).await?;
    let objects = world.plane.namespace().await?;
    let_endpoints(world, &objects).await?;
    let key = TsigKey::random("dkim-operator", "hmac-sha256");
    let (server, zone) = (Server::start(Make::Knot, &key).await?, "extupdates.example");
    server.add_zone(zone, 1).await?;
    world.tree.delegate(zone, &format!("ns1.{zone}"), server.address().ip()).await?;
    let args = [settled(zone), to_rfc2136(server.address(), zone, &key)].concat();
    let external_dns = ExternalDns::start(&world.plane, &objects, args).await?;
    let provider = |publish: Value| world.provider_in("extupdates", zone, publish);
    let through = json!({ "method": "DNSEndpoint", "zone": zone, "nameServers": [], "dnsEndpoint": { "namespace": objects } });
    world.apply(&provider(through)).await?;
    let domain = "tenant-extupdates.example";
    let namespace = world.enabled(domain, json!({ "providerRef": { "name": "extupdates" } })).await?;
    rotate(world, &namespace, domain).await;
    let name = until_set(world, domain, "the old key beside the next one is told", |set| {
        let all = set.status.iter().flat_map(|s| &s.places).flat_map(|p| &p.records);
        let told = all.clone().find(|r| {
            r.state == PublishState::Failed
                && r.message.contains("provider rfc2136 can neither change nor remove")
        });
        told.map(|record| record.name.clone()).ok_or_else(|| format!("{:?}", all.collect::<Vec<_>>()))
    })
    .await;
    let name = match name {
        Ok(name) => name,
        Err(error) => return Err(format!("{error}\n{}", external_dns.log_text().await).into()),
    };
    assert_eq!(server.texts(&name).await?.len(), 2);
    world
        .until(&namespace, domain, "mail is signed as the domain with the other key", |d| {
            let (status, reason, message) = condition(d, ConditionType::RecordsPublished).ok_or("nothing")?;
            let enabled = condition(d, ConditionType::Enabled).ok_or("nothing")?;
            let told = status == "False" && reason == "PublishingFailed" && enabled.0 == "True";
            if told { Ok(()) } else { Err(format!("{reason}: {message}")) }
        })
        .await?;

    // What it says: the operator's own updates to the same server, and what was left is removed.
    drop(external_dns);
    put_key(world, "tsig-extupdates", &key).await?;
    world.apply(&provider(settings(&server, &key, zone, "tsig-extupdates"))).await?;
    let set = world.record_sets().get(domain).await?;
    let wanted = &set.spec.records.iter().find(|record| record.name == name).expect("the record").value;
    let left = server.texts(&name).await?.into_iter().find(|text| text != wanted).expect("the old key");
    nsupdate(server.address(), &key, zone, &format!("del {name} TXT {}", dkim_testbed::txt(&left))).await?;
    rotate(world, &namespace, domain).await;
    until_set(world, domain, "the next rotation goes through", |set| {
        let serials: Vec<i64> = set.spec.records.iter().map(|record| record.serial).collect();
        let all = states(set);
        let published =
            all.iter().filter(|(leaving, s, _)| !leaving && *s == PublishState::Published).count();
        if serials.contains(&4) && published == 2 { Ok(()) } else { Err(format!("{serials:?} {all:?}")) }
    })
    .await?;
    Ok(())
}
