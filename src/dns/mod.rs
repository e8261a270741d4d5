//! The embedded authoritative DNS server: serves the key records of DkimRecordSets, and nothing else.
//!
//! [`query`], [`answer`] and [`snapshot`] are the way of a query, without lock or allocation. [`store`] makes the
//! snapshots, [`source`] keeps them up to date from the API server; while that is away the last one is served, and
//! [`state`] keeps it over a restart.

mod answer;
mod args;
mod arrival;
mod cookies;
mod files;
mod history;
mod keeper;
mod limit;
mod metrics;
mod notify;
mod progress;
mod query;
mod secrets;
mod serve;
mod serving;
mod set;
mod signed;
mod snapshot;
mod source;
mod state;
mod store;
mod tally;
mod tcp;
#[cfg(test)]
mod testing;
mod transfer;
mod tsig;
mod udp;
mod wire_name;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use kube::Client;
use parking_lot::Mutex;
use tokio::sync::watch;

pub use answer::{Asker, Told, Transport, answer};
pub use args::DnsArgs;
pub use cookies::Cookies;
pub use limit::Rates;
pub use serve::{Bound, bind};
pub use serving::Serving;
pub use set::{Part, Set};
pub use snapshot::Snapshot;
pub use state::{load, save};
pub use store::Store;
pub use tsig::Keys;

use notify::Secondary;

use crate::metrics::Metrics;

/// How the server is run.
#[derive(Debug, Clone)]
pub struct DnsOptions {
    /// Where to listen, UDP and TCP.
    pub listen: Vec<SocketAddr>,
    /// The namespace of the record sets.
    pub namespace: String,
    /// UDP sockets, each with its thread, of each address.
    pub threads: usize,
    /// Limits of answers over UDP.
    pub rates: Rates,
    /// Cookie secrets that all servers of a name share.
    pub cookie_secrets: Option<PathBuf>,
    /// Keys with which zones may be fetched.
    pub transfer_keys: Option<PathBuf>,
    /// Secondaries that are told of changes.
    pub notify: Vec<SocketAddr>,
    /// Where the zones are kept over a restart.
    pub state: Option<PathBuf>,
}

/// What ends the server early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address cannot be listened on.
    #[error("{0}")]
    Listen(#[from] std::io::Error),
    /// A file that the options name cannot be used.
    #[error("{0}")]
    File(#[from] files::FileError),
    /// The operating system gives no randomness.
    #[error("no cookie secret can be made: {0}")]
    Random(#[from] getrandom::Error),
}

/// Runs the server until `stop` is done and the answers on their way have left. `ready` is set once the first list of
/// record sets is served, or the zones of the last run are while the API server is away.
///
/// # Errors
/// [`Error`] where an address cannot be listened on or a file cannot be used.
pub async fn run(
    client: Client,
    options: DnsOptions,
    ready: watch::Sender<bool>,
    registry: &Metrics,
    stop: impl Future<Output = ()>,
) -> Result<(), Error> {
    let cookies = match &options.cookie_secrets {
        Some(path) => files::cookies(path)?,
        None => Cookies::random()?,
    };
    let store = options.state.as_deref().and_then(files::last_zones).unwrap_or_default();
    let serving = Arc::new(Serving::new(Snapshot::default(), cookies, options.rates));
    if let Some(path) = &options.transfer_keys {
        serving.keys.store(Arc::new(files::keys(path)?));
    }
    let progress = Arc::new(progress::Progress::default());
    registry.register(|registry| {
        let (serving, progress) = (Arc::clone(&serving), Arc::clone(&progress));
        registry.register_collector(Box::new(metrics::DnsMetrics { serving, progress }));
    });
    let store = Arc::new(Mutex::new(store));
    let keeper = options.state.clone().map(|path| Arc::new(keeper::Keeper::new(path, Arc::clone(&store))));
    let secondaries: Arc<[Secondary]> = options.notify.iter().copied().map(Secondary::new).collect();
    let follow = source::Follow {
        serving: Arc::clone(&serving),
        store,
        keeper: keeper.clone(),
        secondaries: Arc::clone(&secondaries),
        progress,
        ready,
    };
    let keep = async {
        match &keeper {
            Some(keeper) => Arc::clone(keeper).run().await,
            None => std::future::pending().await,
        }
    };
    let notify = async {
        // With none there is nothing to do, and nothing ends.
        futures::future::join_all(secondaries.iter().map(|one| one.run(&serving))).await;
        std::future::pending::<()>().await;
    };
    let bound = bind(&options.listen, options.threads).await?;
    tokio::select! {
        () = bound.serve(Arc::clone(&serving), stop) => {}
        () = follow.run(client, &options.namespace) => {}
        () = keep => {}
        () = notify => {}
        () = files::reload(&serving, options.cookie_secrets.as_deref(), options.transfer_keys.as_deref()) => {}
    }
    if let Some(keeper) = &keeper {
        keeper.finish().await;
    }
    Ok(())
}
