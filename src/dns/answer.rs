//! The reply to one packet, as a pure function of packet and snapshot.

use hickory_proto::op::{Edns, Header, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{HINFO, NS, SOA, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};

use super::zone::{Apex, Found, Snapshot, Text};
use crate::model::name::DnsName;
use crate::model::record::character_strings;

/// Largest UDP reply that is sent, and what EDNS offers: unfragmented everywhere (DNS flag day 2020).
const PAYLOAD: u16 = 1232;
/// Largest UDP reply without EDNS (RFC 1035 §4.2.1).
const PLAIN: u16 = 512;
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
#[must_use]
pub fn answer(packet: &[u8], snapshot: &Snapshot, transport: Transport) -> Option<Vec<u8>> {
    let header = Header::read(&mut BinDecoder::new(packet)).ok()?;
    if header.metadata.message_type != MessageType::Query {
        return None;
    }
    let Ok(request) = Message::from_vec(packet) else {
        let mut reply = Message::response(header.metadata.id, header.metadata.op_code);
        reply.metadata.recursion_desired = header.metadata.recursion_desired;
        reply.metadata.response_code = ResponseCode::FormErr;
        return reply.to_vec().ok();
    };
    let mut reply = Message::response(request.metadata.id, request.metadata.op_code);
    reply.metadata.recursion_desired = request.metadata.recursion_desired;
    for query in &request.queries {
        reply.add_query(query.clone());
    }
    let mut room = PLAIN;
    if let Some(edns) = &request.edns {
        room = edns.max_payload().clamp(PLAIN, PAYLOAD);
        let mut ours = Edns::new();
        ours.set_max_payload(PAYLOAD);
        reply.set_edns(ours);
    }
    match request.queries.as_slice() {
        _ if request.edns.as_ref().is_some_and(|edns| edns.version() > 0) => {
            reply.metadata.response_code = ResponseCode::BADVERS;
        }
        _ if request.metadata.op_code != OpCode::Query => reply.metadata.response_code = ResponseCode::NotImp,
        [query] if query.query_class() == DNSClass::IN => resolve(query, snapshot, &mut reply),
        [_] => reply.metadata.response_code = ResponseCode::Refused,
        _ => reply.metadata.response_code = ResponseCode::FormErr,
    }
    let bytes = reply.to_vec().ok()?;
    if transport == Transport::Tcp || bytes.len() <= usize::from(room) {
        return Some(bytes);
    }
    // Cut to nothing rather than to a part of a key: the client comes again over TCP (RFC 2181 §9).
    reply.answers.clear();
    reply.authorities.clear();
    reply.metadata.truncation = true;
    reply.to_vec().ok()
}

fn resolve(query: &Query, snapshot: &Snapshot, reply: &mut Message) {
    let owner = query.name();
    let Ok(name) = DnsName::new(owner.to_ascii()) else {
        // Names with odd bytes are none of ours; whether they are below a zone of ours does not matter to anybody.
        reply.metadata.response_code = ResponseCode::Refused;
        return;
    };
    let kind = query.query_type();
    let found = snapshot.find(&name);
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
            // RFC 8482 §4.2.
            let hinfo = HINFO::new("RFC8482".to_owned(), String::new());
            reply.add_answer(Record::from_rdata(owner.clone(), text.ttl, RData::HINFO(hinfo)));
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
        Found::Apex { apex, name } => negative(reply, &name, apex, snapshot.serial),
        Found::Text { zone, apex, .. } | Found::Between { zone, apex } => {
            negative(reply, &zone, apex, snapshot.serial);
        }
        Found::Nothing { zone, apex } => {
            reply.metadata.response_code = ResponseCode::NXDomain;
            negative(reply, &zone, apex, snapshot.serial);
        }
    }
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
