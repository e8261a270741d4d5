//! How long a run is, and what it must reach.

use std::time::Duration;

use crate::common::random::fresh_seed;

/// A run.
pub struct Plan {
    pub seed: u64,
    pub long: bool,
    pub domains: usize,
    /// Between two messages.
    pub pause: Duration,
    /// It goes on at least so long, and until the goals are reached.
    pub least: Duration,
    /// It ends at the latest then.
    pub most: Duration,
    /// Goals.
    pub rotations: u64,
    pub messages: u64,
}

impl Plan {
    /// From the arguments. `None` where a filter of test names leaves this one out.
    pub fn of(args: &[String]) -> Result<Option<Self>, String> {
        let (mut seed, mut long) = (None, false);
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--long" => long = true,
                "--seed" => {
                    let text = args.next().ok_or("--seed: a number is missing")?;
                    seed = Some(text.parse().map_err(|e| format!("--seed {text}: {e}"))?);
                }
                // What test runners pass to every test program.
                option if option.starts_with('-') => {}
                filter if "chaos".contains(filter) => {}
                _ => return Ok(None),
            }
        }
        let seed = seed.unwrap_or_else(fresh_seed);
        Ok(Some(if long { Self::long(seed) } else { Self::short(seed) }))
    }

    fn short(seed: u64) -> Self {
        Self {
            seed,
            long: false,
            domains: 4,
            pause: Duration::from_millis(60),
            least: Duration::from_secs(40),
            most: Duration::from_secs(60),
            rotations: 4,
            messages: 200,
        }
    }

    fn long(seed: u64) -> Self {
        Self {
            seed,
            long: true,
            domains: 12,
            pause: Duration::from_millis(25),
            least: Duration::from_secs(600),
            most: Duration::from_secs(1800),
            rotations: 200,
            messages: 20_000,
        }
    }
}
