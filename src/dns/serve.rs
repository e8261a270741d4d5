//! The sockets: UDP, and TCP with length-prefixed messages (RFC 1035 §4.2.2, RFC 7766).

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use rustix::process::{Resource, getrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::answer::{Transport, answer};
use super::zone::Snapshot;
use crate::listen;

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
        let listener = listen::listen(*address, TcpListener::bind).await?;
        let same = listener.local_addr()?;
        udp.push(listen::listen(same, UdpSocket::bind).await?);
        tcp.push(listener);
    }
    Ok(Bound { udp, tcp })
}

impl Bound {
    /// The addresses listened on.
    ///
    /// # Errors
    /// [`io::Error`] from the operating system.
    pub fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        self.tcp.iter().map(TcpListener::local_addr).collect()
    }

    /// Serves the newest snapshot until `stop` is done; then answers on their way still leave, for at most a second,
    /// and all sockets are closed. Dropped, it ends at once.
    ///
    /// A socket that fails is tried again and again: the other ones go on.
    pub async fn serve(self, snapshot: watch::Receiver<Arc<Snapshot>>, stop: impl Future<Output = ()>) {
        let (tell, stopping) = watch::channel(false);
        let most = most_connections(getrlimit(Resource::Nofile).current, self.tcp.len());
        let udp = self.udp.into_iter().map(|socket| datagrams(socket, snapshot.clone(), stopping.clone()));
        let tcp = self.tcp.into_iter().map(|tcp| connections(tcp, most, snapshot.clone(), stopping.clone()));
        let stop = async {
            stop.await;
            tell.send_replace(true);
        };
        tokio::join!(join_all(udp), join_all(tcp), stop);
    }
}

/// Most connections of each listener: no more than half of the descriptors of the process go to them, so that the
/// watch of the API server and the probes always get theirs.
fn most_connections(descriptors: Option<u64>, listeners: usize) -> usize {
    let half = descriptors.and_then(|n| usize::try_from(n / 2).ok()).unwrap_or(MAX_CONNECTIONS);
    (half.min(MAX_CONNECTIONS) / listeners.max(1)).max(1)
}

async fn told(stopping: &mut watch::Receiver<bool>) {
    // Where nobody is left to tell, it is over as well.
    let _ = stopping.wait_for(|stop| *stop).await;
}

async fn datagrams(
    socket: UdpSocket,
    snapshot: watch::Receiver<Arc<Snapshot>>,
    mut stopping: watch::Receiver<bool>,
) {
    let mut buffer = vec![0u8; MAX_QUERY];
    loop {
        let received = tokio::select! {
            received = socket.recv_from(&mut buffer) => received,
            () = told(&mut stopping) => return,
        };
        let (length, client) = match received {
            Ok(received) => received,
            Err(error) => {
                tracing::debug!(%error, "receiving over UDP");
                sleep(PAUSE).await;
                continue;
            }
        };
        let Some(packet) = buffer.get(..length) else { continue };
        let current = snapshot.borrow().clone();
        if let Some(reply) = answer(packet, &current, Transport::Udp) {
            let _ = socket.send_to(&reply, client).await;
        }
    }
}

/// Accepts connections. Where there are too many, the oldest goes: so a flood of silent ones keeps nobody out for
/// longer than a question takes, and clients expect to be closed at any time (RFC 7766 §6.2.4).
async fn connections(
    listener: TcpListener,
    most: usize,
    snapshot: watch::Receiver<Arc<Snapshot>>,
    mut stopping: watch::Receiver<bool>,
) {
    let mut open = JoinSet::new();
    let mut by_age: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = told(&mut stopping) => break,
            Some(_) = open.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
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
        by_age.push_back(open.spawn(connection(stream, snapshot.clone(), stopping.clone())));
    }
    drop(listener);
    // What is left after that ends with the set.
    let _ = timeout(GOODBYE, async { while open.join_next().await.is_some() {} }).await;
}

async fn connection(
    stream: TcpStream,
    snapshot: watch::Receiver<Arc<Snapshot>>,
    mut stopping: watch::Receiver<bool>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::with_capacity(512, stream);
    let mut packet = Vec::new();
    loop {
        let whole = tokio::select! {
            biased;
            () = told(&mut stopping) => return Ok(()),
            read = timeout(IDLE, read_query(&mut stream, &mut packet)) => read??,
        };
        let current = snapshot.borrow().clone();
        let reply = if whole { answer(&packet, &current, Transport::Tcp) } else { None };
        let Some(reply) = reply else { return Ok(()) };
        let length = u16::try_from(reply.len()).map_err(io::Error::other)?;
        let framed = [length.to_be_bytes().as_slice(), &reply].concat();
        timeout(IDLE, stream.write_all(&framed)).await??;
    }
}

/// Reads a query; `false` where it is longer than any query is.
async fn read_query(stream: &mut BufReader<TcpStream>, packet: &mut Vec<u8>) -> io::Result<bool> {
    let length = usize::from(stream.read_u16().await?);
    if length > MAX_QUERY {
        return Ok(false);
    }
    packet.resize(length, 0);
    stream.read_exact(packet).await?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::testing::{KEY, snapshot};
    use hickory_proto::op::{Message, MessageType, OpCode, Query};
    use hickory_proto::rr::{Name, RecordType};
    use tokio::sync::oneshot;
    use tokio::task::JoinHandle;

    struct Server {
        address: SocketAddr,
        stop: oneshot::Sender<()>,
        ended: JoinHandle<()>,
    }

    async fn start() -> Server {
        let bound = bind(&["127.0.0.1:0".parse().unwrap()]).await.unwrap();
        let address = bound.addresses().unwrap()[0];
        let (stop, stopped) = oneshot::channel::<()>();
        let (_, served) = watch::channel(Arc::new(snapshot(&[(KEY, "text")])));
        let ended = tokio::spawn(bound.serve(served, async { _ = stopped.await }));
        Server { address, stop, ended }
    }

    fn framed(id: u16) -> Vec<u8> {
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        message.add_query(Query::query(Name::from_ascii(format!("{KEY}.")).unwrap(), RecordType::TXT));
        let bytes = message.to_vec().unwrap();
        [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes.as_slice()].concat()
    }

    async fn reply(stream: &mut TcpStream) -> io::Result<Message> {
        let mut reply = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut reply).await?;
        Message::from_vec(&reply).map_err(io::Error::other)
    }

    async fn closed(stream: &mut TcpStream) -> bool {
        !matches!(stream.read(&mut [0; 1]).await, Ok(1..))
    }

    #[tokio::test]
    async fn pipelined_queries_are_answered_in_their_order() {
        let server = start().await;
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let all: Vec<u8> = (1..=50).flat_map(framed).collect();
        // In two pieces, cut in the middle of a query.
        let (first, second) = all.split_at(all.len() / 2 + 3);
        stream.write_all(first).await.unwrap();
        assert_eq!(reply(&mut stream).await.unwrap().metadata.id, 1);
        stream.write_all(second).await.unwrap();
        for id in 2..=50 {
            let reply = reply(&mut stream).await.unwrap();
            assert_eq!((reply.metadata.id, reply.answers.len()), (id, 1));
        }
    }

    #[tokio::test]
    async fn what_is_no_query_ends_the_connection() {
        let server = start().await;
        for bytes in [vec![0xff, 0xff, 0, 0], vec![0, 0], vec![0, 3, 1, 2, 3], vec![0x10, 1]] {
            let mut stream = TcpStream::connect(server.address).await.unwrap();
            stream.write_all(&bytes).await.unwrap();
            assert!(timeout(IDLE / 2, closed(&mut stream)).await.unwrap(), "{bytes:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silent_connections_are_closed() {
        let server = start().await;
        for sent in [vec![], vec![0], framed(1)[..9].to_vec()] {
            let mut stream = TcpStream::connect(server.address).await.unwrap();
            stream.write_all(&sent).await.unwrap();
            let started = tokio::time::Instant::now();
            assert!(closed(&mut stream).await);
            assert!(started.elapsed() >= IDLE - Duration::from_millis(100), "{:?}", started.elapsed());
        }
    }

    #[tokio::test]
    async fn the_oldest_connection_makes_room() {
        let bound = bind(&["127.0.0.1:0".parse().unwrap()]).await.unwrap();
        let address = bound.addresses().unwrap()[0];
        let (_, served) = watch::channel(Arc::new(snapshot(&[(KEY, "text")])));
        let (_stop, stopping) = watch::channel(false);
        let listener = bound.tcp.into_iter().next().unwrap();
        let _server = JoinSet::from_iter([connections(listener, 3, served, stopping)]);
        let mut streams = VecDeque::new();
        for id in 1..=20 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(&framed(id)).await.unwrap();
            assert_eq!(reply(&mut stream).await.unwrap().metadata.id, id);
            streams.push_back(stream);
            if streams.len() > 3 {
                assert!(timeout(IDLE / 2, closed(&mut streams.pop_front().unwrap())).await.unwrap());
            }
        }
        for mut stream in streams {
            stream.write_all(&framed(99)).await.unwrap();
            assert_eq!(reply(&mut stream).await.unwrap().metadata.id, 99);
        }
    }

    #[tokio::test]
    async fn it_stops_when_asked() {
        let server = start().await;
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(&framed(1)).await.unwrap();
        reply(&mut stream).await.unwrap();
        server.stop.send(()).unwrap();
        timeout(GOODBYE / 2, server.ended).await.expect("an idle connection holds nothing up").unwrap();
        assert!(closed(&mut stream).await);
        assert!(TcpStream::connect(server.address).await.is_err());
        bind(&[server.address]).await.expect("the address is free again");
    }

    #[test]
    fn connections_leave_descriptors_for_others() {
        assert_eq!(most_connections(None, 1), 1024);
        assert_eq!(most_connections(Some(1_048_576), 2), 512);
        assert_eq!(most_connections(Some(1024), 1), 512);
        assert_eq!(most_connections(Some(0), 0), 1);
    }
}
