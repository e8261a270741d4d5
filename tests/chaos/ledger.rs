//! Every key that was ever seen: none is made twice for one serial, none is lost before it has drained.

use std::collections::BTreeMap;
use std::time::Duration;

use dkim_operator::model::keyring::{Keyring, Phase};
use dkim_operator::model::vault::Vault;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;

use crate::stage::{DRAIN, SIGNER_LAG};

/// What is known of all keys.
#[derive(Default)]
pub struct Ledger {
    keys: BTreeMap<(String, u64), Known>,
    rotations: BTreeMap<String, u64>,
    /// Keys that broke a rule, in words.
    pub faults: Vec<String>,
}

struct Known {
    fingerprint: String,
    phase: &'static str,
    gone: bool,
}

impl Ledger {
    /// Takes note of a Secret as it was at this moment.
    pub fn note(&mut self, secret: &Secret) {
        let name = secret.name_any();
        let state = secret.data.iter().flatten().find(|(file, _)| *file == "state.json");
        let vault = state.and_then(|(_, state)| serde_json::from_slice::<Vault>(&state.0).ok());
        let Some(Vault { domain, rings, .. }) = vault else {
            self.faults.push(format!("{name}: the rotation state cannot be read"));
            return;
        };
        let (domain, ring) = (domain.to_string(), rings.primary);
        let mut there = Vec::new();
        for (_, slot) in ring.slots.iter() {
            let Some(key) = slot.phase.key() else { continue };
            there.push(key.serial);
            self.seen(&domain, key.serial, &key.fingerprint.to_string(), slot.phase.as_str());
        }
        let gone = self
            .keys
            .iter_mut()
            .filter(|((of, serial), key)| *of == domain && !key.gone && !there.contains(serial));
        let mut lost = Vec::new();
        for ((_, serial), key) in gone {
            key.gone = true;
            // It may have drained while nobody could look.
            let unseen = key.phase == "Active" && drained_since_switch(&ring);
            if key.phase != "Draining" && !unseen {
                lost.push(format!("{domain}: the key of serial {serial} went while it was {}", key.phase));
            }
        }
        self.faults.extend(lost);
        let before = self.rotations.insert(domain.clone(), ring.log.count);
        if before.is_some_and(|before| before > ring.log.count) {
            self.faults.push(format!("{domain}: the count of rotations went back"));
        }
    }

    fn seen(&mut self, domain: &str, serial: u64, fingerprint: &str, phase: &'static str) {
        let key = self.keys.entry((domain.to_owned(), serial)).or_insert_with(|| Known {
            fingerprint: fingerprint.to_owned(),
            phase,
            gone: false,
        });
        if key.fingerprint != fingerprint {
            self.faults.push(format!("{domain}: serial {serial} stands for two keys"));
        }
        if key.gone {
            self.faults.push(format!("{domain}: the key of serial {serial} has come back"));
        }
        key.phase = phase;
    }

    /// How often an active key was replaced.
    pub fn rotations(&self) -> u64 {
        self.rotations.values().sum()
    }

    /// How many keys were seen.
    pub fn keys(&self) -> usize {
        self.keys.len()
    }
}

/// Whether the key before the active one has had its time.
fn drained_since_switch(ring: &Keyring) -> bool {
    let active = ring.active().map(|slot| &ring.slots[slot].phase);
    let Some(Phase::Active { since, .. }) = active else { return false };
    let passed = Duration::try_from(Timestamp::now().duration_since(*since)).unwrap_or_default();
    passed + Duration::from_secs(1) >= DRAIN + SIGNER_LAG
}
