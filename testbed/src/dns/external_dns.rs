//! external-dns: publishes what DNSEndpoint objects say. Its plan, registries and providers are its own; see
//! `testbed/external-dns/main.go`.

use std::ffi::OsStr;
use std::time::Duration;

use tokio::sync::Mutex;

use super::{START_BOUND, TsigKey};
use crate::{Address, Binaries, ControlPlane, Pdns, Process, Result, Scratch, Spec};

/// external-dns, as a Deployment of its own runs it; it ends with this value.
#[derive(Debug)]
pub struct ExternalDns {
    // The process goes before the directory that it works in.
    process: Mutex<Process>,
    _scratch: Scratch,
    _address: Address,
}

impl ExternalDns {
    /// Starts one that follows the DNSEndpoints of a namespace and is brisk. `args` say the rest: provider, policy, registry,
    /// types. The kind must be known to the API server.
    ///
    /// # Errors
    /// Where it is not built, or does not start; the message holds the end of its log.
    pub async fn start<A: AsRef<OsStr>>(
        plane: &ControlPlane,
        namespace: &str,
        args: impl IntoIterator<Item = A>,
    ) -> Result<Self> {
        let program = Binaries::locate()?.external_dns()?;
        let (scratch, address) = (Scratch::new("external-dns")?, Address::allocate()?);
        let metrics = address.port(7979);
        let process = Spec::new("external-dns", program, scratch.join("external-dns.log"))
            .arg(format!("--kubeconfig={}", plane.kubeconfig().display()))
            .arg(format!("--namespace={namespace}"))
            .arg(format!("--metrics-address={metrics}"))
            .args(["--source=crd", "--interval=1s", "--log-level=debug"])
            .args(args)
            .stop_within(Duration::from_secs(5))
            .spawn()?;
        let started = Self { process: Mutex::new(process), _scratch: scratch, _address: address };
        started.process.lock().await.listens(START_BOUND, "it serves its metrics", metrics).await?;
        Ok(started)
    }

    /// All that it has logged.
    pub async fn log_text(&self) -> String {
        self.process.lock().await.log_text()
    }
}

/// The arguments with which it publishes through the API of a PowerDNS.
#[must_use]
pub fn to_pdns(server: &Pdns) -> Vec<String> {
    let (url, key) = server.api();
    vec!["--provider=pdns".to_owned(), format!("--pdns-server={url}"), format!("--pdns-api-key={key}")]
}

/// The arguments with which it publishes into a zone of any server by RFC 2136.
#[must_use]
pub fn to_rfc2136(server: std::net::SocketAddr, zone: &str, key: &TsigKey) -> Vec<String> {
    let TsigKey { name, algorithm, secret } = key;
    vec![
        "--provider=rfc2136".to_owned(),
        format!("--rfc2136-host={}", server.ip()),
        format!("--rfc2136-port={}", server.port()),
        format!("--rfc2136-zone={zone}"),
        format!("--rfc2136-tsig-keyname={name}"),
        format!("--rfc2136-tsig-secret={secret}"),
        format!("--rfc2136-tsig-secret-alg={algorithm}"),
        "--rfc2136-axfr".to_owned(),
    ]
}
