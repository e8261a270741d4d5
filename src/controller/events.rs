//! The Events of a DkimDomain: what happened, in words.

use kube::runtime::events::EventType;

use crate::api::EventReason;
use crate::model::keyring::Mode;
use crate::model::rotation::{Cause, Change, Move};
use crate::model::selector::SlotId;
use crate::model::status::{self, LaneFacts};
use crate::model::vault::VaultChange;

/// What to tell of changes of one kind.
#[derive(Debug)]
pub struct Told {
    /// Normal or Warning.
    pub type_: EventType,
    /// The reason.
    pub reason: EventReason,
    /// The selectors it is about.
    pub what: Vec<String>,
    /// What happened, in words.
    pub notes: Vec<String>,
}

/// One Event for each reason: what happens to several slots at once is told once.
#[must_use]
pub fn of(changes: &[VaultChange], facts: &status::Facts<'_>) -> Vec<Told> {
    let mut all: Vec<Told> = Vec::new();
    for change in changes {
        let (told, what) = match change {
            VaultChange::Key { lane, change } => {
                let Some(lane) = facts.lanes.get(*lane) else { continue };
                let selector = change.slot().map(|slot| lane.keyring.slots[slot].selector.to_string());
                (event(change, lane, facts), selector)
            }
            VaultChange::Move(change) => (moved(change, facts), None),
            VaultChange::OpenSecond { .. } | VaultChange::CloseSecond => (None, None),
        };
        let Some((type_, reason, note)) = told else { continue };
        match all.iter_mut().find(|told| told.reason == reason && told.type_ == type_) {
            Some(told) => {
                told.what.extend(what);
                told.notes.push(note);
            }
            None => all.push(Told { type_, reason, what: what.into_iter().collect(), notes: vec![note] }),
        }
    }
    all
}

fn moved(change: &Move, facts: &status::Facts<'_>) -> Option<(EventType, EventReason, String)> {
    let home = &facts.vault.home;
    let told = match change {
        Move::Begin { to } => (
            EventReason::MoveBegun,
            format!(
                "the keys are published below {} as {} as well; leave your records as they are until status.records shows others",
                to.initial_domain, to.guid
            ),
        ),
        Move::Announce => (
            EventReason::MoveAnnounced,
            "the new names answer everywhere; publish the records that status.records shows".to_owned(),
        ),
        Move::Finish { .. } => (
            EventReason::MoveFinished,
            format!(
                "the keys are reached below {} as {} from now on; the names of before stay until mail under way has arrived",
                home.initial_domain, home.guid
            ),
        ),
        Move::Abandon { .. } => (
            EventReason::MoveAbandoned,
            format!("the keys stay below {} as {}", home.initial_domain, home.guid),
        ),
        Move::Refresh { .. }
        | Move::Settle { .. }
        | Move::Link { .. }
        | Move::Seen { .. }
        | Move::Unseen { .. }
        | Move::Withdraw
        | Move::Forget { .. }
        | Move::Part { .. } => return None,
        // Names that a CNAME may lead to have others held with them while a signer has some time left.
        Move::Hold if !facts.signers.former_overdue => return None,
        Move::Hold => {
            let note = format!(
                "{} the names of before the move, which it was told to leave: they stay published; look at the log of that signer",
                status::still_using(&facts.signers.behind)
            );
            return Some((EventType::Warning, EventReason::SignerBehind, note));
        }
        Move::Free { .. } => (
            EventReason::SignersMoved,
            format!(
                "no signer that is heard of uses the names of before the move any more{}; they drain from now on",
                not_heard_of(&facts.signers.lost)
            ),
        ),
    };
    let (reason, note) = told;
    Some((EventType::Normal, reason, note))
}

fn event(
    change: &Change,
    lane: &LaneFacts<'_>,
    facts: &status::Facts<'_>,
) -> Option<(EventType, EventReason, String)> {
    use EventType::{Normal, Warning};
    let selector = |slot: SlotId| &lane.keyring.slots[slot].selector;
    let fingerprint = |slot: SlotId| {
        lane.keyring.slots[slot].phase.key().map(|k| k.fingerprint.to_string()).unwrap_or_default()
    };
    let alias = |slot: SlotId| &lane.question.slots[slot].alias;
    let told = match change {
        // Nothing has happened: it was not there before, either.
        Change::LinkMemory { .. } | Change::Clear { .. } => return None,
        Change::Generate { slot, import: true, .. } => (
            Normal,
            EventReason::KeyImported,
            format!("took in the key {} for {}", fingerprint(*slot), selector(*slot)),
        ),
        Change::Hold { slot } => (
            Warning,
            EventReason::SignerBehind,
            format!(
                "{} key {} of {}, which it was told to leave: the key stays published; look at the log of that signer",
                status::still_using(&facts.signers.behind),
                fingerprint(*slot),
                selector(*slot)
            ),
        ),
        Change::Free { slot, .. } => (
            Normal,
            EventReason::SignersMoved,
            format!(
                "no signer that is heard of uses key {} of {} any more{}; it drains from now on",
                fingerprint(*slot),
                selector(*slot),
                not_heard_of(&facts.signers.lost)
            ),
        ),
        Change::Revoke { slot, .. } => (
            Warning,
            EventReason::KeyRevoked,
            format!(
                "key {} of {} is in the wrong hands; it is published as revoked, and what it signed no longer verifies",
                fingerprint(*slot),
                selector(*slot)
            ),
        ),
        Change::Retire { slot, .. } => (
            Normal,
            EventReason::KeyRetired,
            format!(
                "{} is no longer wanted and signs no more; what it signed stays verifiable until it has arrived",
                selector(*slot)
            ),
        ),
        Change::Generate { slot, .. } => (
            Normal,
            EventReason::KeyGenerated,
            format!("made key {} for {}", fingerprint(*slot), selector(*slot)),
        ),
        Change::Seen { slot, .. } => (
            Normal,
            EventReason::KeyPublished,
            format!("key {} of {} is seen in DNS", fingerprint(*slot), selector(*slot)),
        ),
        Change::Unseen { slot } => (
            Warning,
            EventReason::RecordVanished,
            format!("the TXT {} is no longer in DNS as it should be", lane.question.slots[*slot].target),
        ),
        Change::Activate { slot, cause, .. } => (
            if matches!(
                cause,
                Cause::First | Cause::Schedule | Cause::Request | Cause::Along | Cause::NewKind
            ) {
                Normal
            } else {
                Warning
            },
            EventReason::KeyActivated,
            format!("{} signs with key {} from now on: {}", selector(*slot), fingerprint(*slot), why(*cause)),
        ),
        Change::Lost { slot, .. } => (
            Warning,
            EventReason::KeysLost,
            format!("the private key of {} is gone from the Secret or damaged", selector(*slot)),
        ),
        Change::LinkUp { slot, .. } => {
            (Normal, EventReason::CnameVerified, format!("the CNAME {} is there", alias(*slot)))
        }
        Change::LinkDown { slot, .. } => (
            Warning,
            EventReason::CnameLost,
            format!("the CNAME {} is missing or wrong; status.records tells what to do", alias(*slot)),
        ),
        Change::SetMode { mode: Mode::Domain } => (
            Normal,
            EventReason::SigningAsDomain,
            format!("mail is signed as {} from now on", facts.order.domain),
        ),
        Change::SetMode { mode: Mode::Default } => (
            if facts.order.lanes.primary.policy.enabled { Warning } else { Normal },
            EventReason::SigningAsProvider,
            format!("mail is signed as {} from now on", facts.vault.home.initial_domain),
        ),
        Change::DropRequest => (
            Normal,
            EventReason::RequestDropped,
            "the rotation that was asked for is not wanted any more".to_owned(),
        ),
        Change::NoteRequest { at } => {
            (Normal, EventReason::RotationRequested, format!("a rotation is asked for at {at}"))
        }
    };
    Some(told)
}

fn not_heard_of(lost: &[String]) -> String {
    match lost {
        [] => String::new(),
        [one] => format!(" ({one} did, and has fallen silent)"),
        [one, rest @ ..] => format!(" ({one} and {} more did, and have fallen silent)", rest.len()),
    }
}

fn why(cause: Cause) -> &'static str {
    match cause {
        Cause::First => "it is the first key",
        Cause::Schedule => "a rotation was due by schedule",
        Cause::Request => "a rotation was asked for",
        Cause::Along => "the other keys of the domain were rolled",
        Cause::Compromised => {
            "the key before is in the wrong hands; it is published as revoked, and what it signed no longer verifies"
        }
        Cause::NewKind => "the spec asks for another kind of key",
        Cause::LinkLost => "the CNAME of the key before is gone",
        Cause::RecordLost => "the TXT of the key before is gone from DNS",
        Cause::KeyLost => "the private key before is gone",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::model::acceptance::{Tenant, accept};
    use crate::model::acknowledgement::Acknowledged;
    use crate::model::lanes::{LaneId, PerLane};
    use crate::model::rotation::Decision;
    use crate::model::vault::Vault;

    #[test]
    fn names_that_are_held_are_a_warning_once_a_signer_is_late() {
        let provider =
            serde_json::from_value(json!({ "initialDomain": "{namespace}.onmail.example" })).unwrap();
        let spec = serde_json::from_value(json!({ "domain": "contoso.com" })).unwrap();
        let tenant = Tenant { namespace: "contoso", uid: "u", labels: &BTreeMap::new() };
        let order = accept(&spec, "default", &provider, &tenant).unwrap();
        let now = Timestamp::UNIX_EPOCH;
        let vault = Vault::new(order.domain.clone(), order.home.clone(), order.selectors().primary, now);
        let decision = Decision { changes: Vec::new(), waiting: None, next: None, wake: None, look: false };
        let told = |former_overdue| {
            let question = order.question(LaneId::Primary, &order.lanes.primary.targets).unwrap();
            let keyring = &vault.rings.primary;
            let behind = vec!["dkim-milter-mail-0".to_owned()];
            let signers =
                Acknowledged { former_in_use: true, former_overdue, behind, ..Acknowledged::default() };
            let lane = LaneFacts { keyring, decision: &decision, question, observation: None };
            let facts = status::Facts {
                order: &order,
                vault: &vault,
                lanes: PerLane { primary: lane, second: None },
                import_fault: None,
                keys_lost: false,
                publishing: None,
                signers: &signers,
                now,
            };
            let all = of(&[VaultChange::Move(Move::Hold)], &facts);
            all.into_iter().map(|told| (told.reason, told.notes.join("; "))).collect::<Vec<_>>()
        };
        assert_eq!(told(false), []);
        let late = told(true);
        assert!(late[0].0 == EventReason::SignerBehind && late[0].1.contains("mail-0"), "{late:?}");
    }
}
