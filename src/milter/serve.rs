//! The sockets and their connections: bounded in number, in size and in time.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use ipnet::IpNet;
use rustix::process::{Resource, getrlimit};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::session::{Flow, Session, Shared};
use super::socket::{Group, Listener, Mode, SocketError, SocketSpec, Stream};
use super::wire::{Decoder, ProtocolError};

/// Most bytes of one read.
const READ: usize = 32 * 1024;
/// How long a packet may take to be complete, a negotiation to begin and a reply to leave.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a socket that fails is left alone.
const PAUSE: Duration = Duration::from_millis(50);
/// How long messages under way may take after connections without one were closed.
const GOODBYE: Duration = Duration::from_secs(5);

/// How much at a time, and how long.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Most connections at a time. Further ones wait.
    pub connections: usize,
    /// How long a connection may be silent.
    pub idle: Duration,
    /// How long connections may go on after the order to stop.
    pub drain: Duration,
    /// From where MTAs may connect over TCP. They are believed what they say of their clients.
    pub mtas: Vec<IpNet>,
}

/// Sockets that are listened on.
#[derive(Debug)]
pub struct Bound(Vec<Listener>);

/// Listens.
///
/// # Errors
/// [`SocketError`] of the first socket that cannot be had.
pub async fn bind(specs: &[SocketSpec], mode: Mode, group: Option<Group>) -> Result<Bound, SocketError> {
    let mut listeners = Vec::with_capacity(specs.len());
    for spec in specs {
        listeners.push(Listener::bind(spec, mode, group).await?);
    }
    Ok(Bound(listeners))
}

/// Most connections: at least 64 descriptors are left to everything else.
fn most_connections(wanted: usize, descriptors: Option<u64>) -> usize {
    let free = descriptors.and_then(|n| usize::try_from(n).ok()).map_or(wanted, |n| n.saturating_sub(64));
    wanted.min(free).max(1)
}

impl Bound {
    /// Where it listens.
    ///
    /// # Errors
    /// [`io::Error`] from the operating system.
    pub fn sockets(&self) -> io::Result<Vec<SocketSpec>> {
        self.0.iter().map(Listener::spec).collect()
    }

    /// Serves until `stop` is done and connections have come to their end: those that go on are closed between two
    /// messages once [`Limits::drain`] is over.
    pub async fn serve(self, shared: Arc<Shared>, limits: Limits, stop: impl Future<Output = ()>) {
        let most = most_connections(limits.connections, getrlimit(Resource::Nofile).current);
        if most < limits.connections {
            tracing::warn!(
                most,
                "fewer connections than --max-connections: the process has no more descriptors"
            );
        }
        let (tell_stop, stopping) = watch::channel(false);
        let (tell_close, closing) = watch::channel(false);
        let drain = limits.drain;
        // Each socket holds a place for the connection it waits for.
        let places = Arc::new(Semaphore::new(most + self.0.len().saturating_sub(1)));
        let server = Arc::new(Server { shared, limits, places, closing });
        let listeners = self.0.into_iter().map(|listener| server.accept(listener, stopping.clone()));
        let all = join_all(listeners);
        let order = async {
            stop.await;
            tell_stop.send_replace(true);
            sleep(drain).await;
            tell_close.send_replace(true);
            sleep(GOODBYE).await;
        };
        tokio::select! {
            // When all connections are gone it is over, however much time is left.
            _ = all => {}
            () = order => tracing::warn!("connections are cut off: they did not end in time"),
        }
    }
}

struct Server {
    shared: Arc<Shared>,
    limits: Limits,
    places: Arc<Semaphore>,
    closing: watch::Receiver<bool>,
}

/// A connection is counted as long as this lives.
struct Open {
    server: Arc<Server>,
    _place: OwnedSemaphorePermit,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.server.shared.counters.closed();
    }
}

async fn told(receiver: &mut watch::Receiver<bool>) {
    // Where nobody is left to tell, it is over as well.
    let _ = receiver.wait_for(|yes| *yes).await;
}

impl Server {
    /// Accepts connections until told to stop, then waits for their end.
    async fn accept(self: &Arc<Self>, listener: Listener, mut stopping: watch::Receiver<bool>) {
        let mut open = JoinSet::new();
        loop {
            let next = tokio::select! {
                biased;
                () = told(&mut stopping) => break,
                Some(_) = open.join_next() => continue,
                next = self.next(&listener) => next,
            };
            match next {
                Ok((stream, from, place)) if self.may(from) => {
                    self.shared.counters.opened();
                    open.spawn(Open { server: Arc::clone(self), _place: place }.run(stream));
                }
                Ok((_, from, _)) => {
                    self.shared.counters.refused();
                    tracing::warn!(from = ?from.map(|f| f.ip()), "connection refused: it is not in --mta-networks");
                }
                Err(error) => {
                    tracing::warn!(%error, "accepting a connection");
                    sleep(PAUSE).await;
                }
            }
        }
        // The socket goes first: a new milter may take its place while this one ends.
        drop(listener);
        while open.join_next().await.is_some() {}
    }

    async fn next(
        &self,
        listener: &Listener,
    ) -> io::Result<(Stream, Option<SocketAddr>, OwnedSemaphorePermit)> {
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(io::Error::other)?;
        let (stream, from) = listener.accept().await?;
        Ok((stream, from, place))
    }

    fn may(&self, from: Option<SocketAddr>) -> bool {
        let ip = |address: SocketAddr| -> IpAddr { address.ip().to_canonical() };
        from.is_none_or(|from| self.limits.mtas.iter().any(|net| net.contains(&ip(from))))
    }
}

/// Why a connection ends before the MTA says so.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("it sent {0}")]
    Protocol(#[from] ProtocolError),
    #[error("it broke: {0}")]
    Io(#[from] io::Error),
    #[error("it was silent for too long")]
    Silent,
}

impl Open {
    async fn run(self, stream: Stream) {
        match self.talk(stream).await {
            Ok(()) => {}
            Err(error @ Broken::Protocol(_)) => {
                self.server.shared.counters.protocol_error();
                tracing::warn!("a connection is closed: {error}");
            }
            Err(error) => tracing::debug!("a connection is closed: {error}"),
        }
    }

    async fn talk(&self, mut stream: Stream) -> Result<(), Broken> {
        let mut session = Session::new(Arc::clone(&self.server.shared));
        let mut decoder = Decoder::default();
        let mut closing = self.server.closing.clone();
        let (mut input, mut output) = (Vec::new(), Vec::new());
        loop {
            let waiting = !input.is_empty() || !session.is_negotiated();
            let patience = if waiting { PATIENCE } else { self.server.limits.idle };
            tokio::select! {
                ready = timeout(patience, stream.readable()) => ready.map_err(|_| Broken::Silent)??,
                () = told(&mut closing), if session.is_idle() => return Ok(()),
            }
            // Room is made only now: a connection that waits has none.
            input.reserve(READ);
            match stream.try_read(&mut input) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error.into()),
            }
            let mut at = 0;
            let mut open = true;
            while let Some((packet, used)) = decoder.next(input.get(at..).unwrap_or_default())? {
                at += used;
                match session.take(packet, &mut output)? {
                    Flow::Go => {}
                    Flow::MessageOver => {
                        send(&mut stream, &mut output).await?;
                        // Others' turn: to sign takes long.
                        tokio::task::yield_now().await;
                    }
                    Flow::Close => {
                        open = false;
                        break;
                    }
                }
            }
            send(&mut stream, &mut output).await?;
            if !open {
                return Ok(());
            }
            input.drain(..at);
            if input.is_empty() {
                input = Vec::new();
            }
        }
    }
}

/// Everything in one write.
async fn send(stream: &mut Stream, output: &mut Vec<u8>) -> Result<(), Broken> {
    if !output.is_empty() {
        timeout(PATIENCE, stream.write_all(output)).await.map_err(|_| Broken::Silent)??;
        output.clear();
    }
    Ok(())
}

#[cfg(test)]
mod tests;
