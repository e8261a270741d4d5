//! The program `testbed-up`: exit codes, environment, and nothing left behind.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use dkim_testbed::{Binaries, Scratch, Signal, Spec, eventually};

type Outcome = std::result::Result<(), Box<dyn std::error::Error>>;

fn testbed_up(args: &[&str]) -> std::io::Result<Output> {
    Command::new(env!("CARGO_BIN_EXE_testbed-up")).args(args).output()
}

/// The processes, of the whole machine, that have `text` in their command line.
fn users_of(text: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let mentions = |path: &Path| {
        std::fs::read(path.join("cmdline")).is_ok_and(|line| String::from_utf8_lossy(&line).contains(text))
    };
    entries.map(|entry| entry.path()).filter(|path| mentions(path)).collect()
}

#[test]
fn the_command_finds_the_cluster_and_its_exit_code_counts() -> Outcome {
    let script = "kubectl create namespace from-command && echo $DKIM_TESTBED_KUBECONFIG && exit 7";
    let output = testbed_up(&["--no-controller-manager", "--", "sh", "-c", script])?;
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(7), "{stdout}{stderr}");
    assert!(stdout.contains("namespace/from-command created"), "{stdout}{stderr}");
    let directory = Path::new(stdout.lines().last().unwrap_or_default()).parent().ok_or("no directory")?;
    assert!(directory.starts_with(std::env::temp_dir()) && !directory.exists(), "{directory:?}");
    assert_eq!(users_of(&directory.to_string_lossy()), Vec::<PathBuf>::new());
    Ok(())
}

#[test]
fn wrong_use_and_missing_commands_are_told() -> Outcome {
    assert_eq!(testbed_up(&[])?.status.code(), Some(2));
    assert_eq!(testbed_up(&["--what"])?.status.code(), Some(2));
    assert_eq!(testbed_up(&["--help"])?.status.code(), Some(0));
    let missing = testbed_up(&["--no-controller-manager", "no-such-command"])?;
    assert_eq!(missing.status.code(), Some(125));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("no-such-command could not be started"));
    Ok(())
}

#[test]
fn binaries_from_elsewhere_are_used() -> Outcome {
    let built = Binaries::locate()?;
    let assets = tempfile::tempdir()?;
    let used = assets.path().join("used");
    for real in [built.etcd()?, built.kube_apiserver()?, built.kubectl()?] {
        let name = real.file_name().ok_or("no name")?;
        let script = format!(
            "#!/bin/sh\necho {} >>{}\nexec {} \"$@\"\n",
            name.to_string_lossy(),
            used.display(),
            real.display()
        );
        let path = assets.path().join(name);
        std::fs::write(&path, script)?;
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755))?;
    }
    let output = Command::new(env!("CARGO_BIN_EXE_testbed-up"))
        .env("KUBEBUILDER_ASSETS", assets.path())
        .args(["--", "kubectl", "get", "--raw", "/readyz"])
        .output()?;
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && stdout.contains("ok"), "{stdout}{stderr}");
    let used: BTreeSet<String> = std::fs::read_to_string(used)?.lines().map(str::to_owned).collect();
    assert_eq!(used, ["etcd", "kube-apiserver", "kubectl"].map(str::to_owned).into());
    Ok(())
}

#[tokio::test]
async fn signals_end_all_of_it() -> Outcome {
    for (signal, code) in [(Signal::TERM, Some(143)), (Signal::KILL, None)] {
        let scratch = Scratch::new("test")?;
        let (log, directory) = (scratch.join("log"), scratch.join("plane"));
        let mut process = Spec::new("testbed-up", env!("CARGO_BIN_EXE_testbed-up"), log)
            .args(["--no-controller-manager", "--directory"])
            .arg(&directory)
            .args(["--", "sh", "-c", "echo running; exec sleep 1000"])
            .spawn()?;
        let text = directory.to_string_lossy().into_owned();
        eventually(Duration::from_secs(60), "the command runs", || async {
            let log = process.log_text();
            if log.contains("running") { Ok(()) } else { Err(log) }
        })
        .await?;
        // testbed-up itself, etcd and kube-apiserver.
        assert_eq!(users_of(&text).len(), 3);
        process.signal(signal)?;
        let status = process.wait(Duration::from_secs(20)).await?;
        assert_eq!(status.code(), code);
        eventually(Duration::from_secs(5), "all processes are gone", || async {
            let left = users_of(&text);
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        })
        .await?;
    }
    Ok(())
}
