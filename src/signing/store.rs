//! All keys below a directory: either one domain's Secret, or a directory for each domain.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as MapEntry;
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

/// All keys, by domain. It does not change: what is read again makes a new one, which shares what stayed the same.
#[derive(Debug, Default)]
pub struct KeyStore {
    /// Where keys come from (a directory, or a Secret), and what was read there.
    entries: BTreeMap<Arc<Path>, Entry>,
    domains: BTreeMap<DomainName, Arc<DomainKeys>>,
    problems: Vec<KeyDirError>,
}

/// What was read at one place.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The keys; those of before where the place cannot be read at the moment and that was wished.
    keys: Option<Arc<DomainKeys>>,
    problem: Option<KeyDirError>,
}

impl From<Result<Arc<DomainKeys>, KeyDirError>> for Entry {
    fn from(read: Result<Arc<DomainKeys>, KeyDirError>) -> Self {
        match read {
            Ok(keys) => Self { keys: Some(keys), problem: None },
            Err(problem) => Self { keys: None, problem: Some(problem) },
        }
    }
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
        settled(|| {
            let real = resolve(directory);
            let result = self.look(directory, &real);
            let unsettled = match &result {
                Ok(store) => resolve(directory) != real || store.problems.iter().any(|p| p.fault.may_pass()),
                Err(error) => error.fault.may_pass(),
            };
            (result, unsettled)
        })
    }

    /// Reads some of the domains' directories again. One that is gone is forgotten.
    #[must_use]
    pub fn reload_some(&self, directories: &[Arc<Path>]) -> Self {
        let read = |directory: &Arc<Path>| {
            let earlier = self.entries.get(directory).and_then(|entry| entry.keys.as_ref());
            let read = settled(|| {
                let read = DomainKeys::load_at(directory, directory, earlier);
                let unsettled = read.as_ref().is_err_and(|e| e.fault.may_pass()) && directory.is_dir();
                (read, unsettled)
            });
            let there = read.is_ok() || directory.is_dir();
            (Arc::clone(directory), there.then(|| read.into()))
        };
        self.with(directories.iter().map(read))
    }

    fn look(&self, shown: &Path, real: &Path) -> Result<Self, KeyDirError> {
        let mut entries = BTreeMap::new();
        for Layout { shown, real } in layouts(shown, real)? {
            let shown: Arc<Path> = shown.into();
            let earlier = self.entries.get(&shown).and_then(|entry| entry.keys.as_ref());
            let read = DomainKeys::load_at(&shown, &real, earlier);
            entries.insert(shown, read.into());
        }
        Ok(Self::of(entries))
    }

    /// All that was read at these places.
    #[must_use]
    pub fn of(entries: BTreeMap<Arc<Path>, Entry>) -> Self {
        let mut domains: BTreeMap<DomainName, Arc<DomainKeys>> = BTreeMap::new();
        let mut problems = Vec::new();
        for entry in entries.values() {
            problems.extend(entry.problem.clone());
            let Some(keys) = &entry.keys else { continue };
            match domains.entry(keys.domain().clone()) {
                MapEntry::Vacant(place) => {
                    place.insert(Arc::clone(keys));
                }
                MapEntry::Occupied(first) => {
                    let domain = first.key().clone();
                    let twice = KeyDirFault::Twice { domain, other: first.get().origin().to_owned() };
                    problems.push(twice.at(keys.origin()));
                }
            }
        }
        Self { entries, domains, problems }
    }

    /// With some places read again, or gone.
    #[must_use]
    pub fn with(&self, changes: impl IntoIterator<Item = (Arc<Path>, Option<Entry>)>) -> Self {
        let mut entries = self.entries.clone();
        for (place, entry) in changes {
            match entry {
                Some(entry) => entries.insert(place, entry),
                None => entries.remove(&place),
            };
        }
        Self::of(entries)
    }

    /// Takes over from an older store the keys of places that cannot be read at the moment, so that a file system
    /// that fails for a while does not stop the signing. Places that are gone stay gone.
    #[must_use]
    pub fn keep_unreadable_from(self, older: &Self, may_keep: impl Fn(&Path) -> bool) -> Self {
        if self.problems.is_empty() {
            return self;
        }
        let mut entries = self.entries;
        for (place, entry) in entries.iter_mut().filter(|(_, entry)| entry.problem.is_some()) {
            let kept = older.entries.get(place).and_then(|entry| entry.keys.clone());
            entry.keys = kept.filter(|_| may_keep(place));
        }
        Self::of(entries)
    }

    /// The places that could not be read, whether their earlier keys were kept or not.
    pub fn unreadable(&self) -> impl Iterator<Item = &Arc<Path>> {
        self.entries.iter().filter(|(_, entry)| entry.problem.is_some()).map(|(place, _)| place)
    }

    /// The places that could not be read and whose earlier keys are used.
    pub fn kept(&self) -> impl Iterator<Item = &Arc<Path>> {
        let kept = |(_, entry): &(&Arc<Path>, &Entry)| entry.problem.is_some() && entry.keys.is_some();
        self.entries.iter().filter(kept).map(|(place, _)| place)
    }

    /// The places that keys were looked for at.
    pub fn places(&self) -> impl Iterator<Item = &Arc<Path>> {
        self.entries.keys()
    }

    /// The keys that were read at a place.
    #[must_use]
    pub fn at(&self, place: &Path) -> Option<&Arc<DomainKeys>> {
        self.entries.get(place)?.keys.as_ref()
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

    /// How many domains there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.domains.len()
    }

    /// Whether there is no domain.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.domains.is_empty()
    }

    /// What could not be used, and why.
    #[must_use]
    pub fn problems(&self) -> &[KeyDirError] {
        &self.problems
    }
}

/// Looks a few times where the sight is one of a change under way.
fn settled<T>(mut look: impl FnMut() -> (T, bool)) -> T {
    let mut looks = 1;
    loop {
        let (result, unsettled) = look();
        if !unsettled || looks == LOOKS {
            return result;
        }
        looks += 1;
        std::thread::sleep(PAUSE);
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
        let now = good.reload(dir.path()).unwrap();
        assert_eq!(names(&now), ["a.com"]);
        assert_eq!(
            names(&good.reload(dir.path()).unwrap().keep_unreadable_from(&good, |_| false)),
            ["a.com"]
        );
        let now = now.keep_unreadable_from(&good, |_| true);
        assert_eq!(now.unreadable().collect::<Vec<_>>(), [&Arc::from(dir.path().join("b"))]);
        assert_eq!(names(&now), ["a.com", "b.com"]);

        fs::remove_dir_all(dir.path().join("b")).unwrap();
        let gone = now.reload(dir.path()).unwrap().keep_unreadable_from(&now, |_| true);
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
    fn some_can_be_read_again() {
        let dir = KeyDir::new();
        for name in ["a", "b", "c"] {
            dir.domain(name, &format!("{name}.com"), &[KeyKind::Ed25519]);
        }
        let first = KeyStore::load(dir.path()).unwrap();
        let place = |name: &str| -> Arc<Path> { dir.path().join(name).into() };
        dir.domain("a", "a.com", &[KeyKind::Ed25519]);
        dir.domain("d", "d.com", &[KeyKind::Ed25519]);
        fs::remove_dir_all(dir.path().join("c")).unwrap();
        let second = first.reload_some(&["a", "c", "d"].map(place));
        assert_eq!(names(&second), ["a.com", "b.com", "d.com"]);
        let same =
            |name: &str| Arc::ptr_eq(first.at(&place(name)).unwrap(), second.at(&place(name)).unwrap());
        assert!(!same("a") && same("b"));
        broken_json(&dir.path().join("a"));
        let third = second.reload_some(&[place("a")]);
        assert_eq!(names(&third), ["b.com", "d.com"]);
        assert_eq!(third.problems().len(), 1);
    }

    /// A domain that is there twice is signed for by the first place; where that goes, the second takes over.
    #[test]
    fn the_second_place_takes_over() {
        let dir = KeyDir::new();
        dir.domain("a", "a.com", &[KeyKind::Ed25519]);
        dir.domain("b", "a.com", &[KeyKind::Ed25519]);
        let store = KeyStore::load(dir.path()).unwrap();
        assert_eq!(store.problems().len(), 1);
        let first: Arc<Path> = dir.path().join("a").into();
        let second = store.with([(first, None)]);
        assert_eq!((names(&second), second.problems().len()), (vec!["a.com"], 0));
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
