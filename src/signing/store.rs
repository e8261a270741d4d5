//! All keys below a directory: either one domain's Secret, or a directory for each domain.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::bundle::resolve;
use super::fault::{KeyDirError, KeyDirFault};
use super::keys::DomainKeys;
use crate::api::signing_config::SIGNING_FILE;
use crate::model::name::DomainName;

/// How often a directory is looked at that may be in the middle of a change.
const LOOKS: u32 = 4;
/// How long to wait between two looks.
const PAUSE: Duration = Duration::from_millis(25);

/// All keys below a directory, by domain.
#[derive(Debug, Default)]
pub struct KeyStore {
    domains: BTreeMap<DomainName, Arc<DomainKeys>>,
    problems: Vec<KeyDirError>,
}

impl KeyStore {
    /// Reads a directory. One domain's broken keys hinder no other's: see [`KeyStore::problems`].
    ///
    /// This waits (up to 75 ms) where files look as if they were just being replaced, and parses keys: call it
    /// where blocking is allowed.
    ///
    /// # Errors
    /// [`KeyDirError`] where the directory itself cannot be read or holds no keys at all.
    pub fn load(directory: &Path) -> Result<Self, KeyDirError> {
        Self::default().reload(directory)
    }

    /// Reads the directory again. Keys of domains whose `signing.json` did not change are taken over.
    ///
    /// # Errors
    /// As [`KeyStore::load`]; the old store is still good then.
    pub fn reload(&self, directory: &Path) -> Result<Self, KeyDirError> {
        let previous: BTreeMap<&Path, &Arc<DomainKeys>> =
            self.domains.values().map(|keys| (keys.directory(), keys)).collect();
        let mut look = 1;
        loop {
            let real = resolve(directory);
            let result = Self::look(directory, &real, &previous);
            let unsettled = match &result {
                Ok(store) => resolve(directory) != real || store.problems.iter().any(|p| p.fault.may_pass()),
                Err(error) => error.fault.may_pass(),
            };
            if !unsettled || look == LOOKS {
                return result;
            }
            look += 1;
            std::thread::sleep(PAUSE);
        }
    }

    fn look(
        shown: &Path,
        real: &Path,
        previous: &BTreeMap<&Path, &Arc<DomainKeys>>,
    ) -> Result<Self, KeyDirError> {
        let mut store = Self::default();
        for Layout { shown, real } in layouts(shown, real)? {
            let earlier = previous.get(shown.as_path()).copied();
            match DomainKeys::load_at(&shown, &real, earlier) {
                Ok(keys) => store.insert(keys),
                Err(problem) => store.problems.push(problem),
            }
        }
        Ok(store)
    }

    fn insert(&mut self, keys: Arc<DomainKeys>) {
        match self.domains.get(keys.domain()) {
            Some(first) => {
                let domain = keys.domain().clone();
                let twice = KeyDirFault::Twice { domain, other: first.directory().to_owned() };
                self.problems.push(twice.at(keys.directory()));
            }
            None => {
                self.domains.insert(keys.domain().clone(), keys);
            }
        }
    }

    /// Takes over from an older store what cannot be read at the moment, so that a file system that fails for a
    /// while does not stop the signing. Directories that are gone stay gone.
    pub fn keep_unreadable_from(&mut self, older: &Self) {
        for keys in older.domains.values() {
            let broken = self.problems.iter().any(|p| p.path.starts_with(keys.directory()));
            if broken && keys.directory().is_dir() && !self.domains.contains_key(keys.domain()) {
                self.domains.insert(keys.domain().clone(), Arc::clone(keys));
            }
        }
    }

    /// The keys of one domain; of it alone, not of domains above it.
    #[must_use]
    pub fn get(&self, domain: &DomainName) -> Option<&Arc<DomainKeys>> {
        self.domains.get(domain)
    }

    /// The keys of the first author whose domain is here.
    #[must_use]
    pub fn for_authors(&self, authors: &[DomainName]) -> Option<&Arc<DomainKeys>> {
        authors.iter().find_map(|author| self.get(author))
    }

    /// All domains, sorted by name.
    pub fn domains(&self) -> impl Iterator<Item = &Arc<DomainKeys>> {
        self.domains.values()
    }

    /// The directories that could not be used, and why.
    #[must_use]
    pub fn problems(&self) -> &[KeyDirError] {
        &self.problems
    }
}

/// A directory with one domain's files in it.
pub(super) struct Layout {
    /// As people know it.
    pub(super) shown: PathBuf,
    /// With kubelet's links above it followed: in a projected volume every directory is a link through `..data`.
    pub(super) real: PathBuf,
}

/// The directories with a domain's files in them, sorted by name.
pub(super) fn layouts(shown: &Path, real: &Path) -> Result<Vec<Layout>, KeyDirError> {
    let io = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::NotFound => KeyDirFault::NotThere.at(shown),
        _ => KeyDirFault::Unreadable(e.to_string()).at(shown),
    };
    if fs::symlink_metadata(real.join(SIGNING_FILE)).is_ok() {
        return Ok(vec![Layout { shown: shown.to_owned(), real: real.to_owned() }]);
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(real).map_err(io)? {
        let entry = entry.map_err(io)?;
        let name = entry.file_name();
        let foreign = name.as_encoded_bytes().starts_with(b".") || name == "lost+found";
        if !foreign && entry.path().is_dir() {
            names.push(name);
        }
    }
    if names.is_empty() {
        return Err(KeyDirFault::NoKeys.at(shown));
    }
    names.sort();
    Ok(names.iter().map(|name| Layout { shown: shown.join(name), real: real.join(name) }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::key::KeyKind;
    use crate::signing::testing::{KeyDir, broken_json};
    use std::os::unix::fs::symlink;

    fn names(store: &KeyStore) -> Vec<&str> {
        store.domains().map(|k| k.domain().as_str()).collect()
    }

    #[test]
    fn one_domain_or_many() {
        let one = KeyDir::new();
        one.domain("", "contoso.com", &[KeyKind::Ed25519]);
        assert_eq!(names(&KeyStore::load(one.path()).unwrap()), ["contoso.com"]);

        let many = KeyDir::new();
        for domain in ["contoso.com", "fabrikam.com"] {
            many.domain(domain, domain, &[KeyKind::Ed25519]);
        }
        fs::create_dir(many.path().join("lost+found")).unwrap();
        fs::write(many.path().join("README"), "").unwrap();
        let store = KeyStore::load(many.path()).unwrap();
        assert_eq!(names(&store), ["contoso.com", "fabrikam.com"]);
        assert!(store.problems().is_empty());
        let sub = DomainName::parse("sub.contoso.com").unwrap();
        assert!(store.get(&sub).is_none(), "no inheritance");
        let authors = ["x.com", "fabrikam.com", "contoso.com"].map(|d| DomainName::parse(d).unwrap());
        assert_eq!(store.for_authors(&authors).unwrap().domain().as_str(), "fabrikam.com");
    }

    #[test]
    fn a_broken_domain_hinders_no_other_and_can_be_kept() {
        let dir = KeyDir::new();
        dir.domain("a", "a.com", &[KeyKind::Ed25519]);
        dir.domain("b", "b.com", &[KeyKind::Ed25519]);
        dir.domain("c", "a.com", &[KeyKind::Ed25519]);
        let good = KeyStore::load(dir.path()).unwrap();
        assert_eq!(names(&good), ["a.com", "b.com"]);
        assert!(good.problems()[0].to_string().contains("/c: it is for a.com, as "), "{:?}", good.problems());

        broken_json(&dir.path().join("b"));
        let mut now = good.reload(dir.path()).unwrap();
        assert_eq!(names(&now), ["a.com"]);
        now.keep_unreadable_from(&good);
        assert_eq!(names(&now), ["a.com", "b.com"]);

        fs::remove_dir_all(dir.path().join("b")).unwrap();
        let mut gone = now.reload(dir.path()).unwrap();
        gone.keep_unreadable_from(&now);
        assert_eq!(names(&gone), ["a.com"]);
    }

    #[test]
    fn unchanged_keys_are_taken_over() {
        let dir = KeyDir::new();
        dir.domain("a", "a.com", &[KeyKind::Ed25519]);
        dir.domain("b", "b.com", &[KeyKind::Ed25519]);
        let first = KeyStore::load(dir.path()).unwrap();
        dir.domain("b", "b.com", &[KeyKind::Ed25519]);
        let second = first.reload(dir.path()).unwrap();
        let same = |name: &str| {
            let name = DomainName::parse(name).unwrap();
            Arc::ptr_eq(first.get(&name).unwrap(), second.get(&name).unwrap())
        };
        assert!(same("a.com") && !same("b.com"));
    }

    #[test]
    fn a_mount_of_nothing_says_so() {
        let dir = KeyDir::new();
        let error = KeyStore::load(dir.path()).unwrap_err().to_string();
        assert!(error.contains("holds neither signing.json nor directories"), "{error}");
        let error = KeyStore::load(&dir.path().join("none")).unwrap_err().to_string();
        assert!(error.contains("/none: it is not there"), "{error}");
    }

    /// What kubelet does to a mounted Secret: versions in hidden directories, `..data` renamed over.
    #[test]
    fn atomic_swaps_are_never_seen_half() {
        let dir = KeyDir::new();
        let versions = ["..1", "..2"];
        for version in versions {
            dir.domain(version, "a.com", &[KeyKind::Ed25519]);
        }
        let point_at = |version: &str| {
            let (next, data) = (dir.path().join("..data_tmp"), dir.path().join("..data"));
            symlink(version, &next).unwrap();
            fs::rename(next, data).unwrap();
        };
        point_at(versions[0]);
        for file in ["signing.json", "selector1.pem"] {
            symlink(Path::new("..data").join(file), dir.path().join(file)).unwrap();
        }
        std::thread::scope(|scope| {
            let swapper = scope.spawn(|| (0..400).for_each(|n| point_at(versions[n % 2])));
            while !swapper.is_finished() {
                let store = KeyStore::load(dir.path()).unwrap();
                assert!(store.problems().is_empty(), "{:?}", store.problems());
            }
        });
    }
}
