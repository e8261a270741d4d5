//! What a look at DNS found: raw answers, server by server. What they prove is decided elsewhere, purely.

use std::net::SocketAddr;

use jiff::Timestamp;

use super::name::{DnsName, DomainName};
use super::selector::PerSlot;

/// What to look for, for one domain.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Question {
    /// The tenant's domain.
    pub domain: DomainName,
    /// Per slot, the names.
    pub slots: PerSlot<SlotQuestion>,
}

/// What to look for, for one slot.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SlotQuestion {
    /// Where the tenant's CNAME belongs: `selector1._domainkey.contoso.com`.
    pub alias: DnsName,
    /// What it must point at, and where our TXT is: `selector1-contoso-com._domainkey.contoso.onmail.example`.
    pub target: DnsName,
}

/// Everything one look found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// When the look began.
    pub at: Timestamp,
    /// Per slot, the answers.
    pub slots: PerSlot<SlotSighting>,
}

/// The answers for one slot. An empty list means that nobody could be asked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SlotSighting {
    /// To the CNAME question at the alias, CNAMEs not followed.
    pub alias: Vec<ServerAnswer>,
    /// To the TXT question at the alias; asked only where there is no CNAME (tells a TXT published in its place
    /// and a flattened CNAME).
    pub alias_txt: Vec<ServerAnswer>,
    /// To the CNAME question at `ALIAS.DOMAIN` (the zone appended twice); asked only where the alias is not there.
    pub doubled: Vec<ServerAnswer>,
    /// To the TXT question at the target.
    pub target_txt: Vec<ServerAnswer>,
    /// For how many seconds resolvers remember that a name of the tenant's zone is not there, where it is known.
    pub negative_ttl: Option<u32>,
}

/// One server's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerAnswer {
    /// The server's name where it was found by a delegation.
    pub name: Option<DnsName>,
    /// Its address.
    pub address: SocketAddr,
    /// How it was asked.
    pub role: ServerRole,
    /// What it said.
    pub outcome: Outcome,
}

/// How a server was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerRole {
    /// As one of the zone's own, without recursion.
    Authoritative,
    /// As a resolver, with recursion: what it says may be older by a TTL.
    Recursive,
}

/// What a server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// There is a CNAME.
    Cname {
        /// Where it points.
        target: DnsName,
        /// Seconds.
        ttl: u32,
    },
    /// There are TXT records, each with its character-strings joined.
    Txt {
        /// The texts.
        texts: Vec<String>,
        /// Seconds.
        ttl: u32,
    },
    /// The name is there, this type is not (RFC 2308 §2.2).
    NoData {
        /// For how many seconds a resolver remembers that.
        negative_ttl: u32,
    },
    /// The name is not there (RFC 2308 §2.1).
    NxDomain {
        /// For how many seconds a resolver remembers that.
        negative_ttl: u32,
    },
    /// No answer that proves anything.
    Failed(Failure),
}

/// Why an answer proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
pub enum Failure {
    /// No answer in time.
    #[error("did not answer in time")]
    Timeout,
    /// RCODE 2.
    #[error("answered SERVFAIL")]
    ServFail,
    /// RCODE 5.
    #[error("refused the query (REFUSED)")]
    Refused,
    /// Listed as authoritative, but is not.
    #[error("is not authoritative for the zone (lame delegation)")]
    Lame,
    /// Not to be understood.
    #[error("sent an answer that is malformed")]
    Malformed,
    /// The network said no.
    #[error("cannot be reached")]
    Unreachable,
    /// Any other RCODE.
    #[error("answered with an error")]
    OtherError,
}
