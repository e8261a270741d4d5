//! Connections: length-prefixed messages, many on one connection (RFC 1035 §4.2.2, RFC 7766).

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::answer::{Asker, Told, Transport, refuse_unfit, resolve};
use super::limit::Verdict;
use super::query::read;
use super::serving::{Serving, seconds_now};
use super::signed::{Answer, answer_signed};
use super::tally::Tally;

/// Most TCP connections at a time, over all addresses.
const MAX_CONNECTIONS: usize = 1024;
/// Longest query that is read, in bytes.
const MAX_QUERY: usize = 4096;
/// How long a TCP connection may be silent (RFC 7766 §6.2.3 advises seconds).
const IDLE: Duration = Duration::from_secs(10);
/// How long a socket that fails is left alone.
const PAUSE: Duration = Duration::from_millis(20);
/// How long answers may take to leave after the order to stop.
const GOODBYE: Duration = Duration::from_secs(1);

/// Most connections of each of so many listeners: no more than half of the descriptors of the process go to them, so
/// that the watch of the API server and the probes always get theirs.
#[must_use]
pub fn most_connections(listeners: usize) -> usize {
    most_of(getrlimit(Resource::Nofile).current, listeners)
}

fn most_of(descriptors: Option<u64>, listeners: usize) -> usize {
    let half = descriptors.and_then(|n| usize::try_from(n / 2).ok()).unwrap_or(MAX_CONNECTIONS);
    (half.min(MAX_CONNECTIONS) / listeners.max(1)).max(1)
}

async fn told(stopping: &mut watch::Receiver<bool>) {
    // Where nobody is left to tell, it is over as well.
    let _ = stopping.wait_for(|stop| *stop).await;
}

/// Accepts connections. Where there are too many, the oldest goes: so a flood of silent ones keeps nobody out for
/// longer than a question takes, and clients expect to be closed at any time (RFC 7766 §6.2.4).
pub async fn serve(
    listener: TcpListener,
    most: usize,
    serving: Arc<Serving>,
    mut stopping: watch::Receiver<bool>,
) {
    let tally = serving.tallies.add(Transport::Tcp);
    let mut open = JoinSet::new();
    let mut by_age: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = told(&mut stopping) => break,
            Some(_) = open.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let (stream, client) = match accepted {
            Ok(accepted) => accepted,
            // Out of descriptors, or a client that hung up.
            Err(error) => {
                tracing::debug!(%error, "accepting over TCP");
                sleep(PAUSE).await;
                continue;
            }
        };
        while open.len() >= most {
            by_age.retain(|handle| !handle.is_finished());
            if let Some(oldest) = by_age.pop_front() {
                oldest.abort();
            }
            open.join_next().await;
        }
        if by_age.len() >= 2 * most {
            by_age.retain(|handle| !handle.is_finished());
        }
        let connection = Connection {
            stream: BufReader::with_capacity(512, stream),
            ip: client_ip(client),
            serving: Arc::clone(&serving),
            tally: Arc::clone(&tally),
        };
        by_age.push_back(open.spawn(connection.serve(stopping.clone())));
    }
    drop(listener);
    // What is left after that ends with the set.
    let _ = timeout(GOODBYE, async { while open.join_next().await.is_some() {} }).await;
}

fn client_ip(client: SocketAddr) -> IpAddr {
    client.ip().to_canonical()
}

struct Connection {
    stream: BufReader<TcpStream>,
    ip: IpAddr,
    serving: Arc<Serving>,
    tally: Arc<Tally>,
}

impl Connection {
    async fn serve(mut self, mut stopping: watch::Receiver<bool>) -> io::Result<()> {
        self.stream.get_ref().set_nodelay(true)?;
        let (mut packet, mut reply) = (Vec::new(), Vec::new());
        loop {
            let whole = tokio::select! {
                biased;
                () = told(&mut stopping) => return Ok(()),
                read = timeout(IDLE, self.read(&mut packet)) => read??,
            };
            let answer = if whole { self.answer(&packet, &mut reply) } else { return Ok(()) };
            match answer {
                Some(Answer::One(told)) => {
                    self.tally.answered(&told, Verdict::Send);
                    self.write(&reply).await?;
                }
                Some(Answer::Many(mut messages)) => {
                    self.tally.answered(&messages.told, Verdict::Send);
                    let serving = Arc::clone(&self.serving);
                    let _permit = serving.transfers.acquire().await.map_err(io::Error::other)?;
                    while messages.next_message(&mut reply, seconds_now()) {
                        self.write(&reply).await?;
                    }
                }
                None => {
                    self.tally.silent();
                    return Ok(());
                }
            }
        }
    }

    /// Writes the reply to a query; `None` where it deserves none.
    fn answer(&self, packet: &[u8], reply: &mut Vec<u8>) -> Option<Answer> {
        let now = seconds_now();
        let short = u32::try_from(now & u64::from(u32::MAX)).unwrap_or(0);
        let asker = Asker { ip: self.ip, transport: Transport::Tcp, now: short };
        let (snapshot, cookies) = (self.serving.snapshot.load(), self.serving.cookies.load());
        let told: Option<Told> = match read(packet) {
            Ok(query) if query.tsig.is_some() => {
                return Some(answer_signed(&query, &self.serving, &snapshot, &cookies, &asker, now, reply));
            }
            Ok(query) => Some(resolve(&query, &snapshot, &cookies, &asker, 0, reply)),
            Err(unfit) => refuse_unfit(unfit, &cookies, &asker, reply),
        };
        told.map(Answer::One)
    }

    /// Writes a message with its length, in one piece.
    async fn write(&mut self, message: &[u8]) -> io::Result<()> {
        let length = u16::try_from(message.len()).map_err(io::Error::other)?;
        let framed = [length.to_be_bytes().as_slice(), message].concat();
        timeout(IDLE, self.stream.write_all(&framed)).await?
    }

    /// Reads a query; `false` where it is longer than any query is.
    async fn read(&mut self, packet: &mut Vec<u8>) -> io::Result<bool> {
        let length = usize::from(self.stream.read_u16().await?);
        if length > MAX_QUERY {
            return Ok(false);
        }
        packet.resize(length, 0);
        self.stream.read_exact(packet).await?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
