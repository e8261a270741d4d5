//! `kubectl dkim records`: what a tenant publishes.

use anstyle::Style;
use serde::Serialize;

use super::args::{OfflineArgs, RecordsOutput};
use super::error::CliError;
use super::find::reference;
use super::output;
use super::table::{BAD, Cell, GOOD, Table, UNSURE, plain};
use crate::api::{ConditionType, DkimDomain, RecordStatus};
use crate::model::guid::{Guid, GuidStyle};
use crate::model::name::{DnsName, DomainName};
use crate::model::record::{CNAME_TTL, provider_name, zone_file_txt};
use crate::model::selector::{PerSlot, Selector, SlotId};
use crate::model::sighting::{Question, SlotQuestion};

/// One record to publish, and what the cluster says of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Record {
    /// The whole name.
    pub name: String,
    /// The name below the domain.
    pub host: String,
    /// CNAME, or TXT where the domain asks for it.
    #[serde(rename = "type")]
    pub type_: String,
    /// What it says.
    pub value: String,
    /// Seconds.
    pub ttl: i64,
    /// What the operator found in DNS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// That in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub diagnosis: Option<String>,
}

impl From<&RecordStatus> for Record {
    fn from(record: &RecordStatus) -> Self {
        let RecordStatus { name, host, type_, value, ttl, state, diagnosis } = record;
        Self {
            name: name.clone(),
            host: host.clone(),
            type_: type_.clone(),
            value: value.clone(),
            ttl: i64::from(*ttl),
            state: Some(state.clone()),
            diagnosis: Some(diagnosis.clone()),
        }
    }
}

/// Works out the names without a cluster.
///
/// # Errors
/// [`CliError::Usage`] that names the argument.
pub fn question(
    domain: &str,
    initial_domain: &str,
    offline: &OfflineArgs,
    namespace: Option<&str>,
) -> Result<Question, CliError> {
    let usage = |what: &str, fault: &dyn std::fmt::Display| CliError::Usage(format!("{what}: {fault}"));
    let domain = DomainName::parse(domain).map_err(|e| usage("DOMAIN", &e))?;
    let initial = match (initial_domain.contains("{namespace}"), namespace) {
        (true, Some(namespace)) => initial_domain.replace("{namespace}", namespace),
        (true, None) => {
            return Err(usage("--initial-domain", &"it contains {namespace}; say which one with -n"));
        }
        (false, _) => initial_domain.to_owned(),
    };
    let initial = DomainName::parse(&initial).map_err(|e| usage("--initial-domain", &e))?;
    let names = match offline.selectors.as_slice() {
        [] => ["selector1", "selector2"],
        [one, two] => [one.as_str(), two.as_str()],
        _ => return Err(usage("--selectors", &"name exactly two, such as selector1,selector2")),
    };
    let parse = |name: &str| Selector::parse(name).map_err(|e| usage("--selectors", &e));
    let [one, two] = names;
    let selectors = PerSlot([parse(one)?, parse(two)?]);
    if selectors[SlotId::One] == selectors[SlotId::Two] {
        return Err(usage("--selectors", &"the two must differ, such as selector1,selector2"));
    }
    let pair = [&selectors[SlotId::One], &selectors[SlotId::Two]];
    let guid = match &offline.guid {
        Some(chosen) => Guid::chosen(chosen, pair).map_err(|e| usage("--guid", &e))?,
        None => Guid::derive(&domain, &GuidStyle::Readable, pair),
    };
    let initial = DnsName::from(initial);
    let slot = |slot: SlotId| {
        let selector = &selectors[slot];
        Ok::<_, CliError>(SlotQuestion {
            alias: domain.domainkey_name(selector).map_err(|e| usage("DOMAIN", &e))?,
            target: provider_name(selector, &guid, &initial).map_err(|e| usage("--initial-domain", &e))?,
        })
    };
    let slots = PerSlot([slot(SlotId::One)?, slot(SlotId::Two)?]);
    Ok(Question { domain, slots })
}

/// The records that answer a question.
#[must_use]
pub fn wanted(question: &Question) -> Vec<Record> {
    let record = |(_, slot): (SlotId, &SlotQuestion)| {
        let name = slot.alias.as_str();
        let host = name.strip_suffix(question.domain.as_str()).unwrap_or(name).trim_end_matches('.');
        Record {
            name: name.to_owned(),
            host: host.to_owned(),
            type_: "CNAME".to_owned(),
            value: slot.target.to_string(),
            ttl: i64::from(CNAME_TTL),
            state: None,
            diagnosis: None,
        }
    };
    question.slots.iter().map(record).collect()
}

/// The records as the operator shows them.
///
/// # Errors
/// [`CliError::NotYet`] with the reason where it shows none.
pub fn shown(object: &DkimDomain) -> Result<Vec<Record>, CliError> {
    let status = object.status.as_ref();
    let records: Vec<Record> =
        status.map(|s| s.records.iter().map(Record::from).collect()).unwrap_or_default();
    if !records.is_empty() {
        return Ok(records);
    }
    let ready = status.and_then(|s| s.conditions.iter().find(|c| c.type_ == ConditionType::Ready.as_str()));
    let why = match ready {
        Some(condition) => plain(&condition.message),
        None => "the operator has not looked at it yet; if this lasts, ask whether it runs".to_owned(),
    };
    Err(CliError::NotYet(format!(
        "{} ({}) has no records to publish yet: {why}",
        object.spec.domain,
        reference(object)
    )))
}

/// The style of a record's state.
#[must_use]
pub fn state_style(state: &str) -> Style {
    match state {
        "Verified" => GOOD,
        "Pending" | "Timeout" | "ServFail" | "Refused" | "Flattened" | "PartlyPropagated" => UNSURE,
        _ => BAD,
    }
}

/// Prints records.
///
/// # Errors
/// [`CliError::Output`].
pub fn render(domain: &str, records: &[Record], output: RecordsOutput) -> Result<String, CliError> {
    match output {
        RecordsOutput::Table => Ok(table(records)),
        RecordsOutput::Bind => Ok(bind(domain, records)),
        RecordsOutput::Json => output::json(&records),
        RecordsOutput::Yaml => output::yaml(&records),
    }
}

/// Keys are long, and DNS consoles differ in how they take them.
const LONG_VALUES: &str =
    "A console that takes 255 characters at a time wants the values as -o bind shows them.\n";

fn table(records: &[Record]) -> String {
    let with_state = records.iter().any(|r| r.state.is_some());
    let keys = published_keys(records);
    let (value, state) = (Some("VALUE"), with_state.then_some("STATE"));
    // A key would push everything behind it out of sight.
    let tail = if keys { [Some("TTL"), state, value] } else { [value, Some("TTL"), state] };
    let heads: Vec<&str> = ["NAME", "HOST", "TYPE"].into_iter().chain(tail.into_iter().flatten()).collect();
    let mut table = Table::new(&heads);
    for record in records {
        let Record { name, host, type_, value, ttl, state, diagnosis: _ } = record;
        let state = state.as_deref().map_or_else(Cell::default, |s| Cell::styled(s, state_style(s)));
        table.row(heads.iter().map(|head| match *head {
            "NAME" => name.as_str().into(),
            "HOST" => host.as_str().into(),
            "TYPE" => type_.as_str().into(),
            "VALUE" => value.as_str().into(),
            "TTL" => ttl.to_string().into(),
            _ => state.clone(),
        }));
    }
    let note = if keys { LONG_VALUES } else { "" };
    format!("{table}{note}")
}

fn published_keys(records: &[Record]) -> bool {
    records.iter().any(|record| record.type_ == "TXT")
}

fn bind(domain: &str, records: &[Record]) -> String {
    let when = if published_keys(records) {
        "publish now, and again what is shown after each rotation"
    } else {
        "publish once, then leave as they are"
    };
    let mut text = format!("; {}: {when}\n", plain(domain));
    for Record { name, type_, value, ttl, .. } in records {
        let value = match type_.as_str() {
            "TXT" => zone_file_txt(value),
            _ => format!("{value}."),
        };
        text.push_str(&plain(&format!("{name}. {ttl} IN {type_} {value}")));
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::{bare, contoso, published_as_txt, seen, twice_signed};

    const ALL: [RecordsOutput; 4] =
        [RecordsOutput::Table, RecordsOutput::Bind, RecordsOutput::Json, RecordsOutput::Yaml];

    fn every_format(domain: &str, records: &[Record]) -> String {
        let text: String = ALL.map(|output| render(domain, records, output).unwrap()).join("\n");
        seen(&text)
    }

    fn offline(guid: Option<&str>, selectors: &[&str]) -> OfflineArgs {
        let selectors = selectors.iter().map(|&s| s.to_owned()).collect();
        OfflineArgs { guid: guid.map(str::to_owned), selectors, ..OfflineArgs::default() }
    }

    #[test]
    fn without_a_cluster() {
        let args = offline(None, &[]);
        let question =
            question("Bücher.example.", "{namespace}.onmail.example", &args, Some("books")).unwrap();
        insta::assert_snapshot!(every_format(question.domain.as_str(), &wanted(&question)));
    }

    #[test]
    fn with_a_guid_and_selectors_of_ones_own() {
        let args = offline(Some("Contoso-COM0i"), &["s1", "s2"]);
        let question = question("contoso.com", "contoso.onmail.example", &args, None).unwrap();
        assert_eq!(wanted(&question)[1].value, "s2-contoso-com0i._domainkey.contoso.onmail.example");
    }

    #[test]
    fn from_the_cluster() {
        let object = contoso();
        insta::assert_snapshot!(every_format(&object.spec.domain, &shown(&object).unwrap()));
    }

    #[test]
    fn keys_to_publish_and_records_of_two_signatures() {
        let mut keys = shown(&published_as_txt()).unwrap();
        keys[0].value = format!("v=DKIM1; k=rsa; p={}", "A".repeat(300));
        let four = render("contoso.com", &shown(&twice_signed()).unwrap(), RecordsOutput::Table).unwrap();
        insta::assert_snapshot!(format!("{}\n{}", every_format("contoso.com", &keys), seen(&four)));
    }

    #[test]
    fn a_txt_is_quoted_and_cut() {
        let mut records = shown(&contoso()).unwrap();
        records.truncate(1);
        records[0].type_ = "TXT".into();
        records[0].value = format!("v=DKIM1; k=rsa; p={}", "A".repeat(300));
        let text = render("contoso.com", &records, RecordsOutput::Bind).unwrap();
        assert!(text.contains("IN TXT \"v=DKIM1; k=rsa; p=AAA"), "{text}");
        assert!(text.contains("A\" \"A"), "{text}");
    }

    #[test]
    fn names_the_argument_that_is_wrong() {
        let fault = |domain: &str, initial: &str, guid: Option<&str>, selectors: &[&str]| {
            let error = question(domain, initial, &offline(guid, selectors), None).unwrap_err();
            assert_eq!(error.exit(), crate::cli::error::Exit::Usage);
            error.to_string()
        };
        let long = format!("{0}.{0}.{0}.{0}", "a".repeat(60));
        let initial = "contoso.onmail.example";
        let words = [
            fault("con toso.com", initial, None, &[]),
            fault("contoso", initial, None, &[]),
            fault(&long, initial, None, &[]),
            fault("contoso.com", "onmail", None, &[]),
            fault("contoso.com", "{namespace}.onmail.example", None, &[]),
            fault("contoso.com", &long, None, &[]),
            fault("contoso.com", initial, Some("a_b"), &[]),
            fault("contoso.com", initial, None, &["s1"]),
            fault("contoso.com", initial, None, &["s1", "S1"]),
            fault("contoso.com", initial, None, &["s1", "s.2"]),
        ];
        insta::assert_snapshot!(words.join("\n"));
    }

    #[test]
    fn says_why_there_are_none_yet() {
        let words = shown(&bare("mail", "contoso", "contoso.com")).unwrap_err();
        assert_eq!(words.exit(), crate::cli::error::Exit::Unknown);
        let mut refused = contoso();
        let status = refused.status.as_mut().unwrap();
        status.records.clear();
        status.conditions[0].message = "another DkimDomain holds contoso.com".into();
        insta::assert_snapshot!(format!("{words}\n{}", shown(&refused).unwrap_err()));
    }
}
