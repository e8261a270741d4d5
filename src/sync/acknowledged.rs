//! What is said of the signer beside us.

use std::collections::BTreeSet;
use std::path::{Component, Path};

use crate::api::signing_config::SigningConfig;
use crate::model::key::KeyFingerprint;
use crate::signing::{KeySet, Reporter};

/// What the signer beside us has been told of, for those who wait for it.
pub struct Acknowledged {
    reporter: Option<Reporter>,
    from_files: bool,
    told: BTreeSet<KeyFingerprint>,
}

impl Acknowledged {
    /// Nothing has been told yet.
    pub fn new(reporter: Option<Reporter>, from_files: bool) -> Self {
        Self { reporter, from_files, told: BTreeSet::new() }
    }

    /// The signer has been told of all that is known. A Secret that cannot be used leaves the files of its domain as they
    /// were.
    pub fn tell(&mut self, keys: &KeySet, active: &[SigningConfig]) {
        let Some(reporter) = &self.reporter else { return };
        let fingerprints = || active.iter().flat_map(|set| set.signatures.iter().map(|s| &s.fingerprint));
        let now: BTreeSet<KeyFingerprint> = fingerprints().cloned().collect();
        let left = !self.told.is_subset(&now);
        self.told = now;
        if self.from_files {
            let keys = active
                .iter()
                .map(|set| (set.domain.to_string(), set.signatures.iter().map(|s| &s.fingerprint).collect()));
            reporter.uses(keys, left);
            return;
        }
        // NAMESPACE/NAME, and maybe a file.
        let secret = |path: &Path| match path.components().nth(1) {
            Some(Component::Normal(name)) => Some(name.to_string_lossy().into_owned()),
            _ => None,
        };
        reporter.reached(keys.version(), keys.problem_paths().filter_map(secret), left);
    }

    /// The signer should have been told and was not found: of what it uses nothing is known but what was said before.
    pub fn last_word(&self) {
        if let Some(reporter) = &self.reporter {
            reporter.last_word();
        }
    }

    /// The signer cannot be told.
    pub fn goes_on(&self) {
        if let Some(reporter) = &self.reporter {
            reporter.goes_on();
        }
    }

    /// Nothing is known of the signer, if nothing was said before.
    pub fn unknown(&self) {
        if let Some(reporter) = &self.reporter {
            reporter.unknown();
        }
    }
}
