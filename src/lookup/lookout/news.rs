//! What in a look is new.

use crate::model::sighting::{Observation, Outcome, ServerAnswer, ServerRole};

/// Whether two observations say different things. That a resolver's TTLs count down is nothing new.
pub fn differs(before: &Observation, after: &Observation) -> bool {
    compare(before, after, plain)
}

/// Whether they do even if failures are left out.
pub fn moved(before: &Observation, after: &Observation) -> bool {
    compare(before, after, |answers| {
        let mut heard = plain(answers);
        heard.retain(|answer| !matches!(answer.outcome, Outcome::Failed(_)));
        heard
    })
}

fn compare(
    before: &Observation,
    after: &Observation,
    plain: impl Fn(&[ServerAnswer]) -> Vec<ServerAnswer>,
) -> bool {
    let pairs = before.slots.0.iter().zip(&after.slots.0);
    pairs.into_iter().any(|(a, b)| {
        let lists = [
            (&a.alias, &b.alias),
            (&a.alias_txt, &b.alias_txt),
            (&a.doubled, &b.doubled),
            (&a.without_underscore, &b.without_underscore),
            (&a.beside, &b.beside),
            (&a.target_txt, &b.target_txt),
            (&a.domain_absent, &b.domain_absent),
        ];
        a.chain != b.chain
            || a.other_view != b.other_view
            || lists.into_iter().any(|(a, b)| plain(a) != plain(b))
    })
}

fn plain(answers: &[ServerAnswer]) -> Vec<ServerAnswer> {
    let without_ttl = |answer: &ServerAnswer| {
        let mut answer = answer.clone();
        if answer.role == ServerRole::Recursive {
            match &mut answer.outcome {
                Outcome::Cname { ttl, .. } | Outcome::OddCname { ttl, .. } | Outcome::Txt { ttl, .. } => {
                    *ttl = 0
                }
                Outcome::NoData { negative_ttl } | Outcome::NxDomain { negative_ttl } => *negative_ttl = 0,
                Outcome::Failed(_) => {}
            }
        }
        answer
    };
    let mut plain: Vec<ServerAnswer> = answers.iter().map(without_ttl).collect();
    plain.sort_by_key(|a| (a.address, a.name.clone()));
    plain
}
