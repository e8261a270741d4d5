//! Starts a control plane, runs a command with it, and ends it afterwards.
//!
//! `testbed-up cargo nextest run` shares one control plane among all test programs. The command finds it in
//! `DKIM_TESTBED_KUBECONFIG` and `KUBECONFIG`, and kubectl and helm at the front of its `PATH`.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitCode;

use dkim_testbed::{Binaries, ControlPlane, Error, KUBECONFIG_VARIABLE, Options, Result};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

const HELP: &str = "\
Starts a Kubernetes control plane, runs COMMAND with it, ends it, and exits as COMMAND did.

usage: testbed-up [--no-controller-manager] [--directory DIR] [--] COMMAND [ARGUMENT...]

  --no-controller-manager  etcd and kube-apiserver alone: a little less memory, no garbage collection
  --directory DIR          keep data and logs in DIR

COMMAND gets DKIM_TESTBED_KUBECONFIG and KUBECONFIG, and kubectl and helm in its PATH.
";

struct Request {
    options: Options,
    command: Vec<String>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let request = match parse(std::env::args().skip(1)) {
        Ok(Some(request)) => request,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(reason) => {
            eprint!("testbed-up: {reason}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    match run(request).await {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("testbed-up: {error}");
            ExitCode::from(125)
        }
    }
}

/// `None` where help was asked for.
fn parse(mut args: impl Iterator<Item = String>) -> std::result::Result<Option<Request>, String> {
    let mut options = Options::new().with_controller_manager();
    let mut first = None;
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--help" | "-h" => return Ok(None),
            "--no-controller-manager" => options = options.without_controller_manager(),
            "--directory" => options = options.directory(args.next().ok_or("--directory needs a path")?),
            "--" => break,
            option if option.starts_with('-') => return Err(format!("{option} is not known")),
            _ => {
                first = Some(arg);
                break;
            }
        }
    }
    let command: Vec<String> = first.into_iter().chain(args).collect();
    if command.is_empty() {
        Err("no command was given".to_owned())
    } else {
        Ok(Some(Request { options, command }))
    }
}

async fn run(request: Request) -> Result<u8> {
    let io = |source: std::io::Error| Error::Io { context: "waiting for signals".to_owned(), source };
    let mut terminate = signal(SignalKind::terminate()).map_err(io)?;
    let mut hang_up = signal(SignalKind::hangup()).map_err(io)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(io)?;
    let plane = tokio::select! {
        plane = ControlPlane::start(request.options) => plane?,
        _ = terminate.recv() => return Ok(143),
        _ = hang_up.recv() => return Ok(129),
        _ = interrupt.recv() => return Ok(130),
    };
    eprintln!("testbed-up: control plane ready after {:.1?}", plane.started_in());
    let outcome = match start(&plane, &request.command) {
        Ok(mut child) => loop {
            tokio::select! {
                status = child.wait() => break status.map_err(io),
                // The terminal sends an interrupt to the command, too; it decides what to do.
                _ = interrupt.recv() => {}
                _ = terminate.recv() => pass_on(&child, Signal::TERM),
                _ = hang_up.recv() => pass_on(&child, Signal::HUP),
            }
        },
        Err(error) => Err(error),
    };
    plane.stop().await?;
    let status = outcome?;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    Ok(u8::try_from(code).unwrap_or(1))
}

fn start(plane: &ControlPlane, command: &[String]) -> Result<Child> {
    let spawn = |source| Error::Spawn { name: command.join(" "), source };
    let (program, args) =
        command.split_first().ok_or_else(|| spawn(std::io::ErrorKind::InvalidInput.into()))?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = Binaries::locate()?.directories().into_iter().chain(std::env::split_paths(&path));
    let path = std::env::join_paths(directories).map_err(|error| spawn(std::io::Error::other(error)))?;
    Command::new(program)
        .args(args)
        .env(KUBECONFIG_VARIABLE, plane.kubeconfig())
        .env("KUBECONFIG", plane.kubeconfig())
        .env("PATH", path)
        .spawn()
        .map_err(spawn)
}

/// The command has not been waited for yet, so that its id is its own.
fn pass_on(child: &Child, signal: Signal) {
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // It fails only where the command has just ended.
        let _ = kill_process(pid, signal);
    }
}
