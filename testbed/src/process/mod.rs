//! Starting, watching and ending processes: the one place in the test bed where that happens.

mod exit;
mod spawner;
mod spec;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

pub use rustix::process::Signal;
pub(crate) use spawner::spawn as spawn_lasting;
pub use spec::Spec;
use tokio::net::TcpStream;

use crate::{Error, Result};

/// How long the kernel may take to end a process after KILL.
const KILL_BOUND: Duration = Duration::from_secs(10);
/// How often an ending process is looked at.
const LOOK: Duration = Duration::from_millis(5);
/// How much of a log's end is read for its last lines.
const TAIL_BYTES: u64 = 64 * 1024;

/// A process that was started here, in a process group of its own, and that ends with this value.
///
/// It is held by its id and never looked for by name. Until it has been waited for, the kernel keeps the id, so
/// that no signal can reach a stranger. Dropping the value ends the process: TERM, then KILL after the bound of
/// its [`Spec`]. It also ends when this process dies, however that happens, unless
/// [`Spec::outlives_parent`] was set.
#[derive(Debug)]
pub struct Process {
    spec: Spec,
    child: Option<Child>,
    pid: u32,
    last_exit: Option<ExitStatus>,
}

/// What a process has used so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Resident memory now, in bytes.
    pub resident: u64,
    /// Processor time so far, user and system together.
    pub cpu: Duration,
}

impl Process {
    pub(crate) fn started(spec: Spec, child: Child) -> Self {
        let pid = child.id();
        Self { spec, child: Some(child), pid, last_exit: None }
    }

    /// The process id: of the process that runs, or of the last one that did.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// What it was started from.
    #[must_use]
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// How to start it: what is changed here counts from the next [`Process::restart`] on.
    pub fn spec_mut(&mut self) -> &mut Spec {
        &mut self.spec
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.try_wait(), Ok(None))
    }

    /// How it ended, or `None` while it runs.
    ///
    /// # Errors
    /// Where the kernel cannot say.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        let Some(child) = self.child.as_mut() else { return Ok(self.last_exit) };
        match exit::reap(child) {
            Ok(None) => Ok(None),
            Ok(Some(status)) => {
                self.child = None;
                self.last_exit = Some(status);
                Ok(Some(status))
            }
            Err(error) => Err(self.error(format!("waiting for it: {error}"))),
        }
    }

    /// Waits until it ends by itself, for at most `bound`.
    ///
    /// # Errors
    /// Where it still runs after `bound`.
    pub async fn wait(&mut self, bound: Duration) -> Result<ExitStatus> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.try_wait()? {
                return Ok(status);
            }
            if started.elapsed() >= bound {
                return Err(self.error(format!("still running after {bound:.1?}")));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Sends a signal to the process alone; one that has ended gets none, which is an error.
    ///
    /// # Errors
    /// Where it has ended, or the kernel refuses.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if self.try_wait()?.is_some() {
            return Err(self.error("it has ended".into()));
        }
        exit::signal(self.pid, signal).map_err(|error| self.error(format!("{signal:?}: {error}")))
    }

    /// Makes it hang, until [`Process::resume`]; returns when all its threads stand still.
    ///
    /// # Errors
    /// Where it has ended.
    pub async fn pause(&mut self) -> Result<()> {
        self.signal(Signal::STOP)?;
        let pid = self.pid;
        crate::eventually(KILL_BOUND, "all threads stand still", || async move { exit::all_stopped(pid) })
            .await
    }

    /// Lets it go on after [`Process::pause`].
    ///
    /// # Errors
    /// Where it has ended.
    pub fn resume(&mut self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Ends it as a user would: TERM, then KILL after the bound of its [`Spec`]; returns when it is gone.
    ///
    /// # Errors
    /// Where it cannot be ended.
    pub async fn stop(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.try_wait()? {
            return Ok(status);
        }
        exit::terminate_group(self.pid);
        let bound = self.spec.stop_bound();
        match self.wait(bound).await {
            Ok(status) => Ok(status),
            Err(_) => self.kill().await,
        }
    }

    /// Ends it as a crash would: KILL to its whole process group; returns when it is gone.
    ///
    /// # Errors
    /// Where it cannot be ended.
    pub async fn kill(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.try_wait()? {
            return Ok(status);
        }
        exit::signal_group(self.pid, Signal::KILL);
        self.wait(KILL_BOUND).await
    }

    /// Stops it where it runs, and starts it anew from its [`Spec`]; the log is continued.
    ///
    /// # Errors
    /// Where it cannot be ended or started.
    pub async fn restart(&mut self) -> Result<()> {
        self.stop().await?;
        self.start()
    }

    /// Starts it anew after it has ended; does nothing while it runs.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn start(&mut self) -> Result<()> {
        if self.try_wait()?.is_none() {
            return Ok(());
        }
        let child = self.spec.spawn_child()?;
        self.pid = child.id();
        self.child = Some(child);
        self.last_exit = None;
        Ok(())
    }

    /// Its log file.
    #[must_use]
    pub fn log(&self) -> &Path {
        self.spec.log()
    }

    /// All it has written, with what is not UTF-8 replaced; empty where the file cannot be read.
    #[must_use]
    pub fn log_text(&self) -> String {
        std::fs::read(self.log())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// The last `lines` lines of its log.
    #[must_use]
    pub fn log_tail(&self, lines: usize) -> String {
        tail(self.log(), lines)
    }

    /// What it has used so far.
    ///
    /// # Errors
    /// Where it has ended.
    pub fn usage(&self) -> Result<Usage> {
        exit::usage(self.pid).map_err(|error| self.error(format!("reading its usage: {error}")))
    }

    /// Waits until `ready` returns `Ok`, but no longer than `bound`, and not after the process has ended.
    ///
    /// # Errors
    /// [`Error::Start`] with the end of the log.
    pub async fn ready<E, F, Fut>(&mut self, bound: Duration, what: &str, mut ready: F) -> Result<()>
    where
        E: std::fmt::Display,
        F: FnMut() -> Fut,
        Fut: Future<Output = std::result::Result<(), E>>,
    {
        let (name, log) = (self.spec.name().to_owned(), self.log().to_owned());
        let outcome = crate::eventually(bound, what, || {
            let status = self.try_wait();
            let attempt = matches!(status, Ok(None)).then(&mut ready);
            async move {
                match attempt {
                    Some(attempt) => attempt.await.map(|()| None).map_err(|error| error.to_string()),
                    None => Ok(Some(status)),
                }
            }
        })
        .await;
        let reason = match outcome {
            Ok(None) => return Ok(()),
            Ok(Some(Ok(status))) => {
                status.map_or_else(String::new, |status| format!("it ended with {status}"))
            }
            Ok(Some(Err(error))) | Err(error) => error.to_string(),
        };
        Err(Error::Start { name, reason, tail: tail(&log, 30), log })
    }

    /// Waits until it takes TCP connections at an address, as [`Process::ready`] does.
    ///
    /// # Errors
    /// [`Error::Start`] with the end of the log.
    pub async fn listens(&mut self, bound: Duration, what: &str, address: SocketAddr) -> Result<()> {
        self.ready(bound, what, || async move { TcpStream::connect(address).await.map(drop) }).await
    }

    /// Lets the process go: it is neither ended nor waited for any more.
    pub fn leave(mut self) {
        self.child = None;
    }

    fn error(&self, reason: String) -> Error {
        Error::Process { name: self.spec.name().to_owned(), pid: self.pid, reason }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.child.is_none() || !self.is_running() {
            return;
        }
        let term: fn(u32) = exit::terminate_group;
        let kill: fn(u32) = |pid| exit::signal_group(pid, Signal::KILL);
        for (end, bound) in [(term, self.spec.stop_bound()), (kill, KILL_BOUND)] {
            end(self.pid);
            let started = Instant::now();
            while started.elapsed() < bound {
                if !self.is_running() {
                    return;
                }
                std::thread::sleep(LOOK);
            }
        }
    }
}

/// The last `lines` lines of a file; empty where it cannot be read.
pub(crate) fn tail(path: &Path, lines: usize) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
