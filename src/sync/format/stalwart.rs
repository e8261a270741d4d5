//! Stalwart up to 0.15: `signature` sections, named as its default `auth.dkim.sign` expects them: `rsa-DOMAIN`
//! and `ed25519-DOMAIN`. It signs by the envelope's domain.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::{NOTE, Table, View};
use crate::model::key::Algorithm;

pub(super) fn tables(view: &View<'_>) -> Vec<Table> {
    let mut text = NOTE.to_owned();
    for set in view.active {
        let mut told = BTreeSet::new();
        for s in &set.signatures {
            let algorithm = match s.algorithm {
                Algorithm::Rsa => "rsa",
                Algorithm::Ed25519 => "ed25519",
            };
            // One of each kind has a name.
            if !told.insert(algorithm) {
                continue;
            }
            let headers: Vec<String> = s.headers.iter().map(|h| format!("{h:?}")).collect();
            let _ = write!(
                text,
                "\n[signature.\"{algorithm}-{}\"]\nprivate-key = \"%{{file:{}}}%\"\ndomain = \"{}\"\n\
                 selector = \"{}\"\nalgorithm = \"{algorithm}-sha256\"\nheaders = [{}]\n\
                 canonicalization = \"{}/{}\"\n",
                set.domain,
                view.key(s),
                s.d,
                s.s,
                headers.join(", "),
                s.header_canonicalization.as_str(),
                s.body_canonicalization.as_str(),
            );
            if let Some(seconds) = s.expiration_seconds {
                let _ = writeln!(text, "expire = \"{seconds}s\"");
            }
        }
    }
    vec![Table::text("dkim.toml", text)]
}
