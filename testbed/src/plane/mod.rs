//! A real Kubernetes control plane: etcd, kube-apiserver, kube-controller-manager.

mod access;
mod certificates;
mod servers;
mod shared;
mod tools;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use self::access::Access;
pub(crate) use self::certificates::{Certificates, make as certificates};
use self::servers::{Role, Servers};
pub use self::tools::Output;
use crate::error::Context;
use crate::{Binaries, Error, Result, Scratch, Usage};

/// The variable with the path of a kubeconfig: where it is set, [`ControlPlane::shared`] uses the control plane
/// that this leads to, and starts none. The program `testbed-up` sets it.
pub const KUBECONFIG_VARIABLE: &str = "DKIM_TESTBED_KUBECONFIG";

/// How long the control plane may take to be ready; usually it is 4 s.
const READY_BOUND: Duration = Duration::from_secs(90);

/// How a control plane is to be started.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Options {
    controller_manager: bool,
    keep: bool,
    directory: Option<PathBuf>,
    apiserver_args: Vec<String>,
    controller_manager_args: Vec<String>,
}

impl Options {
    /// etcd and kube-apiserver alone, with their data in a temporary directory.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts kube-controller-manager, too: needed for garbage collection, the deletion of namespaces, and for
    /// default ServiceAccounts.
    #[must_use]
    pub fn with_controller_manager(mut self) -> Self {
        self.controller_manager = true;
        self
    }

    /// Takes [`Options::with_controller_manager`] back.
    #[must_use]
    pub fn without_controller_manager(mut self) -> Self {
        self.controller_manager = false;
        self
    }

    /// Leaves it running, with its data, when the value is dropped or the process ends. The process ids are in
    /// the file `pids` of its directory.
    #[must_use]
    pub fn keep(mut self) -> Self {
        self.keep = true;
        self
    }

    /// Uses a directory of the caller's, which stays; started again with the same one, the cluster goes on with
    /// its objects.
    #[must_use]
    pub fn directory(mut self, path: impl Into<PathBuf>) -> Self {
        self.directory = Some(path.into());
        self
    }

    /// Adds arguments for kube-apiserver; of one that is given twice the later wins.
    #[must_use]
    pub fn apiserver_args<A: Into<String>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.apiserver_args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Adds arguments for kube-controller-manager.
    #[must_use]
    pub fn controller_manager_args<A: Into<String>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.controller_manager_args.extend(args.into_iter().map(Into::into));
        self
    }
}

/// A control plane. What was started here ends with this value; one reached through [`KUBECONFIG_VARIABLE`]
/// stays.
///
/// It holds nothing that belongs to an async runtime: tests with a runtime each can share one. Clients are made
/// anew at each call, and belong to the runtime that asks for them.
#[derive(Debug)]
pub struct ControlPlane {
    // The processes go before the directory that they work in.
    servers: Option<Mutex<Servers>>,
    access: Access,
    scratch: Scratch,
    keep: bool,
    started_in: Duration,
}

impl ControlPlane {
    /// Starts one and waits until it is ready.
    ///
    /// # Errors
    /// Where binaries are missing, or a server does not start; the message holds the end of its log.
    pub async fn start(options: Options) -> Result<Self> {
        let started = Instant::now();
        let binaries = Binaries::locate()?;
        let scratch = match &options.directory {
            Some(directory) => Scratch::fixed(directory)?,
            // What is left running needs its data after the end of this process.
            None if options.keep => Scratch::fixed(
                tempfile::Builder::new()
                    .prefix("dkim-testbed-kept-")
                    .tempdir()
                    .context(|| "making a temporary directory".to_owned())?
                    .keep(),
            )?,
            None => Scratch::new("plane")?,
        };
        let (mut servers, access) = servers::launch(&binaries, &scratch, &options).await?;
        servers.ready(&access, READY_BOUND).await?;
        if options.keep {
            scratch.write("pids", servers.pids())?;
        }
        let (servers, keep) = (Some(Mutex::new(servers)), options.keep);
        Ok(Self { servers, access, scratch, keep, started_in: started.elapsed() })
    }

    /// Uses the control plane that a kubeconfig leads to; nothing of it is ever started or ended from here.
    ///
    /// # Errors
    /// Where the file cannot be used.
    pub async fn attach(kubeconfig: impl AsRef<Path>) -> Result<Self> {
        let access = Access::read(kubeconfig.as_ref()).await?;
        let scratch = Scratch::new("attached")?;
        access.write_admin(&scratch.join("admin.kubeconfig"))?;
        Ok(Self { servers: None, access, scratch, keep: false, started_in: Duration::ZERO })
    }

    /// Ends it and waits until its processes are gone.
    ///
    /// # Errors
    /// Where a process cannot be ended.
    pub async fn stop(mut self) -> Result<()> {
        match self.servers.take() {
            Some(servers) if !self.keep => servers.into_inner().stop().await,
            Some(servers) => {
                servers.into_inner().leave();
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Its directory: data, keys, logs, and the kubeconfig `admin.kubeconfig`.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.scratch.path()
    }

    /// The kubeconfig of an administrator, for kubectl, helm and other programs.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.scratch.join("admin.kubeconfig")
    }

    /// How long it took until it was ready.
    #[must_use]
    pub fn started_in(&self) -> Duration {
        self.started_in
    }

    /// The process ids of its servers, with their names; none where it was not started here.
    pub async fn processes(&self) -> Vec<(String, u32)> {
        match &self.servers {
            Some(servers) => servers.lock().await.list(),
            None => Vec::new(),
        }
    }

    /// Memory and processor time of its servers, with their names.
    ///
    /// # Errors
    /// Where one does not run.
    pub async fn usage(&self) -> Result<Vec<(String, Usage)>> {
        match &self.servers {
            Some(servers) => servers.lock().await.usage(),
            None => Ok(Vec::new()),
        }
    }

    /// Ends kube-apiserver as a crash would (KILL). [`ControlPlane::restart_apiserver`] brings it back.
    ///
    /// # Errors
    /// Where it was not started here.
    pub async fn kill_apiserver(&self) -> Result<()> {
        self.own("killing kube-apiserver")?.lock().await.kill(Role::Apiserver).await
    }

    /// Ends kube-apiserver as a crash would where it runs, starts it at the same address and waits until it is
    /// ready.
    ///
    /// # Errors
    /// Where it was not started here, or does not start.
    pub async fn restart_apiserver(&self) -> Result<()> {
        self.restart("restarting kube-apiserver", Role::Apiserver).await
    }

    /// Ends etcd as a crash would, starts it with its data and waits until the API server is ready again.
    ///
    /// # Errors
    /// Where it was not started here, or does not start.
    pub async fn restart_etcd(&self) -> Result<()> {
        self.restart("restarting etcd", Role::Etcd).await
    }

    /// Ends etcd as a crash would (KILL): the API server runs, but cannot do its work.
    /// [`ControlPlane::restart_etcd`] brings it back.
    ///
    /// # Errors
    /// Where it was not started here.
    pub async fn kill_etcd(&self) -> Result<()> {
        self.own("killing etcd")?.lock().await.kill(Role::Etcd).await
    }

    /// Makes kube-apiserver hang: connections stay open, nothing is answered, until
    /// [`ControlPlane::resume_apiserver`].
    ///
    /// # Errors
    /// Where it was not started here, or does not run.
    pub async fn pause_apiserver(&self) -> Result<()> {
        self.own("pausing kube-apiserver")?.lock().await.pause(Role::Apiserver).await
    }

    /// Lets kube-apiserver go on after [`ControlPlane::pause_apiserver`].
    ///
    /// # Errors
    /// Where it was not started here, or does not run.
    pub async fn resume_apiserver(&self) -> Result<()> {
        self.own("resuming kube-apiserver")?.lock().await.resume(Role::Apiserver)
    }

    /// Makes etcd hang until [`ControlPlane::resume_etcd`].
    ///
    /// # Errors
    /// Where it was not started here, or does not run.
    pub async fn pause_etcd(&self) -> Result<()> {
        self.own("pausing etcd")?.lock().await.pause(Role::Etcd).await
    }

    /// Lets etcd go on after [`ControlPlane::pause_etcd`].
    ///
    /// # Errors
    /// Where it was not started here, or does not run.
    pub async fn resume_etcd(&self) -> Result<()> {
        self.own("resuming etcd")?.lock().await.resume(Role::Etcd)
    }

    async fn restart(&self, action: &'static str, role: Role) -> Result<()> {
        let mut servers = self.own(action)?.lock().await;
        servers.kill(role).await?;
        servers.start(role)?;
        servers.ready(&self.access, READY_BOUND).await
    }

    fn own(&self, action: &'static str) -> Result<&Mutex<Servers>> {
        self.servers.as_ref().ok_or(Error::NotOwned { action, variable: KUBECONFIG_VARIABLE })
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        if self.keep
            && let Some(servers) = self.servers.take()
        {
            servers.into_inner().leave();
        }
    }
}
