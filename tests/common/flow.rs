//! Mail that flows through a server, and what becomes of it.

#![allow(dead_code, reason = "each test program uses its part")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use dkim_testbed::mail::{Mail, Sink, Submission};
use dkim_testbed::{Scratch, eventually};

use crate::judges::{Judge, Judges};
use crate::keys::{KeyDns, PATIENCE, Rolling};

/// The mail that has arrived, once there is some; `log` says more where none comes.
pub async fn arrived(sink: &Sink, what: &str, log: impl Fn() -> String) -> Vec<Mail> {
    let mails = eventually(PATIENCE, what, || {
        let (mails, log) = (sink.take(), log());
        async move { if mails.is_empty() { Err(log) } else { Ok(mails) } }
    });
    mails.await.expect("mail")
}

/// How many kinds of messages there are.
pub const KINDS: usize = 4;

/// A message of a domain; each of the first `kinds` in its turn.
pub fn message(number: usize, domain: &str, kinds: usize) -> (String, Vec<u8>) {
    let (sender, from, body) = match number % kinds {
        0 => (format!("joe@{domain}"), format!("Joe <joe@{domain}>"), "hello\r\n\r\n\r\n"),
        // A bounce: no sender in the envelope.
        1 => (String::new(), format!("Mail Delivery <MAILER-DAEMON@{domain}>"), "it bounced\r\n"),
        // Sent through somebody else's envelope, as newsletters are.
        2 => {
            ("bounce@other.example".to_owned(), format!("\"Doe, Joe\"\r\n <joe@{domain}>"), ".\r\n..dots\r\n")
        }
        _ => (format!("joe@{domain}"), format!("JOE@{}", domain.to_uppercase()), "  white \t space  \r\n"),
    };
    let text = format!(
        "Received: from client.example by mx.example; Wed, 1 Jan 2025 00:00:00 +0000\r\nFrom: {from}\r\n\
         To: ann@receiver.example\r\nSubject: number\r\n\t{number}\r\nDate: Wed, 1 Jan 2025 00:00:00 +0000\r\n\
         Message-ID: <{number}@{domain}>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\n{body}"
    );
    (sender, text.into_bytes())
}

/// Mail that flows for as long as this lives: each message in a session of its own or a few in one, again where
/// the server says later.
pub struct Flow {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Flow {
    pub fn start(server: SocketAddr, domains: Vec<String>, kinds: usize) -> Self {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&sent));
        let task = tokio::spawn(async move {
            let mut number = 0;
            while !stopped.load(Ordering::SeqCst) {
                let Ok(mut session) = Submission::open(server).await else {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                };
                for _ in 0..=number % 3 {
                    let (from, text) = message(number, &domains[number % domains.len()], kinds);
                    if session.send(&from, "ann@receiver.example", &text).await.is_err() {
                        break;
                    }
                    number += 1;
                    counted.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(60)).await;
                }
            }
        });
        Self { stop, sent, task }
    }

    pub fn sent(&self) -> usize {
        self.sent.load(Ordering::SeqCst)
    }

    pub async fn stop(self) -> usize {
        self.stop.store(true, Ordering::SeqCst);
        self.task.await.unwrap();
        self.sent.load(Ordering::SeqCst)
    }
}

/// The selectors in the signatures of a message.
pub fn selectors(message: &[u8]) -> BTreeSet<String> {
    let text = String::from_utf8_lossy(message);
    let header =
        text.split("\r\n\r\n").next().unwrap_or_default().replace("\r\n\t", " ").replace("\r\n ", " ");
    let signatures = header.lines().filter_map(|line| line.strip_prefix("DKIM-Signature:"));
    let tags = signatures.flat_map(|line| line.split(';')).map(str::trim);
    tags.filter_map(|tag| tag.strip_prefix("s=").map(str::to_owned)).collect()
}

/// Everything that has arrived, verified before its keys may go.
pub struct Arrivals<'a> {
    sink: &'a Sink,
    judges: &'a Judges,
    pub ask: &'a [Judge],
    /// How many kinds of messages the signer can sign.
    pub kinds: usize,
    scratch: Scratch,
    pub count: usize,
    waiting: Vec<PathBuf>,
    pub complaints: Vec<String>,
    /// Selectors of the latest messages by their author's domain.
    pub latest: BTreeMap<String, BTreeSet<String>>,
}

impl<'a> Arrivals<'a> {
    pub fn new(sink: &'a Sink, judges: &'a Judges, ask: &'a [Judge]) -> Self {
        let scratch = Scratch::new("arrivals").unwrap();
        let latest = BTreeMap::new();
        Self {
            sink,
            judges,
            ask,
            kinds: KINDS,
            scratch,
            count: 0,
            waiting: Vec::new(),
            complaints: Vec::new(),
            latest,
        }
    }

    pub fn collect(&mut self) {
        for mail in self.sink.take() {
            self.count += 1;
            let path = self.scratch.join(format!("{}.eml", self.count));
            std::fs::write(&path, &mail.message).unwrap();
            let signed = selectors(&mail.message);
            if signed.is_empty() {
                self.complaints.push(format!("{} left unsigned", path.display()));
            }
            let text = String::from_utf8_lossy(&mail.message).to_lowercase();
            let id = text.split("message-id: <").nth(1).and_then(|t| t.split('@').nth(1)).unwrap_or_default();
            self.latest.insert(id.split('>').next().unwrap_or_default().to_owned(), signed);
            self.waiting.push(path);
        }
    }

    /// Waits until everything that was sent is there.
    pub async fn all(&mut self, sent: usize, log: impl Fn() -> String) {
        let all = eventually(PATIENCE, "everything has arrived", || {
            self.collect();
            let arrived = self.count;
            async move { if arrived >= sent { Ok(()) } else { Err(format!("{arrived} of {sent}")) } }
        });
        if let Err(error) = all.await {
            panic!("{error}\n{}", log());
        }
    }

    pub async fn verify(&mut self) {
        self.collect();
        let files = std::mem::take(&mut self.waiting);
        self.complaints.extend(self.judges.complaints(self.ask, &files).await);
    }
}

/// How keys are rolled under mail.
pub struct Pace {
    pub rotations: usize,
    /// From a switch that is taken up until the key of before goes.
    pub pause: Duration,
}

/// Rolls the keys of all domains while mail flows through a server: everything leaves signed, with the new keys soon,
/// and is verified while its keys are published. Returns how many messages there were.
pub async fn roll(
    name: &str,
    pace: Pace,
    dns: &KeyDns,
    server: SocketAddr,
    arrivals: &mut Arrivals<'_>,
    domains: &mut [Rolling],
    log: impl Fn() -> String,
) -> usize {
    let Pace { rotations, pause } = pace;
    let began = Instant::now();
    let flow = Flow::start(server, domains.iter().map(|d| d.domain.clone()).collect(), arrivals.kinds);
    let mut verified_early = 0;
    for rotation in 0..=rotations {
        if rotation > 0 {
            domains.iter_mut().for_each(Rolling::switch);
        }
        let at_least = flow.sent() + 2 * domains.len();
        let wait = Instant::now();
        loop {
            arrivals.collect();
            let moved = domains.iter().all(|d| {
                let expected: BTreeSet<String> = d.selectors().into_iter().collect();
                arrivals.latest.get(&d.domain) == Some(&expected)
            });
            if moved && flow.sent() >= at_least {
                break;
            }
            assert!(
                wait.elapsed() < PATIENCE,
                "{name}: rotation {rotation} is not taken up: {:?}, {} sent, {} arrived\n{}",
                arrivals.latest,
                flow.sent(),
                arrivals.count,
                log()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // What was signed with the old keys arrives and is verified while they are still published.
        arrivals.all(flow.sent(), &log).await;
        tokio::time::sleep(pause).await;
        arrivals.verify().await;
        verified_early = arrivals.count;
        assert!(arrivals.complaints.is_empty(), "{name}: {:#?}\n{}", arrivals.complaints, log());
        // From here a signature with the old key of a slot is unverifiable.
        domains.iter_mut().for_each(|domain| domain.refill(dns));
    }
    let sent = flow.stop().await;
    arrivals.all(sent, &log).await;
    arrivals.verify().await;
    assert!(arrivals.complaints.is_empty(), "{name}: {:#?}\n{}", arrivals.complaints, log());
    assert!(verified_early > rotations * domains.len());
    assert_eq!(arrivals.count, sent, "{name}: nothing is lost, and nothing comes twice");
    println!(
        "{name}: {rotations} rotations, {sent} messages sent, {} verified by each of {}, 0 unsigned, 0 unverifiable, {:.0?}",
        arrivals.count,
        arrivals.ask.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        began.elapsed()
    );
    arrivals.count
}
