//! The kernel's side of ending processes.

use std::io;
use std::process::{Child, ExitStatus};
use std::time::Duration;

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, test_kill_process_group, waitid,
};

use super::Usage;

fn pid(raw: u32) -> io::Result<Pid> {
    i32::try_from(raw)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| io::Error::other(format!("{raw} is no process id")))
}

/// Sends a signal to one process that has not been waited for yet.
pub(super) fn signal(raw: u32, signal: Signal) -> io::Result<()> {
    Ok(kill_process(pid(raw)?, signal)?)
}

/// Sends a signal to the group of a process that has not been waited for yet.
pub(super) fn signal_group(raw: u32, signal: Signal) {
    if let Ok(pid) = pid(raw) {
        // It fails only where nothing is left to be signalled.
        let _ = kill_process_group(pid, signal);
    }
}

/// Asks the group of a process to end, one that is paused, too.
pub(super) fn terminate_group(raw: u32) {
    signal_group(raw, Signal::TERM);
    signal_group(raw, Signal::CONT);
}

/// How the process ended, or `None` while it runs. What it left behind in its process group is ended, too,
/// *before* the id is given back to the kernel.
pub(super) fn reap(child: &mut Child) -> io::Result<Option<ExitStatus>> {
    let pid = pid(child.id())?;
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    if waitid(WaitId::Pid(pid), options)?.is_none() {
        return Ok(None);
    }
    if test_kill_process_group(pid).is_ok() {
        let _ = kill_process_group(pid, Signal::KILL);
    }
    child.wait().map(Some)
}

/// Fails as long as a thread of the process still runs: a stop reaches them one after the other.
pub(super) fn all_stopped(raw: u32) -> io::Result<()> {
    for task in std::fs::read_dir(format!("/proc/{raw}/task"))? {
        let stat = std::fs::read_to_string(task?.path().join("stat"))?;
        if !stat.rsplit_once(')').is_some_and(|(_, after)| after.trim_start().starts_with('T')) {
            return Err(io::Error::other("a thread still runs"));
        }
    }
    Ok(())
}

/// Memory and processor time from `/proc`.
pub(super) fn usage(raw: u32) -> io::Result<Usage> {
    let broken = |what: &str| io::Error::other(format!("/proc shows no {what}"));
    let status = std::fs::read_to_string(format!("/proc/{raw}/status"))?;
    let kibibytes = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse::<u64>().ok())
        .ok_or_else(|| broken("resident memory"))?;
    let stat = std::fs::read_to_string(format!("/proc/{raw}/stat"))?;
    // The second field is the name in parentheses, which may hold spaces; utime and stime are 14 and 15.
    let (_, after) = stat.rsplit_once(')').ok_or_else(|| broken("name"))?;
    let mut times = after.split_whitespace().skip(11).map_while(|field| field.parse::<u64>().ok());
    let (Some(user), Some(system)) = (times.next(), times.next()) else { return Err(broken("times")) };
    let milliseconds = (user + system) * 1000 / rustix::param::clock_ticks_per_second().max(1);
    Ok(Usage { resident: kibibytes * 1024, cpu: Duration::from_millis(milliseconds) })
}
