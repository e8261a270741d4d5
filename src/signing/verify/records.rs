//! Where a signature says its key is: the CNAMEs on the way, and what is at their end.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use hickory_proto::rr::{RData, RecordType};
use serde::Serialize;

use crate::lookup::{Reply, ask};
use crate::model::name::DnsName;
use crate::model::sighting::Outcome;

/// How long one server may take.
const TIMEOUT: Duration = Duration::from_secs(3);
/// How often one server is asked.
const ATTEMPTS: u32 = 2;
/// How many CNAMEs are followed in an answer; resolvers give up before that.
const MOST_HOPS: usize = 16;

/// One CNAME on the way to a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Hop {
    /// Where it is.
    pub name: String,
    /// Where it leads.
    pub target: String,
    /// For how many seconds resolvers remember it still.
    pub ttl: u32,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// A TXT record, its strings joined.
    Text { text: String, ttl: u32 },
    /// The name is there, or names below it are, but no TXT record.
    NoText,
    /// The name is not there.
    NoName,
    /// No answer; the words say which.
    NoAnswer(String),
}

/// The way to a key, and what is at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyAnswer {
    /// Where the signature says the key is.
    pub(super) name: String,
    pub(super) hops: Vec<Hop>,
    pub(super) found: Found,
}

impl KeyAnswer {
    /// The name at the end of the way.
    pub(super) fn end(&self) -> &str {
        self.hops.last().map_or(self.name.as_str(), |hop| hop.target.as_str())
    }
}

/// Whom to ask for keys.
pub(super) enum KeyRecords {
    /// These resolvers, one after the other.
    Servers(Vec<SocketAddr>),
    /// Nobody: these are all there are, by name.
    Table(HashMap<String, String>),
}

impl KeyRecords {
    /// Looks for the key of a signature.
    pub(super) async fn find(&self, s: &str, d: &str) -> KeyAnswer {
        let name = format!("{s}._domainkey.{d}").to_ascii_lowercase();
        let answer = |found| KeyAnswer { name: name.clone(), hops: Vec::new(), found };
        match self {
            Self::Table(table) => match table.get(name.trim_end_matches('.')) {
                Some(text) => answer(Found::Text { text: text.clone(), ttl: 0 }),
                None => answer(Found::NoName),
            },
            Self::Servers(servers) => {
                let Ok(owner) = DnsName::new(&name) else { return answer(Found::NoName) };
                let mut last = answer(Found::NoAnswer("there is no resolver to ask".to_owned()));
                for server in servers {
                    last = match ask(*server, &owner, RecordType::TXT, true, TIMEOUT, ATTEMPTS).await {
                        Ok(reply) => read(&name, &owner, *server, &reply),
                        Err(failure) => answer(Found::NoAnswer(format!("{server}: {failure}"))),
                    };
                    if !matches!(last.found, Found::NoAnswer(_)) {
                        break;
                    }
                }
                last
            }
        }
    }
}

fn read(name: &str, owner: &DnsName, server: SocketAddr, reply: &Reply) -> KeyAnswer {
    let found = match reply.outcome(owner, RecordType::TXT, false) {
        Outcome::Txt { texts, ttl } => {
            Found::Text { text: texts.into_iter().next().unwrap_or_default(), ttl }
        }
        Outcome::NxDomain { .. } => Found::NoName,
        Outcome::NoData { .. } | Outcome::Cname { .. } | Outcome::OddCname { .. } => Found::NoText,
        Outcome::Failed(failure) => Found::NoAnswer(format!("{server}: {failure}")),
    };
    KeyAnswer { name: name.to_owned(), hops: hops(name, reply), found }
}

fn hops(name: &str, reply: &Reply) -> Vec<Hop> {
    let bare = |text: String| text.trim_end_matches('.').to_ascii_lowercase();
    let mut hops: Vec<Hop> = Vec::new();
    let mut at = name.trim_end_matches('.').to_ascii_lowercase();
    while hops.len() < MOST_HOPS {
        let next = reply.message.answers.iter().find_map(|record| match &record.data {
            RData::CNAME(target) if bare(record.name.to_ascii()) == at => {
                Some(Hop { name: at.clone(), target: bare(target.0.to_ascii()), ttl: record.ttl })
            }
            _ => None,
        });
        let Some(hop) = next else { break };
        at.clone_from(&hop.target);
        hops.push(hop);
    }
    hops
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
    use hickory_proto::rr::rdata::{CNAME, TXT};
    use hickory_proto::rr::{Name, Record};

    const ALIAS: &str = "selector1._domainkey.contoso.com";
    const TARGET: &str = "selector1-contoso-com._domainkey.contoso.onmail.example";

    fn answer(code: ResponseCode, records: Vec<(&str, RData)>) -> KeyAnswer {
        let mut message = Message::new(1, MessageType::Response, OpCode::Query);
        message.metadata.response_code = code;
        for (name, data) in records {
            message.add_answer(Record::from_rdata(Name::from_ascii(format!("{name}.")).unwrap(), 60, data));
        }
        let server = "192.0.2.53:53".parse().unwrap();
        read(ALIAS, &DnsName::new(ALIAS).unwrap(), server, &Reply { message })
    }

    fn cname(target: &str) -> RData {
        RData::CNAME(CNAME(Name::from_ascii(format!("{target}.")).unwrap()))
    }

    #[test]
    fn the_way_is_followed_in_any_order() {
        let text = RData::TXT(TXT::new(vec!["v=DKIM1; ".to_owned(), "p=".to_owned()]));
        let found = answer(
            ResponseCode::NoError,
            vec![(TARGET, text), ("Middle.example", cname(TARGET)), (ALIAS, cname("middle.example"))],
        );
        let way: Vec<&str> = found.hops.iter().map(|hop| hop.target.as_str()).collect();
        assert_eq!(way, ["middle.example", TARGET]);
        assert_eq!(found.end(), TARGET);
        assert_eq!(found.found, Found::Text { text: "v=DKIM1; p=".to_owned(), ttl: 60 });
    }

    #[test]
    fn what_is_not_there_is_told_apart() {
        let gone = answer(ResponseCode::NXDomain, vec![(ALIAS, cname(TARGET))]);
        assert_eq!((gone.found, gone.hops.len()), (Found::NoName, 1));
        assert_eq!(answer(ResponseCode::NoError, vec![]).found, Found::NoText);
        assert!(matches!(answer(ResponseCode::ServFail, vec![]).found, Found::NoAnswer(_)));
        let looped = answer(ResponseCode::NoError, vec![(ALIAS, cname(ALIAS))]);
        assert_eq!(looped.hops.len(), MOST_HOPS);
    }
}
