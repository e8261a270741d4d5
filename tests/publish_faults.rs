//! What goes wrong when records are published on servers of others: told in words, and nothing foreign is touched.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::publish::{BOUND, Site, put_key, states, until_set};
use common::servers::Make;
use common::{Outcome, World, condition, world};
use dkim_operator::api::{ConditionType, DkimProvider, PublishState};
use dkim_testbed::{TsigKey, eventually, nsupdate};
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, DeleteParams, ListParams};

/// The message of a record set's first record in a state.
async fn message(world: &World, domain: &str, state: PublishState) -> Result<String, dkim_testbed::Error> {
    until_set(world, domain, &format!("a record is {}", state.as_str()), |set| {
        let states = states(set);
        let found = states.iter().find(|(_, s, message)| *s == state && !message.is_empty());
        found.map(|(_, _, message)| message.clone()).ok_or_else(|| format!("{states:?}"))
    })
    .await
}

async fn wrong_key(label: &str, make: Make) -> Outcome {
    let world = world().await;
    let site = Site::new(world, label, make, "hmac-sha256").await?;
    let secret = format!("tsig-{label}");
    let wrong = TsigKey::random("dkim-operator", "hmac-sha256");
    put_key(world, &secret, &wrong).await?;
    let (namespace, domain) = (world.plane.namespace().await?, format!("tenant-{label}.example"));
    world.tree.add_zone(&domain, 1).await?;
    world.create(&namespace, &domain, site.reference()).await;
    let said = message(world, &domain, PublishState::Failed).await?;
    println!("{label}: {said}");
    assert!(said.contains("secret") || said.contains("NOTAUTH") || said.contains("REFUSED"), "{said}");
    assert!(said.contains("spec.publish.rfc2136"), "{said}");
    for hidden in [&wrong.secret, &site.key.secret] {
        assert!(
            !said.contains(hidden.as_str())
                && !world.operator.controller().log().await.contains(hidden.as_str())
        );
    }
    // The tenant is told that it is the provider's business, the provider what is wrong.
    world
        .until(&namespace, &domain, "the domain says that publishing fails", |d| {
            let (status, reason, message) = condition(d, ConditionType::RecordsPublished).ok_or("nothing")?;
            let told = status == "False" && reason == "PublishingFailed" && message.contains(&site.provider);
            if told { Ok(()) } else { Err(format!("{reason}: {message}")) }
        })
        .await?;
    let providers: Api<DkimProvider> = Api::all(world.client());
    eventually(BOUND, "the provider's status says what is wrong", || async {
        let status =
            providers.get(&site.provider).await.map_err(|e| e.to_string())?.status.unwrap_or_default();
        let found = status.conditions.iter().find(|c| c.type_ == "RecordsPublished").ok_or("no condition")?;
        if found.reason == "PublishingFailed"
            && found.message == said
            && status.records.is_some_and(|r| r.failed == 2)
        {
            return Ok(());
        }
        Err(format!("{found:?} {:?}", status.records))
    })
    .await?;
    put_key(world, &secret, &site.key).await?;
    world.publish_cnames(&namespace, &domain).await?;
    world.until_condition(&namespace, &domain, ConditionType::Enabled, "True").await?;
    Ok(())
}

#[tokio::test]
async fn a_wrong_key_on_bind() -> Outcome {
    wrong_key("badbind", Make::Bind).await
}

#[tokio::test]
async fn a_wrong_key_on_knot() -> Outcome {
    wrong_key("badknot", Make::Knot).await
}

#[tokio::test]
async fn a_wrong_key_on_powerdns() -> Outcome {
    wrong_key("badpdns", Make::Pdns).await
}

async fn conflict(label: &str, make: Make) -> Outcome {
    let world = world().await;
    let site = Site::new(world, label, make, "hmac-sha256").await?;
    let (namespace, domain) = (world.plane.namespace().await?, format!("tenant-{label}.example"));
    let record = site.record(&namespace, &domain);
    let second = record.replace("selector1", "selector2");
    site.foreign(&format!("add {record} 60 TXT \"v=DKIM1; p=\" \"theirs\"")).await?;
    site.foreign(&format!(
        "add _owner.{second} 60 TXT \"heritage=dkim-operator,owner=other-cluster,place=0\""
    ))
    .await?;
    let serial = site.server.serial(&site.zone).await?;
    world.tree.add_zone(&domain, 1).await?;
    world.create(&namespace, &domain, site.reference()).await;
    let (first, other) = until_set(world, &domain, "both conflicts are told", |set| {
        let states = states(set);
        let message = |words: &str| {
            states
                .iter()
                .find(|(_, s, m)| *s == PublishState::Conflict && m.contains(words))
                .map(|s| s.2.clone())
        };
        message("is not ours").zip(message("other-cluster")).ok_or_else(|| format!("{states:?}"))
    })
    .await?;
    assert!(first.contains(&record) && first.contains("theirs"), "{first}");
    assert!(other.contains(&second) && other.contains("spec.publish.ownerId"), "{other}");
    world
        .until(&namespace, &domain, "the domain tells the conflict", |d| {
            let (status, reason, message) = condition(d, ConditionType::RecordsPublished).ok_or("nothing")?;
            let told = status == "False" && reason == "RecordConflict" && message.contains(&record);
            if told { Ok(()) } else { Err(format!("{reason}: {message}")) }
        })
        .await?;
    let events: Api<Event> = Api::namespaced(world.client(), &namespace);
    eventually(BOUND, "an Event tells it", || async {
        let list = events.list(&ListParams::default()).await.map_err(|e| e.to_string())?;
        let found = list.items.iter().any(|event| event.reason.as_deref() == Some("RecordConflict"));
        if found { Ok(()) } else { Err(format!("{} Events", list.items.len())) }
    })
    .await?;
    assert_eq!(site.server.texts(&record).await?, ["v=DKIM1; p=theirs"]);
    assert_eq!(site.server.serial(&site.zone).await?, serial, "something was sent");
    site.foreign(&format!("del {record} TXT")).await?;
    site.foreign(&format!("del _owner.{second} TXT")).await?;
    world.publish_cnames(&namespace, &domain).await?;
    world.until_condition(&namespace, &domain, ConditionType::Enabled, "True").await?;
    Ok(())
}

#[tokio::test]
async fn a_conflict_on_bind() -> Outcome {
    conflict("foreignbind", Make::Bind).await
}

#[tokio::test]
async fn a_conflict_on_knot() -> Outcome {
    conflict("foreignknot", Make::Knot).await
}

#[tokio::test]
async fn a_conflict_on_powerdns() -> Outcome {
    conflict("foreignpdns", Make::Pdns).await
}

#[tokio::test]
async fn a_negative_ttl_that_is_not_the_zones_is_told_before_anything_is_published() -> Outcome {
    let world = world().await;
    let site = Site::new(world, "negative", Make::Bind, "hmac-sha256").await?;
    // The last number of the SOA is 1; this makes it 3600.
    let soa = format!("add {0} 3600 SOA ns1.{0} hostmaster.ns1.{0} 100 2 2 3600 3600", site.zone);
    nsupdate(site.server.address(), &site.key, &site.zone, &soa).await?;
    let (namespace, domain) = (world.plane.namespace().await?, "tenant-negative.example");
    world.create(&namespace, domain, site.reference()).await;
    let said = message(world, domain, PublishState::Failed).await?;
    assert!(said.contains("Set negativeTtl to 3600"), "{said}");
    assert!(site.server.texts(&site.record(&namespace, domain)).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_record_set_that_is_deleted_by_hand_comes_back_and_nothing_leaves_the_server() -> Outcome {
    let world = world().await;
    let site = Site::new(world, "hand", Make::Bind, "hmac-sha256").await?;
    let domain = "tenant-hand.example";
    let namespace = world.enabled(domain, site.reference()).await?;
    let record = site.record(&namespace, domain);
    let (before, texts) = (world.record_sets().get(domain).await?, site.server.texts(&record).await?);
    let serial = site.server.serial(&site.zone).await?;
    world.record_sets().delete(domain, &DeleteParams::default()).await?;
    eventually(BOUND, "another record set is published", || async {
        assert_eq!(site.server.texts(&record).await.map_err(|e| e.to_string())?, texts);
        let set = world.record_sets().get_opt(domain).await.map_err(|e| e.to_string())?.ok_or("none")?;
        let states = states(&set);
        let done = set.metadata.uid != before.metadata.uid
            && states.len() == 2
            && states.iter().all(|(_, state, _)| *state == PublishState::Published);
        if done { Ok(()) } else { Err(format!("{states:?}")) }
    })
    .await?;
    assert_eq!(site.server.serial(&site.zone).await?, serial);
    world.until_condition(&namespace, domain, ConditionType::Ready, "True").await?;
    Ok(())
}
