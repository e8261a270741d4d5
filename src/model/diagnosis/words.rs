//! The words for a tenant: which server said what, which record to publish, what to change.

use super::evidence::{heard, is_flattened, server, silence};
use super::{Diagnosis, RecordState};
use crate::model::name::DnsName;
use crate::model::selector::SlotId;
use crate::model::sighting::{Failure, Outcome, Question, ServerAnswer, SlotQuestion, SlotSighting};

/// Says what the answers mean for one record.
#[must_use]
pub fn diagnose(wanted: &SlotQuestion, question: &Question, sighting: &SlotSighting) -> Diagnosis {
    let (state, finding) = find(wanted, question, sighting);
    let message = match state {
        RecordState::Verified => finding,
        _ => format!("{finding} {}", remedy(state, wanted, question)),
    };
    Diagnosis { state, message }
}

fn find(wanted: &SlotQuestion, question: &Question, sighting: &SlotSighting) -> (RecordState, String) {
    let alias = &wanted.alias;
    let answers = heard(&sighting.alias);
    let Some(first) = answers.first() else {
        let state = failure_state(&sighting.alias);
        return (state, format!("Asked for the CNAME {alias}: {}.", silence(&sighting.alias)));
    };
    let right =
        |a: &&ServerAnswer| matches!(&a.outcome, Outcome::Cname { target, .. } if *target == wanted.target);
    if answers.iter().all(right) {
        return (RecordState::Verified, format!("{} the CNAME.", they(&answers, "has", "have")));
    }
    if let Some(good) = answers.iter().find(|a| right(a)) {
        let bad: Vec<&ServerAnswer> = answers.iter().filter(|a| !right(a)).copied().collect();
        let said = bad.first().map(|a| said(&a.outcome)).unwrap_or_default();
        return (
            RecordState::PartlyPropagated,
            format!("{} has the CNAME {alias}, but {} {said}.", server(good), they(&bad, "says", "say")),
        );
    }
    if is_flattened(sighting) {
        return (
            RecordState::Flattened,
            format!("{} no CNAME at {alias}, but the right TXT.", they(&answers, "shows", "show")),
        );
    }
    match &first.outcome {
        Outcome::Cname { target, .. } => {
            let state = wrong_target(target, wanted, question);
            (
                state,
                format!(
                    "{} that {alias} points at {target}{}.",
                    they(&answers, "says", "say"),
                    hint(state, target, wanted)
                ),
            )
        }
        Outcome::NoData { .. } | Outcome::NxDomain { .. } => missing(wanted, question, sighting, &answers),
        other => {
            (RecordState::Missing, format!("{} {} for {alias}.", they(&answers, "says", "say"), said(other)))
        }
    }
}

fn missing(
    wanted: &SlotQuestion,
    question: &Question,
    sighting: &SlotSighting,
    answers: &[&ServerAnswer],
) -> (RecordState, String) {
    let alias = &wanted.alias;
    let doubled = heard(&sighting.doubled).into_iter().find(|a| matches!(a.outcome, Outcome::Cname { .. }));
    if let Some(doubled) = doubled {
        return (
            RecordState::DoubledZone,
            format!(
                "{} has a CNAME at {alias}.{}: the zone stands twice in its name.",
                server(doubled),
                question.domain
            ),
        );
    }
    let txt = heard(&sighting.alias_txt).into_iter().find(|a| matches!(a.outcome, Outcome::Txt { .. }));
    if let Some(txt) = txt {
        return (
            RecordState::TxtInsteadOfCname,
            format!("{} has a TXT at {alias} where the CNAME belongs.", server(txt)),
        );
    }
    let by_resolver = answers.iter().all(|a| a.name.is_none());
    let nothing = answers.iter().all(|a| matches!(a.outcome, Outcome::NxDomain { .. }));
    if nothing && by_resolver && sighting.negative_ttl.is_none() {
        return (
            RecordState::NxDomain,
            format!(
                "{} no {alias}, and no name server was found for {}: is the domain registered and delegated?",
                they(answers, "knows", "know"),
                question.domain
            ),
        );
    }
    (RecordState::Missing, format!("{} no CNAME {alias}.", they(answers, "has", "have")))
}

fn wrong_target(target: &DnsName, wanted: &SlotQuestion, question: &Question) -> RecordState {
    let expected = wanted.target.as_str();
    let found = target.as_str();
    let other = SlotId::ALL
        .into_iter()
        .any(|s| question.slots[s].target == *target && question.slots[s].target != wanted.target);
    if other {
        return RecordState::SwappedSelectors;
    }
    if found.strip_prefix(expected).is_some_and(|rest| rest.starts_with('.')) {
        return RecordState::RelativeTarget;
    }
    if expected.replace("._domainkey.", ".domainkey.") == found {
        return RecordState::UnderscoreDropped;
    }
    if expected.replace('.', "-") == found.replace('.', "-") {
        return RecordState::DashInsteadOfDot;
    }
    RecordState::WrongTarget
}

fn hint(state: RecordState, target: &DnsName, wanted: &SlotQuestion) -> &'static str {
    if state != RecordState::WrongTarget {
        return "";
    }
    let (found, expected) = (target.as_str(), wanted.target.as_str());
    if distance(found, expected) <= 3 {
        return ", which looks like a slip of the pen";
    }
    let below = |name: &str| name.split_once("._domainkey.").map(|(_, zone)| zone.to_owned());
    let parent = |zone: String| zone.split_once('.').map(|(_, rest)| rest.to_owned());
    let (theirs, ours) = (below(found), below(expected));
    if theirs.is_some() && theirs == ours {
        return ", which belongs to another domain of this organisation";
    }
    if theirs.clone().and_then(parent).is_some() && theirs.and_then(parent) == ours.and_then(parent) {
        return ", which belongs to another organisation at this provider";
    }
    ", which belongs to somebody else, perhaps the provider before"
}

/// The edit distance, given up on where the lengths differ much.
fn distance(a: &str, b: &str) -> usize {
    if a.len().abs_diff(b.len()) > 3 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut next = vec![i + 1];
        for (j, y) in b.bytes().enumerate() {
            let get = |line: &[usize], at: usize| line.get(at).copied().unwrap_or(usize::MAX - 1);
            let best = (get(&row, j) + usize::from(x != y)).min(get(&row, j + 1) + 1).min(get(&next, j) + 1);
            next.push(best);
        }
        row = next;
    }
    row.last().copied().unwrap_or(usize::MAX)
}

fn remedy(state: RecordState, wanted: &SlotQuestion, question: &Question) -> String {
    let host = wanted.alias.as_str();
    let host = host.strip_suffix(question.domain.as_str()).unwrap_or(host).trim_end_matches('.');
    let record = format!("CNAME {host} (in full {}) with the value {}", wanted.alias, wanted.target);
    match state {
        RecordState::Missing => format!("Publish {record}."),
        RecordState::NxDomain => format!("Once it is, publish {record}."),
        RecordState::WrongTarget | RecordState::SwappedSelectors => format!("Change it to {record}."),
        RecordState::DoubledZone => {
            format!("Your DNS host appends the zone itself: write only {host} as the name. Publish {record}.")
        }
        RecordState::RelativeTarget => {
            format!(
                "Your DNS host appended the zone to the value: write the value with a dot at its end. Publish {record}."
            )
        }
        RecordState::UnderscoreDropped => {
            format!("The underscore of _domainkey is missing. Change it to {record}.")
        }
        RecordState::DashInsteadOfDot => format!("Dashes and dots are mixed up. Change it to {record}."),
        RecordState::TxtInsteadOfCname => {
            format!("Delete the TXT and publish {record}; the key comes with it.")
        }
        RecordState::Flattened => {
            "That works as long as your DNS host follows each change of the key; a plain CNAME is safer."
                .to_owned()
        }
        RecordState::PartlyPropagated => {
            "Wait until every server has it, or look why one is behind.".to_owned()
        }
        RecordState::LameDelegation => {
            format!(
                "The servers named for {} do not serve it: repair the delegation at the registrar.",
                question.domain
            )
        }
        RecordState::Timeout | RecordState::ServFail | RecordState::Refused | RecordState::Unreachable => {
            "That proves nothing, so nothing is changed; it is asked again.".to_owned()
        }
        RecordState::Verified | RecordState::Pending => String::new(),
    }
}

fn failure_state(answers: &[ServerAnswer]) -> RecordState {
    let failures = answers.iter().filter_map(|a| match a.outcome {
        Outcome::Failed(failure) => Some(failure),
        _ => None,
    });
    // The kind that tells most about what to repair.
    match failures.min_by_key(|f| match f {
        Failure::Lame => 0,
        Failure::ServFail => 1,
        Failure::Refused => 2,
        Failure::Malformed | Failure::OtherError => 3,
        Failure::Timeout => 4,
        Failure::Unreachable => 5,
    }) {
        Some(Failure::Lame) => RecordState::LameDelegation,
        Some(Failure::Refused) => RecordState::Refused,
        Some(Failure::ServFail | Failure::Malformed | Failure::OtherError) => RecordState::ServFail,
        Some(Failure::Unreachable) => RecordState::Unreachable,
        Some(Failure::Timeout) | None => RecordState::Timeout,
    }
}

/// Who, and the verb in its number.
pub(super) fn they(answers: &[&ServerAnswer], singular: &str, plural: &str) -> String {
    match answers {
        [] => format!("nobody {singular}"),
        [one] => format!("{} {singular}", server(one)),
        [one, rest @ ..] => format!("{} and {} more {plural}", server(one), rest.len()),
    }
}

fn said(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Cname { target, .. } => format!("that it points at {target}"),
        Outcome::Txt { .. } => "that it is a TXT".to_owned(),
        Outcome::NoData { .. } => "that there is no CNAME at it".to_owned(),
        Outcome::NxDomain { .. } => "that it is not there".to_owned(),
        Outcome::Failed(failure) => failure.to_string(),
    }
}
