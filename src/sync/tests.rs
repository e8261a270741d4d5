//! A whole sync, with keys in a directory and a `sleep` for a signer.

use std::path::Path;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::time::sleep;

use super::pace::LONGEST_PAUSE;
use super::work::LOOK;
use super::*;
use crate::model::key::KeyKind;
use crate::signing::testing::{KeyDir, reporter};

struct Stage {
    keys: KeyDir,
    files: tempfile::TempDir,
    reporter: Reporter,
    _stop: tokio::sync::oneshot::Sender<()>,
}

const HOLD: Duration = Duration::from_secs(120);

impl Stage {
    fn start(grace: Duration, with_pid_file: bool) -> Self {
        Self::start_with(grace, with_pid_file, "", &[])
    }

    /// With something in the pid file, and a hook.
    fn start_with(grace: Duration, with_pid_file: bool, pid: &str, hook: &[&str]) -> Self {
        let (keys, files) = (KeyDir::new(), tempfile::tempdir().unwrap());
        let reporter = reporter().for_another(HOLD);
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let stage = Self { keys, files, reporter, _stop: stop };
        stage.new_key();
        if !pid.is_empty() {
            std::fs::write(stage.pid_file(), pid).unwrap();
        }
        let options = SyncOptions {
            format: Format::Exim,
            directory: stage.files.path().join("out"),
            owner: Owner::default(),
            grace,
            tell: Tell {
                pid_file: with_pid_file.then(|| (stage.pid_file(), ReloadSignal::Hup)),
                process: "sleep".to_owned(),
                hook: hook.iter().map(std::ffi::OsString::from).collect(),
                hook_timeout: Duration::from_secs(5),
            },
            once: None,
            reporter: Some(stage.reporter.clone()),
            hold: HOLD,
            ends_with_signer: false,
        };
        let path = stage.keys.path().to_owned();
        let source = KeySource::Directory { path, every: Duration::from_millis(20) };
        tokio::spawn(async move {
            let metrics = Metrics::default();
            let ended = async { stopped.await.unwrap_or_default() };
            run(source, options, &metrics, watch::channel(false).0, ended).await.unwrap();
        });
        stage
    }

    fn new_key(&self) {
        self.keys.domain("a", "a.com", &[KeyKind::Ed25519]);
    }

    fn pid_file(&self) -> std::path::PathBuf {
        self.files.path().join("pid")
    }

    fn key_files(&self) -> usize {
        std::fs::read_dir(self.files.path().join("out/keys")).map_or(0, Iterator::count)
    }

    /// The key that is reported to be in use, and whether that is the last word.
    fn said(&self) -> (Option<String>, bool) {
        let (report, last) = self.reporter.said();
        (report.and_then(|report| report.keys.get("a.com")?.first().cloned()), last)
    }

    fn signer(&self) -> Child {
        let child = signer();
        self.show(&child);
        child
    }

    /// Waits until anything is said of keys, and for a while.
    async fn any_key(&self) {
        let begun = Instant::now();
        while self.reporter.said().0.is_none() {
            assert!(begun.elapsed() < UNKNOWN_AFTER * 3);
            sleep(LOOK).await;
        }
        sleep(UNKNOWN_AFTER).await;
        assert_eq!(self.reporter.said().0.and_then(|report| report.version), Some(0));
    }

    fn show(&self, signer: &Child) {
        let new = self.pid_file().with_extension("new");
        std::fs::write(&new, signer.id().unwrap().to_string()).unwrap();
        std::fs::rename(new, self.pid_file()).unwrap();
    }
}

fn signer() -> Child {
    let child = Command::new("sleep").arg("60").kill_on_drop(true).spawn().unwrap();
    // It is a `sleep` only once it has been started.
    while name_of(&child) != "sleep" {
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

fn name_of(child: &Child) -> String {
    let path = format!("/proc/{}/comm", child.id().unwrap());
    std::fs::read_to_string(Path::new(&path)).unwrap().trim().to_owned()
}

async fn until(what: &str, check: impl Fn() -> bool) {
    for _ in 0..1000 {
        if check() {
            return;
        }
        sleep(Duration::from_millis(20)).await;
    }
    panic!("{what}");
}

#[tokio::test]
async fn a_change_does_not_wait_for_the_old_files_of_the_one_before() {
    let stage = Stage::start(HOLD, false);
    for number in 1..=3 {
        until(&format!("key {number} is there"), || stage.key_files() == number).await;
        stage.new_key();
    }
}

/// It may run all the same, and go on with what it has read.
#[tokio::test]
async fn a_signer_that_is_not_found_counts_as_told_of_nothing() {
    let stage = Stage::start(Duration::from_millis(100), true);
    until("the files are there, and it is looked for", || stage.key_files() == 1 && stage.said().1).await;
    assert_eq!(stage.said().0, None, "nothing was said of it yet");
    // One that begins now has read them; the kernel says when in hundredths of a second.
    sleep(Duration::from_millis(50)).await;
    let mut signer = stage.signer();
    until("it is found", || !stage.said().1).await;
    let (first, _) = stage.said();
    assert!(first.is_some());

    std::fs::remove_file(stage.pid_file()).unwrap();
    stage.new_key();
    until("the new file is there, and it is looked for", || stage.key_files() == 2 && stage.said().1).await;
    sleep(Duration::from_millis(1500)).await;
    assert_eq!((stage.said(), stage.key_files()), ((first.clone(), true), 2), "as it was, grace or not");
    let words = stage.reporter.words();
    stage.new_key();
    until("one more is there", || stage.key_files() == 3).await;
    sleep(Duration::from_millis(200)).await;
    assert_eq!(
        (stage.reporter.words(), stage.said().1),
        (words, true),
        "what changes later holds nothing for longer"
    );

    assert_eq!(signer.try_wait().unwrap(), None, "it got no signal yet");
    stage.show(&signer);
    signer.wait().await.unwrap();
    until("it was told", || !stage.said().1).await;
    assert_ne!(stage.said().0, first);
    until("what is old goes after the grace", || stage.key_files() == 1).await;
}

/// Else a wrong pid file would look like a signer that reports nothing, which is trusted to follow.
#[tokio::test(start_paused = true)]
async fn of_one_that_is_never_found_it_is_said_that_it_may_use_any_key() {
    let stage = Stage::start(HOLD, true);
    let begun = Instant::now();
    until("the files are there", || stage.key_files() == 1).await;
    stage.any_key().await;
    assert!(begun.elapsed() >= UNKNOWN_AFTER);
    assert!(stage.said().1);
}

/// It goes on with what it has read, for as long as that is so: the report is renewed.
#[tokio::test(start_paused = true)]
async fn of_one_that_could_never_be_told_it_is_said_that_it_may_use_any_key() {
    for (pid, hook) in [("x", &[][..]), ("", &["false"])] {
        let stage = Stage::start_with(HOLD, !pid.is_empty(), pid, hook);
        stage.any_key().await;
        assert!(!stage.said().1, "{hook:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_is_found_and_cannot_be_told_is_not_given_up() {
    let stage = Stage::start(Duration::from_millis(100), true);
    until("it is looked for", || stage.said().1).await;
    stage.new_key();
    until("a new key", || stage.key_files() == 2).await;
    std::fs::write(stage.pid_file(), "x").unwrap();
    until("it is there, and cannot be told", || !stage.said().1).await;
    stage.any_key().await;
    sleep(HOLD * 2).await;
    assert_eq!((stage.key_files(), stage.said().1), (2, false), "it may use what is old");
    std::fs::remove_file(stage.pid_file()).unwrap();
    sleep(LONGEST_PAUSE).await;
    assert!(stage.said().1, "it is lost again");
    let _signer = stage.signer();
    until("it is found", || stage.said().0.is_some() && !stage.said().1).await;
}

#[tokio::test]
async fn one_that_has_only_just_begun_is_told_in_a_moment_and_was_never_lost() {
    let mut signer = signer();
    // Before the files are written, on a clock that ticks in hundredths.
    sleep(Duration::from_millis(50)).await;
    let stage = Stage::start_with(HOLD, true, &signer.id().unwrap().to_string(), &[]);
    until("the files are there", || stage.key_files() == 1).await;
    while signer.try_wait().unwrap().is_none() {
        assert!(!stage.said().1);
        sleep(Duration::from_millis(20)).await;
    }
    until("it was told", || stage.said().0.is_some()).await;
    assert!(!stage.said().1);
}
