//! What tenants may ask of their keys beside the schedule: emergencies, moves, second signatures, keys of their own, keys
//! they publish themselves, and how it ends.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use common::{Outcome, World, condition, world};
use dkim_operator::api::signing_config::SigningConfig;
use dkim_operator::api::{ConditionType, DkimDomain};
use dkim_operator::model::key::{KeyKind, PrivateKey};
use dkim_operator::model::record::KeyRecord;
use dkim_testbed::eventually;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, PostParams};
use serde_json::{Value, json};

/// What signers are told now.
async fn told(world: &World, namespace: &str, domain: &str) -> Result<SigningConfig, String> {
    let secret = world.secret(namespace, domain).await.ok_or("no Secret")?;
    let data = secret.data.unwrap_or_default();
    serde_json::from_slice(&data["signing.json"].0).map_err(|e| e.to_string())
}

/// That every signature which signers are told to make verifies now: what a receiver's resolver finds is its key.
async fn verifiable(world: &World, config: &SigningConfig) -> Result<(), String> {
    for signature in &config.signatures {
        let name = format!("{}._domainkey.{}", signature.s, signature.d);
        let answer = world.tree.lookup(&name, "TXT").await.map_err(|e| e.to_string())?;
        let texts = answer.data("TXT");
        let [text] = texts.as_slice() else { return Err(format!("{name}: {texts:?}")) };
        let found = KeyRecord::parse(text).map_err(|e| format!("{name}: {e}"))?.fingerprint();
        if found.as_ref() != Some(&signature.fingerprint) {
            return Err(format!("{name}: {text} is not {}", signature.fingerprint));
        }
    }
    Ok(())
}

/// Waits for a state of the domain, and sees all the while that every signature verifies.
async fn until_verifiable<T>(
    world: &World,
    namespace: &str,
    domain: &str,
    what: &str,
    check: impl Fn(&DkimDomain) -> Result<T, String>,
) -> Result<T, dkim_testbed::Error> {
    eventually(Duration::from_secs(60), what, || async {
        let config = told(world, namespace, domain).await?;
        if let Err(fault) = verifiable(world, &config).await {
            // The Secret may have changed between the two looks.
            let again = told(world, namespace, domain).await?;
            assert!(again != config || verifiable(world, &again).await.is_ok(), "{what}: {fault}");
        }
        let found = world.domains(namespace).get(domain).await.map_err(|e| e.to_string())?;
        check(&found)
    })
    .await
}

fn signing(domain: &DkimDomain) -> Result<(String, String), String> {
    let signing = domain.status.as_ref().and_then(|s| s.signing.clone()).ok_or("nothing signs")?;
    Ok((signing.selector, signing.domain))
}

fn phases(domain: &DkimDomain) -> BTreeMap<String, String> {
    let keys = domain.status.iter().flat_map(|s| &s.keys);
    keys.map(|k| (k.selector.clone(), k.phase.clone())).collect()
}

async fn publish(world: &World, namespace: &str, domain: &str) -> Outcome {
    let found = world.domains(namespace).get(domain).await?;
    for record in found.status.map(|s| s.records).unwrap_or_default() {
        world.tree.remove(&record.name, &record.type_).await?;
        let data = match record.type_.as_str() {
            "CNAME" => format!("{}.", record.value),
            _ => dkim_operator::model::record::zone_file_txt(&record.value),
        };
        world.tree.add_record(&record.name, 1, &record.type_, &data).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_compromised_key_goes_at_once_and_is_published_as_revoked() -> Outcome {
    let world = world().await;
    let domain = "stolen.example";
    let namespace = world.enabled(domain, json!({ "rotation": { "drain": "10s", "paused": true } })).await?;
    // Either may be seen in DNS first, and then signs.
    let (stolen, standby) = world
        .until(&namespace, domain, "the standby is ready", |d| {
            let (stolen, _) = signing(d)?;
            match phases(d).into_iter().find(|(_, phase)| phase == "Published") {
                Some((standby, _)) => Ok((stolen, standby)),
                None => Err(format!("{:?}", phases(d))),
            }
        })
        .await?;
    let now = jiff::Timestamp::now().to_string();
    world.patch(&namespace, domain, json!({ "rotation": { "compromisedAt": now } })).await;
    world
        .until(&namespace, domain, "the standby signs", |d| {
            let (selector, _) = signing(d)?;
            let phase = phases(d).remove(&stolen).unwrap_or_default();
            if (selector == standby) && phase == "Revoked" {
                return Ok(());
            }
            Err(format!("{selector} signs, {stolen} is {phase}"))
        })
        .await?;
    let secret = world.secret(&namespace, domain).await.ok_or("no Secret")?;
    let files = secret.data.unwrap_or_default();
    assert!(!files.contains_key(&format!("{stolen}.pem")), "a stolen key is destroyed");
    eventually(Duration::from_secs(10), "receivers see that it is revoked", || async {
        let name = format!("{stolen}._domainkey.{domain}");
        let answer = world.tree.lookup(&name, "TXT").await.map_err(|e| e.to_string())?;
        let texts = answer.data("TXT");
        if texts == ["v=DKIM1; k=rsa; p="] { Ok(()) } else { Err(format!("{texts:?}")) }
    })
    .await?;
    // The standby was as old: a key that was made later takes its place, though rotations are paused.
    world
        .until(&namespace, domain, "a new key signs", |d| {
            let count = d.status.as_ref().and_then(|s| s.rotation.as_ref()).map_or(0, |r| r.count);
            let (selector, domain) = signing(d)?;
            if count == 2 {
                assert_eq!((selector.as_str(), domain.as_str()), (stolen.as_str(), "stolen.example"));
                Ok(())
            } else {
                Err(format!("{count} rotations"))
            }
        })
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_move_to_another_guid_breaks_no_signature() -> Outcome {
    let world = world().await;
    let domain = "moving.example";
    let namespace = world.enabled(domain, json!({ "rotation": { "drain": "4s" } })).await?;
    world.patch(&namespace, domain, json!({ "guid": "elsewhere" })).await;
    until_verifiable(world, &namespace, domain, "the new CNAMEs are shown", |d| {
        let record = d.status.as_ref().and_then(|s| s.records.first()).ok_or("no records")?;
        let (status, reason, message) = condition(d, ConditionType::Moving).ok_or("no move")?;
        assert_eq!((status.as_str(), reason.as_str()), ("True", "NamesChanging"), "{message}");
        if record.value.starts_with("selector1-elsewhere.") { Ok(()) } else { Err(record.value.clone()) }
    })
    .await?;
    let set = world.record_sets().get(domain).await?;
    assert_eq!((set.spec.records.len(), set.spec.former[0].records.len()), (2, 2));
    publish(world, &namespace, domain).await?;
    until_verifiable(world, &namespace, domain, "the move is done", |d| {
        if condition(d, ConditionType::Moving).is_some() { Err("it is under way".into()) } else { Ok(()) }
    })
    .await?;
    world.until_condition(&namespace, domain, ConditionType::Enabled, "True").await?;
    eventually(Duration::from_secs(30), "the old names have drained", || async {
        let set = world.record_sets().get(domain).await.map_err(|e| e.to_string())?;
        if set.spec.former.is_empty() { Ok(()) } else { Err(format!("{:?}", set.spec.former)) }
    })
    .await?;
    until_verifiable(world, &namespace, domain, "it still signs", |d| signing(d).map(|_| ())).await?;
    Ok(())
}

#[tokio::test]
async fn a_second_signature_has_cnames_of_its_own_and_is_rolled_along() -> Outcome {
    let world = world().await;
    let domain = "twice.example";
    let namespace = world.enabled(domain, json!({ "secondSignature": {} })).await?;
    let both = |d: &DkimDomain| {
        let signing = d.status.as_ref().and_then(|s| s.signing.clone()).ok_or("nothing signs")?;
        signing.second.map(|second| second.selector).ok_or_else(|| "one signature".to_owned())
    };
    let first = until_verifiable(world, &namespace, domain, "both signatures are made", both).await?;
    // Which of two keys is seen first is chance.
    let (one, two) = (signing(&world.domains(&namespace).get(domain).await?)?.0, first);
    world.until_condition(&namespace, domain, ConditionType::Ready, "True").await?;
    let config = told(world, &namespace, domain).await?;
    let made: Vec<String> = config.signatures.iter().map(|s| s.algorithm.as_str().to_owned()).collect();
    assert_eq!(made, ["rsa", "ed25519"]);
    let now = jiff::Timestamp::now().to_string();
    world.patch(&namespace, domain, json!({ "rotation": { "rotateAt": now } })).await;
    until_verifiable(world, &namespace, domain, "both are rolled", |d| {
        let rolled = (signing(d)?.0, both(d)?);
        if rolled.0 != one && rolled.1 != two { Ok(()) } else { Err(format!("{rolled:?}")) }
    })
    .await?;
    // Without one of its CNAMEs the second signature goes, and the first stays.
    world.tree.remove(&format!("ed2._domainkey.{domain}"), "CNAME").await?;
    world.tree.remove(&format!("ed1._domainkey.{domain}"), "CNAME").await?;
    world
        .until(&namespace, domain, "the second signature is gone", |d| {
            assert_eq!(signing(d)?.1, domain);
            if both(d).is_err() { Ok(()) } else { Err("it is still there".into()) }
        })
        .await?;
    Ok(())
}

#[tokio::test]
async fn where_the_tenant_publishes_keys_a_rotation_waits_for_it() -> Outcome {
    let world = world().await;
    let domain = "nocname.example";
    let namespace = world.plane.namespace().await?;
    world.tree.add_zone(domain, 1).await?;
    let extra = json!({ "delegation": "TXT", "rotation": { "interval": "6s", "drain": "1s" } });
    world.create(&namespace, domain, extra).await;
    world
        .until(&namespace, domain, "two TXTs are shown", |d| {
            let records = d.status.as_ref().map(|s| s.records.clone()).unwrap_or_default();
            if records.len() == 2 && records.iter().all(|r| r.type_ == "TXT") {
                Ok(())
            } else {
                Err(format!("{records:?}"))
            }
        })
        .await?;
    publish(world, &namespace, domain).await?;
    world.until_condition(&namespace, domain, ConditionType::Enabled, "True").await?;
    let count = |d: &DkimDomain| d.status.as_ref().and_then(|s| s.rotation.as_ref()).map_or(0, |r| r.count);
    until_verifiable(world, &namespace, domain, "the second key signs", |d| match count(d) {
        1 => Ok(()),
        n => Err(format!("{n} rotations")),
    })
    .await?;
    // The next rotation is due, and the tenant has not published the next key. Either may have been seen first, and signed then.
    let (blocked, signs) = until_verifiable(world, &namespace, domain, "the next rotation waits", |d| {
        let (status, reason, message) = condition(d, ConditionType::RotationBlocked).ok_or("no word")?;
        if status == "True" && reason == "CnameMissing" {
            Ok((message, signing(d)?.0))
        } else {
            Err(format!("{reason}: {message}"))
        }
    })
    .await?;
    let next = if signs == "selector1" { "selector2" } else { "selector1" };
    assert!(blocked.contains(&format!("{next}._domainkey.{domain}")), "{blocked}");
    publish(world, &namespace, domain).await?;
    until_verifiable(world, &namespace, domain, "it goes on", |d| match count(d) {
        2.. => Ok(()),
        n => Err(format!("{n} rotations")),
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn a_key_that_signs_already_is_taken_in() -> Outcome {
    let world = world().await;
    let domain = "brought.example";
    let namespace = world.plane.namespace().await?;
    let key = PrivateKey::generate(KeyKind::Rsa2048, &mut getrandom::SysRng)?;
    world.tree.add_zone(domain, 1).await?;
    let import =
        json!([{ "selector": "selector1", "secretKeyRef": { "name": "old", "key": "mail.private" } }]);
    world.create(&namespace, domain, json!({ "importKeys": import })).await;
    let message = world
        .until(&namespace, domain, "the missing Secret is told", |d| {
            let (status, reason, message) = condition(d, ConditionType::KeysGenerated).ok_or("no word")?;
            if (status.as_str(), reason.as_str()) == ("False", "ImportFailed") {
                Ok(message)
            } else {
                Err(message)
            }
        })
        .await?;
    assert!(message.starts_with("spec.importKeys[0].secretKeyRef.name: there is no Secret"), "{message}");
    assert!(world.secret(&namespace, domain).await.is_none(), "no other key is made in its place");
    let secrets: Api<Secret> = Api::namespaced(world.client(), &namespace);
    let secret: Value =
        json!({ "metadata": { "name": "old" }, "stringData": { "mail.private": key.expose_pem() } });
    secrets.create(&PostParams::default(), &serde_json::from_value(secret)?).await?;
    let expected = key.public()?.fingerprint()?.to_string();
    world
        .until(&namespace, domain, "the key is taken in, to sign now or next", |d| {
            signing(d)?;
            let keys = d.status.iter().flat_map(|s| &s.keys);
            let found: Vec<_> = keys.map(|key| (key.fingerprint.clone(), key.phase.clone())).collect();
            let usable = |phase: &str| ["Active", "Published"].contains(&phase);
            let taken = found.iter().any(|(key, phase)| key.as_ref() == Some(&expected) && usable(phase));
            if taken { Ok(()) } else { Err(format!("{found:?}")) }
        })
        .await?;
    Ok(())
}

#[tokio::test]
async fn orphaned_keys_go_on_and_are_taken_over() -> Outcome {
    let world = world().await;
    let domain = "orphan.example";
    let namespace = world.enabled(domain, json!({ "deletionPolicy": "Orphan" })).await?;
    let before = told(world, &namespace, domain).await?;
    world.domains(&namespace).delete(domain, &DeleteParams::default()).await?;
    eventually(Duration::from_secs(20), "it is gone", || async {
        let found = world.domains(&namespace).get_opt(domain).await.map_err(|e| e.to_string())?;
        found.map_or(Ok(()), |_| Err("it is still there".to_owned()))
    })
    .await?;
    // Long enough for the garbage collector, and for the drain.
    tokio::time::sleep(Duration::from_secs(6)).await;
    let after = told(world, &namespace, domain).await?;
    assert_eq!(after, before);
    verifiable(world, &after).await?;
    let set = world.record_sets().get(domain).await?;
    assert!(set.spec.orphaned && set.spec.claim_ref.is_none(), "{set:?}");
    world.create(&namespace, domain, json!({})).await;
    until_verifiable(world, &namespace, domain, "it is taken over", |d| {
        if signing(d)?.1 == domain { Ok(()) } else { Err("signed as the provider".into()) }
    })
    .await?;
    let taken = told(world, &namespace, domain).await?;
    assert_eq!(taken.signatures[0].fingerprint, before.signatures[0].fingerprint);
    let secret = world.secret(&namespace, domain).await.ok_or("no Secret")?;
    assert_eq!(secret.owner_references().len(), 1);
    Ok(())
}

#[tokio::test]
async fn immediate_deletion_leaves_nothing() -> Outcome {
    let world = world().await;
    let domain = "gone.example";
    let extra = json!({ "deletionPolicy": "Immediate", "rotation": { "drain": "24h" } });
    let namespace = world.enabled(domain, extra).await?;
    world.domains(&namespace).delete(domain, &DeleteParams::default()).await?;
    eventually(Duration::from_secs(20), "all is gone", || async {
        let set = world.record_sets().get_opt(domain).await.map_err(|e| e.to_string())?;
        let secret = world.secret(&namespace, domain).await;
        if set.is_none() && secret.is_none() {
            Ok(())
        } else {
            Err(format!("{} {}", set.is_some(), secret.is_some()))
        }
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn rotates_by_a_cron_schedule() -> Outcome {
    let world = world().await;
    let domain = "cron.example";
    let extra = json!({ "rotation": { "schedule": "0 3 1 * *", "jitter": "0s" } });
    let namespace = world.enabled(domain, extra).await?;
    let next = world
        .until(&namespace, domain, "the next rotation is told", |d| {
            let next = d.status.as_ref().and_then(|s| s.rotation.clone()).and_then(|r| r.next);
            next.map(|time| time.0.to_string()).ok_or_else(|| "not told".to_owned())
        })
        .await?;
    assert!(next.ends_with("-01T03:00:00Z"), "{next}");
    Ok(())
}
