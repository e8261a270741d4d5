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
use super::table::{BAD, GOOD, HEAD, UNSURE, paint, plain};
use crate::api::{ANNOTATION_CHECK, DkimDomain, KeyStatus};
use crate::model::diagnosis::{ExpectedKey, KeyState, RecordState, diagnose, diagnose_key};
use crate::model::name::{DnsName, DomainName};
use crate::model::selector::{PerSlot, SlotId};
use crate::model::sighting::{
    Observation, Outcome, Question, Security, ServerAnswer, ServerRole, SlotQuestion, SlotSighting,
};

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
    /// The names.
    pub question: Question,
    /// The keys behind them.
    pub keys: PerSlot<ExpectedKey>,
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
        let slots = records.iter().map(|record| {
            let name = |text: &str| DnsName::new(text).map_err(|e| unreadable(&e));
            Ok(SlotQuestion { alias: name(&record.name)?, target: name(&record.value)? })
        });
        let slots: Vec<SlotQuestion> = slots.collect::<Result<_, CliError>>()?;
        let slots: [SlotQuestion; 2] =
            slots.try_into().map_err(|_| unreadable(&"status.records does not hold two records"))?;
        let keys = object.status.as_ref().map(|s| s.keys.as_slice()).unwrap_or_default();
        let keys = PerSlot::from_fn(|slot| match (slot, keys) {
            (SlotId::One, [key, ..]) | (SlotId::Two, [_, key, ..]) => expected(key),
            _ => ExpectedKey::Nothing,
        });
        Ok(Self { question: Question { domain, slots: PerSlot(slots) }, keys })
    }

    /// As worked out from names alone: any key will do.
    #[must_use]
    pub fn without_cluster(question: Question) -> Self {
        Self { question, keys: PerSlot::from_fn(|_| ExpectedKey::Any) }
    }

    /// Compares it with what was found.
    #[must_use]
    pub fn compare(&self, observation: &Observation) -> Report {
        let record = |(slot, wanted): (SlotId, &SlotQuestion)| {
            let seen = &observation.slots[slot];
            let cname = diagnose(wanted, &self.question, seen);
            let key = diagnose_key(&wanted.target, &self.keys[slot], &seen.target_txt);
            Checked {
                name: wanted.alias.to_string(),
                type_: "CNAME",
                value: wanted.target.to_string(),
                state: cname.state.as_str(),
                diagnosis: cname.message,
                key: CheckedKey { state: key.state.as_str(), diagnosis: key.message },
                dnssec: dnssec(seen),
                servers: seen.alias.iter().map(Server::of).collect(),
                verdict: of_record(cname.state).max(of_key(key.state)),
            }
        };
        let records: Vec<Checked> = self.question.slots.iter().map(record).collect();
        let verdict = records.iter().map(|r| r.verdict).max().unwrap_or(Verdict::Unclear);
        Report { domain: self.question.domain.to_string(), verdict, records }
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
    key: CheckedKey,
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

fn in_words(report: &Report) -> String {
    let (style, verdict) = match report.verdict {
        Verdict::Verified => (GOOD, "both records are there, and the right keys behind them"),
        Verdict::Unclear => (UNSURE, "DNS gives no clear answer now; ask again later"),
        Verdict::Wrong => (BAD, "something must be changed"),
    };
    let mut text = format!("{}: {}\n", paint(HEAD, &report.domain), paint(style, verdict));
    for Checked { name, type_, value, state, diagnosis, key, dnssec, servers, verdict: _ } in &report.records
    {
        let key_style = match key.state {
            "Verified" | "NotDue" => GOOD,
            "Unclear" => UNSURE,
            _ => BAD,
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "\n{} {type_} {}", plain(name), plain(value));
        let _ = writeln!(text, "  record  {}: {}", paint(state_style(state), state), plain(diagnosis));
        let _ = writeln!(text, "  key     {}: {}", paint(key_style, key.state), plain(&key.diagnosis));
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
