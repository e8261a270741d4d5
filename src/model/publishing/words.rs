//! What people are told of publishing.

use crate::api::{DkimRecordSetStatus, PublishMethod, PublishState, Reason, RecordCounts};
use crate::model::name::DnsName;

use super::{MARK_LABEL, method};

pub(super) fn no_cname(name: &DnsName, found: &str) -> String {
    format!(
        "{name} has {found} that is not ours; it is left alone. Remove it from the zone, then the CNAME is published"
    )
}

pub(super) fn cname(name: &DnsName, target: &DnsName) -> String {
    format!(
        "{name} is a CNAME to {target} that is not ours; it is left alone. Remove it from the zone, then the key is published"
    )
}

pub(super) fn marked(name: &DnsName, owner: &str, ours: &str) -> String {
    format!(
        "{name} is marked as published by somebody else (the TXT at {MARK_LABEL}.{name} names the owner {owner}, ours is {ours}); it is left alone. If that was this installation before it was set up anew, set spec.publish.ownerId of the DkimProvider to {owner}; otherwise have the other one stop, and remove both TXTs"
    )
}

pub(super) fn occupied(name: &DnsName, found: &str) -> String {
    format!(
        "{name} has a TXT that is not ours (\"{found}\"); it is left alone. Remove it from the zone, then the key is published"
    )
}

/// What is said where external-dns goes on publishing what updates are to publish in the same zone: it would take the keys away
/// with its object.
#[must_use]
pub fn still_beside(name: &DnsName) -> String {
    format!(
        "external-dns still publishes {name} in the zone that takes the updates, and would remove it with the object; see that it does not any more. The former place is left when it has not for the whole drain (docs/publishing.md, Changing the method)"
    )
}

/// What is said where resolvers would remember for longer than we wait that a record was not there; `None` where they
/// do not.
#[must_use]
pub fn remembered(apex: &str, theirs: u32, ours: i32) -> Option<String> {
    (i64::from(theirs) > i64::from(ours)).then(|| format!(
        "resolvers remember for {theirs} s that a name of zone {apex} is not there (the last number of its SOA), but spec.publish.negativeTtl of the DkimProvider says {ours}: a new key would sign too early. Set negativeTtl to {theirs}, or lower the number in the SOA"
    ))
}

pub(super) fn several(name: &DnsName, count: usize) -> String {
    format!(
        "{name} has {count} TXT records, and with more than one verifiers fail (RFC 6376 section 3.6.2.2); none is touched. Remove those that are not ours"
    )
}

/// What a DkimDomain's condition says of publishing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The reason.
    pub reason: Reason,
    /// The message.
    pub message: String,
}

/// What a tenant is told of the places where records of its domain are to be, if something is amiss or awaited there:
/// the gravest. Servers and keys are the provider's business, and of CNAMEs the look at DNS tells.
#[must_use]
pub fn told(provider: &str, status: Option<&DkimRecordSetStatus>) -> Option<Told> {
    let places = status?.places.iter().filter(|place| !place.leaving && !place.cnames);
    let records = || places.clone().flat_map(|place| place.records.iter().map(move |record| (place, record)));
    let first = |state: PublishState| records().find(|(_, record)| record.state == state);
    if let Some((_, record)) = first(PublishState::Conflict) {
        let message = format!("the mail provider must clear a name in its DNS: {}", record.message);
        return Some(Told { reason: Reason::RecordConflict, message });
    }
    if let Some((_, record)) = first(PublishState::Failed) {
        let message = format!(
            "our TXT {} cannot be published: the mail provider must see to it. The status of DkimProvider {provider} says what is wrong",
            record.name
        );
        return Some(Told { reason: Reason::PublishingFailed, message });
    }
    let (place, record) = first(PublishState::Pending)?;
    let message = match method(&place.zone) {
        PublishMethod::Manual => format!(
            "the mail provider must publish the TXT {} by hand, as its DkimRecordSet says",
            record.name
        ),
        _ => format!("the mail provider's DNS does not have our TXT {} yet", record.name),
    };
    Some(Told { reason: Reason::RecordsPending, message })
}

/// Counts records of present places, and finds the gravest message.
#[must_use]
pub fn summary<'a>(
    all: impl IntoIterator<Item = &'a DkimRecordSetStatus>,
) -> (RecordCounts, Option<(Reason, String)>) {
    let mut counts = RecordCounts::default();
    let mut gravest: Option<(Reason, String)> = None;
    for status in all {
        for place in status.places.iter().filter(|place| !place.leaving) {
            if method(&place.zone) == PublishMethod::Embedded {
                continue;
            }
            for record in &place.records {
                let (count, reason) = match record.state {
                    PublishState::Published => (&mut counts.published, None),
                    PublishState::Pending | PublishState::Withdrawing => (&mut counts.pending, None),
                    PublishState::Conflict => (&mut counts.conflict, Some(Reason::RecordConflict)),
                    PublishState::Failed => (&mut counts.failed, Some(Reason::PublishingFailed)),
                };
                *count += 1;
                let Some(reason) = reason else { continue };
                // What fails may fail for all; a conflict is one name's. The order of names keeps the message still.
                let found = (reason, record.message.clone());
                let graver = gravest.as_ref().is_none_or(|known| {
                    let rank = |(reason, _): &(Reason, String)| *reason != Reason::PublishingFailed;
                    (rank(&found), &found.1) < (rank(known), &known.1)
                });
                if graver {
                    gravest = Some(found);
                }
            }
        }
    }
    (counts, gravest)
}
