//! Every history of a small world, with the true rules and with each seeded fault.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::Write as _;
use std::time::Duration;

use dkim_proof::checker::world::Story;
use dkim_proof::checker::{Found, Scope, search};
use dkim_proof::rules::{Mutant, Rules};

/// Far beyond what a search takes.
const LIMIT: Duration = Duration::from_secs(3600);

/// Past the test harness, so that it is seen when the test passes.
fn tell(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn number(name: &str) -> Option<u16> {
    std::env::var(name).ok().and_then(|n| n.parse().ok())
}

fn check(scope: Scope) -> Found {
    let found = search(Rules::default(), scope, LIMIT);
    for (name, history) in &found.broken {
        tell(&format!("broken: {name}\n{history}"));
    }
    assert!(found.broken.is_empty() && found.complete, "{scope:?}: broken after {} states", found.states);
    found
}

/// Every history of each small world, with every single fault of its kinds at every moment. `MODEL_FAULTS=2` takes any two
/// together where any may happen, `MODEL_LARGE=1` what more there is to a world, `MODEL_KINDS` (bits of `world::faults`)
/// only some faults, `MODEL_WORLDS` (names of `world::Story`) only some worlds.
#[test]
fn no_history_breaks_an_invariant() {
    let most = number("MODEL_FAULTS").map_or(1, |n| u8::try_from(n).unwrap());
    let large = number("MODEL_LARGE").is_some();
    let worlds = std::env::var("MODEL_WORLDS").ok();
    let large = most > 1 || large;
    let chosen = |story: &Story| worlds.as_ref().is_none_or(|names| names.contains(&format!("{story:?}")));
    let (mut states, mut depth, mut properties) = (0, 0, 0);
    for story in Story::ALL.into_iter().filter(chosen) {
        let kinds = story.kinds() & number("MODEL_KINDS").unwrap_or(u16::MAX);
        let begun = std::time::Instant::now();
        let found = check(Scope { story, faults: story.faults() * most, kinds, large });
        tell(&format!("  {}: {} states, {:.1} s", story.name(), found.states, begun.elapsed().as_secs_f64()));
        states += found.states;
        depth = depth.max(found.depth);
        properties = found.properties;
    }
    tell(&format!("model: ok states={states} depth={depth} properties={properties} faults={most}"));
}

#[test]
fn every_seeded_fault_is_caught() {
    let wanted = std::env::var("MUTANT").ok();
    let chosen = |m: &&Mutant| wanted.as_ref().is_none_or(|names| names.contains(&format!("{m:?}")));
    let mutants: Vec<&Mutant> = Mutant::ALL.iter().filter(chosen).collect();
    let mut survivors = Vec::new();
    for mutant in &mutants {
        let kinds = mutant.shown_by();
        let faults = u8::try_from(mutant.faults()).unwrap();
        let stories = match mutant.story() {
            Some(story) => vec![story],
            None if faults == 0 => vec![Story::New, Story::Running],
            None => vec![Story::Running],
        };
        let search = |story| {
            let scope = Scope { story, faults, kinds, large: false };
            search(Rules { mutant: Some(**mutant) }, scope, LIMIT)
        };
        let mut found = search(stories[0]);
        if found.broken.is_empty() && stories.len() > 1 {
            found = search(stories[1]);
        }
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
