//! The vault: everything about one domain's keys but the private halves. It is the truth, and lives in the key Secret.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::home::Home;
use super::keyring::{Keyring, Mode, Phase, later};
use super::lanes::{LaneId, PerLane};
use super::name::DomainName;
use super::rotation::{Change, Move, Moving};
use super::selector::{PerSlot, Selector, SlotId};

/// The version of the stored form this program writes and reads.
pub const FORMAT_VERSION: u32 = 1;

/// Everything about one domain's keys but the private halves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Vault {
    /// The version of the stored form.
    pub format_version: u32,
    /// The domain the keys are for.
    pub domain: DomainName,
    /// Where the keys are published and looked for.
    pub home: Home,
    /// Where they are about to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moving: Option<Moving>,
    /// Where they were: those names drain.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub former: Vec<FormerHome>,
    /// The keys.
    pub rings: PerLane<Keyring>,
}

/// A home that was left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormerHome {
    /// The home.
    pub home: Home,
    /// When it was left. Keys made later were never looked for there.
    pub left: Timestamp,
    /// Until when the keys of then stay published there.
    pub until: Timestamp,
    /// It stays, and drains anew from the moment that nobody needs it: a signer was found to sign by these names still, or the
    /// move was called off and a CNAME in use may lead there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held: bool,
    /// The tenant was told to let its CNAMEs lead there before the move was called off: all keys are published there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reached: bool,
    /// The serials of the keys that had settled there when the move was called off; 0 for none.
    #[serde(default, skip_serializing_if = "is_unknown")]
    pub answered: PerLane<PerSlot<u64>>,
    /// Since when nothing is published there any more, the drain being over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdrawn: Option<Timestamp>,
}

fn is_unknown(answered: &PerLane<PerSlot<u64>>) -> bool {
    answered.iter().all(|(_, serials)| serials.0 == [0; 2])
}

impl FormerHome {
    /// Whether nothing has to be published there any more.
    #[must_use]
    pub fn has_drained(&self, now: Timestamp) -> bool {
        self.until <= now && !self.held
    }

    /// When copies of what was published there are gone as well, which DNS hosts may show for as long as resolvers may
    /// remember it: `rounding` seconds longer than its TTL says.
    #[must_use]
    pub fn forgotten_at(&self, rounding: u32) -> Option<Timestamp> {
        let memory = SignedDuration::from_secs(self.home.ttl.saturating_add(rounding).into());
        self.withdrawn.map(|at| later(at, memory))
    }

    /// Whether nothing hangs on it any more.
    #[must_use]
    pub fn is_over(&self, rounding: u32, now: Timestamp) -> bool {
        self.has_drained(now) && self.forgotten_at(rounding).is_some_and(|at| at <= now)
    }
}

/// One change of a vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VaultChange {
    /// To one lane's keyring.
    Key {
        /// The lane.
        lane: LaneId,
        /// The change.
        change: Change,
    },
    /// To where the keys are published.
    Move(Move),
    /// A second signature is wanted.
    OpenSecond {
        /// Its selectors.
        selectors: PerSlot<Selector>,
    },
    /// The second signature's keys have drained.
    CloseSecond,
}

impl Vault {
    /// A vault without keys.
    #[must_use]
    pub fn new(domain: DomainName, home: Home, primary: PerSlot<Selector>, now: Timestamp) -> Self {
        Self {
            format_version: FORMAT_VERSION,
            domain,
            home,
            moving: None,
            former: Vec::new(),
            rings: PerLane { primary: Keyring::new(primary, now), second: None },
        }
    }

    /// The greatest serial given to a key so far.
    #[must_use]
    pub fn last_serial(&self) -> u64 {
        self.rings.iter().map(|(_, ring)| ring.last_serial).max().unwrap_or(0)
    }

    /// The latest moment this vault knows of: see [`Keyring::high_water`].
    #[must_use]
    pub fn high_water(&self) -> Timestamp {
        let rings = self.rings.iter().map(|(_, ring)| ring.high_water());
        let homes = self.former.iter().flat_map(|former| [Some(former.left), former.withdrawn]).flatten();
        let moving = self.moving.iter().map(Moving::high_water);
        rings.chain(homes).chain(moving).max().unwrap_or(Timestamp::MIN)
    }

    /// Whether any key has ever been told to signers, and may still be used or drains.
    #[must_use]
    pub fn has_signed(&self) -> bool {
        let told = |phase: &Phase| {
            matches!(phase, Phase::Active { .. } | Phase::Draining { .. } | Phase::Revoked { .. })
        };
        self.rings.iter().any(|(_, ring)| ring.slots.iter().any(|(_, slot)| told(&slot.phase)))
    }

    /// Slot by slot, whether a resolver that a CNAME leads or has led to names of a move which was called off finds the present
    /// key there: it had settled there by then. Nobody looks at these names for the keys that come later.
    #[must_use]
    pub fn answered_elsewhere(&self, lane: LaneId, now: Timestamp) -> PerSlot<bool> {
        PerSlot::from_fn(|slot| {
            let key = self.rings.get(lane).and_then(|ring| ring.slots[slot].phase.key());
            let known = |former: &FormerHome| {
                let serial = former.answered.get(lane).map(|serials| serials[slot]);
                key.is_some_and(|key| serial == Some(key.serial))
            };
            self.former.iter().all(|former| !former.reached || former.has_drained(now) || known(former))
        })
    }

    /// Where the keys are, and during a move where they are about to be.
    pub fn homes(&self) -> impl Iterator<Item = &Home> {
        std::iter::once(&self.home).chain(self.moving.as_ref().map(|moving| &moving.to))
    }

    /// Whether keys that have signed are published at these names.
    #[must_use]
    pub fn serves_at(&self, home: &Home) -> bool {
        let former =
            self.former.iter().filter(|former| former.withdrawn.is_none()).map(|former| &former.home);
        self.has_signed() && self.homes().chain(former).any(|there| there.is_at(home))
    }

    /// Whether a copy of a key is no CNAME to what begins now in a lane with this mode: it may have been made of names that go,
    /// or have gone just now. Names to which a CNAME may lead by which mail is signed as the domain stay until a look finds it
    /// elsewhere. Where mail is signed as the provider it may as well have been left leading to the next names, from an earlier
    /// stay there, and they have yet to answer everywhere.
    #[must_use]
    pub fn doubts_copies(&self, mode: Mode) -> bool {
        let stays = |former: &FormerHome| mode == Mode::Domain && former.held && former.reached;
        let begun = self.moving.as_ref().is_some_and(|moving| moving.announced.is_none());
        !self.former.iter().all(stays) || (mode == Mode::Default && begun)
    }

    /// Applies one change at `now`.
    pub fn apply(&mut self, change: &VaultChange, now: Timestamp) {
        match change {
            VaultChange::Key { lane, change } => {
                if let Some(ring) = self.rings.get_mut(*lane) {
                    ring.apply(change, now);
                }
            }
            VaultChange::Move(change) => self.apply_move(change, now),
            VaultChange::OpenSecond { selectors } => {
                if self.rings.second.is_none() {
                    let mut ring = Keyring::new(selectors.clone(), now);
                    // Nobody knows whether these names answered until just now, for an earlier second signature.
                    if self.last_serial() > 0 {
                        ring.lower_ttl(self.home.ttl.max(self.home.negative_ttl()));
                    }
                    self.rings.second = Some(ring);
                }
            }
            VaultChange::CloseSecond => {
                // Serials are counted over both lanes.
                self.rings.primary.last_serial = self.last_serial();
                self.rings.second = None;
            }
        }
    }

    /// Leaves a home: what was published there stays for `drain`, from when no CNAME leads there that may have `reached` it.
    /// `answered` are the serials of the keys that have settled there.
    pub(super) fn leave(
        &mut self,
        home: Home,
        reached: bool,
        answered: PerLane<PerSlot<u64>>,
        drain: SignedDuration,
        now: Timestamp,
    ) {
        let until = later(now, drain);
        let mut entry =
            FormerHome { home, left: now, until, held: reached, reached, answered, withdrawn: None };
        if let Some(at) = self.former.iter().position(|former| former.home.is_at(&entry.home)) {
            // It was left before, and what it was kept for then may not be over.
            let before = self.former.remove(at);
            if !before.has_drained(now) {
                let FormerHome { home: _, left: _, until, held, reached, answered, withdrawn: _ } = before;
                entry.until = entry.until.max(until);
                entry.held |= held || reached;
                entry.reached |= reached;
                for (lane, serials) in answered.iter() {
                    let Some(known) = entry.answered.get_mut(lane) else { continue };
                    for slot in SlotId::ALL {
                        known[slot] = known[slot].max(serials[slot]);
                    }
                }
            }
        }
        self.former.push(entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::key::KeyKind;
    use crate::model::selector::SlotId;
    use crate::model::testing;

    #[test]
    fn keys_that_have_signed_serve_wherever_they_are_published() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let [now, next, before] = ["a.example", "b.example", "c.example"].map(testing::home);
        let mut vault = testing::vault(now.clone(), at(0));
        let key = testing::key(1, KeyKind::Rsa2048, at(0));
        vault.rings.primary.slots[SlotId::One].phase =
            Phase::Published { key: key.clone(), seen: at(1), settled: at(2) };
        assert!(!vault.serves_at(&now), "nobody signs with it yet");
        vault.rings.primary.slots[SlotId::One].phase = Phase::Active { key, seen: at(1), since: at(2) };
        assert!(vault.serves_at(&now) && !vault.serves_at(&next));
        vault.apply_move(&Move::Begin { to: next.clone() }, at(3));
        assert!(vault.serves_at(&now) && vault.serves_at(&next) && !vault.serves_at(&before));
        let left = FormerHome {
            home: before.clone(),
            left: at(0),
            until: at(9),
            held: false,
            reached: false,
            answered: PerLane::default(),
            withdrawn: None,
        };
        vault.former = vec![left.clone()];
        assert!(vault.serves_at(&before));
        vault.former = vec![FormerHome { withdrawn: Some(at(9)), ..left }];
        assert!(!vault.serves_at(&before));
    }
}
