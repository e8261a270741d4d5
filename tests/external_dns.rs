//! external-dns itself, publishing the operator's DNSEndpoints into real servers: keys of all sizes, their rotation and their
//! end, tenants' CNAMEs and their move to another GUID, the move of keys from the embedded server, objects of an earlier version, and the
//! one provider of external-dns that cannot do it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use common::poller::Poller;
use common::publish::{
    BOUND, former_object, know_endpoints, leave_embedded, let_endpoints, methods, put_key, settings, states,
    until_set,
};
use common::servers::{Make, Server};
use common::{Outcome, World, condition, world};
use dkim_operator::api::{ConditionType, DkimRecordSet, PublishMethod, PublishState};
use dkim_operator::model::publishing::place_id;
use dkim_testbed::{ExternalDns, Pdns, TsigKey, eventually, lookup, nsupdate, to_pdns, to_rfc2136};
use kube::api::DeleteParams;
use serde_json::{Value, json};

/// What docs/publishing.md says it should run with.
fn settled(zone: &str) -> Vec<String> {
    let domains = format!("--domain-filter={zone}");
    let all = [
        "--managed-record-types=TXT",
        "--managed-record-types=CNAME",
        "--policy=sync",
        "--registry=txt",
        "--txt-owner-id=mail",
        "--txt-prefix=_extdns-%{record_type}.",
        &domains,
    ];
    all.map(str::to_owned).to_vec()
}

/// A PowerDNS with a zone, an external-dns that publishes there, and the namespace with its objects.
struct Stage {
    world: &'static World,
    server: Pdns,
    zone: String,
    objects: String,
    external_dns: ExternalDns,
}

impl Stage {
    async fn new(zone: &str) -> Result<Self, Box<dyn std::error::Error>> {
        let stage = Self::without_rights(zone).await?;
        let_endpoints(stage.world, &stage.objects).await?;
        Ok(stage)
    }

    /// The operator may not write objects yet.
    async fn without_rights(zone: &str) -> Result<Self, Box<dyn std::error::Error>> {
        let world = world().await;
        know_endpoints(world).await?;
        let objects = world.plane.namespace().await?;
        let server = Pdns::start(&[]).await?;
        server.add_zone(zone, 1).await?;
        let args = [settled(zone), to_pdns(&server)].concat();
        let external_dns = ExternalDns::start(&world.plane, &objects, args).await?;
        Ok(Self { world, server, zone: zone.to_owned(), objects, external_dns })
    }

    async fn delegate(&self) -> Outcome {
        let (zone, ip) = (&self.zone, self.server.address().ip());
        self.world.tree.delegate(zone, &format!("ns1.{zone}"), ip).await?;
        Ok(())
    }

    /// How a provider publishes through it.
    fn publish(&self) -> Value {
        json!({ "method": "DNSEndpoint", "zone": self.zone, "nameServers": [], "dnsEndpoint": { "namespace": self.objects } })
    }

    async fn texts(&self, name: &str) -> Result<Vec<String>, String> {
        let answer = lookup(self.server.address(), name, "TXT").await.map_err(|e| e.to_string())?;
        Ok(answer.data("TXT").into_iter().map(str::to_owned).collect())
    }

    /// Waits until what the record set says is in DNS, one text at each name, and reported as published.
    async fn until_published(
        &self,
        domain: &str,
        serials: &[i64],
    ) -> Result<DkimRecordSet, Box<dyn std::error::Error>> {
        let world = self.world;
        let what = format!("{domain} is published with keys {serials:?}");
        let found = eventually(Duration::from_secs(60), &what, || async {
            let set = world.record_sets().get(domain).await.map_err(|e| e.to_string())?;
            let mut found: Vec<i64> = set.spec.records.iter().map(|record| record.serial).collect();
            found.sort_unstable();
            let all = states(&set);
            let done =
                all.len() == serials.len() && all.iter().all(|(_, s, _)| *s == PublishState::Published);
            if found != serials || !done {
                return Err(format!("{found:?} {all:?}"));
            }
            for record in &set.spec.records {
                let texts = self.texts(&record.name).await?;
                if texts != [record.value.as_str()] {
                    return Err(format!("{}: {texts:?}", record.name));
                }
            }
            Ok(set)
        })
        .await;
        Ok(match found {
            Ok(set) => set,
            Err(error) => return Err(format!("{error}\n{}", self.last_words().await).into()),
        })
    }

    async fn last_words(&self) -> String {
        let log = self.external_dns.log_text().await;
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

/// Asks for one rotation, now.
async fn rotate(world: &World, namespace: &str, domain: &str) {
    let now = jiff::Timestamp::now().to_string();
    world.patch(namespace, domain, json!({ "rotation": { "rotateAt": now } })).await;
}

#[tokio::test]
async fn keys_of_all_sizes_come_are_rolled_and_go() -> Outcome {
    let stage = Stage::new("extdns.example").await?;
    stage.delegate().await?;
    let world = stage.world;
    let extra =
        json!({ "initialDomain": format!("{{namespace}}.{}", stage.zone), "publish": stage.publish() });
    world.apply(&world.provider("extdns", extra)).await?;
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
    let (count, faults) = poller.stop().await;
    assert!(count > 20 && faults.is_empty(), "{} of {count}: {:?}", faults.len(), faults.first());
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

#[tokio::test]
async fn from_the_embedded_server_without_a_gap() -> Outcome {
    let stage = Stage::new("extmover.example").await?;
    let (world, zone) = (stage.world, stage.zone.as_str());
    world.operator.delegate(&world.tree, zone).await?;
    let own = json!({ "initialDomain": format!("{{namespace}}.{zone}"), "publish": { "zone": zone } });
    world.apply(&world.provider("extmover", own)).await?;
    let domain = "tenant-extmover.example";
    let namespace = world.enabled(domain, json!({ "providerRef": { "name": "extmover" } })).await?;
    let poller = Poller::start(world, format!("selector1._domainkey.{domain}"), domain.to_owned());

    let extra = json!({ "initialDomain": format!("{{namespace}}.{zone}"), "publish": stage.publish() });
    world.apply(&world.provider("extmover", extra)).await?;
    let records = world.record_sets().get(domain).await?.spec.records;
    eventually(BOUND, "external-dns has published what the embedded server still serves", || async {
        for record in &records {
            let texts = stage.texts(&record.name).await?;
            if texts != [record.value.as_str()] {
                return Err(format!("{}: {texts:?}", record.name));
            }
        }
        Ok(())
    })
    .await?;
    // The zone is delegated to both, then to the new one alone.
    stage.delegate().await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    leave_embedded(world, zone).await?;
    until_set(world, domain, "the embedded server is left", |set| {
        let methods = methods(set);
        let done = methods == [(PublishMethod::DnsEndpoint, false)];
        if done { Ok(()) } else { Err(format!("{methods:?} {:?}", states(set))) }
    })
    .await?;
    let (count, faults) = poller.stop().await;
    println!("{count} answers of the resolver, {} of them wrong", faults.len());
    assert!(count > 50 && faults.is_empty(), "{} of {count}: {:?}", faults.len(), faults.first());
    world.until_condition(&namespace, domain, ConditionType::Ready, "True").await?;
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
    let extra = json!({ "initialDomain": format!("{{namespace}}.{}", stage.zone), "publish": publish });
    world.apply(&world.provider("extformer", extra)).await?;
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
    eventually(BOUND, "the old object is published", || async {
        for record in &set.spec.records {
            let texts = stage.texts(&record.name).await?;
            if texts != [record.value.as_str()] {
                return Err(format!("{}: {texts:?}", record.name));
            }
        }
        Ok(())
    })
    .await?;
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
    let (count, faults) = poller.stop().await;
    assert!(count > 50 && faults.is_empty(), "{} of {count}: {:?}", faults.len(), faults.first());
    rotate(world, &namespace, domain).await;
    stage.until_published(domain, &[2, 3]).await?;
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
    let provider = |publish: Value| {
        let extra = json!({ "initialDomain": format!("{{namespace}}.{zone}"), "publish": publish });
        world.provider("extupdates", extra)
    };
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
