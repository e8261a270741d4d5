//! `kubectl dkim rotate --compromised`: which keys are given up, what that costs, and what happens next.

use std::fmt::Write;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::change::{primary_pair, set_elsewhere, title};
use super::table::plain;
use crate::api::{Delegation, DkimDomain, KeyStatus};
use crate::model::words;

/// Where nobody can be asked.
pub const UNASKED: &str =
    "nothing was changed: there is no terminal to ask at. Say --yes if --compromised is meant";

/// What is to be asked of the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Every key made up to this moment is to be given up.
    New(Timestamp),
    /// All keys were given up before, as of this moment, and no other was made since.
    Already(Timestamp),
}

/// The moment up to which keys are given up: now, in whole seconds as Kubernetes stores times, and never before the
/// newest key was made, whatever the clocks say.
#[must_use]
pub fn request(object: &DkimDomain, now: Timestamp) -> Request {
    let newest = keys(object).iter().filter_map(|key| key.created.as_ref()).map(|at| at.0).max();
    let asked = object.spec.rotation.compromised_at.as_ref().map(|at| at.0);
    match (asked, newest) {
        (Some(asked), Some(newest)) if asked >= newest && asked <= now => Request::Already(asked),
        _ => {
            let whole = Timestamp::from_second(now.as_second()).unwrap_or(now);
            Request::New(newest.map_or(whole, |newest| whole.max(newest)))
        }
    }
}

fn keys(object: &DkimDomain) -> &[KeyStatus] {
    object.status.as_ref().map(|status| status.keys.as_slice()).unwrap_or_default()
}

/// The merge patch that gives the keys up.
#[must_use]
pub fn patch(at: Timestamp) -> Value {
    json!({ "spec": { "rotation": { "compromisedAt": Time(at) } } })
}

/// What is about to happen, before anybody agrees to it.
#[must_use]
pub fn warning(object: &DkimDomain, at: Timestamp) -> String {
    let moment = words::moment(at);
    let mut text = format!("{}: every key made up to {moment} is given up", title(object));
    let made: Vec<&KeyStatus> = keys(object).iter().filter(|key| key.fingerprint.is_some()).collect();
    text.push_str(if made.is_empty() { ".\n" } else { ":\n" });
    for KeyStatus { selector, phase, fingerprint, .. } in made {
        let fingerprint = fingerprint.as_deref().unwrap_or_default();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {} ({}) {}", plain(selector), plain(phase), plain(fingerprint));
    }
    text.push_str(
        "The next key takes over at once, and the key that signs now is destroyed and published as revoked. Mail under way that was signed with it will not verify any more. This cannot be undone. Without --compromised keys are rolled without such a loss.\n",
    );
    text
}

/// What happens after the keys were given up; `before` is the domain before that.
#[must_use]
pub fn words(before: &DkimDomain, request: Request) -> String {
    let mut text = match request {
        Request::New(at) => {
            format!("{}: every key made up to {} is given up.\n", title(before), words::moment(at))
        }
        Request::Already(at) => format!(
            "{}: every key made up to {} was given up before, and no other key was made since. Nothing is changed.\n",
            title(before),
            words::moment(at)
        ),
    };
    text.push_str(&next(before));
    text.push('\n');
    if matches!(request, Request::New(_))
        && let Some(note) =
            set_elsewhere(before, &["f:rotation", "f:compromisedAt"], "spec.rotation.compromisedAt")
    {
        text.push_str(&note);
    }
    text
}

fn next(object: &DkimDomain) -> String {
    let publish = match object.spec.delegation {
        Delegation::Cname => "No record needs to be changed.",
        Delegation::Txt => {
            "You publish the keys yourself: look at kubectl dkim records now and after each switch, and replace what it shows at once, the revoked key first."
        }
    };
    if keys(object).is_empty() {
        return "The operator shows no key of this domain yet.".to_owned();
    }
    let Some((active, standby)) = primary_pair(object) else {
        return "No key signs now. What was made up to then does not sign again.".to_owned();
    };
    let (old, new) = (plain(&active.selector), plain(&standby.selector));
    let until = standby.drains_until.as_ref().map(|at| words::moment(at.0));
    let then = format!("Then the key in {old} is destroyed, and its name says that it is revoked.");
    let first = match (standby.phase.as_str(), until) {
        ("Published", _) => format!(
            "{new} takes over from {old} within moments, once DNS has been looked at again. {then} The key in {new} is as old, so it goes the same way as soon as another one is published in {old} and seen in DNS."
        ),
        ("Draining", Some(until)) => format!(
            "It waits: {new} still holds the key before, which stays published for mail under way until {until}. After that the next key is made and published there, and takes over from {old} once it is seen in DNS. {then} Until then mail is signed with the key in {old}, as the provider as well: to stop that, stop the signers."
        ),
        ("Revoked", Some(until)) => format!(
            "{new} says until {until} that its key is revoked. After that another one is made and published there, and takes over from {old} once it is seen in DNS. {then}"
        ),
        _ => format!("{new} takes over from {old} once its key is published and seen in DNS. {then}"),
    };
    format!("{first}\n{publish}")
}

/// Whether mail is signed with keys that were made after `at`.
#[must_use]
pub fn is_over(object: &DkimDomain, at: Timestamp) -> bool {
    let mut signing = keys(object).iter().filter(|key| key.phase == "Active").peekable();
    signing.peek().is_some() && signing.all(|key| key.created.as_ref().is_some_and(|made| made.0 > at))
}

/// What is still to come after a switch.
#[must_use]
pub fn remainder(object: &DkimDomain, at: Timestamp) -> String {
    if is_over(object, at) {
        return format!("No key made up to {} signs any more.\n", words::moment(at));
    }
    "That key is given up as well: it goes as soon as another one is published and seen in DNS. kubectl dkim status shows it; rotate --compromised --wait waits for it.\n".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::{bare, contoso, now, published_as_txt};

    fn with_standby(phase: &str) -> DkimDomain {
        let mut object = contoso();
        let standby = &mut object.status.as_mut().unwrap().keys[0];
        standby.phase = phase.into();
        if phase != "Draining" && phase != "Revoked" {
            standby.drains_until = None;
        }
        object
    }

    #[test]
    fn never_before_the_newest_key_and_never_twice_for_the_same() {
        let mut object = contoso();
        assert_eq!(request(&object, "2026-05-09T12:00:00.9Z".parse().unwrap()), Request::New(now()));
        assert_eq!(
            patch(now()).to_string(),
            r#"{"spec":{"rotation":{"compromisedAt":"2026-05-09T12:00:00Z"}}}"#
        );

        let ahead: Timestamp = "2026-05-09T12:00:30Z".parse().unwrap();
        object.status.as_mut().unwrap().keys[1].created = Some(Time(ahead));
        assert_eq!(request(&object, now()), Request::New(ahead), "a cluster whose clock is ahead");

        object.spec.rotation.compromised_at = Some(Time(ahead));
        let later: Timestamp = "2026-05-09T13:00:00Z".parse().unwrap();
        assert_eq!(request(&object, later), Request::Already(ahead));
        object.status.as_mut().unwrap().keys[0].created =
            Some(Time(now() + jiff::SignedDuration::from_mins(9)));
        assert_eq!(request(&object, later), Request::New(later), "a key was made since");
        // One that lies in the future has done nothing yet.
        object.spec.rotation.compromised_at = Some(Time("2027-01-01T00:00:00Z".parse().unwrap()));
        assert_eq!(request(&object, later), Request::New(later));
        assert_eq!(request(&bare("mail", "new", "new.example"), now()), Request::New(now()));
    }

    #[test]
    fn in_words() {
        let mut unsigned = contoso();
        unsigned.status.as_mut().unwrap().keys[1].phase = "Generated".into();
        let all = [
            with_standby("Published"),
            with_standby("Draining"),
            with_standby("Revoked"),
            with_standby("Generated"),
            published_as_txt(),
            unsigned,
            bare("mail", "new", "new.example"),
        ];
        let mut text: Vec<String> = all.iter().map(|object| words(object, Request::New(now()))).collect();
        text.push(words(&contoso(), Request::Already(now())));
        text.insert(0, warning(&contoso(), now()));
        text.insert(1, warning(&bare("mail", "new", "new.example"), now()));
        insta::assert_snapshot!(text.join("\n"));
    }

    #[test]
    fn it_is_over_when_every_signing_key_is_younger() {
        let mut object = contoso();
        let created: Timestamp = "2025-11-02T08:00:00Z".parse().unwrap();
        assert!(!is_over(&object, created), "made at that moment");
        let before = created - jiff::SignedDuration::from_secs(1);
        assert!(is_over(&object, before));
        let texts = [remainder(&object, before), remainder(&object, created)];
        insta::assert_snapshot!(texts.join("\n"));
        object.status.as_mut().unwrap().keys.clear();
        assert!(!is_over(&object, before), "nothing signs");
    }
}
