//! Floods of TCP connections: the embedded DNS server goes on answering, holds no more than it may, and keeps
//! nothing when they are gone. Alone in its program, since it counts the descriptors of its process.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use common::dns::{KEY, Served, set};
use dkim_testbed::{eventually, kdig};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpStream;

/// More than the server takes at a time.
const FLOOD: usize = 1500;
/// The most it takes.
const BOUND: usize = 1024;

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

async fn assert_answers(server: &Served) {
    for transport in ["+notcp", "+tcp"] {
        let text = kdig(server.address, &[KEY, "TXT", "+short", transport]).await.unwrap();
        assert!(text.contains("\"text\""), "{transport}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_connections_neither_starves_nor_leaks() -> common::Outcome {
    // Both ends of each connection are in this process.
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    let server = Served::start(&[set(&[(KEY, "text")])]).await;
    assert_answers(&server).await;
    let before = descriptors();
    for round in 1..=3 {
        let mut flood = Vec::new();
        for _ in 0..FLOOD {
            flood.push(TcpStream::connect(server.address).await?);
        }
        assert_answers(&server).await;
        let held = descriptors() - before - FLOOD;
        println!("round {round}: {FLOOD} connections, {held} held by the server");
        assert!((BOUND / 2..=BOUND + 8).contains(&held), "{held}");
        drop(flood);
        eventually(Duration::from_secs(5), "all descriptors are given back", || async {
            let now = descriptors();
            if now <= before { Ok(()) } else { Err(format!("{now}, {before} before")) }
        })
        .await?;
        assert_answers(&server).await;
    }
    server.stop().await;
    Ok(())
}
