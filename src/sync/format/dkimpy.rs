//! dkimpy-milter: tables like OpenDKIM's, one of keys for each algorithm, with one name for both. Everything is
//! read at start and never again: a change needs a restart, which is the hook's business.

use std::collections::BTreeMap;
use std::fmt::Write;

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use super::{NOTE, Table, View, spellings};
use crate::api::signing_config::SigningConfig;
use crate::model::key::Algorithm;

pub(super) fn tables(view: &View<'_>) -> Vec<Table> {
    let keys = |algorithm: Algorithm| {
        let mut rows = BTreeMap::new();
        for set in view.known {
            if let Some(s) = set.signatures.iter().find(|s| s.algorithm == algorithm) {
                rows.insert(name(set), format!("{}:{}:{}", s.d, s.s, view.key(s)));
            }
        }
        let mut text = NOTE.to_owned();
        for (name, row) in rows {
            let _ = writeln!(text, "{name} {row}");
        }
        text
    };
    let mut signing = NOTE.to_owned();
    for set in view.active {
        for spelling in spellings(&set.domain) {
            let _ = writeln!(signing, "*@{spelling} {}", name(set));
        }
    }
    vec![
        Table::text("KeyTable", keys(Algorithm::Rsa)),
        Table::text("KeyTableEd25519", keys(Algorithm::Ed25519)),
        Table::text("SigningTable", signing),
    ]
}

/// Tells the domain and the keys: the same name never means other ones.
fn name(set: &SigningConfig) -> String {
    let mut digest = Sha256::new();
    for signature in &set.signatures {
        digest.update(format!("{} {} {}\n", signature.d, signature.s, signature.key_file));
    }
    let hex = HEXLOWER.encode(&digest.finalize());
    format!("{}-{}", set.domain, hex.get(..16).unwrap_or(&hex))
}
