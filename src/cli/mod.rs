//! `kubectl dkim`: records, status, check, rotate, enable, disable, export, import, verify.
//!
//! Each command is words made purely from objects (tested by snapshots) around little I/O.

mod args;
mod bundle;
mod change;
mod check;
mod cluster;
mod compromise;
mod error;
mod export;
mod find;
mod import;
mod output;
mod records;
mod seal;
mod status;
mod table;
#[cfg(test)]
mod testing;
mod verify;
mod wait;

use std::process::ExitCode;

use clap::Parser;
use jiff::Timestamp;

use args::{CheckArgs, Cli, ClusterArgs, Command, Output, RecordsArgs, RotateArgs, StatusArgs};
use cluster::Cluster;
use compromise::Request;
use error::{CliError, Exit};
use find::Scope;
use status::Summary;

use crate::api::{DkimDomain, HumanDuration};
use crate::lookup::{Looker, LookupConfig, Reach};

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(run(&cli)),
        Err(error) => Err(CliError::Output(error.to_string())),
    };
    let exit = result.unwrap_or_else(|error| {
        let head = table::paint(table::BAD, "error:");
        output::note(&format!("{head} {}", table::plain(&error.to_string())));
        error.exit()
    });
    exit.into()
}

async fn run(cli: &Cli) -> Result<Exit, CliError> {
    let place = &cli.cluster;
    match &cli.command {
        Command::Records(args) => records(place, args).await,
        Command::Status(args) => status(place, args).await,
        Command::Check(args) => check(place, args).await,
        Command::Rotate(args) => rotate(place, args).await,
        Command::Enable(args) => enable(place, &args.domain, true).await,
        Command::Disable(args) => enable(place, &args.domain, false).await,
        Command::Export(args) => export::run(place, args).await,
        Command::Import(args) => import::run(place, args).await,
        Command::Verify(args) => {
            let (text, exit) = verify::run(args).await?;
            output::print(&text)?;
            Ok(exit)
        }
    }
}

async fn records(place: &ClusterArgs, args: &RecordsArgs) -> Result<Exit, CliError> {
    let RecordsArgs { domain, offline, output } = args;
    let (domain, records) = match &offline.initial_domain {
        Some(initial) => {
            let question = records::question(&domain.domain, initial, offline, place.namespace.as_deref())?;
            (question.domain.to_string(), records::wanted(&question))
        }
        None => {
            let object = Cluster::connect(place).await?.find(&domain.domain).await?;
            let records = records::shown(&object)?;
            (object.spec.domain, records)
        }
    };
    output::print(&records::render(&domain, &records, *output)?)?;
    Ok(Exit::Fine)
}

async fn status(place: &ClusterArgs, args: &StatusArgs) -> Result<Exit, CliError> {
    let StatusArgs { domain, output } = args;
    let cluster = Cluster::connect(place).await?;
    let now = Timestamp::now();
    let text = match domain {
        Some(domain) => {
            let object = cluster.find(domain).await?;
            match output {
                Output::Table => status::detail(&object, now),
                Output::Json => output::json(&Summary::from(&object))?,
                Output::Yaml => output::yaml(&Summary::from(&object))?,
            }
        }
        None => {
            let objects = cluster.all().await?;
            let summaries: Vec<Summary<'_>> = objects.iter().map(Summary::from).collect();
            match output {
                Output::Table if objects.is_empty() => {
                    output::note(&format!("There is no DkimDomain in {}.", cluster.scope()));
                    String::new()
                }
                Output::Table => status::list(&objects, *cluster.scope() == Scope::All, now),
                Output::Json => output::json(&summaries)?,
                Output::Yaml => output::yaml(&summaries)?,
            }
        }
    };
    output::print(&text)?;
    Ok(Exit::Fine)
}

async fn check(place: &ClusterArgs, args: &CheckArgs) -> Result<Exit, CliError> {
    let CheckArgs { domain, offline, resolvers, no_authoritative, allow_networks, output } = args;
    let (plan, note) = match &offline.initial_domain {
        Some(initial) => {
            let question = records::question(&domain.domain, initial, offline, place.namespace.as_deref())?;
            (check::Plan::without_cluster(question), None)
        }
        None => {
            let cluster = Cluster::connect(place).await?;
            let object = cluster.find(&domain.domain).await?;
            let plan = check::Plan::of(&object)?;
            let asked = cluster.change(&object, &check::ask_patch(Timestamp::now())).await;
            (plan, Some(check::ask_words(asked.is_ok())))
        }
    };
    let config = LookupConfig {
        resolvers: resolvers.clone(),
        authoritative: !no_authoritative,
        reach: Reach::allowing(allow_networks.iter().copied()),
        ..LookupConfig::default()
    };
    let looker = Looker::new(config);
    let mut observations = Vec::new();
    for pair in &plan.pairs {
        let first = looker.look(&pair.question, Timestamp::now(), true).await;
        observations.push(match pair.follow(&first) {
            Some(question) => looker.look(&question, Timestamp::now(), true).await,
            None => first,
        });
    }
    let report = plan.compare(&observations);
    output::print(&check::render(&report, *output)?)?;
    if let Some(note) = note {
        output::note(note);
    }
    Ok(report.exit())
}

async fn rotate(place: &ClusterArgs, args: &RotateArgs) -> Result<Exit, CliError> {
    let RotateArgs { domain, compromised, yes, wait, timeout } = args;
    let cluster = Cluster::connect(place).await?;
    let before = cluster.find(&domain.domain).await?;
    if *compromised {
        return give_up(&cluster, &before, *yes, wait.then_some(*timeout)).await;
    }
    let at = change::rotate_at(&before, Timestamp::now());
    let asked = cluster.change(&before, &change::rotate_patch(at)).await?;
    output::print(&change::rotate_words(&before, at))?;
    if *wait {
        let after = wait::for_switch(&cluster, &asked, *timeout, |_| false).await?;
        output::print(&wait::switched(&after))?;
    }
    Ok(Exit::Fine)
}

/// Replaces keys that are in the wrong hands.
async fn give_up(
    cluster: &Cluster,
    before: &DkimDomain,
    sure: bool,
    wait: Option<HumanDuration>,
) -> Result<Exit, CliError> {
    let request = compromise::request(before, Timestamp::now());
    let (at, asked) = match request {
        Request::Already(at) => (at, before.clone()),
        Request::New(at) => {
            if !sure {
                output::note(&compromise::warning(before, at));
                match output::confirm("Go on?")? {
                    Some(true) => {}
                    Some(false) => return Err(CliError::Usage("nothing was changed".to_owned())),
                    None => return Err(CliError::Usage(compromise::UNASKED.to_owned())),
                }
            }
            (at, cluster.change(before, &compromise::patch(at)).await?)
        }
    };
    output::print(&compromise::words(before, request))?;
    if let Some(timeout) = wait {
        let over = |object: &DkimDomain| compromise::is_over(object, at);
        let after = wait::for_switch(cluster, &asked, timeout, over).await?;
        output::print(&wait::switched(&after))?;
        output::print(&compromise::remainder(&after, at))?;
    }
    Ok(Exit::Fine)
}

async fn enable(place: &ClusterArgs, domain: &str, enabled: bool) -> Result<Exit, CliError> {
    let cluster = Cluster::connect(place).await?;
    let before = cluster.find(domain).await?;
    let changed = before.spec.enabled != enabled;
    let after = if changed { cluster.change(&before, &change::enable_patch(enabled)).await? } else { before };
    output::print(&change::enable_words(&after, changed))?;
    Ok(Exit::Fine)
}
