//! A mail filter (milter) that signs in Postfix and Sendmail.
//!
//! ```text
//! keys::Directory ─┐                          wire::Decoder ── Session::take(packet) ── replies, in one write
//! keys::Secrets ───┴─▶ Keys (exchanged whole)      ▲                  │
//!                                              connection          Policy: whose mail is ours?
//! ```
//!
//! A connection is a task; a message is signed where it was read, without a lock and without a copy of its body.

mod args;
mod counters;
mod keys;
mod policy;
mod sendmail;
mod serve;
mod session;
mod socket;
#[cfg(test)]
mod testing;
pub mod wire;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

pub use args::MilterArgs;
pub use counters::{Counters, Failure, Skip};
pub use keys::{Keys, Unavailable};
pub use policy::{MacroRule, OnFailure, OnUnsignable, Policy};
pub use serve::{Bound, Limits, bind};
pub use session::{Flow, Session, Shared};
pub use socket::{Group, Mode, SocketError, SocketSpec};

use crate::signing::{Reporter, report};

/// Where keys come from.
pub enum KeyPlace {
    /// A directory: one domain's mounted Secret, or a directory for each domain.
    Directory {
        /// The directory.
        path: PathBuf,
        /// How often all of it is read again, whether it seems changed or not.
        poll: Duration,
    },
    /// The key Secrets of a namespace, watched through the API server.
    Secrets {
        /// A client whose requests may read Secrets there.
        client: kube::Client,
        /// The namespace.
        namespace: String,
    },
}

/// How the milter runs.
pub struct MilterOptions {
    /// Where keys come from.
    pub source: KeyPlace,
    /// How long signing goes on with what was known when the source could last be asked.
    pub stale_after: Duration,
    /// How long the earlier keys of a domain are used whose new ones cannot be read.
    pub keep_unreadable: Duration,
    /// Whose mail is signed.
    pub policy: Policy,
    /// How much at a time, and how long.
    pub limits: Limits,
    /// Who says which keys are in use.
    pub reporter: Option<Reporter>,
}

/// Serves at the sockets until `stop` is done, then lets the connections come to their end.
///
/// `ready` becomes true when the keys have been read for the first time. Until then, and whenever it cannot be signed,
/// mail that is ours is answered as [`OnFailure`] says.
pub async fn run(
    bound: Bound,
    options: MilterOptions,
    counters: Counters,
    ready: watch::Sender<bool>,
    stop: impl Future<Output = ()>,
) {
    let MilterOptions { source, stale_after, keep_unreadable, policy, limits, reporter } = options;
    let keys = Keys::new(stale_after, keep_unreadable, counters.clone(), ready);
    let keys = Arc::new(keys.reported_by(reporter.clone()));
    let follow = async {
        match source {
            KeyPlace::Directory { path, poll } => keys::follow_directory(&path, poll, &keys).await,
            KeyPlace::Secrets { client, namespace } => {
                keys::follow_secrets(client, &namespace, &keys).await;
            }
        }
    };
    let shared = Arc::new(Shared { policy, keys: Arc::clone(&keys), counters, now: jiff::Timestamp::now });
    tokio::select! {
        () = bound.serve(shared, limits, stop) => {}
        () = follow => {}
        () = report(reporter.as_ref()) => {}
    }
    if let Some(reporter) = &reporter {
        reporter.end(false).await;
    }
}
