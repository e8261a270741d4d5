//! Real mail on loopback: mail servers from Debian's packages, a sink that takes what they send, and a client.

mod client;
mod exim;
mod maddy;
mod postfix;
mod sendmail;
mod sink;

pub use client::Submission;
pub use exim::{Exim, EximDkim};
pub use maddy::Maddy;
pub use postfix::Postfix;
pub use sendmail::Sendmail;
pub use sink::{Mail, Sink};

use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// A program of a Debian package, which is never searched for elsewhere.
pub(crate) fn program(path: &str) -> Result<PathBuf> {
    let path = Path::new(path);
    if path.exists() {
        return Ok(path.to_owned());
    }
    Err(Error::PackageMissing { name: path.display().to_string() })
}
