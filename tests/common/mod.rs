//! The harness of the tests that need a cluster: one control plane, one DNS tree and one installed operator for all
//! tests of a program, a namespace and domains of its own for each test.

#![allow(dead_code, reason = "each test program uses its part")]

pub mod dns;
pub mod dns_role;
pub mod external_dns;
pub mod plugin;
pub mod poller;
pub mod publish;
pub mod random;
pub mod servers;

use std::sync::Arc;
use std::time::Duration;

use dkim_operator::api::{ConditionType, DkimDomain, DkimRecordSet};
use dkim_testbed::operator::{Install, NAMESPACE, Operator};
use dkim_testbed::{ControlPlane, DnsTree, Options, eventually};
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

pub type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Everything a test works with.
pub struct World {
    pub plane: Arc<ControlPlane>,
    pub tree: DnsTree,
    pub operator: Operator,
}

static WORLD: OnceCell<Result<World, String>> = OnceCell::const_new();

/// The world that all tests of this program share.
pub async fn world() -> &'static World {
    let world = WORLD.get_or_init(|| async { World::start().await.map_err(|e| e.to_string()) }).await;
    world.as_ref().expect("the test world starts")
}

impl World {
    /// A control plane, a DNS tree, the operator and the default provider, with times that suit tests.
    pub async fn start() -> Result<World, Box<dyn std::error::Error>> {
        Self::start_with(Options::new(), &["controller.allSecretNamespaces=true"], json!({})).await
    }

    /// The same with options of the control plane, chart values, and a provider of one's own.
    pub async fn start_with(
        options: Options,
        values: &[&str],
        provider: Value,
    ) -> Result<World, Box<dyn std::error::Error>> {
        let install = Install::new(env!("CARGO_BIN_EXE_dkim-operator"));
        let install = values.iter().fold(install, |install, value| install.set(*value));
        Self::start_installed(options, install, provider).await
    }

    /// The same with an installation of one's own.
    pub async fn start_installed(
        options: Options,
        install: Install,
        provider: Value,
    ) -> Result<World, Box<dyn std::error::Error>> {
        let plane = Arc::new(ControlPlane::start(options.with_controller_manager()).await?);
        let tree = DnsTree::start().await?;
        let operator = install.start(&plane).await?;
        operator.delegate(&tree, "onmail.example").await?;
        let world = World { plane, tree, operator };
        world.apply(&world.provider("default", provider)).await?;
        Ok(world)
    }

    /// A provider manifest with test times; `extra` is merged into its spec.
    pub fn provider(&self, name: &str, extra: Value) -> Value {
        let mut spec = json!({
            "initialDomain": "{namespace}.onmail.example",
            "default": name == "default",
            "keyPolicy": { "minInterval": "1s", "minDrain": "1s", "signerLag": "1s" },
            "publish": {
                "ttl": 1, "negativeTtl": 1, "zone": "onmail.example", "nameServers": self.operator.name_servers(),
            },
            "verification": {
                "resolvers": [self.tree.resolver().to_string()],
                // The tree is on loopback addresses, and all its tenants' zones are on one server.
                "allowPrivateNetworks": ["127.0.0.0/8"],
                "queriesPerSecond": 1000, "queriesPerSecondPerServer": 1000, "queriesPerSecondPerZone": 1000,
                "pendingInterval": "1s", "interval": "2s", "grace": "2s",
            },
        });
        merge(&mut spec, extra);
        json!({ "apiVersion": "dkim-operator.io/v1alpha1", "kind": "DkimProvider",
                "metadata": { "name": name }, "spec": spec })
    }

    /// The same, with the organisation of each namespace below `zone` and published so.
    pub fn provider_in(&self, name: &str, zone: &str, publish: Value) -> Value {
        self.provider(name, json!({ "initialDomain": format!("{{namespace}}.{zone}"), "publish": publish }))
    }

    /// A DkimDomain manifest with a slow rotation; `extra` is merged into its spec.
    pub fn domain(&self, namespace: &str, domain: &str, extra: Value) -> Value {
        let mut spec = json!({ "domain": domain, "rotation": { "interval": "24h", "drain": "2s" } });
        merge(&mut spec, extra);
        json!({ "apiVersion": "dkim-operator.io/v1alpha1", "kind": "DkimDomain",
                "metadata": { "name": domain, "namespace": namespace }, "spec": spec })
    }

    /// Applies a manifest with kubectl, as a user would.
    pub async fn apply(&self, manifest: &Value) -> Result<String, dkim_testbed::Error> {
        let text = manifest.to_string();
        self.plane.kubectl_with(["apply", "--server-side", "-f", "-"], &text).await?.ok()
    }

    pub fn client(&self) -> Client {
        self.plane.admin().expect("a client")
    }

    pub fn domains(&self, namespace: &str) -> Api<DkimDomain> {
        Api::namespaced(self.client(), namespace)
    }

    pub fn record_sets(&self) -> Api<DkimRecordSet> {
        Api::namespaced(self.client(), NAMESPACE)
    }

    pub async fn secret(&self, namespace: &str, domain: &str) -> Option<Secret> {
        let api: Api<Secret> = Api::namespaced(self.client(), namespace);
        api.get_opt(&format!("dkim-{domain}")).await.expect("the Secret can be read")
    }

    pub async fn patch(&self, namespace: &str, domain: &str, spec: Value) {
        let params = PatchParams::default();
        let patch = json!({ "spec": spec });
        self.domains(namespace).patch(domain, &params, &Patch::Merge(&patch)).await.expect("patched");
    }

    pub async fn create(&self, namespace: &str, domain: &str, extra: Value) -> DkimDomain {
        let manifest = serde_json::from_value(self.domain(namespace, domain, extra)).expect("a manifest");
        self.domains(namespace).create(&PostParams::default(), &manifest).await.expect("created")
    }

    /// Publishes every CNAME that status shows.
    pub async fn publish_cnames(&self, namespace: &str, domain: &str) -> Outcome {
        let records = self.until(namespace, domain, "status.records shows all", |d| {
            let records = d.status.as_ref().map(|s| s.records.clone()).unwrap_or_default();
            let all = if d.spec.second_signature.is_some() { 4 } else { 2 };
            if records.len() == all { Ok(records) } else { Err(format!("{} records", records.len())) }
        });
        for record in records.await? {
            self.tree.add_record(&record.name, 1, "CNAME", &format!("{}.", record.value)).await?;
        }
        Ok(())
    }

    pub async fn remove_cname(&self, domain: &str, selector: &str) -> Outcome {
        self.tree.remove(&format!("{selector}._domainkey.{domain}"), "CNAME").await?;
        Ok(())
    }

    /// Waits until `check` of the DkimDomain succeeds.
    pub async fn until<T>(
        &self,
        namespace: &str,
        domain: &str,
        what: &str,
        check: impl Fn(&DkimDomain) -> Result<T, String>,
    ) -> Result<T, dkim_testbed::Error> {
        let api = self.domains(namespace);
        eventually(Duration::from_secs(45), what, || async {
            let found = api.get(domain).await.map_err(|e| e.to_string())?;
            check(&found).map_err(|why| format!("{why}; {}", conditions(&found)))
        })
        .await
    }

    /// Waits until a condition has a status.
    pub async fn until_condition(
        &self,
        namespace: &str,
        domain: &str,
        type_: ConditionType,
        status: &str,
    ) -> Result<(), dkim_testbed::Error> {
        self.until(namespace, domain, &format!("{type_} is {status}"), |d| match condition(d, type_) {
            Some((found, ..)) if found == status => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await
    }

    /// A namespace with a domain in it that is enabled; its DNS zone is served by the tree.
    pub async fn enabled(&self, domain: &str, extra: Value) -> Result<String, Box<dyn std::error::Error>> {
        let namespace = self.plane.namespace().await?;
        self.tree.add_zone(domain, 1).await?;
        self.create(&namespace, domain, extra).await;
        self.publish_cnames(&namespace, domain).await?;
        self.until_condition(&namespace, domain, ConditionType::Enabled, "True").await?;
        Ok(namespace)
    }
}

/// A condition's status, reason and message.
pub fn condition(domain: &DkimDomain, type_: ConditionType) -> Option<(String, String, String)> {
    let conditions = &domain.status.as_ref()?.conditions;
    let found = conditions.iter().find(|c| c.type_ == type_.as_str())?;
    Some((found.status.clone(), found.reason.clone(), found.message.clone()))
}

/// All conditions in one line, for messages.
pub fn conditions(domain: &DkimDomain) -> String {
    let all = domain.status.iter().flat_map(|s| &s.conditions);
    let parts: Vec<String> =
        all.map(|c| format!("{}={} {} ({})", c.type_, c.status, c.reason, c.message)).collect();
    parts.join("; ")
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}
