//! Words for moves to other names, and for names of before that are kept.

use super::Verdict;
use crate::api::{ConditionType, Reason};
use crate::model::diagnosis::RecordState;
use crate::model::home::Home;
use crate::model::keyring::{Mode, Phase};
use crate::model::status::{Facts, names_overdue, records, still_using};
use crate::model::words;

/// A move to other names, or what is left of one that was called off; told only while there is one.
pub(super) fn moving(facts: &Facts<'_>) -> Option<Verdict> {
    let Some(moving) = &facts.vault.moving else { return called_off(facts) };
    let (from, to) = (&facts.vault.home, &moving.to);
    let what = format!("the keys move from {} to {}", names(from), names(to));
    let next = match moving.announced {
        None => "the new names are being published; leave your records as they are",
        Some(_) => {
            "publish the records that status.records shows; the old ones go on working until all of them lead to the new names"
        }
    };
    let copied = moving.announced.and_then(|_| copied(facts)).map(|at| {
        format!(
            "The move waits: your DNS host shows a copy of the key at {at} instead of the CNAME, so it cannot be seen where it leads. Turn flattening (ALIAS, ANAME) off there, so that each CNAME shows; or set spec.guid and spec.providerRef back to call the move off. Mail goes on verifying until then"
        )
    });
    let also = kept(facts).map(|kept| {
        format!(
            "The names of a move that was called off, {kept}, stay published until your records are seen to lead elsewhere"
        )
    });
    let waits: String = [copied, leaving_second(facts), also]
        .into_iter()
        .flatten()
        .map(|waits| format!(". {waits}"))
        .collect();
    let message = format!("{what}: {next}{waits}");
    Some(Verdict::new(ConditionType::Moving, true, Reason::NamesChanging, message))
}

/// Names that stay after a move was called off.
fn called_off(facts: &Facts<'_>) -> Option<Verdict> {
    let kept = kept(facts)?;
    let next = if let Some(at) = copied(facts) {
        format!(
            "your DNS host shows a copy of the key at {at} instead of the CNAME, so it cannot be seen where it leads. Publish the CNAMEs that status.records shows and turn flattening (ALIAS, ANAME) off there, so that each CNAME shows. Mail goes on verifying until then"
        )
    } else if let Some(at) = found(facts, is_wrong) {
        format!("set {at} back as status.records shows; the names stay until that is seen")
    } else if facts.signers.former_in_use {
        "nothing to do; they drain once all signers have followed".to_owned()
    } else {
        "nothing to do; they drain once a look at DNS has shown that your records lead elsewhere".to_owned()
    };
    let message = format!(
        "a move was called off, and the keys stay published at {kept} as well, where your records may still lead: {next}"
    );
    Some(Verdict::new(ConditionType::Moving, true, Reason::NamesChanging, message))
}

/// The names of moves that were called off, as long as a CNAME may lead there.
fn kept(facts: &Facts<'_>) -> Option<String> {
    let again = |home: &Home| facts.vault.moving.as_ref().is_some_and(|moving| home.is_at(&moving.to));
    let former = facts.vault.former.iter().filter(|former| former.held && former.reached);
    listed(former.filter(|former| !again(&former.home)).map(|former| names(&former.home)).collect())
}

/// Where the tenant's DNS host hides where the CNAMEs lead by which mail is signed. No move ends before they show.
fn copied(facts: &Facts<'_>) -> Option<String> {
    found(facts, |state| state == RecordState::Flattened)
}

/// The tenant's records by which mail is signed as the domain, in a state that matters.
fn found(facts: &Facts<'_>, matters: impl Fn(RecordState) -> bool) -> Option<String> {
    let signs = facts.lanes.iter().filter(|(_, lane)| lane.keyring.mode == Mode::Domain);
    let rows = signs.flat_map(|(_, lane)| records::of(lane, facts.order.delegation));
    listed(rows.filter(|(_, state, _)| matters(*state)).map(|(_, _, row)| row.name).collect())
}

/// Whether a record is seen and not as it should be, so that waiting does not help.
fn is_wrong(state: RecordState) -> bool {
    use RecordState::{Flattened, PartlyPropagated, StaleNegativeCache, Verified};
    !matches!(state, Verified | Flattened | PartlyPropagated | StaleNegativeCache) && !state.is_unclear()
}

fn names(home: &Home) -> String {
    format!("SELECTOR-{}._domainkey.{}", home.guid, home.initial_domain)
}

fn listed(names: Vec<String>) -> Option<String> {
    let (last, others) = names.split_last()?;
    Some(if others.is_empty() { last.clone() } else { format!("{} and {last}", others.join(", ")) })
}

/// A move goes no further while keys of a second signature drain that is asked for no more: nobody looks for them at new names.
fn leaving_second(facts: &Facts<'_>) -> Option<String> {
    let ring = facts.vault.rings.second.as_ref().filter(|_| facts.order.lanes.second.is_none())?;
    let phases = || ring.slots.iter().map(|(_, slot)| &slot.phase);
    let who = if phases().any(|phase| matches!(phase, Phase::Draining { held: true, .. })) {
        format!(": {} them", still_using(&facts.signers.behind))
    } else {
        let until = phases().filter_map(|phase| match phase {
            Phase::Draining { until, .. } | Phase::Revoked { until, .. } => Some(*until),
            _ => None,
        });
        until.max().map(|at| format!(" until {}", words::moment(at))).unwrap_or_default()
    };
    Some(format!(
        "The move waits for the keys of the second signature, which spec.secondSignature no longer asks for; they stay published for mail under way{who}"
    ))
}

/// That a signer still signs by names of before a move.
pub(super) fn names_held(facts: &Facts<'_>) -> Option<String> {
    let home = names_overdue(facts)?;
    Some(format!(
        "{} the names of before a move, {}; they stay published until no signer does. The mail provider must look at it: its log says what hinders it",
        still_using(&facts.signers.behind),
        names(home)
    ))
}
