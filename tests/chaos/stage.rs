//! Everything that a run needs, up and healthy.

use std::sync::Arc;
use std::time::Duration;

use dkim_operator::api::ConditionType;
use dkim_testbed::operator::{Install, Role};
use dkim_testbed::{Options, WoundClock};
use serde_json::json;

use crate::Fallible;
use crate::common::World;

/// Embedded DNS servers, each with a name and an address of its own.
pub const DNS_SERVERS: usize = 2;
/// `keyPolicy.signerLag`: how old the copy of a Secret may be that a signer works with.
pub const SIGNER_LAG: Duration = Duration::from_secs(6);
/// `rotation.drain`: how long a message may be under way.
pub const DRAIN: Duration = Duration::from_secs(8);

/// The world, and the domains in it.
pub struct Stage {
    pub world: World,
    pub namespace: String,
    pub domains: Vec<String>,
    /// The controller's.
    pub clock: Arc<WoundClock>,
}

impl Stage {
    /// Starts everything, and waits until mail of every domain is signed as the domain.
    pub async fn set(domains: usize) -> Fallible<Self> {
        let clock = Arc::new(WoundClock::new()?);
        let install = Install::new(env!("CARGO_BIN_EXE_dkim-operator"))
            .set("controller.allSecretNamespaces=true")
            .dns_servers(DNS_SERVERS)
            .clocked(clock.clone())
            .relayed();
        let provider = json!({
            "keyPolicy": { "signerLag": format!("{}s", SIGNER_LAG.as_secs()) },
            "publish": { "ttl": 5, "negativeTtl": 2 },
            "verification": { "pendingInterval": "3s", "interval": "3s", "grace": "60s" },
        });
        let world = World::start_installed(Options::new(), install, provider).await;
        let world = world.map_err(|error| error.to_string())?;
        let namespace = world.plane.namespace().await?;
        let domains: Vec<String> = (1..=domains).map(|number| format!("chaos{number}.example")).collect();
        for (number, domain) in domains.iter().enumerate() {
            world.tree.add_zone(domain, 1).await?;
            // As soon as it can, or at a pace of its own, so that faults meet every phase.
            let interval = ["2s", "20s", "23s"][number % 3];
            let rotation = json!({ "interval": interval, "drain": format!("{}s", DRAIN.as_secs()) });
            world.create(&namespace, domain, json!({ "rotation": rotation })).await;
        }
        for domain in &domains {
            world.publish_cnames(&namespace, domain).await.map_err(|error| error.to_string())?;
        }
        for domain in &domains {
            world.until_condition(&namespace, domain, ConditionType::Enabled, "True").await?;
        }
        Ok(Self { world, namespace, domains, clock })
    }

    pub fn dns(&self, number: usize) -> &Role {
        &self.world.operator.dns()[number]
    }

    /// The end of what the controller has logged.
    pub async fn log_tail(&self) -> String {
        let log = self.world.operator.controller().log().await;
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }
}
