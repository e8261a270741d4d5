//! Down the delegations from the root to the zone that holds a name, and to all of that zone's servers.
//!
//! No resolver is asked on the way but for the addresses of name servers: a resolver that is asked for a name too
//! early remembers that it was not there, and below it nothing either (RFC 8020). What a walk finds is remembered
//! for as long as the delegation says, and looked for once, however many wait for it.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use hickory_proto::rr::RecordType;
use parking_lot::Mutex;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::config::DNS_PORT;
use super::exchange::Ask;
use super::reply::{Delegation, Reply};
use super::wire::{Trip, Wire};
use crate::model::name::DnsName;
use crate::model::sighting::{Failure, Outcome, ServerAnswer, ServerRole};

/// Most names of servers taken from one delegation.
const MAX_NAMES: usize = 13;
/// Most addresses asked of one zone.
const MAX_ADDRESSES: usize = 13;
/// Most servers tried for one step down.
const MAX_TRIES: usize = 3;
/// Most steps remembered.
const MAX_STEPS: usize = 50_000;
/// Longest time that a delegation is remembered, whatever its TTL.
const LONGEST: Duration = Duration::from_secs(3600);
/// Longest time that the absence of a delegation is remembered.
const LONGEST_ABSENCE: Duration = Duration::from_secs(10);
/// How long it is remembered what a zone says of itself.
const DETAILS: Duration = Duration::from_secs(60);
/// Shortest time that the servers of the root are remembered.
const ROOT: Duration = Duration::from_secs(60);
/// Shortest time that anything is remembered: bounds what a TTL of 0 can make us ask.
const SHORTEST: Duration = Duration::from_secs(1);

/// One server of a zone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NameServer {
    /// Its name; none where a root server is configured by address.
    pub name: Option<DnsName>,
    /// Its address.
    pub address: SocketAddr,
    /// Whether it may be asked.
    pub allowed: bool,
}

/// A zone and its servers.
#[derive(Debug, Default)]
pub struct Zone {
    /// Its name; none for the root.
    pub apex: Option<DnsName>,
    /// Its servers, those of the delegation.
    pub servers: Vec<NameServer>,
    details: tokio::sync::Mutex<Option<(Instant, Details)>>,
}

impl Zone {
    fn new(apex: Option<DnsName>, servers: Vec<NameServer>) -> Arc<Self> {
        Arc::new(Self { apex, servers, details: tokio::sync::Mutex::default() })
    }

    /// The zone whose load is limited: root and top-level domains bear more.
    #[must_use]
    pub fn limited(&self) -> Option<&DnsName> {
        self.apex.as_ref().filter(|apex| apex.as_str().contains('.'))
    }
}

/// What the zone itself says of itself.
#[derive(Debug, Clone, Default)]
pub struct Details {
    /// All its servers: those of the delegation and those that only the zone itself names.
    pub servers: Vec<NameServer>,
    /// For how many seconds resolvers remember that a name is not there: the most that any server says.
    pub negative_ttl: Option<u32>,
}

/// Where a walk ends.
#[derive(Debug, Clone, Default)]
pub struct Enclosing {
    /// The deepest zone that was found.
    pub zone: Arc<Zone>,
    /// The name that is not there, and who says so, where the walk ended at one.
    pub absent: Option<(DnsName, Vec<ServerAnswer>)>,
    /// Why the walk ended above the name, where it could not go on.
    pub broken: Vec<ServerAnswer>,
}

#[derive(Debug, Clone)]
enum Step {
    Cut(Arc<Zone>),
    None,
    Absent(Vec<ServerAnswer>),
    Broken(Vec<ServerAnswer>),
}

/// A step, and until when it is remembered.
#[derive(Debug)]
struct Remembered {
    step: Step,
    until: Instant,
}

type Cell = Arc<OnceCell<Remembered>>;

/// Walks, and remembers.
#[derive(Debug)]
pub struct Walker {
    wire: Arc<Wire>,
    steps: Mutex<HashMap<Option<DnsName>, Cell>>,
    /// The root as it was last known.
    known_root: Mutex<Option<Arc<Zone>>>,
}

impl Walker {
    /// A walker that has been nowhere.
    #[must_use]
    pub fn new(wire: Arc<Wire>) -> Self {
        Self { wire, steps: Mutex::default(), known_root: Mutex::default() }
    }

    /// The deepest zone that holds `name`.
    pub async fn enclosing(&self, name: &DnsName, trip: &Trip<'_>) -> Enclosing {
        let mut here = match self.remembered(None, || self.root(trip)).await {
            Step::Cut(zone) => zone,
            Step::Broken(broken) => return Enclosing { broken, ..Enclosing::default() },
            Step::None | Step::Absent(_) => return Enclosing::default(),
        };
        for candidate in downwards(name) {
            let step = self.remembered(Some(candidate.clone()), || self.step(&here, &candidate, trip)).await;
            match step {
                Step::Cut(zone) => here = zone,
                Step::None => {}
                Step::Absent(answers) => {
                    return Enclosing { zone: here, absent: Some((candidate, answers)), broken: Vec::new() };
                }
                Step::Broken(broken) => return Enclosing { zone: here, absent: None, broken },
            }
        }
        Enclosing { zone: here, ..Enclosing::default() }
    }

    /// What a zone says of itself. Looked for once, and remembered with the zone.
    pub async fn details(&self, zone: &Zone, trip: &Trip<'_>) -> Details {
        let Some(apex) = &zone.apex else {
            return Details { servers: zone.servers.clone(), negative_ttl: None };
        };
        // Held while it is looked for, so that it is looked for once.
        let mut remembered = zone.details.lock().await;
        if let Some((until, details)) = remembered.as_ref()
            && *until > Instant::now()
        {
            return details.clone();
        }
        let details = self.find_details(zone, apex, trip).await;
        let time = if details.negative_ttl.is_some() { DETAILS } else { LONGEST_ABSENCE };
        *remembered = Some((Instant::now() + time, details.clone()));
        details
    }

    async fn find_details(&self, zone: &Zone, apex: &DnsName, trip: &Trip<'_>) -> Details {
        let (Ok(soa), Ok(ns)) = (Ask::own(apex, RecordType::SOA), Ask::own(apex, RecordType::NS)) else {
            return Details::default();
        };
        let allowed = zone.servers.iter().filter(|server| server.allowed);
        let soa = &soa;
        let asked = allowed.map(|server| async move {
            (server, self.wire.ask_once(trip, server.address, zone.limited(), soa).await.ok())
        });
        let answers = join_all(asked).await;
        let ttls = answers.iter().filter_map(|(_, reply)| reply.as_ref()?.negative_ttl());
        let negative_ttl = ttls.max();
        let mut servers = zone.servers.clone();
        let healthy = answers.iter().find(|(_, r)| r.as_ref().is_some_and(|r| r.failure(true).is_none()));
        if let Some((server, _)) = healthy
            && let Ok(reply) = self.wire.ask_once(trip, server.address, zone.limited(), &ns).await
        {
            let (mut names, _) = reply.name_servers(apex);
            names.retain(|name| !zone.servers.iter().any(|s| s.name.as_ref() == Some(name)));
            servers.extend(self.servers(names, &reply, zone.apex.as_ref(), trip).await);
            servers.truncate(MAX_ADDRESSES);
        }
        Details { servers, negative_ttl }
    }

    /// What is remembered under a name, or else what `find` finds; whoever else asks meanwhile waits for it.
    async fn remembered<F: Future<Output = Remembered>>(
        &self,
        name: Option<DnsName>,
        find: impl FnOnce() -> F,
    ) -> Step {
        let cell = self.cell(name);
        cell.get_or_init(find).await.step.clone()
    }

    fn cell(&self, name: Option<DnsName>) -> Cell {
        let now = Instant::now();
        let fresh = |cell: &Cell| cell.get().is_none_or(|remembered| remembered.until > now);
        let mut steps = self.steps.lock();
        if steps.len() >= MAX_STEPS && !steps.contains_key(&name) {
            steps.retain(|_, cell| fresh(cell));
            if steps.len() >= MAX_STEPS {
                steps.clear();
            }
        }
        let cell = steps.entry(name).or_default();
        if !fresh(cell) {
            *cell = Cell::default();
        }
        cell.clone()
    }

    /// The root: as configured, or as the resolvers know it.
    async fn root(&self, trip: &Trip<'_>) -> Remembered {
        let configured = self.wire.roots();
        if !configured.is_empty() {
            let servers = configured.iter().map(|a| NameServer { name: None, address: *a, allowed: true });
            return remember(Step::Cut(Zone::new(None, servers.collect())), LONGEST);
        }
        // Its servers seldom change: where no resolver tells them, those known before will do.
        let told = self.wire.first_resolver(trip, &Ask::root_servers()).await;
        let servers = match &told {
            Some(reply) => self.servers(reply.root_servers().0, reply, None, trip).await,
            None => Vec::new(),
        };
        if servers.is_empty() {
            let known = self.known_root.lock().clone();
            return remember(known.map_or(Step::Broken(Vec::new()), Step::Cut), SHORTEST);
        }
        let root = Zone::new(None, servers);
        *self.known_root.lock() = Some(root.clone());
        let ttl = told.map_or(0, |reply| reply.root_servers().1);
        remember(Step::Cut(root), bounded(ttl, LONGEST).max(ROOT))
    }

    /// One step down from `here` to `candidate`, which is one label longer than what was asked before.
    async fn step(&self, here: &Zone, candidate: &DnsName, trip: &Trip<'_>) -> Remembered {
        let Ok(ask) = Ask::own(candidate, RecordType::NS) else {
            return remember(Step::Broken(Vec::new()), LONGEST_ABSENCE);
        };
        let (mut broken, mut absent) = (Vec::new(), Vec::new());
        let mut tried = 0;
        for server in shuffled(&here.servers) {
            let answer = |outcome| ServerAnswer {
                name: server.name.clone(),
                address: server.address,
                role: ServerRole::Authoritative,
                outcome,
            };
            if !server.allowed {
                broken.push(answer(Outcome::Failed(Failure::PrivateAddress)));
                continue;
            }
            if tried == MAX_TRIES {
                break;
            }
            tried += 1;
            let reply = match self.wire.ask_once(trip, server.address, here.limited(), &ask).await {
                Ok(reply) => reply,
                Err(failure) => {
                    broken.push(answer(Outcome::Failed(failure)));
                    continue;
                }
            };
            match reply.delegation(candidate) {
                Delegation::Cut { servers, ttl } => {
                    let servers = self.servers(servers, &reply, here.apex.as_ref(), trip).await;
                    let zone = Zone::new(Some(candidate.clone()), servers);
                    return remember(Step::Cut(zone), bounded(ttl, LONGEST));
                }
                Delegation::None { ttl } => return remember(Step::None, bounded(ttl, LONGEST_ABSENCE)),
                // That a whole domain is not there is believed where a second server says so, too.
                Delegation::Absent { ttl } => {
                    absent.push((answer(Outcome::NxDomain { negative_ttl: ttl }), ttl));
                    if absent.len() == 2 {
                        break;
                    }
                }
                Delegation::Failed(failure) => broken.push(answer(Outcome::Failed(failure))),
            }
        }
        match absent.iter().map(|(_, ttl)| *ttl).min() {
            Some(ttl) => {
                let answers = absent.into_iter().map(|(answer, _)| answer).collect();
                remember(Step::Absent(answers), bounded(ttl, LONGEST_ABSENCE))
            }
            // That a look has used up its ration says nothing of the servers, and is no answer for another look.
            None if broken.iter().any(|a| a.outcome == Outcome::Failed(Failure::GivenUp)) => {
                remember(Step::Broken(broken), Duration::ZERO)
            }
            None => remember(Step::Broken(broken), LONGEST_ABSENCE),
        }
    }

    /// The servers of these names: by glue that the zone asked may vouch for, or else by asking a resolver. `within`
    /// is that zone.
    async fn servers(
        &self,
        mut names: Vec<DnsName>,
        reply: &Reply,
        within: Option<&DnsName>,
        trip: &Trip<'_>,
    ) -> Vec<NameServer> {
        names.truncate(MAX_NAMES);
        let found = names.iter().map(|name| async {
            let vouched = within.is_none_or(|zone| name.is_in(zone));
            let glue = if vouched { reply.addresses(name, true) } else { Vec::new() };
            if glue.is_empty() { self.addresses(name, trip).await } else { glue }
        });
        let found = join_all(found).await;
        let mut servers = Vec::new();
        for (name, addresses) in names.iter().zip(found) {
            // One address of each kind: the others are the same server, or as good as.
            let one = |v4: bool| addresses.iter().filter(move |ip| ip.is_ipv4() == v4).min();
            for ip in [one(true), one(false)].into_iter().flatten() {
                let address = SocketAddr::new(*ip, DNS_PORT);
                servers.push(NameServer {
                    name: Some(name.clone()),
                    address,
                    allowed: self.wire.may_ask(*ip),
                });
            }
        }
        servers.truncate(MAX_ADDRESSES);
        servers
    }

    async fn addresses(&self, name: &DnsName, trip: &Trip<'_>) -> Vec<IpAddr> {
        let of = |kind| async move {
            let ask = Ask::resolver(name, kind).ok()?;
            let reply = self.wire.first_resolver(trip, &ask).await?;
            Some(reply.resolved_addresses(kind))
        };
        let (v4, v6) = tokio::join!(of(RecordType::A), of(RecordType::AAAA));
        [v4, v6].into_iter().flatten().flatten().collect()
    }
}

fn remember(step: Step, time: Duration) -> Remembered {
    Remembered { step, until: Instant::now() + time }
}

fn bounded(ttl: u32, longest: Duration) -> Duration {
    Duration::from_secs(u64::from(ttl)).clamp(SHORTEST, longest)
}

/// `com`, `contoso.com`, `_domainkey.contoso.com`.
fn downwards(name: &DnsName) -> Vec<DnsName> {
    let mut all: Vec<DnsName> = std::iter::successors(Some(name.clone()), DnsName::parent).collect();
    all.reverse();
    all
}

/// In an order that differs each time, so that no server bears all.
fn shuffled(servers: &[NameServer]) -> Vec<&NameServer> {
    let mut all: Vec<(u32, &NameServer)> =
        servers.iter().map(|server| (getrandom::u32().unwrap_or_default(), server)).collect();
    all.sort_by_key(|(random, _)| *random);
    all.into_iter().map(|(_, server)| server).collect()
}
