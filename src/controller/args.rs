//! The command line of `dkim-operator controller`.

use std::net::SocketAddr;

use clap::Args;

use super::ControllerOptions;
use crate::metrics::Metrics;

/// Arguments of `dkim-operator controller`.
#[derive(Debug, Args)]
pub struct ControllerArgs {
    /// The namespace of the record sets: the operator's own.
    #[arg(long, env = "DKIM_OPERATOR_NAMESPACE")]
    pub namespace: String,
    /// Namespaces in which key Secrets may be, separated by commas; the operator's own where left out.
    #[arg(long, env = "DKIM_OPERATOR_SECRET_NAMESPACES", value_delimiter = ',')]
    pub secret_namespaces: Vec<String>,
    /// Key Secrets may be in any namespace.
    #[arg(long, env = "DKIM_OPERATOR_ALL_SECRET_NAMESPACES")]
    pub all_secret_namespaces: bool,
    /// Where /healthz and /readyz are served.
    #[arg(long, env = "DKIM_OPERATOR_HEALTH_ADDR", default_value = "0.0.0.0:8080")]
    pub health_addr: SocketAddr,
    /// Most reconciles at a time.
    #[arg(long, env = "DKIM_OPERATOR_CONCURRENCY", default_value_t = 32)]
    pub concurrency: u16,
    /// Most keys made at a time; the number of processors where left out.
    #[arg(long, env = "DKIM_OPERATOR_KEY_THREADS")]
    pub key_threads: Option<usize>,
}

impl ControllerArgs {
    /// How the controller works.
    #[must_use]
    pub fn options(self) -> ControllerOptions {
        let secret_namespaces = match (self.all_secret_namespaces, self.secret_namespaces) {
            (true, _) => None,
            (false, list) if list.is_empty() => Some(vec![self.namespace.clone()]),
            (false, list) => Some(list),
        };
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        ControllerOptions {
            namespace: self.namespace,
            secret_namespaces,
            concurrency: self.concurrency,
            key_threads: self.key_threads.unwrap_or(threads),
            metrics: Metrics::default(),
        }
    }
}
