//! The reply to one query, written into a buffer that is used again and again: nothing is allocated, nothing is locked.

use std::net::IpAddr;

use super::cookies::Cookies;
use super::limit::Sort;
use super::query::{Cookie, Edns, HEADER, Head, IN, Query, Unfit, code, kind, read};
use super::snapshot::{Found, Snapshot, Text, Zone};

/// Largest UDP reply that is sent, and what EDNS offers: unfragmented everywhere (DNS flag day 2020).
pub const PAYLOAD: u16 = 1232;
/// Largest UDP reply without EDNS (RFC 1035 §4.2.1).
const PLAIN: u16 = 512;
/// TTL of the SOA in seconds.
pub const APEX_TTL: u32 = 3600;
/// TTL of the NS in seconds. Resolvers go by it rather than by the delegation's (RFC 2181 §5.4.1): while a zone moves to other
/// servers they come here for so long. A question for each resolver and five minutes is no load.
pub const NS_TTL: u32 = 300;
/// A pointer to the name in the question.
const TO_QUESTION: [u8; 2] = [0xc0, 12];
/// Seconds after which secondaries refresh, try again and give up (RFC 1035 §3.3.13).
const TIMES: [u32; 3] = [3600, 600, 604_800];

/// How a packet came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    /// Its reply is cut to what the client can take.
    Udp,
    /// Its reply is whole.
    Tcp,
}

/// Who asks, and when.
#[derive(Debug, Clone, Copy)]
pub struct Asker {
    /// The client's address.
    pub ip: IpAddr,
    /// How the query came.
    pub transport: Transport,
    /// Seconds since 1970.
    pub now: u32,
}

/// What was replied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// The response code.
    pub code: u16,
    /// The type asked for; none where there was no question.
    pub kind: Option<u16>,
    /// The reply is cut: it says that it is truncated.
    pub truncated: bool,
    /// For limiting.
    pub sort: Sort,
    /// The client has proven its address.
    pub proven: bool,
    question_end: usize,
    opt: usize,
}

/// Answers a packet. `None`, and nothing written, where it deserves no answer: a response, or too short to be a
/// message.
pub fn answer(
    packet: &[u8],
    snapshot: &Snapshot,
    cookies: &Cookies,
    asker: &Asker,
    out: &mut Vec<u8>,
) -> Option<Told> {
    match read(packet) {
        Ok(query) => Some(resolve(&query, snapshot, cookies, asker, 0, out)),
        Err(unfit) => refuse_unfit(unfit, cookies, asker, out),
    }
}

/// Answers what is no query.
pub fn refuse_unfit(unfit: Unfit, cookies: &Cookies, asker: &Asker, out: &mut Vec<u8>) -> Option<Told> {
    out.clear();
    let Unfit::Told { head, code, edns } = unfit else { return None };
    let mut draft = Draft::begin(out, head, edns, cookies, asker);
    draft.code = code;
    Some(draft.end(None, Sort::Fault))
}

/// Answers a query; `reserve` bytes of a UDP reply are left for what comes after it.
pub fn resolve(
    query: &Query<'_>,
    snapshot: &Snapshot,
    cookies: &Cookies,
    asker: &Asker,
    reserve: usize,
    out: &mut Vec<u8>,
) -> Told {
    let mut draft = Draft::begin(out, query.head, query.edns, cookies, asker);
    draft.question(query);
    let sort = if query.edns.is_some_and(|edns| edns.version > 0) {
        draft.code = code::BAD_VERS;
        Sort::Fault
    } else if query.class == IN {
        look_up(query, snapshot, &mut draft)
    } else {
        draft.code = code::REFUSED;
        Sort::Fault
    };
    if asker.transport == Transport::Udp {
        let room = query.edns.map_or(PLAIN, |edns| edns.payload.clamp(PLAIN, PAYLOAD));
        draft.cut_to(usize::from(room).saturating_sub(reserve));
    }
    draft.end(Some(query.kind), sort)
}

/// Answers a query with a code and nothing else.
pub fn refuse(query: &Query<'_>, code: u16, cookies: &Cookies, asker: &Asker, out: &mut Vec<u8>) -> Told {
    let mut draft = Draft::begin(out, query.head, query.edns, cookies, asker);
    draft.question(query);
    draft.code = code;
    draft.end(Some(query.kind), Sort::Fault)
}

/// Takes the records out of a reply, so that the client comes again over TCP.
pub fn cut(out: &mut Vec<u8>, told: &mut Told) {
    let opt = out.len().saturating_sub(told.opt);
    if told.opt >= told.question_end && told.opt <= out.len() {
        out.copy_within(told.opt.., told.question_end);
        out.truncate(told.question_end + opt);
    }
    if let Some([_, _, flags, _, _, _, counts @ ..]) = out.first_chunk_mut::<10>() {
        *flags |= 2;
        *counts = [0; 4];
    }
    told.truncated = true;
}

fn look_up(query: &Query<'_>, snapshot: &Snapshot, draft: &mut Draft<'_>) -> Sort {
    let hash = snapshot.hash(query.name.wire());
    let found = snapshot.find(&query.name, hash);
    if matches!(found, Found::Elsewhere) || matches!(query.kind, kind::AXFR | kind::IXFR) {
        draft.code = code::REFUSED;
        return Sort::Fault;
    }
    draft.authoritative = true;
    match (found, query.kind) {
        (Found::Text(text), kind::TXT) => draft.text(text),
        (Found::Text(text), kind::ANY) => draft.minimal(text.ttl()),
        (Found::Apex(_), kind::ANY) => draft.minimal(APEX_TTL),
        (Found::Apex(zone), kind::SOA) => draft.soa(query, zone, APEX_TTL, Section::Answer),
        (Found::Apex(zone), kind::NS) if !zone.name_servers.is_empty() => draft.name_servers(zone),
        // DS is the parent's to deny, where that is ours as well (RFC 4035 §3.1.4.1).
        (Found::Apex(zone), kind::DS) => {
            let above = snapshot.zone_above(query.name.wire());
            return deny(query, snapshot, above.map_or(zone, |above| above), draft);
        }
        (Found::Apex(zone), _) => return deny(query, snapshot, zone, draft),
        (Found::Text(_), _) => {
            let Some(zone) = snapshot.zone_of(query.name.wire()) else { return fail(draft) };
            return deny(query, snapshot, zone, draft);
        }
        (Found::Between(_) | Found::Nothing(_), _) if snapshot.unsure => return fail(draft),
        (Found::Between(zone), _) => return deny(query, snapshot, zone, draft),
        (Found::Nothing(zone), _) => {
            draft.code = code::NX_DOMAIN;
            return deny(query, snapshot, zone, draft);
        }
        (Found::Elsewhere, _) => {}
    }
    Sort::Records(hash)
}

fn deny(query: &Query<'_>, snapshot: &Snapshot, zone: &Zone, draft: &mut Draft<'_>) -> Sort {
    // The SOA's own TTL is what many resolvers go by, so it is the minimum as well (RFC 2308 §3).
    draft.soa(query, zone, zone.negative_ttl.min(APEX_TTL), Section::Authority);
    Sort::Denial(snapshot.hash(&zone.name))
}

fn fail(draft: &mut Draft<'_>) -> Sort {
    draft.authoritative = false;
    draft.code = code::SERV_FAIL;
    Sort::Fault
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Section {
    Answer,
    Authority,
}

/// A reply that is being written: header and question first, then records, then EDNS.
struct Draft<'b> {
    out: &'b mut Vec<u8>,
    edns: Option<(Edns, Option<[u8; 16]>)>,
    proven: bool,
    code: u16,
    authoritative: bool,
    truncated: bool,
    questions: u8,
    answers: u16,
    authorities: u16,
    question_end: usize,
}

impl<'b> Draft<'b> {
    fn begin(out: &'b mut Vec<u8>, head: Head, edns: Option<Edns>, cookies: &Cookies, asker: &Asker) -> Self {
        out.clear();
        let [high, low] = head.id;
        out.extend_from_slice(&[high, low, 0x80 | head.flags, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let mut proven = false;
        let edns = edns.map(|edns| {
            let ours = edns.cookie.map(|cookie: Cookie| {
                proven = cookies.proves(&cookie, asker.ip, asker.now);
                cookies.make(cookie.client, asker.ip, asker.now)
            });
            (edns, ours)
        });
        Self {
            out,
            edns,
            proven,
            code: code::NO_ERROR,
            authoritative: false,
            truncated: false,
            questions: 0,
            answers: 0,
            authorities: 0,
            question_end: HEADER,
        }
    }

    /// Repeats the question, with the letters as they came.
    fn question(&mut self, query: &Query<'_>) {
        let question = query.packet.get(HEADER..query.question_end).unwrap_or_default();
        self.out.extend_from_slice(question);
        self.questions = 1;
        self.question_end = self.out.len();
    }

    fn text(&mut self, text: &Text) {
        self.out.extend_from_slice(&TO_QUESTION);
        self.out.extend_from_slice(&text.record);
        self.answers += 1;
    }

    /// The short answer to ANY (RFC 8482 §4.2).
    fn minimal(&mut self, ttl: u32) {
        let data = b"\x07RFC8482\0";
        self.record(&TO_QUESTION, kind::HINFO, ttl, data.len());
        self.out.extend_from_slice(data);
        self.answers += 1;
    }

    fn name_servers(&mut self, zone: &Zone) {
        for server in &zone.name_servers {
            self.record(&TO_QUESTION, kind::NS, NS_TTL, server.len());
            self.out.extend_from_slice(server);
            self.answers += 1;
        }
    }

    /// The SOA of a zone that the question's name is in.
    fn soa(&mut self, query: &Query<'_>, zone: &Zone, ttl: u32, section: Section) {
        let pointer = zone_pointer(query, zone);
        self.record(&pointer, kind::SOA, ttl, 0);
        write_soa_data(self.out, zone.primary(), &pointer, zone.serial, zone.negative_ttl);
        match section {
            Section::Answer => self.answers += 1,
            Section::Authority => self.authorities += 1,
        }
    }

    fn record(&mut self, owner: &[u8], kind: u16, ttl: u32, length: usize) {
        write_record(self.out, owner, kind, ttl, length);
    }

    fn opt_length(&self) -> usize {
        match self.edns {
            None => 0,
            Some((_, None)) => 11,
            Some((_, Some(_))) => 11 + 28,
        }
    }

    /// Cut to nothing rather than to a part of a key: the client comes again over TCP (RFC 2181 §9).
    fn cut_to(&mut self, room: usize) {
        if self.out.len() + self.opt_length() > room {
            self.out.truncate(self.question_end);
            (self.answers, self.authorities, self.truncated) = (0, 0, true);
        }
    }

    fn end(self, kind: Option<u16>, sort: Sort) -> Told {
        let opt = self.out.len();
        if let Some((edns, cookie)) = self.edns {
            let high = u8::try_from(self.code >> 4).unwrap_or(0);
            let [p, q] = PAYLOAD.to_be_bytes();
            let flags = if edns.dnssec_ok { 0x80 } else { 0 };
            let length = if cookie.is_some() { 28 } else { 0 };
            self.out.extend_from_slice(&[0, 0, 41, p, q, high, 0, flags, 0, 0, length]);
            if let (Some(client), Some(server)) = (edns.cookie, cookie) {
                self.out.extend_from_slice(&[0, 10, 0, 24]);
                self.out.extend_from_slice(&client.client);
                self.out.extend_from_slice(&server);
            }
        }
        let [a, b] = self.answers.to_be_bytes();
        let [c, d] = self.authorities.to_be_bytes();
        let e = u8::from(self.edns.is_some());
        if let Some([_, _, flags, low, counts @ ..]) = self.out.first_chunk_mut::<HEADER>() {
            *flags |= (u8::from(self.authoritative) << 2) | (u8::from(self.truncated) << 1);
            *low = u8::try_from(self.code & 15).unwrap_or(0);
            *counts = [0, self.questions, a, b, c, d, 0, e];
        }
        Told {
            code: self.code,
            kind,
            truncated: self.truncated,
            sort,
            proven: self.proven,
            question_end: self.question_end,
            opt,
        }
    }
}

/// Points to a zone's name at the end of the question's name, which is in the zone.
#[must_use]
pub fn zone_pointer(query: &Query<'_>, zone: &Zone) -> [u8; 2] {
    let at = HEADER + query.name.wire().len().saturating_sub(zone.name.len());
    (0xc000 | u16::try_from(at).unwrap_or(0)).to_be_bytes()
}

/// Writes a record up to its data, which has `length` bytes.
pub fn write_record(out: &mut Vec<u8>, owner: &[u8], kind: u16, ttl: u32, length: usize) {
    out.extend_from_slice(owner);
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&IN.to_be_bytes());
    out.extend_from_slice(&ttl.to_be_bytes());
    out.extend_from_slice(&u16::try_from(length).unwrap_or(0).to_be_bytes());
}

/// Writes the data of an SOA, whose length was written as 0 right before; `zone` is a pointer to its name.
pub fn write_soa_data(out: &mut Vec<u8>, primary: &[u8], zone: &[u8; 2], serial: u32, negative_ttl: u32) {
    let start = out.len();
    out.extend_from_slice(primary);
    out.extend_from_slice(b"\x0ahostmaster");
    out.extend_from_slice(zone);
    let [refresh, retry, expire] = TIMES;
    for number in [serial, refresh, retry, expire, negative_ttl] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    let length = u16::try_from(out.len() - start).unwrap_or(0);
    if let Some(place) = start.checked_sub(2).and_then(|at| out.get_mut(at..start)) {
        place.copy_from_slice(&length.to_be_bytes());
    }
}

#[cfg(test)]
mod tests;
