//! Moves: a domain whose GUID or provider changes. Keys stay; their names change, and the tenant's CNAMEs with them.
//!
//! ```text
//! begin: both names are published ─seen and settled→ announced: status shows the new CNAMEs
//!        ─every CNAME leads to the new name, older answers run out→ finish: the old names drain
//! ```

use jiff::Timestamp;

use super::link::follow;
use super::moving::{Move, NextName};
use super::{Evidence, KeySight, LinkSight, Policy};
use crate::model::home::Home;
use crate::model::keyring::{Link, Mode, Phase};
use crate::model::lanes::{LaneId, PerLane};
use crate::model::selector::{PerSlot, SlotId};
use crate::model::vault::{FormerHome, Vault};

/// What DNS proves at the present and at the next names of one lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sights {
    /// At the present names.
    pub home: Option<Evidence>,
    /// At the next ones, during a move.
    pub next: Option<Evidence>,
}

impl Sights {
    /// What both prove together: during a move a CNAME may lead to either name, and wherever it leads the key must be, and
    /// must have `settled`. Once the tenant is told of the next names, a CNAME may lead there at any time. A copy is as good at
    /// home as ever, for both names have the key, but tells of no CNAME that leads to the next one.
    #[must_use]
    pub fn merged(&self, settled: PerSlot<bool>, announced: bool) -> Option<Evidence> {
        let (home, Some(next)) = (self.home?, self.next) else { return self.home };
        let slots = PerSlot::from_fn(|slot| {
            let mut seen = home.slots[slot];
            let there = next.slots[slot];
            match (seen.link, there.link.by_name()) {
                (LinkSight::Broken { .. }, led @ LinkSight::Verified { .. }) => match there.key {
                    KeySight::Matches if settled[slot] => seen.link = led,
                    KeySight::Matches => seen.link = LinkSight::Unclear,
                    KeySight::Contradicted => {}
                    KeySight::MatchesWhereHeard | KeySight::Unclear => seen.link = LinkSight::Unclear,
                },
                (LinkSight::Broken { .. }, LinkSight::Unclear) => seen.link = LinkSight::Unclear,
                (LinkSight::Verified { .. }, _) if announced && !settled[slot] => {
                    seen.link = LinkSight::Unclear;
                }
                _ => {}
            }
            seen
        });
        Some(Evidence { at: home.at.min(next.at), slots })
    }
}

/// What is known of names of before a move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FormerSeen {
    /// A signer that is alive says, or may be taken to say, that it still signs by them.
    pub in_use: bool,
    /// The record set still holds some whose drain is over.
    pub published: bool,
}

/// Decides what a vault's move needs now. `wanted` is where the spec places the keys.
#[must_use]
pub fn relocate(
    vault: &Vault,
    wanted: &Home,
    policy: &Policy,
    sights: &PerLane<Sights>,
    seen: FormerSeen,
    now: Timestamp,
) -> Vec<Move> {
    let mut run = Run { vault: vault.clone(), policy, now, moves: Vec::new() };
    let held = |former: &FormerHome| former.held && !former.reached;
    let may_be_reached = |former: &FormerHome| former.held && former.reached;
    let FormerSeen { in_use: former_in_use, published } = seen;
    // The record set lets them go as their drain ends; resolvers forget them from then on, whenever that was written. What is
    // gone is not held any more: somebody else may have the names by now.
    let goes = |former: &FormerHome| former.has_drained(now) && former.withdrawn.is_none();
    if !published && run.vault.former.iter().any(goes) {
        run.make(Move::Withdraw);
    }
    let may_be_held = |former: &FormerHome| !former.held && former.withdrawn.is_none();
    if former_in_use && run.vault.former.iter().any(may_be_held) {
        run.make(Move::Hold);
    }
    if !former_in_use && run.vault.former.iter().any(held) {
        // What reports for a signer may have told it only just now.
        run.make(Move::Free { drain: policy.drain_time() });
    }
    if !former_in_use && run.vault.former.iter().any(may_be_reached) && run.is_parted(sights) {
        run.make(Move::Part { drain: policy.parting_time() });
    }
    let rounding = policy.rounding;
    if run.vault.former.iter().any(|former| former.is_over(rounding, now)) {
        run.make(Move::Forget { rounding });
    }
    if wanted.is_at(&run.vault.home) {
        if run.vault.moving.is_some() {
            run.make(Move::Abandon { drain: policy.drain_time() });
        }
        if *wanted != run.vault.home {
            run.make(Move::Refresh { home: wanted.clone() });
        }
        return run.moves;
    }
    if !run.vault.has_signed() {
        run.make(Move::Settle { home: wanted.clone() });
        return run.moves;
    }
    match &run.vault.moving {
        Some(moving) if moving.to.is_at(wanted) => {}
        other => {
            if other.is_some() {
                run.make(Move::Abandon { drain: policy.drain_time() });
            }
            run.make(Move::Begin { to: wanted.clone() });
            return run.moves;
        }
    }
    run.follow(sights);
    run.finish(sights);
    run.moves
}

struct Run<'a> {
    vault: Vault,
    policy: &'a Policy,
    now: Timestamp,
    moves: Vec<Move>,
}

impl Run<'_> {
    fn make(&mut self, change: Move) {
        self.vault.apply_move(&change, self.now);
        self.moves.push(change);
    }

    fn name(&self, lane: LaneId, slot: SlotId) -> Option<&NextName> {
        Some(&self.vault.moving.as_ref()?.lanes.get(lane)?[slot])
    }

    /// Whether the CNAMEs by which mail is or was signed are seen to lead to present or next names, since others were left that
    /// the tenant was told of.
    fn is_parted(&self, sights: &PerLane<Sights>) -> bool {
        let left =
            self.vault.former.iter().filter(|former| former.reached && former.held).map(|f| f.left).max();
        // A move that leads there again may be called off as well.
        let again = self.vault.moving.as_ref().is_some_and(|moving| {
            let waits = |former: &FormerHome| former.reached && former.held && former.home.is_at(&moving.to);
            self.vault.former.iter().any(waits)
        });
        let leads = |evidence: Option<Evidence>, slot: SlotId| {
            evidence.is_some_and(|seen| {
                Some(seen.at) > left
                    && self.policy.is_fresh(seen.at, self.now)
                    && matches!(seen.slots[slot].link.by_name(), LinkSight::Verified { .. })
            })
        };
        // A key that drains may be held for a signer that is late.
        let signs = |phase: &Phase| matches!(phase, Phase::Active { .. } | Phase::Draining { .. });
        self.vault.rings.iter().filter(|(_, ring)| ring.mode == Mode::Domain).all(|(lane, ring)| {
            let sights = sights.get(lane).copied().unwrap_or_default();
            let parted = |slot| leads(sights.home, slot) || (!again && leads(sights.next, slot));
            ring.slots.iter().all(|(slot, state)| !signs(&state.phase) || parted(slot))
        })
    }

    /// The same as for the present names: a link counts once older answers have run out, and so does a key.
    fn follow(&mut self, sights: &PerLane<Sights>) {
        let rings = self.vault.rings.clone();
        // Both may have been lowered since the move began. What these names answered before nobody knows: nothing, the key
        // that was in the slot before, or that of an earlier stay there.
        let Some(began) = self.vault.moving.as_ref().map(|moving| &moving.to) else { return };
        let older_ttl = [self.policy.ttl, began.ttl, self.policy.negative_ttl, began.negative_ttl()];
        let older_ttl = older_ttl.into_iter().fold(0, u32::max);
        for (lane, ring) in rings.iter() {
            let Some(next) = sights.get(lane).and_then(|s| s.next) else { continue };
            for slot in SlotId::ALL {
                let seen = next.slots[slot];
                let before = self.name(lane, slot).cloned();
                let link = before.as_ref().map_or(Link::unseen(self.now), |name| name.link);
                let link = follow(self.policy, link, seen.link.by_name(), self.now);
                if let Some(link) = link {
                    self.make(Move::Link { lane, slot, link });
                }
                let known = before.map_or(0, |n| n.serial);
                match (ring.slots[slot].phase.key(), seen.key) {
                    (Some(key), KeySight::Matches) if key.serial != known => {
                        let settled = self.policy.run_out(self.now, older_ttl);
                        self.make(Move::Seen { lane, slot, serial: key.serial, settled });
                    }
                    (_, KeySight::Contradicted) if known != 0 => self.make(Move::Unseen { lane, slot }),
                    _ => {}
                }
            }
        }
    }

    fn finish(&mut self, sights: &PerLane<Sights>) {
        if !self.keys_are_there() {
            return;
        }
        let announced = self.vault.moving.as_ref().and_then(|m| m.announced);
        if announced.is_none() {
            self.make(Move::Announce);
        }
        let fresh = |at: Timestamp| self.policy.is_fresh(at, self.now);
        let seen_now = sights.iter().all(|(_, s)| s.next.is_some_and(|next| fresh(next.at)));
        if seen_now && self.links_lead_there(sights) {
            self.make(Move::Finish { drain: self.policy.drain_time() });
        }
    }

    /// Whether every key that may have signed, or is ready to, is settled at its new name.
    fn keys_are_there(&self) -> bool {
        self.vault.rings.iter().all(|(lane, ring)| {
            ring.slots.iter().all(|(slot, state)| match &state.phase {
                Phase::Published { key, .. } | Phase::Active { key, .. } | Phase::Draining { key, .. } => {
                    self.name(lane, slot).is_some_and(|name| name.is_settled(key, self.now))
                }
                Phase::Empty | Phase::Generated { .. } | Phase::Revoked { .. } => true,
            })
        })
    }

    /// Whether what signers are told next holds at the new names: as the domain, through CNAMEs that lead there. A copy may
    /// have been made of the old name, and would be gone with it.
    fn links_lead_there(&self, sights: &PerLane<Sights>) -> bool {
        self.vault.rings.iter().all(|(lane, ring)| {
            let Some(active) = ring.active() else { return true };
            let Some(next) = sights.get(lane).and_then(|s| s.next) else { return false };
            if next.slots[active].key != KeySight::Matches {
                return false;
            }
            ring.mode == Mode::Default
                || SlotId::ALL.into_iter().all(|slot| {
                    let up =
                        |link: Link| matches!(link, Link::Up { trusted_from } if trusted_from <= self.now);
                    self.name(lane, slot).is_some_and(|name| up(name.link))
                        && matches!(next.slots[slot].link.by_name(), LinkSight::Verified { .. })
                })
        })
    }
}

#[cfg(test)]
mod tests;
