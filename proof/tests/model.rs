//! Every history of a small world, with the true rules and with each seeded fault.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::Write as _;
use std::time::Duration;

use dkim_proof::checker::world::{Start, faults};
use dkim_proof::checker::{Found, Scope, search};
use dkim_proof::rules::{Mutant, Rules};

/// Far beyond what a search takes.
const LIMIT: Duration = Duration::from_secs(3600);

/// Past the test harness, so that it is seen when the test passes.
fn tell(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn number(name: &str, default: u8) -> u8 {
    std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

fn check(scope: Scope) -> Found {
    let found = search(Rules::default(), scope, LIMIT);
    for (name, history) in &found.broken {
        tell(&format!("broken: {name}\n{history}"));
    }
    assert!(found.broken.is_empty() && found.complete, "{scope:?}: broken after {} states", found.states);
    found
}

/// Every history of a new domain without faults, and of one that runs with every single fault at every moment.
/// `MODEL_FAULTS=2` takes any two together, `MODEL_KINDS` (bits of `world::faults`) only some.
#[test]
fn no_history_breaks_an_invariant() {
    let most = number("MODEL_FAULTS", 1);
    let new = check(Scope { start: Start::Nothing, faults: 0, kinds: 0 });
    tell(&format!("  a new domain: {} states", new.states));
    let running =
        check(Scope { start: Start::Running, faults: most, kinds: number("MODEL_KINDS", faults::ALL) });
    tell(&format!("  a domain that runs: {} states", running.states));
    tell(&format!(
        "model: ok states={} depth={} properties={} faults={most}",
        new.states + running.states,
        new.depth.max(running.depth),
        new.properties
    ));
}

#[test]
fn every_seeded_fault_is_caught() {
    let wanted = std::env::var("MUTANT").ok();
    let chosen = |m: &&Mutant| wanted.as_ref().is_none_or(|names| names.contains(&format!("{m:?}")));
    let mutants: Vec<&Mutant> = Mutant::ALL.iter().filter(chosen).collect();
    let mut survivors = Vec::new();
    for mutant in &mutants {
        let kinds = mutant.shown_by();
        let faults = u8::try_from(kinds.count_ones()).unwrap();
        let start = if faults == 0 { Start::Either } else { Start::Running };
        let scope = Scope { start, faults, kinds };
        let found = search(Rules { mutant: Some(**mutant) }, scope, LIMIT);
        match found.broken.first() {
            Some((property, _)) => {
                tell(&format!("  {mutant:?}: \"{property}\" is broken, {} states", found.states))
            }
            None => survivors.push(**mutant),
        }
    }
    tell(&format!("mutants: caught={} of={}", mutants.len() - survivors.len(), mutants.len()));
    assert!(survivors.is_empty(), "not caught: {survivors:?}");
}
