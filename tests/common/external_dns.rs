//! external-dns, as docs/publishing.md says it should run.

use std::time::Duration;

use dkim_operator::api::{DkimRecordSet, PublishState};
use dkim_testbed::{ExternalDns, Pdns, TsigKey, eventually, lookup, to_pdns};
use serde_json::{Value, json};

use super::publish::{know_endpoints, let_endpoints, states};
use super::{Outcome, World, world};

/// What docs/publishing.md says it should run with.
pub fn settled(zone: &str) -> Vec<String> {
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
pub struct Stage {
    pub world: &'static World,
    pub server: Pdns,
    pub zone: String,
    pub objects: String,
    pub external_dns: ExternalDns,
}

impl Stage {
    pub async fn new(zone: &str) -> Result<Self, Box<dyn std::error::Error>> {
        let stage = Self::without_rights(zone).await?;
        let_endpoints(stage.world, &stage.objects).await?;
        Ok(stage)
    }

    /// The zone takes dynamic updates with a key as well.
    pub async fn updated_with(zone: &str, key: &TsigKey) -> Result<Self, Box<dyn std::error::Error>> {
        let stage = Self::with_keys(zone, std::slice::from_ref(key)).await?;
        let_endpoints(stage.world, &stage.objects).await?;
        Ok(stage)
    }

    /// The operator may not write objects yet.
    pub async fn without_rights(zone: &str) -> Result<Self, Box<dyn std::error::Error>> {
        Self::with_keys(zone, &[]).await
    }

    async fn with_keys(zone: &str, keys: &[TsigKey]) -> Result<Self, Box<dyn std::error::Error>> {
        let world = world().await;
        know_endpoints(world).await?;
        let objects = world.plane.namespace().await?;
        let server = Pdns::start(keys).await?;
        server.add_zone(zone, 1).await?;
        let args = [settled(zone), to_pdns(&server)].concat();
        let external_dns = ExternalDns::start(&world.plane, &objects, args).await?;
        Ok(Self { world, server, zone: zone.to_owned(), objects, external_dns })
    }

    pub async fn delegate(&self) -> Outcome {
        let (zone, ip) = (&self.zone, self.server.address().ip());
        self.world.tree.delegate(zone, &format!("ns1.{zone}"), ip).await?;
        Ok(())
    }

    /// How a provider publishes through it.
    pub fn publish(&self) -> Value {
        json!({ "method": "DNSEndpoint", "zone": self.zone, "nameServers": [], "dnsEndpoint": { "namespace": self.objects } })
    }

    pub async fn texts(&self, name: &str) -> Result<Vec<String>, String> {
        let answer = lookup(self.server.address(), name, "TXT").await.map_err(|e| e.to_string())?;
        Ok(answer.data("TXT").into_iter().map(str::to_owned).collect())
    }

    /// Whether the server has what the record set says, one text at each name.
    pub async fn has(&self, set: &DkimRecordSet) -> Result<(), String> {
        for record in &set.spec.records {
            let texts = self.texts(&record.name).await?;
            if texts != [record.value.as_str()] {
                return Err(format!("{}: {texts:?}", record.name));
            }
        }
        Ok(())
    }

    /// Waits until what the record set says is in DNS, one text at each name, and reported as published.
    pub async fn until_published(
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
            self.has(&set).await?;
            Ok(set)
        })
        .await;
        Ok(match found {
            Ok(set) => set,
            Err(error) => return Err(format!("{error}\n{}", self.last_words().await).into()),
        })
    }

    pub async fn last_words(&self) -> String {
        let log = self.external_dns.log_text().await;
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

/// Asks for one rotation, now.
pub async fn rotate(world: &World, namespace: &str, domain: &str) {
    let now = jiff::Timestamp::now().to_string();
    world.patch(namespace, domain, json!({ "rotation": { "rotateAt": now } })).await;
}
