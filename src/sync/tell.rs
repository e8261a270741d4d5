//! Tells the signer that its files have changed: a signal to the process of its pid file, a command, or both.

use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::io::Errno;
use rustix::param::clock_ticks_per_second;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::error::TellError;
use crate::uptime::since_boot;

/// How much of a hook's output is shown where it fails.
const SHOWN: usize = 500;

/// The signal that makes a signer read its files again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ReloadSignal {
    /// OpenDKIM.
    Usr1,
    /// maddy.
    Usr2,
    /// rspamd, Exim.
    Hup,
}

/// A process that has begun within this time may not listen to signals yet, and would be ended by one.
const YOUNG: Duration = Duration::from_secs(5);

/// Whether the signer knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// It was told, or has begun since and read the files as they are.
    Yes,
    /// Its process has only just begun, and is told in a moment.
    NotYet,
    /// It is not found, for this reason. It may run all the same: the pid file may be another one, and its process one that is
    /// not seen from here.
    NotFound(String),
}

/// How to tell the signer.
#[derive(Debug, Clone)]
pub struct Tell {
    /// The file with its process id, and the signal.
    pub pid_file: Option<(PathBuf, ReloadSignal)>,
    /// How its process is called.
    pub process: String,
    /// A program and its arguments; no shell is involved.
    pub hook: Vec<OsString>,
    /// How long the hook may run.
    pub hook_timeout: Duration,
}

impl Tell {
    /// Tells it, by signal and then by hook, of files that were `written` at that moment ([`since_boot`]).
    ///
    /// # Errors
    /// [`TellError`].
    pub async fn tell(&self, directory: &Path, written: Duration) -> Result<Told, TellError> {
        let told = self.signal(written)?;
        if told == Told::NotYet {
            return Ok(told);
        }
        if let Some((program, arguments)) = self.hook.split_first() {
            self.hook(program, arguments, directory).await?;
        }
        Ok(told)
    }

    /// Tells it by signal alone.
    ///
    /// # Errors
    /// [`TellError`].
    pub fn signal(&self, written: Duration) -> Result<Told, TellError> {
        self.signal_at(written, since_boot())
    }

    fn signal_at(&self, written: Duration, now: Duration) -> Result<Told, TellError> {
        let Some((path, signal)) = &self.pid_file else { return Ok(Told::Yes) };
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok(Told::NotFound(format!("{} is not there", path.display())));
            }
            Err(source) => return Err(TellError::PidFile { path: path.to_owned(), source }),
        };
        let no_pid = || TellError::NoPid { path: path.to_owned(), found: text.chars().take(40).collect() };
        let id: i32 = text.trim().parse().map_err(|_| no_pid())?;
        // Never 0 or less: that would be a whole group of processes, or all of them; nor init.
        let pid = Some(id).filter(|id| *id > 1).and_then(Pid::from_raw).ok_or_else(no_pid)?;
        let not_found = |what: &str| Ok(Told::NotFound(format!("process {id} of {} {what}", path.display())));
        let (begun, found) = match begun(id).and_then(|begun| Ok((begun, process_name(id)?))) {
            Ok(process) => process,
            Err(error) if error.kind() == ErrorKind::NotFound => return not_found("is not there"),
            Err(source) => return Err(TellError::Signal { pid: id, source }),
        };
        let (ours, young) = (found.starts_with(&self.process), now.saturating_sub(begun) < YOUNG);
        if ours && begun > written {
            return Ok(Told::Yes);
        }
        if young {
            return Ok(Told::NotYet);
        }
        if !ours {
            return Err(TellError::OtherProcess { pid: id, found, expected: self.process.clone() });
        }
        let signal = match signal {
            ReloadSignal::Usr1 => Signal::USR1,
            ReloadSignal::Usr2 => Signal::USR2,
            ReloadSignal::Hup => Signal::HUP,
        };
        match kill_process(pid, signal) {
            Ok(()) => Ok(Told::Yes),
            Err(Errno::SRCH) => not_found("has ended"),
            Err(error) => Err(TellError::Signal { pid: id, source: error.into() }),
        }
    }

    async fn hook(
        &self,
        program: &OsString,
        arguments: &[OsString],
        directory: &Path,
    ) -> Result<(), TellError> {
        let name = || program.to_string_lossy().into_owned();
        let child = tokio::process::Command::new(program)
            .args(arguments)
            .env("DKIM_OPERATOR_DIR", directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| TellError::HookStart { program: name(), source })?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let Ok(ended) = tokio::time::timeout(self.hook_timeout, child.wait_with_output()).await else {
            // What it has started, too.
            if let Some(group) = group {
                let _ = kill_process_group(group, Signal::KILL);
            }
            return Err(TellError::HookTimeout { program: name(), bound: self.hook_timeout });
        };
        let output = ended.map_err(|source| TellError::HookStart { program: name(), source })?;
        if output.status.success() {
            return Ok(());
        }
        let text =
            String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).trim().replace('\n', "; ");
        let skipped = text.chars().count().saturating_sub(SHOWN);
        let output_end = text.chars().skip(skipped).collect();
        Err(TellError::HookFailed { program: name(), status: output.status, output: output_end })
    }
}

/// When a process has begun, counted like [`since_boot`].
fn begun(id: i32) -> io::Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
    // The 22nd field; the second is its name in parentheses, with anything in it.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u64 =
        fields.split_ascii_whitespace().nth(19).and_then(|t| t.parse().ok()).ok_or(ErrorKind::InvalidData)?;
    Ok(Duration::from_millis(ticks.saturating_mul(1000) / clock_ticks_per_second().max(1)))
}

/// What a process is called: the name of its program, as it may have changed it itself. A script is known by its
/// own name, which stands behind the interpreter's.
fn process_name(id: i32) -> io::Result<String> {
    let short = std::fs::read_to_string(format!("/proc/{id}/comm"))?.trim().to_owned();
    if !short.starts_with("python") && !short.starts_with("perl") {
        return Ok(short);
    }
    let line = std::fs::read(format!("/proc/{id}/cmdline"))?;
    let script = line.split(|b| *b == 0).nth(1).map(String::from_utf8_lossy).unwrap_or_default();
    Ok(Path::new(&*script).file_name().map_or(short, |name| name.to_string_lossy().into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tell(process: &str, pid_file: &Path, hook: &[&str]) -> Tell {
        Tell {
            pid_file: Some((pid_file.to_owned(), ReloadSignal::Usr1)),
            process: process.to_owned(),
            hook: hook.iter().map(OsString::from).collect(),
            hook_timeout: Duration::from_millis(300),
        }
    }

    #[tokio::test]
    async fn nobody_else_gets_a_signal() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pid");
        let later = since_boot() + YOUNG;
        let told = |process: &str| tell(process, &file, &[]).signal_at(later, later);
        let not_found = |told: Told| matches!(told, Told::NotFound(why) if why.contains("is not there"));
        assert!(not_found(told("opendkim").unwrap()), "there is no such file");
        // More than the kernel has.
        std::fs::write(&file, "99999999\n").unwrap();
        assert!(not_found(told("opendkim").unwrap()), "its process is not seen");
        for (text, says) in [
            ("", "no process id"),
            ("0\n", "no process id"),
            ("-1\n", "no process id"),
            ("1\n", "no process id"),
            ("x", "no process id"),
        ] {
            std::fs::write(&file, text).unwrap();
            let error = told("opendkim").unwrap_err().to_string();
            assert!(error.contains(says), "{text:?}: {error}");
        }
        std::fs::write(&file, std::process::id().to_string()).unwrap();
        let error = told("opendkim").unwrap_err().to_string();
        assert!(error.contains("it got no signal"), "{error}");
    }

    #[tokio::test]
    async fn the_process_of_the_pid_file_gets_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pid");
        let mut child = tokio::process::Command::new("sleep").arg("60").kill_on_drop(true).spawn().unwrap();
        std::fs::write(&file, format!("{}\n", child.id().unwrap())).unwrap();
        // The name is the program's only once it has been started.
        while process_name(child.id().unwrap().cast_signed()).unwrap() != "sleep" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let told = |written, now| tell("sleep", &file, &[]).signal_at(written, now).unwrap();
        let (before, now) = (Duration::ZERO, since_boot());
        // Begun since, it has read them.
        assert_eq!(told(before, now), Told::Yes);
        // It may not listen to signals yet.
        assert_eq!(told(now, now), Told::NotYet);
        assert_eq!(child.try_wait().unwrap(), None, "it got no signal");
        let later = now + YOUNG;
        assert_eq!(told(later, later), Told::Yes);
        let status = child.wait().await.unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(Signal::USR1.as_raw()));
        assert!(matches!(told(later, later), Told::NotFound(_)), "it does not run any more");
    }

    #[tokio::test]
    async fn hooks_are_bounded_and_heard() {
        let dir = tempfile::tempdir().unwrap();
        let none = dir.path().join("none");
        let hook = async |argv: &[&str]| tell("x", &none, argv).tell(dir.path(), Duration::ZERO).await;
        assert!(hook(&["true"]).await.is_ok());
        assert!(hook(&["sh", "-c", "test -d \"$DKIM_OPERATOR_DIR\""]).await.is_ok());
        let failed = hook(&["sh", "-c", "echo no such thing >&2; exit 3"]).await.unwrap_err().to_string();
        assert_eq!(failed, "the hook sh ended with exit status: 3: no such thing");
        let missing = hook(&["/no/such/program"]).await.unwrap_err().to_string();
        assert!(missing.starts_with("the hook /no/such/program could not be run"), "{missing}");
        let mark = dir.path().join("mark");
        let slow = format!("(sleep 2; touch {}) & wait", mark.display());
        let late = hook(&["sh", "-c", &slow]).await.unwrap_err().to_string();
        assert!(late.contains("was ended after 300ms"), "{late}");
        tokio::time::sleep(Duration::from_millis(2100)).await;
        assert!(!mark.exists(), "what it started was ended, too");
    }
}
