//! `kubectl dkim status`: how domains are doing, for people.

use std::fmt::Write;

use anstyle::Style;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::ResourceExt;
use serde::Serialize;

use super::find::reference;
use super::records::state_style;
use super::table::{BAD, Cell, GOOD, HEAD, Table, UNSURE, paint, plain};
use crate::api::{
    ConditionType, DkimDomain, DkimDomainStatus, KeyStatus, RecordStatus, RotationRequest, RotationStatus,
};
use crate::model::name::DomainName;
use crate::model::words;

/// Longest part of a fingerprint that is shown; the whole is in `-o yaml`.
const FINGERPRINT_CHARS: usize = 16;

/// A domain's status for programs.
#[derive(Debug, Serialize)]
pub struct Summary<'a> {
    namespace: String,
    name: String,
    domain: &'a str,
    enabled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'a DkimDomainStatus>,
}

impl<'a> From<&'a DkimDomain> for Summary<'a> {
    fn from(object: &'a DkimDomain) -> Self {
        Self {
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
            domain: &object.spec.domain,
            enabled: object.spec.enabled,
            status: object.status.as_ref(),
        }
    }
}

/// The condition of that type.
#[must_use]
pub fn condition(object: &DkimDomain, type_: ConditionType) -> Option<&Condition> {
    object.status.as_ref()?.conditions.iter().find(|c| c.type_ == type_.as_str())
}

/// `in 3 days`, `3 days ago`.
#[must_use]
pub fn relative(at: &Time, now: Timestamp) -> String {
    let distance = at.0.duration_since(now);
    if distance.is_negative() {
        format!("{} ago", words::span(distance.abs()))
    } else {
        format!("in {}", words::span(distance))
    }
}

fn moment(at: &Time, now: Timestamp) -> String {
    format!("{} ({})", words::moment(at.0), relative(at, now))
}

/// All domains in a table, by namespace and domain.
#[must_use]
pub fn list(objects: &[DkimDomain], with_namespace: bool, now: Timestamp) -> String {
    let heads = ["NAMESPACE", "NAME", "DOMAIN", "ENABLED", "SIGNING", "READY", "REASON", "NEXT ROTATION"];
    let from = usize::from(!with_namespace);
    let mut table = Table::new(heads.get(from..).unwrap_or(&heads));
    let mut objects: Vec<&DkimDomain> = objects.iter().collect();
    objects.sort_by_key(|o| (o.namespace(), o.spec.domain.clone()));
    for object in objects {
        let status = object.status.as_ref();
        let ready = condition(object, ConditionType::Ready);
        let enabled = condition(object, ConditionType::Enabled);
        let signing = status.and_then(|s| s.signing.as_ref()).map_or("-", |s| s.selector.as_str());
        let namespace = with_namespace.then(|| Cell::from(object.namespace().unwrap_or_default()));
        table.row(namespace.into_iter().chain([
            object.name_any().into(),
            object.spec.domain.as_str().into(),
            enabled.map_or("-", |c| c.status.as_str()).into(),
            signing.into(),
            holds(ready),
            ready.map_or("NotSeenYet", |c| c.reason.as_str()).into(),
            next(status.and_then(|s| s.rotation.as_ref()), now),
        ]));
    }
    table.to_string()
}

fn holds(condition: Option<&Condition>) -> Cell {
    let Some(Condition { type_, status, .. }) = condition else { return Cell::styled("-", UNSURE) };
    Cell::styled(status, style(type_, status))
}

fn style(type_: &str, status: &str) -> Style {
    let neutral = [ConditionType::Reconciling, ConditionType::Rotating, ConditionType::Moving];
    let neutral = neutral.iter().any(|t| t.as_str() == type_);
    let bad_if_true =
        [ConditionType::Stalled, ConditionType::RotationBlocked].iter().any(|t| t.as_str() == type_);
    match (status, neutral, bad_if_true) {
        ("True", true, _) => UNSURE,
        (_, true, _) => Style::new(),
        ("True", _, true) | ("False", _, false) => BAD,
        ("True", _, false) | ("False", _, true) => GOOD,
        _ => UNSURE,
    }
}

fn next(rotation: Option<&RotationStatus>, now: Timestamp) -> Cell {
    match rotation {
        Some(RotationStatus { waiting_for: Some(_), .. }) => Cell::styled("waits", UNSURE),
        Some(RotationStatus { next: Some(at), .. }) if at.0 <= now => "due".into(),
        Some(RotationStatus { next: Some(at), .. }) => relative(at, now).into(),
        _ => "-".into(),
    }
}

/// One domain in detail.
#[must_use]
pub fn detail(object: &DkimDomain, now: Timestamp) -> String {
    let mut text = format!("{}\n", paint(HEAD, &titled(&object.spec.domain)));
    head(&mut text, object, now);
    let Some(status) = &object.status else {
        text.push_str("\nThe operator has not looked at it yet. If this lasts, ask whether it runs.\n");
        return text;
    };
    if status.observed_generation < object.metadata.generation {
        text.push_str("\nThe spec was changed, and the operator has not looked at it since.\n");
    }
    let DkimDomainStatus { conditions, records, keys, rotation, .. } = status;
    conditions_in_words(&mut text, conditions);
    records_in_words(&mut text, records);
    keys_in_words(&mut text, keys, now);
    if let Some(rotation) = rotation {
        rotation_in_words(&mut text, rotation, &object.spec.rotation, now);
    }
    text
}

/// The domain as it was written, and in the other form where that differs.
fn titled(written: &str) -> String {
    match DomainName::parse(written) {
        Ok(domain) if domain.as_str() != domain.to_unicode() => format!("{} ({domain})", domain.to_unicode()),
        Ok(domain) => domain.to_string(),
        Err(_) => written.to_owned(),
    }
}

fn section(text: &mut String, title: &str, body: &impl std::fmt::Display) {
    // Writing to a String cannot fail.
    let _ = write!(text, "\n{}\n{body}", paint(HEAD, title));
}

fn head(text: &mut String, object: &DkimDomain, now: Timestamp) {
    let mut table = Table::headless(2);
    let mut line = |what: &str, says: String| table.row([what.into(), says.into()]);
    line("object", reference(object));
    if !object.spec.enabled {
        line("enabled", "no (spec.enabled is false); mail is signed as the provider".into());
    }
    let status = object.status.as_ref();
    if let Some(provider) = &object.spec.provider_ref {
        line("provider", provider.name.clone());
    }
    match status.and_then(|s| s.signing.as_ref()) {
        Some(signing) => {
            line("signing", format!("d={} s={}", signing.domain, signing.selector));
            line("since", moment(&signing.since, now));
            match (&signing.second, &object.spec.second_signature) {
                (Some(second), _) => line("second", format!("s={}", second.selector)),
                (None, Some(_)) => line("second", "not yet; its keys and records come first".into()),
                (None, None) => {}
            }
        }
        None => line("signing", "not yet".into()),
    }
    if let Some(secret) = status.and_then(|s| s.secret_ref.as_ref()) {
        line("secret", format!("{}/{}", secret.namespace, secret.name));
    }
    text.push_str(&table.to_string());
}

fn conditions_in_words(text: &mut String, conditions: &[Condition]) {
    let mut table = Table::headless(2);
    for condition in conditions {
        let Condition { type_, reason, message, .. } = condition;
        table.row([
            type_.as_str().into(),
            holds(Some(condition)),
            reason.as_str().into(),
            message.as_str().into(),
        ]);
    }
    section(text, "Conditions", &table);
}

fn records_in_words(text: &mut String, records: &[RecordStatus]) {
    if records.is_empty() {
        return;
    }
    let mut body = String::new();
    for RecordStatus { name, type_, value, ttl, state, diagnosis, .. } in records {
        let _ = writeln!(body, "  {} {type_} {} (TTL {ttl})", plain(name), plain(value));
        let _ = writeln!(body, "    {}: {}", paint(state_style(state), state), plain(diagnosis));
    }
    section(text, "Records to publish", &body);
}

fn keys_in_words(text: &mut String, keys: &[KeyStatus], now: Timestamp) {
    if keys.is_empty() {
        return;
    }
    let mut table =
        Table::new(&["SELECTOR", "PHASE", "KEY", "FINGERPRINT", "MADE", "SEEN IN DNS", "STAYS UNTIL"])
            .indented(2);
    for KeyStatus { selector, phase, fingerprint, algorithm, size, created, published, drains_until, held } in
        keys
    {
        let kind = match (algorithm.as_deref(), size) {
            (Some("RSA"), Some(size)) => format!("RSA {size}"),
            (Some(other), _) => other.to_owned(),
            (None, _) => "-".to_owned(),
        };
        let short: String = fingerprint.iter().flat_map(|f| f.chars().take(FINGERPRINT_CHARS)).collect();
        let dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
        let ago = |at: &Option<Time>| dash(at.as_ref().map(|at| relative(at, now)).unwrap_or_default());
        let until = match drains_until {
            Some(_) if *held => "no signer uses it".to_owned(),
            Some(at) => moment(at, now),
            None => String::new(),
        };
        let phase = match phase.as_str() {
            "Active" => Cell::styled(phase, GOOD),
            "Revoked" => Cell::styled(phase, BAD),
            _ => Cell::from(phase.as_str()),
        };
        let [kind, short, made, seen, until] =
            [kind, dash(short), ago(created), ago(published), dash(until)].map(Cell::from);
        table.row([selector.as_str().into(), phase, kind, short, made, seen, until]);
    }
    section(text, "Keys", &table);
}

fn rotation_in_words(
    text: &mut String,
    rotation: &RotationStatus,
    request: &RotationRequest,
    now: Timestamp,
) {
    let RotationStatus { count, last, next, phase, waiting_for, signers_behind } = rotation;
    let RotationRequest { schedule, paused, compromised_at, .. } = request;
    let mut table = Table::headless(2);
    let never = || "never".to_owned();
    table.row(["phase".into(), meaning(phase).into()]);
    table.row(["last".into(), last.as_ref().map_or_else(never, |at| moment(at, now)).into()]);
    table.row(["switches".into(), count.to_string().into()]);
    let next = next.as_ref().map_or_else(|| "not before a key signs".to_owned(), |at| moment(at, now));
    table.row(["next".into(), next.into()]);
    if let Some(schedule) = schedule {
        table.row(["schedule".into(), format!("{schedule} (UTC)").into()]);
    }
    match waiting_for {
        Some(why) => table.row(["waits".into(), Cell::styled(why, UNSURE)]),
        None if *paused => table
            .row(["paused".into(), Cell::styled("spec.rotation.paused is true: no rotation begins", UNSURE)]),
        None => {}
    }
    if !signers_behind.is_empty() {
        table.row(["behind".into(), Cell::styled(&signers_behind.join(", "), BAD)]);
    }
    if let Some(at) = compromised_at {
        let given_up = format!("every key made up to {} is given up", words::moment(at.0));
        table.row(["compromised".into(), given_up.into()]);
    }
    section(text, "Rotation", &table);
}

fn meaning(phase: &str) -> String {
    let words = match phase {
        "Idle" => "the next key is ready",
        "Due" => "a rotation is due",
        "Draining" => "the key before stays published for mail under way",
        "Revoking" => "the key before is published as revoked",
        "Preparing" => "the next key is being made and published",
        _ => return phase.to_owned(),
    };
    format!("{phase}: {words}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::{json, yaml};
    use crate::cli::testing::{bare, blocked, contoso, now, published_as_txt, seen, twice_signed};

    #[test]
    fn one_that_signs() {
        insta::assert_snapshot!(seen(&detail(&contoso(), now())));
    }

    #[test]
    fn one_that_waits_for_its_records() {
        insta::assert_snapshot!(seen(&detail(&blocked(), now())));
    }

    #[test]
    fn one_that_signs_twice_moves_and_has_given_keys_up() {
        let mut object = twice_signed();
        object.spec.rotation.schedule = Some("0 3 1 */6 *".into());
        object.spec.rotation.compromised_at = Some(Time("2026-05-09T11:00:00Z".parse().unwrap()));
        let status = object.status.as_mut().unwrap();
        let mut moving = status.conditions[0].clone();
        moving.type_ = "Moving".into();
        moving.reason = "NamesChanging".into();
        moving.message = "the keys move: publish the records that status.records shows".into();
        status.conditions.push(moving);
        status.keys[0].phase = "Revoked".into();
        status.keys[2].phase = "Draining".into();
        status.keys[2].drains_until = Some(Time("2026-05-09T10:00:00Z".parse().unwrap()));
        status.keys[2].held = true;
        let rotation = status.rotation.as_mut().unwrap();
        rotation.phase = "Revoking".into();
        rotation.signers_behind = vec!["dkim-milter-mail-0".into(), "dkim-sync-opendkim-mx".into()];
        rotation.waiting_for =
            Some("selector1 says until 2026-05-12 08:00:00 UTC that the previous key is revoked".into());
        let text = detail(&object, now());
        assert!(text.contains("\u{1b}[31mRevoked") && text.contains("\u{1b}[33mTrue"), "{text:?}");
        insta::assert_snapshot!(seen(&text));
    }

    #[test]
    fn one_whose_keys_the_tenant_publishes() {
        let mut object = published_as_txt();
        object.spec.second_signature = twice_signed().spec.second_signature;
        insta::assert_snapshot!(seen(&detail(&object, now())));
    }

    #[test]
    fn one_that_nobody_has_looked_at() {
        let mut disabled = bare("mail", "contoso", "contoso.com");
        disabled.spec.enabled = false;
        insta::assert_snapshot!(seen(&detail(&disabled, now())));
    }

    #[test]
    fn all_in_a_table() {
        let all = [contoso(), blocked(), bare("art", "kunst", "künstler.example")];
        let text = format!("{}\n{}", list(&all, true, now()), list(&all[..1], false, now()));
        insta::assert_snapshot!(seen(&text));
    }

    #[test]
    fn for_programs() {
        let text = format!(
            "{}\n{}",
            json(&Summary::from(&contoso())).unwrap(),
            yaml(&[Summary::from(&blocked())]).unwrap()
        );
        insta::assert_snapshot!(text);
    }

    #[test]
    fn what_is_wrong_is_red_and_text_from_dns_steers_no_terminal() {
        let mut object = blocked();
        object.status.as_mut().unwrap().records[0].diagnosis = "found \u{1b}[2J".into();
        let text = detail(&object, now());
        assert!(text.contains("\u{1b}[31mMissing"), "{text:?}");
        assert!(text.contains("found \u{fffd}[2J"), "{text:?}");
    }
}
