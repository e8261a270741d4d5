//! A way to a server, through an address of its own, that may be slow.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::task::JoinHandle;

use crate::error::Context;
use crate::{Address, Result};

/// How long an answer is waited for.
const ANSWER_BOUND: Duration = Duration::from_secs(5);

/// Passes questions on to a server, from the client's own address, and its answers back, over UDP after a while. It is
/// at port 53 of an address of its own.
#[derive(Debug)]
pub struct SlowWay {
    address: Address,
    tasks: [JoinHandle<()>; 2],
}

impl SlowWay {
    /// Opens one to `server`.
    ///
    /// # Errors
    /// Where the address cannot be bound.
    pub async fn to(server: SocketAddr, delay: Duration) -> Result<Self> {
        Self::at(Address::allocate()?, server, delay).await
    }

    /// Opens one at the given address.
    ///
    /// # Errors
    /// As [`SlowWay::to`].
    pub async fn at(address: Address, server: SocketAddr, delay: Duration) -> Result<Self> {
        let opening = || "opening a way to a DNS server".to_owned();
        let front = Arc::new(UdpSocket::bind(address.port(53)).await.context(opening)?);
        let listener = TcpListener::bind(address.port(53)).await.context(opening)?;
        let udp = tokio::spawn(async move {
            let mut buffer = vec![0_u8; 4096];
            loop {
                let Ok((length, client)) = front.recv_from(&mut buffer).await else { continue };
                let question = buffer[..length].to_vec();
                tokio::spawn(pass(front.clone(), client, server, question, delay));
            }
        });
        let tcp = tokio::spawn(async move {
            loop {
                let Ok((client, from)) = listener.accept().await else { continue };
                tokio::spawn(join(client, from.ip(), server));
            }
        });
        Ok(Self { address, tasks: [udp, tcp] })
    }

    /// Where questions go.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address.port(53)
    }
}

async fn pass(
    front: Arc<UdpSocket>,
    client: SocketAddr,
    server: SocketAddr,
    question: Vec<u8>,
    delay: Duration,
) -> std::io::Result<()> {
    let back = UdpSocket::bind((client.ip(), 0)).await?;
    back.connect(server).await?;
    back.send(&question).await?;
    let mut answer = vec![0_u8; 4096];
    let length = tokio::time::timeout(ANSWER_BOUND, back.recv(&mut answer)).await??;
    tokio::time::sleep(delay).await;
    front.send_to(&answer[..length], client).await.map(drop)
}

async fn join(mut client: TcpStream, from: IpAddr, server: SocketAddr) -> std::io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(from, 0))?;
    let mut back = socket.connect(server).await?;
    tokio::io::copy_bidirectional(&mut client, &mut back).await.map(drop)
}

impl Drop for SlowWay {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}
