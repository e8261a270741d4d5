//! Signatures that a message came with: one of ours that still verifies is not made again.

use data_encoding::BASE64;

use super::canon::canonical_field;
use super::field::FIELD_NAME;
use super::header::{Field, Header};
use super::keys::Signer;
use crate::api::Canonicalization;
use crate::model::key::Algorithm;

/// Most signatures of a message that are looked at.
const MOST: usize = 16;

/// Whether the message has a signature by this very key, with the same `d=` and `s=`, that verifies. `now` is in
/// seconds since 1970; `hash_of` gives the body hash in a canonicalisation, where that was computed.
pub(super) fn stands<'a>(
    signer: &Signer,
    header: &Header,
    now: u64,
    hash_of: impl Fn(Canonicalization) -> Option<&'a [u8]>,
) -> bool {
    let fields = header.named(FIELD_NAME).take(MOST);
    fields.into_iter().any(|field| verifies(field, signer, header, now, &hash_of).unwrap_or(false))
}

/// `None` where the signature lacks something or is of a kind that we do not make.
fn verifies<'a>(
    field: &Field,
    signer: &Signer,
    header: &Header,
    now: u64,
    hash_of: &impl Fn(Canonicalization) -> Option<&'a [u8]>,
) -> Option<bool> {
    let config = signer.config();
    let tags = Tags::parse(&field.value)?;
    let algorithm = match config.algorithm {
        Algorithm::Rsa => "rsa-sha256",
        Algorithm::Ed25519 => "ed25519-sha256",
    };
    let ours = tags.get("d")?.eq_ignore_ascii_case(&config.d)
        && tags.get("s")?.eq_ignore_ascii_case(&config.s)
        && tags.get("a")? == algorithm
        && tags.get("v")? == "1";
    // With l= anybody may append to the message; a signature that ends within a day is no longer enough.
    let lasts = match tags.get("x") {
        Some(x) => x.parse::<u64>().ok()? > now.saturating_add(24 * 3600),
        None => true,
    };
    let same_identity = tags.get("i").as_deref() == config.identity.as_deref();
    if !ours || !lasts || tags.get("l").is_some() || !same_identity {
        return None;
    }
    let (in_header, in_body) = modes(tags.get("c").as_deref().unwrap_or("simple"))?;
    if BASE64.decode(tags.get("bh")?.as_bytes()).ok()? != hash_of(in_body)? {
        return None;
    }
    let signature = BASE64.decode(tags.get("b")?.as_bytes()).ok()?;
    let names = tags.get("h")?;
    let names: Vec<&str> = names.split(':').collect();
    // It must cover no less than what we would sign now, and nothing that changes on its way.
    let wanted = header.signed_names(&config.headers, config.oversign);
    let changes = names.iter().any(|name| header.is_left_out(name));
    if !covers(&names, &wanted) || changes || header.canonicalization(in_header) != in_header {
        return None;
    }
    let mut input = Vec::with_capacity(2048);
    for field in header.select(&names) {
        canonical_field(in_header, &field.name, &field.value, &mut input);
    }
    canonical_field(in_header, &field.name, &tags.without_signature(), &mut input);
    let input = input.strip_suffix(b"\r\n").unwrap_or(&input);
    Some(signer.key().made(input, &signature))
}

/// Whether each name is there at least as often as wanted.
fn covers(names: &[&str], wanted: &[&str]) -> bool {
    let count = |list: &[&str], name: &str| list.iter().filter(|n| n.eq_ignore_ascii_case(name)).count();
    wanted.iter().all(|name| count(names, name) >= count(wanted, name))
}

fn modes(c: &str) -> Option<(Canonicalization, Canonicalization)> {
    let mode = |text: &str| match text {
        "relaxed" => Some(Canonicalization::Relaxed),
        "simple" => Some(Canonicalization::Simple),
        _ => None,
    };
    let (header, body) = c.split_once('/').unwrap_or((c, "simple"));
    Some((mode(header)?, mode(body)?))
}

/// The tags of a signature (RFC 6376 §3.2).
struct Tags<'a> {
    value: &'a [u8],
    /// Name, and where in `value` the text behind `=` is.
    tags: Vec<(String, std::ops::Range<usize>)>,
}

impl<'a> Tags<'a> {
    /// `None` where something is no tag, or is there twice.
    fn parse(value: &'a [u8]) -> Option<Self> {
        let mut tags: Vec<(String, std::ops::Range<usize>)> = Vec::new();
        let mut at = 0;
        for part in value.split(|b| *b == b';') {
            let begin = at;
            at += part.len() + 1;
            if part.trim_ascii().is_empty() {
                continue;
            }
            let equals = part.iter().position(|b| *b == b'=')?;
            let name = std::str::from_utf8(part.get(..equals)?.trim_ascii()).ok()?.to_owned();
            if tags.iter().any(|(known, _)| *known == name) {
                return None;
            }
            tags.push((name, begin + equals + 1..begin + part.len()));
        }
        Some(Self { value, tags })
    }

    /// The value of a tag, without any white space: none of ours may have any that counts.
    fn get(&self, name: &str) -> Option<String> {
        let (_, range) = self.tags.iter().find(|(known, _)| known == name)?;
        let text = std::str::from_utf8(self.value.get(range.clone())?).ok()?;
        Some(text.split_ascii_whitespace().collect())
    }

    /// The field's value with an empty `b=` (RFC 6376 §3.7).
    fn without_signature(&self) -> Vec<u8> {
        let signature = self.tags.iter().find(|(name, _)| name == "b").map(|(_, range)| range.clone());
        let Some(range) = signature else { return self.value.to_vec() };
        let before = self.value.get(..range.start).unwrap_or_default();
        let after = self.value.get(range.end..).unwrap_or_default();
        [before, after].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::key::KeyKind;
    use crate::signing::testing::KeyDir;
    use crate::signing::{DomainKeys, Made, MessageSigner};
    use jiff::Timestamp;
    use std::sync::Arc;

    const NOW: i64 = 1_700_000_000;

    fn sign(keys: &Arc<DomainKeys>, message: &str) -> (Vec<Made>, String) {
        let (header, body) = message.split_once("\r\n\r\n").unwrap();
        let header = Header::parse(format!("{header}\r\n").as_bytes()).unwrap();
        let mut signer = MessageSigner::new(Arc::clone(keys), header);
        signer.body(body.as_bytes());
        let made = signer.finish(Timestamp::from_second(NOW).unwrap()).unwrap();
        let new: String = made.iter().filter_map(Made::field).map(|f| f.as_str().to_owned()).collect();
        (made, format!("{new}{message}"))
    }

    fn new_ones(keys: &Arc<DomainKeys>, message: &str) -> usize {
        sign(keys, message).0.iter().filter(|made| made.field().is_some()).count()
    }

    const MESSAGE: &str = "From: joe@contoso.com\r\nSubject: x\r\n\r\nhello\r\n";

    #[test]
    fn what_is_signed_is_not_signed_again() {
        for oversign in [false, true] {
            for (header, body) in [("relaxed", "relaxed"), ("simple", "simple"), ("relaxed", "simple")] {
                let dir = KeyDir::new();
                let mode = |text: &str| modes(text).unwrap().0;
                dir.domain_with("", "contoso.com", &[KeyKind::Rsa2048, KeyKind::Ed25519], |config| {
                    config.oversign = oversign;
                    config.header_canonicalization = mode(header);
                    config.body_canonicalization = mode(body);
                });
                let keys = DomainKeys::load(dir.path(), None).unwrap();
                let (made, signed) = sign(&keys, MESSAGE);
                assert_eq!(made.iter().filter(|m| m.field().is_some()).count(), 2);
                assert_eq!(new_ones(&keys, &signed), 0, "{signed}");
                // Fields that others put on top do no harm.
                assert_eq!(new_ones(&keys, &format!("Received: from a\r\n{signed}")), 0);
                for changed in [
                    signed.replace("hello", "hullo"),
                    signed.replace("Subject: x", "Subject: y"),
                    signed.replace("b=", "b=A"),
                    signed.replace("bh=", "l=5; bh="),
                    signed.replace("v=1", "v=2"),
                ] {
                    assert_ne!(changed, signed);
                    assert_eq!(new_ones(&keys, &changed), 2, "{changed}");
                }
            }
        }
    }

    #[test]
    fn a_signature_of_others_or_of_another_key_does_not_count() {
        let (dir, other) = (KeyDir::new(), KeyDir::new());
        dir.domain("", "contoso.com", &[KeyKind::Ed25519]);
        other.domain("", "contoso.com", &[KeyKind::Ed25519]);
        let (keys, other) =
            (DomainKeys::load(dir.path(), None).unwrap(), DomainKeys::load(other.path(), None).unwrap());
        let (_, signed) = sign(&other, MESSAGE);
        assert_eq!(new_ones(&keys, &signed), 1);
        let (_, both) = sign(&keys, &signed);
        assert_eq!(new_ones(&keys, &both), 0);
    }

    #[test]
    fn one_that_ends_soon_is_made_again() {
        for (seconds, new) in [(3600, 1), (7 * 86_400, 0)] {
            let dir = KeyDir::new();
            dir.domain_with("", "contoso.com", &[KeyKind::Ed25519], |c| c.expiration_seconds = Some(seconds));
            let keys = DomainKeys::load(dir.path(), None).unwrap();
            assert_eq!(new_ones(&keys, &sign(&keys, MESSAGE).1), new);
        }
    }

    #[test]
    fn one_that_will_break_is_made_again() {
        let dir = KeyDir::new();
        dir.domain_with("", "contoso.com", &[KeyKind::Ed25519], |config| {
            config.header_canonicalization = Canonicalization::Simple;
        });
        let keys = DomainKeys::load(dir.path(), None).unwrap();
        let (_, signed) = sign(&keys, MESSAGE);
        let new = |edit: fn(&mut Header)| {
            let (header, body) = signed.split_once("\r\n\r\n").unwrap();
            let mut header = Header::parse(format!("{header}\r\n").as_bytes()).unwrap();
            edit(&mut header);
            let mut signer = MessageSigner::new(Arc::clone(&keys), header);
            signer.body(body.as_bytes());
            let made = signer.finish(Timestamp::from_second(NOW).unwrap()).unwrap();
            made.iter().filter_map(Made::field).map(|field| field.as_str().to_owned()).collect::<String>()
        };
        assert_eq!(new(|_| {}), "");
        assert!(new(Header::loosen).contains("c=relaxed/"));
        assert!(new(|header| header.leave_out("message-id")).contains("h=From:To:Subject:"));
    }

    #[test]
    fn one_that_covers_less_is_made_again() {
        let (dir, less) = (KeyDir::new(), KeyDir::new());
        dir.domain("", "contoso.com", &[KeyKind::Ed25519]);
        let keys = DomainKeys::load(dir.path(), None).unwrap();
        for entry in std::fs::read_dir(dir.path()).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, less.path().join(path.file_name().unwrap())).unwrap();
        }
        crate::signing::testing::edit_json(less.path(), |json| {
            json["signatures"][0]["headers"] = serde_json::json!(["From"]);
        });
        let less = DomainKeys::load(less.path(), None).unwrap();
        assert_eq!(new_ones(&keys, &sign(&less, MESSAGE).1), 1);
        assert_eq!(new_ones(&less, &sign(&keys, MESSAGE).1), 0);
    }
}
