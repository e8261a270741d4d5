//! Temporary directories that go away, whatever happens to the process.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

use std::os::unix::process::CommandExt;

use crate::error::Context;
use crate::process::spawn_lasting;
use crate::{Error, Result};

/// Set to anything but `0`, it keeps the temporary directories (data and logs) for a look at them.
pub const KEEP_VARIABLE: &str = "DKIM_TESTBED_KEEP";

/// Waits until its standard input is closed, which happens when the parent ends in whatever way; then removes
/// the directory. The servers in it are ended at the same moment, so that a second attempt may be needed.
const JANITOR: &str = r#"trap '' HUP INT TERM
cat >/dev/null
for _ in 1 2 3 4 5 6 7 8 9 10; do rm -rf -- "$0" 2>/dev/null && exit 0; sleep 0.5; done"#;

/// The directory of this process under the system's temporary directory, with whoever removes it.
struct Root {
    path: PathBuf,
    _janitor: Option<Child>,
}

static ROOT: OnceLock<Root> = OnceLock::new();
static MAKING: Mutex<()> = Mutex::new(());

fn root() -> Result<&'static Root> {
    if let Some(root) = ROOT.get() {
        return Ok(root);
    }
    let _only_one = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(root) = ROOT.get() {
        return Ok(root);
    }
    let path = tempfile::Builder::new()
        .prefix("dkim-testbed-")
        .tempdir()
        .context(|| "making a temporary directory".to_owned())?
        .keep();
    let janitor =
        if keeps() { None } else { Some(janitor(&path).context(|| "starting /bin/sh".to_owned())?) };
    Ok(ROOT.get_or_init(|| Root { path, _janitor: janitor }))
}

fn janitor(path: &Path) -> io::Result<Child> {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", JANITOR]).arg(path).current_dir("/");
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    spawn_lasting(command)
}

fn keeps() -> bool {
    std::env::var_os(KEEP_VARIABLE).is_some_and(|value| value != "0" && !value.is_empty())
}

/// A directory for the data and logs of one server, removed when dropped.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    removed: bool,
}

impl Scratch {
    /// A fresh temporary directory whose name begins with `name`.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn new(name: &str) -> Result<Self> {
        let path = tempfile::Builder::new()
            .prefix(&format!("{name}-"))
            .tempdir_in(&root()?.path)
            .context(|| format!("making a temporary directory for {name}"))?
            .keep();
        Ok(Self { path, removed: !keeps() })
    }

    /// As [`Scratch::new`], for servers that run as users of their own: they may pass through, and see nothing
    /// that is not shown to them.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn passable(name: &str) -> Result<Self> {
        let scratch = Self::new(name)?;
        for path in [&root()?.path, &scratch.path] {
            std::fs::set_permissions(path, Permissions::from_mode(0o711))
                .context(|| format!("opening {} for other users", path.display()))?;
        }
        Ok(scratch)
    }

    /// A directory of the caller's that stays; made where it is not there.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn fixed(path: impl Into<PathBuf>) -> Result<Self> {
        let path = std::path::absolute(path.into()).context(|| "finding the working directory".to_owned())?;
        std::fs::create_dir_all(&path).context(|| format!("making {}", path.display()))?;
        Ok(Self { path, removed: false })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of something in it.
    #[must_use]
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    /// Makes a directory in it, where it is not there.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn directory(&self, name: &str) -> Result<PathBuf> {
        let path = self.join(name);
        std::fs::create_dir_all(&path).context(|| format!("making {}", path.display()))?;
        Ok(path)
    }

    /// Writes a file in it.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> Result<PathBuf> {
        let path = self.join(name);
        write(&path, text)?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.removed {
            // What cannot be removed now, the janitor removes at the end of the process.
            drop(std::fs::remove_dir_all(&self.path));
        }
    }
}

/// Writes a file as a whole: readers see the old text or the new one. Only the owner can read it.
pub(crate) fn write(path: &Path, text: impl AsRef<[u8]>) -> Result<()> {
    let writing = || format!("writing {}", path.display());
    let directory = path.parent().ok_or_else(|| Error::Zone(format!("{} is no file", path.display())))?;
    let file = tempfile::NamedTempFile::new_in(directory).context(writing)?;
    std::fs::write(file.path(), text).context(writing)?;
    file.persist(path).map_err(|error| error.error).context(writing)?;
    Ok(())
}
