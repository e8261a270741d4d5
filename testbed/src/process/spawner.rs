//! One thread that starts all processes.
//!
//! The kernel ends a process that asked for it (see `setpriv --pdeathsig`) when the *thread* that started it
//! ends, not when the whole parent does. Tests run on threads that come and go; this one stays.

use std::io;
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, SyncSender, channel, sync_channel};

struct Request {
    command: Command,
    reply: SyncSender<io::Result<Child>>,
}

static SPAWNER: OnceLock<Sender<Request>> = OnceLock::new();

/// Starts `command` on the thread that lives as long as this process.
pub(crate) fn spawn(command: Command) -> io::Result<Child> {
    let sender = SPAWNER.get_or_init(|| {
        let (sender, requests) = channel::<Request>();
        // Where no thread can be made, the channel is closed and each request fails.
        let started = std::thread::Builder::new().name("spawner".into()).spawn(move || {
            for Request { mut command, reply } in requests {
                // A failed send means that nobody waits any more.
                if let Err(unsent) = reply.send(command.spawn())
                    && let Ok(mut child) = unsent.0
                {
                    drop(child.kill());
                    drop(child.wait());
                }
            }
        });
        drop(started);
        sender
    });
    let closed = || io::Error::other("the thread that starts processes has ended");
    let (reply, answer) = sync_channel(1);
    sender.send(Request { command, reply }).map_err(|_| closed())?;
    answer.recv().map_err(|_| closed())?
}
