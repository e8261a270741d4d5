//! The decision, one keyring at a time.

mod compromise;
mod keys;
mod links;
mod rolling;
mod walks;

use jiff::{SignedDuration, Timestamp};

use super::*;
use crate::model::keyring::{KeyInfo, Keyring, Mode, Phase, later};
use crate::model::testing::{key, selectors};

const INTERVAL: SignedDuration = SignedDuration::from_hours(24 * 180);
const NEGATIVE_TTL: u32 = 60;
const TTL: u32 = 300;
const CNAME_MEMORY: u32 = 900;

pub(super) fn policy() -> Policy {
    Policy {
        enabled: true,
        kind: KeyKind::Rsa2048,
        cadence: Cadence::Every(INTERVAL),
        offset: SignedDuration::ZERO,
        drain: SignedDuration::from_hours(96),
        signer_lag: SignedDuration::from_mins(5),
        paused: false,
        rotate_at: None,
        compromised_at: None,
        along_with: None,
        retired: false,
        link_per_key: false,
        imports: PerSlot::default(),
        ttl: TTL,
        negative_ttl: NEGATIVE_TTL,
        rounding: 0,
        cname_ttl: CNAME_MEMORY,
        grace: SignedDuration::from_mins(10),
        freshness: SignedDuration::from_mins(1),
    }
}

/// A keyring, a clock and DNS as it is, with the keyring's own TXTs always published.
struct World {
    ring: Keyring,
    policy: Policy,
    now: Timestamp,
    links: PerSlot<LinkSight>,
    keys: PerSlot<KeySight>,
    custody: Custody,
    in_use: PerSlot<bool>,
    history: Vec<Change>,
}

const UP: LinkSight = LinkSight::Verified { older_ttl: CNAME_MEMORY, by_copy: false };
const DOWN: LinkSight = LinkSight::Broken { older_ttl: CNAME_MEMORY };

impl World {
    fn new() -> Self {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        Self {
            ring: Keyring::new(selectors(), now),
            policy: policy(),
            now,
            links: PerSlot([DOWN; 2]),
            keys: PerSlot([KeySight::Matches; 2]),
            custody: PerSlot([true; 2]),
            in_use: PerSlot([false; 2]),
            history: Vec::new(),
        }
    }

    /// One reconcile: decide, apply, make the keys asked for. Deciding again must change nothing.
    fn step(&mut self) -> Decision {
        let evidence = Evidence {
            at: self.now,
            slots: PerSlot::from_fn(|s| SlotEvidence { link: self.links[s], key: self.keys[s] }),
        };
        let observed = Observed { evidence: Some(&evidence), custody: self.custody, in_use: self.in_use };
        let decision = decide(&self.ring, &self.policy, &observed, self.now);
        let now = self.now.max(self.ring.high_water());
        for change in &decision.changes {
            self.ring.apply(change, now);
            if let Change::Generate { slot, kind, import, .. } = change {
                let mut key = key(self.ring.last_serial + 1, *kind, now);
                if *import {
                    let fingerprint = self.policy.imports[*slot].clone().unwrap();
                    key = KeyInfo { kind: KeyKind::Rsa1024, fingerprint, imported: true, ..key };
                }
                self.ring.install(*slot, key);
                self.custody[*slot] = true;
            }
        }
        self.history.extend(decision.changes.clone());
        decision
    }

    fn settle(&mut self) {
        for _ in 0..20 {
            if self.step().changes.is_empty() {
                return;
            }
        }
        panic!("no rest after 20 decisions: {:?}", self.history);
    }

    fn pass(&mut self, seconds: i64) {
        self.now = later(self.now, SignedDuration::from_secs(seconds));
        self.settle();
    }

    fn enabled() -> Self {
        let mut world = Self::new();
        world.links = PerSlot([UP; 2]);
        world.settle();
        world.pass(i64::from(CNAME_MEMORY));
        assert_eq!(world.ring.mode, Mode::Domain);
        assert_eq!(world.ring.active(), Some(SlotId::One));
        world
    }

    fn phase(&self, slot: SlotId) -> &'static str {
        self.ring.slots[slot].phase.as_str()
    }
}
