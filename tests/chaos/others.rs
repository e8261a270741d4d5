//! The rest of the world: it asks for every key all the time, so that the resolver always holds the oldest answer that
//! its time to live allows.

use std::net::SocketAddr;
use std::time::Duration;

use dkim_testbed::lookup;
use futures::future::join_all;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// How often each key is asked for.
const EVERY: Duration = Duration::from_millis(300);

/// Asks until it is told to stop. What is answered is nobody's business here.
pub async fn ask(resolver: SocketAddr, domains: Vec<String>, stopped: watch::Receiver<bool>) {
    let names = domains.iter().flat_map(|domain| {
        ["selector1", "selector2"].map(|selector| format!("{selector}._domainkey.{domain}"))
    });
    let names: Vec<String> = names.collect();
    while !*stopped.borrow() {
        let asked = names.iter().map(|name| timeout(EVERY, lookup(resolver, name, "TXT")));
        drop(join_all(asked).await);
        sleep(EVERY).await;
    }
}
