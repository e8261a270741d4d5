//! A crash between any two operations on files, and a signer that reads each table at a moment of its own.

use super::*;
use crate::api::signing_config::{FORMAT_VERSION, SignatureConfig};
use crate::model::key::{Algorithm, KeyFingerprint};
use crate::model::name::DomainName;
use crate::signing::testing::signature_config;
use crate::sync::disk::Owner;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use zeroize::Zeroizing;

const GRACE: Duration = Duration::from_secs(60);
const FORMATS: [Format; 3] = [Format::Opendkim, Format::Rspamd, Format::Exim];

/// `d=`, `s=` and the key's number.
type Triple = (&'static str, &'static str, u32);

const OWN: &str = "contoso.com";
const PROVIDER: &str = "contoso.onmail.example";

/// Signed as the provider, then as the domain, through four rotations, with a second signature, not at all, and
/// again; another domain comes and goes beside it.
fn story() -> Vec<Vec<(&'static str, Vec<Triple>)>> {
    let other = ("fabrikam.com", vec![("fabrikam.com", "a", 50)]);
    vec![
        vec![(OWN, vec![(PROVIDER, "selector1-contoso-com", 1)])],
        vec![(OWN, vec![(OWN, "selector1", 1)]), other.clone()],
        vec![(OWN, vec![(OWN, "selector2", 2)]), other.clone()],
        vec![(OWN, vec![(OWN, "selector1", 3)]), ("fabrikam.com", vec![("fabrikam.com", "b", 51)])],
        vec![(OWN, vec![(OWN, "selector2", 4), (OWN, "other1", 20)])],
        vec![(OWN, vec![(PROVIDER, "selector2-contoso-com", 4)]), other.clone()],
        vec![other],
        vec![(OWN, vec![(OWN, "selector1", 5)])],
        vec![],
    ]
}

fn file(number: u32) -> String {
    format!("{number:032x}.pem")
}

fn wanted(step: &[(&str, Vec<Triple>)]) -> Wanted {
    let mut wanted = Wanted::default();
    for (domain, triples) in step {
        let signature = |(d, s, number): &Triple| SignatureConfig {
            d: (*d).to_owned(),
            s: (*s).to_owned(),
            key_file: file(*number),
            fingerprint: KeyFingerprint::of(&number.to_be_bytes()),
            serial: u64::from(*number),
            ..signature_config(Algorithm::Rsa)
        };
        wanted.sets.push(SigningConfig {
            format_version: FORMAT_VERSION,
            domain: DomainName::parse(domain).unwrap(),
            signatures: triples.iter().map(signature).collect(),
        });
        for (_, _, number) in triples {
            wanted.keys.insert(file(*number), Zeroizing::new(format!("key {number}").into_bytes()));
        }
    }
    wanted
}

/// In memory, where there is such a place: thousands of files are synced to disk here.
fn directory() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    tempfile::tempdir_in(place).unwrap()
}

/// Every file by its path; links by where they lead.
type Snapshot = BTreeMap<String, String>;

fn snapshot(root: &Path) -> Snapshot {
    let mut all = Snapshot::new();
    for directory in ["", KEYS, "names"] {
        for entry in std::fs::read_dir(root.join(directory)).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with('.') || entry.file_type().unwrap().is_dir() {
                continue;
            }
            let path = entry.path();
            let text = match std::fs::read_link(&path) {
                Ok(target) => target.display().to_string(),
                Err(_) => std::fs::read_to_string(&path).unwrap(),
            };
            all.insert(format!("{directory}/{name}").trim_start_matches('/').to_owned(), text);
        }
    }
    all
}

/// What one look at a table gives.
struct Reader<'a>(&'a dyn Fn(&str) -> Option<String>);

impl Reader<'_> {
    /// The row with this key in it.
    fn row(&self, table: &str, key: &str, separator: &str) -> Option<String> {
        let text = (self.0)(table)?;
        let rows = text.lines().filter_map(|line| line.split_once(separator));
        rows.filter(|(k, _)| *k == key).map(|(_, v)| v.trim().to_owned()).next()
    }

    fn list(&self, table: &str, key: &str) -> Vec<String> {
        let row = self.row(table, key, ": ").unwrap_or_default();
        row.split(" : ").filter(|item| !item.is_empty()).map(str::to_owned).collect()
    }
}

/// `d=`, `s=` and key file of each signature that the signer makes; `None` for a key that it does not find.
type Found = Vec<(String, String, Option<String>)>;

fn base(path: &str) -> String {
    path.rsplit('/').next().unwrap().to_owned()
}

/// What a signer does for a domain, in each way of reading its tables.
fn resolve(format: Format, domain: &str, read: &Reader<'_>) -> Vec<(&'static str, Found)> {
    match format {
        Format::Opendkim => {
            let signing = (read.0)("SigningTable").unwrap_or_default();
            let prefix = format!("*@{domain} ");
            let names = signing.lines().filter_map(|line| line.strip_prefix(&prefix).map(str::to_owned));
            let one = |name: String| match read.row("KeyTable", &name, " ") {
                Some(row) => {
                    let [d, s, path] = row.splitn(3, ':').collect::<Vec<_>>().try_into().unwrap();
                    (d.to_owned(), s.to_owned(), Some(base(path)))
                }
                None => (String::new(), name, None),
            };
            vec![("tables", names.map(one).collect())]
        }
        Format::Exim => {
            let mut found = Found::new();
            for d in read.list("domains", domain) {
                for s in read.list("selectors", &format!("{domain}/{d}")) {
                    let key = read.row("private-keys", &format!("{s}._domainkey.{d}"), ": ");
                    found.push((d.clone(), s, key.map(|path| base(&path))));
                }
            }
            vec![("lookups", found)]
        }
        Format::Rspamd => {
            let mut maps = Found::new();
            if let Some(s) = read.row("selector_map", domain, " ") {
                let path = read.row("path_map", domain, " ");
                let link = path.map(|p| p.replace("$selector", &s).replace("$domain", domain));
                let key = link.and_then(|link| (read.0)(&format!("names/{}", base(&link))));
                maps.push((domain.to_owned(), s, key.map(|target| base(&target))));
            }
            let row = read.row("signatures.map", domain, " ").unwrap_or_default();
            let one = |text: &str| {
                let parts: Vec<&str> = text.split_whitespace().map(|p| &p[2..]).collect();
                (parts[0].to_owned(), parts[1].to_owned(), Some(base(parts[2])))
            };
            vec![("maps", maps), ("signatures", row.split(';').filter(|t| !t.is_empty()).map(one).collect())]
        }
        _ => unreachable!(),
    }
}

fn allowed(step: &[(&str, Vec<Triple>)], domain: &str) -> Vec<(String, String, String)> {
    let triples = step.iter().filter(|(d, _)| *d == domain).flat_map(|(_, triples)| triples);
    triples.map(|(d, s, number)| ((*d).to_owned(), (*s).to_owned(), file(*number))).collect()
}

/// Every signature is one of the step or the one before it, made with a key that is there and is the right one.
fn check(
    format: Format,
    steps: &[&[(&str, Vec<Triple>)]],
    keys: &Snapshot,
    read: &Reader<'_>,
    may_miss: bool,
) {
    for domain in [OWN, "fabrikam.com"] {
        let allowed: Vec<_> = steps.iter().flat_map(|step| allowed(step, domain)).collect();
        for (way, found) in resolve(format, domain, read) {
            for (d, s, key) in found {
                let Some(key) = key else {
                    assert!(may_miss, "{format:?} {way}: no key for {domain} d={d} s={s}");
                    continue;
                };
                let text = keys.get(&format!("{KEYS}/{key}"));
                let number = u32::from_str_radix(key.trim_end_matches(".pem"), 16).unwrap();
                assert_eq!(text, Some(&format!("key {number}")), "{format:?} {way}: {domain} d={d} s={s}");
                assert!(
                    allowed.contains(&(d.clone(), s.clone(), key.clone())),
                    "{format:?} {way}: {domain} d={d} s={s} {key}"
                );
            }
        }
    }
}

fn check_snapshot(format: Format, steps: &[&[(&str, Vec<Triple>)]], now: &Snapshot) {
    let read = |path: &str| now.get(path).cloned();
    check(format, steps, now, &Reader(&read), false);
}

fn keeper(root: &Path, format: Format, before: crate::sync::disk::Before) -> Result<Keeper, SyncError> {
    Keeper::new(Disk::open_with(root, Owner::default(), before)?, root, format, GRACE)
}

#[test]
fn no_moment_and_no_order_of_reading_mixes_two_versions() {
    for format in FORMATS {
        let dir = directory();
        let root = dir.path().join("out");
        let seen: Arc<Mutex<Vec<Snapshot>>> = Arc::default();
        let (watch, looked_at) = (Arc::clone(&seen), root.clone());
        let before = move |_: &'static str| {
            watch.lock().unwrap().push(snapshot(&looked_at));
            Ok(())
        };
        let mut keeper = keeper(&root, format, Box::new(before)).unwrap();
        let mut now = Duration::ZERO;
        let story = story();
        for (at, step) in story.iter().enumerate() {
            let earlier = at.checked_sub(1).map_or(&[][..], |at| &story[at]);
            let steps = [earlier, step];
            seen.lock().unwrap().clear();
            seen.lock().unwrap().push(snapshot(&root));
            keeper.write(&wanted(step), false).unwrap();
            let last = snapshot(&root);
            let mut window = std::mem::take(&mut *seen.lock().unwrap());
            window.push(last.clone());
            for moment in &window {
                check_snapshot(format, &steps, moment);
            }
            // Each table from a moment of its own: all pairs are enough to meet every mixture of two versions.
            for (i, first) in window.iter().enumerate() {
                for (j, second) in window.iter().enumerate() {
                    let chooses = |path: &str| {
                        ["SigningTable", "selector_map", "signatures.map", "domains"].contains(&path)
                    };
                    let read =
                        |path: &str| if chooses(path) { first.get(path) } else { second.get(path) }.cloned();
                    check(format, &steps, &last, &Reader(&read), j < i);
                    let middle = |path: &str| {
                        if path == "selectors" { first.get(path) } else { second.get(path) }.cloned()
                    };
                    check(format, &steps, &last, &Reader(&middle), true);
                }
            }
            assert_eq!(keeper.due(now), Due::Tell);
            keeper.told(now).unwrap();
            now += GRACE - Duration::from_secs(1);
            keeper.retire(now).unwrap();
            assert_eq!(snapshot(&root), last, "nothing goes before its time");
            now += Duration::from_secs(1);
            seen.lock().unwrap().clear();
            keeper.retire(now).unwrap();
            seen.lock().unwrap().push(snapshot(&root));
            for moment in seen.lock().unwrap().iter() {
                check_snapshot(format, &[step], moment);
            }
            assert_eq!(keeper.due(now), Due::Nothing);
            let keys: Vec<String> = keeper.list(KEYS).unwrap();
            let expected: BTreeSet<String> = wanted(step).keys.into_keys().collect();
            assert_eq!(keys.into_iter().collect::<BTreeSet<_>>(), expected);
        }
    }
}

/// The whole story with a crash at the n-th operation, for every n.
fn crash_at(format: Format, n: usize) -> bool {
    let dir = directory();
    let root = dir.path().join("out");
    let counted = Arc::new(Mutex::new(0));
    let crashing = || -> crate::sync::disk::Before {
        let counted = Arc::clone(&counted);
        Box::new(move |_| {
            let mut count = counted.lock().unwrap();
            *count += 1;
            if *count == n { Err(io::Error::other("crash")) } else { Ok(()) }
        })
    };
    let mut crashed = false;
    let mut keeper_now = None;
    let mut now = Duration::ZERO;
    let story = story();
    for (at, step) in story.iter().enumerate() {
        let earlier = at.checked_sub(1).map_or(&[][..], |at| &story[at]);
        let wanted = wanted(step);
        let mut go = |keeper: &mut Option<Keeper>| -> Result<(), SyncError> {
            if keeper.is_none() {
                *keeper = Some(super::tests::keeper(&root, format, crashing())?);
            }
            let keeper = keeper.as_mut().unwrap();
            keeper.write(&wanted, false)?;
            keeper.told(now)?;
            now += GRACE;
            keeper.retire(now)
        };
        if go(&mut keeper_now).is_err() {
            crashed = true;
            // What a process that is gone leaves behind is what it had done; the next one begins with that.
            keeper_now = None;
            check_snapshot(format, &[earlier, step], &snapshot(&root));
            go(&mut keeper_now).unwrap();
        }
        check_snapshot(format, &[step], &snapshot(&root));
        let keeper = keeper_now.as_mut().unwrap();
        let keys: BTreeSet<String> = keeper.list(KEYS).unwrap().into_iter().collect();
        assert_eq!(keys, wanted.keys.into_keys().collect(), "{format:?}: crash at {n}, step {at}");
        let left = std::fs::read_dir(&root).unwrap().flatten();
        assert!(!left.into_iter().any(|e| e.file_name().to_string_lossy().starts_with(".tmp")));
    }
    crashed
}

#[test]
fn a_crash_between_any_two_operations_leaves_good_files() {
    for format in FORMATS {
        let mut n = 1;
        while crash_at(format, n) {
            n += 1;
        }
        assert!(n > 150, "{format:?}: {n} operations are too few to be the story");
    }
}

#[test]
fn what_cannot_be_read_any_more_stays_as_it_was() {
    let dir = directory();
    let root = dir.path().join("out");
    let mut keeper = keeper(&root, Format::Opendkim, Box::new(|_| Ok(()))).unwrap();
    let step = &story()[1];
    keeper.write(&wanted(step), false).unwrap();
    keeper.told(Duration::ZERO).unwrap();
    let before = snapshot(&root);
    keeper.write(&wanted(&step[..1]), true).unwrap();
    assert_eq!(snapshot(&root), before);
    assert_eq!(keeper.due(Duration::ZERO), Due::Nothing);
    keeper.write(&wanted(&step[..1]), false).unwrap();
    assert!(!snapshot(&root)["SigningTable"].contains("fabrikam"));
}

#[test]
fn a_signer_that_cannot_be_told_keeps_its_keys() {
    let dir = directory();
    let root = dir.path().join("out");
    let mut keeper = keeper(&root, Format::Exim, Box::new(|_| Ok(()))).unwrap();
    let story = story();
    keeper.write(&wanted(&story[1]), false).unwrap();
    keeper.told(Duration::ZERO).unwrap();
    keeper.write(&wanted(&story[2]), false).unwrap();
    let late = GRACE * 100;
    keeper.retire(late).unwrap();
    assert!(snapshot(&root).contains_key(&format!("{KEYS}/{}", file(1))), "it was not told");
    keeper.told(late).unwrap();
    assert_eq!(keeper.due(late), Due::Retire(GRACE));
    // Signed with again meanwhile: its time begins anew.
    keeper.write(&wanted(&story[1]), false).unwrap();
    keeper.told(late).unwrap();
    keeper.retire(late + GRACE).unwrap();
    assert!(snapshot(&root).contains_key(&format!("{KEYS}/{}", file(1))));
    assert!(!snapshot(&root).contains_key(&format!("{KEYS}/{}", file(2))));
}

#[test]
fn modes_are_those_of_secrets_whatever_they_were() {
    use std::os::unix::fs::PermissionsExt;
    let dir = directory();
    let root = dir.path().join("out");
    let mode = |path: &str| std::fs::metadata(root.join(path)).unwrap().permissions().mode() & 0o7777;
    let mut keeper = keeper(&root, Format::Exim, Box::new(|_| Ok(()))).unwrap();
    let key = format!("{KEYS}/{}", file(1));
    keeper.write(&wanted(&story()[0]), false).unwrap();
    std::fs::set_permissions(root.join(&key), std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::write(root.join("domains"), "edited by hand").unwrap();
    keeper.write(&wanted(&story()[0]), false).unwrap();
    for path in [key.as_str(), "domains", "selectors", "private-keys", ".sync.json"] {
        assert_eq!(mode(path), 0o600, "{path}");
    }
    assert_eq!((mode(""), mode(KEYS)), (0o700, 0o700));
    assert!(!snapshot(&root)["domains"].contains("edited"));
    drop(keeper);
    std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o777)).unwrap();
    let open = || Disk::open(&root, Owner::default()).err().unwrap().to_string();
    assert!(open().contains("everybody may write there"));
    std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o700)).unwrap();
    let _held = Disk::open(&root, Owner::default()).unwrap();
    assert!(open().contains("another sync keeps this directory"));
    assert!(
        Disk::open(Path::new("/tmp/a:b"), Owner::default()).err().unwrap().to_string().contains("a meaning")
    );
}
