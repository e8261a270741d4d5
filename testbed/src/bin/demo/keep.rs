//! `KEEP=1`: the story is told by a process of its own, which stays in the background with everything it has started.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};

use tokio::signal::unix::{SignalKind, signal};

/// Set in the process that stays.
const KEEPER: &str = "DKIM_DEMO_KEEPER";
/// Begins the line with which it tells that the story is over; its exit code follows.
const OVER: char = '\u{4}';

/// Whether everything is to go on running.
pub fn wanted() -> bool {
    std::env::var_os("KEEP").is_some_and(|value| !value.is_empty() && value != "0")
}

/// Whether this is the process that stays.
pub fn is_keeper() -> bool {
    std::env::var_os(KEEPER).is_some()
}

/// Starts the process that stays, and says what it says until the story is over.
///
/// # Errors
/// Where it cannot be started.
pub fn tell() -> std::io::Result<ExitCode> {
    let (said, says) = std::io::pipe()?;
    Command::new(std::env::current_exe()?)
        .env(KEEPER, "1")
        .stdin(Stdio::null())
        .stdout(says.try_clone()?)
        .stderr(says)
        // Ctrl-C of the terminal is not meant for it.
        .process_group(0)
        .spawn()?;
    for line in BufReader::new(said).lines() {
        let line = line?;
        if let Some(code) = line.strip_prefix(OVER) {
            return Ok(if code == "0" { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        writeln!(std::io::stdout(), "{line}")?;
    }
    Ok(ExitCode::FAILURE)
}

/// Tells that the story is over, and stays until the process is asked to end.
///
/// # Errors
/// Where signals cannot be waited for.
pub async fn stay(good: bool) -> std::io::Result<()> {
    let (mut term, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    println!("{OVER}{}", u8::from(!good));
    tokio::select! {
        _ = term.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
