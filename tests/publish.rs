//! Records published on real servers of three makes by dynamic updates, through the real API server and operator.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use common::publish::{BOUND, Site, states, until_set};
use common::servers::Make;
use common::{Outcome, world};
use dkim_operator::api::PublishState;
use dkim_testbed::{eventually, lookup};
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

/// A whole life on one server: published, marked, enabled, idle, rotated, withdrawn.
async fn whole_life(label: &str, make: Make, algorithm: &str, size: i32) -> Outcome {
    let world = world().await;
    let site = Site::new(world, label, make, algorithm).await?;
    let domain = format!("tenant-{label}.example");
    let mut extra = site.reference();
    extra["key"] = json!({ "size": size });
    let namespace = world.enabled(&domain, extra).await?;
    let record = site.record(&namespace, &domain);

    let set = world.record_sets().get(&domain).await?;
    let texts = site.server.texts(&record).await?;
    assert_eq!(
        texts,
        [set.spec.records.iter().find(|r| r.name == record).expect("the record").value.clone()]
    );
    let marks = site.server.texts(&format!("_owner.{record}")).await?;
    let [mark] = marks.as_slice() else { panic!("{marks:?}") };
    assert!(mark.starts_with("heritage=dkim-operator,owner="), "{mark}");
    assert!(!mark.contains(&domain), "{mark}");
    until_set(world, &domain, "both records are published", |set| {
        let states = states(set);
        let done = states.len() == 2 && states.iter().all(|(_, state, _)| *state == PublishState::Published);
        if done { Ok(()) } else { Err(format!("{states:?}")) }
    })
    .await?;

    // Nothing changes, nothing is sent: neither after a restart, nor when the set is looked at again.
    let serial = site.server.serial(&site.zone).await?;
    let version = world.record_sets().get(&domain).await?.metadata.resource_version;
    let patch = json!({ "metadata": { "annotations": { "example.com/touched": "yes" } } });
    let touched = world.record_sets().patch(&domain, &PatchParams::default(), &Patch::Merge(&patch)).await?;
    assert_ne!(version, touched.metadata.resource_version);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(site.server.serial(&site.zone).await?, serial, "an update was sent though nothing changed");
    assert_eq!(
        world.record_sets().get(&domain).await?.metadata.resource_version,
        touched.metadata.resource_version
    );

    // A rotation changes the text at a name that stays, and it is always exactly one.
    let before = world.record_sets().get(&domain).await?.spec.records;
    let now = jiff::Timestamp::now().to_string();
    world.patch(&namespace, &domain, json!({ "rotation": { "rotateAt": now } })).await;
    eventually(BOUND, "the first slot has a new key on the server", || async {
        let texts = site.server.texts(&record).await.map_err(|e| e.to_string())?;
        assert!(texts.len() <= 1, "{texts:?}");
        let old = &before.iter().find(|r| r.name == record).expect("the record").value;
        if texts.len() == 1 && texts[0] != *old { Ok(()) } else { Err(format!("{texts:?}")) }
    })
    .await?;

    // The domain goes: the key that has signed stays for the drain, then both names and their marks go.
    world.domains(&namespace).delete(&domain, &DeleteParams::default()).await?;
    eventually(BOUND, "the record set is gone", || async {
        match world.record_sets().get_opt(&domain).await.map_err(|e| e.to_string())? {
            None => Ok(()),
            Some(set) => Err(format!("{:?}", states(&set))),
        }
    })
    .await?;
    for name in [&record, &record.replace("selector1", "selector2")] {
        for name in [name.clone(), format!("_owner.{name}")] {
            let answer = lookup(site.server.address(), &name, "TXT").await?;
            assert!(answer.data("TXT").is_empty(), "{name} is left behind: {answer}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_whole_life_on_bind() -> Outcome {
    whole_life("bind", Make::Bind, "hmac-sha256", 2048).await
}

#[tokio::test]
async fn a_whole_life_on_knot() -> Outcome {
    whole_life("knot", Make::Knot, "hmac-sha512", 4096).await
}

#[tokio::test]
async fn a_whole_life_on_powerdns() -> Outcome {
    whole_life("pdns", Make::Pdns, "hmac-sha256", 2048).await
}
