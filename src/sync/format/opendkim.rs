//! OpenDKIM (opendkim.conf(5)): `KeyTable` names keys, `SigningTable` says who signs with which. Both are read
//! at start and at SIGUSR1, one after the other; key files are read for each message.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::{NOTE, Table, View, spellings};
use crate::api::signing_config::SignatureConfig;

pub(super) fn tables(view: &View<'_>) -> Vec<Table> {
    let mut keys = BTreeSet::new();
    for signature in view.known.iter().flat_map(|set| &set.signatures) {
        keys.insert(format!("{} {}:{}:{}\n", name(signature), signature.d, signature.s, view.key(signature)));
    }
    let mut signing = NOTE.to_owned();
    for set in view.active {
        for spelling in spellings(&set.domain) {
            for signature in &set.signatures {
                let _ = writeln!(signing, "*@{spelling} {}", name(signature));
            }
        }
    }
    let keys: String = std::iter::once(NOTE.to_owned()).chain(keys).collect();
    vec![Table::text("KeyTable", keys), Table::text("SigningTable", signing)]
}

/// Tells selector, domain and key: the same name never means another key.
fn name(signature: &SignatureConfig) -> String {
    let key = signature.key_file.get(..16).unwrap_or(&signature.key_file);
    format!("{}._domainkey.{}-{key}", signature.s, signature.d)
}
