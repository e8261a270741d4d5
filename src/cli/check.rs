//! `kubectl dkim check`: looks at DNS now, from where the user stands, and compares it with what belongs there.

use std::fmt::Write;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::args::Output;
use super::error::{CliError, Exit};
use super::find::reference;
use super::output;
use super::records::{shown, state_style};
use super::status::condition;
use super::table::{BAD, GOOD, HEAD, UNSURE, paint, plain};
use crate::api::{ANNOTATION_CHECK, ConditionType, DkimDomain, KeyStatus};
use crate::model::diagnosis::{ExpectedKey, KeyState, RecordState, diagnose, diagnose_key};
use crate::model::name::{DnsName, DomainName};
use crate::model::selector::{PerSlot, Selector, SlotId};
use crate::model::sighting::{
    Observation, Outcome, Question, Security, ServerAnswer, ServerRole, SlotQuestion, SlotSighting,
};
use copy::Copy;

mod copy;

/// The merge patch that asks the operator for a look at once.
#[must_use]
pub fn ask_patch(now: Timestamp) -> Value {
    json!({ "metadata": { "annotations": { ANNOTATION_CHECK: now.to_string() } } })
}

/// Whether the operator was asked, in words.
#[must_use]
pub fn ask_words(asked: bool) -> &'static str {
    if asked {
        "The operator looks again now, too."
    } else {
        "The operator could not be asked to look again, which takes the right to patch the DkimDomain; it looks at its own pace."
    }
}

/// What belongs into DNS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    domain: DomainName,
    /// The pairs of records, each looked for at once: one, or two where there is a second signature.
    pub pairs: Vec<Pair>,
    /// What is to be known beside the records.
    note: Option<String>,
}

/// What belongs into DNS for two selectors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The names.
    pub question: Question,
    /// What belongs there.
    wanted: PerSlot<Wanted>,
}

/// What belongs at one selector's name.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Wanted {
    /// A CNAME, and this key behind it.
    Cname(ExpectedKey),
    /// A TXT with this value.
    Txt(String, Copy),
    /// Nothing yet.
    Nothing,
}

impl Plan {
    /// As the operator shows it in status.
    ///
    /// # Errors
    /// [`CliError::NotYet`] where status shows no records.
    pub fn of(object: &DkimDomain) -> Result<Self, CliError> {
        let records = shown(object)?;
        let unreadable = |fault: &dyn std::fmt::Display| {
            CliError::NotYet(format!(
                "the status of {} cannot be read: {fault}; ask whether operator and kubectl-dkim are of one version",
                reference(object)
            ))
        };
        let domain = DomainName::parse(&object.spec.domain).map_err(|e| unreadable(&e))?;
        let mut left = records.len();
        let mut pairs = Vec::new();
        for selectors in pairs_of(object) {
            let slot = |(selector, key): &(String, Option<&KeyStatus>)| {
                let selector = Selector::parse(selector).map_err(|e| unreadable(&e))?;
                let alias = domain.domainkey_name(&selector).map_err(|e| unreadable(&e))?;
                let record = records.iter().find(|record| record.name == alias.as_str());
                let (target, wanted) = match record {
                    Some(record) if record.type_ == "TXT" => {
                        let copy = Copy::of(&record.value)
                            .ok_or_else(|| unreadable(&format!("the value of {alias} is no key record")))?;
                        // What a CNAME in its place should lead to is not known.
                        (alias.clone(), Wanted::Txt(record.value.clone(), copy))
                    }
                    Some(record) => {
                        let target = DnsName::new(&record.value).map_err(|e| unreadable(&e))?;
                        (target, Wanted::Cname(key.map_or(ExpectedKey::Nothing, expected)))
                    }
                    None => (alias.clone(), Wanted::Nothing),
                };
                Ok::<_, CliError>((SlotQuestion { alias, target }, wanted))
            };
            let [one, two] = &selectors;
            let ((one, first), (two, second)) = (slot(one)?, slot(two)?);
            let wanted = PerSlot([first, second]);
            left -= wanted.iter().filter(|(_, wanted)| **wanted != Wanted::Nothing).count().min(left);
            let question = Question { domain: domain.clone(), slots: PerSlot([one, two]) };
            pairs.push(Pair { question, wanted });
        }
        if left > 0 {
            return Err(unreadable(&"status.records and status.keys do not name the same selectors"));
        }
        let moving = condition(object, ConditionType::Moving).filter(|c| c.status == "True");
        Ok(Self { domain, pairs, note: moving.map(|c| c.message.clone()) })
    }

    /// As worked out from names alone: any key will do.
    #[must_use]
    pub fn without_cluster(question: Question) -> Self {
        let domain = question.domain.clone();
        let pair = Pair { question, wanted: PerSlot::from_fn(|_| Wanted::Cname(ExpectedKey::Any)) };
        Self { domain, pairs: vec![pair], note: None }
    }

    /// Compares it with what was found, pair by pair.
    #[must_use]
    pub fn compare(&self, observations: &[Observation]) -> Report {
        let pairs = self.pairs.iter().zip(observations);
        let records: Vec<Checked> = pairs.flat_map(|(pair, observation)| pair.compare(observation)).collect();
        let verdict = records.iter().map(|r| r.verdict).max().unwrap_or(Verdict::Unclear);
        Report { domain: self.domain.to_string(), verdict, note: self.note.clone(), records }
    }
}

/// The selectors, two by two, each with its key as status shows it.
fn pairs_of(object: &DkimDomain) -> Vec<[(String, Option<&KeyStatus>); 2]> {
    let keys = object.status.as_ref().map(|s| s.keys.as_slice()).unwrap_or_default();
    let shown: Vec<_> = keys
        .chunks_exact(2)
        .filter_map(|pair| match pair {
            [one, two] => Some([(one.selector.clone(), Some(one)), (two.selector.clone(), Some(two))]),
            _ => None,
        })
        .collect();
    if !shown.is_empty() {
        return shown;
    }
    let second = object.spec.second_signature.iter().map(|second| second.selectors.as_slice());
    std::iter::once(object.spec.selectors.as_slice())
        .chain(second)
        .filter_map(|pair| match pair {
            [one, two] => Some([(one.clone(), None), (two.clone(), None)]),
            _ => None,
        })
        .collect()
}

impl Pair {
    /// What to look for once more, after `observation`: a CNAME in a TXT's place may lead to the key.
    #[must_use]
    pub fn follow(&self, observation: &Observation) -> Option<Question> {
        let mut question = self.question.clone();
        for (slot, wanted) in self.wanted.iter() {
            if let (Wanted::Txt(..), Some(target)) = (wanted, copy::detour(&observation.slots[slot])) {
                question.slots[slot].target = target.clone();
            }
        }
        (question != self.question).then_some(question)
    }

    fn compare(&self, observation: &Observation) -> Vec<Checked> {
        let record = |(slot, question): (SlotId, &SlotQuestion)| {
            let seen = &observation.slots[slot];
            let (type_, value, (state, diagnosis), key) = match &self.wanted[slot] {
                Wanted::Cname(expected) => {
                    let found = diagnose(question, &self.question, seen);
                    let key = diagnose_key(&question.target, expected, &seen.target_txt);
                    ("CNAME", question.target.to_string(), (found.state, found.message), Some(key))
                }
                Wanted::Txt(value, copy) => ("TXT", value.clone(), copy.diagnose(question, seen), None),
                Wanted::Nothing => return None,
            };
            let of_key = key.as_ref().map_or(Verdict::Verified, |key| of_key(key.state));
            Some(Checked {
                name: question.alias.to_string(),
                type_,
                value,
                state: state.as_str(),
                diagnosis,
                key: key.map(|key| CheckedKey { state: key.state.as_str(), diagnosis: key.message }),
                dnssec: dnssec(seen),
                servers: seen.alias.iter().map(Server::of).collect(),
                verdict: of_record(state).max(of_key),
            })
        };
        self.question.slots.iter().filter_map(record).collect()
    }
}

fn expected(key: &KeyStatus) -> ExpectedKey {
    match (key.phase.as_str(), key.fingerprint.as_deref().and_then(|f| f.parse().ok())) {
        ("Published" | "Active", Some(fingerprint)) => ExpectedKey::Must(fingerprint),
        (_, Some(fingerprint)) => ExpectedKey::May(fingerprint),
        (_, None) => ExpectedKey::Nothing,
    }
}

/// How a check ends; what is worse comes later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Verdict {
    /// Everything is there.
    Verified,
    /// Nothing can be said.
    Unclear,
    /// Something must be changed.
    Wrong,
}

fn of_record(state: RecordState) -> Verdict {
    match state {
        RecordState::Verified | RecordState::Flattened => Verdict::Verified,
        // These prove nothing of the record, but they are for people to repair.
        RecordState::LameDelegation | RecordState::DnssecBogus => Verdict::Wrong,
        // Nothing is wrong, and yet not every receiver finds it.
        RecordState::StaleNegativeCache => Verdict::Unclear,
        unclear if unclear.is_unclear() => Verdict::Unclear,
        _ => Verdict::Wrong,
    }
}

fn of_key(state: KeyState) -> Verdict {
    match state {
        KeyState::Verified | KeyState::NotDue => Verdict::Verified,
        KeyState::Unclear => Verdict::Unclear,
        KeyState::Missing | KeyState::OtherKey | KeyState::PartlyPropagated => Verdict::Wrong,
    }
}

/// What was found, for people and programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    domain: String,
    verdict: Verdict,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    records: Vec<Checked>,
}

/// One record, and the key behind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Checked {
    name: String,
    #[serde(rename = "type")]
    type_: &'static str,
    value: String,
    state: &'static str,
    diagnosis: String,
    /// None where the record is the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<CheckedKey>,
    dnssec: &'static str,
    servers: Vec<Server>,
    verdict: Verdict,
}

/// One server, and what it said of the record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Server {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    address: String,
    role: &'static str,
    answer: String,
}

impl Server {
    fn of(answer: &ServerAnswer) -> Self {
        let ServerAnswer { name, address, role, outcome } = answer;
        Self {
            name: name.as_ref().map(ToString::to_string),
            address: address.ip().to_string(),
            role: match role {
                ServerRole::Authoritative => "authoritative",
                ServerRole::Recursive => "resolver",
            },
            answer: match outcome {
                Outcome::Cname { target, ttl } => format!("CNAME {target}, TTL {ttl}"),
                Outcome::OddCname { target, ttl } => format!("CNAME {target}, TTL {ttl}"),
                Outcome::Txt { ttl, .. } => format!("a TXT, TTL {ttl}"),
                Outcome::NoData { .. } => "no CNAME".to_owned(),
                Outcome::NxDomain { .. } => "no such name (NXDOMAIN)".to_owned(),
                Outcome::Failed(failure) => failure.to_string(),
            },
        }
    }
}

/// What the resolvers say of DNSSEC: the worst of it.
fn dnssec(seen: &SlotSighting) -> &'static str {
    let any = |security| seen.validation.iter().any(|v| v.security == security);
    match () {
        () if any(Security::Bogus) => "Bogus",
        () if any(Security::Unproven) => "Unproven",
        () if any(Security::Secure) => "Secure",
        () => "NotAsked",
    }
}

/// The key behind a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct CheckedKey {
    state: &'static str,
    diagnosis: String,
}

impl Report {
    /// The exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self.verdict {
            Verdict::Verified => Exit::Fine,
            Verdict::Unclear => Exit::Unknown,
            Verdict::Wrong => Exit::Wrong,
        }
    }
}

/// Prints a report.
///
/// # Errors
/// [`CliError::Output`].
pub fn render(report: &Report, output: Output) -> Result<String, CliError> {
    match output {
        Output::Table => Ok(in_words(report)),
        Output::Json => output::json(report),
        Output::Yaml => output::yaml(report),
    }
}

/// Which records there are, and that all is well with them.
fn all_well(records: &[Checked]) -> &'static str {
    match (records.iter().any(|record| record.type_ == "TXT"), records.len()) {
        (false, 2) => "both records are there, and the right keys behind them",
        (false, _) => "all records are there, and the right keys behind them",
        (true, 1) => "the key is there",
        (true, 2) => "both keys are there",
        (true, _) => "all keys are there",
    }
}

fn in_words(report: &Report) -> String {
    let Report { domain, verdict, note, records } = report;
    let (style, verdict) = match verdict {
        Verdict::Verified => (GOOD, all_well(records)),
        Verdict::Unclear => (UNSURE, "DNS gives no clear answer now; ask again later"),
        Verdict::Wrong => (BAD, "something must be changed"),
    };
    let mut text = format!("{}: {}\n", paint(HEAD, domain), paint(style, verdict));
    // Writing to a String cannot fail.
    if let Some(note) = note {
        let _ = writeln!(text, "{} {}", paint(UNSURE, "moving:"), plain(note));
    }
    for Checked { name, type_, value, state, diagnosis, key, dnssec, servers, verdict: _ } in records {
        let _ = writeln!(text, "\n{} {type_} {}", plain(name), plain(value));
        let _ = writeln!(text, "  record  {}: {}", paint(state_style(state), state), plain(diagnosis));
        if let Some(key) = key {
            let key_style = match key.state {
                "Verified" | "NotDue" => GOOD,
                "Unclear" => UNSURE,
                _ => BAD,
            };
            let _ = writeln!(text, "  key     {}: {}", paint(key_style, key.state), plain(&key.diagnosis));
        }
        let dnssec_style = match *dnssec {
            "Secure" => GOOD,
            "Bogus" => BAD,
            _ => UNSURE,
        };
        if *dnssec != "NotAsked" {
            let _ = writeln!(text, "  dnssec  {}", paint(dnssec_style, dnssec));
        }
        for Server { name, address, role, answer } in servers {
            let who = name
                .as_ref()
                .map_or_else(|| format!("{role} {address}"), |name| format!("{name} ({address})"));
            let _ = writeln!(text, "  asked   {}: {}", plain(&who), plain(answer));
        }
    }
    text
}

#[cfg(test)]
mod tests;
