//! What a tenant sees from the first apply to the last delete.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use common::{Outcome, World, condition, world};
use dkim_operator::api::{ConditionType, DkimRecordSet, DkimRecordSetSpec, FINALIZER};
use dkim_testbed::eventually;
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use serde_json::json;

#[tokio::test]
async fn from_missing_cnames_to_enabled() -> Outcome {
    let world = world().await;
    let namespace = world.plane.namespace().await?;
    world.tree.add_zone("contoso.com", 1).await?;
    world.create(&namespace, "contoso.com", json!({})).await;
    world
        .until(
            &namespace,
            "contoso.com",
            "the CNAMEs are told as missing, mail is signed as the provider",
            |d| {
                let status = d.status.as_ref().ok_or("no status")?;
                let record = status.records.first().ok_or("no records")?;
                let signing = status.signing.as_ref().ok_or("nothing signs")?;
                if record.state != "Missing" && record.state != "NxDomain" {
                    return Err(format!("state {} ({})", record.state, record.diagnosis));
                }
                let target = format!("selector1-contoso-com._domainkey.{namespace}.onmail.example");
                assert_eq!(record.name, "selector1._domainkey.contoso.com");
                assert_eq!(record.host, "selector1._domainkey");
                assert_eq!(record.value, target);
                assert!(record.diagnosis.contains(&target), "{}", record.diagnosis);
                assert_eq!(signing.domain, format!("{namespace}.onmail.example"));
                Ok(())
            },
        )
        .await?;
    world.publish_cnames(&namespace, "contoso.com").await?;
    world.until_condition(&namespace, "contoso.com", ConditionType::Enabled, "True").await?;
    world.until_condition(&namespace, "contoso.com", ConditionType::Ready, "True").await?;
    let found = world.domains(&namespace).get("contoso.com").await?;
    let signing = found.status.and_then(|s| s.signing).ok_or("nothing signs")?;
    assert_eq!(signing.domain, "contoso.com");
    assert!(["selector1", "selector2"].contains(&signing.selector.as_str()), "{}", signing.selector);
    Ok(())
}

#[tokio::test]
async fn a_wrong_target_is_told_in_words() -> Outcome {
    let world = world().await;
    let namespace = world.plane.namespace().await?;
    world.tree.add_zone("wrong.example", 1).await?;
    world
        .tree
        .add_record("selector1._domainkey.wrong.example", 1, "CNAME", "selector1.elsewhere.example.")
        .await?;
    world.create(&namespace, "wrong.example", json!({})).await;
    world
        .until(&namespace, "wrong.example", "the wrong target is told", |d| {
            let record = d.status.as_ref().and_then(|s| s.records.first()).ok_or("no records")?.clone();
            if record.state == "WrongTarget" && record.diagnosis.contains("selector1.elsewhere.example") {
                return Ok(());
            }
            Err(format!("{}: {}", record.state, record.diagnosis))
        })
        .await?;
    Ok(())
}

#[tokio::test]
async fn disable_and_enable() -> Outcome {
    let world = world().await;
    let namespace = world.enabled("toggle.example", json!({})).await?;
    world.patch(&namespace, "toggle.example", json!({ "enabled": false })).await;
    world.until_condition(&namespace, "toggle.example", ConditionType::Enabled, "False").await?;
    world
        .until(&namespace, "toggle.example", "signing as the provider", |d| {
            let signing = d.status.as_ref().and_then(|s| s.signing.clone()).ok_or("nothing signs")?;
            if signing.domain.ends_with("onmail.example") { Ok(()) } else { Err(signing.domain) }
        })
        .await?;
    world.until_condition(&namespace, "toggle.example", ConditionType::Ready, "True").await?;
    world.patch(&namespace, "toggle.example", json!({ "enabled": true })).await;
    world.until_condition(&namespace, "toggle.example", ConditionType::Enabled, "True").await?;
    Ok(())
}

#[tokio::test]
async fn rotates_on_request_and_on_schedule() -> Outcome {
    let world = world().await;
    let extra = json!({ "rotation": { "interval": "6s", "drain": "1s" } });
    let namespace = world.enabled("rolling.example", extra).await?;
    world
        .until(&namespace, "rolling.example", "two rotations by schedule", |d| {
            let count = d.status.as_ref().and_then(|s| s.rotation.as_ref()).map_or(0, |r| r.count);
            if count >= 2 { Ok(()) } else { Err(format!("{count} rotations")) }
        })
        .await?;
    world.patch(&namespace, "rolling.example", json!({ "rotation": { "interval": "24h" } })).await;
    let before = rotations(world, &namespace, "rolling.example").await;
    let now = jiff::Timestamp::now().to_string();
    world.patch(&namespace, "rolling.example", json!({ "rotation": { "rotateAt": now } })).await;
    world
        .until(&namespace, "rolling.example", "a rotation by request", |d| {
            let count = d.status.as_ref().and_then(|s| s.rotation.as_ref()).map_or(0, |r| r.count);
            if count > before { Ok(()) } else { Err(format!("{count} rotations")) }
        })
        .await?;
    Ok(())
}

async fn rotations(world: &World, namespace: &str, domain: &str) -> i64 {
    let found = world.domains(namespace).get(domain).await.expect("there");
    found.status.and_then(|s| s.rotation).map_or(0, |r| r.count)
}

/// A GUID that another domain derives is as taken as one that another domain chose.
#[tokio::test]
async fn of_domains_made_at_once_with_one_guid_exactly_one_is_accepted() -> Outcome {
    let world = world().await;
    let namespace = world.plane.namespace().await?;
    let guid = json!({ "guid": "same-guid-example" });
    let all = ["one.guid.example", "two.guid.example", "three.guid.example", "same.guid.example"];
    tokio::join!(
        world.create(&namespace, all[0], guid.clone()),
        world.create(&namespace, all[1], guid.clone()),
        world.create(&namespace, all[2], guid.clone()),
        world.create(&namespace, all[3], json!({})),
    );
    let settled = async |domain: &str| {
        world
            .until(&namespace, domain, "Accepted is decided", |d| {
                condition(d, ConditionType::Accepted).ok_or_else(|| "undecided".to_owned())
            })
            .await
    };
    tokio::time::sleep(Duration::from_secs(4)).await;
    let mut accepted = Vec::new();
    for domain in all {
        let (status, reason, message) = settled(domain).await?;
        match status.as_str() {
            "True" => accepted.push(domain),
            _ => assert!(reason == "GuidTaken" && message.contains(".guid.example"), "{reason}: {message}"),
        }
    }
    assert_eq!(accepted.len(), 1, "{accepted:?}");
    let sets = world.record_sets().list(&kube::api::ListParams::default()).await?;
    let held: Vec<String> = sets
        .items
        .iter()
        .filter(|set| set.spec.guid == "same-guid-example")
        .map(ResourceExt::name_any)
        .collect();
    assert_eq!(held, accepted, "who came too late leaves nothing behind");
    Ok(())
}

#[tokio::test]
async fn tenants_of_two_organisations_may_choose_one_guid() -> Outcome {
    let world = world().await;
    let guid = json!({ "guid": "mail" });
    for domain in ["one.label.example", "two.label.example"] {
        let namespace = world.plane.namespace().await?;
        world.create(&namespace, domain, guid.clone()).await;
        world.until_condition(&namespace, domain, ConditionType::Accepted, "True").await?;
        let set = world.record_sets().get(domain).await?.spec;
        let initial = format!("{namespace}.onmail.example");
        assert_eq!((set.guid.as_str(), set.initial_domain), ("mail", Some(initial)));
    }
    Ok(())
}

/// Both have keys in use, and each would find the other's at the names that it moves to.
#[tokio::test]
async fn of_running_domains_that_change_to_one_guid_at_once_exactly_one_moves() -> Outcome {
    let world = world().await;
    let all = ["first.tie.example", "second.tie.example"];
    let namespace = world.enabled(all[0], json!({})).await?;
    world.tree.add_zone(all[1], 1).await?;
    world.create(&namespace, all[1], json!({})).await;
    world.publish_cnames(&namespace, all[1]).await?;
    world.until_condition(&namespace, all[1], ConditionType::Enabled, "True").await?;
    let before = [world.record_sets().get(all[0]).await?, world.record_sets().get(all[1]).await?];
    tokio::join!(
        world.patch(&namespace, all[0], json!({ "guid": "tied" })),
        world.patch(&namespace, all[1], json!({ "guid": "tied" })),
    );
    let moves = async |domain: &str| {
        world
            .until(&namespace, domain, "it moves or is refused", |d| {
                let (status, reason, message) = condition(d, ConditionType::Accepted).ok_or("undecided")?;
                if status == "False" {
                    assert_eq!(reason, "GuidTaken", "{message}");
                    assert!(
                        message.contains(".tie.example") && message.contains("set spec.guid back"),
                        "{message}"
                    );
                    return Ok(false);
                }
                let (_, _, message) = condition(d, ConditionType::Moving).ok_or("no move")?;
                if message.contains("publish the records") { Ok(true) } else { Err(message) }
            })
            .await
    };
    let moved = [moves(all[0]).await?, moves(all[1]).await?];
    assert_ne!(moved[0], moved[1], "exactly one moves");
    let (winner, loser) = if moved[0] { (0, 1) } else { (1, 0) };
    let set = world.record_sets().get(all[winner]).await?.spec;
    assert_eq!((set.guid.as_str(), set.records.len()), ("tied", 2));
    assert_eq!(set.former[0].records, before[winner].spec.records);
    assert_eq!(world.record_sets().get(all[loser]).await?.spec, before[loser].spec);
    world.patch(&namespace, all[loser], json!({ "guid": null })).await;
    world.until_condition(&namespace, all[loser], ConditionType::Accepted, "True").await?;
    world.until_condition(&namespace, all[loser], ConditionType::Ready, "True").await?;
    Ok(())
}

/// So that two that move to one GUID meet, whether they chose it or not.
#[tokio::test]
async fn a_running_domain_claims_a_derived_guid_before_it_moves_there() -> Outcome {
    let world = world().await;
    let name = "back.derived.example";
    let namespace = world.enabled(name, json!({ "guid": "chosen" })).await?;
    let before = world.record_sets().get(name).await?;
    let only = WatchParams::default().fields(&format!("metadata.name={name}"));
    let version = before.resource_version().ok_or("no version")?;
    let mut changes = world.record_sets().watch(&only, &version).await?.boxed();
    world.patch(&namespace, name, json!({ "guid": null })).await;
    let mut claimed = false;
    while let Some(change) = changes.next().await {
        let WatchEvent::Modified(set) = change? else { return Err("deleted".into()) };
        if set.spec.guid == before.spec.guid {
            continue;
        }
        assert_eq!(set.spec.former[0].records, before.spec.records, "what is published goes on");
        if set.spec.records.is_empty() {
            claimed = true;
            continue;
        }
        assert!(claimed, "{:?}", set.spec);
        return Ok(());
    }
    Err("the watch ended".into())
}

/// Somebody deletes its record set by hand while another domain claims the GUID.
#[tokio::test]
async fn a_running_domain_keeps_the_names_that_it_has() -> Outcome {
    let world = world().await;
    let name = "own.keep.example";
    let namespace = world.enabled(name, json!({ "guid": "keep" })).await?;
    let before = world.record_sets().get(name).await?;
    let claim = DkimRecordSetSpec { records: Vec::new(), cnames: None, ..before.spec.clone() };
    let rival = DkimRecordSet::new("rival.keep.example", claim);
    world.record_sets().create(&PostParams::default(), &rival).await?;
    world.record_sets().delete(name, &DeleteParams::default()).await?;
    let values = |set: &DkimRecordSet| -> Vec<String> {
        set.spec.records.iter().map(|record| record.value.clone()).collect()
    };
    eventually(Duration::from_secs(10), "its keys are published again", async || {
        let found = world.record_sets().get_opt(name).await.expect("asked").ok_or("no set")?;
        if values(&found) == values(&before) { Ok(()) } else { Err(format!("{:?}", found.spec)) }
    })
    .await?;
    let found = world.domains(&namespace).get(name).await?;
    assert_eq!(condition(&found, ConditionType::Accepted).map(|c| c.0).as_deref(), Some("True"));
    Ok(())
}

#[tokio::test]
async fn a_secret_put_back_from_a_backup_counts_as_lost() -> Outcome {
    let world = world().await;
    let extra = json!({ "rotation": { "drain": "1s" } });
    let namespace = world.enabled("backup.example", extra).await?;
    let secrets: Api<Secret> = Api::namespaced(world.client(), &namespace);
    let backup = secrets.get("dkim-backup.example").await?;
    let newest = async || -> i64 {
        let set = world.record_sets().get("backup.example").await.expect("there");
        set.spec.records.iter().map(|r| r.serial).max().unwrap_or(0)
    };
    let now = jiff::Timestamp::now().to_string();
    world.patch(&namespace, "backup.example", json!({ "rotation": { "rotateAt": now } })).await;
    eventually(Duration::from_secs(60), "the first slot has its next key", async || match newest().await {
        3 => Ok(()),
        other => Err(format!("serial {other}")),
    })
    .await?;
    let third = world.record_sets().get("backup.example").await?.spec.records;
    let third = third.into_iter().find(|r| r.serial == 3).ok_or("no third key")?;
    let data = serde_json::to_value(&backup.data)?;
    secrets
        .patch("dkim-backup.example", &PatchParams::default(), &Patch::Merge(json!({ "data": data })))
        .await?;
    world
        .until(&namespace, "backup.example", "a key made since signs", |d| {
            let signing = d.status.as_ref().and_then(|s| s.signing.clone()).ok_or("nothing signs")?;
            let state = backup.data.as_ref().and_then(|data| data.get("state.json")).ok_or("no state")?;
            if String::from_utf8_lossy(&state.0).contains(&signing.fingerprint) {
                return Err(format!("a key of the backup signs: {}", signing.fingerprint));
            }
            Ok(())
        })
        .await?;
    assert!(newest().await > 3);
    let records = world.record_sets().get("backup.example").await?.spec.records;
    assert!(records.iter().all(|r| r.serial != 3 || r.value == third.value), "{records:#?}");
    Ok(())
}

#[tokio::test]
async fn a_deleted_secret_is_reported_and_old_records_stay() -> Outcome {
    let world = world().await;
    let extra = json!({ "rotation": { "drain": "30s" } });
    let namespace = world.enabled("lost.example", extra).await?;
    let before = world.record_sets().get("lost.example").await?;
    let signed = before.spec.records.iter().find(|r| r.signed_since.is_some()).ok_or("none signed")?.clone();
    let found = world.domains(&namespace).get("lost.example").await?;
    let was = found.status.and_then(|s| s.signing).ok_or("nothing signs")?;
    world.plane.kubectl(["delete", "secret", "dkim-lost.example", "-n", &namespace]).await?.ok()?;
    world
        .until(&namespace, "lost.example", "the other slot signs with a new key", |d| {
            let signing = d.status.as_ref().and_then(|s| s.signing.clone()).ok_or("nothing signs")?;
            // Also where the provider signs, its selector begins with the slot's own.
            if signing.selector.get(..9) == was.selector.get(..9) { Err(signing.selector) } else { Ok(()) }
        })
        .await?;
    let after = world.record_sets().get("lost.example").await?;
    let kept = after.spec.records.iter().find(|r| r.value == signed.value).ok_or("the old TXT is gone")?;
    assert!(kept.keep_until.is_some());
    let newest = after.spec.records.iter().map(|r| r.serial).max();
    assert!(newest > before.spec.records.iter().map(|r| r.serial).max(), "a serial was used again");
    let events = world.plane.kubectl(["get", "events", "-n", &namespace, "-o", "json"]).await?.ok()?;
    assert!(events.contains("KeysLost"), "{events}");
    Ok(())
}

/// It was told before that the domain is claimed, and what its predecessor published drains.
#[tokio::test]
async fn who_takes_over_under_another_guid_has_lost_no_keys() -> Outcome {
    let world = world().await;
    let name = "heir.example";
    let namespace = world.enabled(name, json!({ "rotation": { "drain": "60s" } })).await?;
    let heirs = world.plane.namespace().await?;
    world.create(&heirs, name, json!({ "guid": "heir" })).await;
    world.until_condition(&heirs, name, ConditionType::Accepted, "False").await?;
    world.domains(&namespace).delete(name, &DeleteParams::default()).await?;
    world.until_condition(&heirs, name, ConditionType::Accepted, "True").await?;
    let set = world.record_sets().get(name).await?.spec;
    assert_eq!((set.guid.as_str(), set.records.len()), ("heir", 2));
    assert!(set.former.iter().flat_map(|place| &place.records).any(|record| record.keep_until.is_some()));
    let events = world.plane.kubectl(["get", "events", "-n", &heirs, "-o", "json"]).await?.ok()?;
    assert!(events.contains("DomainClaimed") || events.contains("already held"), "{events}");
    assert!(!events.contains("KeysLost"), "{events}");
    Ok(())
}

#[tokio::test]
async fn a_wiped_status_is_rebuilt_with_the_same_keys() -> Outcome {
    let world = world().await;
    let namespace = world.enabled("wiped.example", json!({})).await?;
    let before = world.domains(&namespace).get("wiped.example").await?.status.ok_or("no status")?;
    let data = world.secret(&namespace, "wiped.example").await.ok_or("no Secret")?.data;
    let wipe = Patch::Merge(json!({ "status": null }));
    world.domains(&namespace).patch_status("wiped.example", &PatchParams::default(), &wipe).await?;
    world.until_condition(&namespace, "wiped.example", ConditionType::Enabled, "True").await?;
    let after = world.domains(&namespace).get("wiped.example").await?.status.ok_or("no status")?;
    assert_eq!((before.keys, before.signing), (after.keys, after.signing));
    assert_eq!(world.secret(&namespace, "wiped.example").await.ok_or("no Secret")?.data, data);
    Ok(())
}

#[tokio::test]
async fn two_dkimdomains_race_for_one_domain_and_one_wins() -> Outcome {
    let world = world().await;
    let (one, two) = (world.plane.namespace().await?, world.plane.namespace().await?);
    let race = json!({});
    tokio::join!(
        world.create(&one, "raced.example", race.clone()),
        world.create(&two, "raced.example", race.clone())
    );
    let verdict = |namespace: String| async move {
        world
            .until(&namespace, "raced.example", "Accepted is decided", |d| {
                condition(d, ConditionType::Accepted).ok_or_else(|| "undecided".to_owned())
            })
            .await
            .map(|c| (namespace, c))
    };
    let both = [verdict(one).await?, verdict(two).await?];
    let (winners, losers): (Vec<_>, Vec<_>) = both.iter().partition(|(_, c)| c.0 == "True");
    assert_eq!((winners.len(), losers.len()), (1, 1), "{both:?}");
    let (loser, (_, reason, message)) = losers[0];
    assert_eq!(reason, "DomainClaimed");
    assert!(!message.contains(&winners[0].0), "another tenant's namespace is told: {message}");
    assert!(world.secret(loser, "raced.example").await.is_none(), "the loser has keys");
    world.domains(&winners[0].0).delete("raced.example", &DeleteParams::default()).await?;
    world.until_condition(loser, "raced.example", ConditionType::Accepted, "True").await?;
    Ok(())
}

#[tokio::test]
async fn deleted_and_made_again_continues_with_the_free_slot() -> Outcome {
    let world = world().await;
    let extra = json!({ "rotation": { "drain": "60s" } });
    let namespace = world.enabled("again.example", extra.clone()).await?;
    let before = world.record_sets().get("again.example").await?;
    let signed = before.spec.records.iter().find(|r| r.signed_since.is_some()).ok_or("none signed")?.clone();
    world.domains(&namespace).delete("again.example", &DeleteParams::default()).await?;
    eventually(Duration::from_secs(10), "the DkimDomain is gone", || async {
        match world.domains(&namespace).get_opt("again.example").await {
            Ok(None) => Ok(()),
            other => Err(format!("{:?}", other.map(|d| d.map(|d| d.finalizers().to_vec())))),
        }
    })
    .await?;
    // Kubelet leaves the files of a deleted Secret in pods: whoever has it mounted is told to sign nothing.
    if let Some(secret) = world.secret(&namespace, "again.example").await {
        let data = secret.data.clone().unwrap_or_default();
        assert_eq!(data.keys().collect::<Vec<_>>(), ["signing.json"], "the keys outlive the DkimDomain");
        let config: serde_json::Value = serde_json::from_slice(&data["signing.json"].0)?;
        assert_eq!(config["signatures"], json!([]));
        assert!(secret.owner_references().is_empty());
    }
    eventually(Duration::from_secs(10), "the Secret goes once signers have heard", async || {
        match world.secret(&namespace, "again.example").await {
            None => Ok(()),
            Some(_) => Err("it is there".to_owned()),
        }
    })
    .await?;
    world.create(&namespace, "again.example", extra).await;
    world.until_condition(&namespace, "again.example", ConditionType::Enabled, "True").await?;
    let after = world.record_sets().get("again.example").await?;
    assert!(after.spec.records.iter().any(|r| r.value == signed.value), "the old TXT is gone");
    let found = world.domains(&namespace).get("again.example").await?;
    let signing = found.status.and_then(|s| s.signing).ok_or("nothing signs")?;
    assert!(!signed.name.starts_with(&signing.selector), "{} signs again: {}", signing.selector, signed.name);
    Ok(())
}

#[tokio::test]
async fn a_deleted_namespace_goes_in_seconds_and_its_records_drain() -> Outcome {
    let world = world().await;
    let namespace = world.enabled("leaving.example", json!({ "rotation": { "drain": "15s" } })).await?;
    let name = format!("selector1-leaving-example._domainkey.{namespace}.onmail.example");
    let api: Api<Namespace> = Api::all(world.client());
    api.delete(&namespace, &DeleteParams::default()).await?;
    eventually(Duration::from_secs(20), "the namespace is gone", || async {
        match api.get_opt(&namespace).await {
            Ok(None) => Ok(()),
            other => Err(format!("{:?}", other.map(|n| n.and_then(|n| n.status)))),
        }
    })
    .await?;
    let answer = world.tree.lookup(&name, "TXT").await?;
    assert_eq!(answer.data("TXT").len(), 1, "the TXT went with the namespace");
    eventually(Duration::from_secs(40), "the record set has drained", || async {
        match world.record_sets().get_opt("leaving.example").await {
            Ok(None) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn a_former_tenants_cname_does_not_verify_for_the_next() -> Outcome {
    let world = world().await;
    let former = world.enabled("handed.example", json!({})).await?;
    world.domains(&former).delete("handed.example", &DeleteParams::default()).await?;
    let next = world.plane.namespace().await?;
    world.create(&next, "handed.example", json!({})).await;
    world
        .until(&next, "handed.example", "the CNAME is told as the wrong target", |d| {
            let record = d.status.as_ref().and_then(|s| s.records.first()).ok_or("no records")?.clone();
            if record.state == "WrongTarget" { Ok(()) } else { Err(record.state) }
        })
        .await?;
    let found = world.domains(&next).get("handed.example").await?;
    assert_eq!(condition(&found, ConditionType::Enabled).map(|c| c.0).as_deref(), Some("False"));
    Ok(())
}

#[tokio::test]
async fn nothing_is_written_once_everything_is_as_it_should_be() -> Outcome {
    let world = world().await;
    let namespace = world.enabled("quiet.example", json!({})).await?;
    world.until_condition(&namespace, "quiet.example", ConditionType::Ready, "True").await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let versions = || async {
        let domain = world.domains(&namespace).get("quiet.example").await.expect("there");
        let secret = world.secret(&namespace, "quiet.example").await.expect("there");
        let set = world.record_sets().get("quiet.example").await.expect("there");
        [domain.resource_version(), secret.resource_version(), set.resource_version()]
    };
    let before = versions().await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(versions().await, before);
    Ok(())
}

#[tokio::test]
async fn the_finalizer_is_ours_alone() -> Outcome {
    let world = world().await;
    let namespace = world.enabled("final.example", json!({})).await?;
    let found = world.domains(&namespace).get("final.example").await?;
    assert_eq!(found.finalizers(), [FINALIZER]);
    Ok(())
}
