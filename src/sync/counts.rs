//! What a sync counts, for people who watch it.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use crate::metrics::Metrics;

/// The figures of one signer's files.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) domains: Gauge,
    pub(super) signatures: Gauge,
    pub(super) unreadable: Gauge,
    pub(super) left_out: Gauge,
    pub(super) not_found: Gauge,
    pub(super) updates: Counter,
    pub(super) failures: Counter,
}

impl Counts {
    pub(super) fn register(metrics: &Metrics) -> Self {
        let counts = Self::default();
        metrics.register(|registry| {
            let Self { domains, signatures, unreadable, left_out, not_found, updates, failures } = &counts;
            let gauges = [
                ("sync_domains", "Domains in the signer's files", domains),
                ("sync_signatures", "Signatures in the signer's files", signatures),
                ("sync_unreadable_sources", "Key Secrets that cannot be used at the moment", unreadable),
                ("sync_left_out_signatures", "Signatures that this signer cannot make", left_out),
                ("sync_signer_not_found", "1 while the process is not found that is to be told", not_found),
            ];
            for (name, help, gauge) in gauges {
                registry.register(name, help, gauge.clone());
            }
            registry.register("sync_updates", "Changes that the signer was told of", updates.clone());
            let help = "Attempts to write the files or to tell the signer that failed";
            registry.register("sync_failures", help, failures.clone());
        });
        counts
    }
}

/// A number as a gauge takes it.
pub(super) fn whole(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
