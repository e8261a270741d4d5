//! KumoMTA: `dkim_sign.lua` gives a function that makes every signature; `dkim_data.toml` is data for KumoMTA's
//! own `policy-extras.dkim_sign`, which makes one, with `d=` the author's domain. Each is one file.

use std::fmt::Write;

use super::{NOTE, Table, View, spellings};
use crate::api::Canonicalization;
use crate::api::signing_config::SignatureConfig;
use crate::model::key::Algorithm;

pub(super) fn tables(view: &View<'_>) -> Vec<Table> {
    vec![Table::text("dkim_data.toml", toml(view)), Table::text("dkim_sign.lua", lua(view))]
}

fn canonicalization(mode: Canonicalization) -> &'static str {
    match mode {
        Canonicalization::Relaxed => "Relaxed",
        Canonicalization::Simple => "Simple",
    }
}

/// A list of header names, which hold nothing that TOML or Lua would have to be shielded from but quotes and
/// backslashes.
fn names(signature: &SignatureConfig, open: char, close: char) -> String {
    let quoted = |name: &String| format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""));
    let list: Vec<String> = signature.headers.iter().map(quoted).collect();
    format!("{open}{}{close}", list.join(", "))
}

fn toml(view: &View<'_>) -> String {
    let mut text = NOTE.to_owned();
    for set in view.active {
        let own = || set.signatures.iter().filter(|s| s.d == set.domain.as_str());
        let Some(s) = own().find(|s| s.algorithm == Algorithm::Rsa).or_else(|| own().next()) else {
            continue;
        };
        let _ = write!(
            text,
            "\n[domain.\"{}\"]\nselector = \"{}\"\nfilename = \"{}\"\nalgo = \"{}\"\nheaders = {}\n\
             header_canonicalization = \"{}\"\nbody_canonicalization = \"{}\"\n",
            set.domain,
            s.s,
            view.key(s),
            match s.algorithm {
                Algorithm::Rsa => "sha256",
                Algorithm::Ed25519 => "ed25519",
            },
            names(s, '[', ']'),
            canonicalization(s.header_canonicalization),
            canonicalization(s.body_canonicalization),
        );
        // Older versions do not know it.
        if s.oversign {
            text.push_str("over_sign = true\n");
        }
        if let Some(seconds) = s.expiration_seconds {
            let _ = writeln!(text, "expiration = {seconds}");
        }
    }
    text
}

fn lua(view: &View<'_>) -> String {
    let mut text = String::from(
        "-- Written by dkim-operator sync. Changes are lost.\n\
         -- local dkim_sign = dofile('…/dkim_sign.lua'); dkim_sign(msg) in smtp_server_message_received.\n\
         local kumo = require 'kumo'\n\nlocal signatures = {\n",
    );
    for set in view.active {
        for spelling in spellings(&set.domain) {
            let _ = writeln!(text, "  [\"{spelling}\"] = {{");
            for s in &set.signatures {
                let signer = match s.algorithm {
                    Algorithm::Rsa => "rsa_sha256_signer",
                    Algorithm::Ed25519 => "ed25519_signer",
                };
                let _ = write!(
                    text,
                    "    {{ '{signer}', {{ domain = \"{}\", selector = \"{}\", key = \"{}\", headers = {}, \
                     header_canonicalization = \"{}\", body_canonicalization = \"{}\"",
                    s.d,
                    s.s,
                    view.key(s),
                    names(s, '{', '}'),
                    canonicalization(s.header_canonicalization),
                    canonicalization(s.body_canonicalization),
                );
                if s.oversign {
                    text.push_str(", over_sign = true");
                }
                if let Some(seconds) = s.expiration_seconds {
                    let _ = write!(text, ", expiration = {seconds}");
                }
                text.push_str(" } },\n");
            }
            text.push_str("  },\n");
        }
    }
    text.push_str(
        "}\n\nreturn function(msg)\n  local from = msg:from_header()\n  \
         local list = from and signatures[from.domain:lower()]\n  for _, one in ipairs(list or {}) do\n    \
         msg:dkim_sign(kumo.dkim[one[1]](one[2]))\n  end\nend\n",
    );
    text
}
