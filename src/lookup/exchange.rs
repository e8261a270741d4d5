//! One question to one server: UDP first, TCP where the answer was cut (RFC 1035 §4.2, RFC 7766).

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio_rustls::TlsConnector;

use super::reply::Reply;
use crate::model::name::DnsName;
use crate::model::sighting::Failure;

/// What is offered to servers as the largest UDP answer: fits unfragmented everywhere (DNS flag day 2020).
const PAYLOAD: u16 = 1232;
/// The longest answer that is read over a stream, in bytes: far more than any key or delegation needs.
pub(super) const MAX_ANSWER: u16 = 16_384;

/// A question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    name: Name,
    kind: RecordType,
    recursion: bool,
    unchecked: bool,
}

impl Ask {
    /// To one of the zone's own servers.
    ///
    /// # Errors
    /// [`Failure::Malformed`] where the name has no form on the wire.
    pub fn own(name: &DnsName, kind: RecordType) -> Result<Self, Failure> {
        let name = Name::from_ascii(name.absolute()).map_err(|_| Failure::Malformed)?;
        Ok(Self { name, kind, recursion: false, unchecked: false })
    }

    /// To a resolver.
    ///
    /// # Errors
    /// As [`Ask::own`].
    pub fn resolver(name: &DnsName, kind: RecordType) -> Result<Self, Failure> {
        Ok(Self { recursion: true, ..Self::own(name, kind)? })
    }

    /// To a resolver, for the servers of the root.
    #[must_use]
    pub fn root_servers() -> Self {
        Self { name: Name::root(), kind: RecordType::NS, recursion: true, unchecked: false }
    }

    /// The same with DNSSEC validation left out: the CD bit.
    #[must_use]
    pub fn without_validation(&self) -> Self {
        Self { unchecked: true, ..self.clone() }
    }

    /// The question as a message, with a fresh id.
    pub(super) fn message(&self, edns: bool) -> Message {
        let mut query = Message::new(random_id(), MessageType::Query, OpCode::Query);
        query.metadata.recursion_desired = self.recursion;
        query.metadata.checking_disabled = self.unchecked;
        // Asks a resolver to tell whether it has validated (RFC 6840 §5.7).
        query.metadata.authentic_data = self.recursion;
        query.add_query(Query::query(self.name.clone(), self.kind));
        if edns {
            let mut options = Edns::new();
            options.set_max_payload(PAYLOAD);
            query.set_edns(options);
        }
        query
    }
}

/// Asks, at most `attempts` times, each bounded by `timeout`; without limits to how many questions are asked.
///
/// # Errors
/// [`Failure`] where nothing came that can be understood.
pub async fn ask(
    server: SocketAddr,
    name: &DnsName,
    kind: RecordType,
    recursion: bool,
    timeout: Duration,
    attempts: u32,
) -> Result<Reply, Failure> {
    let question = Ask { recursion, ..Ask::own(name, kind)? };
    let mut last = Failure::Timeout;
    for _ in 0..attempts.max(1) {
        match tokio::time::timeout(timeout, ask_once(server, &question)).await {
            Ok(Ok(reply)) => return Ok(reply),
            Ok(Err(failure)) => last = failure,
            Err(_) => last = Failure::Timeout,
        }
        if last == Failure::Unreachable {
            break;
        }
    }
    Err(last)
}

/// Asks once. What comes late never comes: the caller bounds the time.
///
/// # Errors
/// [`Failure`] where nothing came that can be understood.
pub async fn ask_once(server: SocketAddr, ask: &Ask) -> Result<Reply, Failure> {
    let answer = exchange(server, &ask.message(true)).await?;
    // Servers from before EDNS (RFC 6891 §7) understand the question without.
    match answer.metadata.response_code {
        ResponseCode::FormErr | ResponseCode::NotImp => {
            exchange(server, &ask.message(false)).await.map(Reply::new)
        }
        _ => Ok(Reply::new(answer)),
    }
}

async fn exchange(server: SocketAddr, query: &Message) -> Result<Message, Failure> {
    let bytes = query.to_vec().map_err(|_| Failure::Malformed)?;
    let answer = over_udp(server, &bytes, query).await?;
    if answer.metadata.truncation { over_tcp(server, &bytes, query).await } else { Ok(answer) }
}

/// An id nobody can guess: with the random port it keeps forged answers out (RFC 5452).
fn random_id() -> u16 {
    let random = getrandom::u32().unwrap_or_default();
    u16::try_from(random & 0xffff).unwrap_or_default()
}

fn unreachable(_: io::Error) -> Failure {
    Failure::Unreachable
}

async fn over_udp(server: SocketAddr, bytes: &[u8], query: &Message) -> Result<Message, Failure> {
    let any: SocketAddr = if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).await.map_err(unreachable)?;
    socket.connect(server).await.map_err(unreachable)?;
    socket.send(bytes).await.map_err(unreachable)?;
    let mut buffer = vec![0u8; 4096];
    loop {
        let length = socket.recv(&mut buffer).await.map_err(unreachable)?;
        let Some(packet) = buffer.get(..length) else { continue };
        // What does not answer this very question is noise, or forged.
        if let Ok(message) = Message::from_vec(packet)
            && answers(&message, query)
        {
            return Ok(message);
        }
    }
}

async fn over_tcp(server: SocketAddr, bytes: &[u8], query: &Message) -> Result<Message, Failure> {
    over_stream(TcpStream::connect(server).await.map_err(unreachable)?, bytes, query).await
}

/// Asks a resolver over TLS (RFC 7858), in a connection of its own.
///
/// # Errors
/// [`Failure`]; [`Failure::Unreachable`] also where the certificate is not that of `name`, or nobody vouches for it.
pub async fn ask_over_tls(
    tls: &TlsConnector,
    server: SocketAddr,
    name: &ServerName<'static>,
    ask: &Ask,
) -> Result<Reply, Failure> {
    let query = ask.message(true);
    let bytes = query.to_vec().map_err(|_| Failure::Malformed)?;
    let stream = TcpStream::connect(server).await.map_err(unreachable)?;
    let stream = tls.connect(name.clone(), stream).await.map_err(unreachable)?;
    over_stream(stream, &bytes, &query).await.map(Reply::new)
}

async fn over_stream<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    bytes: &[u8],
    query: &Message,
) -> Result<Message, Failure> {
    let length = u16::try_from(bytes.len()).map_err(|_| Failure::Malformed)?;
    stream.write_all(&[&length.to_be_bytes(), bytes].concat()).await.map_err(unreachable)?;
    stream.flush().await.map_err(unreachable)?;
    let length = stream.read_u16().await.map_err(unreachable)?;
    if length > MAX_ANSWER {
        return Err(Failure::Malformed);
    }
    let mut answer = vec![0u8; usize::from(length)];
    stream.read_exact(&mut answer).await.map_err(unreachable)?;
    let message = Message::from_vec(&answer).map_err(|_| Failure::Malformed)?;
    if answers(&message, query) { Ok(message) } else { Err(Failure::Malformed) }
}

/// Whether a message answers this very question.
pub(super) fn answers(message: &Message, query: &Message) -> bool {
    let asked = message.queries == query.queries;
    // A server that cannot read the question need not repeat it (RFC 1035 §4.1.1, RCODE 1).
    let unread = message.queries.is_empty() && message.metadata.response_code == ResponseCode::FormErr;
    message.metadata.id == query.metadata.id
        && message.metadata.message_type == MessageType::Response
        && (asked || unread)
}
