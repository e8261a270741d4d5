//! What the milter counts.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// Why a message left as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skip {
    /// It came from a client whose mail is not ours to sign.
    ClientNotTrusted,
    /// Its `From:` has none of our domains.
    DomainNotOurs,
    /// It has every signature already.
    AlreadySigned,
    /// Whose mail it is cannot be told: no `From:`, several, or one without an address; or no header at all.
    Unsignable,
}

/// Why a message that is ours could not be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Keys have not been read yet.
    NotLoaded,
    /// The source of the keys was out of reach for too long.
    Stale,
    /// No key of the domain may sign.
    NoKey,
    /// The domain's keys cannot be read.
    Unreadable,
    /// The cryptographic library refused the key.
    Crypto,
}

impl Skip {
    const ALL: [Self; 4] =
        [Self::ClientNotTrusted, Self::DomainNotOurs, Self::AlreadySigned, Self::Unsignable];

    /// The label of the metric.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::ClientNotTrusted => "client_not_trusted",
            Self::DomainNotOurs => "domain_not_ours",
            Self::AlreadySigned => "already_signed",
            Self::Unsignable => "unsignable",
        }
    }
}

impl Failure {
    const ALL: [Self; 5] = [Self::NotLoaded, Self::Stale, Self::NoKey, Self::Unreadable, Self::Crypto];

    /// The label of the metric.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::NotLoaded => "not_loaded",
            Self::Stale => "stale",
            Self::NoKey => "no_key",
            Self::Unreadable => "unreadable",
            Self::Crypto => "crypto",
        }
    }

    /// What to do about it, for the log.
    #[must_use]
    pub fn remedy(self) -> &'static str {
        match self {
            Self::NotLoaded => "keys have not been read yet; see the log for what hinders that",
            Self::Stale => "the source of the keys has been out of reach for longer than --stale-after",
            Self::NoKey => "no key of the domain may sign yet; status of its DkimDomain says what is missing",
            Self::Unreadable => "the keys of the domain cannot be read; see the log for why",
            Self::Crypto => "the key of the domain is not usable; its Secret was changed by hand",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

/// The milter's metrics. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Counters(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    signed: Counter,
    skipped: Family<Reason, Counter>,
    skipped_by: [Counter; Skip::ALL.len()],
    failed: Family<Reason, Counter>,
    failed_by: [Counter; Failure::ALL.len()],
    seconds: Histogram,
    connections: Gauge,
    accepted: Counter,
    refused: Counter,
    protocol_errors: Counter,
    domains: Gauge,
    problems: Gauge,
    loads: Counter,
    confirmed: Gauge,
}

impl Default for Counters {
    fn default() -> Self {
        let (skipped, failed) = (Family::<Reason, Counter>::default(), Family::<Reason, Counter>::default());
        let of = |family: &Family<Reason, Counter>, reason| family.get_or_create(&Reason { reason }).clone();
        Self(Arc::new(Inner {
            signed: Counter::default(),
            skipped_by: Skip::ALL.map(|skip| of(&skipped, skip.label())),
            skipped,
            failed_by: Failure::ALL.map(|failure| of(&failed, failure.label())),
            failed,
            // From 62.5 µs to 128 ms: an RSA-2048 signature takes about 300 µs.
            seconds: Histogram::new(exponential_buckets(62.5e-6, 2.0, 12)),
            connections: Gauge::default(),
            accepted: Counter::default(),
            refused: Counter::default(),
            protocol_errors: Counter::default(),
            domains: Gauge::default(),
            problems: Gauge::default(),
            loads: Counter::default(),
            confirmed: Gauge::default(),
        }))
    }
}

impl Counters {
    /// Registers all of them; the registry has a prefix of its own.
    pub fn register(&self, registry: &mut Registry) {
        let Inner {
            signed,
            skipped,
            skipped_by: _,
            failed,
            failed_by: _,
            seconds,
            connections,
            accepted,
            refused,
            protocol_errors,
            domains,
            problems,
            loads,
            confirmed,
        } = &*self.0;
        let milter = registry.sub_registry_with_prefix("milter");
        milter.register("messages_signed", "Messages signed", signed.clone());
        milter.register("messages_skipped", "Messages left as they were, by reason", skipped.clone());
        milter.register(
            "messages_failed",
            "Messages of ours that could not be signed, by reason",
            failed.clone(),
        );
        milter.register_with_unit(
            "signing",
            "Time to sign a message, all signatures together",
            Unit::Seconds,
            seconds.clone(),
        );
        milter.register("connections", "Connections open now", connections.clone());
        milter.register("connections_accepted", "Connections accepted", accepted.clone());
        milter.register(
            "connections_refused",
            "Connections closed at once, because their address is no MTA's (--mta-networks)",
            refused.clone(),
        );
        milter.register(
            "protocol_errors",
            "Connections closed because of something no MTA sends",
            protocol_errors.clone(),
        );
        milter.register("domains", "Domains whose keys are loaded", domains.clone());
        milter.register("key_problems", "Places of keys that cannot be used at the moment", problems.clone());
        milter.register("key_loads", "How often the table of keys was exchanged", loads.clone());
        milter.register_with_unit(
            "keys_confirmed_timestamp",
            "When the source of the keys was last reached, in seconds since 1970",
            Unit::Seconds,
            confirmed.clone(),
        );
    }

    pub(super) fn signed(&self, seconds: f64) {
        self.0.signed.inc();
        self.0.seconds.observe(seconds);
    }

    pub(super) fn skipped(&self, skip: Skip) {
        if let Some(counter) =
            Skip::ALL.iter().position(|s| *s == skip).and_then(|at| self.0.skipped_by.get(at))
        {
            counter.inc();
        }
    }

    pub(super) fn failed(&self, failure: Failure) {
        let at = Failure::ALL.iter().position(|f| *f == failure);
        if let Some(counter) = at.and_then(|at| self.0.failed_by.get(at)) {
            counter.inc();
        }
    }

    pub(super) fn opened(&self) {
        self.0.accepted.inc();
        self.0.connections.inc();
    }

    pub(super) fn closed(&self) {
        self.0.connections.dec();
    }

    pub(super) fn refused(&self) {
        self.0.refused.inc();
    }

    pub(super) fn protocol_error(&self) {
        self.0.protocol_errors.inc();
    }

    pub(super) fn loaded(&self, domains: usize, problems: usize) {
        self.0.loads.inc();
        self.0.domains.set(i64::try_from(domains).unwrap_or(i64::MAX));
        self.0.problems.set(i64::try_from(problems).unwrap_or(i64::MAX));
    }

    pub(super) fn confirmed(&self, now: jiff::Timestamp) {
        self.0.confirmed.set(now.as_second());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_there_from_the_start() {
        let counters = Counters::default();
        let mut registry = Registry::with_prefix("dkim_operator");
        counters.register(&mut registry);
        counters.signed(0.0003);
        counters.skipped(Skip::Unsignable);
        counters.failed(Failure::Crypto);
        counters.opened();
        counters.loaded(3, 1);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        // In no particular order of labels: sorted, and without the buckets.
        let mut lines: Vec<&str> = text.lines().filter(|line| !line.contains("_bucket")).collect();
        lines.sort_unstable();
        insta::assert_snapshot!(lines.join("\n"));
    }
}
