//! Words for moves to other names, and for names of before that are kept.

use super::Verdict;
use crate::api::{ConditionType, Reason};
use crate::model::diagnosis::RecordState;
use crate::model::home::Home;
use crate::model::keyring::{Mode, Phase};
use crate::model::status::{Facts, names_overdue, records, still_using};
use crate::model::words;

/// A move to other names; told only while there is one.
pub(super) fn moving(facts: &Facts<'_>) -> Option<Verdict> {
    let moving = facts.vault.moving.as_ref()?;
    let (from, to) = (&facts.vault.home, &moving.to);
    let what = format!(
        "the keys move from SELECTOR-{}._domainkey.{} to SELECTOR-{}._domainkey.{}",
        from.guid, from.initial_domain, to.guid, to.initial_domain
    );
    let next = match moving.announced {
        None => "the new names are being published; leave your records as they are",
        Some(_) => {
            "publish the records that status.records shows; the old ones go on working until all of them lead to the new names"
        }
    };
    let copied = moving.announced.and_then(|_| copied(facts));
    let waits: String =
        [copied, leaving_second(facts)].into_iter().flatten().map(|waits| format!(". {waits}")).collect();
    let message = format!("{what}: {next}{waits}");
    Some(Verdict::new(ConditionType::Moving, true, Reason::NamesChanging, message))
}

/// A move goes no further while the tenant's DNS host hides where the CNAMEs lead by which mail is signed.
fn copied(facts: &Facts<'_>) -> Option<String> {
    let signs = facts.lanes.iter().filter(|(_, lane)| lane.keyring.mode == Mode::Domain);
    let rows = signs.flat_map(|(_, lane)| records::of(lane, facts.order.delegation));
    let names: Vec<String> =
        rows.filter(|(_, state, _)| *state == RecordState::Flattened).map(|(_, _, row)| row.name).collect();
    let (last, others) = names.split_last()?;
    let names = if others.is_empty() { last.clone() } else { format!("{} and {last}", others.join(", ")) };
    Some(format!(
        "The move waits: your DNS host shows a copy of the key at {names} instead of the CNAME, so it cannot be seen where it leads. Turn flattening (ALIAS, ANAME) off there, so that each CNAME shows; or set spec.guid and spec.providerRef back to call the move off. Mail goes on verifying until then"
    ))
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
    let Home { guid, initial_domain, .. } = names_overdue(facts)?;
    Some(format!(
        "{} the names of before a move, SELECTOR-{guid}._domainkey.{initial_domain}; they stay published until no signer does. The mail provider must look at it: its log says what hinders it",
        still_using(&facts.signers.behind)
    ))
}
