//! Everything that is sent goes through here: paced, rationed, bounded in time.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hickory_proto::rr::RecordType;
use rustls::ClientConfig;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::config::LookupConfig;
use super::exchange::{self, Ask};
use super::https;
use super::pacer::{Pacer, Ration};
use super::reach::Reach;
use super::reply::Reply;
use super::resolver::{self, Resolver, Way};
use crate::model::name::DnsName;
use crate::model::sighting::{self, Failure, Outcome, Security, ServerAnswer, ServerRole};

/// Bound on one try of one question.
const TIMEOUT: Duration = Duration::from_millis(1500);
/// Tries of one question.
const ATTEMPTS: u32 = 2;
/// Most questions of one look.
const MAX_QUESTIONS: u32 = 160;
/// Longest time of one look whose questions need not wait in line.
const LONGEST_LOOK: Duration = Duration::from_secs(12);
/// What is left of a look's time at least after a question had to wait.
const AFTER_WAITING: Duration = Duration::from_secs(4);
/// Shorter waits are part of the look.
const SHORT_WAIT: Duration = Duration::from_millis(100);

/// One look on its way: what it may still use up, and whether somebody waits for it.
#[derive(Debug)]
pub struct Trip<'a> {
    ration: &'a Ration,
    urgent: bool,
}

impl<'a> Trip<'a> {
    /// A trip on a ration.
    #[must_use]
    pub fn new(ration: &'a Ration, urgent: bool) -> Self {
        Self { ration, urgent }
    }

    /// What one look may use up.
    #[must_use]
    pub fn ration() -> Ration {
        Ration::new(MAX_QUESTIONS, LONGEST_LOOK, sighting::LONGEST_LOOK)
    }
}

/// The way out.
#[derive(Debug)]
pub struct Wire {
    resolvers: Vec<Resolver>,
    tls: Option<Arc<ClientConfig>>,
    https: Option<Arc<ClientConfig>>,
    roots: Vec<SocketAddr>,
    reach: Reach,
    pacer: Pacer,
    sent: Arc<AtomicU64>,
}

impl Wire {
    /// A way out with these settings.
    #[must_use]
    pub fn new(config: LookupConfig) -> Self {
        let LookupConfig { resolvers, authorities, authoritative: _, roots, reach, limits } = config;
        let resolvers = if resolvers.is_empty() {
            system_resolvers().into_iter().map(Resolver::from).collect()
        } else {
            resolvers
        };
        let trust =
            |used: bool, protocol| used.then(|| resolver::trust(authorities.as_deref(), protocol)).flatten();
        let any = |is: fn(&Way) -> bool| resolvers.iter().any(|resolver| is(&resolver.way));
        let tls = trust(any(|way| matches!(way, Way::Tls { .. })), None);
        let https = trust(any(|way| matches!(way, Way::Https { .. })), Some(b"h2"));
        Self { resolvers, tls, https, roots, reach, pacer: Pacer::new(limits), sent: Arc::default() }
    }

    /// The recursive resolvers.
    #[must_use]
    pub fn resolvers(&self) -> &[Resolver] {
        &self.resolvers
    }

    /// The configured root servers.
    #[must_use]
    pub fn roots(&self) -> &[SocketAddr] {
        &self.roots
    }

    /// Whether an address that a delegation names may be asked.
    #[must_use]
    pub fn may_ask(&self, ip: IpAddr) -> bool {
        self.reach.includes(ip)
    }

    /// How many questions were sent so far.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Asks a server once. `zone` is the tenant's zone that bears the load, where it is one.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn ask_once(
        &self,
        trip: &Trip<'_>,
        server: SocketAddr,
        zone: Option<&DnsName>,
        ask: &Ask,
    ) -> Result<Reply, Failure> {
        self.bounded(trip, server, zone, exchange::ask_once(server, ask)).await
    }

    /// Asks a resolver, and once more where no answer came.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn ask_resolver(
        &self,
        trip: &Trip<'_>,
        resolver: &Resolver,
        ask: &Ask,
    ) -> Result<Reply, Failure> {
        let Resolver { address, way } = resolver;
        let connector = |config: &Option<Arc<ClientConfig>>| {
            config.clone().map(TlsConnector::from).ok_or(Failure::Unreachable)
        };
        match way {
            Way::Plain => self.ask(trip, *address, None, ask).await,
            Way::Tls { name } => {
                let tls = connector(&self.tls)?;
                self.encrypted(trip, *address, || exchange::ask_over_tls(&tls, *address, name, ask)).await
            }
            Way::Https { name, path } => {
                let tls = connector(&self.https)?;
                self.encrypted(trip, *address, || https::ask(&tls, *address, name, path, ask)).await
            }
        }
    }

    async fn encrypted<F: Future<Output = Result<Reply, Failure>>>(
        &self,
        trip: &Trip<'_>,
        resolver: SocketAddr,
        exchange: impl Fn() -> F,
    ) -> Result<Reply, Failure> {
        let once = || self.bounded(trip, resolver, None, exchange());
        match once().await {
            Err(Failure::Timeout | Failure::Malformed) => once().await,
            other => other,
        }
    }

    /// Lets a question out when its turn has come, and bounds its time.
    async fn bounded(
        &self,
        trip: &Trip<'_>,
        server: SocketAddr,
        zone: Option<&DnsName>,
        exchange: impl Future<Output = Result<Reply, Failure>>,
    ) -> Result<Reply, Failure> {
        if trip.ration.is_spent() {
            return Err(Failure::GivenUp);
        }
        let passed =
            tokio::time::timeout_at(trip.ration.last(), self.pacer.pass(server.ip(), zone, trip.urgent));
        let begin = Instant::now();
        passed.await.map_err(|_| Failure::GivenUp)?;
        if begin.elapsed() > SHORT_WAIT {
            trip.ration.waited(AFTER_WAITING);
        }
        trip.ration.take().ok_or(Failure::GivenUp)?;
        self.sent.fetch_add(1, Ordering::Relaxed);
        let until = trip.ration.until().min(Instant::now() + TIMEOUT);
        let answer = tokio::time::timeout_at(until, exchange).await;
        answer.unwrap_or(Err(Failure::Timeout))
    }

    /// Asks, and once more where no answer came.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn ask(
        &self,
        trip: &Trip<'_>,
        server: SocketAddr,
        zone: Option<&DnsName>,
        ask: &Ask,
    ) -> Result<Reply, Failure> {
        let mut last = Failure::GivenUp;
        for attempt in 0..ATTEMPTS {
            match self.ask_once(trip, server, zone, ask).await {
                Err(Failure::GivenUp) if attempt > 0 => break,
                Err(failure @ (Failure::Timeout | Failure::Malformed)) => last = failure,
                other => return other,
            }
        }
        Err(last)
    }

    /// The answer of the first resolver that gives one.
    pub async fn first_resolver(&self, trip: &Trip<'_>, ask: &Ask) -> Option<Reply> {
        for resolver in &self.resolvers {
            if let Ok(reply) = self.ask_resolver(trip, resolver, ask).await
                && reply.failure(false).is_none()
            {
                return Some(reply);
            }
        }
        None
    }

    /// Asks a resolver for a TXT as a receiver does, and where it fails whether DNSSEC is why: a resolver that
    /// fails, and answers once validation is left out, has found the answer bogus.
    pub async fn as_receiver(
        &self,
        trip: &Trip<'_>,
        resolver: &Resolver,
        name: &DnsName,
    ) -> (Result<Reply, Failure>, Security) {
        let ask = match Ask::resolver(name, RecordType::TXT) {
            Ok(ask) => ask,
            Err(failure) => return (Err(failure), Security::Unproven),
        };
        let reply = match self.ask_resolver(trip, resolver, &ask).await {
            Ok(reply) => reply,
            Err(failure) => return (Err(failure), Security::Unproven),
        };
        match reply.failure(false) {
            None if reply.is_validated() => (Ok(reply), Security::Secure),
            None => (Ok(reply), Security::Unproven),
            Some(Failure::ServFail) => {
                let again = self.ask_resolver(trip, resolver, &ask.without_validation()).await;
                if again.is_ok_and(|reply| reply.failure(false).is_none()) {
                    (Err(Failure::Bogus), Security::Bogus)
                } else {
                    (Err(Failure::ServFail), Security::Unproven)
                }
            }
            Some(failure) => (Err(failure), Security::Unproven),
        }
    }
}

/// A resolver's answer.
#[must_use]
pub fn by_resolver(resolver: SocketAddr, outcome: Outcome) -> ServerAnswer {
    ServerAnswer { name: None, address: resolver, role: ServerRole::Recursive, outcome }
}

/// The resolvers of `/etc/resolv.conf`.
#[must_use]
pub fn system_resolvers() -> Vec<SocketAddr> {
    let Ok((config, _)) = hickory_resolver::system_conf::read_system_conf() else { return Vec::new() };
    config.name_servers.iter().map(|server| SocketAddr::new(server.ip, super::config::DNS_PORT)).collect()
}
