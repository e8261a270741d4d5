//! The sockets: UDP, and TCP with length-prefixed messages (RFC 1035 §4.2.2, RFC 7766).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, watch};

use super::answer::{Transport, answer};
use super::zone::Snapshot;

/// Most TCP connections at a time on one address.
const MAX_CONNECTIONS: usize = 1024;
/// How long a TCP connection may be silent (RFC 7766 §6.2.3 advises seconds).
const IDLE: Duration = Duration::from_secs(10);

/// Sockets that are listened on.
#[derive(Debug)]
pub struct Bound {
    udp: Vec<UdpSocket>,
    tcp: Vec<TcpListener>,
}

/// Listens on each address, UDP and TCP. Port 0 gives one free port to both.
///
/// # Errors
/// [`io::Error`] where an address cannot be had.
pub async fn bind(listen: &[SocketAddr]) -> io::Result<Bound> {
    let (mut udp, mut tcp) = (Vec::new(), Vec::new());
    for address in listen {
        let listener = TcpListener::bind(address).await.map_err(|e| with(*address, &e))?;
        let same = listener.local_addr()?;
        udp.push(UdpSocket::bind(same).await.map_err(|e| with(same, &e))?);
        tcp.push(listener);
    }
    Ok(Bound { udp, tcp })
}

fn with(address: SocketAddr, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("listening on {address}: {error}"))
}

impl Bound {
    /// The addresses listened on.
    ///
    /// # Errors
    /// [`io::Error`] from the operating system.
    pub fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        self.tcp.iter().map(TcpListener::local_addr).collect()
    }

    /// Serves until dropped.
    ///
    /// # Errors
    /// [`io::Error`] where a socket fails for good.
    pub async fn serve(self, snapshot: watch::Receiver<Arc<Snapshot>>) -> io::Result<()> {
        let udp = self.udp.into_iter().map(|socket| datagrams(socket, snapshot.clone()));
        let tcp = self.tcp.into_iter().map(|listener| connections(listener, snapshot.clone()));
        tokio::try_join!(try_join_all(udp), try_join_all(tcp))?;
        Ok(())
    }
}

async fn datagrams(socket: UdpSocket, snapshot: watch::Receiver<Arc<Snapshot>>) -> io::Result<()> {
    let mut buffer = vec![0u8; 4096];
    loop {
        // A client that is gone makes the next receive fail on some systems; that concerns nobody else.
        let Ok((length, client)) = socket.recv_from(&mut buffer).await else { continue };
        let Some(packet) = buffer.get(..length) else { continue };
        let current = snapshot.borrow().clone();
        if let Some(reply) = answer(packet, &current, Transport::Udp) {
            let _ = socket.send_to(&reply, client).await;
        }
    }
}

async fn connections(listener: TcpListener, snapshot: watch::Receiver<Arc<Snapshot>>) -> io::Result<()> {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return Ok(()) };
        match listener.accept().await {
            Ok((stream, _)) => {
                let snapshot = snapshot.clone();
                tokio::spawn(async move {
                    let _ = connection(stream, snapshot).await;
                    drop(place);
                });
            }
            // Out of descriptors, or a client that hung up: breathe, then go on.
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

async fn connection(mut stream: TcpStream, snapshot: watch::Receiver<Arc<Snapshot>>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut packet = Vec::new();
    loop {
        let read = async {
            let length = stream.read_u16().await?;
            packet.resize(usize::from(length), 0);
            stream.read_exact(&mut packet).await
        };
        match tokio::time::timeout(IDLE, read).await {
            Ok(done) => done?,
            Err(_) => return Ok(()),
        };
        let current = snapshot.borrow().clone();
        let Some(reply) = answer(&packet, &current, Transport::Tcp) else { return Ok(()) };
        let length = u16::try_from(reply.len()).map_err(io::Error::other)?;
        let framed = [length.to_be_bytes().as_slice(), &reply].concat();
        tokio::time::timeout(IDLE, stream.write_all(&framed)).await.map_err(io::Error::other)??;
    }
}
