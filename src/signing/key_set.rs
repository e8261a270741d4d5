//! What a source of keys has told so far.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::bundle::KeyBundle;
use super::fault::{KeyDirError, KeyDirFault};
use super::source::KeyEvent;
use crate::model::name::DomainName;

/// What the events have told so far. Where two sources are for one domain, the first by its path counts.
#[derive(Debug, Default)]
pub struct KeySet {
    bundles: BTreeMap<PathBuf, Arc<KeyBundle>>,
    /// What could not be used, and still cannot.
    problems: BTreeSet<PathBuf>,
    complete: bool,
    version: Option<u64>,
}

/// Whether a problem is of what is at that path: the path itself, or a file in it.
fn is_at(problem: &Path, path: &Path) -> bool {
    problem == path || problem.parent() == Some(path)
}

impl KeySet {
    /// Takes an event; tells what is wrong where something is.
    ///
    /// # Errors
    /// [`KeyDirError`] to be shown; the set is good all the same.
    pub fn take(&mut self, event: KeyEvent) -> Result<(), KeyDirError> {
        match event {
            KeyEvent::Keys(path, bundle) => {
                let domain = bundle.domain().clone();
                self.problems.retain(|problem| !is_at(problem, &path));
                self.bundles.insert(path.clone(), bundle);
                let other = self.bundles.iter().find(|(p, b)| **p != path && *b.domain() == domain);
                if let Some((other, _)) = other {
                    return Err(KeyDirFault::Twice { domain, other: other.clone() }.at(&path));
                }
            }
            KeyEvent::Broken(error) => {
                self.problems.insert(error.path.clone());
                return Err(error);
            }
            KeyEvent::Gone(path) => {
                self.problems.retain(|problem| !is_at(problem, &path));
                self.bundles.remove(&path);
            }
            KeyEvent::Complete => self.complete = true,
            KeyEvent::Version(version) => self.version = Some(version),
        }
        Ok(())
    }

    /// Whether everything there is has been told.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// How much is there that cannot be used: as many domains may have keys that are not known.
    #[must_use]
    pub fn problems(&self) -> usize {
        self.problems.len()
    }

    /// Where it is.
    pub fn problem_paths(&self) -> impl Iterator<Item = &Path> {
        self.problems.iter().map(PathBuf::as_path)
    }

    /// The resourceVersion up to which every change of the Secrets was told.
    #[must_use]
    pub fn version(&self) -> Option<u64> {
        self.version
    }

    /// Each domain's keys, sorted by domain.
    #[must_use]
    pub fn domains(&self) -> BTreeMap<&DomainName, &Arc<KeyBundle>> {
        let mut domains = BTreeMap::new();
        for bundle in self.bundles.values() {
            domains.entry(bundle.domain()).or_insert(bundle);
        }
        domains
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::source::Known;
    use super::*;
    use crate::model::key::KeyKind;
    use crate::signing::testing::{KeyDir, broken_json};

    #[test]
    fn a_set_keeps_what_breaks_and_takes_the_first_of_two() {
        let dir = KeyDir::new();
        for (below, domain) in [("a", "a.com"), ("b", "b.com"), ("c", "a.com")] {
            dir.domain(below, domain, &[KeyKind::Ed25519]);
        }
        let mut set = KeySet::default();
        let (told, known) = Known::default().look(dir.path());
        let problems: Vec<String> =
            told.into_iter().filter_map(|e| set.take(e).err()).map(|e| e.to_string()).collect();
        assert_eq!(problems.len(), 1);
        assert!(problems[0].contains("/c: it is for a.com"), "{problems:?}");
        assert!(set.is_complete());
        broken_json(&dir.path().join("b"));
        let (told, known) = known.look(dir.path());
        for event in told {
            assert!(set.take(event).is_err());
        }
        assert_eq!(set.domains().len(), 2);
        assert_eq!(set.problems(), 1);
        fs::remove_dir_all(dir.path().join("b")).unwrap();
        for event in known.look(dir.path()).0 {
            set.take(event).unwrap();
        }
        assert_eq!(set.problems(), 0);
        assert_eq!(set.domains().len(), 1);
    }
}
