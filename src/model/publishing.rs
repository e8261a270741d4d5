//! Publishing to somebody else's DNS: whose a name is, what to change, when a former place may be left. Pure.

mod cname;
mod moves;
mod plan;
mod words;

use std::collections::BTreeSet;

use hickory_proto::rr::rdata::TXT;
use sha2::{Digest, Sha256};

use super::name::{DnsName, NameError};
use super::record::character_strings;
use crate::api::{PublishMethod, ZoneSpec};

pub use cname::{publish_cname, withdraw_cname};
pub use moves::{Answer, has_moved};
pub use plan::{Book, Kind, Place, Plan, Wanted, plan};
pub use words::{Told, remembered, still_beside, summary, told};

/// The label in front of a record's name where its owner mark is: a name of its own, because a second TXT at the
/// record's name would make verifiers fail (RFC 6376 §3.6.2.2).
pub const MARK_LABEL: &str = "_owner";

/// Says who published a record, and at which place. A sibling TXT that no DKIM verifier asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The installation.
    pub owner: String,
    /// The place, see [`place_id`].
    pub place: String,
}

impl Mark {
    const HERITAGE: &str = "heritage=dkim-operator";

    /// Reads a TXT; `None` where it is no mark of any dkim-operator.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix(Self::HERITAGE)?;
        let field = |name: &str| {
            let fields = rest.split(',').filter_map(|field| field.trim().split_once('='));
            fields.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
        };
        Some(Self { owner: field("owner")?, place: field("place")? })
    }
}

impl std::fmt::Display for Mark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{},owner={},place={}", Self::HERITAGE, self.owner, self.place)
    }
}

/// Where the owner mark of a record is.
///
/// # Errors
/// [`NameError`] where it does not fit in DNS.
pub fn mark_name(record: &DnsName) -> Result<DnsName, NameError> {
    DnsName::new(format!("{MARK_LABEL}.{record}"))
}

/// Stands for a place: how records get there and where that is. Not with which key: a changed key is no move.
#[must_use]
pub fn place_id(zone: &ZoneSpec) -> String {
    hash(zone, "")
}

/// [`place_id`] of the tenant's CNAMEs: they are apart from our keys even where both are in one zone.
#[must_use]
pub fn cnames_id(zone: &ZoneSpec) -> String {
    hash(zone, "\ncnames")
}

fn hash(zone: &ZoneSpec, kind: &str) -> String {
    let outlet = zone.outlet.as_ref();
    let method = method(zone);
    let server = outlet.and_then(|o| o.rfc2136.as_ref()).map(|r| r.server.as_str());
    let namespace = outlet.and_then(|o| o.dns_endpoint.as_ref()).and_then(|d| d.namespace.as_deref());
    let detail = match method {
        PublishMethod::Rfc2136 => server,
        PublishMethod::DnsEndpoint => namespace,
        PublishMethod::Embedded | PublishMethod::Manual => None,
    };
    let text = format!("{}\n{}\n{}{kind}", method.as_str(), zone.apex, detail.unwrap_or_default());
    data_encoding::HEXLOWER.encode(&Sha256::digest(text)[..8])
}

/// How records get into a zone.
#[must_use]
pub fn method(zone: &ZoneSpec) -> PublishMethod {
    zone.outlet.as_ref().map_or(PublishMethod::Embedded, |outlet| outlet.method)
}

/// What a server has at a record's name and at its mark's. The texts are kept as they are on the wire: how a text is cut
/// into character-strings is part of what a prerequisite compares (RFC 2136 §2.4.2).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen {
    /// The TXT records at the name, with their TTL.
    pub texts: Vec<(TXT, u32)>,
    /// The target of a CNAME at the name, and its TTL.
    pub cname: Option<(DnsName, u32)>,
    /// The TXT records at the mark's name, with their TTL.
    pub marks: Vec<(TXT, u32)>,
}

/// One record and its mark, from what is there to what shall be. Both names change in one update, and only if both
/// are still as they were seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The record's name.
    pub name: DnsName,
    /// What is there.
    pub before: Seen,
    /// What shall be there, and its TTL in seconds; `None`: nothing.
    pub record: Option<(Data, u32)>,
    /// The mark that shall be there, and its TTL in seconds; `None`: nothing.
    pub mark: Option<(TXT, u32)>,
}

/// What a record holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// A TXT.
    Text(TXT),
    /// A CNAME to this name.
    Cname(DnsName),
}

/// What to do about one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// It is as it should be.
    Nothing,
    /// Change it.
    Change(Box<Change>),
    /// Somebody else's: leave it, and say so.
    Conflict(String),
}

/// Who has marked a name.
enum Holder {
    Nobody,
    Us { place: String },
    Other(String),
}

fn holder(seen: &Seen, mark: &Mark) -> Holder {
    match seen.marks.as_slice() {
        [] => Holder::Nobody,
        [(text, _)] => match Mark::parse(&joined(text)) {
            Some(found) if found.owner == mark.owner => Holder::Us { place: found.place },
            Some(found) => Holder::Other(found.owner),
            None => Holder::Other(shortened(&joined(text))),
        },
        several => Holder::Other(shortened(&joined(&several[0].0))),
    }
}

/// Decides what to do so that `name` holds `text` and nothing else. A record without mark whose text is exactly
/// ours is taken over: it holds our own public key.
#[must_use]
pub fn publish(name: &DnsName, seen: &Seen, text: &str, ttl: u32, mark: &Mark) -> Step {
    if let Some((target, _)) = &seen.cname {
        return Step::Conflict(words::cname(name, target));
    }
    let holder = holder(seen, mark);
    if let Holder::Other(owner) = &holder {
        return Step::Conflict(words::marked(name, owner, &mark.owner));
    }
    let ours = matches!(holder, Holder::Us { .. });
    let wanted = cut(text);
    let record = match seen.texts.as_slice() {
        [] => wanted,
        // However it is cut, it reads the same.
        [(found, _)] if joined(found) == text => found.clone(),
        [_] if ours => wanted,
        [(found, _)] => return Step::Conflict(words::occupied(name, &shortened(&joined(found)))),
        several => return Step::Conflict(words::several(name, several.len())),
    };
    let mark_text = cut(&mark.to_string());
    let same = seen.texts.first().is_some_and(|(found, had)| *found == record && *had == ttl)
        && seen.marks.first().is_some_and(|(found, _)| joined(found) == mark.to_string());
    if same {
        return Step::Nothing;
    }
    Step::Change(Box::new(Change {
        name: name.clone(),
        before: seen.clone(),
        record: Some((Data::Text(record), ttl)),
        mark: Some((mark_text, ttl)),
    }))
}

/// The place whose mark of ours is at a name, where it is another one than that of `mark`.
#[must_use]
pub fn marked_elsewhere(seen: &Seen, mark: &Mark) -> Option<String> {
    match holder(seen, mark) {
        Holder::Us { place } if place != mark.place => Some(place),
        _ => None,
    }
}

/// As [`publish`], at a place that is being left: a name with our mark of another place is published from there already, into the
/// same zone, and two that both marked it would never come to an end.
#[must_use]
pub fn keep(name: &DnsName, seen: &Seen, text: &str, ttl: u32, mark: &Mark) -> Step {
    match marked_elsewhere(seen, mark) {
        Some(_) => Step::Nothing,
        None => publish(name, seen, text, ttl, mark),
    }
}

/// Decides what to do so that nothing of ours is at `name`. What does not bear our mark of this very place is not
/// ours any more, and stays.
#[must_use]
pub fn withdraw(name: &DnsName, seen: &Seen, mark: &Mark) -> Step {
    match holder(seen, mark) {
        Holder::Us { place } if place == mark.place => {}
        _ => return Step::Nothing,
    }
    // Of several texts ours cannot be told from the others: they stay, only our mark goes.
    let (record, before) = match seen.texts.as_slice() {
        [] | [_] => (None, seen.clone()),
        _ => (None, Seen { texts: Vec::new(), ..seen.clone() }),
    };
    Step::Change(Box::new(Change { name: name.clone(), before, record, mark: None }))
}

/// A text cut into character-strings.
#[must_use]
pub fn cut(text: &str) -> TXT {
    TXT::from_bytes(character_strings(text).collect())
}

/// The character-strings of a TXT, put together.
#[must_use]
pub fn joined(txt: &TXT) -> String {
    let bytes: Vec<u8> = txt.txt_data.iter().flat_map(|part| part.iter().copied()).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A foreign text as it is shown: readable, and never long.
fn shortened(text: &str) -> String {
    const SHOWN: usize = 60;
    let clean: String = text.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    match clean.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &clean[..end]),
        None => clean,
    }
}

/// Names to look at when a place is worked on: wanted ones and those that are to go.
#[must_use]
pub fn names(place: &Place) -> BTreeSet<&DnsName> {
    place.wanted.keys().chain(&place.unwanted).collect()
}

#[cfg(test)]
mod tests;
