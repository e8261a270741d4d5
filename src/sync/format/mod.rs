//! What each signer reads. Pure: from sets of signatures to the text of files.
//!
//! A signer rarely reads two tables at one instant. So where it takes two to sign, every name in the first one
//! tells which key is meant, and the second holds all the names that the first has held lately: *wide* tables
//! grow before, and shrink long after, the tables that choose.

mod dkimpy;
mod exim;
mod kumomta;
mod maddy;
mod opendkim;
mod rspamd;
mod stalwart;

use std::path::{Path, PathBuf};

use crate::api::signing_config::{SignatureConfig, SigningConfig};
use crate::model::key::Algorithm;
use crate::model::name::DomainName;

/// The directory of key files.
pub const KEYS: &str = "keys";

/// A signer whose files can be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// OpenDKIM: KeyTable and SigningTable (refile).
    Opendkim,
    /// rspamd: maps, a Lua function, and a domain {} section.
    Rspamd,
    /// Exim: lsearch files for dkim_domain, dkim_selector and dkim_private_key.
    Exim,
    /// dkimpy-milter: KeyTable, KeyTableEd25519 and SigningTable.
    DkimpyMilter,
    /// KumoMTA: a Lua function, and data for its dkim_sign helper.
    Kumomta,
    /// Stalwart: signature sections.
    Stalwart,
    /// maddy: configuration snippets.
    Maddy,
}

/// How a private key is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// PKCS#8 PEM.
    Pem,
    /// Base64 of the 32 bytes of an Ed25519 seed.
    Seed,
}

impl Encoding {
    /// The ending of a file's name.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            Self::Pem => "pem",
            Self::Seed => "seed",
        }
    }
}

/// What is in a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A file.
    Text(String),
    /// A symbolic link to this path.
    Link(PathBuf),
}

/// One file besides the keys, in the order of writing: wide ones come first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its path below our directory.
    pub path: String,
    /// What is in it.
    pub content: Content,
}

impl Table {
    fn text(path: &str, content: String) -> Self {
        Self { path: path.to_owned(), content: Content::Text(content) }
    }
}

/// What tables are made from.
pub struct View<'a> {
    /// Our directory, as the signer sees it.
    pub root: &'a Path,
    /// What is to be signed with, sorted by domain.
    pub active: &'a [SigningConfig],
    /// That, and what a signer may still be signing with. The active ones come first.
    pub known: &'a [SigningConfig],
}

impl View<'_> {
    fn key(&self, signature: &SignatureConfig) -> String {
        self.root.join(KEYS).join(&signature.key_file).display().to_string()
    }
}

impl Format {
    /// How a signature's key is written for this signer.
    ///
    /// # Errors
    /// Why it cannot make this signature, in words.
    pub fn encoding(
        self,
        domain: &DomainName,
        signature: &SignatureConfig,
    ) -> Result<Encoding, &'static str> {
        let foreign = signature.d != domain.as_str();
        match (self, signature.algorithm) {
            (Self::Opendkim, Algorithm::Ed25519) => {
                Err("OpenDKIM signs with one algorithm for all keys, which is RSA")
            }
            (Self::Maddy | Self::Stalwart, _) if foreign => {
                Err("this server signs with d= of the sender's own domain alone")
            }
            (Self::Rspamd | Self::DkimpyMilter, Algorithm::Ed25519) => Ok(Encoding::Seed),
            _ => Ok(Encoding::Pem),
        }
    }

    /// All tables, in the order in which they must be written.
    #[must_use]
    pub fn tables(self, view: &View<'_>) -> Vec<Table> {
        match self {
            Self::Opendkim => opendkim::tables(view),
            Self::Rspamd => rspamd::tables(view),
            Self::Exim => exim::tables(view),
            Self::DkimpyMilter => dkimpy::tables(view),
            Self::Kumomta => kumomta::tables(view),
            Self::Stalwart => stalwart::tables(view),
            Self::Maddy => maddy::tables(view),
        }
    }

    /// A directory that holds nothing but tables: what is in it and no table any more, goes.
    #[must_use]
    pub fn own_directory(self) -> Option<&'static str> {
        (self == Self::Rspamd).then_some(rspamd::NAMES)
    }

    /// What the signer's process is called, to be sure that a process id is its own.
    #[must_use]
    pub fn process(self) -> &'static str {
        match self {
            Self::Opendkim => "opendkim",
            Self::Rspamd => "rspamd",
            Self::Exim => "exim",
            Self::DkimpyMilter => "dkimpy-milter",
            Self::Kumomta => "kumod",
            Self::Stalwart => "stalwart",
            Self::Maddy => "maddy",
        }
    }
}

/// The domain as it stands in `From:`: in A-labels, and in Unicode where it is international (RFC 6532).
fn spellings(domain: &DomainName) -> Vec<String> {
    let (ascii, unicode) = (domain.as_str().to_owned(), domain.to_unicode());
    if ascii == unicode { vec![ascii] } else { vec![ascii, unicode] }
}

/// The first line of files in which `#` begins a comment.
const NOTE: &str = "# Written by dkim-operator sync. Changes are lost.\n";

#[cfg(test)]
mod tests;
