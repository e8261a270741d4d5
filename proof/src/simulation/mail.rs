//! Mail: signed by whoever lags, under way for hours or days, verified by a resolver whose cache is as old as it may
//! be. Each signature of a message must verify by itself.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::history::{History, Told, Way};
use super::{Outcome, Seconds, Size, YEAR, times};
use crate::sight::TextAnswer;

/// Verifies a domain's messages.
pub fn verify(history: &History, size: Size, seed: u64, domain: u32) -> Outcome {
    let times = times();
    let (lag, drain) = (Seconds::from(times.signer_lag), Seconds::from(times.drain));
    let mut rng = StdRng::seed_from_u64(seed ^ (u64::from(domain) << 32) ^ 0x006d_6169_6c00);
    let end = Seconds::from(size.years) * YEAR;
    let all = history.told.iter().flat_map(|line| line.changes());
    let changes: Vec<Seconds> = all.filter(|at| *at < end).collect();
    let mut outcome = Outcome {
        rotations: history.rotations,
        moves: history.moves,
        reconciles: history.reconciles,
        ..Outcome::default()
    };
    for _ in 0..size.messages {
        // Half of the mail is sent where things go wrong, if they do: about a change of what signers are told.
        let signed = if rng.random_bool(0.5) && !changes.is_empty() {
            changes[rng.random_range(0..changes.len())] + rng.random_range(-lag..2 * lag)
        } else {
            rng.random_range(0..end)
        };
        // A signer goes by what it was told up to the lag ago.
        let heard = signed - rng.random_range(0..lag);
        let under_way = match rng.random_range(0..4) {
            0 => 0,
            1 => drain,
            _ => rng.random_range(0..=drain),
        };
        let arrives = signed + under_way;
        let told = history.told.iter().enumerate();
        let told: Vec<(usize, Told)> =
            told.filter_map(|(lane, line)| Some((lane, line.at(heard).1?))).collect();
        if told.is_empty() {
            outcome.unsigned += 1;
            continue;
        }
        outcome.messages += 1;
        outcome.signatures += told.len() as u64;
        let mut worst = Verdict::Good;
        for (lane, told) in told {
            let verdict = match look_up(history, lane, &told, heard, arrives, &mut rng) {
                Verdict::Bad(_)
                    if history.revoked.iter().any(|(key, at)| *key == told.key && *at <= arrives) =>
                {
                    Verdict::Revoked
                }
                Verdict::Bad(why) => {
                    Verdict::Bad(format!("signed {signed} with {told:?}, arrived {arrives}: {why}"))
                }
                other => other,
            };
            worst = worst.or(verdict);
        }
        match worst {
            Verdict::Good => {}
            Verdict::TenantsFault => outcome.tenants_fault += 1,
            Verdict::Revoked => outcome.revoked += 1,
            Verdict::Bad(why) => {
                outcome.unverifiable += 1;
                outcome.first.get_or_insert_with(|| format!("domain {domain}, {why}"));
            }
        }
    }
    outcome
}

/// The longest TTL in a tenant's zone.
const LONGEST_TTL: Seconds = super::HOUR;
/// For how long a controller may be away, on top of the grace.
const SLACK: Seconds = 2 * super::DAY;

/// From the best to the worst.
enum Verdict {
    Good,
    TenantsFault,
    Revoked,
    Bad(String),
}

impl Verdict {
    fn or(self, other: Self) -> Self {
        match (self, other) {
            (bad @ Self::Bad(_), _) | (_, bad @ Self::Bad(_)) => bad,
            (revoked @ Self::Revoked, _) | (_, revoked @ Self::Revoked) => revoked,
            (Self::Good, other) | (other, Self::Good) => other,
            (Self::TenantsFault, Self::TenantsFault) => Self::TenantsFault,
        }
    }
}

fn look_up(
    history: &History,
    lane: usize,
    told: &Told,
    heard: Seconds,
    arrives: Seconds,
    rng: &mut StdRng,
) -> Verdict {
    let times = times();
    let name = match told.way {
        Way::Name(name) => name,
        Way::Alias(alias) => {
            let line = &history.aliases[alias];
            // What was asked for too long ago has run out, and is asked for anew.
            let long_ago = arrives - rng.random_range(0..=LONGEST_TTL);
            let asked = if arrives - long_ago < line.at(long_ago).1.ttl { long_ago } else { arrives };
            let seen = line.at(asked).1;
            match seen.leads {
                Some(name) => name,
                None => return blame(history, lane, alias, heard, asked, seen.number),
            }
        }
    };
    let server = rng.random_range(0..2);
    let name = &history.names[name];
    let line = &name.served[server];
    // As old as an answer may be, or anything up to that.
    let age = if rng.random_bool(0.5) {
        i64::from(times.ttl) - 1
    } else {
        rng.random_range(0..i64::from(times.ttl))
    };
    let asked = arrives - age;
    let (_, old) = line.at(asked);
    let ttl = Seconds::from(if old == TextAnswer::Nothing { times.negative_ttl } else { times.ttl });
    let answer = if arrives - asked < ttl { old } else { line.at(arrives).1 };
    if answer == TextAnswer::Key(told.key) {
        Verdict::Good
    } else {
        Verdict::Bad(format!(
            "a resolver that asked server {server} for {} at {asked} has {answer:?}",
            name.text
        ))
    }
}

/// A CNAME that is not there is the tenant's own fault, unless signers were told to rely on it although the controller
/// knew that resolvers may remember, or still rely on it long after it knew.
fn blame(
    history: &History,
    lane: usize,
    alias: usize,
    heard: Seconds,
    asked: Seconds,
    number: usize,
) -> Verdict {
    let Some(known) = history.noticed[alias][number] else { return Verdict::TenantsFault };
    let (told_since, _) = history.told[lane].at(heard);
    if told_since > known && told_since > asked {
        return Verdict::Bad(format!(
            "told since {told_since}; that the CNAME was gone was known at {known}, and a resolver asked at {asked}"
        ));
    }
    let still_gone = history.aliases[alias].at(heard).1.number == number;
    if still_gone && heard > known + Seconds::from(times().grace) + SLACK {
        return Verdict::Bad(format!(
            "the CNAME is gone, known since {known}, and still relied on at {heard}"
        ));
    }
    Verdict::TenantsFault
}
