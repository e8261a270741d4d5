//! What can be wrong with a directory of keys, in words that say what to do.

use std::path::{Path, PathBuf};

use crate::api::signing_config::{FORMAT_VERSION, SIGNING_FILE};
use crate::model::key::KeyFingerprint;
use crate::model::name::DomainName;

/// Most bytes of `signing.json` or of a key that are read.
pub(super) const MAX_FILE: u64 = 256 * 1024;

/// What is wrong with a file or directory of keys. Never holds key material.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}: {fault}", path.display())]
pub struct KeyDirError {
    /// The file or directory.
    pub path: PathBuf,
    /// What is wrong with it and what to do.
    pub fault: KeyDirFault,
    /// The domain that is concerned, where that is known.
    pub domain: Option<DomainName>,
}

/// What can be wrong with a file or directory of keys.
#[derive(Debug, Clone, thiserror::Error)]
pub enum KeyDirFault {
    #[error("it is not there; mount the key Secret of the domain here (its name is in status.secretRef)")]
    NotThere,
    #[error(
        "it cannot be read ({0}); let the signer's user or group read it (mode 0400, or 0440 with fsGroup)"
    )]
    Unreadable(String),
    #[error("it is no regular file; the files of the key Secret are plain files, or links to such")]
    NotRegular,
    #[error("it is larger than {MAX_FILE} bytes, which no file of a key Secret is")]
    TooLarge,
    #[error(
        "it is no signing configuration ({0}); it is written by the controller: do not edit it, mount the Secret as it is"
    )]
    NoConfig(String),
    #[error(
        "it has formatVersion {found} and this program reads up to {FORMAT_VERSION}; update the signer first, the controller after it"
    )]
    FormatVersion {
        /// The version in the file.
        found: u64,
    },
    #[error(
        "{what} of signature s={selector} is not usable ({value:?}); the controller does not write that: mount the Secret as it is"
    )]
    BadValue {
        /// The signature, by its selector.
        selector: String,
        /// Which value.
        what: &'static str,
        /// The value.
        value: String,
    },
    #[error("it holds no PKCS#8 PEM of an {0} key; mount the Secret as it is")]
    NoKey(&'static str),
    #[error(
        "it holds the key {found}, but {SIGNING_FILE} names {expected}; mount all files of the Secret together (without subPath), so that they change together"
    )]
    OtherKey {
        /// The fingerprint in `signing.json`.
        expected: KeyFingerprint,
        /// The fingerprint of the key in the file.
        found: KeyFingerprint,
    },
    #[error("it is for {domain}, as {} is; mount the Secret of each domain once", other.display())]
    Twice {
        /// The domain.
        domain: DomainName,
        /// The other directory.
        other: PathBuf,
    },
    #[error(
        "it holds neither {SIGNING_FILE} nor directories with one; mount the key Secret itself here, or one per domain in directories below it"
    )]
    NoKeys,
}

impl KeyDirError {
    /// It concerns this domain.
    pub(super) fn of(self, domain: &DomainName) -> Self {
        Self { domain: Some(domain.clone()), ..self }
    }
}

impl KeyDirFault {
    /// Whether it may be the sight of files that are just being replaced: worth another look at once.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self, Self::NotThere | Self::NoConfig(_) | Self::NoKey(_) | Self::OtherKey { .. })
    }

    pub(super) fn at(self, path: &Path) -> KeyDirError {
        KeyDirError { path: path.to_owned(), fault: self, domain: None }
    }
}
