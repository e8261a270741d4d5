//! Being told by the kernel that a directory changed.

use std::collections::{HashMap, HashSet};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

/// What has to be read again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// These domains' directories.
    Some(HashSet<Arc<Path>>),
    /// Everything.
    All,
}

/// Watches the directory and each domain's directory below it.
pub struct Watcher {
    inotify: AsyncFd<OwnedFd>,
    root: PathBuf,
    root_watch: Option<i32>,
    places: HashMap<i32, Arc<Path>>,
}

impl Watcher {
    /// Watches nothing but `root` yet.
    ///
    /// # Errors
    /// [`io::Error`] where the kernel has no more to give.
    pub fn new(root: &Path) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        #[expect(
            deprecated,
            reason = "it is unsound for types that lie about their descriptor; OwnedFd does not"
        )]
        let inotify = AsyncFd::new(inotify)?;
        let mut watcher = Self { inotify, root: root.to_owned(), root_watch: None, places: HashMap::new() };
        watcher.root_watch = Some(watcher.add(root)?);
        Ok(watcher)
    }

    fn add(&self, path: &Path) -> io::Result<i32> {
        let flags = WatchFlags::CREATE
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF;
        Ok(inotify::add_watch(self.inotify.get_ref(), path, flags)?)
    }

    /// Watches these places too, and no others. A place that is watched already stays so.
    ///
    /// # Errors
    /// [`io::Error`] where the kernel has no more watches to give (`fs.inotify.max_user_watches`).
    pub fn watch<'a>(&mut self, places: impl Iterator<Item = &'a Arc<Path>>) -> io::Result<()> {
        // The root may have been replaced by another directory of its name.
        self.root_watch = self.add(&self.root).ok();
        let mut now = HashMap::new();
        let mut result = Ok(());
        for place in places {
            match self.add(place) {
                Ok(id) => {
                    now.insert(id, Arc::clone(place));
                }
                // Gone since it was read: the root tells.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => result = Err(error),
            }
        }
        for id in self.places.keys().filter(|id| !now.contains_key(id) && Some(**id) != self.root_watch) {
            // It fails where the directory is gone, and with it the watch.
            let _ = inotify::remove_watch(self.inotify.get_ref(), *id);
        }
        self.places = now;
        result
    }

    /// Watches these places besides. Those that are gone, or more than the kernel allows, are found at the next poll.
    pub fn also(&mut self, places: &[Arc<Path>]) {
        for place in places {
            if let Ok(id) = self.add(place) {
                self.places.insert(id, Arc::clone(place));
            }
        }
    }

    /// Waits for the next changes.
    ///
    /// # Errors
    /// [`io::Error`] where the kernel gives none any more.
    pub async fn changed(&self) -> io::Result<Changed> {
        loop {
            let mut ready = self.inotify.readable().await?;
            let changed = self.read();
            ready.clear_ready();
            match changed? {
                Changed::Some(places) if places.is_empty() => {}
                changed => return Ok(changed),
            }
        }
    }

    /// What is there to be read now.
    fn read(&self) -> io::Result<Changed> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(self.inotify.get_ref(), &mut buffer);
        let mut places = HashSet::new();
        let mut all = false;
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let name = event.file_name().map(|name| String::from_utf8_lossy(name.to_bytes()).into_owned());
            if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                all = true;
            } else if let Some(place) = self.places.get(&event.wd()) {
                places.insert(Arc::clone(place));
            } else if Some(event.wd()) == self.root_watch {
                match name {
                    // A domain's directory came or went. Everything else is kubelet's exchange of a whole mount.
                    Some(name) if !name.starts_with('.') => {
                        places.insert(self.root.join(name).into());
                    }
                    _ => all = true,
                }
            }
        }
        Ok(if all { Changed::All } else { Changed::Some(places) })
    }
}
