//! Files that are there as a whole or not at all, with the mode and the owner that they are to have.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown, fchown, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use zeroize::Zeroizing;

use super::error::SyncError;
use super::format::Content;

/// How names of files begin that are still being written.
const TEMPORARY: &str = ".tmp-";
const LOCK: &str = ".lock";
/// Mode of every file: keys are for the signer alone, and who signs with them is no one else's business.
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;

/// User and group that files belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Owner {
    /// The user's id; that of this process where left out.
    pub uid: Option<u32>,
    /// The group's id; that of this process where left out.
    pub gid: Option<u32>,
}

/// Called with the name of each operation on files before it is done; an error stands in for a crash.
pub(super) type Before = Box<dyn FnMut(&'static str) -> io::Result<()> + Send>;

/// Our directory.
pub(super) struct Disk {
    root: PathBuf,
    owner: Owner,
    before: Before,
    // Held for as long as this value lives.
    _lock: File,
}

/// Takes the lock, and waits a moment for one that is just being let go: a child process holds its parent's locks until
/// it becomes another program.
fn take(lock: &File) -> Result<(), TryLockError> {
    const TRIES: u32 = 20;
    for _ in 1..TRIES {
        if lock.try_lock().is_ok() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    lock.try_lock()
}

impl Disk {
    /// Opens the directory, makes it where it is not there, and takes it for this process alone.
    pub(super) fn open(root: &Path, owner: Owner) -> Result<Self, SyncError> {
        Self::open_with(root, owner, Box::new(|_| Ok(())))
    }

    pub(super) fn open_with(root: &Path, owner: Owner, before: Before) -> Result<Self, SyncError> {
        let at = |source: io::Error| SyncError::Directory { path: root.to_owned(), source };
        // Paths stand in the signers' tables, which give some characters a meaning.
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._-".contains(&b);
        if !root.is_absolute() || !root.as_os_str().as_encoded_bytes().iter().all(|b| plain(*b)) {
            return Err(SyncError::Path(root.to_owned()));
        }
        if !root.is_dir() {
            fs::DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(root).map_err(at)?;
            chown(root, owner.uid, owner.gid).map_err(at)?;
        }
        if fs::metadata(root).map_err(at)?.mode() & 0o002 != 0 {
            return Err(SyncError::WorldWritable(root.to_owned()));
        }
        let lock =
            OpenOptions::new().create(true).truncate(false).write(true).mode(FILE_MODE).open(root.join(LOCK));
        let lock = lock.map_err(at)?;
        take(&lock).map_err(|_| SyncError::Locked(root.to_owned()))?;
        let disk = Self { root: root.to_owned(), owner, before, _lock: lock };
        disk.sweep("").map_err(at)?;
        Ok(disk)
    }

    /// Makes a directory below ours, and clears what was left half written in it.
    pub(super) fn directory(&mut self, name: &str) -> io::Result<()> {
        let path = self.root.join(name);
        if !path.is_dir() {
            (self.before)("mkdir")?;
            fs::DirBuilder::new().mode(DIRECTORY_MODE).create(&path)?;
        }
        chown(&path, self.owner.uid, self.owner.gid)?;
        self.sweep(name)
    }

    fn sweep(&self, directory: &str) -> io::Result<()> {
        for name in self.list(directory)? {
            if name.starts_with(TEMPORARY) {
                fs::remove_file(self.root.join(directory).join(name))?;
            }
        }
        Ok(())
    }

    /// The names in a directory below ours; none where it is not there.
    pub(super) fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(self.root.join(directory)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    /// What is in a file; nothing where it is not there.
    pub(super) fn read(&self, path: &str) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
        match fs::read(self.root.join(path)) {
            Ok(bytes) => Ok(Some(Zeroizing::new(bytes))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes a file unless it is as it should be; says whether it was written.
    pub(super) fn put(&mut self, path: &str, bytes: &[u8]) -> io::Result<bool> {
        if self.is_as_it_should_be(path)? && self.read(path)?.is_some_and(|there| *there == bytes) {
            return Ok(false);
        }
        let (temporary, place) = self.places(path);
        (self.before)("create")?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&temporary)?;
        (self.before)("write")?;
        file.write_all(bytes)?;
        (self.before)("own")?;
        file.set_permissions(Permissions::from_mode(FILE_MODE))?;
        fchown(&file, self.owner.uid, self.owner.gid)?;
        (self.before)("fsync")?;
        file.sync_all()?;
        self.rename(&temporary, &place)?;
        Ok(true)
    }

    /// As [`Disk::put`] of a table.
    pub(super) fn put_table(&mut self, path: &str, content: &Content) -> io::Result<bool> {
        let target = match content {
            Content::Text(text) => return self.put(path, text.as_bytes()),
            Content::Link(target) => target,
        };
        let (temporary, place) = self.places(path);
        if fs::read_link(&place).is_ok_and(|there| there == *target) {
            return Ok(false);
        }
        (self.before)("symlink")?;
        symlink(target, &temporary)?;
        self.rename(&temporary, &place)?;
        Ok(true)
    }

    /// Removes a file.
    pub(super) fn remove(&mut self, path: &str) -> io::Result<()> {
        (self.before)("remove")?;
        match fs::remove_file(self.root.join(path)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn rename(&mut self, temporary: &Path, place: &Path) -> io::Result<()> {
        (self.before)("rename")?;
        fs::rename(temporary, place)?;
        // The name, too, is to be there after a loss of power.
        (self.before)("fsync directory")?;
        File::open(place.parent().unwrap_or(&self.root))?.sync_all()
    }

    fn places(&self, path: &str) -> (PathBuf, PathBuf) {
        let place = self.root.join(path);
        // One writer, one file at a time: the name need not differ.
        (place.with_file_name(format!("{TEMPORARY}new")), place)
    }

    fn is_as_it_should_be(&self, path: &str) -> io::Result<bool> {
        let metadata = match fs::symlink_metadata(self.root.join(path)) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        Ok(metadata.is_file()
            && metadata.mode() & 0o7777 == FILE_MODE
            && self.owner.uid.is_none_or(|uid| uid == metadata.uid())
            && self.owner.gid.is_none_or(|gid| gid == metadata.gid()))
    }
}
