//! The command line of `dkim-operator milter`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use ipnet::IpNet;

use super::{
    Group, KeyPlace, Limits, MacroRule, MilterOptions, Mode, OnFailure, OnUnsignable, Policy, SocketSpec,
};
use crate::signing::{AcknowledgeArgs, Reporter};

/// Arguments of `dkim-operator milter`.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("source").required(true)))]
pub struct MilterArgs {
    /// Where MTAs connect: unix:PATH or inet:ADDRESS:PORT; may be given several times.
    #[arg(long, env = "DKIM_OPERATOR_LISTEN", value_delimiter = ',', default_value = "inet:127.0.0.1:8891")]
    pub listen: Vec<SocketSpec>,
    /// The mode of unix sockets. Whoever may write to the socket gets signatures.
    #[arg(long, env = "DKIM_OPERATOR_SOCKET_MODE", default_value = "0660")]
    pub socket_mode: Mode,
    /// The group of unix sockets, by name or number, such as that of Postfix.
    #[arg(long, env = "DKIM_OPERATOR_SOCKET_GROUP")]
    pub socket_group: Option<Group>,
    /// From where MTAs may connect over TCP. They are believed what they say of their clients.
    #[arg(
        long,
        env = "DKIM_OPERATOR_MTA_NETWORKS",
        value_delimiter = ',',
        default_value = "127.0.0.0/8,::1/128"
    )]
    pub mta_networks: Vec<IpNet>,
    /// The directory of a mounted key Secret, or one with such a directory for each domain.
    #[arg(long, env = "DKIM_OPERATOR_KEY_DIR", group = "source")]
    pub key_dir: Option<PathBuf>,
    /// The namespace whose key Secrets are watched through the API server, instead of a directory.
    #[arg(long, env = "DKIM_OPERATOR_KEY_NAMESPACE", group = "source")]
    pub key_namespace: Option<String>,
    /// How often a directory is read again, in seconds, whether the kernel tells of a change or not.
    #[arg(long, env = "DKIM_OPERATOR_POLL", default_value = "30", value_parser = seconds)]
    pub poll: Duration,
    /// How long to sign with what was known when keys could last be read, in seconds. Keep it well below the drain.
    #[arg(long, env = "DKIM_OPERATOR_STALE_AFTER", default_value = "86400", value_parser = seconds)]
    pub stale_after: Duration,
    /// How long to use the earlier keys of a domain whose new ones cannot be read, in seconds: the signerLag of the
    /// DkimProvider.
    #[arg(long, env = "DKIM_OPERATOR_SIGNER_LAG", default_value = "300", value_parser = seconds)]
    pub signer_lag: Duration,
    /// Clients of the MTA whose mail is ours.
    #[arg(
        long,
        env = "DKIM_OPERATOR_TRUSTED_NETWORKS",
        value_delimiter = ',',
        default_value = "127.0.0.0/8,::1/128"
    )]
    pub trusted_networks: Vec<IpNet>,
    /// Whether mail of users who authenticated at the MTA is ours.
    #[arg(long, env = "DKIM_OPERATOR_SIGN_AUTHENTICATED", default_value_t = true, action = clap::ArgAction::Set)]
    pub sign_authenticated: bool,
    /// A macro of the MTA and its value that mark mail as ours; may be given several times.
    #[arg(
        long,
        env = "DKIM_OPERATOR_SIGN_MACRO",
        value_delimiter = ',',
        default_value = "daemon_name=ORIGINATING"
    )]
    pub sign_macro: Vec<MacroRule>,
    /// What to do with mail that is ours and cannot be signed at the moment.
    #[arg(long, env = "DKIM_OPERATOR_ON_FAILURE", default_value = "tempfail")]
    pub on_failure: OnFailure,
    /// What to do with mail that is ours and whose author cannot be told: no From:, several, or no address in it.
    #[arg(long, env = "DKIM_OPERATOR_ON_UNSIGNABLE", default_value = "accept")]
    pub on_unsignable: OnUnsignable,
    /// Most connections at a time; further ones wait.
    #[arg(long, env = "DKIM_OPERATOR_MAX_CONNECTIONS", default_value_t = 4096)]
    pub max_connections: usize,
    /// How long a connection may be silent, in seconds.
    #[arg(long, env = "DKIM_OPERATOR_IDLE_TIMEOUT", default_value = "7200", value_parser = seconds)]
    pub idle_timeout: Duration,
    /// How long connections may go on after TERM, in seconds. Keep it below the pod's grace period.
    #[arg(long, env = "DKIM_OPERATOR_DRAIN", default_value = "20", value_parser = seconds)]
    pub drain: Duration,
    /// What is said of the keys in use.
    #[command(flatten)]
    pub acknowledge: AcknowledgeArgs,
    /// Where /healthz, /readyz and /metrics are served.
    #[arg(long, env = "DKIM_OPERATOR_HEALTH_ADDR", default_value = "0.0.0.0:8080")]
    pub health_addr: SocketAddr,
}

impl MilterArgs {
    /// How the milter runs, with keys from `source`.
    #[must_use]
    pub fn options(self, source: KeyPlace, reporter: Option<Reporter>) -> MilterOptions {
        MilterOptions {
            source,
            stale_after: self.stale_after,
            keep_unreadable: self.signer_lag,
            policy: Policy {
                trusted: self.trusted_networks,
                authenticated: self.sign_authenticated,
                macros: self.sign_macro,
                on_failure: self.on_failure,
                on_unsignable: self.on_unsignable,
            },
            limits: Limits {
                connections: self.max_connections,
                idle: self.idle_timeout,
                drain: self.drain,
                mtas: self.mta_networks,
            },
            reporter,
        }
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.001..=1e8).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("write a number of seconds such as 30 or 0.5".to_owned()),
    }
}
