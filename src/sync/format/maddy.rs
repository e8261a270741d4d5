//! maddy: one snippet for each domain, to be imported in the `source` block of that domain. It signs by the
//! envelope's domain, and makes a key of its own where a key file is missing, so that files come first.

use std::fmt::Write;

use super::{NOTE, Table, View};

pub(super) fn tables(view: &View<'_>) -> Vec<Table> {
    let mut text = NOTE.to_owned();
    for set in view.active {
        let _ = writeln!(text, "\n(dkim-{}) {{\n    modify {{", set.domain);
        for s in &set.signatures {
            let headers = s.headers.join(" ");
            let (over, plain) = if s.oversign { (headers.as_str(), "") } else { ("", headers.as_str()) };
            let _ = writeln!(text, "        dkim {} {} {{", s.d, s.s);
            let _ = writeln!(text, "            key_path {}", view.key(s));
            for (name, list) in [("oversign_fields", over), ("sign_fields", plain)] {
                // An empty list cannot be written: From is in both, and is signed once.
                let list = if list.is_empty() { "From" } else { list };
                let _ = writeln!(text, "            {name} {list}");
            }
            let _ = writeln!(text, "            header_canon {}", s.header_canonicalization.as_str());
            let _ = writeln!(text, "            body_canon {}", s.body_canonicalization.as_str());
            if let Some(seconds) = s.expiration_seconds {
                let _ = writeln!(text, "            sig_expiry {seconds}s");
            }
            text.push_str("        }\n");
        }
        text.push_str("    }\n}\n");
    }
    vec![Table::text("dkim.conf", text)]
}
