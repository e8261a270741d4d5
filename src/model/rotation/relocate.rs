//! Moves: a domain whose GUID or provider changes. Keys stay; their names change, and the tenant's CNAMEs with them.
//!
//! ```text
//! begin: both names are published ─seen and settled→ announced: status shows the new CNAMEs
//!        ─every CNAME leads to the new name, older answers run out→ finish: the old names drain
//! ```

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::link::follow;
use super::{Evidence, KeySight, LinkSight, Policy};
use crate::model::home::Home;
use crate::model::keyring::{KeyInfo, Keyring, Link, Mode, Phase};
use crate::model::lanes::{LaneId, PerLane};
use crate::model::selector::{PerSlot, SlotId};
use crate::model::vault::Vault;

/// A move under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Moving {
    /// Where to.
    pub to: Home,
    /// Since when.
    pub since: Timestamp,
    /// When the tenant was shown the new CNAMEs: never before their targets answer everywhere.
    pub announced: Option<Timestamp>,
    /// What is known of the new names.
    pub lanes: PerLane<PerSlot<NextName>>,
}

/// What is known of a slot's new name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NextName {
    /// Whether the tenant's CNAME leads there.
    pub link: Link,
    /// The serial of the key that is seen there; 0 for none.
    pub serial: u64,
    /// When every resolver's older answer for the name has run out.
    pub settled: Timestamp,
}

impl NextName {
    /// The names of a lane that nobody has looked at.
    fn fresh(now: Timestamp) -> PerSlot<Self> {
        PerSlot::from_fn(|_| Self { link: Link::unseen(now), serial: 0, settled: now })
    }

    /// Whether a key is there, and no resolver holds an older answer.
    fn is_settled(&self, key: &KeyInfo, now: Timestamp) -> bool {
        self.serial == key.serial && self.settled <= now
    }
}

impl Moving {
    fn new(to: Home, lanes: &PerLane<Keyring>, now: Timestamp) -> Self {
        let lanes = lanes.map(|_, _| NextName::fresh(now));
        Self { to, since: now, announced: None, lanes }
    }

    /// The latest moment it knows of.
    pub(in crate::model) fn high_water(&self) -> Timestamp {
        self.announced.map_or(self.since, |at| at.max(self.since))
    }
}

/// A change of where the keys are published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Move {
    /// The same names, but something else about the place has changed.
    Refresh {
        /// The place.
        home: Home,
    },
    /// Nothing was ever signed with these names: new ones take their place.
    Settle {
        /// The place.
        home: Home,
    },
    /// Both names are published from now on.
    Begin {
        /// The new place.
        to: Home,
    },
    /// The move is called off; the new names drain.
    Abandon {
        /// For how long.
        drain: SignedDuration,
    },
    /// A CNAME leads to its new target, or does no longer.
    Link {
        /// The lane.
        lane: LaneId,
        /// The slot.
        slot: SlotId,
        /// How it stands.
        link: Link,
    },
    /// A key is seen at its new name.
    Seen {
        /// The lane.
        lane: LaneId,
        /// The slot.
        slot: SlotId,
        /// The key.
        serial: u64,
        /// When every resolver's older answer has run out.
        settled: Timestamp,
    },
    /// A key is no longer seen there.
    Unseen {
        /// The lane.
        lane: LaneId,
        /// The slot.
        slot: SlotId,
    },
    /// The new names answer everywhere: the tenant is told to change the CNAMEs.
    Announce,
    /// The new names take over; the old ones drain.
    Finish {
        /// For how long.
        drain: SignedDuration,
    },
    /// Former names have drained.
    Forget,
}

impl Vault {
    /// A lane's keys as they are reached at the next names, where a move is under way.
    #[must_use]
    pub fn next_ring(&self, lane: LaneId) -> Option<Keyring> {
        let moving = self.moving.as_ref()?;
        let mut ring = self.rings.get(lane)?.clone();
        for slot in SlotId::ALL {
            let known = moving.lanes.get(lane).map(|names| names[slot].link);
            ring.slots[slot].link = known.unwrap_or(Link::unseen(moving.since));
        }
        Some(ring)
    }

    pub(in crate::model) fn apply_move(&mut self, change: &Move, now: Timestamp) {
        match change {
            Move::Refresh { home } => self.refresh(home),
            Move::Settle { home } => {
                self.home = home.clone();
                self.moving = None;
                for lane in LaneId::ALL {
                    let Some(ring) = self.rings.get_mut(lane) else { continue };
                    for slot in SlotId::ALL {
                        ring.apply(&super::Change::Unseen { slot }, now);
                        ring.slots[slot].link = Link::unseen(now);
                    }
                }
            }
            Move::Begin { to } => self.moving = Some(Moving::new(to.clone(), &self.rings, now)),
            Move::Abandon { drain } => {
                if let Some(moving) = self.moving.take() {
                    self.leave(moving.to, *drain, now);
                }
            }
            Move::Link { lane, slot, link } => {
                if let Some(name) = self.next_name(*lane, *slot, now) {
                    name.link = *link;
                }
            }
            Move::Seen { lane, slot, serial, settled } => {
                if let Some(name) = self.next_name(*lane, *slot, now) {
                    name.serial = *serial;
                    name.settled = *settled;
                }
            }
            Move::Unseen { lane, slot } => {
                if let Some(name) = self.next_name(*lane, *slot, now) {
                    name.serial = 0;
                }
            }
            Move::Announce => {
                if let Some(moving) = &mut self.moving {
                    moving.announced = Some(now);
                }
            }
            Move::Finish { drain } => self.finish(*drain, now),
            Move::Forget => self.former.retain(|former| former.until > now),
        }
    }

    /// Answers that were given under the TTLs of before live on where these are greater. Whether servers have heard of the
    /// new ones nobody knows, so that this is remembered until a next key was seen at all of them.
    fn refresh(&mut self, home: &Home) {
        let old = std::mem::replace(&mut self.home, home.clone());
        if old.ttl > home.ttl || old.negative_ttl() > home.negative_ttl() {
            for lane in LaneId::ALL {
                if let Some(ring) = self.rings.get_mut(lane) {
                    ring.lower_ttl(old.ttl.max(old.negative_ttl()));
                }
            }
        }
    }

    /// What is known of a slot's new name, where a move is under way.
    fn next_name(&mut self, lane: LaneId, slot: SlotId, now: Timestamp) -> Option<&mut NextName> {
        let moving = self.moving.as_mut()?;
        let names = match lane {
            LaneId::Primary => &mut moving.lanes.primary,
            // It may have been opened during the move.
            LaneId::Second => moving.lanes.second.get_or_insert_with(|| NextName::fresh(now)),
        };
        Some(&mut names[slot])
    }

    fn finish(&mut self, drain: SignedDuration, now: Timestamp) {
        let Some(moving) = self.moving.take() else { return };
        let old = std::mem::replace(&mut self.home, moving.to);
        self.former.retain(|former| !former.home.is_at(&self.home));
        self.leave(old, drain, now);
        for (lane, names) in moving.lanes.iter() {
            let Some(ring) = self.rings.get_mut(lane) else { continue };
            for (slot, name) in names.iter() {
                ring.slots[slot].link = name.link;
                if let Phase::Published { key, seen, settled } = ring.slots[slot].phase.clone() {
                    ring.slots[slot].phase = if key.serial == name.serial {
                        Phase::Published { key, seen, settled: settled.max(name.settled) }
                    } else {
                        Phase::Generated { key }
                    };
                }
            }
        }
    }

    /// Slot by slot, whether the present key is settled at its next name; without a move there is none to wait for.
    #[must_use]
    pub fn settled_next(&self, lane: LaneId, now: Timestamp) -> PerSlot<bool> {
        PerSlot::from_fn(|slot| {
            let Some(moving) = &self.moving else { return true };
            let name = moving.lanes.get(lane).map(|names| &names[slot]);
            let key = self.rings.get(lane).and_then(|ring| ring.slots[slot].phase.key());
            name.zip(key).is_some_and(|(name, key)| name.is_settled(key, now))
        })
    }
}

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
    /// must have `settled`.
    #[must_use]
    pub fn merged(&self, settled: PerSlot<bool>) -> Option<Evidence> {
        let (home, Some(next)) = (self.home?, self.next) else { return self.home };
        let slots = PerSlot::from_fn(|slot| {
            let mut seen = home.slots[slot];
            let there = next.slots[slot];
            match (seen.link, there.link) {
                (LinkSight::Broken { .. }, LinkSight::Verified { older_ttl }) => match there.key {
                    KeySight::Matches if settled[slot] => seen.link = LinkSight::Verified { older_ttl },
                    KeySight::Matches => seen.link = LinkSight::Unclear,
                    KeySight::Contradicted => {}
                    KeySight::MatchesWhereHeard | KeySight::Unclear => seen.link = LinkSight::Unclear,
                },
                (LinkSight::Broken { .. }, LinkSight::Unclear) => seen.link = LinkSight::Unclear,
                _ => {}
            }
            seen
        });
        Some(Evidence { at: home.at.min(next.at), slots })
    }
}

/// Decides what a vault's move needs now. `wanted` is where the spec places the keys.
#[must_use]
pub fn relocate(
    vault: &Vault,
    wanted: &Home,
    policy: &Policy,
    sights: &PerLane<Sights>,
    now: Timestamp,
) -> Vec<Move> {
    let mut run = Run { vault: vault.clone(), policy, now, moves: Vec::new() };
    if run.vault.former.iter().any(|former| former.until <= now) {
        run.make(Move::Forget);
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
                let link = follow(self.policy, link, seen.link, self.now);
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

    /// Whether what signers are told next holds at the new names: as the domain, through CNAMEs that lead there.
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
                        && matches!(next.slots[slot].link, LinkSight::Verified { .. })
                })
        })
    }
}
