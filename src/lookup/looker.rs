//! A look: the zones' own servers first, resolvers only for what those have, or where those cannot be heard.
//!
//! Asking a shared resolver for a name that is not there plants the very negative answer that later makes receivers
//! fail, so the tenant's names are put to a resolver only after the zone's own servers have them.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use hickory_proto::rr::RecordType;
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::exchange::{self, Reply};
use crate::api::Verification;
use crate::model::name::DnsName;
use crate::model::selector::{PerSlot, SlotId};
use crate::model::sighting::{
    Failure, Observation, Outcome, Question, ServerAnswer, ServerRole, SlotQuestion, SlotSighting,
};

/// Most servers asked of one zone: bounds what a hostile delegation can make us do (NXNSAttack).
const MAX_SERVERS: usize = 8;
/// Most zones remembered.
const MAX_ZONES: usize = 10_000;
/// How long a delegation is remembered.
const REMEMBER: Duration = Duration::from_secs(60);
/// Bound on one try of one question.
const TIMEOUT: Duration = Duration::from_millis(1500);
/// Tries of one question.
const ATTEMPTS: u32 = 2;

/// How a looker looks.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct LookupConfig {
    /// Recursive resolvers; those of the system where empty.
    pub resolvers: Vec<SocketAddr>,
    /// Whether to ask the zones' own servers.
    pub authoritative: bool,
}

impl LookupConfig {
    /// From a provider's settings. A resolver that cannot be read is left out.
    #[must_use]
    pub fn of(verification: &Verification) -> Self {
        let parse = |text: &String| {
            text.parse::<SocketAddr>().ok().or_else(|| Some(SocketAddr::new(text.parse().ok()?, 53)))
        };
        Self {
            resolvers: verification.resolvers.iter().filter_map(parse).collect(),
            authoritative: verification.authoritative,
        }
    }
}

/// A zone's own servers.
#[derive(Debug, Clone, Default)]
struct Zone {
    servers: Vec<(DnsName, SocketAddr)>,
    negative_ttl: Option<u32>,
}

/// Looks at DNS.
#[derive(Debug)]
pub struct Looker {
    resolvers: Vec<SocketAddr>,
    authoritative: bool,
    zones: Mutex<HashMap<DnsName, (Instant, Arc<Zone>)>>,
}

impl Looker {
    /// A looker with these settings.
    #[must_use]
    pub fn new(config: LookupConfig) -> Self {
        let resolvers = if config.resolvers.is_empty() { system_resolvers() } else { config.resolvers };
        Self { resolvers, authoritative: config.authoritative, zones: Mutex::default() }
    }

    /// Looks once. Never fails: what could not be heard is in the answers.
    pub async fn look(&self, question: &Question, at: Timestamp) -> Observation {
        let tenant = DnsName::from(&question.domain);
        let target = &question.slots[SlotId::One].target;
        let above = target.parent().unwrap_or_else(|| target.clone());
        let (own, ours) = tokio::join!(self.zone(&tenant), self.zone(&above));
        let [one, two] = &question.slots.0;
        let (one, two) =
            tokio::join!(self.slot(one, &tenant, &own, &ours), self.slot(two, &tenant, &own, &ours));
        Observation { at, slots: PerSlot([one, two]) }
    }

    async fn slot(&self, wanted: &SlotQuestion, tenant: &DnsName, own: &Zone, ours: &Zone) -> SlotSighting {
        let (alias, target_txt) = tokio::join!(
            self.put(own, &wanted.alias, RecordType::CNAME),
            self.put(ours, &wanted.target, RecordType::TXT)
        );
        let mut sighting =
            SlotSighting { alias, target_txt, negative_ttl: own.negative_ttl, ..SlotSighting::default() };
        let there = sighting.alias.iter().any(|a| matches!(a.outcome, Outcome::Cname { .. }));
        let silent = sighting.alias.iter().all(|a| matches!(a.outcome, Outcome::Failed(_)));
        if there || silent {
            return sighting;
        }
        sighting.alias_txt = self.put(own, &wanted.alias, RecordType::TXT).await;
        if let Ok(doubled) = DnsName::new(format!("{}.{tenant}", wanted.alias)) {
            sighting.doubled = self.put(own, &doubled, RecordType::CNAME).await;
        }
        sighting
    }

    /// Puts a question to a zone's own servers; to the resolvers where none of those can be heard.
    async fn put(&self, zone: &Zone, name: &DnsName, kind: RecordType) -> Vec<ServerAnswer> {
        let asked = zone.servers.iter().map(|(server, address)| async move {
            let reply = exchange::ask(*address, name, kind, false, TIMEOUT, ATTEMPTS).await;
            let outcome = match reply {
                Ok(reply) => self.settle(&reply, name, kind).await,
                Err(failure) => Outcome::Failed(failure),
            };
            ServerAnswer {
                name: Some(server.clone()),
                address: *address,
                role: ServerRole::Authoritative,
                outcome,
            }
        });
        let mut answers = join_all(asked).await;
        let heard = |a: &ServerAnswer| !matches!(a.outcome, Outcome::Failed(_));
        if !answers.iter().any(heard) {
            answers.extend(self.recursive(name, kind).await);
        }
        answers
    }

    /// An answer, or where it is a referral to a zone cut below, the first answer from there.
    async fn settle(&self, reply: &Reply, name: &DnsName, kind: RecordType) -> Outcome {
        let outcome = reply.outcome(name, kind, true);
        if outcome != Outcome::Failed(Failure::Lame) {
            return outcome;
        }
        let below = reply.name_servers();
        if !below.iter().any(|(zone, _)| name.is_in(zone)) {
            return outcome;
        }
        for (_, server) in below.iter().take(MAX_SERVERS) {
            for address in self.addresses(server).await {
                if let Ok(reply) = exchange::ask(address, name, kind, false, TIMEOUT, 1).await {
                    let found = reply.outcome(name, kind, true);
                    if !matches!(found, Outcome::Failed(_)) {
                        return found;
                    }
                }
            }
        }
        outcome
    }

    async fn recursive(&self, name: &DnsName, kind: RecordType) -> Vec<ServerAnswer> {
        let asked = self.resolvers.iter().map(|address| async move {
            let outcome = match exchange::ask(*address, name, kind, true, TIMEOUT, ATTEMPTS).await {
                Ok(reply) => reply.outcome(name, kind, false),
                Err(failure) => Outcome::Failed(failure),
            };
            ServerAnswer { name: None, address: *address, role: ServerRole::Recursive, outcome }
        });
        join_all(asked).await
    }

    /// The zone that `name` is in and its servers, found by asking a resolver for NS upwards.
    async fn zone(&self, name: &DnsName) -> Arc<Zone> {
        if !self.authoritative {
            return Arc::default();
        }
        if let Some((since, zone)) = self.zones.lock().get(name)
            && since.elapsed() < REMEMBER
        {
            return zone.clone();
        }
        let zone = Arc::new(self.find_zone(name).await);
        if !zone.servers.is_empty() {
            let mut zones = self.zones.lock();
            if zones.len() >= MAX_ZONES {
                zones.retain(|_, (since, _)| since.elapsed() < REMEMBER);
            }
            zones.insert(name.clone(), (Instant::now(), zone.clone()));
        }
        zone
    }

    async fn find_zone(&self, name: &DnsName) -> Zone {
        let mut at = Some(name.clone());
        while let Some(candidate) = at {
            let Some(reply) = self.first_reply(&candidate, RecordType::NS).await else {
                return Zone::default();
            };
            let servers: Vec<DnsName> = reply
                .name_servers()
                .into_iter()
                .filter(|(zone, _)| *zone == candidate)
                .map(|(_, server)| server)
                .collect();
            if !servers.is_empty() {
                return self.zone_of(&candidate, servers).await;
            }
            // A negative answer names the zone; otherwise one label up.
            let next = reply.zone().filter(|zone| candidate.is_in(zone) && *zone != candidate);
            at = next.or_else(|| candidate.parent());
        }
        Zone::default()
    }

    async fn zone_of(&self, apex: &DnsName, mut names: Vec<DnsName>) -> Zone {
        names.sort();
        names.dedup();
        names.truncate(MAX_SERVERS);
        let found = join_all(names.iter().map(|server| self.addresses(server))).await;
        let servers: Vec<(DnsName, SocketAddr)> = names
            .iter()
            .zip(found)
            .flat_map(|(name, addresses)| addresses.into_iter().map(|a| (name.clone(), a)))
            .take(MAX_SERVERS)
            .collect();
        let soa = servers
            .iter()
            .map(|(_, address)| Box::pin(exchange::ask(*address, apex, RecordType::SOA, false, TIMEOUT, 1)));
        let negative_ttl =
            join_all(soa).await.into_iter().filter_map(|reply| reply.ok()?.negative_ttl()).max();
        Zone { servers, negative_ttl }
    }

    async fn addresses(&self, server: &DnsName) -> Vec<SocketAddr> {
        let (v4, v6) =
            tokio::join!(self.first_reply(server, RecordType::A), self.first_reply(server, RecordType::AAAA));
        let all = [v4, v6].into_iter().flatten().flat_map(|reply| reply.addresses());
        all.take(2).map(|ip: IpAddr| SocketAddr::new(ip, 53)).collect()
    }

    async fn first_reply(&self, name: &DnsName, kind: RecordType) -> Option<Reply> {
        for resolver in &self.resolvers {
            if let Ok(reply) = exchange::ask(*resolver, name, kind, true, TIMEOUT, ATTEMPTS).await
                && !matches!(reply.outcome(name, kind, false), Outcome::Failed(_))
            {
                return Some(reply);
            }
        }
        None
    }
}

/// The resolvers of `/etc/resolv.conf`.
#[must_use]
pub fn system_resolvers() -> Vec<SocketAddr> {
    let Ok((config, _)) = hickory_resolver::system_conf::read_system_conf() else { return Vec::new() };
    config.name_servers.iter().map(|server| SocketAddr::new(server.ip, 53)).collect()
}
