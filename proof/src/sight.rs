//! Looks at DNS, as real servers' answers.

use std::net::SocketAddr;

use dkim_operator::model::name::DnsName;
use dkim_operator::model::selector::PerSlot;
use dkim_operator::model::sighting::{Failure, Observation, Outcome, ServerAnswer, ServerRole, SlotSighting};
use jiff::Timestamp;

use crate::keys::{self, KeyId};

/// What the tenant's server says of a CNAME.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AliasAnswer {
    /// It leads to the name that is asked about; resolvers remember that it was not there for so many seconds.
    Right {
        /// Its TTL in seconds.
        ttl: u32,
        /// Seconds.
        negative_ttl: u32,
    },
    /// There is none, which resolvers remember for so many seconds.
    Missing {
        /// Seconds.
        negative_ttl: u32,
    },
    /// It leads elsewhere.
    Wrong {
        /// Its TTL in seconds.
        ttl: u32,
        /// As above.
        negative_ttl: u32,
    },
    /// A copy of a key is there in the CNAME's place.
    Copy {
        /// The key.
        key: KeyId,
        /// The copy's TTL in seconds.
        ttl: u32,
        /// As above.
        negative_ttl: u32,
    },
    /// No answer that proves anything.
    Failed,
}

/// What one of our servers says of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TextAnswer {
    /// It cannot be heard.
    Silent,
    /// Nothing is there.
    Nothing,
    /// A key.
    Key(KeyId),
    /// That the key is revoked.
    Revoked,
}

/// Puts answers into the form that the lookout gives them. `texts` is server by server, slot by slot, each with this `ttl`
/// in seconds.
#[must_use]
pub fn observation(
    at: Timestamp,
    targets: &PerSlot<DnsName>,
    aliases: [AliasAnswer; 2],
    texts: [[TextAnswer; 2]; 2],
    ttl: u32,
) -> Observation {
    let answer = |index: u8, outcome: Outcome| ServerAnswer {
        name: Some(DnsName::new(format!("ns{index}.example")).expect("a name")),
        address: SocketAddr::from(([192, 0, 2, index], 53)),
        role: ServerRole::Authoritative,
        outcome,
    };
    let slots = PerSlot::from_fn(|slot| {
        let index = slot as usize;
        let target = || targets[slot].clone();
        let mut copies = Vec::new();
        let elsewhere = || DnsName::new("elsewhere.example").expect("a name");
        let (alias, negative_ttl) = match aliases[index] {
            AliasAnswer::Right { ttl, negative_ttl } => {
                (Outcome::Cname { target: target(), ttl }, Some(negative_ttl))
            }
            AliasAnswer::Missing { negative_ttl } => (Outcome::NxDomain { negative_ttl }, Some(negative_ttl)),
            AliasAnswer::Wrong { ttl, negative_ttl } => {
                (Outcome::Cname { target: elsewhere(), ttl }, Some(negative_ttl))
            }
            AliasAnswer::Copy { key, ttl, negative_ttl } => {
                copies.push(answer(9, Outcome::Txt { texts: vec![keys::record(key)], ttl }));
                (Outcome::NoData { negative_ttl }, Some(negative_ttl))
            }
            AliasAnswer::Failed => (Outcome::Failed(Failure::ServFail), None),
        };
        let texts = texts.iter().zip(1..).map(|(server, number)| {
            let outcome = match server[index] {
                TextAnswer::Silent => Outcome::Failed(Failure::Timeout),
                TextAnswer::Nothing => Outcome::NxDomain { negative_ttl: 1 },
                TextAnswer::Revoked => Outcome::Txt { texts: vec![keys::revoked()], ttl },
                TextAnswer::Key(id) => Outcome::Txt { texts: vec![keys::record(id)], ttl },
            };
            answer(number, outcome)
        });
        SlotSighting {
            alias: vec![answer(9, alias)],
            alias_txt: copies,
            target_txt: texts.collect(),
            negative_ttl,
            ..SlotSighting::default()
        }
    });
    Observation { at, slots }
}
