//! A move under way, its steps, and their application.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::model::home::Home;
use crate::model::keyring::{KeyInfo, Keyring, Link, Mode, Phase, later};
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
    pub(super) fn is_settled(&self, key: &KeyInfo, now: Timestamp) -> bool {
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
    /// Former names have drained, and are published no more.
    Withdraw,
    /// Nobody remembers what was published under them.
    Forget {
        /// For how many seconds more than its TTL an answer is remembered.
        rounding: u32,
    },
    /// No mail is signed any more that is verified at the names of a move which was called off: they drain from now on.
    Part {
        /// For how long.
        drain: SignedDuration,
    },
    /// A signer still signs by former names, or as the domain, whose CNAME may lead there: those that were parted from, too.
    Hold,
    /// No signer signs by them any more: they drain from now on.
    Free {
        /// For how long.
        drain: SignedDuration,
    },
}

impl Keyring {
    /// Mail that is signed as the provider goes through no CNAME, so a move waits for none: the tenant may be changing them
    /// as it was shown, and back, between two looks. Each is looked at anew before it is trusted.
    fn unsee_spare_links(&mut self, now: Timestamp) {
        if self.mode == Mode::Default {
            self.slots.0.iter_mut().for_each(|slot| slot.link = Link::unseen(now));
        }
    }
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
                    for lane in LaneId::ALL {
                        if let Some(ring) = self.rings.get_mut(lane).filter(|_| moving.announced.is_some()) {
                            ring.unsee_spare_links(now);
                        }
                    }
                    let answered = moving.lanes.map(|lane, names| {
                        PerSlot::from_fn(|slot| {
                            let key = self.rings.get(lane).and_then(|ring| ring.slots[slot].phase.key());
                            key.filter(|key| names[slot].is_settled(key, now)).map_or(0, |key| key.serial)
                        })
                    });
                    self.leave(moving.to, moving.announced.is_some(), answered, *drain, now);
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
            Move::Withdraw => {
                for former in self.former.iter_mut().filter(|former| former.has_drained(now)) {
                    former.withdrawn.get_or_insert(now);
                }
            }
            Move::Forget { rounding } => self.former.retain(|former| !former.is_over(*rounding, now)),
            Move::Hold => {
                for former in self.former.iter_mut().filter(|former| former.withdrawn.is_none()) {
                    former.held = true;
                }
            }
            Move::Free { drain } => self.free(false, *drain, now),
            Move::Part { drain } => self.free(true, *drain, now),
        }
    }

    /// Lets former homes drain that were held.
    fn free(&mut self, reached: bool, drain: SignedDuration, now: Timestamp) {
        for former in self.former.iter_mut().filter(|former| former.held && former.reached == reached) {
            former.held = false;
            former.until = later(now, drain).max(former.until);
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
        self.leave(old, false, PerLane::default(), drain, now);
        let unseen = NextName::fresh(now);
        for lane in LaneId::ALL {
            let Some(ring) = self.rings.get_mut(lane) else { continue };
            // What is known of the names of before says nothing of these.
            for (slot, name) in moving.lanes.get(lane).unwrap_or(&unseen).iter() {
                ring.slots[slot].link = name.link;
                if let Phase::Published { key, seen, settled } = ring.slots[slot].phase.clone() {
                    ring.slots[slot].phase = if key.serial == name.serial {
                        Phase::Published { key, seen, settled: settled.max(name.settled) }
                    } else {
                        Phase::Generated { key }
                    };
                }
            }
            ring.unsee_spare_links(now);
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
