//! What a run has shown.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::ledger::Ledger;
use crate::plan::Plan;
use crate::post::Tally;
use crate::schedule::Fault;

/// Most of a hundred messages that may have been verified too late to prove anything.
const MISSED: u64 = 10;
/// Most faults of one kind that are told in full.
const TOLD: usize = 20;

/// Everything that counts.
pub struct Verdict<'a> {
    pub plan: &'a Plan,
    pub took: Duration,
    pub faults: &'a [Fault],
    pub ledger: &'a Ledger,
    pub tally: &'a Tally,
    pub unsigned: &'a [String],
    pub sent: u64,
    pub held: u64,
    pub loss_reported: bool,
}

impl Verdict<'_> {
    /// Tells it; the last line is the verdict. Returns whether all is well.
    pub fn tell(&self) -> bool {
        let Self { plan, took, faults, ledger, tally, unsigned, sent, held, loss_reported } = self;
        let verified = tally.verified.load(Ordering::Relaxed);
        let missed = tally.missed.load(Ordering::Relaxed);
        let unverifiable = tally.unverifiable.lock();
        let rotations = ledger.rotations();
        let mut against: Vec<String> = Vec::new();
        against.extend(unverifiable.iter().take(TOLD).map(|why| format!("unverifiable: {why}")));
        against.extend(unsigned.iter().take(TOLD).map(|why| format!("unsigned: {why}")));
        against.extend(ledger.faults.iter().take(TOLD).map(|why| format!("key: {why}")));
        if *loss_reported {
            against.push("the operator itself reports lost keys".to_owned());
        }
        if rotations < plan.rotations || verified < plan.messages {
            against.push(format!(
                "the goal was rotations={} messages={}, in {:?}",
                plan.rotations, plan.messages, plan.most
            ));
        }
        if missed * 100 > sent * MISSED {
            against.push(format!("{missed} of {sent} messages were verified too late to prove anything"));
        }
        let good = against.is_empty();
        println!(
            "chaos: {} faults in {:.0}s; {} keys; {sent} messages sent, {held} held back, {missed} verified too late",
            faults.len(),
            took.as_secs_f64(),
            ledger.keys(),
        );
        if !good {
            for fault in *faults {
                println!("{fault}");
            }
        }
        for line in against {
            println!("{line}");
        }
        println!(
            "chaos: {} rotations={rotations} messages={verified} unverifiable={} unsigned={} seed={}",
            if good { "ok" } else { "failed" },
            unverifiable.len(),
            unsigned.len(),
            plan.seed,
        );
        good
    }
}
