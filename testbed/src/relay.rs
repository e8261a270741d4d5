//! A TCP relay whose traffic can be made to stand still.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::error::Context;
use crate::{Address, Result};

/// A relay before a TCP server, at an address of its own and the server's port. While it is stalled, connections stay
/// open and nothing gets through: what both sides see of a network that loses everything. It ends with this value.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    stalled: watch::Sender<bool>,
    task: JoinHandle<()>,
    _held: Address,
}

impl Relay {
    /// Starts one.
    ///
    /// # Errors
    /// Where it cannot listen.
    pub async fn start(server: SocketAddr) -> Result<Self> {
        let held = Address::allocate()?;
        let address = held.port(server.port());
        let listener =
            TcpListener::bind(address).await.context(|| format!("listening on {address} for a relay"))?;
        let (stalled, is_stalled) = watch::channel(false);
        let task = tokio::spawn(serve(listener, server, is_stalled));
        Ok(Self { address, stalled, task, _held: held })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets nothing through until [`Relay::resume`].
    pub fn stall(&self) {
        self.stalled.send_replace(true);
    }

    /// Lets everything through again, what was held back first.
    pub fn resume(&self) {
        self.stalled.send_replace(false);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, server: SocketAddr, stalled: watch::Receiver<bool>) {
    // Dropped with this task, it ends all connections.
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        connections.spawn(relay(client, server, stalled.clone()));
    }
}

async fn relay(client: TcpStream, server: SocketAddr, mut stalled: watch::Receiver<bool>) {
    if flowing(&mut stalled).await.is_none() {
        return;
    }
    // A server that cannot be reached is one that hangs up.
    let Ok(server) = TcpStream::connect(server).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let there = pump(from_client, to_server, stalled.clone());
    let back = pump(from_server, to_client, stalled);
    tokio::join!(there, back);
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut stalled: watch::Receiver<bool>) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = from.read(&mut buffer).await.unwrap_or(0);
        if flowing(&mut stalled).await.is_none() {
            return;
        }
        let some = buffer.get(..read).filter(|some| !some.is_empty());
        match some {
            Some(some) if to.write_all(some).await.is_ok() => {}
            // The end in this direction; the other one goes on.
            _ => {
                let _ = to.shutdown().await;
                return;
            }
        }
    }
}

/// Waits while it is stalled; `None` where the relay has ended.
async fn flowing(stalled: &mut watch::Receiver<bool>) -> Option<()> {
    stalled.wait_for(|stalled| !stalled).await.ok().map(drop)
}
