//! Speed and memory of the main job, on a real API server with real DNS. One line for each figure:
//! `bench NAME VALUE UNIT ref=REFNAME:REFVALUE ratio=R`.
//!
//! The servers and the measurement share the machine with the controller, so the ratios count, not the values.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a benchmark fails by panicking")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};

use common::{World, condition, conditions};
use dkim_operator::api::{ConditionType, DkimDomain};
use dkim_operator::model::key::{KeyKind, PrivateKey};
use dkim_testbed::Usage;
use futures::StreamExt;
use kube::api::{Api, ListParams, PostParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, watcher};
use kube::{Client, ResourceExt};
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// Domains to onboard; each has two keys.
const DOMAINS: usize = 200;
/// Most resident memory of the controller, in megabytes.
const RSS_GOAL: f64 = 40.0;
/// Longest time from a published CNAME to signing as the domain, in seconds: the 99th percentile.
const ENABLED_GOAL: f64 = 5.0;

#[tokio::main]
async fn main() {
    keygen();
    let world = World::start().await.expect("the test world starts");
    let namespace = world.plane.namespace().await.expect("a namespace");
    let ordinary = world.provider("ordinary", json!({ "default": false }));
    world.apply(&with_default_times(ordinary)).await.expect("a provider");
    world.tree.add_zone("bench.example", 1).await.expect("a zone");
    onboard(&world, &namespace).await;
    let resident = world.operator.controller().usage().await.expect("memory of the controller").resident;
    let megabytes = resident as f64 / 1e6;
    bench("controller_rss", megabytes, "MB", "goal", RSS_GOAL, megabytes / RSS_GOAL);
    let namespace = world.plane.namespace().await.expect("a namespace");
    time_to_enabled(&world, &namespace).await;
}

fn bench(name: &str, value: f64, unit: &str, reference: &str, against: f64, ratio: f64) {
    println!("bench {name} {value:.2} {unit} ref={reference}:{against:.2} ratio={ratio:.2}");
}

/// The same keys, from the same seeds: ours with PKCS#8 and wiped memory, and what the crate alone takes.
fn keygen() {
    let (mut ours, mut raw) = (Duration::ZERO, Duration::ZERO);
    let keys = 60;
    for seed in 0..keys {
        let begin = Instant::now();
        PrivateKey::generate(KeyKind::Rsa2048, &mut StdRng::seed_from_u64(seed)).expect("a key");
        ours += begin.elapsed();
        let begin = Instant::now();
        rsa::PrivateKey::new(&mut StdRng::seed_from_u64(seed), 2048).expect("a key");
        raw += begin.elapsed();
    }
    let rate = |time: Duration| keys as f64 / time.as_secs_f64();
    bench("keygen_rsa2048", rate(ours), "keys/s", "rsa_crate", rate(raw), rate(ours) / rate(raw));
}

/// The time that the crate alone takes to make a key for each seed, with two threads.
fn raw(seeds: Range<usize>) -> Duration {
    let begin = Instant::now();
    thread::scope(|scope| {
        for thread in 0..2 {
            let seeds = seeds.clone().skip(thread).step_by(2);
            scope.spawn(move || {
                for seed in seeds {
                    rsa::PrivateKey::new(&mut StdRng::seed_from_u64(seed as u64), 2048).expect("a key");
                }
            });
        }
    });
    begin.elapsed()
}

fn name(number: usize) -> String {
    format!("d{number}.bench.example")
}

/// From the first create until each domain has both keys, in the Secret and published. As many keys are made by the crate
/// alone, half of them before and half of them after: processors are not always as fast.
async fn onboard(world: &World, namespace: &str) {
    let api: Api<DkimDomain> = world.domains(namespace);
    settle(world).await;
    let first_half = raw(0..DOMAINS);
    let done = tokio::spawn(when(world.client(), namespace.to_owned(), DOMAINS, onboarded));
    let before = processors(world).await;
    let asked = requests(world).await;
    let begin = Instant::now();
    for number in 0..DOMAINS {
        let mut manifest = world.domain(namespace, &name(number), json!({}));
        manifest["spec"] = json!({ "domain": name(number), "providerRef": { "name": "ordinary" } });
        let manifest = serde_json::from_value(manifest).expect("a manifest");
        api.create(&PostParams::default(), &manifest).await.expect("created");
    }
    in_time(world, namespace, done).await;
    let took = begin.elapsed();
    for ((name, after), (_, before)) in processors(world).await.iter().zip(before) {
        let each = (*after - before).as_secs_f64() * 1e3 / DOMAINS as f64;
        eprintln!("onboarding: {each:.1} ms of processor time for each domain in {name}");
    }
    for (what, count) in requests(world).await {
        let each = (count - asked.get(&what).copied().unwrap_or_default()) / DOMAINS as f64;
        if each >= 0.05 {
            eprintln!("onboarding: {each:.2} requests for each domain: {what}");
        }
    }
    settle(world).await;
    let raw = (DOMAINS * 2) as f64 / (first_half + raw(DOMAINS..DOMAINS * 2)).as_secs_f64();
    let rate = (DOMAINS * 2) as f64 / took.as_secs_f64();
    bench("onboard_rsa2048", rate, "keys/s", "rsa_crate_2_threads", raw, rate / raw);
}

/// With the times that providers have by default, instead of those of tests.
fn with_default_times(mut provider: Value) -> Value {
    let spec = provider["spec"].as_object_mut().expect("a spec");
    spec.remove("keyPolicy");
    let mut take = |field: &str| spec["verification"][field].take();
    let (resolvers, networks) = (take("resolvers"), take("allowPrivateNetworks"));
    spec["verification"] = json!({ "resolvers": resolvers, "allowPrivateNetworks": networks });
    for time in ["ttl", "negativeTtl"] {
        spec["publish"].as_object_mut().expect("a block").remove(time);
    }
    provider
}

/// Waits, for half a minute at most, until the servers rest: what they do in the seconds after their start is no part
/// of onboarding.
async fn settle(world: &World) {
    const WINDOW: Duration = Duration::from_secs(1);
    let total = async || processors(world).await.iter().map(|(_, time)| *time).sum::<Duration>();
    let mut before = total().await;
    for second in 0..30 {
        tokio::time::sleep(WINDOW).await;
        let after = total().await;
        let busy = (after - before).as_secs_f64() / WINDOW.as_secs_f64();
        eprintln!("second {second} after the start: the servers use {:.0} % of a processor", busy * 100.0);
        if busy < 0.15 {
            return;
        }
        before = after;
    }
}

/// The processor time so far of everything that onboarding keeps busy.
async fn processors(world: &World) -> Vec<(String, Duration)> {
    let usage =
        |name: &str, usage: dkim_testbed::Result<Usage>| (name.to_owned(), usage.expect("it runs").cpu);
    let mut all = vec![usage("the controller", world.operator.controller().usage().await)];
    for dns in world.operator.dns() {
        all.push(usage("the embedded DNS server", dns.usage().await));
    }
    all.push(usage("Unbound", world.tree.unbound().usage().await));
    all.push(usage("Knot", world.tree.hosting().usage().await));
    let plane = world.plane.usage().await.expect("the control plane runs");
    all.extend(plane.into_iter().map(|(name, usage)| (name, usage.cpu)));
    all
}

/// What the API server was asked so far, by verb and resource.
async fn requests(world: &World) -> BTreeMap<String, f64> {
    let metrics = world.plane.kubectl(["get", "--raw", "/metrics"]).await.expect("kubectl");
    let mut all = BTreeMap::new();
    for line in metrics.stdout.lines().filter_map(|line| line.strip_prefix("apiserver_request_total{")) {
        let Some((labels, count)) = line.rsplit_once("} ") else { continue };
        let label = |name: &str| {
            let value = labels.split(&format!("{name}=\"")).nth(1).and_then(|rest| rest.split('"').next());
            value.unwrap_or_default().to_owned()
        };
        let what = format!("{} {} {}", label("verb"), label("resource"), label("subresource"));
        *all.entry(what).or_default() += count.parse::<f64>().unwrap_or_default();
    }
    all
}

fn onboarded(domain: &DkimDomain) -> bool {
    let keys = domain.status.iter().flat_map(|s| &s.keys).filter(|k| k.fingerprint.is_some()).count();
    let made = condition(domain, ConditionType::KeysGenerated).is_some_and(|(status, ..)| status == "True");
    made && keys == 2
}

/// From the moment the second CNAME is in the tenant's zone until status says that mail is signed as the domain. Each
/// domain is a zone, as tenants' are: one zone is not asked more often than it should be.
async fn time_to_enabled(world: &World, namespace: &str) {
    for number in 0..DOMAINS / 4 {
        let name = format!("tenant{number}.example");
        world.tree.add_zone(&name, 1).await.expect("a zone");
        world.create(namespace, &name, json!({})).await;
    }
    let ready = tokio::spawn(when(world.client(), namespace.to_owned(), DOMAINS / 4, signs));
    in_time(world, namespace, ready).await;
    let all = world.domains(namespace).list(&ListParams::default()).await.expect("the domains");
    let watch = tokio::spawn(when(world.client(), namespace.to_owned(), all.items.len(), enabled));
    let mut published = HashMap::new();
    for domain in &all {
        let records = domain.status.as_ref().expect("a status").records.clone();
        for record in &records {
            let target = format!("{}.", record.value);
            world.tree.add_record(&record.name, 1, "CNAME", &target).await.expect("published");
        }
        published.insert(domain.name_any(), Instant::now());
    }
    let enabled = in_time(world, namespace, watch).await;
    let took = |(name, at): (&String, &Instant)| enabled[name].duration_since(*at).as_secs_f64();
    let mut seconds: Vec<f64> = published.iter().map(took).collect();
    seconds.sort_by(f64::total_cmp);
    let p99 = seconds[(seconds.len() * 99).div_ceil(100) - 1];
    let (least, middle) = (seconds[0], seconds[seconds.len() / 2]);
    eprintln!("from the CNAMEs to signing as the domain: {least:.2} s at least, {middle:.2} s in the middle");
    bench("time_to_enabled_p99", p99, "s", "goal", ENABLED_GOAL, p99 / ENABLED_GOAL);
}

fn signs(domain: &DkimDomain) -> bool {
    domain.status.as_ref().is_some_and(|status| status.signing.is_some())
}

fn enabled(domain: &DkimDomain) -> bool {
    condition(domain, ConditionType::Enabled).is_some_and(|(status, ..)| status == "True")
}

/// The result of a watch; panics with what the domains hang on where it does not come.
async fn in_time<T>(world: &World, namespace: &str, watch: JoinHandle<T>) -> T {
    const BOUND: Duration = Duration::from_secs(120);
    if let Ok(result) = tokio::time::timeout(BOUND, watch).await {
        return result.expect("watched");
    }
    let all = world.domains(namespace).list(&ListParams::default()).await.expect("the domains");
    let said: Vec<String> = all.iter().take(3).map(conditions).collect();
    panic!("not within {BOUND:?}: {said:#?}");
}

/// When each of `count` domains became so.
async fn when(
    client: Client,
    namespace: String,
    count: usize,
    is_so: fn(&DkimDomain) -> bool,
) -> HashMap<String, Instant> {
    let api: Api<DkimDomain> = Api::namespaced(client, &namespace);
    let events = watcher(api, watcher::Config::default()).default_backoff().applied_objects();
    futures::pin_mut!(events);
    let mut seen = HashMap::new();
    while seen.len() < count {
        let domain = events.next().await.expect("a watch does not end").expect("a watch that works");
        if is_so(&domain) {
            seen.entry(domain.name_any()).or_insert_with(Instant::now);
        }
    }
    seen
}
