//! A domain goes to another cluster with its keys: everything here is deleted, and what was exported goes on.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use age::secrecy::ExposeSecret;
use age::x25519::Identity;
use common::plugin::{dkim, printed};
use common::{Outcome, World, world};
use dkim_operator::api::ConditionType;
use dkim_operator::model::vault::Vault;
use dkim_testbed::eventually;
use serde_json::json;

const DOMAIN: &str = "moved.example";

/// The state of the keys, and the fingerprint of the one that signs.
async fn vault(world: &World, namespace: &str) -> (Vault, String) {
    let secret = world.secret(namespace, DOMAIN).await.expect("there is a Secret");
    let data = secret.data.expect("it holds data");
    let vault: Vault = serde_json::from_slice(&data["state.json"].0).expect("the state is readable");
    let ring = &vault.rings.primary;
    let active = ring.active().expect("a key signs");
    let fingerprint = ring.slots[active].phase.key().expect("it is a key").fingerprint.to_string();
    (vault, fingerprint)
}

async fn gone(world: &World, namespace: &str) -> Outcome {
    eventually(Duration::from_secs(45), "everything of the domain is gone", || async {
        let domain = world.domains(namespace).get_opt(DOMAIN).await.map_err(|e| e.to_string())?;
        let set = world.record_sets().get_opt(DOMAIN).await.map_err(|e| e.to_string())?;
        let secret = world.secret(namespace, DOMAIN).await;
        match (domain.is_none(), set.is_none(), secret.is_none()) {
            (true, true, true) => Ok(()),
            left => Err(format!("domain, record set, Secret gone: {left:?}")),
        }
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn what_was_exported_goes_on_where_it_is_imported() -> Outcome {
    let world = world().await;
    let namespace = world.enabled(DOMAIN, json!({ "deletionPolicy": "Immediate" })).await?;
    printed(world, &["rotate", DOMAIN, "-n", &namespace, "--wait", "--timeout", "60s"]).await;
    let scratch = tempfile::tempdir()?;
    let path = |name: &str| scratch.path().join(name).to_string_lossy().into_owned();
    let identity = Identity::generate();
    for (name, identity) in [("key.txt", &identity), ("other.txt", &Identity::generate())] {
        std::fs::write(path(name), identity.to_string().expose_secret())?;
    }
    let (file, key, other) = (path("moved.age"), path("key.txt"), path("other.txt"));

    let recipient = identity.to_public().to_string();
    let export = ["export", DOMAIN, "-n", &namespace, "--recipient", &recipient, "-o", &file];
    let (code, output) = dkim(world, &export, "").await;
    assert_eq!((code, output.stdout.as_str()), (0, ""), "{}", output.stderr);
    let (before, signs) = vault(world, &namespace).await;
    assert!(output.stderr.contains(&signs) && !output.stderr.contains("PRIVATE"), "{}", output.stderr);
    let sealed = std::fs::read_to_string(&file)?;
    assert!(sealed.starts_with("-----BEGIN AGE ENCRYPTED FILE-----") && !sealed.contains("PRIVATE"));
    assert_eq!(std::fs::metadata(&file)?.permissions().mode() & 0o777, 0o600);
    let (code, output) = dkim(world, &export, "").await;
    assert!(code == 2 && output.stderr.contains("is there already"), "{}", output.stderr);

    // While its keys are here, nothing is overwritten.
    let import = ["import", &file, "-n", &namespace, "--identity", &key, "--apply"];
    let (code, output) = dkim(world, &import, "").await;
    assert!(code == 2 && output.stderr.contains("is there already"), "{}", output.stderr);

    world.plane.kubectl(["delete", "dkimdomain", DOMAIN, "-n", &namespace]).await?.ok()?;
    gone(world, &namespace).await?;
    let (code, output) = dkim(world, &["import", &file, "-n", &namespace, "--identity", &other], "").await;
    assert!(code == 2 && output.stderr.contains("other recipients"), "{}", output.stderr);
    assert!(world.secret(&namespace, DOMAIN).await.is_none(), "nothing was imported");

    let (code, output) = dkim(world, &import, "").await;
    assert_eq!(code, 0, "{}{}", output.stdout, output.stderr);
    assert!(output.stderr.contains("stay as they are"), "{}", output.stderr);
    world.until_condition(&namespace, DOMAIN, ConditionType::Ready, "True").await?;
    let signing = |domain: &dkim_operator::api::DkimDomain| domain.status.as_ref()?.signing.clone();
    let after = world
        .until(&namespace, DOMAIN, "it signs", |d| signing(d).ok_or_else(|| "nothing signs".into()))
        .await?;
    assert_eq!((after.fingerprint.as_str(), after.domain.as_str()), (signs.as_str(), DOMAIN));
    let resolver = world.tree.resolver().to_string();
    printed(world, &["check", DOMAIN, "-n", &namespace, "--resolver", &resolver]).await;

    // The counting of keys goes on, too.
    printed(world, &["rotate", DOMAIN, "-n", &namespace, "--wait", "--timeout", "60s"]).await;
    let (rotated, successor) = vault(world, &namespace).await;
    assert_ne!(successor, signs);
    let serial = |vault: &Vault| {
        let ring = &vault.rings.primary;
        ring.active().and_then(|slot| ring.slots[slot].phase.key()).map(|key| key.serial)
    };
    assert!(serial(&rotated) > serial(&before), "{:?} after {:?}", serial(&rotated), serial(&before));
    assert_eq!(rotated.rings.primary.log.count, before.rings.primary.log.count + 1);
    Ok(())
}
