//! kubectl and helm against the control plane.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::ControlPlane;
use crate::error::Context;
use crate::{Binaries, Error, Result};

/// How long one call may take.
const CALL_BOUND: Duration = Duration::from_secs(180);

/// How a command-line tool ended, and what it wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The command line, for messages.
    pub command: String,
    /// The exit status.
    pub status: ExitStatus,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Output {
    /// What it wrote to standard output, if it succeeded.
    ///
    /// # Errors
    /// [`Error::Command`] with all that it wrote, if it did not.
    pub fn ok(self) -> Result<String> {
        if self.status.success() {
            return Ok(self.stdout);
        }
        let output = format!("{}{}", self.stdout, self.stderr);
        Err(Error::Command { command: self.command, status: self.status.to_string(), output })
    }
}

impl ControlPlane {
    /// Runs kubectl as the administrator. A failure of kubectl is no error here: see [`Output::ok`].
    ///
    /// # Errors
    /// Where it cannot be run, or takes too long.
    pub async fn kubectl<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Result<Output> {
        self.run(&Binaries::locate()?.kubectl()?, args, &[], "").await
    }

    /// Runs kubectl with a text for its standard input: `["apply", "-f", "-"]`.
    ///
    /// # Errors
    /// As for [`ControlPlane::kubectl`].
    pub async fn kubectl_with<A: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = A>,
        input: &str,
    ) -> Result<Output> {
        self.run(&Binaries::locate()?.kubectl()?, args, &[], input).await
    }

    /// Runs kubectl with a plugin, as a user who has `plugin` (the path of its program) on the PATH.
    ///
    /// # Errors
    /// As for [`ControlPlane::kubectl`].
    pub async fn kubectl_plugin<A: AsRef<OsStr>>(
        &self,
        plugin: &Path,
        args: impl IntoIterator<Item = A>,
        input: &str,
    ) -> Result<Output> {
        let mut path = plugin.parent().unwrap_or(Path::new(".")).as_os_str().to_owned();
        if let Some(rest) = std::env::var_os("PATH") {
            path.push(":");
            path.push(rest);
        }
        self.run(&Binaries::locate()?.kubectl()?, args, &[("PATH", path)], input).await
    }

    /// Runs helm as the administrator, with cache and configuration of its own.
    ///
    /// # Errors
    /// As for [`ControlPlane::kubectl`].
    pub async fn helm<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Result<Output> {
        let variables = ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"];
        let directories: Vec<_> =
            variables.iter().map(|name| (*name, self.scratch.join(name).into())).collect();
        self.run(&Binaries::locate()?.helm()?, args, &directories, "").await
    }

    async fn run<A: AsRef<OsStr>>(
        &self,
        program: &Path,
        args: impl IntoIterator<Item = A>,
        env: &[(&str, OsString)],
        input: &str,
    ) -> Result<Output> {
        let args: Vec<OsString> = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        let name = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy();
        let words = args.iter().map(|arg| arg.to_string_lossy());
        let line = [name].into_iter().chain(words).collect::<Vec<_>>().join(" ");
        let mut command = Command::new(program);
        command
            .args(&args)
            .env("KUBECONFIG", self.kubeconfig())
            .envs(env.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().context(|| format!("starting {line}"))?;
        let stdin = child.stdin.take();
        let feed = async {
            if let Some(mut stdin) = stdin {
                // A tool that ends without reading it all says why itself.
                drop(stdin.write_all(input.as_bytes()).await);
            }
        };
        let both = async { tokio::join!(feed, child.wait_with_output()).1 };
        let Ok(output) = tokio::time::timeout(CALL_BOUND, both).await else {
            let status = format!("no result within {CALL_BOUND:?}");
            return Err(Error::Command { command: line, status, output: String::new() });
        };
        let output = output.context(|| format!("waiting for {line}"))?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Output {
            command: line,
            status: output.status,
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        })
    }
}
