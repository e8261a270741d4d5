//! What a server's message says.

use std::net::IpAddr;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{DNSClass, RData, Record, RecordType};

use crate::model::name::DnsName;
use crate::model::sighting::{Failure, Outcome};

/// Most TXT records read from one name: a receiver takes one, more are a fault.
const MAX_TEXTS: usize = 8;
/// Most characters of a target that is no name that are kept.
const MAX_ODD: usize = 300;

/// What a server said.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The whole message.
    pub message: Message,
}

/// What one of a zone's own servers says of a step down to `candidate`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delegation {
    /// A zone begins there, with these servers and for so many seconds.
    Cut {
        /// The servers' names.
        servers: Vec<DnsName>,
        /// Seconds.
        ttl: u32,
    },
    /// No zone begins there.
    None {
        /// Seconds for which that may be remembered.
        ttl: u32,
    },
    /// The name is not there.
    Absent {
        /// Seconds for which that may be remembered.
        ttl: u32,
    },
    /// Nothing that proves anything.
    Failed(Failure),
}

impl Reply {
    /// Takes a message.
    #[must_use]
    pub fn new(message: Message) -> Self {
        Self { message }
    }

    fn answers(&self) -> impl Iterator<Item = &Record> {
        self.message.answers.iter().filter(|record| record.dns_class == DNSClass::IN)
    }

    /// Whether the resolver has validated the answer: the AD bit (RFC 4035 §3.2.3).
    #[must_use]
    pub fn is_validated(&self) -> bool {
        self.message.metadata.authentic_data
    }

    /// Why it proves nothing, if so. `authoritative` demands the AA bit.
    #[must_use]
    pub fn failure(&self, authoritative: bool) -> Option<Failure> {
        match self.message.metadata.response_code {
            ResponseCode::NoError | ResponseCode::NXDomain => {
                (authoritative && !self.message.metadata.authoritative).then_some(Failure::Lame)
            }
            ResponseCode::ServFail => Some(Failure::ServFail),
            ResponseCode::Refused => Some(Failure::Refused),
            ResponseCode::FormErr => Some(Failure::Malformed),
            _ => Some(Failure::OtherError),
        }
    }

    /// What is at `name` by way of a CNAME, whatever type was asked for.
    #[must_use]
    pub fn cname(&self, name: &DnsName, authoritative: bool) -> Outcome {
        if let Some(failure) = self.failure(authoritative) {
            return Outcome::Failed(failure);
        }
        let mut own = self.answers().filter(|record| owner(record).as_ref() == Some(name));
        let cname = own.find_map(|record| match &record.data {
            RData::CNAME(target) => Some((target.0.to_ascii(), record.ttl)),
            _ => None,
        });
        match cname {
            Some((target, ttl)) => match DnsName::new(&target) {
                Ok(target) => Outcome::Cname { target, ttl },
                Err(_) => Outcome::OddCname { target: target.chars().take(MAX_ODD).collect(), ttl },
            },
            None => self.negative(name),
        }
    }

    /// The TXTs at `name` itself, CNAMEs not followed.
    #[must_use]
    pub fn txt(&self, name: &DnsName, authoritative: bool) -> Outcome {
        if let Some(failure) = self.failure(authoritative) {
            return Outcome::Failed(failure);
        }
        let (mut texts, mut lowest) = (Vec::new(), u32::MAX);
        for record in self.answers().filter(|record| owner(record).as_ref() == Some(name)) {
            if let RData::TXT(txt) = &record.data
                && texts.len() < MAX_TEXTS
            {
                let joined: Vec<u8> = txt.txt_data.iter().flat_map(|part| part.iter().copied()).collect();
                texts.push(String::from_utf8_lossy(&joined).into_owned());
                lowest = lowest.min(record.ttl);
            }
        }
        if texts.is_empty() { self.negative(name) } else { Outcome::Txt { texts, ttl: lowest } }
    }

    /// The TXTs in the answer, wherever the CNAMEs of it have led.
    #[must_use]
    pub fn outcome(&self, name: &DnsName, kind: RecordType, authoritative: bool) -> Outcome {
        if kind == RecordType::CNAME {
            return self.cname(name, authoritative);
        }
        let ends = |record: &&Record| record.record_type() == kind;
        let end = self.answers().find(ends).and_then(owner).unwrap_or_else(|| name.clone());
        match self.txt(&end, authoritative) {
            // NXDOMAIN at the end of a chain is what a receiver gets.
            Outcome::NoData { negative_ttl }
                if self.message.metadata.response_code == ResponseCode::NXDomain =>
            {
                Outcome::NxDomain { negative_ttl }
            }
            outcome => outcome,
        }
    }

    /// What a message without the record at `name` says. NXDOMAIN at the end of a chain of CNAMEs speaks of its
    /// last name alone (RFC 6604 §3).
    fn negative(&self, name: &DnsName) -> Outcome {
        let negative_ttl = self.negative_ttl().unwrap_or(0);
        let there = self.answers().any(|record| owner(record).as_ref() == Some(name));
        match self.message.metadata.response_code {
            ResponseCode::NXDomain if !there => Outcome::NxDomain { negative_ttl },
            _ => Outcome::NoData { negative_ttl },
        }
    }

    /// The owner of the SOA in the answer: the zone the name is in.
    #[must_use]
    pub fn zone(&self) -> Option<DnsName> {
        self.answers()
            .chain(&self.message.authorities)
            .find(|r| r.record_type() == RecordType::SOA)
            .and_then(owner)
    }

    /// How long a negative answer may be remembered (RFC 2308 §5): the lesser of the SOA's TTL and its minimum.
    #[must_use]
    pub fn negative_ttl(&self) -> Option<u32> {
        self.answers().chain(&self.message.authorities).find_map(|record| match &record.data {
            RData::SOA(soa) => Some(soa.minimum.min(record.ttl)),
            _ => None,
        })
    }

    /// What a server of the zone above says to the question for the name servers of `candidate`.
    #[must_use]
    pub fn delegation(&self, candidate: &DnsName) -> Delegation {
        match self.failure(false) {
            Some(failure) => return Delegation::Failed(failure),
            None if !self.message.metadata.authoritative => {}
            None if self.message.metadata.response_code == ResponseCode::NXDomain => {
                return Delegation::Absent { ttl: self.negative_ttl().unwrap_or(0) };
            }
            None => {}
        }
        let (servers, ttl) = self.name_servers(candidate);
        if !servers.is_empty() {
            return Delegation::Cut { servers, ttl };
        }
        if self.message.metadata.authoritative {
            Delegation::None { ttl: self.negative_ttl().unwrap_or(0) }
        } else {
            Delegation::Failed(Failure::Lame)
        }
    }

    /// The name servers of exactly this zone, in answer or authority section, and their TTL.
    #[must_use]
    pub fn name_servers(&self, zone: &DnsName) -> (Vec<DnsName>, u32) {
        self.servers_of(|record| owner(record).as_ref() == Some(zone))
    }

    /// The name servers of the root.
    #[must_use]
    pub fn root_servers(&self) -> (Vec<DnsName>, u32) {
        self.servers_of(|record| record.name.is_root())
    }

    fn servers_of(&self, wanted: impl Fn(&Record) -> bool) -> (Vec<DnsName>, u32) {
        let (mut servers, mut lowest) = (Vec::new(), u32::MAX);
        let both = self.answers().chain(&self.message.authorities);
        for record in both.filter(|record| record.dns_class == DNSClass::IN && wanted(record)) {
            if let RData::NS(server) = &record.data
                && let Ok(server) = DnsName::new(server.0.to_ascii())
            {
                servers.push(server);
                lowest = lowest.min(record.ttl);
            }
        }
        servers.sort();
        servers.dedup();
        (servers, if lowest == u32::MAX { 0 } else { lowest })
    }

    /// The addresses of `name`, in the answer and where `glue` in the additional section, CNAMEs not followed.
    #[must_use]
    pub fn addresses(&self, name: &DnsName, glue: bool) -> Vec<IpAddr> {
        let more = self.message.additionals.iter().filter(|_| glue);
        let own = self.answers().chain(more).filter(|record| owner(record).as_ref() == Some(name));
        own.filter_map(|record| match &record.data {
            RData::A(address) => Some(address.0.into()),
            RData::AAAA(address) => Some(address.0.into()),
            _ => None,
        })
        .collect()
    }

    /// The addresses at the end of a resolver's answer, whatever CNAMEs it has followed.
    #[must_use]
    pub fn resolved_addresses(&self, kind: RecordType) -> Vec<IpAddr> {
        let all = self.answers().filter(|record| record.record_type() == kind);
        all.filter_map(|record| match &record.data {
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

#[cfg(test)]
mod tests {
    use hickory_proto::op::{MessageType, OpCode, Query};
    use hickory_proto::rr::Name;
    use hickory_proto::rr::rdata::{A, CNAME, NS, SOA, TXT};
    use proptest::prelude::*;

    use super::*;

    fn wire(name: &str) -> Name {
        Name::from_ascii(name).unwrap()
    }

    fn name(text: &str) -> DnsName {
        DnsName::new(text).unwrap()
    }

    fn message(code: ResponseCode, authoritative: bool, answers: &[(&str, RData)]) -> Message {
        let mut message = Message::new(1, MessageType::Response, OpCode::Query);
        message.metadata.response_code = code;
        message.metadata.authoritative = authoritative;
        message.add_query(Query::query(wire("s._domainkey.contoso.com."), RecordType::TXT));
        for (owner, data) in answers {
            message.answers.push(Record::from_rdata(wire(owner), 300, data.clone()));
        }
        let soa = SOA::new(wire("ns1.contoso.com."), wire("h.contoso.com."), 1, 2, 3, 4, 60);
        message.authorities.push(Record::from_rdata(wire("contoso.com."), 600, RData::SOA(soa)));
        message
    }

    const ALIAS: &str = "s._domainkey.contoso.com.";

    fn cname(target: &str) -> RData {
        RData::CNAME(CNAME(wire(target)))
    }

    fn txt(parts: &[&str]) -> RData {
        RData::TXT(TXT::new(parts.iter().map(ToString::to_string).collect()))
    }

    #[test]
    fn tells_a_cname_from_what_is_behind_it() {
        let there = [(ALIAS, cname("t.onmail.example.")), ("t.onmail.example.", txt(&["v=DKIM1; ", "p=QQ"]))];
        let reply = Reply::new(message(ResponseCode::NoError, true, &there));
        let target = name("t.onmail.example");
        assert_eq!(reply.cname(&name(ALIAS), true), Outcome::Cname { target: target.clone(), ttl: 300 });
        assert_eq!(reply.txt(&name(ALIAS), true), Outcome::NoData { negative_ttl: 60 });
        assert_eq!(reply.txt(&target, true), Outcome::Txt { texts: vec!["v=DKIM1; p=QQ".into()], ttl: 300 });
        // NXDOMAIN speaks of the end of the chain, not of its beginning.
        let reply = Reply::new(message(ResponseCode::NXDomain, true, &there[..1]));
        assert_eq!(reply.cname(&name(ALIAS), true), Outcome::Cname { target: target.clone(), ttl: 300 });
        assert_eq!(reply.txt(&name(ALIAS), true), Outcome::NoData { negative_ttl: 60 });
        assert_eq!(reply.txt(&target, true), Outcome::NxDomain { negative_ttl: 60 });
        // Without authority it proves nothing.
        let lame = Reply::new(message(ResponseCode::NoError, false, &there));
        assert_eq!(lame.cname(&name(ALIAS), true), Outcome::Failed(Failure::Lame));
        assert!(matches!(lame.cname(&name(ALIAS), false), Outcome::Cname { .. }));
    }

    #[test]
    fn a_referral_is_believed_for_the_zone_it_was_asked_for() {
        let mut referral = message(ResponseCode::NoError, false, &[]);
        referral.authorities.clear();
        let ns = |zone: &str| Record::from_rdata(wire(zone), 120, RData::NS(NS(wire("ns1.contoso.com."))));
        referral.authorities.push(ns("contoso.com."));
        let reply = Reply::new(referral.clone());
        let servers = vec![name("ns1.contoso.com")];
        assert_eq!(reply.delegation(&name("contoso.com")), Delegation::Cut { servers, ttl: 120 });
        // Upwards or sideways it leads nowhere.
        referral.authorities = vec![ns("com."), ns("fabrikam.com.")];
        assert_eq!(Reply::new(referral).delegation(&name("contoso.com")), Delegation::Failed(Failure::Lame));
        let none = Reply::new(message(ResponseCode::NoError, true, &[]));
        assert_eq!(none.delegation(&name("contoso.com")), Delegation::None { ttl: 60 });
        let absent = Reply::new(message(ResponseCode::NXDomain, true, &[]));
        assert_eq!(absent.delegation(&name("contoso.com")), Delegation::Absent { ttl: 60 });
    }

    proptest! {
        #[test]
        fn nothing_that_a_server_sends_can_hurt(
            noise in proptest::collection::vec(any::<u8>(), 0..600),
            flips in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..8),
        ) {
            let quoted = Name::from_labels([&b"\"t\""[..], b"onmail", b"example"]).unwrap();
            let mut packet = message(ResponseCode::NoError, true, &[
                (ALIAS, RData::CNAME(CNAME(quoted))),
                (ALIAS, txt(&["v=DKIM1", "\u{0}\u{ff}"])),
                ("contoso.com.", RData::NS(NS(wire("ns1.contoso.com.")))),
                ("ns1.contoso.com.", RData::A(A::new(192, 0, 2, 1))),
            ]).to_vec().unwrap();
            for (at, value) in flips {
                let length = packet.len();
                packet[at % length] = value;
            }
            for packet in [noise, packet] {
                let Ok(message) = Message::from_vec(&packet) else { continue };
                let reply = Reply::new(message);
                for authoritative in [true, false] {
                    let _ = reply.cname(&name(ALIAS), authoritative);
                    if let Outcome::Txt { texts, .. } = reply.txt(&name(ALIAS), authoritative) {
                        prop_assert!(texts.len() <= MAX_TEXTS);
                    }
                }
                let _ = reply.delegation(&name("contoso.com"));
                let _ = reply.root_servers();
                let _ = reply.addresses(&name("ns1.contoso.com"), true);
                let _ = reply.resolved_addresses(RecordType::A);
            }
        }
    }
}
