//! The servers of a control plane, and how they are started.

use std::time::Duration;

use super::access::Access;
use super::{Options, certificates};
use crate::{Address, Binaries, Process, Result, Scratch, Spec, Usage};

const ETCD_CLIENTS: u16 = 2379;
const ETCD_PEERS: u16 = 2380;
const API: u16 = 6443;
/// How long one look at the API server may take.
const PROBE_BOUND: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Apiserver,
    Etcd,
}

/// The processes, in the order in which they are ended.
#[derive(Debug)]
pub(super) struct Servers {
    controller_manager: Option<Process>,
    apiserver: Process,
    etcd: Process,
    // Given back last, when nothing uses it any more.
    _address: Address,
}

/// Writes what the servers need and starts them; they are not ready yet.
pub(super) async fn launch(
    binaries: &Binaries,
    scratch: &Scratch,
    options: &Options,
) -> Result<(Servers, Access)> {
    let address = Address::allocate()?;
    let certificates = certificates::make(address.ip())?;
    certificates::keep_key(scratch, "service-account.key", "service-account.pub")?;
    let token = certificates::keep_token(scratch, "admin.token")?;
    scratch.write("ca.crt", &certificates.authority)?;
    scratch.write("apiserver.crt", &certificates.certificate)?;
    scratch.write("apiserver.key", &certificates.key)?;
    scratch.write("tokens.csv", format!("{token},admin,admin,\"system:masters\"\n"))?;
    let access = Access::new(address.port(API), &certificates.authority, &token)?;
    access.write_admin(&scratch.join("admin.kubeconfig"))?;

    let etcd_spec = spec("etcd", binaries.etcd()?, scratch, options);
    let mut etcd = etcd_spec.args(etcd_args(scratch, &address)).spawn()?;
    let clients = address.port(ETCD_CLIENTS);
    etcd.listens(Duration::from_secs(30), "etcd listens", clients).await?;
    let apiserver = spec("kube-apiserver", binaries.kube_apiserver()?, scratch, options)
        .args(apiserver_args(scratch, &address))
        .args(&options.apiserver_args)
        .spawn()?;
    let controller_manager = if options.controller_manager {
        let program = binaries.kube_controller_manager()?;
        let args = controller_manager_args(scratch);
        let spec = spec("kube-controller-manager", program, scratch, options);
        Some(spec.args(args).args(&options.controller_manager_args).spawn()?)
    } else {
        None
    };
    Ok((Servers { controller_manager, apiserver, etcd, _address: address }, access))
}

impl Servers {
    /// Waits until the API server says that it is ready, and reads something from etcd to be sure.
    pub(super) async fn ready(&mut self, access: &Access, bound: Duration) -> Result<()> {
        let client = access.admin_client()?;
        let probe = || {
            let client = client.clone();
            async move {
                let calls = async {
                    get(&client, "/readyz").await?;
                    // Its view of etcd's health is a little old; this is not.
                    get(&client, "/api/v1/namespaces/default").await
                };
                let outcome = tokio::time::timeout(PROBE_BOUND, calls).await;
                outcome.unwrap_or_else(|_| Err(format!("no answer within {PROBE_BOUND:?}")))
            }
        };
        self.apiserver.ready(bound, "/readyz says ok and the namespace default is there", probe).await?;
        // It ends by itself where it gives up before the API server is there.
        match self.controller_manager.as_mut() {
            Some(process) => process.start(),
            None => Ok(()),
        }
    }

    pub(super) async fn stop(mut self) -> Result<()> {
        // It has nothing to lose; etcd goes last, because the API server writes until its end.
        if let Some(process) = self.controller_manager.as_mut() {
            process.kill().await?;
        }
        self.apiserver.stop().await?;
        self.etcd.stop().await?;
        Ok(())
    }

    pub(super) fn leave(self) {
        let Self { controller_manager, apiserver, etcd, _address } = self;
        for process in controller_manager.into_iter().chain([apiserver, etcd]) {
            process.leave();
        }
    }

    pub(super) async fn kill(&mut self, role: Role) -> Result<()> {
        self.role(role).kill().await.map(drop)
    }

    pub(super) fn start(&mut self, role: Role) -> Result<()> {
        self.role(role).start()
    }

    pub(super) async fn pause(&mut self, role: Role) -> Result<()> {
        self.role(role).pause().await
    }

    pub(super) fn resume(&mut self, role: Role) -> Result<()> {
        self.role(role).resume()
    }

    pub(super) fn list(&self) -> Vec<(String, u32)> {
        self.all().map(|process| (process.spec().name().to_owned(), process.pid())).collect()
    }

    pub(super) fn usage(&self) -> Result<Vec<(String, Usage)>> {
        self.all().map(|process| Ok((process.spec().name().to_owned(), process.usage()?))).collect()
    }

    pub(super) fn pids(&self) -> String {
        self.list().into_iter().map(|(name, pid)| format!("{pid} {name}\n")).collect()
    }

    fn all(&self) -> impl Iterator<Item = &Process> {
        [&self.etcd, &self.apiserver].into_iter().chain(&self.controller_manager)
    }

    fn role(&mut self, role: Role) -> &mut Process {
        match role {
            Role::Apiserver => &mut self.apiserver,
            Role::Etcd => &mut self.etcd,
        }
    }
}

async fn get(client: &kube::Client, path: &str) -> std::result::Result<(), String> {
    let request = http::Request::get(path).body(Vec::new()).map_err(|error| error.to_string())?;
    client.request_text(request).await.map(drop).map_err(|error| error.to_string())
}

fn spec(name: &str, program: std::path::PathBuf, scratch: &Scratch, options: &Options) -> Spec {
    // Machines for tests have memory to spare and few processors: garbage is collected when there is
    // four times as much of it as of what lives.
    Spec::new(name, program, scratch.join(format!("{name}.log")))
        .env("GOGC", "400")
        .current_dir(scratch.path())
        .outlives_parent(options.keep)
        .stop_within(Duration::from_secs(5))
}

fn etcd_args(scratch: &Scratch, address: &Address) -> Vec<String> {
    let clients = format!("http://{}", address.port(ETCD_CLIENTS));
    let peers = format!("http://{}", address.port(ETCD_PEERS));
    vec![
        "--name=testbed".into(),
        format!("--data-dir={}", scratch.join("etcd").display()),
        format!("--listen-client-urls={clients}"),
        format!("--advertise-client-urls={clients}"),
        format!("--listen-peer-urls={peers}"),
        format!("--initial-advertise-peer-urls={peers}"),
        format!("--initial-cluster=testbed={peers}"),
        // Data must survive the end of a process here, not the end of the machine.
        "--unsafe-no-fsync".into(),
        "--log-level=warn".into(),
    ]
}

fn apiserver_args(scratch: &Scratch, address: &Address) -> Vec<String> {
    let file = |name: &str| scratch.join(name).display().to_string();
    let (ip, etcd) = (address.ip(), address.port(ETCD_CLIENTS));
    vec![
        format!("--etcd-servers=http://{etcd}"),
        format!("--bind-address={ip}"),
        format!("--secure-port={API}"),
        format!("--tls-cert-file={}", file("apiserver.crt")),
        format!("--tls-private-key-file={}", file("apiserver.key")),
        format!("--token-auth-file={}", file("tokens.csv")),
        "--authorization-mode=RBAC,Node".into(),
        "--service-account-issuer=https://kubernetes.default.svc".into(),
        format!("--service-account-key-file={}", file("service-account.pub")),
        format!("--service-account-signing-key-file={}", file("service-account.key")),
        "--service-cluster-ip-range=10.96.0.0/16".into(),
        // Nobody reaches the API server through its Service here, and a loopback address is refused there.
        "--endpoint-reconciler-type=none".into(),
        "--shutdown-delay-duration=0s".into(),
    ]
}

fn controller_manager_args(scratch: &Scratch) -> Vec<String> {
    let file = |name: &str| scratch.join(name).display().to_string();
    vec![
        format!("--kubeconfig={}", file("admin.kubeconfig")),
        format!("--root-ca-file={}", file("ca.crt")),
        format!("--service-account-private-key-file={}", file("service-account.key")),
        "--leader-elect=false".into(),
        "--secure-port=0".into(),
        "--kube-api-qps=200".into(),
        "--kube-api-burst=400".into(),
    ]
}
