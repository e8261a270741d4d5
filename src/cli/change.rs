//! `kubectl dkim rotate`, `enable`, `disable`: what is changed, and in words what happens next.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::find::reference;
use super::status::condition;
use super::table::plain;
use crate::api::{ConditionType, Delegation, DkimDomain, KeyStatus};
use crate::model::name::DomainName;
use crate::model::words;

/// How this program signs its changes in `metadata.managedFields`.
pub const FIELD_MANAGER: &str = "kubectl-dkim";

/// When to ask for a rotation: now, in whole seconds as Kubernetes stores times, and never the moment that was
/// asked for before, which the operator would take for the same request.
#[must_use]
pub fn rotate_at(object: &DkimDomain, now: Timestamp) -> Timestamp {
    let whole = Timestamp::from_second(now.as_second()).unwrap_or(now);
    match &object.spec.rotation.rotate_at {
        Some(before) if before.0 == whole => {
            whole.saturating_add(SignedDuration::from_secs(1)).unwrap_or(whole)
        }
        _ => whole,
    }
}

/// The merge patch that asks for a rotation.
#[must_use]
pub fn rotate_patch(at: Timestamp) -> Value {
    json!({ "spec": { "rotation": { "rotateAt": Time(at) } } })
}

/// The merge patch that turns signing as the domain on or off.
#[must_use]
pub fn enable_patch(enabled: bool) -> Value {
    json!({ "spec": { "enabled": enabled } })
}

/// The domain in A-label form, with the DkimDomain's namespace and name.
#[must_use]
pub fn title(object: &DkimDomain) -> String {
    let written = &object.spec.domain;
    let domain = DomainName::parse(written).map_or_else(|_| written.clone(), |d| d.to_string());
    format!("{domain} ({})", reference(object))
}

/// What a rotation that was asked for at `at` does next; `before` is the domain before the request.
#[must_use]
pub fn rotate_words(before: &DkimDomain, at: Timestamp) -> String {
    let mut text = format!("{}: rotation requested.\n", title(before));
    if let Some(planned) = before.spec.rotation.rotate_at.as_ref().filter(|planned| planned.0 > at) {
        text.push_str(&format!("It replaces the one planned for {}.\n", words::moment(planned.0)));
    }
    text.push_str(&next(before));
    text.push('\n');
    if let Some(note) = set_elsewhere(before, &["f:rotation", "f:rotateAt"], "spec.rotation.rotateAt") {
        text.push_str(&note);
    }
    text
}

fn next(object: &DkimDomain) -> String {
    if object.spec.rotation.paused {
        return "It waits: spec.rotation.paused is true; set it to false to rotate.".to_owned();
    }
    let Some(status) = &object.status else {
        return "The operator has not looked at this domain yet; the first key comes first.".to_owned();
    };
    if let Some(why) = status.rotation.as_ref().and_then(|r| r.waiting_for.as_deref()) {
        return format!("A rotation is waiting already: {}.", plain(why).trim_end_matches('.'));
    }
    let Some((active, standby)) = primary_pair(object) else {
        return "No key signs yet; the first key comes first.".to_owned();
    };
    let drain = words::span(object.spec.rotation.drain.0);
    let (old, new) = (plain(&active.selector), plain(&standby.selector));
    let records = match object.spec.delegation {
        Delegation::Cname => "No record needs to be changed.",
        Delegation::Txt => {
            "You publish the keys yourself: after that kubectl dkim records shows the next one, which has to be in DNS before the rotation that follows."
        }
    };
    let after = format!("The key in {old} stays published for {drain} more, for mail under way. {records}");
    let publish = match object.spec.delegation {
        Delegation::Cname => "made and published there",
        Delegation::Txt => "made, shown by kubectl dkim records and published there by you",
    };
    match standby {
        KeyStatus { phase, .. } if phase == "Published" => {
            format!("{new} takes over from {old} within moments, once DNS has been looked at again.\n{after}")
        }
        KeyStatus { phase, drains_until: Some(until), .. } if phase == "Revoked" => format!(
            "It waits: {new} says until {} that its key is revoked. After that the next key is {publish}, and takes over from {old} once it is seen in DNS.",
            words::moment(until.0)
        ),
        KeyStatus { drains_until: Some(until), .. } => format!(
            "It waits: {new} still holds the key before, which stays published for mail under way until {}. After that the next key is {publish}, and takes over from {old} once it is seen in DNS.",
            words::moment(until.0)
        ),
        _ => format!(
            "{new} takes over from {old} once the next key is published there and seen in DNS.\n{after}"
        ),
    }
}

/// The key that signs first, and the one beside it; the second signature's keys come after these two.
#[must_use]
pub fn primary_pair(object: &DkimDomain) -> Option<(&KeyStatus, &KeyStatus)> {
    match object.status.as_ref()?.keys.as_slice() {
        [active, standby, ..] | [standby, active, ..] if active.phase == "Active" => Some((active, standby)),
        _ => None,
    }
}

/// What happens after spec.enabled was set; `object` is the domain after that, `changed` whether it was otherwise.
#[must_use]
pub fn enable_words(object: &DkimDomain, changed: bool) -> String {
    let enabled = object.spec.enabled;
    let word = if enabled { "enabled" } else { "disabled" };
    let already = if changed { "" } else { " already" };
    let mut text = format!("{}: {word}{already}.\n", title(object));
    let words = if enabled { enabled_words(object) } else { disabled_words(object) };
    text.push_str(&words);
    if changed && let Some(note) = set_elsewhere(object, &["f:enabled"], "spec.enabled") {
        text.push_str(&note);
    }
    text
}

fn signs_as_domain(object: &DkimDomain) -> bool {
    condition(object, ConditionType::Enabled).is_some_and(|c| c.status == "True")
}

fn enabled_words(object: &DkimDomain) -> String {
    if signs_as_domain(object) {
        return format!("Mail is signed as {}.\n", plain(&object.spec.domain));
    }
    let records = object.status.as_ref().map(|s| s.records.as_slice()).unwrap_or_default();
    let wrong: Vec<_> = records.iter().filter(|r| r.state != "Verified").collect();
    if records.is_empty() {
        return "The records to publish come next; kubectl dkim records shows them. Mail is signed as the domain once they are seen in DNS.\n".to_owned();
    }
    if wrong.is_empty() {
        return "Its records are in DNS; mail is signed as the domain as soon as no resolver remembers an older answer.\n"
            .to_owned();
    }
    let mut text = "Mail is signed as the provider until these records are seen in DNS:\n".to_owned();
    for record in wrong {
        text.push_str(&plain(&format!("  {} {} {}", record.name, record.type_, record.value)));
        text.push_str(&format!("\n    {}: {}\n", plain(&record.state), plain(&record.diagnosis)));
    }
    text
}

fn disabled_words(object: &DkimDomain) -> String {
    let when = if signs_as_domain(object) { "Within moments mail" } else { "Mail" };
    format!(
        "{when} is signed as the provider. Keys go on being rolled; leave the records published, so that mail under way verifies and signing as {} can be turned on again at once.\n",
        plain(&object.spec.domain)
    )
}

/// Whether somebody else applies the field, who would set it back: GitOps does.
#[must_use]
pub fn set_elsewhere(object: &DkimDomain, path: &[&str], field: &str) -> Option<String> {
    let entries = object.metadata.managed_fields.as_deref().unwrap_or_default();
    let owns = |fields: &Value| {
        let spec = fields.get("f:spec");
        path.iter().fold(spec, |value, key| value.and_then(|v| v.get(key))).is_some()
    };
    let owner = entries.iter().find(|entry| {
        entry.operation.as_deref() == Some("Apply")
            && entry.manager.as_deref() != Some(FIELD_MANAGER)
            && entry.fields_v1.as_ref().is_some_and(|fields| owns(&fields.0))
    })?;
    Some(format!(
        "Note: {} applies {field} too and may set it back; change it there as well.\n",
        plain(owner.manager.as_deref().unwrap_or("another program"))
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::{bare, blocked, contoso, now, published_as_txt, twice_signed};

    #[test]
    fn asks_for_whole_seconds_and_never_twice_for_the_same() {
        let mut object = bare("mail", "contoso", "contoso.com");
        let at = rotate_at(&object, "2026-05-09T12:00:00.9Z".parse().unwrap());
        assert_eq!(
            rotate_patch(at).to_string(),
            r#"{"spec":{"rotation":{"rotateAt":"2026-05-09T12:00:00Z"}}}"#
        );
        object.spec.rotation.rotate_at = Some(Time(at));
        assert_eq!(rotate_at(&object, at).to_string(), "2026-05-09T12:00:01Z");
    }

    #[test]
    fn a_rotation_in_words() {
        let draining = contoso();
        let mut ready = contoso();
        ready.status.as_mut().unwrap().keys[0].phase = "Published".into();
        ready.spec.rotation.rotate_at = Some(Time("2026-06-01T00:00:00Z".parse().unwrap()));
        let mut preparing = contoso();
        preparing.status.as_mut().unwrap().keys[0].phase = "Generated".into();
        preparing.status.as_mut().unwrap().keys[0].drains_until = None;
        let mut waiting = blocked();
        waiting.spec.rotation.paused = false;
        let mut unsigned = contoso();
        unsigned.status.as_mut().unwrap().keys.clear();
        let all =
            [draining, ready, preparing, blocked(), waiting, unsigned, bare("mail", "new", "new.example")];
        insta::assert_snapshot!(all.map(|object| rotate_words(&object, now())).join("\n"));
    }

    #[test]
    fn other_rotations_in_words() {
        let mut draining = published_as_txt();
        let standby = &mut draining.status.as_mut().unwrap().keys[1];
        standby.phase = "Draining".into();
        standby.drains_until = Some(Time("2026-05-12T08:00:00Z".parse().unwrap()));
        let all = [twice_signed(), published_as_txt(), draining];
        insta::assert_snapshot!(all.map(|object| rotate_words(&object, now())).join("\n"));
    }

    #[test]
    fn on_and_off_in_words() {
        let mut seen = blocked();
        seen.status.as_mut().unwrap().records.iter_mut().for_each(|r| r.state = "Verified".into());
        let on = [contoso(), blocked(), seen, bare("mail", "new", "new.example")];
        let on = on.map(|object| enable_words(&object, true));
        let off = [contoso(), blocked()].map(|mut object| {
            object.spec.enabled = false;
            enable_words(&object, true)
        });
        let same = enable_words(&contoso(), false);
        insta::assert_snapshot!([on.join("\n"), off.join("\n"), same].join("\n"));
    }

    #[test]
    fn names_who_would_set_it_back() {
        let mut object = contoso();
        object.metadata.managed_fields = serde_json::from_value(json!([
            { "manager": "kubectl-edit", "operation": "Update", "fieldsV1": { "f:spec": { "f:enabled": {} } } },
            { "manager": "argocd-controller", "operation": "Apply", "fieldsV1": { "f:spec": { "f:enabled": {} } } },
        ]))
        .unwrap();
        let text = enable_words(&object, true);
        assert!(text.contains("argocd-controller applies spec.enabled too"), "{text}");
        assert!(!rotate_words(&object, now()).contains("Note"));
    }
}
