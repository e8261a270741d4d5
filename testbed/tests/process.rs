//! Processes: started, ended, and never left behind.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use dkim_testbed::{Scratch, Signal, Spec, eventually};

type Outcome = std::result::Result<(), Box<dyn std::error::Error>>;

/// Set for a process that this test file starts from itself.
const CHILD: &str = "DKIM_TESTBED_TEST_CHILD";

fn gone(pid: u32) -> bool {
    // A process that has ended, and that nobody waits for, is a zombie.
    std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
}

async fn number_in(path: &Path) -> Result<u32, dkim_testbed::Error> {
    eventually(Duration::from_secs(5), "the file holds a process id", || async {
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
        text.lines().next().unwrap_or_default().parse::<u32>().map_err(|error| format!("{error}: {text:?}"))
    })
    .await
}

#[tokio::test]
async fn runs_logs_restarts() -> Outcome {
    let scratch = Scratch::new("test")?;
    let script = r#"echo "hello $NAME"; exit 3"#;
    let spec = Spec::new("hello", "/bin/sh", scratch.join("log")).args(["-c", script]).env("NAME", "there");
    let mut process = spec.spawn()?;
    assert_eq!(process.wait(Duration::from_secs(5)).await?.code(), Some(3));
    process.restart().await?;
    assert_eq!(process.wait(Duration::from_secs(5)).await?.code(), Some(3));
    assert_eq!(process.log_text(), "hello there\nhello there\n");
    assert_eq!(process.log_tail(1), "hello there");
    assert!(process.signal(Signal::TERM).is_err());
    Ok(())
}

#[tokio::test]
async fn what_does_not_heed_term_is_killed_with_its_group() -> Outcome {
    let scratch = Scratch::new("test")?;
    let script = "trap '' TERM; sleep 1000 & echo $!; while :; do sleep 0.05; done";
    let spec = Spec::new("stubborn", "/bin/sh", scratch.join("log")).args(["-c", script]);
    let mut process = spec.stop_within(Duration::from_millis(300)).spawn()?;
    let grandchild = number_in(process.log()).await?;
    let started = Instant::now();
    process.stop().await?;
    assert!(started.elapsed() >= Duration::from_millis(300));
    eventually(Duration::from_secs(2), "the grandchild is gone", || async {
        if gone(grandchild) { Ok(()) } else { Err("it is there") }
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn a_start_that_fails_shows_the_log() -> Outcome {
    let scratch = Scratch::new("test")?;
    let spec =
        Spec::new("broken", "/bin/sh", scratch.join("log")).args(["-c", "echo 'no such luck' >&2; exit 7"]);
    let mut process = spec.spawn()?;
    let never = || async { Err::<(), _>("not yet") };
    let failed = process.ready(Duration::from_secs(5), "it answers", never).await;
    let text = failed.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(text.contains("broken did not start: it ended with exit status: 7"), "{text}");
    assert!(text.ends_with("no such luck"), "{text}");
    Ok(())
}

#[tokio::test]
async fn one_that_is_paused_can_be_ended() -> Outcome {
    let scratch = Scratch::new("test")?;
    for explicit in [true, false] {
        let mut process = Spec::new("sleep", "sleep", scratch.join("log")).arg("1000").spawn()?;
        process.pause().await?;
        let (pid, started) = (process.pid(), Instant::now());
        if explicit {
            process.stop().await?;
        }
        drop(process);
        assert!(gone(pid) && started.elapsed() < Duration::from_secs(2));
    }
    Ok(())
}

#[tokio::test]
async fn dropping_ends_it() -> Outcome {
    let scratch = Scratch::new("test")?;
    let process = Spec::new("sleep", "sleep", scratch.join("log")).arg("1000").spawn()?;
    let pid = process.pid();
    assert!(process.usage()?.resident > 0);
    drop(process);
    assert!(gone(pid));
    Ok(())
}

/// Started from the next test only: starts a process on a thread that ends, and waits to be killed.
#[test]
fn child_that_is_killed() -> Outcome {
    let Some(report) = std::env::var_os(CHILD).map(PathBuf::from) else { return Ok(()) };
    let scratch = Scratch::new("test")?;
    let log = scratch.join("log");
    let start = move || Spec::new("sleep", "sleep", log).arg("1000").spawn();
    let process = std::thread::spawn(start).join().map_err(|_| "thread")??;
    std::thread::sleep(Duration::from_millis(200));
    assert!(!gone(process.pid()));
    std::fs::write(report, format!("{}\n{}\n", process.pid(), scratch.path().display()))?;
    std::thread::sleep(Duration::from_secs(60));
    Ok(())
}

#[tokio::test]
async fn all_is_gone_when_the_parent_is_killed() -> Outcome {
    let report = tempfile::tempdir()?.keep().join("report");
    let mut parent = Command::new(std::env::current_exe()?)
        .args(["--exact", "child_that_is_killed"])
        .env(CHILD, &report)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let pid = number_in(&report).await?;
    let text = std::fs::read_to_string(&report)?;
    let directory = PathBuf::from(text.lines().nth(1).unwrap_or_default());
    assert!(!gone(pid) && directory.is_dir());
    parent.kill()?;
    parent.wait()?;
    eventually(Duration::from_secs(5), "process and directory are gone", || async {
        if gone(pid) && !directory.exists() { Ok(()) } else { Err("something is left") }
    })
    .await?;
    std::fs::remove_dir_all(report.parent().ok_or("no parent")?)?;
    Ok(())
}

#[tokio::test]
async fn waiting_in_vain_says_for_what() {
    let failed =
        eventually(Duration::from_millis(50), "pigs fly", || async { Err::<(), _>("still grounded") }).await;
    let text = failed.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(text.contains("until pigs fly") && text.ends_with("still grounded"), "{text}");
    let hangs =
        eventually(Duration::from_millis(50), "it answers", std::future::pending::<Result<(), String>>).await;
    assert!(hangs.is_err());
}
