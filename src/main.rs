//! The operator's binary: one program, several roles, each with the least it needs.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand};
use dkim_operator::controller::{self, ControllerArgs, WitnessedClock};
use dkim_operator::dns::{self, DnsArgs};
use dkim_operator::metrics::Metrics;
use dkim_operator::milter::{self, KeyPlace, MilterArgs};
use dkim_operator::signing::{KeySource, Unknown, WATCH_TIMEOUT, run_sign};
use dkim_operator::sync::{self, SyncArgs, SyncError};
use dkim_operator::{crds, probes};
use futures::FutureExt as _;
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
struct SignArgs {
    /// The directory of a mounted key Secret, or one with such a directory for each domain.
    #[arg(long, env = "DKIM_OPERATOR_KEY_DIR")]
    key_dir: PathBuf,
    /// Let mail of domains that are not ours pass as it is.
    #[arg(long)]
    pass_unknown: bool,
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
    let health = args.health_addr;
    let options = args.options();
    let (ready, is_ready) = watch::channel(false);
    let probes = probes::serve(
        health,
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
    tokio::select! {
        done = dns::run(client, args.options(), ready, &metrics, stop_signal()) => Ok(done?),
        ended = probes => Ok(ended?),
    }
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
    let ((source, waits_for), reporter) = match (&args.key_dir, &args.key_namespace) {
        (Some(path), _) => {
            let reporter = match args.acknowledge.namespace(None) {
                Some(namespace) => Some(args.acknowledge.reporter(client().await?, namespace, "milter")),
                None => None,
            };
            ((KeyPlace::Directory { path: path.clone(), poll: args.poll }, "the key directory"), reporter)
        }
        (None, namespace) => {
            let (client, own) = watching_client().await?;
            let namespace = namespace.clone().unwrap_or(own);
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
    tokio::select! {
        () = milter::run(bound, args.options(source, reporter), counters, ready, stop_signal()) => Ok(()),
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
