//! Where a signer's keys come from, followed for as long as it runs: a directory of mounted Secrets, or the
//! Secrets of one namespace through the API.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use super::bundle::{Files, KeyBundle, resolve, secret_path};
use super::fault::{KeyDirError, KeyDirFault};
use super::key_secret::KeySecret;
use super::store::{Layout, layouts};
use super::watch::{Change, News, SecretWatch};
use crate::api::version_number;

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
                follow_secrets(SecretWatch::new(client, &namespace), &events).await;
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
pub(super) struct Known {
    bundles: BTreeMap<PathBuf, Arc<KeyBundle>>,
    problems: BTreeMap<PathBuf, String>,
    complete: bool,
}

impl Known {
    /// Looks once, or a few times where something seems to be in the middle of a change.
    pub(super) fn look(mut self, directory: &Path) -> (Vec<KeyEvent>, Self) {
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

async fn follow_secrets(mut watch: SecretWatch, events: &mpsc::Sender<KeyEvent>) {
    let mut known: BTreeSet<PathBuf> = BTreeSet::new();
    let mut listed: BTreeSet<PathBuf> = BTreeSet::new();
    loop {
        let news = tokio::select! {
            news = watch.next() => news,
            () = events.closed() => return,
        };
        let mut told = Vec::new();
        match news {
            News::Begun => listed.clear(),
            News::Reached => {}
            News::Page(secrets) => {
                for (path, event) in secrets.iter().map(read_secret) {
                    listed.insert(path.clone());
                    known.insert(path);
                    told.push(event);
                }
            }
            // What is listed is what counts: etcd may have been put back to an earlier state.
            News::Listed(version) => {
                told.extend(known.difference(&listed).cloned().map(KeyEvent::Gone));
                known = std::mem::take(&mut listed);
                told.extend(version_number(Some(&version)).map(KeyEvent::Version));
                told.push(KeyEvent::Complete);
            }
            News::Changed(changes, version) => {
                for change in changes {
                    let (path, event) = match change {
                        Change::Is(secret) => read_secret(&secret),
                        Change::Gone(secret) => {
                            let path = secret_path(&secret);
                            (path.clone(), KeyEvent::Gone(path))
                        }
                    };
                    if matches!(event, KeyEvent::Gone(_)) {
                        known.remove(&path);
                    } else {
                        known.insert(path);
                    }
                    told.push(event);
                }
                told.extend(version_number(Some(&version)).map(KeyEvent::Version));
            }
        }
        for event in told {
            if events.send(event).await.is_err() {
                return;
            }
        }
    }
}

fn read_secret(secret: &KeySecret) -> (PathBuf, KeyEvent) {
    let path = secret_path(secret);
    let event = match KeyBundle::from_secret(secret) {
        Ok(bundle) => KeyEvent::Keys(path.clone(), Arc::new(bundle)),
        Err(error) => KeyEvent::Broken(error),
    };
    (path, event)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::key::KeyKind;
    use crate::signing::testing::{KeyDir, broken_json};
    use k8s_openapi::ByteString;
    use k8s_openapi::api::core::v1::Secret;
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
        let (path, event) = read_secret(&secret.clone().into());
        assert_eq!(path, Path::new("mail/dkim-a.com"));
        let KeyEvent::Keys(_, bundle) = event else { panic!("{event:?}") };
        assert_eq!(bundle.signatures().next().unwrap().0.s, "selector1");
        secret.data.as_mut().unwrap().remove("selector1.pem");
        let (_, event) = read_secret(&secret.into());
        let KeyEvent::Broken(error) = event else { panic!("{event:?}") };
        assert!(error.to_string().starts_with("mail/dkim-a.com/selector1.pem: it is not there"), "{error}");
    }
}
