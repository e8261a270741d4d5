//! Looking at single names and their marks, as publishers do.

use futures::future::join_all;
use hickory_proto::rr::RecordType;

use super::{Looker, Place, answer};
use crate::lookup::walker::NameServer;
use crate::lookup::wire::{Trip, by_resolver};
use crate::model::name::DnsName;
use crate::model::sighting::{Outcome, ServerAnswer};

/// What one server has at a name of ours and at that of its mark. Both are of the same server: what another one has at the mark's
/// name says nothing of whose the record is that this one has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marked {
    /// What it has at the name.
    pub record: ServerAnswer,
    /// What it has at the mark's.
    pub mark: Outcome,
}

/// What is looked for at a name.
#[derive(Debug, Clone, Copy)]
enum What {
    /// A TXT of ours.
    Text,
    /// A CNAME of a tenant's, or the TXT that is there in its place.
    Link,
}

impl Looker {
    /// The TXT at a name of ours, and its mark, as the servers of its zone have them; as resolvers do where none of those is heard.
    pub async fn texts(&self, name: &DnsName, mark: &DnsName) -> Vec<Marked> {
        self.marked(What::Text, name, mark).await
    }

    /// What is at a name that is to be a CNAME, and its mark, as the servers of its zone have them; as resolvers do where none of
    /// those is heard: the CNAME, or the TXT that is there in its place.
    pub async fn links(&self, name: &DnsName, mark: &DnsName) -> Vec<Marked> {
        self.marked(What::Link, name, mark).await
    }

    async fn marked(&self, what: What, name: &DnsName, mark: &DnsName) -> Vec<Marked> {
        let ration = Trip::ration();
        let trip = &Trip::new(&ration, false);
        let mut seen = Vec::new();
        if self.authoritative {
            let place = &match what {
                What::Text => self.provider(name, trip).await,
                What::Link => self.tenant(name, name, trip).await,
            };
            let asked = place.servers.iter().map(|server| async move {
                let (record, mark) = tokio::join!(
                    self.at_server(what, place, server, name, trip),
                    self.text_at(place, server, mark, trip)
                );
                Marked { record: answer(server, record), mark }
            });
            seen = join_all(asked).await;
            let broken = place.broken.iter().cloned();
            seen.extend(broken.map(|record| Marked { mark: record.outcome.clone(), record }));
        }
        if seen.iter().all(|marked| matches!(marked.record.outcome, Outcome::Failed(_))) {
            let asked = self.wire.resolvers().iter().map(|resolver| async move {
                let ((record, _), (beside, _)) = tokio::join!(
                    self.wire.as_receiver(trip, resolver, name),
                    self.wire.as_receiver(trip, resolver, mark)
                );
                let record = match (record, what) {
                    (Ok(reply), What::Text) => reply.txt(name, false),
                    (Ok(reply), What::Link) => link_or_text(reply.cname(name, false), reply.txt(name, false)),
                    (Err(failure), _) => Outcome::Failed(failure),
                };
                let mark = match beside {
                    Ok(reply) => reply.txt(mark, false),
                    Err(failure) => Outcome::Failed(failure),
                };
                Marked { record: by_resolver(resolver.address, record), mark }
            });
            seen.extend(join_all(asked).await);
        }
        seen
    }

    async fn at_server(
        &self,
        what: What,
        place: &Place,
        server: &NameServer,
        name: &DnsName,
        trip: &Trip<'_>,
    ) -> Outcome {
        match what {
            What::Text => self.text_at(place, server, name, trip).await,
            What::Link => {
                let (cname, text) = self.link_at(place, server, name, trip).await;
                match text {
                    Some(text) => link_or_text(cname, text),
                    None => cname,
                }
            }
        }
    }

    /// The CNAME that a server has at a name, and what else it says there.
    pub(super) async fn link_at(
        &self,
        place: &Place,
        server: &NameServer,
        alias: &DnsName,
        trip: &Trip<'_>,
    ) -> (Outcome, Option<Outcome>) {
        let reply = match self.put(place, server, alias, RecordType::TXT, trip).await {
            Ok(reply) => reply,
            Err(failure) => return (Outcome::Failed(failure), None),
        };
        let (mut cname, txt) = (reply.cname(alias, true), reply.txt(alias, true));
        let shown = matches!(cname, Outcome::Cname { .. } | Outcome::OddCname { .. });
        if matches!(txt, Outcome::Txt { .. }) && !shown {
            cname = match self.put(place, server, alias, RecordType::CNAME, trip).await {
                Ok(reply) => reply.cname(alias, true),
                Err(failure) => Outcome::Failed(failure),
            };
        }
        (cname, Some(txt))
    }

    /// The TXT that a server has at a name.
    pub(super) async fn text_at(
        &self,
        place: &Place,
        server: &NameServer,
        name: &DnsName,
        trip: &Trip<'_>,
    ) -> Outcome {
        match self.put(place, server, name, RecordType::TXT, trip).await {
            Ok(reply) => reply.txt(name, true),
            Err(failure) => Outcome::Failed(failure),
        }
    }
}

/// The CNAME, or the TXT that is there in its place.
fn link_or_text(cname: Outcome, text: Outcome) -> Outcome {
    match (&cname, text) {
        (Outcome::NoData { .. }, text @ Outcome::Txt { .. }) => text,
        _ => cname,
    }
}
