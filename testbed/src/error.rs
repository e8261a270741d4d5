//! What can go wrong, in words that say what to do.

use std::path::PathBuf;
use std::time::Duration;

/// The result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why something of the test bed failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A binary of the control plane has not been built.
    #[error("{name} was not found in {searched}: run testbed/build.sh once to build it")]
    BinaryMissing {
        /// The binary.
        name: String,
        /// The directories that were searched.
        searched: String,
    },
    /// A program of the system is not installed.
    #[error("{name} is not installed: run testbed/packages.sh once to install it")]
    PackageMissing {
        /// The program.
        name: String,
    },
    /// A process could not be started at all.
    #[error("{name} could not be started: {source}")]
    Spawn {
        /// The process.
        name: String,
        /// Why.
        source: std::io::Error,
    },
    /// A server was started, but did not become ready.
    #[error("{name} did not start: {reason}\n--- the end of {} ---\n{tail}", log.display())]
    Start {
        /// The server.
        name: String,
        /// What was waited for, or how it ended.
        reason: String,
        /// Its log file.
        log: PathBuf,
        /// The last lines of the log.
        tail: String,
    },
    /// A process could not be signalled or waited for.
    #[error("{name} (process {pid}): {reason}")]
    Process {
        /// The process.
        name: String,
        /// Its id.
        pid: u32,
        /// What went wrong.
        reason: String,
    },
    /// Something was waited for in vain.
    #[error(
        "gave up after {waited:.1?} waiting until {what} ({attempts} attempts); the last one said: {last}"
    )]
    TimedOut {
        /// What should have become true.
        what: String,
        /// How long it was waited for.
        waited: Duration,
        /// How often it was tried.
        attempts: u32,
        /// What the last attempt said.
        last: String,
    },
    /// A command-line tool failed.
    #[error("{command} ended with {status}:\n{output}")]
    Command {
        /// The command line.
        command: String,
        /// Its exit status.
        status: String,
        /// What it wrote.
        output: String,
    },
    /// No loopback address is free.
    #[error("no free loopback address found after {attempts} attempts: {reason}")]
    Address {
        /// How many were tried.
        attempts: u32,
        /// Why the last one was not free.
        reason: String,
    },
    /// The control plane was not started by this process, so that it cannot restart it.
    #[error("{action} needs a control plane of one's own: this one is only reached through {variable}")]
    NotOwned {
        /// What was asked for.
        action: &'static str,
        /// The variable that led to the plane.
        variable: &'static str,
    },
    /// A DNS query got no usable answer.
    #[error("asking {server} for {name} {kind}: {reason}")]
    Query {
        /// The server asked.
        server: std::net::SocketAddr,
        /// The name asked for.
        name: String,
        /// The record type asked for.
        kind: String,
        /// What went wrong.
        reason: String,
    },
    /// Something about zones or names is not as it must be.
    #[error("{0}")]
    Zone(String),
    /// The API server refused or failed.
    #[error("Kubernetes API: {0}")]
    Kube(Box<kube::Error>),
    /// A kubeconfig cannot be used.
    #[error("kubeconfig: {0}")]
    Kubeconfig(String),
    /// Keys or certificates could not be made.
    #[error("certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// A file could not be read or written.
    #[error("{context}: {source}")]
    Io {
        /// What was being done.
        context: String,
        /// Why it failed.
        source: std::io::Error,
    },
}

impl From<kube::Error> for Error {
    fn from(error: kube::Error) -> Self {
        Self::Kube(Box::new(error))
    }
}

/// Adds what was being done to an I/O error.
pub(crate) trait Context<T> {
    /// `what` is a short phrase such as `writing /a/b`.
    fn context(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Context<T> for std::io::Result<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Io { context: what(), source })
    }
}
