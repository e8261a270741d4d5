//! The command line of `dkim-operator sync`.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{Format, Owner, ReloadSignal, SyncOptions, Tell};
use crate::api::HumanDuration;
use crate::model::acknowledgement::REMEMBERED;
use crate::signing::{AcknowledgeArgs, Reporter};

/// Arguments of `dkim-operator sync`.
#[derive(Debug, Args)]
pub struct SyncArgs {
    /// The signer whose files to keep.
    #[arg(long, env = "DKIM_OPERATOR_FORMAT")]
    pub format: Format,
    /// The directory to keep them in: this signer's alone.
    #[arg(long, env = "DKIM_OPERATOR_DIR")]
    pub dir: PathBuf,
    /// Read keys from this directory: a mounted key Secret, or one with such a directory for each domain.
    #[arg(long, env = "DKIM_OPERATOR_KEY_DIR", required_unless_present = "namespace")]
    pub key_dir: Option<PathBuf>,
    /// How often to look at --key-dir.
    #[arg(long, default_value = "5s", value_parser = duration)]
    pub look_every: Duration,
    /// Watch the key Secrets of this namespace through the API.
    #[arg(long, env = "DKIM_OPERATOR_NAMESPACE", conflicts_with = "key_dir")]
    pub namespace: Option<String>,
    /// Who the files belong to, as UID or UID:GID; the user of this process where left out.
    #[arg(long, value_parser = owner)]
    pub owner: Option<Owner>,
    /// How long old keys stay after the signer was told of new ones: longer than it may go on with what it has
    /// read, shorter than the drain of the keys.
    #[arg(long, default_value = "15m", value_parser = duration)]
    pub grace: Duration,
    /// The file with the process id of the signer, to be sent a signal after a change.
    #[arg(long)]
    pub reload_pid_file: Option<PathBuf>,
    /// The signal: usr1 for OpenDKIM, usr2 for maddy, hup for others where left out.
    #[arg(long)]
    pub reload_signal: Option<ReloadSignal>,
    /// How the signer's process is called; another one gets no signal.
    #[arg(long)]
    pub reload_process: Option<String>,
    /// How long the hook may run.
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub hook_timeout: Duration,
    /// Write the files once and end: for an init container.
    #[arg(long)]
    pub once: bool,
    /// With --once: fail after this long.
    #[arg(long, default_value = "2m", value_parser = duration)]
    pub once_timeout: Duration,
    /// What is said of the keys in use.
    #[command(flatten)]
    pub acknowledge: AcknowledgeArgs,
    /// For how long after this has fallen silent or was stopped, or does not find the signer, the keys are held that the signer
    /// uses, since it goes on with what it has read: a day at most.
    #[arg(long, env = "DKIM_OPERATOR_HOLD", default_value = "24h", value_parser = hold)]
    pub hold: Duration,
    /// The signer ends when this is stopped, as containers of one pod do: then nothing is held. Where this crashes, the signer
    /// goes on, and its keys are held.
    #[arg(long, env = "DKIM_OPERATOR_ENDS_WITH_SIGNER")]
    pub ends_with_signer: bool,
    /// Where /healthz and /readyz are served.
    #[arg(long, env = "DKIM_OPERATOR_HEALTH_ADDR", default_value = "0.0.0.0:8080")]
    pub health_addr: SocketAddr,
    /// A program to run after a change, with its arguments; DKIM_OPERATOR_DIR tells it --dir.
    #[arg(last = true)]
    pub hook: Vec<OsString>,
}

impl SyncArgs {
    /// What to keep, and where.
    #[must_use]
    pub fn options(&self, reporter: Option<Reporter>) -> SyncOptions {
        let signal = self.reload_signal.unwrap_or(match self.format {
            Format::Opendkim => ReloadSignal::Usr1,
            Format::Maddy => ReloadSignal::Usr2,
            _ => ReloadSignal::Hup,
        });
        let process = self.reload_process.clone().unwrap_or_else(|| self.format.process().to_owned());
        SyncOptions {
            format: self.format,
            directory: self.dir.clone(),
            owner: self.owner.unwrap_or_default(),
            grace: self.grace,
            tell: Tell {
                pid_file: self.reload_pid_file.clone().map(|path| (path, signal)),
                process,
                hook: self.hook.clone(),
                hook_timeout: self.hook_timeout,
            },
            once: self.once.then_some(self.once_timeout),
            reporter: reporter.filter(|_| !self.once).map(|reporter| reporter.for_another(self.hold)),
            hold: self.hold,
            ends_with_signer: self.ends_with_signer,
        }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let parsed = HumanDuration::parse(text)?;
    Duration::try_from(parsed.0).map_err(|_| "a time span is not negative".to_owned())
}

fn hold(text: &str) -> Result<Duration, String> {
    let longest = Duration::try_from(REMEMBERED).unwrap_or_default();
    duration(text)
        .ok()
        .filter(|hold| *hold <= longest)
        .ok_or_else(|| "write a time span up to 24h".to_owned())
}

fn owner(text: &str) -> Result<Owner, String> {
    let id = |text: &str| text.parse::<u32>().map_err(|_| format!("{text:?} is no numeric id"));
    match text.split_once(':') {
        Some((uid, gid)) => Ok(Owner { uid: Some(id(uid)?), gid: Some(id(gid)?) }),
        None => Ok(Owner { uid: Some(id(text)?), gid: None }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: SyncArgs,
    }

    fn parse(args: &[&str]) -> Result<SyncArgs, String> {
        let all = ["sync"].iter().chain(args);
        Cli::try_parse_from(all).map(|cli| cli.args).map_err(|e| e.to_string())
    }

    #[test]
    fn one_source_of_keys() {
        let base = ["--format", "opendkim", "--dir", "/d"];
        let with = |more: &[&str]| parse(&[&base[..], more].concat());
        assert!(with(&[]).unwrap_err().contains("--key-dir"));
        assert!(
            with(&["--key-dir", "/k", "--namespace", "mail"]).unwrap_err().contains("cannot be used with")
        );
        let options =
            with(&["--key-dir", "/k", "--owner", "7:8", "--reload-pid-file", "/p", "--", "systemctl", "-q"])
                .unwrap()
                .options(None);
        assert_eq!(options.owner, Owner { uid: Some(7), gid: Some(8) });
        assert_eq!(options.tell.pid_file, Some(("/p".into(), ReloadSignal::Usr1)));
        assert_eq!(options.tell.hook, ["systemctl", "-q"]);
        assert_eq!((options.grace, options.once), (Duration::from_secs(900), None));
        assert!(!options.ends_with_signer);
        assert!(with(&["--namespace", "mail", "--hold", "25h"]).unwrap_err().contains("up to 24h"));
        assert!(with(&["--namespace", "mail", "--owner", "opendkim"]).unwrap_err().contains("no numeric id"));
        assert!(with(&["--namespace", "mail", "--grace=-1s"]).is_err());
    }
}
