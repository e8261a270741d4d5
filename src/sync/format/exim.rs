//! Exim: three lsearch files, looked up for each message by the smtp transport's `dkim_domain`, `dkim_selector`
//! and `dkim_private_key`. Each lookup's key holds the answers of those before it, so that three looks at three
//! moments never mix two versions.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::{NOTE, Table, View, spellings};

pub(super) fn tables(view: &View<'_>) -> Vec<Table> {
    let mut keys = BTreeMap::new();
    // Of an author's domain and a d=, the selectors: those to sign with now, or the last ones.
    let mut selectors: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for set in view.known {
        let mut fresh: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for signature in &set.signatures {
            let name = format!("{}._domainkey.{}", signature.s, signature.d);
            // Active sets come first, and what they say counts.
            keys.entry(name).or_insert_with(|| view.key(signature));
            fresh.entry(&signature.d).or_default().push(&signature.s);
        }
        for (d, list) in fresh {
            for spelling in spellings(&set.domain) {
                selectors.entry(format!("{spelling}/{d}")).or_insert_with(|| list.clone());
            }
        }
    }
    let mut domains = BTreeMap::new();
    for set in view.active {
        let list: BTreeSet<&str> = set.signatures.iter().map(|s| s.d.as_str()).collect();
        for spelling in spellings(&set.domain) {
            domains.insert(spelling, list.iter().copied().collect::<Vec<_>>().join(" : "));
        }
    }
    let lines = |rows: Vec<(String, String)>| {
        let mut text = NOTE.to_owned();
        for (key, value) in rows {
            let _ = writeln!(text, "{key}: {value}");
        }
        text
    };
    let selectors = selectors.into_iter().map(|(key, list)| (key, list.join(" : "))).collect();
    vec![
        Table::text("private-keys", lines(keys.into_iter().collect())),
        Table::text("selectors", lines(selectors)),
        Table::text("domains", lines(domains.into_iter().collect())),
    ]
}
