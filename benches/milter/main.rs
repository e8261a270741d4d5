//! The milter's speed and memory, beside OpenDKIM and rspamd in the same run: messages of 10 KB with 12 fields, RSA-2048,
//! relaxed/relaxed, over unix sockets. One line for each figure:
//! `bench NAME VALUE UNIT ref=REFNAME:REFVALUE ratio=R`.
//!
//! The load generator shares the machine with the signers, so processor time for each message comes first. Runs of the
//! signers take turns; figures are medians.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a benchmark fails by panicking")]

#[path = "../../tests/common/mta.rs"]
mod mta;

mod keys;
mod load;
mod signers;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use dkim_operator::model::key::{KeyKind, PrivateKey};
use getrandom::SysRng;

use load::{Load, run};
use signers::{Ours, Signer};

/// Connections at a time.
const WIDTHS: [usize; 3] = [1, 4, 16];
/// Turns of each signer.
const TURNS: usize = 5;
/// Messages of one turn.
const MESSAGES: usize = 1200;
/// Domains of a large installation.
const DOMAINS: usize = 10_000;

fn bench(name: &str, value: f64, unit: &str, reference: &str, against: f64) {
    println!("bench {name} {value:.3} {unit} ref={reference}:{against:.3} ratio={:.2}", value / against);
}

fn main() {
    let turns = std::env::var("BENCH_TURNS").ok().and_then(|n| n.parse().ok()).unwrap_or(TURNS);
    let messages = std::env::var("BENCH_MESSAGES").ok().and_then(|n| n.parse().ok()).unwrap_or(MESSAGES);
    let rsa = PrivateKey::generate(KeyKind::Rsa2048, &mut SysRng).expect("a key");
    let raw = raw_rsa(&rsa);
    eprintln!("raw RSA-2048 signatures for each second of a processor: {raw:.0}");
    side_by_side(&rsa, raw, turns, messages);
    ed25519(turns, messages);
    many_domains();
}

/// Signatures for each second of processor time, with nothing around them.
fn raw_rsa(key: &PrivateKey) -> f64 {
    let pair = RsaKeyPair::from_pkcs8(&key.expose_der().expect("a key")).expect("a key");
    let mut signature = vec![0; pair.public_modulus_len()];
    let mut rates = Vec::new();
    for _ in 0..5 {
        let begin = load::own_cpu();
        let count = 1500;
        for number in 0..count {
            let text = [7u8; 900].map(|b| b ^ u8::try_from(number % 251).unwrap_or(0));
            pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), &text, &mut signature).expect("signed");
        }
        rates.push(f64::from(count) / (load::own_cpu() - begin).as_secs_f64());
    }
    median(&mut rates)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Medians of one signer at one width.
#[derive(Default)]
struct Figures {
    rate: Vec<f64>,
    p99: Vec<f64>,
    cpu: Vec<f64>,
}

fn side_by_side(key: &PrivateKey, raw: f64, turns: usize, messages: usize) {
    let signers = [signers::ours(key), signers::opendkim(key), signers::rspamd(key)];
    for signer in &signers {
        signer.check();
        run(signer.socket(), 4, messages / 4);
    }
    let mut all: BTreeMap<(usize, usize), Figures> = BTreeMap::new();
    for _ in 0..turns {
        for width in WIDTHS {
            for (index, signer) in signers.iter().enumerate() {
                let before = signer.cpu();
                let Load { rate, p99 } = run(signer.socket(), width, messages);
                let cpu = (signer.cpu() - before).as_secs_f64() * 1e3 / messages as f64;
                let figures = all.entry((index, width)).or_default();
                figures.rate.push(rate);
                figures.p99.push(p99 * 1e3);
                figures.cpu.push(cpu);
            }
        }
    }
    let mut figure = |index: usize, width: usize, which: fn(&mut Figures) -> &mut Vec<f64>| {
        median(which(all.get_mut(&(index, width)).expect("measured")))
    };
    for (index, signer) in signers.iter().enumerate() {
        for width in WIDTHS {
            eprintln!(
                "{}: {width} connections: {:.0} messages/s, p99 {:.2} ms, {:.3} ms of processor time each",
                signer.name(),
                figure(index, width, |f| &mut f.rate),
                figure(index, width, |f| &mut f.p99),
                figure(index, width, |f| &mut f.cpu),
            );
        }
    }
    let cpu = figure(0, 4, |f| &mut f.cpu);
    bench("milter_cpu_per_message", cpu, "ms", "goal", 0.40);
    bench("milter_signatures_per_cpu_second", 1e3 / cpu, "1/s", "raw_rsa", raw);
    for (index, signer) in signers.iter().enumerate().skip(1) {
        bench("milter_cpu_per_message", cpu, "ms", signer.name(), figure(index, 4, |f| &mut f.cpu));
        for width in WIDTHS {
            let name = format!("milter_rate_c{width}");
            let ours = figure(0, width, |f| &mut f.rate);
            bench(&name, ours, "messages/s", signer.name(), figure(index, width, |f| &mut f.rate));
        }
        let ours = figure(0, 16, |f| &mut f.p99);
        bench("milter_p99_c16", ours, "ms", signer.name(), figure(index, 16, |f| &mut f.p99));
    }
}

fn ed25519(turns: usize, messages: usize) {
    let key = PrivateKey::generate(KeyKind::Ed25519, &mut SysRng).expect("a key");
    let signer = signers::ours(&key);
    signer.check();
    let mut figures = Figures::default();
    for _ in 0..turns {
        let before = signer.cpu();
        let Load { rate, .. } = run(signer.socket(), 4, messages);
        figures.cpu.push((signer.cpu() - before).as_secs_f64() * 1e3 / messages as f64);
        figures.rate.push(rate);
    }
    bench("milter_cpu_per_message_ed25519", median(&mut figures.cpu), "ms", "goal", 0.40);
    eprintln!("Ed25519: {:.0} messages/s over 4 connections", median(&mut figures.rate));
}

/// Memory, start and the exchange of one key of many.
fn many_domains() {
    let directory = keys::Directory::of(DOMAINS);
    let mut starts = Vec::new();
    let mut ours = None;
    for _ in 0..3 {
        drop(ours.take());
        let begin = Instant::now();
        ours = Some(Ours::start(directory.path()));
        starts.push(begin.elapsed().as_secs_f64());
    }
    let ours = ours.expect("it runs");
    bench("milter_start_10k", median(&mut starts), "s", "goal", 2.0);
    bench("milter_rss_10k", ours.resident() as f64 / 1e6, "MB", "goal", 60.0);
    let mut session = load::Connection::open(ours.socket());
    let mut took = Vec::new();
    for number in (0..20).map(|n| n * 499) {
        let before = session.selector(&directory.domain(number));
        directory.switch(number);
        let begin = Instant::now();
        loop {
            if session.selector(&directory.domain(number)) != before {
                break;
            }
            assert!(begin.elapsed() < Duration::from_secs(60), "domain {number} is never switched");
        }
        took.push(begin.elapsed().as_secs_f64() * 1e3);
    }
    bench("milter_switch", median(&mut took), "ms", "goal", 50.0);
    // Mail of so many domains that not all their keys can stay ready.
    let begin = ours.cpu();
    for number in 0..3000 {
        session.selector(&directory.domain(number));
    }
    let each = (ours.cpu() - begin).as_secs_f64() * 1e3 / 3000.0;
    eprintln!(
        "3,000 domains in turn: {each:.3} ms of processor time a message, the key made ready each time"
    );
    bench("milter_rss_10k_in_use", ours.resident() as f64 / 1e6, "MB", "goal", 60.0);
}
