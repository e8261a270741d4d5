//! The operator, installed from its chart: the chart's objects on the API server, its binaries run beside it with the
//! very ServiceAccounts and arguments that the chart gives them, so that its RBAC is proven.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, ListParams};
use tokio::sync::Mutex;

use crate::{
    Address, ControlPlane, DnsTree, Error, Process, Relay, Result, Scratch, Spec, WoundClock, eventually,
};

/// The namespace the operator is installed in.
pub const NAMESPACE: &str = "dkim-system";
/// The name of the Helm release.
pub const RELEASE: &str = "dkim-operator";

/// The zone with the names of the embedded DNS servers.
const HOST_ZONE: &str = "provider.example";

/// What to install.
#[derive(Debug, Clone)]
pub struct Install {
    binary: PathBuf,
    chart: PathBuf,
    values: Vec<String>,
    dns: usize,
    relayed: bool,
    clock: Option<Arc<WoundClock>>,
}

impl Install {
    /// The chart of this repository with this `dkim-operator` binary.
    #[must_use]
    pub fn new(binary: impl Into<PathBuf>) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
        Self {
            binary: binary.into(),
            chart: root.join("charts/dkim-operator"),
            values: Vec::new(),
            dns: 1,
            relayed: false,
            clock: None,
        }
    }

    /// Adds a chart value, as `helm --set` takes it.
    #[must_use]
    pub fn set(mut self, value: impl Into<String>) -> Self {
        self.values.push(value.into());
        self
    }

    /// Runs no embedded DNS server.
    #[must_use]
    pub fn without_dns(self) -> Self {
        self.dns_servers(0)
    }

    /// Runs so many embedded DNS servers, each at an address of its own; one where not set.
    #[must_use]
    pub fn dns_servers(mut self, count: usize) -> Self {
        self.dns = count;
        self
    }

    /// Puts a [`Relay`] between each role and the API server.
    #[must_use]
    pub fn relayed(mut self) -> Self {
        self.relayed = true;
        self
    }

    /// Gives the controller a clock that can be set.
    #[must_use]
    pub fn clocked(mut self, clock: Arc<WoundClock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Installs with helm and starts the roles.
    ///
    /// # Errors
    /// [`Error`] where helm, the API server or a role fails; it holds the tail of the log.
    pub async fn start(self, plane: &ControlPlane) -> Result<Operator> {
        let scratch = Scratch::new("operator")?;
        let chart = self.chart.display().to_string();
        let mut helm: Vec<String> =
            ["upgrade", "--install", RELEASE, &chart, "--namespace", NAMESPACE, "--create-namespace"]
                .map(str::to_owned)
                .to_vec();
        for value in &self.values {
            helm.extend(["--set".to_owned(), value.clone()]);
        }
        let notes = plane.helm(&helm).await?.ok()?;
        let controller = role(plane, &self, &scratch, "controller", "controller", &[]).await?;
        let mut dns_addresses = vec![Address::allocate()?];
        let mut dns = Vec::new();
        for number in 1..=self.dns {
            if number > dns_addresses.len() {
                dns_addresses.push(Address::allocate()?);
            }
            let name = format!("dns{number}");
            let listen: Vec<String> =
                dns_addresses.last().map(|address| address.port(53).to_string()).into_iter().collect();
            let state = scratch.join(format!("{name}.zones")).display().to_string();
            let own = [vec!["--state-file".to_owned(), state, "--listen".to_owned()], listen].concat();
            dns.push(role(plane, &self, &scratch, "dns", &name, &own).await?);
        }
        Ok(Operator { controller, dns, dns_addresses, notes, scratch, install: self })
    }
}

/// A running operator.
#[derive(Debug)]
pub struct Operator {
    controller: Role,
    dns: Vec<Role>,
    /// At least one: tests that run a server of their own use it.
    dns_addresses: Vec<Address>,
    notes: String,
    scratch: Scratch,
    install: Install,
}

impl Operator {
    /// Starts one more role that the chart installs, such as `milter`, with what its Deployment says and arguments of its own.
    ///
    /// # Errors
    /// Where the chart lacks it, or it does not become ready; the error holds the tail of its log.
    pub async fn start_role(&self, plane: &ControlPlane, component: &str, own: &[String]) -> Result<Role> {
        role(plane, &self.install, &self.scratch, component, component, own).await
    }

    /// Where the embedded DNS servers listen, one after the other.
    #[must_use]
    pub fn dns_addresses(&self) -> Vec<SocketAddr> {
        self.dns_addresses.iter().map(|address| address.port(53)).collect()
    }

    /// The names of the embedded DNS servers for delegations and for `publish.nameServers`.
    #[must_use]
    pub fn name_servers(&self) -> Vec<String> {
        (1..=self.dns_addresses.len()).map(|number| format!("dns{number}.{HOST_ZONE}")).collect()
    }

    /// Delegates a zone to the embedded DNS servers, whose names and addresses the tree's hosting server gets.
    ///
    /// # Errors
    /// Where a server of the tree refuses.
    pub async fn delegate(&self, tree: &DnsTree, zone: &str) -> Result<()> {
        tree.add_zone(HOST_ZONE, 1).await?;
        for (name, address) in self.name_servers().iter().zip(&self.dns_addresses) {
            tree.add_record(name, 60, "A", &address.ip().to_string()).await?;
            tree.delegate(zone, name, address.ip()).await?;
        }
        Ok(())
    }

    /// What helm printed.
    #[must_use]
    pub fn notes(&self) -> &str {
        &self.notes
    }

    /// The directory with logs and kubeconfigs.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.scratch.path()
    }

    /// The controller.
    #[must_use]
    pub fn controller(&self) -> &Role {
        &self.controller
    }

    /// The DNS servers.
    #[must_use]
    pub fn dns(&self) -> &[Role] {
        &self.dns
    }
}

/// One running role of the operator.
#[derive(Debug)]
pub struct Role {
    process: Mutex<Process>,
    health: Address,
    relay: Option<Relay>,
}

impl Role {
    /// Ends it with SIGKILL and starts it anew; returns without waiting for readiness.
    ///
    /// # Errors
    /// Where it cannot be ended or started.
    pub async fn kill_and_start(&self) -> Result<()> {
        let mut process = self.process.lock().await;
        process.kill().await?;
        process.start()
    }

    /// Ends it with SIGKILL.
    ///
    /// # Errors
    /// Where it cannot be ended.
    pub async fn kill(&self) -> Result<()> {
        self.process.lock().await.kill().await.map(|_| ())
    }

    /// Starts it again after [`Role::kill`]; returns without waiting for readiness.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub async fn launch(&self) -> Result<()> {
        self.process.lock().await.start()
    }

    /// Ends it with TERM, as kubelet does.
    ///
    /// # Errors
    /// Where it cannot be ended.
    pub async fn stop(&self) -> Result<()> {
        self.process.lock().await.stop().await.map(|_| ())
    }

    /// Makes it hang until [`Role::resume`].
    ///
    /// # Errors
    /// Where it does not run.
    pub async fn pause(&self) -> Result<()> {
        self.process.lock().await.pause().await
    }

    /// Lets it go on after [`Role::pause`].
    ///
    /// # Errors
    /// Where it does not run.
    pub async fn resume(&self) -> Result<()> {
        self.process.lock().await.resume()
    }

    /// Its way to the API server, where [`Install::relayed`] was set.
    #[must_use]
    pub fn relay(&self) -> Option<&Relay> {
        self.relay.as_ref()
    }

    /// Starts it again after [`Role::kill`] and waits until it is ready.
    ///
    /// # Errors
    /// Where it does not become ready.
    pub async fn start(&self) -> Result<()> {
        self.process.lock().await.start()?;
        self.ready().await
    }

    /// Whether it is ready; what it waits for, if it is not.
    ///
    /// # Errors
    /// What it waits for, or why it does not answer.
    pub async fn readiness(&self) -> std::result::Result<(), String> {
        http_ok(self.health.port(8080)).await
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    /// With what it waits for, after 30 s.
    pub async fn ready(&self) -> Result<()> {
        let address = self.health.port(8080);
        eventually(Duration::from_secs(30), "the role is ready", || http_ok(address)).await
    }

    /// What it counts.
    ///
    /// # Errors
    /// Where it does not answer within 10 s.
    pub async fn metrics(&self) -> Result<String> {
        let address = self.health.port(8080);
        eventually(Duration::from_secs(10), "the role tells what it counts", || http_get(address, "/metrics"))
            .await
    }

    /// What it has logged.
    pub async fn log(&self) -> String {
        self.process.lock().await.log_text()
    }

    /// What it uses.
    ///
    /// # Errors
    /// Where it does not run.
    pub async fn usage(&self) -> Result<crate::Usage> {
        self.process.lock().await.usage()
    }
}

/// Starts one process of a role with the ServiceAccount and the arguments of its Deployment.
async fn role(
    plane: &ControlPlane,
    install: &Install,
    scratch: &Scratch,
    component: &str,
    name: &str,
    own: &[String],
) -> Result<Role> {
    let deployments: Api<Deployment> = Api::namespaced(plane.admin()?, NAMESPACE);
    let labels = format!("app.kubernetes.io/component={component}");
    let list = deployments.list(&ListParams::default().labels(&labels)).await?;
    let pod = list.items.first().and_then(|d| d.spec.template.spec.as_ref());
    let missing = || Error::Command {
        command: "helm".to_owned(),
        status: "a chart that lacks something".to_owned(),
        output: format!("no Deployment with the label {labels}, a ServiceAccount and arguments"),
    };
    let pod = pod.ok_or_else(missing)?;
    let account = pod.service_account_name.clone().ok_or_else(missing)?;
    let chart_args = pod.containers.first().and_then(|c| c.args.clone()).ok_or_else(missing)?;

    let token = plane.service_account_token(NAMESPACE, &account, Duration::from_secs(12 * 3600)).await?;
    let kubeconfig = scratch.join(format!("{name}.kubeconfig"));
    let relay = if install.relayed { Some(Relay::start(plane.api_address()?).await?) } else { None };
    match &relay {
        Some(relay) => plane.kubeconfig_through(relay.address(), &token, &kubeconfig)?,
        None => plane.kubeconfig_for_token(&token, &kubeconfig)?,
    }
    let health = Address::allocate()?;
    let ready = health.port(8080);
    // Addresses and files are this run's own.
    let replaced =
        ["--health-addr", "--listen", "--state-file", "--cookie-secret-file", "--transfer-key-file"];
    let chart_args =
        chart_args.iter().filter(|arg| !replaced.iter().any(|a| arg.split('=').next() == Some(a)));
    let process = Spec::new(name, &install.binary, scratch.join(format!("{name}.log")))
        .args(chart_args)
        .args(own)
        .arg("--health-addr")
        .arg(ready.to_string())
        .env("KUBECONFIG", &kubeconfig)
        .env("DKIM_OPERATOR_LOG", std::env::var("DKIM_OPERATOR_LOG").unwrap_or_else(|_| "info".to_owned()))
        .env_remove("KUBERNETES_SERVICE_HOST");
    let clock = install.clock.iter().filter(|_| component == "controller");
    let process =
        clock.flat_map(|clock| clock.environment()).fold(process, |p, (name, value)| p.env(name, value));
    let mut process = process.spawn()?;
    process.ready(Duration::from_secs(30), &format!("{name} is ready"), || http_ok(ready)).await?;
    Ok(Role { process: Mutex::new(process), health, relay })
}

async fn http_ok(address: SocketAddr) -> std::result::Result<(), String> {
    http_get(address, "/readyz").await.map(drop)
}

/// The body of a good answer; that of a bad one, trimmed, is the error.
async fn http_get(address: SocketAddr, path: &str) -> std::result::Result<String, String> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await.map_err(|e| e.to_string())?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(|e| e.to_string())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.map_err(|e| e.to_string())?;
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
    if answer.starts_with("HTTP/1.1 200") { Ok(body.to_owned()) } else { Err(body.trim().to_owned()) }
}
