//! Why files cannot be kept, in words that say what to do.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::model::key::KeyError;

/// What can go wrong. Never holds key material.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    #[error(
        "{}: a directory for a signer's files is an absolute path of letters, digits and . _ - /: others have a meaning in the signers' tables",
        .0.display()
    )]
    Path(PathBuf),
    #[error("{}: everybody may write there, so anybody could replace a key; take that right away (chmod o-w)", .0.display())]
    WorldWritable(PathBuf),
    #[error("{}: another sync keeps this directory; give each signer a directory of its own", .0.display())]
    Locked(PathBuf),
    #[error("{}: {source}; it must be a directory that this process may write to", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    #[error("{}: {source}; the files are as they were, and it is tried again", path.display())]
    File {
        /// What was to be written, read or removed.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    #[error("a key could not be written in the signer's format: {0}")]
    Key(#[from] KeyError),
    #[error("the state could not be written: {0}")]
    State(#[from] serde_json::Error),
    #[error("{0}")]
    Tell(#[from] TellError),
    #[error("the keys were not all read within {0:?}; see the warnings above")]
    NotComplete(Duration),
}

/// Why the signer could not be told of new files. Old files stay until it was.
#[derive(Debug, thiserror::Error)]
pub enum TellError {
    #[error("{}: {source}; it must be readable, and hold the signer's process id", path.display())]
    PidFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    #[error("{}: it holds no process id, but {found:?}", path.display())]
    NoPid {
        /// The file.
        path: PathBuf,
        /// What is in it, shortened.
        found: String,
    },
    #[error(
        "process {pid} is {found:?} and not {expected}: the pid file is stale, or --reload-process is to name another; it got no signal"
    )]
    OtherProcess {
        /// Its id.
        pid: i32,
        /// What it is called.
        found: String,
        /// What the signer is called.
        expected: String,
    },
    #[error(
        "process {pid} could not be sent a signal: {source}; run sync as its user, in a pod with shareProcessNamespace"
    )]
    Signal {
        /// Its id.
        pid: i32,
        /// What the system said.
        source: io::Error,
    },
    #[error("the hook {program} could not be run: {source}")]
    HookStart {
        /// The program.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    #[error("the hook {program} ended with {status}: {output}")]
    HookFailed {
        /// The program.
        program: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// The end of what it wrote.
        output: String,
    },
    #[error("the hook {program} was ended after {bound:?} (--hook-timeout)")]
    HookTimeout {
        /// The program.
        program: String,
        /// The bound.
        bound: Duration,
    },
}
