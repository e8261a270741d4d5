//! What a look at DNS found: raw answers, server by server. What they prove is decided elsewhere, purely.

use std::net::SocketAddr;
use std::time::Duration;

use jiff::Timestamp;

use super::name::{DnsName, DomainName};
use super::selector::PerSlot;

/// Longest time of one look: of one whose questions have to wait in line behind those of others.
pub const LONGEST_LOOK: Duration = Duration::from_secs(60);

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

/// The answers for one slot. An empty list means that nobody could be asked, or that nobody needed to be.
///
/// Where the zone's own servers answer, what resolvers say stands beside it: resolvers are asked only for what
/// every one of those servers has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SlotSighting {
    /// What is at the alias by way of a CNAME, CNAMEs not followed.
    pub alias: Vec<ServerAnswer>,
    /// What is at the alias itself by way of a TXT: published in the CNAME's place or beside it, or flattened.
    pub alias_txt: Vec<ServerAnswer>,
    /// To the CNAME question at `ALIAS.ZONE` (the zone appended twice); asked only where the alias is not there.
    pub doubled: Vec<ServerAnswer>,
    /// To the CNAME question at the alias without its underscore, `selector1.domainkey.contoso.com`; asked only
    /// where the alias is not there.
    pub without_underscore: Vec<ServerAnswer>,
    /// To the same question at a name beside the alias that nobody can have published; asked only where something
    /// wrong is at the alias.
    pub beside: Vec<ServerAnswer>,
    /// Where a CNAME that points elsewhere leads.
    pub chain: Chain,
    /// To the TXT question at the target.
    pub target_txt: Vec<ServerAnswer>,
    /// What resolvers say of DNSSEC on the way from the alias, or where that is not there from the target, to the
    /// TXT.
    pub validation: Vec<Validation>,
    /// The zone the alias is in, where it was found.
    pub zone: Option<DnsName>,
    /// Answers of the zone above that the domain itself is not there.
    pub domain_absent: Vec<ServerAnswer>,
    /// For how many seconds resolvers remember that a name of the tenant's zone is not there, where it is known.
    pub negative_ttl: Option<u32>,
    /// Within how many seconds the next look follows, where one does.
    pub again: Option<u32>,
    /// Resolvers that have been saying something else than the zone's servers for longer than they may remember it: they are
    /// shown another version of the zone. Known only to who looks again and again.
    pub other_view: Vec<SocketAddr>,
}

/// What follows behind the first target of a CNAME that does not point where it should.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Chain {
    /// The targets one after the other, the first left out.
    pub hops: Vec<DnsName>,
    /// How it ends.
    pub end: ChainEnd,
}

/// How a chain of CNAMEs ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ChainEnd {
    /// It was not followed, or could not be.
    #[default]
    Unknown,
    /// At a name without a CNAME.
    Ends,
    /// At the right target.
    Right,
    /// It comes back to where it was.
    Loop,
    /// It is longer than resolvers follow.
    TooLong,
}

/// What one resolver says of DNSSEC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validation {
    /// The resolver.
    pub resolver: SocketAddr,
    /// What it says.
    pub security: Security,
}

/// What DNSSEC says of an answer (RFC 4035 §4.3), as far as a resolver tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// Validated: the resolver set the AD bit.
    Secure,
    /// Not validated: the zone is not signed, or the resolver does not validate.
    Unproven,
    /// Validation fails: no answer, but one with the CD bit set.
    Bogus,
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
    /// There is a CNAME whose target is no name that anybody could have meant, such as one in quotes.
    OddCname {
        /// The target as the server has it, in presentation form.
        target: String,
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
    /// Without an answer, and with one where validation is left out (the CD bit, RFC 4035 §3.2.2).
    #[error("says that DNSSEC validation fails (bogus)")]
    Bogus,
    /// Its address is in a network that is not public, and that is not allowed.
    #[error("has an address that is not public, so it is not asked")]
    PrivateAddress,
    /// The look had no time or no questions left.
    #[error("was not asked, because the look took too long already")]
    GivenUp,
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
