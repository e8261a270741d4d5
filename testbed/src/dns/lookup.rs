//! Asking one server one question.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, Query};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use crate::{Error, Result};

/// How long an answer is waited for.
const ANSWER_BOUND: Duration = Duration::from_secs(5);
/// The size of a UDP answer that is asked for.
const PAYLOAD: u16 = 1232;

/// A record in an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The name, with a dot at its end.
    pub name: String,
    /// The type, such as `CNAME`.
    pub kind: String,
    /// The time it may still be kept.
    pub ttl: u32,
    /// The data as in a zone file; of a TXT the strings put together, without quotes.
    pub data: String,
}

/// What a server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// `NOERROR`, `NXDOMAIN`, `SERVFAIL`, `REFUSED`, …
    pub code: String,
    /// Whether the server speaks for the zone.
    pub authoritative: bool,
    /// Whether the answer was too long for UDP, and was fetched over TCP.
    pub over_tcp: bool,
    /// The answer section.
    pub records: Vec<Found>,
    /// The authority section.
    pub authority: Vec<Found>,
}

impl Answer {
    /// The data of the records of one type, in the order of the answer.
    #[must_use]
    pub fn data(&self, kind: &str) -> Vec<&str> {
        self.records.iter().filter(|found| found.kind == kind).map(|found| found.data.as_str()).collect()
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.code)?;
        for Found { name, kind, ttl, data } in &self.records {
            write!(formatter, "; {name} {ttl} {kind} {data}")?;
        }
        Ok(())
    }
}

/// Asks `server` for `name` with the wish for recursion: over UDP, and over TCP where the answer was cut.
///
/// # Errors
/// [`Error::Query`] where no answer comes in 5 s, or one that cannot be read. `NXDOMAIN` and the like are
/// answers.
pub async fn lookup(server: SocketAddr, name: &str, kind: &str) -> Result<Answer> {
    let fail = |reason: String| Error::Query { server, name: name.to_owned(), kind: kind.to_owned(), reason };
    let query_name =
        Name::from_ascii(super::zone::absolute(name)?).map_err(|error| fail(error.to_string()))?;
    let query_kind = RecordType::from_str(kind).map_err(|error| fail(error.to_string()))?;
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(query_name, query_kind));
    let mut edns = Edns::new();
    edns.set_max_payload(PAYLOAD);
    message.set_edns(edns);
    let bytes = message.to_vec().map_err(|error| fail(error.to_string()))?;
    let exchange = async {
        let answer = over_udp(server, &bytes).await?;
        let message = decode(&answer)?;
        if !message.metadata.truncation {
            return Ok((message, false));
        }
        Ok::<_, String>((decode(&over_tcp(server, &bytes).await?)?, true))
    };
    let (message, over_tcp) = tokio::time::timeout(ANSWER_BOUND, exchange)
        .await
        .map_err(|_| fail(format!("no answer within {ANSWER_BOUND:?}")))?
        .map_err(fail)?;
    Ok(Answer {
        code: format!("{:?}", message.metadata.response_code).to_ascii_uppercase(),
        authoritative: message.metadata.authoritative,
        over_tcp,
        records: message.answers.iter().map(found).collect(),
        authority: message.authorities.iter().map(found).collect(),
    })
}

fn found(record: &Record) -> Found {
    let data = match &record.data {
        RData::TXT(txt) => txt.txt_data.iter().map(|piece| String::from_utf8_lossy(piece)).collect(),
        other => other.to_string(),
    };
    let kind = record.record_type().to_string();
    Found { name: record.name.to_ascii(), kind, ttl: record.ttl, data }
}

fn decode(bytes: &[u8]) -> Result<Message, String> {
    Message::from_vec(bytes).map_err(|error| format!("the answer cannot be read: {error}"))
}

async fn over_udp(server: SocketAddr, query: &[u8]) -> Result<Vec<u8>, String> {
    let any: SocketAddr = if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let exchange = async {
        let socket = UdpSocket::bind(any).await?;
        socket.connect(server).await?;
        socket.send(query).await?;
        let mut answer = vec![0; 65_535];
        loop {
            let length = socket.recv(&mut answer).await?;
            // Anything with another id is no answer to this question.
            if answer[..length].get(..2) == query.get(..2) {
                answer.truncate(length);
                return Ok(answer);
            }
        }
    };
    exchange.await.map_err(|error: std::io::Error| error.to_string())
}

async fn over_tcp(server: SocketAddr, query: &[u8]) -> Result<Vec<u8>, String> {
    let exchange = async {
        let length = u16::try_from(query.len()).map_err(std::io::Error::other)?;
        let mut stream = TcpStream::connect(server).await?;
        stream.write_all(&[&length.to_be_bytes(), query].concat()).await?;
        let mut answer = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    };
    exchange.await.map_err(|error: std::io::Error| format!("over TCP: {error}"))
}
