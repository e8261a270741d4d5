//! Ten years of a fleet in virtual time. `SEED=…` replays a run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::Write as _;

use dkim_proof::rules::{Mutant, Rules};
use dkim_proof::simulation::{Size, run};

/// `DOMAINS` makes it smaller or larger.
fn domains() -> u32 {
    std::env::var("DOMAINS").ok().and_then(|n| n.parse().ok()).unwrap_or(1_000)
}

fn seed() -> u64 {
    std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_125)
}

#[test]
fn every_message_of_ten_years_can_be_verified() {
    let size = Size { years: 10, domains: domains(), messages: 1_050 };
    let outcome = run(Rules::default(), size, seed());
    let _ = writeln!(std::io::stdout(), "{outcome:?}");
    assert_eq!(outcome.unverifiable, 0, "SEED={} {:?}", seed(), outcome.first);
    assert!(outcome.messages >= 1_000 * u64::from(domains()), "{outcome:?}");
    let _ = writeln!(
        std::io::stdout(),
        "simulation: ok years={} messages={} unverifiable={} seed={}",
        size.years,
        outcome.messages,
        outcome.unverifiable,
        seed()
    );
}

#[test]
fn a_fleet_with_faulty_rules_loses_mail() {
    for mutant in [Mutant::DrainTooShort, Mutant::SettlingSkipped] {
        let size = Size { years: 10, domains: 20, messages: 2_000 };
        let outcome = run(Rules { mutant: Some(mutant) }, size, seed());
        assert!(outcome.unverifiable > 0, "{mutant:?}: {outcome:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_years() {
    let size = Size { years: 2, domains: 4, messages: 100 };
    let once = |seed| format!("{:?}", run(Rules::default(), size, seed));
    assert_eq!(once(7), once(7));
    assert_ne!(once(7), once(8));
}
