//! Makes faults happen, and ends them.

use std::time::Duration;

use dkim_testbed::eventually;
use dkim_testbed::operator::Role;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::Fallible;
use crate::schedule::{Action, Fault, Target};
use crate::stage::Stage;

/// Lets a fault happen; returns when it is over.
pub async fn happen(stage: &Stage, fault: Fault) -> Fallible {
    let plane = &stage.world.plane;
    let tree = &stage.world.tree;
    let lasting = sleep(fault.lasting);
    let kill = fault.action == Action::Kill;
    match fault.target {
        Target::Apiserver if kill => {
            plane.kill_apiserver().await?;
            lasting.await;
            plane.restart_apiserver().await?;
        }
        Target::Apiserver => {
            plane.pause_apiserver().await?;
            lasting.await;
            plane.resume_apiserver().await?;
        }
        Target::Etcd if kill => {
            plane.kill_etcd().await?;
            lasting.await;
            plane.restart_etcd().await?;
        }
        Target::Etcd => {
            plane.pause_etcd().await?;
            lasting.await;
            plane.resume_etcd().await?;
        }
        Target::Resolver => {
            tree.unbound().pause().await?;
            lasting.await;
            tree.unbound().resume().await?;
        }
        Target::Hosting => {
            tree.hosting().pause().await?;
            lasting.await;
            tree.hosting().resume().await?;
        }
        Target::Controller => role(stage.world.operator.controller(), kill, fault.lasting).await?,
        Target::Dns(number) => role(stage.dns(number), kill, fault.lasting).await?,
        Target::ControllerClock => {
            stage.clock.set(if fault.action == Action::SetForward { 3600 } else { -900 })?;
            lasting.await;
            stage.clock.set(0)?;
        }
        Target::ControllerLink => link(stage.world.operator.controller(), fault.lasting).await?,
        Target::DnsLink(number) => link(stage.dns(number), fault.lasting).await?,
        Target::Domain(number) if fault.action == Action::Rotate => {
            let now = jiff::Timestamp::now().to_string();
            edit(stage, number, json!({ "rotation": { "rotateAt": now } })).await?;
        }
        Target::Domain(number) => {
            edit(stage, number, json!({ "enabled": false })).await?;
            lasting.await;
            edit(stage, number, json!({ "enabled": true })).await?;
        }
    }
    Ok(())
}

async fn role(role: &Role, kill: bool, lasting: Duration) -> Fallible {
    if kill {
        role.kill().await?;
        sleep(lasting).await;
        role.launch().await?;
    } else {
        role.pause().await?;
        sleep(lasting).await;
        role.resume().await?;
    }
    Ok(())
}

async fn link(role: &Role, lasting: Duration) -> Fallible {
    let relay = role.relay().ok_or("no relay")?;
    relay.stall();
    sleep(lasting).await;
    relay.resume();
    Ok(())
}

/// A change of the spec that outlasts an API server that is away.
async fn edit(stage: &Stage, number: usize, spec: Value) -> Fallible {
    let domain = &stage.domains[number];
    let (params, patch) = (PatchParams::default(), Patch::Merge(json!({ "spec": spec })));
    eventually(Duration::from_secs(90), "the DkimDomain can be changed", || async {
        let api = stage.world.domains(&stage.namespace);
        let call = api.patch(domain, &params, &patch);
        match tokio::time::timeout(Duration::from_secs(5), call).await {
            Ok(result) => result.map(drop).map_err(|error| error.to_string()),
            Err(_) => Err("no answer within 5 s".to_owned()),
        }
    })
    .await?;
    Ok(())
}
