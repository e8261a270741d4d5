//! What a zone holds, as text for the server.

use std::fmt::Write;

use crate::{Error, Result};

/// A record in the form of a zone file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub owner: String,
    pub ttl: u32,
    pub kind: String,
    pub data: String,
}

/// A zone: a text that was given as a whole, and the records added since.
#[derive(Debug, Clone)]
pub(super) struct Zone {
    pub name: String,
    pub text: String,
    pub records: Vec<Record>,
}

impl Zone {
    /// A zone with one name server, `ns1` in it.
    pub fn new(name: &str, minimum: u32, server: std::net::IpAddr) -> Self {
        let ns = below("ns1", name);
        let address = address_kind(server);
        // A negative answer lives as long as the lesser of the SOA's own TTL and its last field.
        let text = format!(
            "{name} {minimum} IN SOA {ns} hostmaster.{ns} 1 2 2 3600 {minimum}\n\
             {name} 1 IN NS {ns}\n\
             {ns} 1 IN {address} {server}\n"
        );
        Self { name: name.to_owned(), text, records: Vec::new() }
    }

    /// The text of its file. Knot counts the serial up by itself.
    pub fn render(&self) -> String {
        let mut text = format!("$ORIGIN {}\n$TTL 1\n{}\n$ORIGIN .\n", self.name, self.text);
        for Record { owner, ttl, kind, data } in &self.records {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{owner} {ttl} IN {kind} {data}");
        }
        text
    }
}

/// `label` below `name`, which may be the root.
pub(super) fn below(label: &str, name: &str) -> String {
    if name == "." { format!("{label}.") } else { format!("{label}.{name}") }
}

/// The type of an address record.
pub(super) fn address_kind(ip: std::net::IpAddr) -> &'static str {
    if ip.is_ipv4() { "A" } else { "AAAA" }
}

/// The name in lower case with a dot at its end.
pub(super) fn absolute(name: &str) -> Result<String> {
    if name.is_empty()
        || name.chars().any(|character| character.is_whitespace() || "/\";()".contains(character))
    {
        return Err(Error::Zone(format!("{name:?} cannot be used as a name")));
    }
    let name = name.to_ascii_lowercase();
    Ok(if name.ends_with('.') { name } else { format!("{name}.") })
}

/// Whether `name` is `zone` or below it; both are absolute.
pub(super) fn is_within(name: &str, zone: &str) -> bool {
    zone == "." || name == zone || name.strip_suffix(zone).is_some_and(|front| front.ends_with('.'))
}

/// The data of a TXT record for a zone file: quoted, in pieces of 255 bytes.
#[must_use]
pub fn txt(value: &str) -> String {
    let pieces = value.as_bytes().chunks(255).map(|piece| {
        let mut quoted = String::from("\"");
        for &byte in piece {
            let _ = match byte {
                b'"' | b'\\' => write!(quoted, "\\{}", char::from(byte)),
                b' '..=b'~' => write!(quoted, "{}", char::from(byte)),
                _ => write!(quoted, "\\{byte:03}"),
            };
        }
        quoted + "\""
    });
    let pieces: Vec<String> = pieces.collect();
    if pieces.is_empty() { "\"\"".to_owned() } else { pieces.join(" ") }
}
