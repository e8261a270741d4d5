//! What a decision may not rest on, and what it may not do.

use dkim_operator::model::keyring::{Link, Mode, Phase, later};
use dkim_operator::model::lanes::LaneId;
use dkim_operator::model::rotation::{Cause, Change, Move, Policy};
use dkim_operator::model::selector::SlotId;
use jiff::Timestamp;

use super::kernel::{Call, away};
use super::store::at;
use super::world::{Heard, LinkSeen};
use crate::operator::{Plan, Stored};

/// Facts about a decision that the properties are about, as bits.
pub mod facts {
    /// A server's failure was taken for an answer, or an old look for a new one.
    pub const FAILURE_USED: u16 = 1;
    /// Signing fell back before the grace was over.
    pub const EARLY_FALLBACK: u16 = 2;
    /// A switch by schedule.
    pub const BY_SCHEDULE: u16 = 4;
    /// A switch by request.
    pub const BY_REQUEST: u16 = 8;
    /// Any switch.
    pub const SWITCHED: u16 = 16;
    /// A change bears a moment earlier than the latest one that was known.
    pub const RAN_BACK: u16 = 32;
    /// A rotation began during a pause.
    pub const PAUSE_BROKEN: u16 = 64;
    /// A key that was brought was taken in a second time.
    pub const BROUGHT_TWICE: u16 = 128;
}

/// Puts a decision into facts.
pub(super) fn judge(stored: &Stored, plan: &Plan, policy: &Policy, call: &Call, now: Timestamp) -> u16 {
    let mut bits = 0;
    let before = &stored.vault;
    for (lane, change) in plan.changes() {
        let imported = before.rings.get(lane).is_some_and(|ring| !ring.log.imported.is_empty());
        if imported && matches!(change, Change::Generate { import: true, .. }) {
            bits |= facts::BROUGHT_TWICE;
        }
    }
    let unclear_link = |i: usize| call.look.as_ref().is_none_or(|look| look.links[i] == LinkSeen::Unclear);
    let unclear_key = |i: usize| {
        call.look.as_ref().is_none_or(|look| look.txt.iter().all(|server| server[i] == Heard::Silent))
    };
    let effective = now.max(before.high_water());
    let old_look = call.look.as_ref().is_none_or(|look| later(at(look.at), policy.freshness) < effective);
    let unclear = old_look || (before.rings.primary.mode == Mode::Domain && (0..2).any(unclear_link));
    if unclear && plan.moves().any(|step| matches!(step, Move::Finish { .. })) {
        bits |= facts::FAILURE_USED;
    }
    let first = if call.spec.second { 0 } else { 2 * usize::from(away(before)) };
    for (lane, change) in plan.changes() {
        let base = 2 * usize::from(lane == LaneId::Second);
        let unclear_link = |s: SlotId| unclear_link(base + s as usize);
        let unclear_key = |s: SlotId| unclear_key(first + base + s as usize);
        let failed = match change {
            Change::LinkUp { slot, .. } | Change::LinkDown { slot, .. } | Change::LinkMemory { slot, .. } => {
                unclear_link(*slot)
            }
            Change::Seen { slot, .. } | Change::Unseen { slot } | Change::Activate { slot, .. } => {
                unclear_key(*slot)
            }
            Change::SetMode { mode: Mode::Domain } => SlotId::ALL.into_iter().any(unclear_link),
            _ => false,
        };
        if failed {
            bits |= facts::FAILURE_USED;
        }
        let told = matches!(change, Change::Activate { .. } | Change::SetMode { mode: Mode::Domain });
        if told && old_look {
            bits |= facts::FAILURE_USED;
        }
        if let Change::Activate { cause, .. } = change {
            if lane == LaneId::Second {
                continue;
            }
            bits |= facts::SWITCHED;
            match cause {
                Cause::Schedule => bits |= facts::BY_SCHEDULE,
                Cause::Request => bits |= facts::BY_REQUEST,
                _ => {}
            }
            if policy.paused && matches!(cause, Cause::Schedule | Cause::Request | Cause::NewKind) {
                bits |= facts::PAUSE_BROKEN;
            }
        }
    }
    let primary = || plan.changes().filter(|(lane, _)| *lane == LaneId::Primary).map(|(_, change)| change);
    let fell_back = primary().any(|c| matches!(c, Change::SetMode { mode: Mode::Default }));
    // Better as the provider than with a key in the wrong hands.
    let emergency = primary().any(|c| matches!(c, Change::Activate { cause: Cause::Compromised, .. }));
    let fell_back = fell_back && !emergency;
    if fell_back
        && policy.enabled
        && let Some(active) = before.rings.primary.active()
    {
        let down_long = match before.rings.primary.slots[active].link {
            Link::Down { since, .. } => later(since, policy.grace) <= now.max(before.high_water()),
            Link::Up { .. } => false,
        };
        // Where no key is left, anything is better than mail without a signature.
        let none_left = primary().any(|c| matches!(c, Change::Lost { .. }));
        if !down_long && !none_left {
            bits |= facts::EARLY_FALLBACK;
        }
    }
    let ring = &plan.secret.vault.rings.primary;
    let ran_back = primary().any(|change| {
        let moment = match change {
            Change::Activate { .. } => ring.log.last,
            Change::SetMode { .. } => Some(ring.mode_since),
            Change::LinkDown { since, .. } => Some(*since),
            Change::Seen { slot, .. } => match &ring.slots[*slot].phase {
                Phase::Published { seen, .. } => Some(*seen),
                _ => None,
            },
            _ => None,
        };
        moment.is_some_and(|moment| moment < before.high_water())
    });
    if ran_back {
        bits |= facts::RAN_BACK;
    }
    bits
}
