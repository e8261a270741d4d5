//! What the servers that a zone is delegated to say of our records: the proof that a publisher which reports nothing, or a
//! human, has done it, and that a zone has moved.

use crate::api::{PublishState, RecordState, Verification};
use crate::lookup::{Looker, LookupConfig, Marked};
use crate::model::name::DnsName;
use crate::model::publishing::{Answer, Mark, Wanted, mark_name};
use crate::model::sighting::{Outcome, ServerAnswer};

/// Asks all servers of the zone that `name` is in for its texts and its marks.
pub async fn answers(verification: &Verification, name: &DnsName) -> Vec<Answer> {
    let Ok(mark) = mark_name(name) else { return Vec::new() };
    // A looker of its own: one that remembers delegations would not see a zone move.
    let found = Looker::new(LookupConfig::of(verification)).texts(name, &mark).await;
    let of = |Marked { record, mark }: &Marked| Answer {
        server: shown(record),
        texts: texts_of(&record.outcome),
        negative_ttl: match record.outcome {
            Outcome::NxDomain { negative_ttl } | Outcome::NoData { negative_ttl } => Some(negative_ttl),
            _ => None,
        },
        marks: texts_of(mark),
    };
    found.iter().map(of).collect()
}

/// What one of the servers of a tenant's zone said of a CNAME.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkAnswer {
    /// The server, as it is shown.
    pub server: String,
    /// Where the CNAME points, or what else is there; `None` where nothing is.
    pub found: Result<Option<Result<DnsName, String>>, ()>,
    /// The texts at the mark's name; `None` where nothing was heard that proves anything.
    pub marks: Option<Vec<String>>,
}

impl LinkAnswer {
    fn of(Marked { record, mark }: &Marked) -> Self {
        let found = match &record.outcome {
            Outcome::Cname { target, .. } => Ok(Some(Ok(target.clone()))),
            Outcome::OddCname { target, .. } => Ok(Some(Err(format!("a CNAME to {target}")))),
            Outcome::Txt { .. } => Ok(Some(Err("a TXT".to_owned()))),
            Outcome::NoData { .. } | Outcome::NxDomain { .. } => Ok(None),
            Outcome::Failed(_) => Err(()),
        };
        Self { server: shown(record), found, marks: texts_of(mark) }
    }

    /// Whether the mark is ours; `None` where that was not heard.
    fn is_ours(&self, ours: &Mark) -> Option<bool> {
        self.marks.as_ref().map(|texts| is_marked(texts, ours))
    }
}

/// Asks all servers of the zone that `name` is in for its CNAME and its marks.
pub async fn links(verification: &Verification, name: &DnsName) -> Vec<LinkAnswer> {
    let Ok(mark) = mark_name(name) else { return Vec::new() };
    let found = Looker::new(LookupConfig::of(verification)).links(name, &mark).await;
    found.iter().map(LinkAnswer::of).collect()
}

/// Whether a server shows something at a name that is not known to be ours, so that nothing is to be published there that is not
/// yet: also where the mark was not heard.
#[must_use]
pub fn is_occupied(wanted: &Wanted, answers: &[LinkAnswer], ours: &Mark) -> bool {
    answers.iter().any(|answer| match &answer.found {
        Err(()) | Ok(None) => false,
        Ok(Some(Ok(target))) => target.as_str() != wanted.text && answer.is_ours(ours) != Some(true),
        Ok(Some(Err(_))) => true,
    })
}

/// How it stands with a CNAME that external-dns publishes.
#[must_use]
pub fn judge_cname(
    name: &DnsName,
    wanted: &Wanted,
    answers: &[LinkAnswer],
    ours: &Mark,
    awaited: &str,
) -> RecordState {
    let state = |state, message: String| RecordState { name: name.to_string(), state, message };
    if answers.is_empty() {
        let words =
            format!("the servers of the zone that holds {name} cannot be found; see that it is delegated");
        return state(PublishState::Pending, words);
    }
    let mut missing = None;
    for answer in answers {
        let LinkAnswer { server, found, marks: _ } = answer;
        match (found, answer.is_ours(ours)) {
            (Err(()), _) => missing = Some(unclear(server, name)),
            (Ok(None), _) => {
                missing = Some(format!("{server} does not have the CNAME {name} yet; {awaited}"));
            }
            (Ok(Some(Ok(target))), _) if target.as_str() == wanted.text => {}
            (Ok(Some(Ok(_))), Some(true)) => {
                missing = Some(format!("{server} has the CNAME {name} as it was before; {awaited}"));
            }
            // Whose it is, only the mark says.
            (Ok(Some(Ok(_))), None) => missing = Some(unclear(server, name)),
            (Ok(Some(found)), _) => {
                let found = found.as_ref().map_or_else(Clone::clone, |target| format!("a CNAME to {target}"));
                let words = format!(
                    "{server} has {found} at {name} that is not ours; it is left alone. Remove it from the zone, then the CNAME is published"
                );
                return state(PublishState::Conflict, words);
            }
        }
    }
    match missing {
        None => state(PublishState::Published, String::new()),
        Some(words) => state(PublishState::Pending, words),
    }
}

fn unclear(server: &str, name: &DnsName) -> String {
    format!(
        "{server} gives no clear answer for {name}; it is asked again. Where nothing but resolvers can be reached, set spec.verification.authoritative of the DkimProvider to false"
    )
}

/// Whether one of the texts at a mark's name is a mark of ours, of whatever place.
fn is_marked(texts: &[String], ours: &Mark) -> bool {
    texts.iter().any(|text| Mark::parse(text).is_some_and(|mark| mark.owner == ours.owner))
}

fn shown(answer: &ServerAnswer) -> String {
    match &answer.name {
        Some(name) => format!("{name} ({})", answer.address.ip()),
        None => answer.address.ip().to_string(),
    }
}

/// The texts, none where the name has none, `None` where nothing was heard that proves anything.
fn texts_of(outcome: &Outcome) -> Option<Vec<String>> {
    match outcome {
        Outcome::Txt { texts, .. } => Some(texts.clone()),
        Outcome::Failed(_) => None,
        _ => Some(Vec::new()),
    }
}

/// What is awaited of whoever publishes a record, and whom to turn to if it does not come.
#[derive(Debug, Clone, Copy)]
pub struct Advice<'a> {
    /// Said while the record is not there.
    pub missing: &'a str,
    /// Said while an earlier one is there.
    pub another: &'a str,
    /// Appended where there are several.
    pub surplus: &'a str,
}

/// How it stands with a record that somebody else publishes, by what the zone's servers say. `ours` is the mark it
/// bears if it is published with one.
#[must_use]
pub fn judge(
    name: &DnsName,
    wanted: &Wanted,
    answers: &[Answer],
    ours: Option<&Mark>,
    advice: &Advice<'_>,
) -> RecordState {
    let state = |state, message: String| RecordState { name: name.to_string(), state, message };
    if answers.is_empty() {
        return state(
            PublishState::Pending,
            format!("the servers of the zone that holds {name} cannot be found; see that it is delegated"),
        );
    }
    let mut missing = None;
    for Answer { server, texts, marks, .. } in answers {
        let Some(texts) = texts else {
            missing = Some(unclear(server, name));
            continue;
        };
        match texts.as_slice() {
            [text] if *text == wanted.text => {}
            [] => missing = Some(format!("{server} does not have the TXT {name} yet; {}", advice.missing)),
            // Whose it is, only the mark says.
            [_] if ours.is_some() && marks.is_none() => missing = Some(unclear(server, name)),
            [_] => {
                if ours.is_some_and(|ours| !is_marked(marks.as_deref().unwrap_or_default(), ours)) {
                    return state(
                        PublishState::Conflict,
                        format!(
                            "{server} has a TXT at {name} that is not ours; it is left alone. Remove it from the zone, then the key is published"
                        ),
                    );
                }
                missing = Some(format!("{server} has another TXT at {name}; {}", advice.another));
            }
            several => {
                return state(
                    PublishState::Failed,
                    format!(
                        "{server} has {} TXT records at {name}, and with more than one verifiers fail (RFC 6376 section 3.6.2.2); remove all but this: {}{}",
                        several.len(),
                        wanted.text,
                        advice.surplus
                    ),
                );
            }
        }
    }
    match missing {
        None => state(PublishState::Published, String::new()),
        Some(words) => state(PublishState::Pending, words),
    }
}

#[cfg(test)]
mod tests;
