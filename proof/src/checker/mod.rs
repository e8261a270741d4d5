//! Every history of a small world: time in ticks, two of our DNS servers, every legal content of every resolver's
//! cache, two controllers, a tenant and its CNAMEs, and any few faults together.

mod actions;
mod dns;
mod judge;
pub mod kernel;
pub mod properties;
mod reconcile;
mod rest;
mod serials;
mod steps;
pub mod store;
mod story;
mod tenant;
mod theft;
mod told;
pub mod view;
pub mod world;
mod writes;

use std::time::Duration;

use stateright::{Checker, HasDiscoveries, Model};

use crate::rules::Rules;
use crate::terms::Times;
use kernel::Kernel;
use store::{Chronology, TICK};
use world::{LinkSeen, Story, World};

/// The spans of a small world, in ticks: all different where the difference matters, and as short as can be; shorter still
/// where two lanes, or the names and the signers of a move, are all at work at a time, and where a world differs from another
/// in its beginning alone.
#[must_use]
pub fn times(story: Story) -> Times {
    let ticks = |n: i64| u32::try_from(n * TICK).expect("small");
    let crowded = matches!(
        story,
        Story::CalledOff | Story::Hidden | Story::Rolled | Story::Trailing | Story::Doubled | Story::Brought
    );
    let two = ticks(if crowded { 1 } else { 2 });
    Times {
        ttl: two,
        negative_ttl: ticks(1),
        // Where copies hide CNAMEs, nothing shows that these are remembered for longer.
        cname_ttl: if story == Story::Hidden { two } else { ticks(i64::from(LinkSeen::TTL)) },
        interval: ticks(5),
        drain: two,
        signer_lag: ticks(1),
        grace: ticks(2),
        look: ticks(1) / 2,
    }
}

/// What a search found.
#[derive(Debug)]
pub struct Found {
    /// Distinct states.
    pub states: usize,
    /// The longest of the shortest ways to them.
    pub depth: usize,
    /// Properties checked.
    pub properties: usize,
    /// The properties that do not hold, each with the shortest history that shows it.
    pub broken: Vec<(&'static str, String)>,
    /// Whether every history was gone through.
    pub complete: bool,
}

/// What to go through.
#[derive(Debug, Clone, Copy)]
pub struct Scope {
    /// Which world.
    pub story: Story,
    /// Most faults in one history.
    pub faults: u8,
    /// Their kinds, bits of [`world::faults`].
    pub kinds: u16,
    /// More than the default run has the time for: everything that may be edited, looks of every kind, rotations during moves.
    pub large: bool,
}

/// Goes through every history; gives up after `limit`. Ends early where something breaks.
#[must_use]
pub fn search(rules: Rules, scope: Scope, limit: Duration) -> Found {
    let Scope { story, faults, kinds, large } = scope;
    let times = times(story);
    let chronology = Chronology {
        order: story.moves(),
        steady: kinds & world::faults::CLOCK == 0,
        grace: i64::from(times.grace) / TICK,
        interval: i64::from(times.interval) / TICK,
    };
    let world = World {
        kernel: Kernel::new(rules, times, chronology),
        faults,
        kinds,
        story,
        large,
        rest: Default::default(),
    };
    let properties = world.properties().len();
    let begun = std::time::Instant::now();
    let checker = world
        .checker()
        .threads(std::thread::available_parallelism().map_or(1, usize::from))
        .finish_when(HasDiscoveries::Any)
        .timeout(limit)
        .spawn_bfs()
        .join();
    let broken = checker
        .discoveries()
        .into_iter()
        .map(|(name, path)| (name, history(checker.model(), &path)))
        .collect();
    Found {
        states: checker.unique_state_count(),
        depth: checker.max_depth(),
        properties,
        broken,
        complete: checker.is_done() && begun.elapsed() < limit,
    }
}

fn history(world: &World, path: &stateright::Path<world::State, world::Action>) -> String {
    let mut text = String::new();
    let mut last = None;
    for (state, action) in path.clone().into_vec() {
        if let Some(action) = action {
            text.push_str(&format!("  {action:?}\n"));
        }
        last = Some(state);
    }
    if let Some(state) = last {
        let words = world.kernel.describe(state.secret, state.set);
        text.push_str(&format!("  => {state:?}\n{words}\n"));
    }
    text
}
