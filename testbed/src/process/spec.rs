//! How a process is to be started.

use std::ffi::{OsStr, OsString};
use std::fs::OpenOptions;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{Process, spawner};
use crate::error::Context;
use crate::{Error, Result};

/// Starts the program only if the parent is still the one that meant to: between the fork and the moment when
/// the kernel has been told about the signal, it may have died. `$0` is its id.
const GUARD: &str = r#"[ "$PPID" = "$0" ] || exit 70; exec "$@""#;

/// A program with its arguments, environment and log file.
#[derive(Debug, Clone)]
pub struct Spec {
    name: String,
    program: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, Option<OsString>)>,
    directory: Option<PathBuf>,
    log: PathBuf,
    stop_bound: Duration,
    outlives_parent: bool,
}

impl Spec {
    /// `name` is used in messages; standard output and standard error both go to the end of `log`.
    pub fn new(name: impl Into<String>, program: impl Into<PathBuf>, log: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            directory: None,
            log: log.into(),
            stop_bound: Duration::from_secs(10),
            outlives_parent: false,
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Replaces all arguments.
    pub fn set_args<A: AsRef<OsStr>>(&mut self, args: impl IntoIterator<Item = A>) {
        self.args = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
    }

    /// Sets a variable of the environment; the others are those of this process.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().to_owned(), Some(value.as_ref().to_owned())));
        self
    }

    /// Takes a variable out of the environment.
    #[must_use]
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().to_owned(), None));
        self
    }

    /// Sets the working directory.
    #[must_use]
    pub fn current_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// How long the process may take to end after TERM, before it gets KILL; 10 s where not set.
    #[must_use]
    pub fn stop_within(mut self, bound: Duration) -> Self {
        self.stop_bound = bound;
        self
    }

    /// The process goes on when this one dies. Otherwise the kernel ends it then.
    #[must_use]
    pub fn outlives_parent(mut self, yes: bool) -> Self {
        self.outlives_parent = yes;
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// Where the program or the log file cannot be opened.
    pub fn spawn(self) -> Result<Process> {
        let child = self.spawn_child()?;
        Ok(Process::started(self, child))
    }

    /// The name used in messages.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The log file.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    pub(super) fn stop_bound(&self) -> Duration {
        self.stop_bound
    }

    pub(super) fn spawn_child(&self) -> Result<Child> {
        let opening = || format!("opening {}", self.log.display());
        let log = OpenOptions::new().create(true).append(true).open(&self.log).context(opening)?;
        let errors = log.try_clone().context(opening)?;
        let mut command = self.command();
        for (name, value) in &self.env {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        command.stdin(Stdio::null()).stdout(log).stderr(errors).process_group(0);
        spawner::spawn(command).map_err(|source| Error::Spawn { name: self.name.clone(), source })
    }

    fn command(&self) -> Command {
        if self.outlives_parent {
            let mut command = Command::new(&self.program);
            command.args(&self.args);
            return command;
        }
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", "/bin/sh", "-c", GUARD]);
        command.arg(std::process::id().to_string()).arg(&self.program).args(&self.args);
        command
    }
}
