//! The embedded authoritative DNS server: serves the key records of DkimRecordSets, and nothing else.
//!
//! [`zone`] and [`answer`] are pure: a snapshot of all zones, and the reply to one packet. [`serve`] has the sockets,
//! [`source`] keeps the snapshot up to date from the API server; while that is away the last one is served.

mod answer;
mod serve;
mod source;
#[cfg(test)]
mod testing;
mod zone;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use kube::Client;
use tokio::sync::watch;

pub use answer::{Transport, answer};
pub use serve::{Bound, bind};
pub use zone::{Set, Snapshot};

/// How the server is run.
#[derive(Debug, Clone)]
pub struct DnsOptions {
    /// Where to listen, UDP and TCP.
    pub listen: Vec<SocketAddr>,
    /// The namespace of the record sets.
    pub namespace: String,
}

/// Runs the server until `stop` is done and the answers on their way have left. `ready` is set once the first list of
/// record sets is served.
///
/// # Errors
/// [`std::io::Error`] where an address cannot be listened on.
pub async fn run(
    client: Client,
    options: DnsOptions,
    ready: watch::Sender<bool>,
    stop: impl Future<Output = ()>,
) -> std::io::Result<()> {
    let (publish, snapshot) = watch::channel(Arc::new(Snapshot::default()));
    let bound = bind(&options.listen).await?;
    tokio::select! {
        () = bound.serve(snapshot, stop) => {}
        () = source::follow(client, &options.namespace, publish, ready) => {}
    }
    Ok(())
}
