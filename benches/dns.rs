//! The embedded DNS server beside Knot, in the same run on the same machine: dnsperf asks both for the same 20,000 keys,
//! in turn. One line for each figure: `bench NAME VALUE UNIT ref=REFNAME:REFVALUE ratio=R`.
//!
//! Server and load share the machine, so the ratios count, not the values.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a benchmark fails by panicking")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use common::dns_role::DnsRole;
use data_encoding::BASE64;
use dkim_operator::dns::{Part, Set, Store, save};
use dkim_testbed::{Address, Process, Scratch, Spec, lookup};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const APEX: &str = "_domainkey.contoso.onmail.example";
/// Domains whose keys dnsperf asks for; each has two.
const DOMAINS: usize = 10_000;
/// Domains that are loaded from the file.
const MANY: usize = 100_000;
/// Record sets on the API server while one of them changes.
const ON_API: usize = 500;
/// How long one run of dnsperf takes, in seconds.
const SECONDS: u64 = 4;
/// Runs of each server; the median counts.
const RUNS: usize = 3;

#[tokio::main]
async fn main() {
    let scratch = Scratch::new("bench-dns").expect("a directory");
    let queries = scratch.write("queries", queries()).expect("queries");
    let ours = Ours::start(&scratch, "ours", DOMAINS).await;
    let knot = Knot::start(&scratch).await;
    against_knot(&queries, &ours, &knot).await;
    let resident = ours.process.usage().expect("memory").resident as f64 / 1e6;
    let theirs = knot.process.usage().expect("memory").resident as f64 / 1e6;
    bench("dns_rss", resident, "MB", "knot", theirs);
    drop((ours, knot));
    load_100k(&scratch).await;
    change_visible().await;
}

fn bench(name: &str, value: f64, unit: &str, reference: &str, against: f64) {
    println!("bench {name} {value:.2} {unit} ref={reference}:{against:.2} ratio={:.2}", value / against);
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn key(domain: usize, slot: usize) -> String {
    format!("selector{slot}-d{domain}-example.{APEX}")
}

/// As long as the text of an RSA 2048 key, and as random.
fn text(random: &mut StdRng) -> String {
    let bytes: Vec<u8> = (0..294).map(|_| random.random()).collect();
    format!("v=DKIM1; k=rsa; p={}", BASE64.encode(&bytes))
}

fn set(domain: usize, random: &mut StdRng) -> Set {
    let texts = (1..=2).map(|slot| (key(domain, slot), 300, text(random))).collect();
    let servers = vec!["ns1.provider.example".to_owned()];
    let part = Part { apex: APEX.to_owned(), servers, negative: 60, texts };
    Set { name: format!("d{domain}.example"), created: jiff::Timestamp::UNIX_EPOCH, zones: vec![part] }
}

/// The same keys, in an order that no cache can like.
fn queries() -> String {
    let mut random = StdRng::seed_from_u64(7);
    let mut text = String::new();
    for _ in 0..DOMAINS * 4 {
        let (domain, slot) = (random.random_range(0..DOMAINS), random.random_range(1..=2));
        writeln!(text, "{} TXT", key(domain, slot)).expect("a String");
    }
    text
}

/// The role `dns`, serving the zones of its last run; there is no API server.
struct Ours {
    process: Process,
    address: SocketAddr,
    answered: Duration,
    _addresses: [Address; 2],
}

impl Ours {
    async fn start(scratch: &Scratch, name: &str, domains: usize) -> Self {
        let state = scratch.join(format!("{name}.zones"));
        let mut store = Store::default();
        let mut random = StdRng::seed_from_u64(1);
        for domain in 0..domains {
            store.apply(&set(domain, &mut random));
        }
        store.commit(1);
        save(&state, store.sets(), &[]).expect("saved");
        drop(store);
        let kubeconfig = scratch.write("nowhere.kubeconfig", NOWHERE).expect("a file");
        let addresses = [Address::allocate().expect("an address"), Address::allocate().expect("an address")];
        let (address, health) = (addresses[0].port(53), addresses[1].port(8080));
        let begin = Instant::now();
        let process =
            Spec::new("dns", env!("CARGO_BIN_EXE_dkim-operator"), scratch.join(format!("{name}.log")))
                .args(["dns", "--namespace", "none", "--udp-threads", "2"])
                .args(["--listen", &address.to_string(), "--health-addr", &health.to_string()])
                .args(["--state-file", &state.display().to_string()])
                // dnsperf is one client that asks as much as a hundred thousand do.
                .args(["--rate-limit-all", "0"])
                .env("KUBECONFIG", kubeconfig)
                .env("DKIM_OPERATOR_LOG", "info,kube=off")
                .env_remove("KUBERNETES_SERVICE_HOST")
                .spawn()
                .expect("the role starts");
        let last = key(domains - 1, 2);
        loop {
            let answer = lookup(address, &last, "TXT").await;
            if answer.is_ok_and(|answer| answer.data("TXT").len() == 1) {
                break;
            }
            assert!(begin.elapsed() < Duration::from_secs(60), "{}", process.log_tail(20));
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Self { process, address, answered: begin.elapsed(), _addresses: addresses }
    }
}

const NOWHERE: &str = r#"
apiVersion: v1
kind: Config
current-context: nowhere
contexts: [{ name: nowhere, context: { cluster: nowhere, user: nobody } }]
clusters: [{ name: nowhere, cluster: { server: "http://127.0.0.1:1" } }]
users: [{ name: nobody, user: {} }]
"#;

struct Knot {
    process: Process,
    address: SocketAddr,
    _address: Address,
}

impl Knot {
    async fn start(scratch: &Scratch) -> Self {
        let address = Address::allocate().expect("an address");
        let directory = scratch.directory("knot").expect("a directory");
        let mut random = StdRng::seed_from_u64(1);
        let mut zone = String::from(
            "$TTL 300\n@ 3600 SOA ns1.provider.example. hostmaster 1 3600 600 604800 60\n@ 3600 NS ns1.provider.example.\n",
        );
        for domain in 0..DOMAINS {
            for (name, ttl, text) in &set(domain, &mut random).zones[0].texts {
                let (first, second) = text.split_at(255);
                writeln!(zone, "{name}. {ttl} TXT \"{first}\" \"{second}\"").expect("a String");
            }
        }
        fs::write(directory.join("zone"), zone).expect("a zone");
        let place = directory.display();
        let config = format!(
            "server:\n  rundir: \"{place}\"\n  listen: {}@53\n  udp-workers: 2\n  tcp-workers: 1\n  background-workers: 1\n\
             log:\n  - target: stderr\n    any: info\ndatabase:\n  storage: \"{place}\"\n  journal-db-max-size: 64M\n\
             control:\n  listen: \"{place}/sock\"\n\
             zone:\n  - domain: {APEX}\n    storage: \"{place}\"\n    file: zone\n",
            address.ip()
        );
        let config = scratch.write("knot.conf", config).expect("a file");
        let program = ["/usr/sbin/knotd", "/usr/bin/knotd"].into_iter().find(|p| Path::new(p).exists());
        let mut process = Spec::new("knotd", program.expect("knotd"), scratch.join("knot.log"))
            .arg("-c")
            .arg(config)
            .spawn()
            .expect("knotd starts");
        let server = address.port(53);
        let answers = || async {
            let answer = lookup(server, &key(0, 1), "TXT").await.map_err(|e| e.to_string())?;
            if answer.data("TXT").len() == 1 { Ok(()) } else { Err(answer.to_string()) }
        };
        process.ready(Duration::from_secs(20), "it serves the zone", answers).await.expect("knotd serves");
        Self { process, address: server, _address: address }
    }
}

/// Queries a second, and microseconds of processor time for each.
async fn dnsperf(queries: &Path, server: SocketAddr, process: &Process) -> (f64, f64) {
    let before = process.usage().expect("processor time").cpu;
    let output = tokio::process::Command::new("dnsperf")
        .args(["-s", &server.ip().to_string(), "-d"])
        .arg(queries)
        .args(["-l", &SECONDS.to_string(), "-c", "8", "-T", "1", "-q", "400"])
        .kill_on_drop(true)
        .output()
        .await
        .expect("dnsperf runs");
    let used = process.usage().expect("processor time").cpu - before;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let number = |what: &str| -> f64 {
        let line =
            text.lines().find_map(|line| line.trim().strip_prefix(what)).unwrap_or_else(|| panic!("{text}"));
        line.split_whitespace().next().expect("a number").parse().expect("a number")
    };
    let (completed, sent) = (number("Queries completed:"), number("Queries sent:"));
    assert!(completed > sent * 0.99, "lost queries:\n{text}");
    assert!(text.contains("NOERROR") && !text.contains("SERVFAIL") && !text.contains("REFUSED"), "{text}");
    (number("Queries per second:"), used.as_secs_f64() * 1e6 / completed)
}

async fn against_knot(queries: &Path, ours: &Ours, knot: &Knot) {
    let mut figures = [const { Vec::new() }; 4];
    for _ in 0..RUNS {
        let (rate, cost) = dnsperf(queries, knot.address, &knot.process).await;
        figures[0].push(rate);
        figures[1].push(cost);
        let (rate, cost) = dnsperf(queries, ours.address, &ours.process).await;
        figures[2].push(rate);
        figures[3].push(cost);
    }
    eprintln!("runs of Knot and ours, queries a second and µs: {figures:?}");
    let [knot_rate, knot_cost, rate, cost] = figures.map(median);
    bench("dns_qps", rate, "queries/s", "knot", knot_rate);
    bench("dns_cpu_per_query", cost, "us", "knot", knot_cost);
}

/// From the start of the process to the first answer.
async fn load_100k(scratch: &Scratch) {
    let many = Ours::start(scratch, "many", MANY).await;
    bench("dns_load_100k", many.answered.as_secs_f64(), "s", "goal", 2.0);
    let usage = many.process.usage().expect("memory and processor time");
    let (resident, cpu) = (usage.resident as f64 / 1e6, usage.cpu.as_secs_f64());
    eprintln!("{MANY} domains, {} keys: {resident:.0} MB, {cpu:.2} s of processor time", MANY * 2);
}

/// From the write to the API server to the first answer with the new key.
async fn change_visible() {
    let mut random = StdRng::seed_from_u64(3);
    let domains: Vec<(String, String)> =
        (0..ON_API).map(|n| (format!("d{n}.example"), text(&mut random))).collect();
    let sets: Vec<(&str, &str)> = domains.iter().map(|(domain, text)| (&**domain, &**text)).collect();
    let role = DnsRole::start(&sets, &[]).await;
    let mut times = Vec::new();
    for (domain, _) in domains.iter().take(25) {
        let fresh = text(&mut random);
        let begin = Instant::now();
        role.put(domain, &fresh).await;
        loop {
            let answer =
                lookup(role.address, &common::dns_role::name(domain), "TXT").await.expect("an answer");
            if answer.data("TXT") == [fresh.as_str()] {
                break;
            }
            assert!(begin.elapsed() < Duration::from_secs(10), "{answer}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        times.push(begin.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    eprintln!("from the write to the answer, in ms: {times:.0?}");
    bench("dns_change_visible", median(times), "ms", "goal", 100.0);
}
