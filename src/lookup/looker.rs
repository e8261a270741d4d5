//! A look: the zones' own servers first, resolvers only for what all of those have, or where those cannot be heard.
//!
//! Asking a shared resolver for a name that is not there plants the very negative answer that later makes receivers
//! fail, so the tenant's names are put to a resolver only after the zone's own servers have them.

mod names;

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::join_all;
use hickory_proto::rr::RecordType;
use jiff::Timestamp;

use super::config::LookupConfig;
use super::exchange::Ask;
use super::reply::Reply;
use super::walker::{Details, Enclosing, NameServer, Walker};
use super::wire::{Trip, Wire, by_resolver};
use crate::model::name::DnsName;
use crate::model::selector::PerSlot;
use crate::model::sighting::{
    Chain, ChainEnd, Failure, Observation, Outcome, Question, ServerAnswer, ServerRole, SlotQuestion,
    SlotSighting, Validation,
};

pub use names::Marked;

/// Most CNAMEs that are followed: resolvers give up after 8 to 16.
const MAX_CHAIN: usize = 8;
/// Most servers of the zone above that are asked for a domain that is not there.
const MAX_ABOVE: usize = 2;

/// Looks at DNS.
#[derive(Debug)]
pub struct Looker {
    authoritative: bool,
    wire: Arc<Wire>,
    walker: Walker,
}

/// Where a name is looked for.
#[derive(Debug, Default)]
struct Place {
    /// The servers to ask.
    servers: Vec<NameServer>,
    /// The tenant's zone whose load is limited; none for the provider's own.
    limited: Option<DnsName>,
    zone: Option<DnsName>,
    negative_ttl: Option<u32>,
    /// Why the way there ended above.
    broken: Vec<ServerAnswer>,
    /// Answers that the domain itself is not there.
    domain_absent: Vec<ServerAnswer>,
}

impl Looker {
    /// A looker with these settings.
    #[must_use]
    pub fn new(config: LookupConfig) -> Self {
        let authoritative = config.authoritative;
        let wire = Arc::new(Wire::new(config));
        Self { authoritative, walker: Walker::new(wire.clone()), wire }
    }

    /// How many questions it has sent so far.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.wire.sent()
    }

    /// Looks once. Never fails: what could not be heard is in the answers. `urgent` goes ahead of what is not.
    pub async fn look(&self, question: &Question, at: Timestamp, urgent: bool) -> Observation {
        let ration = Trip::ration();
        let trip = Trip::new(&ration, urgent);
        let domain = DnsName::from(&question.domain);
        let [one, two] = &question.slots.0;
        let (one, two) = tokio::join!(self.slot(one, &domain, &trip), self.slot(two, &domain, &trip));
        Observation { at, slots: PerSlot([one, two]) }
    }

    async fn slot(&self, wanted: &SlotQuestion, domain: &DnsName, trip: &Trip<'_>) -> SlotSighting {
        if !self.authoritative {
            return self.by_resolvers(wanted, trip).await;
        }
        // Both ways at once, so that what is seen of both slots' keys is of one moment.
        let ((own, alias, alias_txt), target_txt) =
            tokio::join!(self.tenant_side(wanted, domain, trip), self.provider_side(wanted, trip));
        let mut seen = SlotSighting {
            alias,
            alias_txt,
            target_txt,
            zone: own.zone.clone(),
            negative_ttl: own.negative_ttl,
            domain_absent: own.domain_absent.clone(),
            ..SlotSighting::default()
        };
        let right = |a: &&ServerAnswer| matches!(&a.outcome, Outcome::Cname { target, .. } if *target == wanted.target);
        let there = |a: &&ServerAnswer| matches!(&a.outcome, Outcome::Txt { .. });
        let (alias, target) = (heard(&seen.alias), heard(&seen.target_txt));
        let linked = !alias.is_empty() && alias.iter().all(right);
        let published = !target.is_empty() && target.iter().all(there);
        let (silent, good) = (alias.is_empty(), alias.iter().any(right));
        let unheard = target.is_empty();
        if silent || (linked && published) {
            self.through_alias(wanted, &mut seen, trip).await;
        }
        if unheard || (published && (!linked || has_bogus(&seen.alias))) {
            self.at_target_by_resolvers(wanted, &mut seen, trip).await;
        }
        if !silent && !good {
            self.probe(wanted, &own, &mut seen, trip).await;
        }
        seen
    }

    /// The servers of the zone that holds the tenant's record.
    async fn tenant(&self, alias: &DnsName, domain: &DnsName, trip: &Trip<'_>) -> Place {
        let above = alias.parent().unwrap_or_else(|| alias.clone());
        let Enclosing { zone, absent, broken } = self.walker.enclosing(&above, trip).await;
        let domain_absent = match absent {
            Some((name, answers)) if domain.is_in(&name) => answers,
            _ => Vec::new(),
        };
        if !domain_absent.is_empty() && zone.limited().is_none() {
            // A top-level domain need not hear the question from each of its servers.
            let servers =
                zone.servers.iter().filter(|s| domain_absent.iter().any(|a| a.address == s.address));
            return Place {
                servers: servers.take(MAX_ABOVE).cloned().collect(),
                limited: zone.limited().cloned(),
                zone: zone.apex.clone(),
                negative_ttl: None,
                broken: Vec::new(),
                domain_absent,
            };
        }
        if !broken.is_empty() {
            return Place { zone: zone.apex.clone(), broken, ..Place::default() };
        }
        if zone.apex.is_none() {
            return Place::default();
        }
        let Details { servers, negative_ttl } = self.walker.details(&zone, trip).await;
        let limited = zone.limited().cloned();
        Place { servers, limited, zone: zone.apex.clone(), negative_ttl, broken, domain_absent }
    }

    /// The servers of the zone that holds our record.
    async fn provider(&self, target: &DnsName, trip: &Trip<'_>) -> Place {
        let above = target.parent().unwrap_or_else(|| target.clone());
        let Enclosing { zone, absent: _, broken } = self.walker.enclosing(&above, trip).await;
        let mut servers =
            if zone.apex.is_some() && broken.is_empty() { zone.servers.clone() } else { Vec::new() };
        if zone.limited().is_none() {
            servers.truncate(MAX_ABOVE);
        }
        Place { servers, zone: zone.apex.clone(), broken, ..Place::default() }
    }

    /// What each of the zone's own servers has at the alias: asked for the TXT, as receivers ask, a server shows the
    /// CNAME where there is one. Only where it has a TXT it is asked for a CNAME beside it.
    async fn tenant_side(
        &self,
        wanted: &SlotQuestion,
        domain: &DnsName,
        trip: &Trip<'_>,
    ) -> (Place, Vec<ServerAnswer>, Vec<ServerAnswer>) {
        let alias = &wanted.alias;
        let own = self.tenant(alias, domain, trip).await;
        let (mut cnames, mut texts) = (own.broken.clone(), Vec::new());
        let place = &own;
        let asked = own.servers.iter().map(|server| async move {
            let (cname, txt) = self.link_at(place, server, alias, trip).await;
            (answer(server, cname), txt.map(|txt| answer(server, txt)))
        });
        for (cname, txt) in join_all(asked).await {
            cnames.push(cname);
            texts.extend(txt.filter(|a| matches!(a.outcome, Outcome::Txt { .. })));
        }
        (own, cnames, texts)
    }

    /// What each of the provider's own servers has at the target.
    async fn provider_side(&self, wanted: &SlotQuestion, trip: &Trip<'_>) -> Vec<ServerAnswer> {
        let ours = self.provider(&wanted.target, trip).await;
        let place = &ours;
        let asked = ours.servers.iter().map(|server| async move {
            answer(server, self.text_at(place, server, &wanted.target, trip).await)
        });
        let mut texts = join_all(asked).await;
        texts.extend(ours.broken.iter().cloned());
        texts
    }

    async fn put(
        &self,
        place: &Place,
        server: &NameServer,
        name: &DnsName,
        kind: RecordType,
        trip: &Trip<'_>,
    ) -> Result<Reply, Failure> {
        if !server.allowed {
            return Err(Failure::PrivateAddress);
        }
        self.wire.ask(trip, server.address, place.limited.as_ref(), &Ask::own(name, kind)?).await
    }

    /// Resolvers alone: for networks that let nothing else out. What they say may be older by a TTL.
    async fn by_resolvers(&self, wanted: &SlotQuestion, trip: &Trip<'_>) -> SlotSighting {
        let mut seen = SlotSighting::default();
        self.through_alias(wanted, &mut seen, trip).await;
        let linked = |a: &ServerAnswer| matches!(&a.outcome, Outcome::Cname { target, .. } if *target == wanted.target);
        if seen.alias.is_empty() || !seen.alias.iter().all(linked) {
            self.at_target_by_resolvers(wanted, &mut seen, trip).await;
        }
        seen
    }

    /// Asks the resolvers for the TXT behind the alias, as receivers do.
    async fn through_alias(&self, wanted: &SlotQuestion, seen: &mut SlotSighting, trip: &Trip<'_>) {
        let asked = self.wire.resolvers().iter().map(|resolver| async move {
            (resolver.address, self.wire.as_receiver(trip, resolver, &wanted.alias).await)
        });
        for (resolver, (reply, security)) in join_all(asked).await {
            seen.validation.push(Validation { resolver, security });
            let reply = match reply {
                Ok(reply) => reply,
                Err(failure) => {
                    seen.alias.push(by_resolver(resolver, Outcome::Failed(failure)));
                    continue;
                }
            };
            let cname = reply.cname(&wanted.alias, false);
            let txt = reply.txt(&wanted.alias, false);
            if matches!(&cname, Outcome::Cname { target, .. } if *target == wanted.target) {
                seen.target_txt.push(by_resolver(resolver, reply.txt(&wanted.target, false)));
            }
            seen.alias.push(by_resolver(resolver, cname));
            if matches!(txt, Outcome::Txt { .. }) {
                seen.alias_txt.push(by_resolver(resolver, txt));
            }
        }
    }

    async fn at_target_by_resolvers(&self, wanted: &SlotQuestion, seen: &mut SlotSighting, trip: &Trip<'_>) {
        let asked = self.wire.resolvers().iter().map(|resolver| async move {
            (resolver.address, self.wire.as_receiver(trip, resolver, &wanted.target).await)
        });
        for (resolver, (reply, security)) in join_all(asked).await {
            seen.validation.push(Validation { resolver, security });
            let outcome = match reply {
                Ok(reply) => reply.txt(&wanted.target, false),
                Err(failure) => Outcome::Failed(failure),
            };
            seen.target_txt.push(by_resolver(resolver, outcome));
        }
    }

    /// Looks for the usual mistakes, at one server that was heard.
    async fn probe(&self, wanted: &SlotQuestion, own: &Place, seen: &mut SlotSighting, trip: &Trip<'_>) {
        let was_heard = |server: &&NameServer| {
            heard(&seen.alias).iter().any(|a| a.address == server.address && a.name == server.name)
        };
        let Some(server) = own.servers.iter().find(was_heard) else { return };
        let at = async |name: Result<DnsName, _>| -> Vec<ServerAnswer> {
            let Ok(name): Result<DnsName, crate::model::name::NameError> = name else { return Vec::new() };
            let outcome = match self.put(own, server, &name, RecordType::TXT, trip).await {
                Ok(reply) => match reply.cname(&name, true) {
                    cname @ (Outcome::Cname { .. } | Outcome::OddCname { .. }) => cname,
                    _ => reply.txt(&name, true),
                },
                Err(failure) => Outcome::Failed(failure),
            };
            vec![answer(server, outcome)]
        };
        let target = seen.alias.iter().find_map(|a| match &a.outcome {
            Outcome::Cname { target, .. } => Some(Some(target.clone())),
            Outcome::OddCname { .. } => Some(None),
            _ => None,
        });
        if target.is_some() || !seen.alias_txt.is_empty() {
            let nobody = wanted.alias.parent().map(|above| DnsName::new(format!("{}.{above}", unlikely())));
            if let Some(nobody) = nobody {
                seen.beside = at(nobody).await;
            }
        }
        match target {
            Some(Some(target)) => seen.chain = self.follow(wanted, target, trip).await,
            Some(None) => {}
            None if seen.alias_txt.is_empty() && seen.domain_absent.is_empty() => {
                let zone = own.zone.clone().unwrap_or_else(|| wanted.alias.clone());
                let bare = wanted.alias.as_str().replacen("._domainkey.", ".domainkey.", 1);
                let doubled = DnsName::new(format!("{}.{zone}", wanted.alias));
                (seen.doubled, seen.without_underscore) = tokio::join!(at(doubled), at(DnsName::new(bare)));
            }
            None => {}
        }
    }

    /// Follows the CNAMEs behind a wrong target, one server each.
    async fn follow(&self, wanted: &SlotQuestion, first: DnsName, trip: &Trip<'_>) -> Chain {
        let mut met = BTreeSet::from([wanted.alias.clone()]);
        let mut chain = Chain::default();
        let mut at = first;
        loop {
            if at == wanted.target {
                chain.end = ChainEnd::Right;
                return chain;
            }
            if !met.insert(at.clone()) {
                chain.end = ChainEnd::Loop;
                return chain;
            }
            if chain.hops.len() >= MAX_CHAIN {
                chain.end = ChainEnd::TooLong;
                return chain;
            }
            match self.next(&at, trip).await {
                Outcome::Cname { target, .. } => {
                    chain.hops.push(target.clone());
                    at = target;
                }
                Outcome::Failed(_) => return chain,
                _ => {
                    chain.end = ChainEnd::Ends;
                    return chain;
                }
            }
        }
    }

    async fn next(&self, name: &DnsName, trip: &Trip<'_>) -> Outcome {
        let above = name.parent().unwrap_or_else(|| name.clone());
        let Enclosing { zone, absent, broken } = self.walker.enclosing(&above, trip).await;
        if absent.is_some() || zone.apex.is_none() || !broken.is_empty() {
            return Outcome::Failed(Failure::Unreachable);
        }
        let place = Place { limited: zone.limited().cloned(), ..Place::default() };
        for server in zone.servers.iter().filter(|server| server.allowed).take(2) {
            if let Ok(reply) = self.put(&place, server, name, RecordType::CNAME, trip).await {
                let outcome = reply.cname(name, true);
                if !matches!(outcome, Outcome::Failed(_)) {
                    return outcome;
                }
            }
        }
        Outcome::Failed(Failure::Unreachable)
    }
}

fn answer(server: &NameServer, outcome: Outcome) -> ServerAnswer {
    let NameServer { name, address, allowed: _ } = server;
    ServerAnswer { name: name.clone(), address: *address, role: ServerRole::Authoritative, outcome }
}

fn heard(answers: &[ServerAnswer]) -> Vec<&ServerAnswer> {
    answers.iter().filter(|a| !matches!(a.outcome, Outcome::Failed(_))).collect()
}

fn has_bogus(answers: &[ServerAnswer]) -> bool {
    answers.iter().any(|a| a.outcome == Outcome::Failed(Failure::Bogus))
}

/// A label that nobody has published.
fn unlikely() -> String {
    format!("not-there-{:08x}", getrandom::u32().unwrap_or(0x5eed))
}
