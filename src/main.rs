//! The operator's binary: one program, several roles, each with the least it needs.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use dkim_operator::controller::{self, ControllerOptions, WitnessedClock};
use dkim_operator::dns::{self, DnsOptions, Rates};
use dkim_operator::metrics::Metrics;
use dkim_operator::milter::{
    self, Group, KeyPlace, Limits, MacroRule, MilterOptions, Mode, OnFailure, OnUnsignable, Policy,
    SocketSpec,
};
use dkim_operator::signing::{AcknowledgeArgs, KeySource, Unknown, WATCH_TIMEOUT, run_sign};
use dkim_operator::sync::{self, SyncArgs, SyncError};
use dkim_operator::{crds, probes};
use futures::FutureExt as _;
use ipnet::IpNet;
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

#[derive(Parser)]
#[command(
    name = "dkim-operator",
    version,
    about = "DKIM for Kubernetes: two CNAMEs once, keys rolled for ever"
)]
struct Cli {
    /// What to log, such as info or dkim_operator=debug.
    #[arg(long, env = "DKIM_OPERATOR_LOG", default_value = "info", global = true)]
    log: String,
    /// Log as text or json.
    #[arg(long, env = "DKIM_OPERATOR_LOG_FORMAT", default_value = "text", global = true)]
    log_format: LogFormat,
    #[command(subcommand)]
    role: Role,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[derive(Subcommand)]
enum Role {
    /// Make keys, watch DNS, switch signing on, rotate.
    Controller(ControllerArgs),
    /// Serve the key records of all DkimRecordSets, UDP and TCP.
    Dns(DnsArgs),
    /// Keep files for OpenDKIM, rspamd, Exim and others up to date with the key Secrets.
    Sync(SyncArgs),
    /// Sign mail in Postfix or Sendmail, as a mail filter (milter).
    Milter(Box<MilterArgs>),
    /// Sign a message from standard input with what a key Secret holds; the signed message goes to standard output.
    ///
    /// Line ends are CRLF in the output, as in SMTP. Exit codes: 0 signed, 3 the From: domain is not ours, 4 no key
    /// may sign yet, otherwise those of sysexits.
    Sign(SignArgs),
    /// Print the CustomResourceDefinitions, or write them to a directory.
    Crds {
        /// The directory to write one file for each definition to.
        #[arg(long)]
        dir: Option<PathBuf>,
    },
}

#[derive(Args)]
struct ControllerArgs {
    /// The namespace of the record sets: the operator's own.
    #[arg(long, env = "DKIM_OPERATOR_NAMESPACE")]
    namespace: String,
    /// Namespaces in which key Secrets may be, separated by commas; the operator's own where left out.
    #[arg(long, env = "DKIM_OPERATOR_SECRET_NAMESPACES", value_delimiter = ',')]
    secret_namespaces: Vec<String>,
    /// Key Secrets may be in any namespace.
    #[arg(long, env = "DKIM_OPERATOR_ALL_SECRET_NAMESPACES")]
    all_secret_namespaces: bool,
    /// Where /healthz and /readyz are served.
    #[arg(long, env = "DKIM_OPERATOR_HEALTH_ADDR", default_value = "0.0.0.0:8080")]
    health_addr: SocketAddr,
    /// Most reconciles at a time.
    #[arg(long, env = "DKIM_OPERATOR_CONCURRENCY", default_value_t = 32)]
    concurrency: u16,
    /// Most keys made at a time; the number of processors where left out.
    #[arg(long, env = "DKIM_OPERATOR_KEY_THREADS")]
    key_threads: Option<usize>,
}

#[derive(Args)]
struct DnsArgs {
    /// The namespace of the record sets: the operator's own.
    #[arg(long, env = "DKIM_OPERATOR_NAMESPACE")]
    namespace: String,
    /// Where to listen, UDP and TCP; may be given several times. On a host with several addresses name each one.
    #[arg(long, env = "DKIM_OPERATOR_LISTEN", value_delimiter = ',', default_value = "[::]:53")]
    listen: Vec<SocketAddr>,
    /// Where /healthz and /readyz are served.
    #[arg(long, env = "DKIM_OPERATOR_HEALTH_ADDR", default_value = "0.0.0.0:8080")]
    health_addr: SocketAddr,
    /// UDP sockets of each address, each with a thread of its own; the number of processors where left out.
    #[arg(long, env = "DKIM_OPERATOR_UDP_THREADS", value_parser = clap::value_parser!(u16).range(1..=64))]
    udp_threads: Option<u16>,
    /// Where the zones are kept, so that they are served after a restart while the API server is away.
    #[arg(long, env = "DKIM_OPERATOR_STATE_FILE")]
    state_file: Option<PathBuf>,
    /// A file with the secrets of DNS cookies, which all servers of a name share: 32 hexadecimal digits a line, the
    /// first in use, others still honoured. Read again when it changes; a secret of its own where left out.
    #[arg(long, env = "DKIM_OPERATOR_COOKIE_SECRET_FILE")]
    cookie_secret_file: Option<PathBuf>,
    /// A file with the TSIG keys with which secondaries may fetch the zones (AXFR, IXFR): [ALGORITHM:]NAME:SECRET a line,
    /// as dig -y takes them; hmac-sha256 where left out. Read again when it changes; no transfers where left out.
    #[arg(long, env = "DKIM_OPERATOR_TRANSFER_KEY_FILE")]
    transfer_key_file: Option<PathBuf>,
    /// Secondaries that are told of each change (NOTIFY), as ADDRESS or ADDRESS:PORT, separated by commas.
    #[arg(long, env = "DKIM_OPERATOR_NOTIFY", value_delimiter = ',', value_parser = secondary)]
    notify: Vec<SocketAddr>,
    /// Answers over UDP with the same content a second to one network (/24, /56); 0 is no limit. Clients with a cookie
    /// are not limited.
    #[arg(long, env = "DKIM_OPERATOR_RATE_LIMIT", default_value_t = 100)]
    rate_limit: u32,
    /// All answers over UDP a second to one network; 0 is no limit.
    #[arg(long, env = "DKIM_OPERATOR_RATE_LIMIT_ALL", default_value_t = 10_000)]
    rate_limit_all: u32,
    /// Every how many answers over a limit one is sent as truncated, so that the client comes over TCP; 0 is never.
    #[arg(long, env = "DKIM_OPERATOR_RATE_LIMIT_SLIP", default_value_t = 2)]
    rate_limit_slip: u32,
}

#[derive(Args)]
struct SignArgs {
    /// The directory of a mounted key Secret, or one with such a directory for each domain.
    #[arg(long, env = "DKIM_OPERATOR_KEY_DIR")]
    key_dir: PathBuf,
    /// Let mail of domains that are not ours pass as it is.
    #[arg(long)]
    pass_unknown: bool,
}

#[derive(Args)]
#[command(group(clap::ArgGroup::new("source").required(true)))]
struct MilterArgs {
    /// Where MTAs connect: unix:PATH or inet:ADDRESS:PORT; may be given several times.
    #[arg(long, env = "DKIM_OPERATOR_LISTEN", value_delimiter = ',', default_value = "inet:127.0.0.1:8891")]
    listen: Vec<SocketSpec>,
    /// The mode of unix sockets. Whoever may write to the socket gets signatures.
    #[arg(long, env = "DKIM_OPERATOR_SOCKET_MODE", default_value = "0660")]
    socket_mode: Mode,
    /// The group of unix sockets, by name or number, such as that of Postfix.
    #[arg(long, env = "DKIM_OPERATOR_SOCKET_GROUP")]
    socket_group: Option<Group>,
    /// From where MTAs may connect over TCP. They are believed what they say of their clients.
    #[arg(
        long,
        env = "DKIM_OPERATOR_MTA_NETWORKS",
        value_delimiter = ',',
        default_value = "127.0.0.0/8,::1/128"
    )]
    mta_networks: Vec<IpNet>,
    /// The directory of a mounted key Secret, or one with such a directory for each domain.
    #[arg(long, env = "DKIM_OPERATOR_KEY_DIR", group = "source")]
    key_dir: Option<PathBuf>,
    /// The namespace whose key Secrets are watched through the API server, instead of a directory.
    #[arg(long, env = "DKIM_OPERATOR_KEY_NAMESPACE", group = "source")]
    key_namespace: Option<String>,
    /// How often a directory is read again, in seconds, whether the kernel tells of a change or not.
    #[arg(long, env = "DKIM_OPERATOR_POLL", default_value = "30", value_parser = seconds)]
    poll: Duration,
    /// How long to sign with what was known when keys could last be read, in seconds. Keep it well below the drain.
    #[arg(long, env = "DKIM_OPERATOR_STALE_AFTER", default_value = "86400", value_parser = seconds)]
    stale_after: Duration,
    /// How long to use the earlier keys of a domain whose new ones cannot be read, in seconds: the signerLag of the
    /// DkimProvider.
    #[arg(long, env = "DKIM_OPERATOR_SIGNER_LAG", default_value = "300", value_parser = seconds)]
    signer_lag: Duration,
    /// Clients of the MTA whose mail is ours.
    #[arg(
        long,
        env = "DKIM_OPERATOR_TRUSTED_NETWORKS",
        value_delimiter = ',',
        default_value = "127.0.0.0/8,::1/128"
    )]
    trusted_networks: Vec<IpNet>,
    /// Whether mail of users who authenticated at the MTA is ours.
    #[arg(long, env = "DKIM_OPERATOR_SIGN_AUTHENTICATED", default_value_t = true, action = clap::ArgAction::Set)]
    sign_authenticated: bool,
    /// A macro of the MTA and its value that mark mail as ours; may be given several times.
    #[arg(
        long,
        env = "DKIM_OPERATOR_SIGN_MACRO",
        value_delimiter = ',',
        default_value = "daemon_name=ORIGINATING"
    )]
    sign_macro: Vec<MacroRule>,
    /// What to do with mail that is ours and cannot be signed at the moment.
    #[arg(long, env = "DKIM_OPERATOR_ON_FAILURE", default_value = "tempfail")]
    on_failure: OnFailure,
    /// What to do with mail that is ours and whose author cannot be told: no From:, several, or no address in it.
    #[arg(long, env = "DKIM_OPERATOR_ON_UNSIGNABLE", default_value = "accept")]
    on_unsignable: OnUnsignable,
    /// Most connections at a time; further ones wait.
    #[arg(long, env = "DKIM_OPERATOR_MAX_CONNECTIONS", default_value_t = 4096)]
    max_connections: usize,
    /// How long a connection may be silent, in seconds.
    #[arg(long, env = "DKIM_OPERATOR_IDLE_TIMEOUT", default_value = "7200", value_parser = seconds)]
    idle_timeout: Duration,
    /// How long connections may go on after TERM, in seconds. Keep it below the pod's grace period.
    #[arg(long, env = "DKIM_OPERATOR_DRAIN", default_value = "20", value_parser = seconds)]
    drain: Duration,
    /// What is said of the keys in use.
    #[command(flatten)]
    acknowledge: AcknowledgeArgs,
    /// Where /healthz, /readyz and /metrics are served.
    #[arg(long, env = "DKIM_OPERATOR_HEALTH_ADDR", default_value = "0.0.0.0:8080")]
    health_addr: SocketAddr,
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.001..=1e8).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("write a number of seconds such as 30 or 0.5".to_owned()),
    }
}

/// What ends a role early.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the API server cannot be reached: {0}")]
    Config(#[from] kube::config::InferConfigError),
    #[error("the API server cannot be reached: {0}")]
    Client(#[from] kube::Error),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Controller(#[from] controller::Error),
    #[error("{0}")]
    Dns(#[from] dns::Error),
    #[error("{0}")]
    Sync(#[from] SyncError),
    #[error("where keys come from is not said; give --key-dir or --namespace")]
    NoKeys,
    #[error("{0}")]
    Socket(#[from] milter::SocketError),
    #[error("the definitions cannot be written as YAML: {0}")]
    Yaml(#[from] serde_saphyr::ser::Error),
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: std::io::Error },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    // Each malformed packet that reaches the DNS server would be a line.
    let filter = match EnvFilter::try_new(format!("hickory_proto=error,{}", cli.log)) {
        Ok(filter) => filter,
        Err(error) => {
            eprintln!(
                "error: --log: \"{}\" cannot be used: {error}. Write a level such as info, or TARGET=LEVEL",
                cli.log
            );
            return ExitCode::from(2);
        }
    };
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match cli.log_format {
        LogFormat::Text => logs.with_ansi(false).init(),
        LogFormat::Json => logs.json().init(),
    }
    no_core_files();
    let result = match cli.role {
        Role::Sign(args) => return sign(&args),
        Role::Crds { dir } => write_crds(dir.as_deref()),
        Role::Controller(args) => run(run_controller(args)),
        Role::Dns(args) => run(run_dns(args)),
        Role::Sync(args) => run(run_sync(args)),
        Role::Milter(args) => run(run_milter(*args)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            tracing::error!(%failure, "leaving");
            ExitCode::FAILURE
        }
    }
}

fn run(role: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(role)
}

fn write_crds(dir: Option<&Path>) -> Result<(), Failure> {
    for (name, text) in crds::files()? {
        match dir {
            Some(dir) => {
                let path = dir.join(name);
                std::fs::write(&path, text).map_err(|source| Failure::File { path, source })?;
            }
            None => write!(std::io::stdout(), "---\n{text}")?,
        }
    }
    Ok(())
}

fn sign(args: &SignArgs) -> ExitCode {
    let unknown = if args.pass_unknown { Unknown::Pass } else { Unknown::Refuse };
    let (input, output) = (std::io::stdin().lock(), std::io::stdout().lock());
    match run_sign(&args.key_dir, input, output, unknown, jiff::Timestamp::now()) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::from(error.exit_code())
        }
    }
}

async fn run_controller(args: ControllerArgs) -> Result<(), Failure> {
    let (client, clock) = WitnessedClock::listening(kube::Config::infer().await?)?;
    let secret_namespaces = match (args.all_secret_namespaces, args.secret_namespaces) {
        (true, _) => None,
        (false, list) if list.is_empty() => Some(vec![args.namespace.clone()]),
        (false, list) => Some(list),
    };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let options = ControllerOptions {
        namespace: args.namespace,
        secret_namespaces,
        concurrency: args.concurrency,
        key_threads: args.key_threads.unwrap_or(threads),
        metrics: Metrics::default(),
    };
    let (ready, is_ready) = watch::channel(false);
    let probes = probes::serve(
        args.health_addr,
        "the lists of DkimProviders, DkimRecordSets, Namespaces and signers, and clocks that agree",
        is_ready,
        options.metrics.clone(),
    );
    options.metrics.register(|registry| registry.register_collector(Box::new(clock.clone())));
    let stop = stop_signal().shared();
    let work = async {
        tokio::select! {
            () = clock.agree(&client) => {}
            () = stop.clone() => return Ok(()),
        }
        controller::run(client, options, Arc::new(clock.clone()), ready, stop.clone()).await
    };
    tokio::select! {
        done = work => Ok(done?),
        ended = probes => Ok(ended?),
    }
}

async fn run_dns(args: DnsArgs) -> Result<(), Failure> {
    let client = client().await?;
    let (ready, is_ready) = watch::channel(false);
    let metrics = Metrics::default();
    let probes = probes::serve(args.health_addr, "the list of DkimRecordSets", is_ready, metrics.clone());
    let processors = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let options = DnsOptions {
        listen: args.listen,
        namespace: args.namespace,
        threads: args.udp_threads.map_or_else(processors, usize::from),
        rates: Rates { same: args.rate_limit, all: args.rate_limit_all, slip: args.rate_limit_slip },
        cookie_secrets: args.cookie_secret_file,
        transfer_keys: args.transfer_key_file,
        notify: args.notify,
        state: args.state_file,
    };
    tokio::select! {
        done = dns::run(client, options, ready, &metrics, stop_signal()) => Ok(done?),
        ended = probes => Ok(ended?),
    }
}

/// An address, with port 53 where none is given.
fn secondary(text: &str) -> Result<SocketAddr, String> {
    let address = text.parse().or_else(|_| text.parse().map(|ip: IpAddr| SocketAddr::new(ip, 53)));
    address.map_err(|_| "write an address such as 192.0.2.1, 192.0.2.1:5353 or [2001:db8::1]:53".to_owned())
}

async fn run_sync(args: SyncArgs) -> Result<(), Failure> {
    let source = match (&args.key_dir, &args.namespace) {
        (Some(path), _) => KeySource::Directory { path: path.clone(), every: args.look_every },
        (None, Some(namespace)) => {
            let (client, _) = watching_client().await?;
            KeySource::Secrets { client, namespace: namespace.clone() }
        }
        (None, None) => return Err(Failure::NoKeys),
    };
    let reporter = match args.acknowledge.namespace(args.namespace.as_deref()) {
        Some(namespace) if !args.once => {
            let kind = format!("sync-{}", args.format.process());
            Some(args.acknowledge.reporter(client().await?, namespace, &kind))
        }
        _ => None,
    };
    let (ready, is_ready) = watch::channel(false);
    let metrics = Metrics::default();
    let work = sync::run(source, args.options(reporter), &metrics, ready, stop_signal());
    if args.once {
        return Ok(work.await?);
    }
    let waits_for = "the first files for the signer";
    let probes = probes::serve(args.health_addr, waits_for, is_ready, metrics.clone());
    tokio::select! {
        done = work => Ok(done?),
        ended = probes => Ok(ended?),
    }
}

async fn run_milter(args: MilterArgs) -> Result<(), Failure> {
    all_descriptors();
    let ((source, waits_for), reporter) = match (args.key_dir, args.key_namespace) {
        (Some(path), _) => {
            let reporter = match args.acknowledge.namespace(None) {
                Some(namespace) => Some(args.acknowledge.reporter(client().await?, namespace, "milter")),
                None => None,
            };
            ((KeyPlace::Directory { path, poll: args.poll }, "the key directory"), reporter)
        }
        (None, namespace) => {
            let (client, own) = watching_client().await?;
            let namespace = namespace.unwrap_or(own);
            let reporter = args
                .acknowledge
                .namespace(Some(&namespace))
                .map(|namespace| args.acknowledge.reporter(client.clone(), namespace, "milter"));
            ((KeyPlace::Secrets { client, namespace }, "the list of key Secrets"), reporter)
        }
    };
    let (ready, is_ready) = watch::channel(false);
    let metrics = Metrics::default();
    let probes = probes::serve(args.health_addr, waits_for, is_ready, metrics.clone());
    let counters = milter::Counters::default();
    metrics.register(|registry| counters.register(registry));
    let bound = milter::bind(&args.listen, args.socket_mode, args.socket_group).await?;
    let sockets: Vec<String> = bound.sockets()?.iter().map(ToString::to_string).collect();
    tracing::info!(sockets = sockets.join(", "), "listening");
    let options = MilterOptions {
        source,
        stale_after: args.stale_after,
        keep_unreadable: args.signer_lag,
        policy: Policy {
            trusted: args.trusted_networks,
            authenticated: args.sign_authenticated,
            macros: args.sign_macro,
            on_failure: args.on_failure,
            on_unsignable: args.on_unsignable,
        },
        limits: Limits {
            connections: args.max_connections,
            idle: args.idle_timeout,
            drain: args.drain,
            mtas: args.mta_networks,
        },
        reporter,
    };
    tokio::select! {
        () = milter::run(bound, options, counters, ready, stop_signal()) => Ok(()),
        ended = probes => Ok(ended?),
    }
}

/// As many open files as the system allows: one for each connection.
fn all_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

async fn client() -> Result<kube::Client, Failure> {
    let config = kube::Config::infer().await?;
    Ok(kube::Client::try_from(config)?)
}

/// A client that follows key Secrets, and the namespace of its account. A connection that nobody is behind any more is noticed
/// once no watch can be that long.
async fn watching_client() -> Result<(kube::Client, String), Failure> {
    let mut config = kube::Config::infer().await?;
    config.read_timeout = Some(WATCH_TIMEOUT);
    let namespace = config.default_namespace.clone();
    Ok((kube::Client::try_from(config)?, namespace))
}

/// Ends when the process is asked to stop.
async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    tracing::info!("asked to stop");
}

/// Private keys pass through this process: its memory goes into no core file and to no debugger.
fn no_core_files() {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "the process stays dumpable");
    }
    if let Err(error) = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }) {
        tracing::warn!(%error, "core files stay allowed");
    }
}
