//! Changes as one dynamic update: prerequisites that what was seen is still there (RFC 2136 §2.4), then what to take away
//! and to add (§2.5). Pure.

use hickory_proto::ProtoError;
use hickory_proto::op::update_message::UpdateMessage;
use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::{CNAME, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use crate::model::name::{DnsName, NameError};
use crate::model::publishing::{Change, Data, mark_name};

/// Why a change cannot be put into a message.
#[derive(Debug, thiserror::Error)]
pub enum Unsayable {
    /// A name does not fit.
    #[error("{0}")]
    Name(#[from] NameError),
    /// The library cannot encode it.
    #[error("{0}")]
    Proto(#[from] ProtoError),
}

/// One update of `zone` with all of `changes`: the server makes all of them or none.
///
/// # Errors
/// [`Unsayable`] where a name cannot be encoded.
pub fn message<'a>(
    id: u16,
    zone: &DnsName,
    changes: impl IntoIterator<Item = &'a Change>,
) -> Result<Message, Unsayable> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Update);
    message.add_zone(Query::query(absolute(zone)?, RecordType::SOA));
    for change in changes {
        let Change { name, before, record, mark } = change;
        let (record_name, mark_owner) = (absolute(name)?, absolute(&mark_name(name)?)?);
        match (record, &before.cname) {
            (Some((Data::Cname(target), ttl)), had) => {
                put_cname(&mut message, &record_name, had.as_ref(), Some((target, *ttl)))?;
            }
            (None, Some(had)) => put_cname(&mut message, &record_name, Some(had), None)?,
            (Some((Data::Text(text), ttl)), _) => {
                expect_none(&mut message, &record_name, RecordType::CNAME);
                put(&mut message, &record_name, &before.texts, Some(&(text.clone(), *ttl)));
            }
            (None, None) => put(&mut message, &record_name, &before.texts, None),
        }
        put(&mut message, &mark_owner, &before.marks, mark.as_ref());
    }
    Ok(message)
}

/// One name's CNAME, from `before` to `after`.
fn put_cname(
    message: &mut Message,
    name: &Name,
    before: Option<&(DnsName, u32)>,
    after: Option<(&DnsName, u32)>,
) -> Result<(), Unsayable> {
    match before {
        // "RRset exists (value dependent)", RFC 2136 §2.4.2.
        Some((target, _)) => message.add_pre_requisite(cname(name, 0, target)?),
        None => {
            // "Name is not in use", RFC 2136 §2.4.5: a CNAME beside other data is forbidden, and would be left out silently.
            expect_none(message, name, RecordType::ANY);
        }
    }
    let same = |(target, ttl): &(DnsName, u32)| after.is_some_and(|after| after == (target, *ttl));
    if let Some((target, _)) = before.filter(|before| !same(before)) {
        let mut gone = cname(name, 0, target)?;
        gone.dns_class = DNSClass::NONE;
        message.add_update(gone);
    }
    if let Some((target, ttl)) = after
        && !before.is_some_and(same)
    {
        message.add_update(cname(name, ttl, target)?);
    }
    Ok(())
}

fn cname(name: &Name, ttl: u32, target: &DnsName) -> Result<Record, ProtoError> {
    Ok(Record::from_rdata(name.clone(), ttl, RData::CNAME(CNAME(absolute(target)?))))
}

/// One name's TXTs, from `before` to `after`.
fn put(message: &mut Message, name: &Name, before: &[(TXT, u32)], after: Option<&(TXT, u32)>) {
    if before.is_empty() && after.is_none() {
        return;
    }
    if before.is_empty() {
        expect_none(message, name, RecordType::TXT);
    }
    for (text, _) in before {
        // "RRset exists (value dependent)", RFC 2136 §2.4.2.
        message.add_pre_requisite(txt(name, 0, text));
    }
    let stays = |(text, ttl): &(TXT, u32)| after.is_some_and(|(new, new_ttl)| new == text && new_ttl == ttl);
    for one in before.iter().filter(|one| !stays(one)) {
        // "Delete an RR from an RRset", RFC 2136 §2.5.4: nothing that was not seen is taken away.
        let mut gone = txt(name, 0, &one.0);
        gone.dns_class = DNSClass::NONE;
        message.add_update(gone);
    }
    if let Some((text, ttl)) = after
        && !before.iter().any(stays)
    {
        message.add_update(txt(name, *ttl, text));
    }
}

/// "RRset does not exist", RFC 2136 §2.4.3.
fn expect_none(message: &mut Message, name: &Name, kind: RecordType) {
    let mut none = Record::update0(name.clone(), 0, kind);
    none.dns_class = DNSClass::NONE;
    message.add_pre_requisite(none.into_record_of_rdata());
}

fn txt(name: &Name, ttl: u32, text: &TXT) -> Record {
    Record::from_rdata(name.clone(), ttl, RData::TXT(text.clone()))
}

fn absolute(name: &DnsName) -> Result<Name, ProtoError> {
    Name::from_ascii(name.absolute())
}
