//! What the DNS server tells about itself.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::answer::Transport;
use super::progress::Progress;
use super::serving::Serving;

/// Zones whose serial is told; with more of them none is.
const MOST_ZONES: usize = 1000;

/// Collects when asked: nothing is kept twice.
#[derive(Debug)]
pub struct DnsMetrics {
    /// What is served.
    pub serving: Arc<Serving>,
    /// How following goes.
    pub progress: Arc<Progress>,
}

impl Collector for DnsMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let sums = self.serving.tallies.sums();
        let mut family = encoder.encode_descriptor(
            "dns_queries",
            "Queries answered, by transport, type and response code; those over the rate limit included",
            None,
            MetricType::Counter,
        )?;
        for (transport, kind, code, count) in &sums.answers {
            let transport = match transport {
                Transport::Udp => "udp",
                Transport::Tcp => "tcp",
            };
            let labels = [("transport", transport), ("type", kind), ("rcode", code)];
            ConstCounter::new(*count).encode(family.encode_family(&labels)?)?;
        }
        for (name, help, value) in [
            ("dns_truncated", "Answers over UDP that the client has to fetch over TCP", sums.truncated),
            ("dns_cookies", "Queries with a cookie that this server knows as its own", sums.proven),
            ("dns_ignored_packets", "Packets that deserve no answer", sums.silent),
        ] {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
        }
        let [whole, changes, nothing] = sums.transfers;
        let [heard, unheard] = sums.notified;
        for (name, help, label, counts) in [
            (
                "dns_rate_limited",
                "Answers over the rate limit, by what became of them",
                "action",
                &[("cut", sums.cut), ("dropped", sums.dropped)][..],
            ),
            (
                "dns_transfers",
                "Transfers to secondaries, by what was sent",
                "sent",
                &[("whole", whole), ("changes", changes), ("nothing", nothing)],
            ),
            (
                "dns_notifies",
                "Secondaries told of a change, by whether they answered",
                "result",
                &[("answered", heard), ("unanswered", unheard)],
            ),
        ] {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (value, count) in counts {
                ConstCounter::new(*count).encode(family.encode_family(&[(label, *value)])?)?;
            }
        }
        self.encode_zones(&mut encoder)
    }
}

impl DnsMetrics {
    fn encode_zones(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let snapshot = self.serving.snapshot.load();
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let count = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        let (zones, records) = snapshot.size();
        let progress = &self.progress;
        for (name, help, value) in [
            ("dns_zones", "Zones that are served", count(zones)),
            ("dns_records", "Key records that are served", count(records)),
            (
                "dns_watch_connected",
                "0 from a failure of the watch until something comes through it again, otherwise 1",
                i64::from(progress.is_connected()),
            ),
            (
                "dns_last_list_timestamp_seconds",
                "When the record sets were last listed as a whole; 0 if not since the start",
                number(progress.last_list()),
            ),
            (
                "dns_last_change_timestamp_seconds",
                "When a change of the zones was last served; 0 if not since the start",
                number(progress.last_change()),
            ),
        ] {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        if zones > MOST_ZONES {
            return Ok(());
        }
        let mut family = encoder.encode_descriptor(
            "dns_zone_serial",
            "The SOA serial of a zone",
            None,
            MetricType::Gauge,
        )?;
        let mut serials: Vec<_> = snapshot.zones().map(|zone| (zone.name.text(), zone.serial)).collect();
        serials.sort();
        for (zone, serial) in serials {
            let labels = [("zone", zone)];
            ConstGauge::new(i64::from(serial)).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::answer::{Asker, answer};
    use crate::dns::limit::Verdict;
    use crate::dns::testing::{KEY, serving};
    use crate::metrics::Metrics;

    #[test]
    fn everything_is_told() {
        let serving = serving(&[(KEY, "text")]);
        let tally = serving.tallies.add(Transport::Udp);
        let asker = Asker { ip: "127.0.0.1".parse().unwrap(), transport: Transport::Udp, now: 0 };
        let packet = b"\0\x01\0\0\0\x01\0\0\0\0\0\0\x01x\0\0\x10\0\x01";
        let mut out = Vec::new();
        let told =
            answer(packet, &serving.snapshot.load(), &serving.cookies.load(), &asker, &mut out).unwrap();
        tally.answered(&told, Verdict::Send);
        tally.answered(&told, Verdict::Drop);
        tally.silent();
        let metrics = Metrics::default();
        let progress = Arc::new(Progress::default());
        metrics.register(|registry| {
            registry.register_collector(Box::new(DnsMetrics { serving, progress }));
        });
        insta::assert_snapshot!(metrics.render().unwrap());
    }
}
