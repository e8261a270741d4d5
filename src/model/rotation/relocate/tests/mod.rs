//! Moves of a whole vault, the tenant following or not.

mod called_off;
mod copies;
mod lanes;
mod links;
mod memory;
mod moves;

use jiff::{SignedDuration, Timestamp};

use crate::model::home::Home;
use crate::model::key::KeyKind;
use crate::model::keyring::{Keyring, Link, Mode, Phase, later};
use crate::model::lanes::{LaneId, PerLane};
use crate::model::rotation::tests::policy;
use crate::model::rotation::*;
use crate::model::selector::{PerSlot, Selector, SlotId};
use crate::model::testing::{home, key, pair, vault};
use crate::model::vault::{Vault, VaultChange};

const OLDER: u32 = 900;
const UP: LinkSight = LinkSight::Verified { older_ttl: OLDER, by_copy: false };
const COPIED: LinkSight = LinkSight::Verified { older_ttl: OLDER, by_copy: true };
const DOWN: LinkSight = LinkSight::Broken { older_ttl: OLDER };

/// A vault and a world in which our TXTs are always published, wherever the vault says.
struct World {
    vault: Vault,
    wanted: Home,
    policy: Policy,
    second: Option<PerSlot<Selector>>,
    /// Where the tenant's CNAMEs lead.
    cnames: PerSlot<Option<Home>>,
    /// Its DNS host shows copies in their place.
    flattened: bool,
    /// A signer says that it signs by former names.
    former_in_use: bool,
    /// The record set has not followed.
    served_drained: bool,
    now: Timestamp,
}

impl World {
    fn enabled() -> Self {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let old = home("a.example");
        let mut world = Self {
            vault: vault(old.clone(), now),
            wanted: old.clone(),
            policy: policy(),
            second: None,
            cnames: PerSlot([Some(old.clone()), Some(old)]),
            flattened: false,
            former_in_use: false,
            served_drained: false,
            now,
        };
        world.settle();
        world.pass(i64::from(OLDER));
        assert_eq!(world.vault.rings.primary.mode, Mode::Domain);
        world
    }

    fn evidence(&self, home: &Home) -> Evidence {
        let slots = PerSlot::from_fn(|slot| {
            let leads = self.cnames[slot].as_ref().is_some_and(|there| there.is_at(home));
            // The same TXT is at every name, so a copy of any is a copy of each.
            let copied =
                self.flattened && self.cnames[slot].as_ref().is_some_and(|there| self.publishes(there));
            let link = if copied {
                COPIED
            } else if leads && !self.flattened {
                UP
            } else {
                DOWN
            };
            SlotEvidence { link, key: KeySight::Matches }
        });
        Evidence { at: self.now, slots }
    }

    /// The spec names new names, and the tenant is told of them.
    fn announce(&mut self) {
        self.wanted = home("b.example");
        self.settle();
        self.pass(301);
    }

    /// Both CNAMEs lead there.
    fn follow(&mut self, initial: &str) {
        self.cnames = PerSlot([Some(home(initial)), Some(home(initial))]);
    }

    fn publishes(&self, there: &Home) -> bool {
        let next = self.vault.moving.iter().map(|moving| &moving.to);
        let former = self.vault.former.iter().map(|former| &former.home);
        std::iter::once(&self.vault.home).chain(next).chain(former).any(|home| home.is_at(there))
    }

    fn step(&mut self) -> VaultDecision {
        let sights = Sights {
            home: Some(self.evidence(&self.vault.home)),
            next: self.vault.moving.as_ref().map(|moving| self.evidence(&moving.to)),
        };
        let lane = LaneObserved { sights, custody: PerSlot([true; 2]), in_use: PerSlot::default() };
        let lanes = self.vault.rings.map(|_, _| lane);
        let former = FormerSeen { in_use: self.former_in_use, published: self.served_drained };
        let observed = VaultObserved { lanes, former };
        let second = self.second.as_ref().map(|_| Policy {
            kind: KeyKind::Ed25519,
            cadence: Cadence::Along,
            ..self.policy.clone()
        });
        let wanted = Wanted {
            home: &self.wanted,
            policies: PerLane { primary: &self.policy, second: second.as_ref() },
            second: self.second.as_ref(),
        };
        let decision = decide_vault(&self.vault, &wanted, &observed, self.now);
        let now = self.now.max(self.vault.high_water());
        for change in &decision.changes {
            self.vault.apply(change, now);
            if let VaultChange::Key { lane, change: Change::Generate { slot, kind, .. } } = change {
                let serial = self.vault.last_serial() + 1;
                self.vault.rings.get_mut(*lane).unwrap().install(*slot, key(serial, *kind, now));
            }
        }
        decision
    }

    fn settle(&mut self) {
        for _ in 0..20 {
            if self.step().changes.is_empty() {
                return;
            }
        }
        panic!("no rest after 20 decisions: {:#?}", self.vault);
    }

    fn pass(&mut self, seconds: i64) {
        self.now = later(self.now, SignedDuration::from_secs(seconds));
        self.settle();
    }

    fn moving(&self) -> &Moving {
        self.vault.moving.as_ref().expect("a move is under way")
    }
}
