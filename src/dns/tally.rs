//! Counts of what was asked and told. Each thread has its own, so that counting costs next to nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::answer::{Told, Transport};
use super::limit::Verdict;
use super::query::kind;
use super::transfer::Sent;

/// Types that are counted by name; others together.
pub const KINDS: [(u16, &str); 10] = [
    (kind::TXT, "TXT"),
    (kind::SOA, "SOA"),
    (kind::NS, "NS"),
    (kind::ANY, "ANY"),
    (kind::DS, "DS"),
    (kind::AXFR, "AXFR"),
    (kind::IXFR, "IXFR"),
    (1, "A"),
    (28, "AAAA"),
    (5, "CNAME"),
];
/// Response codes that are counted by name; others together.
pub const CODES: [(u16, &str); 8] = [
    (0, "NOERROR"),
    (1, "FORMERR"),
    (2, "SERVFAIL"),
    (3, "NXDOMAIN"),
    (4, "NOTIMP"),
    (5, "REFUSED"),
    (9, "NOTAUTH"),
    (16, "BADVERS"),
];

/// The counts of one thread.
#[derive(Debug)]
pub struct Tally {
    /// How the queries came.
    pub transport: Transport,
    /// By type and response code; the last of each is for all others.
    answers: [[AtomicU64; CODES.len() + 1]; KINDS.len() + 1],
    truncated: AtomicU64,
    proven: AtomicU64,
    cut: AtomicU64,
    dropped: AtomicU64,
    silent: AtomicU64,
}

/// Sums of counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sums {
    /// Queries answered, by transport, type and code.
    pub answers: Vec<(Transport, &'static str, &'static str, u64)>,
    /// Answers cut to what the client can take.
    pub truncated: u64,
    /// Queries with a cookie of ours.
    pub proven: u64,
    /// Answers over the limit that were cut.
    pub cut: u64,
    /// Answers over the limit that were dropped.
    pub dropped: u64,
    /// Packets that deserved no answer.
    pub silent: u64,
    /// Transfers of whole zones, of changes, of nothing.
    pub transfers: [u64; 3],
    /// Secondaries told, and in vain.
    pub notified: [u64; 2],
}

impl Tally {
    fn new(transport: Transport) -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            transport,
            answers: std::array::from_fn(|_| std::array::from_fn(|_| zero())),
            truncated: zero(),
            proven: zero(),
            cut: zero(),
            dropped: zero(),
            silent: zero(),
        }
    }

    /// Counts an answer and what became of it.
    pub fn answered(&self, told: &Told, verdict: Verdict) {
        let one = |counter: &AtomicU64| _ = counter.fetch_add(1, Ordering::Relaxed);
        let place = |of: &[(u16, &str)], value| of.iter().position(|(known, _)| *known == value);
        let row = told.kind.and_then(|kind| place(&KINDS, kind)).unwrap_or(KINDS.len());
        let column = place(&CODES, told.code).unwrap_or(CODES.len());
        if let Some(counter) = self.answers.get(row).and_then(|row| row.get(column)) {
            one(counter);
        }
        if told.proven {
            one(&self.proven);
        }
        match verdict {
            Verdict::Cut => one(&self.cut),
            Verdict::Drop => one(&self.dropped),
            Verdict::Send if told.truncated => one(&self.truncated),
            Verdict::Send => {}
        }
    }

    /// Counts a packet that gets no answer.
    pub fn silent(&self) {
        self.silent.fetch_add(1, Ordering::Relaxed);
    }
}

/// The counts of all threads.
#[derive(Debug, Default)]
pub struct Tallies {
    threads: Mutex<Vec<Arc<Tally>>>,
    /// Transfers of whole zones, of changes, of nothing.
    transfers: [AtomicU64; 3],
    /// Secondaries told, and in vain.
    notified: [AtomicU64; 2],
}

impl Tallies {
    /// Counts for one more thread.
    #[must_use]
    pub fn add(&self, transport: Transport) -> Arc<Tally> {
        let tally = Arc::new(Tally::new(transport));
        self.threads.lock().push(Arc::clone(&tally));
        tally
    }

    /// Counts a transfer.
    pub fn transfer(&self, sent: Sent) {
        let [whole, changes, nothing] = &self.transfers;
        let counter = match sent {
            Sent::Whole => whole,
            Sent::Changes => changes,
            Sent::Nothing => nothing,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a NOTIFY that was heard, or was not.
    pub fn notified(&self, heard: bool) {
        let [well, vain] = &self.notified;
        if heard { well } else { vain }.fetch_add(1, Ordering::Relaxed);
    }

    /// All together.
    #[must_use]
    pub fn sums(&self) -> Sums {
        let all = self.threads.lock();
        let sum = |of: fn(&Tally) -> &AtomicU64| all.iter().map(|t| of(t).load(Ordering::Relaxed)).sum();
        let mut answers = Vec::new();
        let others = [(0, "other")];
        for transport in [Transport::Udp, Transport::Tcp] {
            for (row, (_, kind)) in KINDS.iter().chain(&others).enumerate() {
                for (column, (_, code)) in CODES.iter().chain(&others).enumerate() {
                    let here = all.iter().filter(|tally| tally.transport == transport);
                    let at = |tally: &Arc<Tally>| {
                        tally.answers.get(row)?.get(column).map(|counter| counter.load(Ordering::Relaxed))
                    };
                    let count: u64 = here.filter_map(at).sum();
                    if count > 0 {
                        answers.push((transport, *kind, *code, count));
                    }
                }
            }
        }
        Sums {
            answers,
            truncated: sum(|t| &t.truncated),
            proven: sum(|t| &t.proven),
            cut: sum(|t| &t.cut),
            dropped: sum(|t| &t.dropped),
            silent: sum(|t| &t.silent),
            transfers: self.transfers.each_ref().map(|counter| counter.load(Ordering::Relaxed)),
            notified: self.notified.each_ref().map(|counter| counter.load(Ordering::Relaxed)),
        }
    }
}
