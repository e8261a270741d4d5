//! The words for a tenant: which server said what, which record to publish, what to change, when we look again.

use jiff::SignedDuration;

use super::evidence::{Flattening, bogus, flattening, heard, memory, server, silence, stale, txt_beside};
use super::target::{Slip, odd_slip, slip};
use super::{Diagnosis, RecordState};
use crate::model::name::DnsName;
use crate::model::sighting::{
    ChainEnd, Failure, Outcome, Question, Security, ServerAnswer, ServerRole, SlotQuestion, SlotSighting,
};
use crate::model::words::span;

/// Most servers that a message names.
const MOST_NAMED: usize = 4;

/// Says what the answers mean for one record.
#[must_use]
pub fn diagnose(wanted: &SlotQuestion, question: &Question, sighting: &SlotSighting) -> Diagnosis {
    let Finding { state, said, remedy } = find(wanted, question, sighting);
    let again = match (state, sighting.again) {
        (RecordState::Verified, _) | (_, None) => String::new(),
        (_, Some(seconds)) => {
            format!(" DNS is asked again within {}.", span(SignedDuration::from_secs(i64::from(seconds))))
        }
    };
    let remedy = if remedy.is_empty() { remedy } else { format!(" {remedy}") };
    Diagnosis { state, message: format!("{said}{remedy}{again}") }
}

struct Finding {
    state: RecordState,
    said: String,
    remedy: String,
}

impl Finding {
    fn new(state: RecordState, said: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { state, said: said.into(), remedy: remedy.into() }
    }
}

/// The record to publish, as DNS hosts' forms ask for it.
fn record(wanted: &SlotQuestion, question: &Question) -> String {
    let host = host(wanted, question);
    format!("CNAME {host} (in full {}) with the value {}", wanted.alias, wanted.target)
}

fn host<'a>(wanted: &'a SlotQuestion, question: &Question) -> &'a str {
    let name = wanted.alias.as_str();
    name.strip_suffix(question.domain.as_str()).unwrap_or(name).trim_end_matches('.')
}

fn find(wanted: &SlotQuestion, question: &Question, sighting: &SlotSighting) -> Finding {
    let alias = &wanted.alias;
    let answers = heard(&sighting.alias);
    let Some(first) = answers.first() else { return unheard(wanted, question, sighting) };
    let right =
        |a: &&ServerAnswer| matches!(&a.outcome, Outcome::Cname { target, .. } if *target == wanted.target);
    let (good, bad): (Vec<&ServerAnswer>, Vec<&ServerAnswer>) =
        answers.iter().copied().partition(|a| right(a));
    if !good.is_empty() && !bad.is_empty() {
        let list = |answers: &[&ServerAnswer]| {
            let each = answers.iter().map(|a| format!("{} {}", server(a), says(&a.outcome, wanted)));
            each.take(MOST_NAMED).collect::<Vec<_>>().join(", ")
        };
        return Finding::new(
            RecordState::PartlyPropagated,
            format!("Servers disagree about {alias}: {}, but {}.", list(&good), list(&bad)),
            format!(
                "Wait until every server has it, or ask your DNS host why one is behind. What belongs there: {}.",
                record(wanted, question)
            ),
        );
    }
    if bad.is_empty() {
        return there(wanted, question, sighting, &answers);
    }
    match flattening(sighting) {
        Flattening::No => {}
        kind => return flattened(kind, wanted, question, &answers),
    }
    // None is right. A CNAME tells more than its absence; who says the same speaks together.
    let there = |a: &&&ServerAnswer| matches!(a.outcome, Outcome::Cname { .. } | Outcome::OddCname { .. });
    let telling = answers.iter().find(there).unwrap_or(first);
    let target = |outcome: &Outcome| match outcome {
        Outcome::Cname { target, .. } => Some(target.to_string()),
        Outcome::OddCname { target, .. } => Some(target.trim_end_matches('.').to_owned()),
        _ => None,
    };
    let same = |a: &&ServerAnswer| target(&a.outcome) == target(&telling.outcome);
    let those: Vec<&ServerAnswer> = answers.iter().copied().filter(same).collect();
    match &telling.outcome {
        Outcome::Cname { target, .. } => {
            wrong(&target.to_string(), Some(target), wanted, question, sighting, &those)
        }
        Outcome::OddCname { target, .. } => {
            wrong(target.trim_end_matches('.'), None, wanted, question, sighting, &those)
        }
        _ => missing(wanted, question, sighting, &those),
    }
}

/// Every server that was heard has the CNAME.
fn there(
    wanted: &SlotQuestion,
    question: &Question,
    sighting: &SlotSighting,
    answers: &[&ServerAnswer],
) -> Finding {
    let alias = &wanted.alias;
    let have = format!("{} the CNAME", they(answers, "has", "have"));
    if let Some(beside) = txt_beside(sighting) {
        return Finding::new(
            RecordState::CnameAndTxt,
            format!(
                "{} has a TXT at {alias} beside the CNAME: receivers get the one or the other.",
                server(beside)
            ),
            format!("Delete the TXT, and leave only {}; the key comes with it.", record(wanted, question)),
        );
    }
    if let Some(bogus) = bogus(&sighting.alias) {
        return Finding::new(
            RecordState::DnssecBogus,
            format!("{have} {alias}, but {} {}.", server(bogus), Failure::Bogus),
            format!(
                "Receivers that validate find nothing. The CNAME is right; repair the DNSSEC of {} (DS at the registrar, signatures, keys), or if that is in order tell the mail provider.",
                sighting.zone.clone().unwrap_or_else(|| DnsName::from(&question.domain))
            ),
        );
    }
    let behind = stale(wanted, sighting);
    if let Some(other) = behind.iter().find(|a| sighting.other_view.contains(&a.address)) {
        return Finding::new(
            RecordState::StaleNegativeCache,
            format!(
                "{have} {alias}, but {} {}, and goes on saying so after what it may remember has run out: it is shown another version of the zone (split horizon).",
                server(other),
                says(&other.outcome, wanted)
            ),
            format!(
                "Receivers that ask such a resolver do not find the key. Publish {} in that version of the zone, too; if only your own network sees it, tell the mail provider, who can have other resolvers asked (spec.verification.resolvers).",
                record(wanted, question)
            ),
        );
    }
    if let Some(first) = behind.first() {
        let longest = behind.iter().map(|a| memory(&a.outcome)).max().unwrap_or(0);
        let rest = SignedDuration::from_secs(i64::from(longest));
        return Finding::new(
            RecordState::StaleNegativeCache,
            format!(
                "{have} {alias}, but {} still {}, from its cache, for {} at most.",
                server(first),
                says(&first.outcome, wanted),
                span(rest)
            ),
            "Nothing to do; it passes by itself. If it does not, that resolver is shown another version of the zone (split horizon).",
        );
    }
    let secure = sighting.validation.iter().any(|v| v.security == Security::Secure);
    let secure = if secure { ", validated by DNSSEC" } else { "" };
    let own = answers.iter().any(|a| a.role == ServerRole::Authoritative);
    // A server that was heard at another of its addresses is not missed.
    let met = |a: &ServerAnswer| a.name.is_some() && answers.iter().any(|heard| heard.name == a.name);
    let failed = |a: &&ServerAnswer| {
        matches!(a.outcome, Outcome::Failed(_)) && (a.role == ServerRole::Authoritative || !own) && !met(a)
    };
    let silent: Vec<ServerAnswer> = sighting.alias.iter().filter(failed).cloned().collect();
    let silent = if silent.is_empty() { String::new() } else { format!("; {}", silence(&silent)) };
    Finding::new(RecordState::Verified, format!("{have}{secure}{silent}."), "")
}

fn flattened(
    kind: Flattening,
    wanted: &SlotQuestion,
    question: &Question,
    answers: &[&ServerAnswer],
) -> Finding {
    let said = format!(
        "{} no CNAME at {}, but the right TXT (a flattened CNAME).",
        they(answers, "shows", "show"),
        wanted.alias
    );
    let record = record(wanted, question);
    let remedy = match kind {
        Flattening::Lags { copy, original } => format!(
            "The copy may be remembered for {copy} s, the original only for {original} s, so a new key would come too late: mail is not signed through it. Turn flattening off, or lower its TTL to {original} s. What belongs there: {record}."
        ),
        Flattening::Hearsay => format!(
            "The zone's own servers could not be asked how long the copy is remembered, so mail is not signed through it. Turn flattening off. What belongs there: {record}."
        ),
        Flattening::Follows { .. } | Flattening::No => format!(
            "That works as long as your DNS host follows each change of the key; a plain CNAME is safer: {record}."
        ),
    };
    Finding::new(RecordState::Flattened, said, remedy)
}

/// There is a CNAME, and it points elsewhere.
fn wrong(
    text: &str,
    target: Option<&DnsName>,
    wanted: &SlotQuestion,
    question: &Question,
    sighting: &SlotSighting,
    answers: &[&ServerAnswer],
) -> Finding {
    let (alias, record) = (&wanted.alias, record(wanted, question));
    let said = format!("{} that {alias} points at {text}", they(answers, "says", "say"));
    if let Some(wild) =
        wildcard(sighting, |o| matches!(o, Outcome::Cname { target: t, .. } if Some(t) == target))
    {
        return Finding::new(
            RecordState::Wildcard,
            format!(
                "{said}, and {} says the same of every other name beside it: it comes from a wildcard (*) in the zone.",
                server(wild)
            ),
            format!("A record of its own wins over the wildcard. Publish {record}."),
        );
    }
    let chain = &sighting.chain;
    let by_way = || chain.hops.iter().take(MOST_NAMED).map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
    match chain.end {
        ChainEnd::Loop => {
            return Finding::new(
                RecordState::CnameLoop,
                format!("{said}, and the CNAMEs from there lead in a circle ({}).", by_way()),
                format!("Change it to {record}."),
            );
        }
        ChainEnd::TooLong => {
            return Finding::new(
                RecordState::ChainTooLong,
                format!("{said}, and more CNAMEs follow than resolvers go after ({}, …).", by_way()),
                format!("Point it there at once: {record}."),
            );
        }
        ChainEnd::Right => {
            return Finding::new(
                RecordState::WrongTarget,
                format!("{said}, which leads to the right place, but through a name that is not ours."),
                format!("The CNAME itself is the proof of control: change it to {record}."),
            );
        }
        ChainEnd::Ends | ChainEnd::Unknown => {}
    }
    let slip = target.map_or_else(|| odd_slip(text, wanted), |target| slip(target, wanted, question));
    let remedy = match slip {
        Slip::Relative => format!(
            "Your DNS host appended the zone to the value: write the value with a dot at its end. Publish {record}."
        ),
        Slip::Underscore => format!("The underscore of _domainkey is missing. Change it to {record}."),
        Slip::DashDot => format!("Dashes and dots are mixed up. Change it to {record}."),
        Slip::Quoted => {
            format!("The quotes have become part of the value: leave them out. Publish {record}.")
        }
        Slip::OtherSelector => format!("The two are swapped. Change it to {record}."),
        _ => format!("Change it to {record}."),
    };
    Finding::new(slip.state(), format!("{said}{}.", slip.hint()), remedy)
}

/// There is no CNAME.
fn missing(
    wanted: &SlotQuestion,
    question: &Question,
    sighting: &SlotSighting,
    answers: &[&ServerAnswer],
) -> Finding {
    let (alias, record) = (&wanted.alias, record(wanted, question));
    let host = host(wanted, question);
    let has_cname = |answers: &'_ [ServerAnswer]| {
        let found = heard(answers).into_iter().find(|a| matches!(a.outcome, Outcome::Cname { .. }));
        found.map(server)
    };
    if let Some(txt) =
        heard(&sighting.alias_txt).into_iter().find(|a| matches!(a.outcome, Outcome::Txt { .. }))
    {
        if let Some(wild) = wildcard(sighting, |o| matches!(o, Outcome::Txt { .. })) {
            return Finding::new(
                RecordState::Wildcard,
                format!(
                    "{} answers for {alias} with a TXT, and {} does so for every other name beside it: it comes from a wildcard (*) in the zone.",
                    server(txt),
                    server(wild)
                ),
                format!("A record of its own wins over the wildcard. Publish {record}."),
            );
        }
        return Finding::new(
            RecordState::TxtInsteadOfCname,
            format!("{} has a TXT at {alias} where the CNAME belongs.", server(txt)),
            format!("Delete the TXT and publish {record}; the key comes with it."),
        );
    }
    let zone = sighting.zone.clone().unwrap_or_else(|| DnsName::from(&question.domain));
    if let Some(server) = has_cname(&sighting.doubled) {
        return Finding::new(
            RecordState::DoubledZone,
            format!("{server} has a CNAME at {alias}.{zone}: the zone stands twice in its name."),
            format!(
                "Your DNS host appends the zone itself: write only {host} as the name. Publish {record}."
            ),
        );
    }
    if let Some(server) = has_cname(&sighting.without_underscore) {
        let bare = alias.as_str().replacen("._domainkey.", ".domainkey.", 1);
        return Finding::new(
            RecordState::UnderscoreDropped,
            format!("{server} has a CNAME at {bare}: the underscore of _domainkey is missing in its name."),
            format!("Publish {record}."),
        );
    }
    let absent = heard(&sighting.domain_absent);
    if !absent.is_empty() {
        let publish = if question.domain.as_str() != zone.as_str() && zone.as_str().contains('.') {
            format!("If it belongs into the zone {zone}, publish {record} there.")
        } else {
            format!("Once it is, publish {record}.")
        };
        return Finding::new(
            RecordState::NxDomain,
            format!(
                "{} that {} itself is not there (NXDOMAIN): is it spelled rightly, registered and delegated?",
                they(&absent, "says", "say"),
                question.domain
            ),
            publish,
        );
    }
    // Some servers say so of any name; others have an ALIAS there, which they resolve for addresses alone.
    let other = answers.iter().any(|answer| matches!(answer.outcome, Outcome::NoData { .. }));
    let alias_record = match other {
        true => " An ALIAS or ANAME in its place is none: it stands for addresses, never for a key.",
        false => "",
    };
    Finding::new(
        RecordState::Missing,
        format!("{} no CNAME {alias}.", they(answers, "has", "have")),
        format!("Publish {record}.{alias_record}"),
    )
}

/// Nobody was heard.
fn unheard(wanted: &SlotQuestion, question: &Question, sighting: &SlotSighting) -> Finding {
    let state = failure_state(&sighting.alias);
    let said = format!("Asked for the CNAME {}: {}.", wanted.alias, silence(&sighting.alias));
    let zone = sighting.zone.clone().unwrap_or_else(|| DnsName::from(&question.domain));
    let record = record(wanted, question);
    let remedy = match state {
        RecordState::LameDelegation => format!(
            "The servers named for {zone} do not serve it: repair the delegation at the registrar, or the servers. What belongs there: {record}."
        ),
        RecordState::DnssecBogus => format!(
            "Receivers that validate find nothing: repair the DNSSEC of {zone} (DS at the registrar, signatures, keys). What belongs there: {record}."
        ),
        _ => format!("That proves nothing, so nothing is changed. What belongs there: {record}."),
    };
    Finding::new(state, said, remedy)
}

/// A server that gives the same answer for a name that nobody can have published.
fn wildcard(sighting: &SlotSighting, same: impl Fn(&Outcome) -> bool) -> Option<&ServerAnswer> {
    heard(&sighting.beside).into_iter().find(|a| same(&a.outcome))
}

fn failure_state(answers: &[ServerAnswer]) -> RecordState {
    let failed = |a: &ServerAnswer| match a.outcome {
        Outcome::Failed(failure) => Some((failure, a.role)),
        _ => None,
    };
    // Where the zone's own servers fail, resolvers only tell of the consequence, but for broken DNSSEC.
    let own = answers.iter().any(|a| a.role == ServerRole::Authoritative);
    let cause = |found: &(Failure, ServerRole)| {
        !own || found.1 == ServerRole::Authoritative || found.0 == Failure::Bogus
    };
    // The kind that tells most about what to repair. A server of the zone that refuses is as lame as one that
    // answers without authority.
    let kinds =
        answers.iter().filter_map(failed).filter(cause).map(|(failure, role)| match (failure, role) {
            (Failure::Bogus, _) => (0, RecordState::DnssecBogus),
            (Failure::Lame, _) | (Failure::Refused, ServerRole::Authoritative) => {
                (1, RecordState::LameDelegation)
            }
            (Failure::ServFail, _) => (2, RecordState::ServFail),
            (Failure::Refused, ServerRole::Recursive) => (3, RecordState::Refused),
            (Failure::Malformed | Failure::OtherError, _) => (4, RecordState::ServFail),
            (Failure::Timeout | Failure::GivenUp, _) => (5, RecordState::Timeout),
            (Failure::Unreachable | Failure::PrivateAddress, _) => (6, RecordState::Unreachable),
        });
    kinds.min_by_key(|(rank, _)| *rank).map_or(RecordState::Timeout, |(_, state)| state)
}

/// Who, and the verb in its number.
pub(super) fn they(answers: &[&ServerAnswer], singular: &str, plural: &str) -> String {
    match answers {
        [] => format!("nobody {singular}"),
        [one] => format!("{} {singular}", server(one)),
        [one, rest @ ..] => format!("{} and {} more {plural}", server(one), rest.len()),
    }
}

fn says(outcome: &Outcome, wanted: &SlotQuestion) -> String {
    match outcome {
        Outcome::Cname { target, .. } if *target == wanted.target => "has the CNAME".to_owned(),
        Outcome::Cname { target, .. } => format!("says that it points at {target}"),
        Outcome::OddCname { target, .. } => format!("says that it points at {target}"),
        Outcome::Txt { .. } => "says that it is a TXT".to_owned(),
        Outcome::NoData { .. } => "says that there is no CNAME at it".to_owned(),
        Outcome::NxDomain { .. } => "says that it is not there".to_owned(),
        Outcome::Failed(failure) => failure.to_string(),
    }
}
