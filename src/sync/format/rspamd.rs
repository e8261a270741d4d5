//! rspamd's dkim_signing module, in three ways of which one is used:
//!
//! - `signatures.map` with `dkim_operator.lua`: every signature, with any `d=`, from one map read at once.
//! - `selector_map` and `path_map`: one signature, `d=` the author's domain. rspamd reads the two at different
//!   moments, so the path tells nothing but the name of the key: `names/SELECTOR._domainkey.DOMAIN`, a link to
//!   the key that is published there.
//! - `domain.conf`: several signatures, `d=` the author's domain; read at a reload alone.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use super::{Content, KEYS, NOTE, Table, View};
use crate::api::signing_config::{SignatureConfig, SigningConfig};
use crate::model::key::Algorithm;

/// Where the links are.
pub(super) const NAMES: &str = "names";

/// The function for `sign_condition`, which has to look only at what it is given.
const LUA: &str = include_str!("rspamd.lua");

pub(super) fn tables(view: &View<'_>) -> Vec<Table> {
    let mut links: BTreeMap<String, &SignatureConfig> = BTreeMap::new();
    let mut paths: BTreeMap<&str, String> = BTreeMap::new();
    for set in view.known {
        for signature in aligned(set) {
            // Active sets come first, and the key they have there is the one that is published there.
            links.entry(format!("{}._domainkey.{}", signature.s, signature.d)).or_insert(signature);
            let names = view.root.join(NAMES).join("$selector._domainkey.$domain");
            paths.insert(set.domain.as_str(), names.display().to_string());
        }
    }
    let mut tables: Vec<Table> = links.into_iter().map(|(name, signature)| link(&name, signature)).collect();
    let map = |rows: Vec<(&str, String)>| {
        let mut text = NOTE.to_owned();
        for (domain, value) in rows {
            let _ = writeln!(text, "{domain} {value}");
        }
        text
    };
    tables.push(Table::text("path_map", map(paths.into_iter().collect())));
    let selectors = view.active.iter().filter_map(|set| Some((set.domain.as_str(), first(set)?.s.clone())));
    tables.push(Table::text("selector_map", map(selectors.collect())));
    tables.push(Table::text("domain.conf", sections(view)));
    let lua = LUA.replace("@MAP@", &view.root.join("signatures.map").display().to_string());
    tables.push(Table::text("dkim_operator.lua", lua));
    let signatures = view.active.iter().map(|set| {
        let each = set.signatures.iter().map(|s| format!("d={} s={} k={}", s.d, s.s, view.key(s)));
        (set.domain.as_str(), each.collect::<Vec<_>>().join("; "))
    });
    tables.push(Table::text("signatures.map", map(signatures.collect())));
    tables
}

fn link(name: &str, signature: &SignatureConfig) -> Table {
    let target = Path::new("..").join(KEYS).join(&signature.key_file);
    Table { path: format!("{NAMES}/{name}"), content: Content::Link(target) }
}

fn aligned(set: &SigningConfig) -> impl Iterator<Item = &SignatureConfig> {
    set.signatures.iter().filter(|signature| signature.d == set.domain.as_str())
}

/// The maps know one selector: an RSA one where there is one, which every verifier understands.
fn first(set: &SigningConfig) -> Option<&SignatureConfig> {
    aligned(set).find(|s| s.algorithm == Algorithm::Rsa).or_else(|| aligned(set).next())
}

fn sections(view: &View<'_>) -> String {
    let mut text = format!("{NOTE}domain {{\n");
    for set in view.active.iter().filter(|set| aligned(set).next().is_some()) {
        let _ = writeln!(text, "  \"{}\" {{\n    selectors [", set.domain);
        for s in aligned(set) {
            let _ = writeln!(text, "      {{ selector = \"{}\"; path = \"{}\"; }},", s.s, view.key(s));
        }
        text.push_str("    ]\n  }\n");
    }
    text.push_str("}\n");
    text
}
