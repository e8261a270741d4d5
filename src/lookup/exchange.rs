//! One question to one server: UDP first, TCP where the answer was cut (RFC 1035 §4.2, RFC 7766).

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use crate::model::name::DnsName;
use crate::model::sighting::{Failure, Outcome};

/// What is offered to servers as the largest UDP answer: fits unfragmented everywhere (DNS flag day 2020).
const PAYLOAD: u16 = 1232;

/// What a server said, beyond what a single [`Outcome`] tells.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The whole message.
    pub message: Message,
}

/// Asks, at most `attempts` times, each bounded by `timeout`.
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
    let owner = Name::from_ascii(name.absolute()).map_err(|_| Failure::Malformed)?;
    let mut last = Failure::Timeout;
    for _ in 0..attempts.max(1) {
        match tokio::time::timeout(timeout, once(server, &owner, kind, recursion)).await {
            Ok(Ok(message)) => return Ok(Reply { message }),
            Ok(Err(failure)) => last = failure,
            Err(_) => last = Failure::Timeout,
        }
        if last == Failure::Unreachable {
            break;
        }
    }
    Err(last)
}

async fn once(
    server: SocketAddr,
    owner: &Name,
    kind: RecordType,
    recursion: bool,
) -> Result<Message, Failure> {
    let mut query = Message::new(random_id(), MessageType::Query, OpCode::Query);
    query.metadata.recursion_desired = recursion;
    query.add_query(Query::query(owner.clone(), kind));
    let mut edns = Edns::new();
    edns.set_max_payload(PAYLOAD);
    query.set_edns(edns);
    let bytes = query.to_vec().map_err(|_| Failure::Malformed)?;
    let answer = over_udp(server, &bytes, &query).await?;
    if !answer.metadata.truncation {
        return Ok(answer);
    }
    over_tcp(server, &bytes, &query).await
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
    let mut stream = TcpStream::connect(server).await.map_err(unreachable)?;
    let length = u16::try_from(bytes.len()).map_err(|_| Failure::Malformed)?;
    stream.write_all(&[&length.to_be_bytes(), bytes].concat()).await.map_err(unreachable)?;
    let length = stream.read_u16().await.map_err(unreachable)?;
    let mut answer = vec![0u8; usize::from(length)];
    stream.read_exact(&mut answer).await.map_err(unreachable)?;
    let message = Message::from_vec(&answer).map_err(|_| Failure::Malformed)?;
    if answers(&message, query) { Ok(message) } else { Err(Failure::Malformed) }
}

fn answers(message: &Message, query: &Message) -> bool {
    message.metadata.id == query.metadata.id
        && message.metadata.message_type == MessageType::Response
        && message.queries == query.queries
}

impl Reply {
    /// The outcome for a question. `authoritative` demands the AA bit.
    #[must_use]
    pub fn outcome(&self, name: &DnsName, kind: RecordType, authoritative: bool) -> Outcome {
        let message = &self.message;
        match message.metadata.response_code {
            ResponseCode::NoError | ResponseCode::NXDomain => {}
            ResponseCode::ServFail => return Outcome::Failed(Failure::ServFail),
            ResponseCode::Refused => return Outcome::Failed(Failure::Refused),
            ResponseCode::FormErr => return Outcome::Failed(Failure::Malformed),
            _ => return Outcome::Failed(Failure::OtherError),
        }
        if authoritative && !message.metadata.authoritative {
            return Outcome::Failed(Failure::Lame);
        }
        if let Some(found) = self.positive(name, kind) {
            return found;
        }
        let negative_ttl = self.negative_ttl().unwrap_or(0);
        match message.metadata.response_code {
            ResponseCode::NXDomain => Outcome::NxDomain { negative_ttl },
            _ => Outcome::NoData { negative_ttl },
        }
    }

    fn positive(&self, name: &DnsName, kind: RecordType) -> Option<Outcome> {
        let mut texts = Vec::new();
        let mut lowest = u32::MAX;
        for record in &self.message.answers {
            match &record.data {
                RData::CNAME(target) if kind == RecordType::CNAME && owner(record).as_ref() == Some(name) => {
                    let target = DnsName::new(target.0.to_ascii());
                    return Some(match target {
                        Ok(target) => Outcome::Cname { target, ttl: record.ttl },
                        Err(_) => Outcome::Failed(Failure::Malformed),
                    });
                }
                RData::TXT(txt) if kind == RecordType::TXT => {
                    let joined: Vec<u8> = txt.txt_data.iter().flat_map(|part| part.iter().copied()).collect();
                    texts.push(String::from_utf8_lossy(&joined).into_owned());
                    lowest = lowest.min(record.ttl);
                }
                _ => {}
            }
        }
        (!texts.is_empty()).then_some(Outcome::Txt { texts, ttl: lowest })
    }

    /// How long a negative answer may be remembered (RFC 2308 §5): the lesser of the SOA's TTL and its minimum.
    #[must_use]
    pub fn negative_ttl(&self) -> Option<u32> {
        let records = self.message.answers.iter().chain(&self.message.authorities);
        records.into_iter().find_map(|record| match &record.data {
            RData::SOA(soa) => Some(soa.minimum.min(record.ttl)),
            _ => None,
        })
    }

    /// The owner of the SOA in the answer: the zone the name is in.
    #[must_use]
    pub fn zone(&self) -> Option<DnsName> {
        let records = self.message.answers.iter().chain(&self.message.authorities);
        let soa = records.into_iter().find(|r| r.record_type() == RecordType::SOA)?;
        owner(soa)
    }

    /// The NS names at or above `name`, with the zone they serve, from answer and authority.
    #[must_use]
    pub fn name_servers(&self) -> Vec<(DnsName, DnsName)> {
        let records = self.message.answers.iter().chain(&self.message.authorities);
        records
            .filter(|record| record.dns_class == DNSClass::IN)
            .filter_map(|record| match &record.data {
                RData::NS(server) => Some((owner(record)?, DnsName::new(server.0.to_ascii()).ok()?)),
                _ => None,
            })
            .collect()
    }

    /// The addresses in the answer.
    #[must_use]
    pub fn addresses(&self) -> Vec<std::net::IpAddr> {
        let both = self.message.answers.iter();
        both.filter_map(|record| match &record.data {
            RData::A(address) => Some(address.0.into()),
            RData::AAAA(address) => Some(address.0.into()),
            _ => None,
        })
        .collect()
    }
}

fn owner(record: &Record) -> Option<DnsName> {
    DnsName::new(record.name.to_ascii()).ok()
}
