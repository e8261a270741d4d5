//! Documentation that is derived from the code says what the code says. `UPDATE_DOCS=1` writes it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use dkim_operator::api::{ConditionType, EventReason, Reason};

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn every_condition_reason_and_event_is_explained() {
    let mut text = String::from(
        "# Conditions, reasons and Events\n\nClosed lists: nothing else appears. Messages say what to do next.\n",
    );
    let mut table = |title: &str, rows: &[(&str, &str)]| {
        write!(text, "\n## {title}\n\n| word | means |\n| --- | --- |\n").unwrap();
        for (word, meaning) in rows {
            writeln!(text, "| `{word}` | {meaning} |").unwrap();
        }
    };
    table(
        "Condition types",
        &ConditionType::ALL.iter().map(|c| (c.as_str(), c.meaning())).collect::<Vec<_>>(),
    );
    table("Reasons", &Reason::ALL.iter().map(|r| (r.as_str(), r.meaning())).collect::<Vec<_>>());
    table("Event reasons", &EventReason::ALL.iter().map(|e| (e.as_str(), e.meaning())).collect::<Vec<_>>());

    let path = "docs/conditions.md";
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join(path), &text).unwrap();
    }
    assert!(read(path) == text, "{path} is not what the code says: UPDATE_DOCS=1 cargo test --test docs");
}

#[test]
fn every_dependency_has_its_reason() {
    let page = read("docs/dependencies.md");
    let explained: BTreeSet<&str> =
        page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let mut used = BTreeSet::new();
    let manifests = [read("Cargo.toml"), read("testbed/Cargo.toml"), read("proof/Cargo.toml")];
    for manifest in &manifests {
        let mut listed = false;
        for line in manifest.lines() {
            if line.starts_with('[') {
                listed = line.ends_with("dependencies]");
            } else if let Some((name, _)) = line.split_once(" = ").filter(|_| listed) {
                used.insert(name);
            }
        }
    }
    assert!(used.len() > 20, "only {} dependencies found", used.len());
    assert_eq!(explained, used, "docs/dependencies.md has one line for each direct dependency");
}
