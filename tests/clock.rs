//! The clock of the controller's machine is set forward by days, and back, while keys drain and are rolled.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Outcome, World};
use dkim_operator::api::{ConditionType, DkimDomain};
use dkim_operator::model::record::KeyRecord;
use dkim_testbed::operator::Install;
use dkim_testbed::{Options, WoundClock, eventually};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

/// Far beyond every drain and schedule of this test.
const AHEAD: i64 = 10 * 86_400;
/// Beyond the drain, and not before certificates of the test bed begin to count.
const BEHIND: i64 = -1800;

fn phase(domain: &DkimDomain, selector: &str) -> Option<String> {
    let keys = domain.status.iter().flat_map(|status| &status.keys);
    keys.filter(|key| key.selector == selector).map(|key| key.phase.clone()).next()
}

fn rotations(domain: &DkimDomain) -> i64 {
    domain.status.as_ref().and_then(|status| status.rotation.as_ref()).map_or(0, |rotation| rotation.count)
}

async fn skew(world: &World) -> Result<f64, String> {
    let metrics = world.operator.controller().metrics().await.map_err(|e| e.to_string())?;
    let line = metrics.lines().find(|line| line.starts_with("dkim_operator_clock_skew_seconds "));
    let value = line.and_then(|line| line.split(' ').nth(1)).ok_or("no such metric")?;
    value.parse().map_err(|_| value.to_owned())
}

/// Whether a key, not an empty one, is found at a selector of the domain.
async fn is_published(world: &World, domain: &str, selector: &str) -> bool {
    let answer = world.tree.lookup(&format!("{selector}._domainkey.{domain}"), "TXT").await.unwrap();
    let texts = answer.data("TXT");
    texts.iter().any(|text| KeyRecord::parse(text).is_ok_and(|record| record.fingerprint().is_some()))
}

#[tokio::test]
async fn a_clock_that_leaps_takes_no_key_and_stops_no_rotation() -> Outcome {
    let clock = Arc::new(WoundClock::new()?);
    let install = Install::new(env!("CARGO_BIN_EXE_dkim-operator"))
        .set("controller.allSecretNamespaces=true")
        .clocked(clock.clone());
    let world = World::start_installed(Options::new(), install, json!({})).await?;
    let near_zero = |skew: f64| if skew.abs() < 3.0 { Ok(()) } else { Err(format!("{skew} s")) };
    near_zero(skew(&world).await?)?;

    // One key drains for an hour, and the next rotation is due in a day.
    let draining = "drains.example";
    let hour = json!({ "rotation": { "drain": "1h" } });
    let kept = world.enabled(draining, hour).await?;
    let at = Timestamp::now().to_string();
    world.patch(&kept, draining, json!({ "rotation": { "rotateAt": at } })).await;
    let before = world
        .until(&kept, draining, "it is rolled", |d| {
            let old =
                ["selector1", "selector2"].into_iter().find(|s| phase(d, s).as_deref() == Some("Draining"));
            old.map(str::to_owned).filter(|_| rotations(d) == 1).ok_or_else(|| "not rolled".to_owned())
        })
        .await?;

    let mut rolled = 0;
    for (number, offset) in [AHEAD, 0, BEHIND, 0].into_iter().enumerate() {
        clock.set(offset)?;
        eventually(Duration::from_secs(10), "the metric tells", || async {
            near_zero(skew(&world).await? - f64::from(i32::try_from(offset).unwrap()))
        })
        .await?;
        // What comes now is served at the pace of true time.
        let new = format!("new{number}.example");
        let begun = Instant::now();
        let interval = json!({ "rotation": { "interval": "3s", "drain": "1s" } });
        let namespace = world.enabled(&new, interval).await?;
        world
            .until(&namespace, &new, "it is rolled twice", |d| {
                if rotations(d) >= 2 { Ok(()) } else { Err(format!("{} rotations", rotations(d))) }
            })
            .await?;
        let found = world.domains(&namespace).get(&new).await?;
        // Each is early by a part of the interval at most.
        let most = i64::try_from(begun.elapsed().as_secs()).unwrap() / 2;
        assert!(rotations(&found) <= most, "{} rotations where {most} were due", rotations(&found));
        rolled += rotations(&found);
        let last = found.status.as_ref().and_then(|status| status.rotation.as_ref()?.last.clone()).unwrap();
        let off = last.0.duration_since(Timestamp::now()).abs();
        assert!(off < SignedDuration::from_secs(60), "a rotation at {} by the clock that is off", last.0);
        // And what drains goes on draining.
        let found = world.domains(&kept).get(draining).await?;
        assert_eq!(phase(&found, &before).as_deref(), Some("Draining"), "with the clock at {offset:+} s");
        assert_eq!(rotations(&found), 1, "nothing is due with the clock at {offset:+} s");
        assert!(is_published(&world, draining, &before).await, "with the clock at {offset:+} s");
    }
    let log = world.operator.controller().log().await;
    let told = ["864000 s ahead of the API server's and what was counted", "agree again"];
    assert!(told.iter().all(|words| log.contains(words)), "{log}");
    println!("clock: rotations={rolled} with the clock wound to {AHEAD:+} s and {BEHIND:+} s");

    // One that starts cannot tell which of two clocks is right.
    clock.set(AHEAD)?;
    world.operator.controller().kill_and_start().await?;
    eventually(Duration::from_secs(20), "it says why it waits", || async {
        let log = world.operator.controller().log().await;
        if log.contains("Nothing is done until they agree") { Ok(()) } else { Err(log) }
    })
    .await?;
    let waits = world.operator.controller().readiness().await.unwrap_err();
    assert!(waits.contains("clocks that agree"), "{waits}");
    let found = world.domains(&kept).get(draining).await?;
    assert_eq!(phase(&found, &before).as_deref(), Some("Draining"));
    // One that is off by little goes by the API server's.
    clock.set(20)?;
    world.operator.controller().ready().await?;
    let found = world.domains(&kept).get(draining).await?;
    assert_eq!((phase(&found, &before).as_deref(), rotations(&found)), (Some("Draining"), 1));
    near_zero(skew(&world).await? - 20.0)?;
    world.until_condition(&kept, draining, ConditionType::Enabled, "True").await?;
    Ok(())
}
