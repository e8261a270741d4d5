//! The reply to one packet, as a pure function of packet and snapshot.

use hickory_proto::op::{Edns, Header, HeaderCounts, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{HINFO, NS, SOA, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder, EncodedSize};

use super::zone::{Apex, Found, Snapshot, Text};
use crate::model::name::DnsName;
use crate::model::record::character_strings;

/// Largest UDP reply that is sent, and what EDNS offers: unfragmented everywhere (DNS flag day 2020).
const PAYLOAD: u16 = 1232;
/// Largest UDP reply without EDNS (RFC 1035 §4.2.1).
const PLAIN: u16 = 512;
/// Least bytes of a question: a name, type and class.
const MIN_QUESTION: usize = 5;
/// Least bytes of a record: a name, type, class, TTL and length.
const MIN_RECORD: usize = 11;
/// TTL of SOA and NS in seconds.
const APEX_TTL: u32 = 3600;

/// How a packet came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Its reply is cut to what the client can take.
    Udp,
    /// Its reply is whole.
    Tcp,
}

/// Answers a packet. `None` where it deserves no answer: a response, or too short to be a message.
///
/// The reply of a fault in the query is a header, without question (RFC 8906 §3.1.4); its id and RD are the query's.
#[must_use]
pub fn answer(packet: &[u8], snapshot: &Snapshot, transport: Transport) -> Option<Vec<u8>> {
    let Header { metadata: asked, counts } = Header::read(&mut BinDecoder::new(packet)).ok()?;
    if asked.message_type != MessageType::Query {
        return None;
    }
    let mut reply = Message::response(asked.id, asked.op_code);
    reply.metadata.recursion_desired = asked.recursion_desired;
    // What follows the header of another opcode need not look like a query at all.
    if asked.op_code != OpCode::Query {
        return fault(reply, ResponseCode::NotImp);
    }
    let Some(request) = read(packet, counts) else { return fault(reply, ResponseCode::FormErr) };
    let mut room = PLAIN;
    if let Some(edns) = &request.edns {
        room = edns.max_payload().clamp(PLAIN, PAYLOAD);
        let mut ours = Edns::new();
        ours.set_max_payload(PAYLOAD).set_dnssec_ok(edns.flags().dnssec_ok);
        reply.set_edns(ours);
    }
    // One question and no other number of them (RFC 9619).
    let [query] = request.queries.as_slice() else { return fault(reply, ResponseCode::FormErr) };
    reply.add_query(query.clone());
    if request.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
        reply.metadata.response_code = ResponseCode::BADVERS;
    } else if query.query_class() == DNSClass::IN {
        resolve(query, snapshot, &mut reply);
    } else {
        reply.metadata.response_code = ResponseCode::Refused;
    }
    let Ok(bytes) = reply.to_vec() else {
        reply.answers.clear();
        reply.authorities.clear();
        return fault(reply, ResponseCode::ServFail);
    };
    if transport == Transport::Tcp || bytes.len() <= usize::from(room) {
        return Some(bytes);
    }
    // Cut to nothing rather than to a part of a key: the client comes again over TCP (RFC 2181 §9).
    reply.answers.clear();
    reply.authorities.clear();
    reply.metadata.truncation = true;
    reply.to_vec().ok()
}

/// Reads a query. `None` where it is malformed.
fn read(packet: &[u8], counts: HeaderCounts) -> Option<Message> {
    let HeaderCounts { queries, answers, authorities, additionals } = counts;
    let records = [answers, authorities, additionals].map(usize::from).iter().sum::<usize>();
    // A header that promises more than there is room for gets no memory set aside for it.
    if Header::LEN + usize::from(queries) * MIN_QUESTION + records * MIN_RECORD > packet.len() {
        return None;
    }
    Message::from_vec(packet).ok()
}

fn fault(mut reply: Message, code: ResponseCode) -> Option<Vec<u8>> {
    reply.metadata.response_code = code;
    reply.to_vec().ok()
}

/// What is at a name as it came. Names of ours have plain labels only: one with any other byte in a label is not
/// there, and whether it would be in a zone of ours is for the labels after that one to say.
fn find<'a>(owner: &Name, snapshot: &'a Snapshot) -> Found<'a> {
    let labels: Vec<Option<&str>> = owner.iter().map(plain).collect();
    let odd = labels.iter().rposition(Option::is_none);
    let rest: Vec<&str> = labels.iter().skip(odd.map_or(0, |at| at + 1)).flatten().copied().collect();
    // The root, or nothing plain at the end.
    let Ok(name) = DnsName::new(rest.join(".")) else { return Found::Elsewhere };
    match snapshot.find(&name) {
        Found::Elsewhere => Found::Elsewhere,
        found if odd.is_none() => found,
        Found::Apex { name: zone, apex }
        | Found::Text { zone, apex, .. }
        | Found::Between { zone, apex }
        | Found::Nothing { zone, apex } => Found::Nothing { zone, apex },
    }
}

fn plain(label: &[u8]) -> Option<&str> {
    let label = std::str::from_utf8(label).ok()?;
    (!label.contains('.') && DnsName::new(label).is_ok()).then_some(label)
}

fn resolve(query: &Query, snapshot: &Snapshot, reply: &mut Message) {
    let owner = query.name();
    let kind = query.query_type();
    let found = find(owner, snapshot);
    if found == Found::Elsewhere || matches!(kind, RecordType::AXFR | RecordType::IXFR) {
        reply.metadata.response_code = ResponseCode::Refused;
        return;
    }
    reply.metadata.authoritative = true;
    match found {
        Found::Elsewhere => {}
        Found::Text { text, .. } if kind == RecordType::TXT => {
            reply.add_answer(txt(owner, text));
        }
        Found::Text { text, .. } if kind == RecordType::ANY => {
            reply.add_answer(minimal(owner, text.ttl));
        }
        Found::Apex { .. } if kind == RecordType::ANY => {
            reply.add_answer(minimal(owner, APEX_TTL));
        }
        Found::Apex { apex, name } if kind == RecordType::SOA => {
            reply.add_answer(soa(&name, apex, snapshot.serial, APEX_TTL));
        }
        Found::Apex { apex, .. } if kind == RecordType::NS && !apex.name_servers.is_empty() => {
            for server in &apex.name_servers {
                if let Ok(server) = Name::from_ascii(server.absolute()) {
                    reply.add_answer(Record::from_rdata(owner.clone(), APEX_TTL, RData::NS(NS(server))));
                }
            }
        }
        Found::Apex { apex, name } => {
            // DS is the parent's to deny, where that is ours as well (RFC 4035 §3.1.4.1).
            let above = snapshot.above(&name).filter(|_| kind == RecordType::DS);
            let (zone, apex) = above.unwrap_or((name, apex));
            negative(reply, &zone, apex, snapshot.serial);
        }
        Found::Text { zone, apex, .. } | Found::Between { zone, apex } => {
            negative(reply, &zone, apex, snapshot.serial);
        }
        Found::Nothing { zone, apex } => {
            reply.metadata.response_code = ResponseCode::NXDomain;
            negative(reply, &zone, apex, snapshot.serial);
        }
    }
}

/// The short answer to ANY (RFC 8482 §4.2).
fn minimal(owner: &Name, ttl: u32) -> Record {
    let hinfo = HINFO::new("RFC8482".to_owned(), String::new());
    Record::from_rdata(owner.clone(), ttl, RData::HINFO(hinfo))
}

fn negative(reply: &mut Message, zone: &DnsName, apex: &Apex, serial: u32) {
    // The SOA's own TTL is what many resolvers go by, so it is the minimum as well (RFC 2308 §3).
    reply.add_authority(soa(zone, apex, serial, apex.negative_ttl.min(APEX_TTL)));
}

fn txt(owner: &Name, text: &Text) -> Record {
    let strings = character_strings(&text.text).collect();
    Record::from_rdata(owner.clone(), text.ttl, RData::TXT(TXT::from_bytes(strings)))
}

fn soa(zone: &DnsName, apex: &Apex, serial: u32, ttl: u32) -> Record {
    let name = |text: String| Name::from_ascii(text).unwrap_or_else(|_| Name::root());
    let owner = name(zone.absolute());
    let first = apex.name_servers.first().map_or_else(|| zone.absolute(), DnsName::absolute);
    let hostmaster = name(format!("hostmaster.{}", zone.absolute()));
    let data = SOA::new(name(first), hostmaster, serial, 3600, 600, 604_800, apex.negative_ttl);
    Record::from_rdata(owner, ttl, RData::SOA(data))
}

#[cfg(test)]
mod tests;
