//! How long a new domain waits for its first look while ten thousand others wait for their records, on real DNS. One
//! line for each figure, as in `operator.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a benchmark fails by panicking")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use dkim_operator::lookup::{Limits, Looker, Lookout, LookoutConfig, LookupConfig, Pace, Reach, Timed};
use dkim_operator::model::name::{DnsName, DomainName};
use dkim_operator::model::selector::PerSlot;
use dkim_operator::model::sighting::{Question, SlotQuestion};
use dkim_testbed::DnsTree;
use jiff::Timestamp;

/// Domains whose records are awaited.
const PENDING: u32 = 10_000;
/// Domains that come then.
const NEW: u32 = 20;
/// Zones, which stand for namespaces.
const ZONES: u32 = 20;
/// Longest time until the first look of a new one, in seconds.
const GOAL: f64 = 2.0;
/// Most questions a second: the most that a provider may allow.
const QUERIES: u32 = 1000;

fn question(number: u32) -> Question {
    let domain = format!("d{number}.z{}.load.example", number % ZONES);
    let name = |text: String| DnsName::new(text).expect("a name");
    let slot = |n: u8| SlotQuestion {
        alias: name(format!("selector{n}._domainkey.{domain}")),
        target: name(format!("selector{n}-d{number}._domainkey.contoso.onmail.example")),
    };
    Question { domain: DomainName::parse(&domain).expect("a domain"), slots: PerSlot([slot(1), slot(2)]) }
}

fn bench(name: &str, value: f64, unit: &str, reference: &str, against: f64) {
    println!("bench {name} {value:.2} {unit} ref={reference}:{against:.2} ratio={:.2}", value / against);
}

/// The longest of the new ones' waits, and the questions of the busiest second beside what is allowed.
#[tokio::main]
async fn main() {
    let tree = DnsTree::start().await.expect("DNS");
    tree.add_zone("onmail.example", 60).await.expect("a zone");
    for zone in 0..ZONES {
        tree.add_zone(&format!("z{zone}.load.example"), 60).await.expect("a zone");
    }
    let looker = Arc::new(Looker::new(LookupConfig {
        resolvers: vec![tree.resolver().into()],
        reach: Reach::allowing(["127.0.0.0/8".parse().expect("a network")]),
        limits: Limits { total: QUERIES, server: QUERIES, zone: QUERIES / 10 },
        ..LookupConfig::default()
    }));
    let (lookout, _news) = Lookout::fair(LookoutConfig::default(), |number: &u32| u64::from(number % ZONES));
    let timed = Arc::new(Timed::new(looker.clone(), Timestamp::now));
    let pace = Pace { every: Duration::from_secs(15) };
    for number in 0..PENDING {
        lookout.watch(number, question(number), pace, timed.clone());
    }
    let begin = Instant::now();
    while (0..PENDING).any(|number| lookout.latest(&number).is_none()) {
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(begin.elapsed() < Duration::from_secs(600), "every domain is looked at once");
    }
    eprintln!(
        "first_look: {PENDING} domains looked at once in {:.0} s, {} questions",
        begin.elapsed().as_secs_f64(),
        looker.sent()
    );
    let (mut waits, mut busiest) = (Vec::new(), 0_f64);
    for number in PENDING..PENDING + NEW {
        let (begin, before) = (Instant::now(), looker.sent());
        lookout.watch(number, question(number), pace, timed.clone());
        while lookout.latest(&number).is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        waits.push(begin.elapsed().as_secs_f64());
        tokio::time::sleep(Duration::from_secs(1).saturating_sub(begin.elapsed())).await;
        let second = begin.elapsed().as_secs_f64();
        busiest = busiest.max((looker.sent() - before) as f64 / second);
    }
    waits.sort_by(f64::total_cmp);
    let longest = waits.last().copied().unwrap_or(f64::INFINITY);
    eprintln!("first_look: median {:.3} s", waits[waits.len() / 2]);
    bench("first_look_under_load", longest, "s", "goal", GOAL);
    bench("queries_under_load", busiest, "queries/s", "limit", f64::from(QUERIES));
}
