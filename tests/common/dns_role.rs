//! The role `dns` as a process beside an API server that knows nothing but the definitions: record sets are written by
//! the test, as the controller would.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use dkim_operator::api::{DkimRecordSet, DkimRecordSetSpec};
use dkim_operator::crds;
use dkim_testbed::{Address, ControlPlane, Options, Process, Scratch, Spec, eventually};
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use serde_json::json;

use super::dns::APEX;

pub const NAMESPACE: &str = "dkim-system";

pub struct DnsRole {
    pub process: Process,
    pub plane: ControlPlane,
    pub address: SocketAddr,
    pub health: SocketAddr,
    pub scratch: Scratch,
    _addresses: [Address; 2],
}

impl DnsRole {
    /// Starts an API server and the role, with these record sets already there and further arguments.
    pub async fn start(sets: &[(&str, &str)], args: &[String]) -> Self {
        let plane =
            ControlPlane::start(Options::new().without_controller_manager()).await.expect("an API server");
        for (_, text) in crds::files().expect("the definitions") {
            plane
                .kubectl_with(["apply", "--server-side", "-f", "-"], &text)
                .await
                .expect("kubectl")
                .ok()
                .expect("applied");
        }
        plane.kubectl(["create", "namespace", NAMESPACE]).await.expect("kubectl").ok().expect("created");
        plane
            .kubectl(["wait", "--for=condition=Established", "--timeout=30s", "crd", "--all"])
            .await
            .expect("kubectl")
            .ok()
            .expect("established");
        let api = Api::namespaced(plane.admin().expect("a client"), NAMESPACE);
        for (domain, text) in sets {
            put(&api, domain, text).await;
        }
        let scratch = Scratch::new("dns-role").expect("a directory");
        let addresses = [Address::allocate().expect("an address"), Address::allocate().expect("an address")];
        let (address, health) = (addresses[0].port(53), addresses[1].port(8080));
        let (listen, probes) = (address.to_string(), health.to_string());
        let state = scratch.join("zones").display().to_string();
        let mut process = Spec::new("dns", env!("CARGO_BIN_EXE_dkim-operator"), scratch.join("dns.log"))
            .args(["dns", "--namespace", NAMESPACE, "--listen", &listen, "--health-addr", &probes])
            .args(["--state-file", &state])
            .args(args)
            .env("KUBECONFIG", plane.kubeconfig())
            .env("DKIM_OPERATOR_LOG", "info,dkim_operator::dns=debug")
            .env_remove("KUBERNETES_SERVICE_HOST")
            .spawn()
            .expect("the role starts");
        process
            .ready(Duration::from_secs(30), "it is ready", || ready(health))
            .await
            .expect("the role is ready");
        Self { process, plane, address, health, scratch, _addresses: addresses }
    }

    pub fn api(&self) -> Api<DkimRecordSet> {
        Api::namespaced(self.plane.admin().expect("a client"), NAMESPACE)
    }

    /// Writes the record set of a domain, with one key at [`name`].
    pub async fn put(&self, domain: &str, text: &str) {
        put(&self.api(), domain, text).await;
    }

    pub async fn delete(&self, domain: &str) {
        self.api().delete(domain, &DeleteParams::default()).await.expect("deleted");
    }

    /// Waits until it is ready.
    pub async fn until_ready(&mut self) {
        let health = self.health;
        let what = "it is ready";
        self.process.ready(Duration::from_secs(40), what, || ready(health)).await.expect("the role is ready");
    }

    /// The file that zones are kept in.
    pub fn state(&self) -> PathBuf {
        self.scratch.join("zones")
    }

    /// A metric's value, by its name with labels.
    pub async fn metric(&self, name: &str) -> Option<f64> {
        let text = get(self.health, "/metrics").await.expect("metrics");
        let line =
            text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    /// Waits until a metric has a value.
    pub async fn until_metric(&self, name: &str, fits: impl Fn(f64) -> bool) {
        eventually(Duration::from_secs(20), name, || async {
            match self.metric(name).await {
                Some(value) if fits(value) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await
        .expect("the metric");
    }
}

/// The name of the key of a domain.
pub fn name(domain: &str) -> String {
    format!("selector1-{}.{APEX}", domain.replace('.', "-"))
}

async fn put(api: &Api<DkimRecordSet>, domain: &str, text: &str) {
    let record =
        json!({ "selector": "selector1", "name": name(domain), "ttl": 300, "value": text, "serial": 1 });
    let spec: DkimRecordSetSpec = serde_json::from_value(json!({
        "provider": "default", "guid": domain.replace('.', "-"), "drainSeconds": 60, "records": [record],
        "zone": { "apex": APEX, "nameServers": ["ns1.provider.example"], "negativeTtl": 60 },
    }))
    .expect("a record set");
    let object = DkimRecordSet::new(domain, spec);
    let params = PatchParams::apply("test").force();
    api.patch(domain, &params, &Patch::Apply(&object)).await.expect("written");
}

async fn ready(health: SocketAddr) -> Result<(), String> {
    get(health, "/readyz").await.map(drop)
}

/// The body of what is at a path.
pub async fn get(server: SocketAddr, path: &str) -> Result<String, String> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let exchange = async {
        let mut stream = tokio::net::TcpStream::connect(server).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    };
    let answer: String = exchange.await.map_err(|error: std::io::Error| error.to_string())?;
    if answer.starts_with("HTTP/1.1 200") { Ok(answer) } else { Err(answer) }
}
