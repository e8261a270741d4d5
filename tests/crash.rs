//! The operator is killed at random points of rotations and started again, and mail keeps verifying: whatever the
//! Secret tells signers to sign with is, at that very moment, what a receiver's resolver finds.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use common::random::{Random, fresh_seed};
use common::{Outcome, World};
use dkim_operator::api::signing_config::SigningConfig;
use dkim_operator::model::key::KeyFingerprint;
use dkim_operator::model::record::KeyRecord;
use serde_json::json;

/// How often the operator is killed.
const KILLS: u32 = 20;
/// Replays a run: DKIM_SEED=… cargo test --test crash.
const SEED: &str = "DKIM_SEED";

/// What a receiver finds for the signature that the Secret asks for.
async fn receiver_finds(world: &World, config: &SigningConfig) -> Result<KeyFingerprint, String> {
    let signature = config.signatures.first().ok_or("no signature is asked for")?;
    let name = format!("{}._domainkey.{}", signature.s, signature.d);
    let answer = world.tree.lookup(&name, "TXT").await.map_err(|e| e.to_string())?;
    let texts = answer.data("TXT");
    let [text] = texts.as_slice() else { return Err(format!("{name}: {texts:?}")) };
    let record = KeyRecord::parse(text).map_err(|e| format!("{name}: {e}: {text}"))?;
    record.fingerprint().ok_or_else(|| format!("{name} is revoked"))
}

#[tokio::test]
async fn killed_at_random_points_of_rotations_and_nothing_breaks() -> Outcome {
    let seed = std::env::var(SEED).ok().and_then(|s| s.parse().ok()).unwrap_or_else(fresh_seed);
    println!("seed {seed}; replay with {SEED}={seed}");
    let mut random = Random::new(seed);
    let world = World::start().await?;
    let domain = "crash.example";
    let namespace = world.enabled(domain, json!({ "rotation": { "interval": "4s", "drain": "1s" } })).await?;
    let mut serials: HashMap<(String, u64), KeyFingerprint> = HashMap::new();
    let (mut looked, mut killed) = (0u32, 0u32);
    let bound = Instant::now() + Duration::from_secs(240);
    while killed < KILLS {
        assert!(Instant::now() < bound, "only {killed} kills in time");
        world.operator.controller().kill_and_start().await?;
        killed += 1;
        let until = Instant::now() + random.between(500, 5000);
        while Instant::now() < until {
            let secret = world.secret(&namespace, domain).await.ok_or("the Secret is gone")?;
            let data = secret.data.unwrap_or_default();
            let config: SigningConfig = serde_json::from_slice(&data["signing.json"].0)?;
            let found = receiver_finds(&world, &config).await?;
            let signature = &config.signatures[0];
            assert_eq!(found, signature.fingerprint, "seed {seed}: a receiver finds another key");
            let slot = (signature.key_file.clone(), signature.serial);
            let known = serials.entry(slot).or_insert_with(|| signature.fingerprint.clone());
            assert_eq!(*known, signature.fingerprint, "seed {seed}: one serial, two keys");
            looked += 1;
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
    }
    world.operator.controller().ready().await?;
    let found = world.domains(&namespace).get(domain).await?;
    let rotations = found.status.and_then(|s| s.rotation).map_or(0, |r| r.count);
    println!("crash: kills={killed} looks={looked} rotations={rotations} seed={seed}");
    assert!(rotations >= 5, "seed {seed}: only {rotations} rotations, the test did not test");
    Ok(())
}
