//! A Secret as pods see it.

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::Result;
use crate::error::Context;

/// A directory kept the way kubelet keeps a mounted Secret: each version in a hidden directory of its own, files that
/// are links through `..data`, and one atomic rename of `..data` from one version to the next.
#[derive(Debug)]
pub struct Mount {
    path: PathBuf,
    generation: u64,
}

impl Mount {
    /// A mount with nothing in it yet.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), generation: 0 }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Shows a version of the Secret from now on, and takes the one before away.
    ///
    /// # Errors
    /// Where the file system refuses.
    pub fn show<'a>(&mut self, data: impl IntoIterator<Item = (&'a String, &'a [u8])>) -> Result<()> {
        let writing = || format!("writing {}", self.path.display());
        let before = self.version();
        self.generation += 1;
        let version = self.version();
        std::fs::create_dir_all(&version).context(writing)?;
        let data: BTreeMap<&String, &[u8]> = data.into_iter().collect();
        for (name, bytes) in &data {
            let file = version.join(name);
            std::fs::write(&file, bytes).context(writing)?;
            std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).context(writing)?;
        }
        let next = self.path.join("..data_tmp");
        drop(std::fs::remove_file(&next));
        symlink(format!("..{}", self.generation), &next).context(writing)?;
        std::fs::rename(&next, self.path.join("..data")).context(writing)?;
        for name in data.keys() {
            let link = self.path.join(name);
            if !link.is_symlink() {
                symlink(Path::new("..data").join(name), link).context(writing)?;
            }
        }
        for entry in std::fs::read_dir(&self.path).context(writing)? {
            let name = entry.context(writing)?.file_name().to_string_lossy().into_owned();
            if !name.starts_with("..") && !data.contains_key(&name) {
                std::fs::remove_file(self.path.join(name)).context(writing)?;
            }
        }
        if self.generation > 1 {
            std::fs::remove_dir_all(before).context(writing)?;
        }
        Ok(())
    }

    fn version(&self) -> PathBuf {
        self.path.join(format!("..{}", self.generation))
    }
}
