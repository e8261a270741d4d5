//! The command line of `kubectl dkim`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;

use crate::api::HumanDuration;
use crate::lookup::{self, Resolver, Way};

/// The exit codes, for `--help`.
const EXIT_CODES: &str = "\
Exit codes:
  0  done; with check and verify: everything verifies
  1  something is wrong: in DNS (check), with the signatures (verify)
  2  the command cannot be understood, or its input cannot be used
  3  nothing can be said yet: DNS gave no clear answer, the operator has not looked, the wait ran out
  4  the cluster cannot be reached, refuses, or has no such DkimDomain";

/// `kubectl dkim`.
#[derive(Parser, Debug)]
#[command(
    name = "kubectl-dkim",
    bin_name = "kubectl dkim",
    version,
    about = "DKIM for the domains that send mail: what to publish, what is wrong, when keys are rolled",
    after_help = EXIT_CODES,
    after_long_help = EXIT_CODES
)]
pub struct Cli {
    /// Which cluster, which namespace.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Which cluster and namespace, with kubectl's names.
#[derive(Args, Debug, Clone, Default)]
#[command(next_help_heading = "Cluster")]
pub struct ClusterArgs {
    /// The namespace to look in; that of the kubeconfig's context where left out.
    #[arg(short, long, global = true)]
    pub namespace: Option<String>,
    /// Look in all namespaces; --namespace does not count then.
    #[arg(short = 'A', long, global = true)]
    pub all_namespaces: bool,
    /// The kubeconfig file; $KUBECONFIG or ~/.kube/config where left out.
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context.
    #[arg(long, global = true)]
    pub context: Option<String>,
    /// The kubeconfig's cluster.
    #[arg(long, global = true)]
    pub cluster: Option<String>,
    /// The kubeconfig's user.
    #[arg(long, global = true)]
    pub user: Option<String>,
    /// Act as this user.
    #[arg(long = "as", global = true, value_name = "USER")]
    pub as_user: Option<String>,
    /// Act as a member of this group; may be given several times.
    #[arg(long = "as-group", global = true, value_name = "GROUP", requires = "as_user")]
    pub as_groups: Vec<String>,
}

/// The commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Show the records to publish for a domain, once.
    Records(RecordsArgs),
    /// Show how a domain is doing, or all domains of the namespace.
    Status(StatusArgs),
    /// Look at DNS now: are the records there, and the right keys behind them? The operator is asked to look, too.
    Check(CheckArgs),
    /// Roll a domain's key as soon as the next one is ready, or at once where keys are in the wrong hands.
    Rotate(RotateArgs),
    /// Sign as the domain, as soon as its records are there.
    Enable(DomainArgs),
    /// Sign with the provider's default signature.
    Disable(DomainArgs),
    /// Take a domain's keys to another cluster: write them to a file, encrypted.
    Export(ExportArgs),
    /// Go on with a domain's keys from another cluster.
    Import(ImportArgs),
    /// Say what a receiver would say of a message's signatures.
    ///
    /// For each one: what it covers, the body's hash, the way to its key, whether it is aligned with From: under
    /// DMARC, and where it fails, what has most likely happened. Exit codes: 0 a signature verifies (with --aligned
    /// one that is aligned), 1 none does, 2 the message cannot be read, 3 DNS gave no answer.
    Verify(VerifyArgs),
}

/// A domain.
#[derive(Args, Debug)]
pub struct DomainArgs {
    /// The domain (any case, international domains as they are read or as xn--), or the DkimDomain's name.
    pub domain: String,
}

/// Names known without a cluster.
#[derive(Args, Debug, Clone, Default)]
#[command(next_help_heading = "Without a cluster")]
pub struct OfflineArgs {
    /// The organisation's initial domain, such as contoso.onmail.example: work the names out from it and ask no
    /// cluster. {namespace} in it stands for --namespace.
    #[arg(long, value_name = "DOMAIN")]
    pub initial_domain: Option<String>,
    /// The label that stands for the domain, where it is not the readable one such as contoso-com.
    #[arg(long, requires = "initial_domain")]
    pub guid: Option<String>,
    /// The two selectors; selector1,selector2 where left out.
    #[arg(long, value_delimiter = ',', requires = "initial_domain", value_name = "S1,S2")]
    pub selectors: Vec<String>,
}

/// `records`.
#[derive(Args, Debug)]
pub struct RecordsArgs {
    /// Which domain.
    #[command(flatten)]
    pub domain: DomainArgs,
    /// Offline.
    #[command(flatten)]
    pub offline: OfflineArgs,
    /// How to print them: bind is a zone file.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: RecordsOutput,
}

/// How records are printed.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RecordsOutput {
    /// For people.
    #[default]
    Table,
    /// Lines of a zone file.
    Bind,
    /// A JSON list.
    Json,
    /// A YAML list.
    Yaml,
}

/// How everything else is printed.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Output {
    /// For people.
    #[default]
    Table,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

/// `status`.
#[derive(Args, Debug)]
pub struct StatusArgs {
    /// One domain in detail; all in a table where left out.
    pub domain: Option<String>,
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// `check`.
#[derive(Args, Debug)]
pub struct CheckArgs {
    /// Which domain.
    #[command(flatten)]
    pub domain: DomainArgs,
    /// Offline.
    #[command(flatten)]
    pub offline: OfflineArgs,
    /// Ask this resolver instead of the system's, as IP, IP:port, tls://IP#NAME for DNS over TLS, or
    /// https://IP/dns-query#NAME for DNS over HTTPS; may be given several times.
    #[arg(long = "resolver", value_name = "IP[:PORT]")]
    pub resolvers: Vec<Resolver>,
    /// Ask resolvers only, not the zones' own servers: where a firewall lets no DNS out. What resolvers say may
    /// be older by a TTL.
    #[arg(long)]
    pub no_authoritative: bool,
    /// Ask name servers in this network, too, though it is not public, such as 10.0.0.0/8; may be given several
    /// times.
    #[arg(long = "allow-network", value_name = "CIDR", value_parser = network)]
    pub allow_networks: Vec<IpNet>,
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// `rotate`.
#[derive(Args, Debug)]
pub struct RotateArgs {
    /// Which domain.
    #[command(flatten)]
    pub domain: DomainArgs,
    /// The keys are in the wrong hands: every key made up to now is given up, the next one takes over at once, and
    /// the one that signs now is published as revoked. Mail under way that was signed with it will not verify.
    #[arg(long)]
    pub compromised: bool,
    /// Do not ask whether --compromised is meant.
    #[arg(short, long, requires = "compromised")]
    pub yes: bool,
    /// Wait until the next key signs.
    #[arg(long)]
    pub wait: bool,
    /// How long to wait.
    #[arg(long, default_value = "10m", value_parser = HumanDuration::parse, requires = "wait")]
    pub timeout: HumanDuration,
}

/// `export`.
#[derive(Args, Debug)]
pub struct ExportArgs {
    /// Which domain.
    #[command(flatten)]
    pub domain: DomainArgs,
    /// Encrypt for whoever has the age identity of this recipient (age1…, as age-keygen prints it); may be given several times.
    // Not parsed here: clap repeats what it cannot read, and somebody will give a secret identity.
    #[arg(short, long = "recipient", value_name = "RECIPIENT", required = true)]
    pub recipients: Vec<String>,
    /// The file to write, which must not be there yet; standard output where left out.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// `import`.
#[derive(Args, Debug)]
pub struct ImportArgs {
    /// The file that kubectl dkim export wrote, - for standard input.
    pub file: PathBuf,
    /// The age identity to decrypt it with, a file as age-keygen writes it; may be given several times.
    #[arg(short, long = "identity", value_name = "KEYFILE", required = true)]
    pub identities: Vec<PathBuf>,
    /// The DkimProvider of this cluster that publishes the keys; the one named at the export where left out, and
    /// where none was, the default one.
    #[arg(long, value_name = "NAME")]
    pub provider: Option<String>,
    /// The namespace of the key Secret; where the provider keeps keys where left out. Needed only where you may not
    /// read DkimProviders.
    #[arg(long, value_name = "NAMESPACE")]
    pub secret_namespace: Option<String>,
    /// Apply the DkimDomain, too, instead of printing it.
    #[arg(long)]
    pub apply: bool,
}

/// `verify`.
#[derive(Args, Debug)]
pub struct VerifyArgs {
    /// The message's file, - for standard input.
    pub message: PathBuf,
    /// Ask this resolver instead of the system's, as IP or IP:port; may be given several times.
    #[arg(long = "resolver", value_name = "IP[:PORT]", value_parser = resolver)]
    pub resolvers: Vec<SocketAddr>,
    /// Ask for a signature that is aligned with the domain in From:, as DMARC does.
    #[arg(long)]
    pub aligned: bool,
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// Reads `IP` or `IP:port`.
fn resolver(text: &str) -> Result<SocketAddr, String> {
    let fault = || {
        format!(
            "\"{text}\" is no address of a resolver; write an IP with or without port, such as 192.0.2.53 or [2001:db8::53]:53"
        )
    };
    match text.parse::<Resolver>() {
        Ok(Resolver { address, way: Way::Plain }) => Ok(address),
        _ => Err(fault()),
    }
}

/// Reads a network.
fn network(text: &str) -> Result<IpNet, String> {
    lookup::network(text).ok_or_else(|| {
        format!("\"{text}\" is no network; write it with its length, such as 10.0.0.0/8 or fd00::/8")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_names_the_command_as_people_type_it() {
        let mut command = Cli::command();
        command.build();
        insta::assert_snapshot!(command.render_help());
        for name in
            ["records", "status", "check", "rotate", "enable", "disable", "export", "import", "verify"]
        {
            let help = command.find_subcommand_mut(name).unwrap().render_help().to_string();
            assert!(help.contains(&format!("Usage: kubectl dkim {name}")), "{help}");
        }
    }

    #[test]
    fn reads_resolvers() {
        assert_eq!(resolver("192.0.2.1").unwrap().to_string(), "192.0.2.1:53");
        assert_eq!(resolver("192.0.2.1:5300").unwrap().to_string(), "192.0.2.1:5300");
        assert_eq!(resolver("::1").unwrap().to_string(), "[::1]:53");
        assert_eq!(resolver("[::1]:5300").unwrap().to_string(), "[::1]:5300");
        assert!(resolver("dns.example").unwrap_err().contains("such as 192.0.2.53"));
    }
}
