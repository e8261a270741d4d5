//! Where a signer's keys come from, followed for as long as it runs: a directory of mounted Secrets, or the
//! Secrets of one namespace through the API.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::api::Api;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use zeroize::Zeroize;

use super::bundle::{Files, KeyBundle, resolve, secret_path};
use super::fault::{KeyDirError, KeyDirFault};
use super::store::{Layout, layouts};
use crate::api::{LABEL_DOMAIN, LABEL_MANAGED_BY, MANAGED_BY, version_number};
use crate::model::name::DomainName;

/// How often a directory is looked at again that may be in the middle of a change.
const LOOKS: u32 = 4;
/// How long to wait between two such looks.
const PAUSE: Duration = Duration::from_millis(25);

/// Where keys come from.
pub enum KeySource {
    /// A mounted Secret, or a directory with one for each domain.
    Directory {
        /// The directory.
        path: PathBuf,
        /// How often to look at it.
        every: Duration,
    },
    /// The key Secrets of one namespace, by their label.
    Secrets {
        /// A client whose account may list and watch Secrets there.
        client: kube::Client,
        /// The namespace.
        namespace: String,
    },
}

/// What has become of the keys.
#[derive(Debug, Clone)]
pub enum KeyEvent {
    /// These are the keys from there now.
    Keys(PathBuf, Arc<KeyBundle>),
    /// What is there cannot be used: keys that were read from below that path stay good.
    Broken(KeyDirError),
    /// Nothing is there any more: signing for that domain ends. Also told of a problem that is no more.
    Gone(PathBuf),
    /// All there is has been told, and from now on each change is.
    Complete,
    /// Every change of the Secrets up to this resourceVersion has been told.
    Version(u64),
}

impl KeySource {
    /// Tells what there is, then each change, until the receiver is gone.
    pub async fn follow(self, events: mpsc::Sender<KeyEvent>) {
        match self {
            Self::Directory { path, every } => follow_directory(path, every, &events).await,
            Self::Secrets { client, namespace } => {
                follow_secrets(Api::namespaced(client, &namespace), &events).await;
            }
        }
    }
}

async fn follow_directory(path: PathBuf, every: Duration, events: &mpsc::Sender<KeyEvent>) {
    let mut known = Known::default();
    let mut interval = tokio::time::interval(every);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = interval.tick() => {}
            () = events.closed() => return,
        }
        let directory = path.clone();
        // Files are read and keys parsed: not on the threads that answer others.
        let Ok((told, after)) = spawn_blocking(move || known.look(&directory)).await else { return };
        known = after;
        for event in told {
            if events.send(event).await.is_err() {
                return;
            }
        }
    }
}

/// What was read from a directory.
#[derive(Default)]
struct Known {
    bundles: BTreeMap<PathBuf, Arc<KeyBundle>>,
    problems: BTreeMap<PathBuf, String>,
    complete: bool,
}

impl Known {
    /// Looks once, or a few times where something seems to be in the middle of a change.
    fn look(mut self, directory: &Path) -> (Vec<KeyEvent>, Self) {
        let mut look = 1;
        loop {
            let real = resolve(directory);
            let found = self.read(directory, &real);
            let unsettled = resolve(directory) != real
                || found.iter().any(|(_, result)| matches!(result, Err(e) if e.fault.may_pass()));
            if !unsettled || look == LOOKS {
                let told = self.take(directory, found);
                return (told, self);
            }
            look += 1;
            std::thread::sleep(PAUSE);
        }
    }

    fn read(&self, shown: &Path, real: &Path) -> Vec<(PathBuf, Result<Arc<KeyBundle>, KeyDirError>)> {
        let layouts = match layouts(shown, real) {
            Ok(layouts) => layouts,
            Err(error) => return vec![(shown.to_owned(), Err(error))],
        };
        let one = |Layout { shown, real }: Layout| {
            let files = Files::new(&shown, &real);
            let bundle = files.config().and_then(|raw| match self.bundles.get(&shown) {
                Some(same) if same.raw_config() == raw => Ok(Arc::clone(same)),
                _ => files.bundle(raw).map(Arc::new),
            });
            (shown, bundle)
        };
        layouts.into_iter().map(one).collect()
    }

    fn take(
        &mut self,
        directory: &Path,
        found: Vec<(PathBuf, Result<Arc<KeyBundle>, KeyDirError>)>,
    ) -> Vec<KeyEvent> {
        let mut told = Vec::new();
        let mut there: BTreeSet<PathBuf> = found.iter().map(|(path, _)| path.clone()).collect();
        let mut problems = BTreeMap::new();
        for (path, result) in found {
            match result {
                Ok(bundle) => {
                    if self.bundles.get(&path).is_none_or(|old| !Arc::ptr_eq(old, &bundle)) {
                        told.push(KeyEvent::Keys(path.clone(), Arc::clone(&bundle)));
                        self.bundles.insert(path, bundle);
                    }
                }
                Err(error) => {
                    let empty = path == directory && matches!(error.fault, KeyDirFault::NoKeys);
                    // A directory that cannot be read says nothing of what is in it; an empty one does.
                    if path == directory && !empty {
                        there.extend(self.bundles.keys().cloned());
                    }
                    problems.insert(path.clone(), error.to_string());
                    // Once, not at each look.
                    if self.problems.get(&path) != problems.get(&path) {
                        told.push(KeyEvent::Broken(error));
                    }
                }
            }
        }
        let before = std::mem::replace(&mut self.problems, problems);
        let known: BTreeSet<PathBuf> = self.bundles.keys().chain(before.keys()).cloned().collect();
        for path in known.difference(&there).cloned().collect::<Vec<_>>() {
            self.bundles.remove(&path);
            told.push(KeyEvent::Gone(path));
        }
        let seen_once = !self.bundles.is_empty() || !told.is_empty();
        if !self.complete && seen_once && !self.problems.contains_key(directory) {
            self.complete = true;
            told.push(KeyEvent::Complete);
        }
        told
    }
}

async fn follow_secrets(api: Api<Secret>, events: &mpsc::Sender<KeyEvent>) {
    // Those without a domain are no key Secrets.
    let labels = format!("{LABEL_MANAGED_BY}={MANAGED_BY},{LABEL_DOMAIN}");
    let stream = watcher(api, watcher::Config::default().labels(&labels)).default_backoff();
    let mut stream = std::pin::pin!(stream);
    let mut known: BTreeSet<PathBuf> = BTreeSet::new();
    let mut listed: Option<BTreeSet<PathBuf>> = None;
    // A list shows at least what the newest of its objects was written with.
    let mut version: Option<u64> = None;
    loop {
        let event = tokio::select! {
            event = stream.next() => event,
            () = events.closed() => return,
        };
        let mut told = Vec::new();
        match event {
            None => return,
            Some(Err(error)) => {
                tracing::warn!(%error, "the key Secrets cannot be watched; what was read before stays good");
            }
            // What is listed is what counts: etcd may have been put back to an earlier state.
            Some(Ok(Event::Init)) => (listed, version) = (Some(BTreeSet::new()), None),
            Some(Ok(Event::InitApply(secret) | Event::Apply(secret))) => {
                version = version.max(version_number(secret.metadata.resource_version.as_deref()));
                let (path, event) = read_secret(secret);
                if let Some(listed) = &mut listed {
                    listed.insert(path.clone());
                }
                known.insert(path);
                told.push(event);
                told.extend(version.filter(|_| listed.is_none()).map(KeyEvent::Version));
            }
            Some(Ok(Event::Delete(secret))) => {
                let path = secret_path(&secret);
                known.remove(&path);
                version = version.max(version_number(secret.metadata.resource_version.as_deref()));
                wipe(secret);
                told.push(KeyEvent::Gone(path));
                told.extend(version.map(KeyEvent::Version));
            }
            Some(Ok(Event::InitDone)) => {
                let there = listed.take().unwrap_or_default();
                told.extend(known.difference(&there).cloned().map(KeyEvent::Gone));
                known = there;
                told.extend(version.map(KeyEvent::Version));
                told.push(KeyEvent::Complete);
            }
        }
        for event in told {
            if events.send(event).await.is_err() {
                return;
            }
        }
    }
}

fn read_secret(secret: Secret) -> (PathBuf, KeyEvent) {
    let path = secret_path(&secret);
    let event = match KeyBundle::from_secret(&secret) {
        Ok(bundle) => KeyEvent::Keys(path.clone(), Arc::new(bundle)),
        Err(error) => KeyEvent::Broken(error),
    };
    wipe(secret);
    (path, event)
}

/// The copy of the keys that came from the API server.
fn wipe(secret: Secret) {
    for (_, mut bytes) in secret.data.into_iter().flatten() {
        bytes.0.zeroize();
    }
}

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
    use super::*;
    use crate::model::key::KeyKind;
    use crate::signing::testing::{KeyDir, broken_json};
    use k8s_openapi::ByteString;
    use kube::api::ObjectMeta;
    use std::fs;

    fn names(told: &[KeyEvent]) -> Vec<String> {
        let base = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let name = |event: &KeyEvent| match event {
            KeyEvent::Keys(path, _) => format!("keys {}", base(path)),
            KeyEvent::Broken(error) => format!("broken {}", base(error.path.parent().unwrap())),
            KeyEvent::Gone(path) => format!("gone {}", base(path)),
            KeyEvent::Complete => "complete".to_owned(),
            KeyEvent::Version(version) => format!("version {version}"),
        };
        told.iter().map(name).collect()
    }

    #[test]
    fn a_directory_tells_each_change_once() {
        let dir = KeyDir::new();
        dir.domain("a", "a.com", &[KeyKind::Ed25519]);
        dir.domain("b", "b.com", &[KeyKind::Ed25519]);
        let (told, known) = Known::default().look(dir.path());
        assert_eq!(names(&told), ["keys a", "keys b", "complete"]);
        let (told, known) = known.look(dir.path());
        assert!(told.is_empty());

        dir.domain("a", "a.com", &[KeyKind::Ed25519]);
        broken_json(&dir.path().join("b"));
        let (told, known) = known.look(dir.path());
        assert_eq!(names(&told), ["keys a", "broken b"]);
        let (told, known) = known.look(dir.path());
        assert!(told.is_empty(), "known already: {told:?}");

        fs::remove_dir_all(dir.path().join("b")).unwrap();
        let (told, known) = known.look(dir.path());
        assert_eq!(names(&told), ["gone b"]);
        fs::remove_dir_all(dir.path().join("a")).unwrap();
        let (told, known) = known.look(dir.path());
        assert_eq!(told.len(), 2, "empty, and says so: {told:?}");
        assert!(known.bundles.is_empty());
    }

    #[test]
    fn a_directory_that_cannot_be_read_takes_nothing_away() {
        let dir = KeyDir::new();
        dir.domain("in/a", "a.com", &[KeyKind::Ed25519]);
        let (_, known) = Known::default().look(&dir.path().join("in"));
        fs::rename(dir.path().join("in"), dir.path().join("out")).unwrap();
        let (told, known) = known.look(&dir.path().join("in"));
        assert!(matches!(told.as_slice(), [KeyEvent::Broken(_)]), "{told:?}");
        assert_eq!(known.bundles.len(), 1);
    }

    #[test]
    fn nothing_is_complete_before_there_was_anything() {
        let dir = KeyDir::new();
        let (told, known) = Known::default().look(dir.path());
        assert!(matches!(told.as_slice(), [KeyEvent::Broken(_)]), "{told:?}");
        dir.domain("a", "a.com", &[KeyKind::Ed25519]);
        let told = names(&known.look(dir.path()).0);
        assert_eq!((told[0].as_str(), told.last().unwrap().as_str()), ("keys a", "complete"));
    }

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

    #[test]
    fn a_secret_is_read_like_its_mount() {
        let dir = KeyDir::new();
        dir.domain("", "a.com", &[KeyKind::Ed25519]);
        let read = |name: &str| (name.to_owned(), ByteString(fs::read(dir.path().join(name)).unwrap()));
        let mut secret = Secret {
            metadata: ObjectMeta {
                namespace: Some("mail".into()),
                name: Some("dkim-a.com".into()),
                ..ObjectMeta::default()
            },
            data: Some([read("signing.json"), read("selector1.pem")].into()),
            ..Secret::default()
        };
        let (path, event) = read_secret(secret.clone());
        assert_eq!(path, Path::new("mail/dkim-a.com"));
        let KeyEvent::Keys(_, bundle) = event else { panic!("{event:?}") };
        assert_eq!(bundle.signatures().next().unwrap().0.s, "selector1");
        secret.data.as_mut().unwrap().remove("selector1.pem");
        let (_, event) = read_secret(secret);
        let KeyEvent::Broken(error) = event else { panic!("{event:?}") };
        assert!(error.to_string().starts_with("mail/dkim-a.com/selector1.pem: it is not there"), "{error}");
    }
}
