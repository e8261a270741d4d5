//! What signers are told of acknowledgement on their command lines.

use std::time::Duration;

use kube::Client;
use kube::api::Api;
use tokio::sync::watch;

use super::{Reporter, Said};
use crate::api::HumanDuration;

/// Arguments of roles that sign.
#[derive(Debug, Clone, clap::Args)]
pub struct AcknowledgeArgs {
    /// Say in a Lease which keys are in use, so that none is taken away that this signer still uses, and that it is seen
    /// where it is stuck. Needs the right to create and patch Leases beside the key Secrets.
    #[arg(long, env = "DKIM_OPERATOR_ACKNOWLEDGE", default_value_t = true, action = clap::ArgAction::Set)]
    pub acknowledge: bool,
    /// With --key-dir: the namespace that the mounted Secrets are from. Nothing is said where left out.
    #[arg(long, env = "DKIM_OPERATOR_ACKNOWLEDGE_NAMESPACE")]
    pub acknowledge_namespace: Option<String>,
    /// How often the Lease is renewed, such as 60s. It lasts three times as long.
    #[arg(long, env = "DKIM_OPERATOR_ACKNOWLEDGE_EVERY", default_value = "60s", value_parser = every)]
    pub acknowledge_every: Duration,
    /// What this signer is called among those of its kind; the host name (that of the pod) where left out.
    #[arg(long, env = "DKIM_OPERATOR_INSTANCE")]
    pub instance: Option<String>,
}

impl AcknowledgeArgs {
    /// Where to report to, if anywhere: the namespace whose Secrets are watched, or from which files are mounted.
    #[must_use]
    pub fn namespace(&self, watched: Option<&str>) -> Option<String> {
        let namespace = watched.map(str::to_owned).or_else(|| self.acknowledge_namespace.clone());
        namespace.filter(|_| self.acknowledge)
    }

    /// A reporter of that kind.
    #[must_use]
    pub fn reporter(&self, client: Client, namespace: String, kind: &str) -> Reporter {
        let instance = self.instance.clone().unwrap_or_else(host_name);
        Reporter {
            leases: Api::namespaced(client, &namespace),
            name: lease_name(kind, &instance),
            kind: kind.to_owned(),
            instance,
            every: self.acknowledge_every,
            hold: None,
            said: watch::channel(Said::default()).0,
        }
    }
}

fn every(text: &str) -> Result<Duration, String> {
    let span = HumanDuration::parse(text)?;
    match Duration::try_from(span.0) {
        Ok(span) if (Duration::from_secs(1)..=Duration::from_secs(1_200)).contains(&span) => Ok(span),
        _ => Err("write a time span from 1s to 20m".to_owned()),
    }
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "unnamed".to_owned() } else { name.trim().to_owned() }
}

/// The name of the Lease: letters, digits, dashes and dots, as Kubernetes has them.
fn lease_name(kind: &str, instance: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c.to_ascii_lowercase() } else { '-' };
    let name: String = format!("dkim-{kind}-{instance}").chars().map(plain).take(200).collect();
    let parts: Vec<&str> =
        name.split('.').map(|part| part.trim_matches('-')).filter(|p| !p.is_empty()).collect();
    parts.join(".")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: AcknowledgeArgs,
    }

    fn args(words: &[&str]) -> Result<AcknowledgeArgs, String> {
        Cli::try_parse_from(["signer"].iter().chain(words)).map(|cli| cli.args).map_err(|e| e.to_string())
    }

    #[test]
    fn files_are_told_of_only_where_it_is_said_whence_they_come() {
        let namespace = |words: &[&str], watched| args(words).unwrap().namespace(watched);
        assert_eq!(namespace(&[], Some("mail")).as_deref(), Some("mail"));
        assert_eq!(namespace(&[], None), None);
        assert_eq!(namespace(&["--acknowledge-namespace", "mail"], None).as_deref(), Some("mail"));
        assert_eq!(namespace(&["--acknowledge=false"], Some("mail")), None);
        assert!(args(&["--acknowledge-every", "0s"]).unwrap_err().contains("from 1s to 20m"));
    }

    #[test]
    fn names_are_such_as_kubernetes_takes() {
        assert_eq!(lease_name("milter", "mail-0"), "dkim-milter-mail-0");
        assert_eq!(lease_name("sync-opendkim", "MX_1.contoso.com."), "dkim-sync-opendkim-mx-1.contoso.com");
        assert_eq!(lease_name("milter", "-ü-"), "dkim-milter");
        assert!(lease_name("milter", &"a".repeat(300)).len() <= 200);
    }
}
