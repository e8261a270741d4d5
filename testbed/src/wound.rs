//! A clock that a test winds forward and back under a running process (libfaketime); time that is only counted stays true.

use std::path::{Path, PathBuf};

use crate::error::Context;
use crate::{Error, Result, Scratch};

/// What a process with this clock takes the time to be.
#[derive(Debug)]
pub struct WoundClock {
    library: PathBuf,
    file: PathBuf,
    _scratch: Scratch,
}

impl WoundClock {
    /// A clock that is right at first.
    ///
    /// # Errors
    /// Where libfaketime is not installed or no file can be written.
    pub fn new() -> Result<Self> {
        let library = library()?;
        let scratch = Scratch::new("clock")?;
        let clock = Self { library, file: scratch.join("offset"), _scratch: scratch };
        clock.set(0)?;
        Ok(clock)
    }

    /// Sets the clock to so many seconds ahead of the truth; negative is behind it.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn set(&self, seconds: i64) -> Result<()> {
        // As a whole: the process may read it at any moment.
        let next = self.file.with_extension("next");
        let writing = || format!("writing {}", next.display());
        std::fs::write(&next, format!("{seconds:+}\n")).context(writing)?;
        std::fs::rename(&next, &self.file).context(writing)
    }

    /// The variables that give a process this clock.
    #[must_use]
    pub fn environment(&self) -> [(&'static str, &Path); 4] {
        [
            ("LD_PRELOAD", &self.library),
            ("FAKETIME_TIMESTAMP_FILE", &self.file),
            ("FAKETIME_NO_CACHE", Path::new("1")),
            ("FAKETIME_DONT_FAKE_MONOTONIC", Path::new("1")),
        ]
    }
}

impl Drop for WoundClock {
    /// The library leaves shared memory behind for each process that was killed.
    fn drop(&mut self) {
        let entries = std::fs::read_dir("/dev/shm").into_iter().flatten().flatten();
        for entry in entries {
            let name = entry.file_name().to_string_lossy().into_owned();
            let process =
                ["faketime_shm_", "sem.faketime_sem_"].iter().find_map(|start| name.strip_prefix(start));
            if process.is_some_and(|id| !Path::new("/proc").join(id).exists()) {
                drop(std::fs::remove_file(entry.path()));
            }
        }
    }
}

fn library() -> Result<PathBuf> {
    let of_machine = |directory: std::fs::DirEntry| directory.path().join("faketime/libfaketimeMT.so.1");
    let mut all =
        std::fs::read_dir("/usr/lib").into_iter().flatten().filter_map(|entry| entry.ok().map(of_machine));
    let missing = || Error::PackageMissing { name: "libfaketime".to_owned() };
    all.find(|path| path.exists()).ok_or_else(missing)
}
