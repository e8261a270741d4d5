//! Why a signature does not verify any more, as far as the message itself tells. Pure.
//!
//! A hash cannot be turned back, but guesses can be hashed: a signature says the hash of what was signed, and most
//! of what changes mail on its way is one of a few things.

use aws_lc_rs::digest::{Context, SHA256, digest};
use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use rsa::BoxedUint;
use rsa::hazmat::rsa_encrypt;
use rsa::pkcs8::DecodePublicKey;
use rsa::traits::PublicKeyParts;

use super::tags::{Tags, without_signature};
use crate::api::Canonicalization;
use crate::signing::canon::{BodyCanonicalizer, canonical_field};
use crate::signing::field::FIELD_NAME;
use crate::signing::header::{Field, Header};

/// Most lines of a body that are tried as its end.
const MOST_LINES: usize = 50_000;
/// Most lines at the beginning of a body that are tried as put in front.
const MOST_LEADING: usize = 40;
/// Largest body that is searched.
const MOST_BODY: usize = 8 << 20;
/// How much of a line is shown.
const SHOWN: usize = 60;
/// DigestInfo of SHA-256 (RFC 8017 §9.2, note 1).
const SHA256_INFO: [u8; 19] = [
    0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00,
    0x04, 0x20,
];

/// What became of a body whose hash is another than the signed one.
pub(super) fn of_body(header: &Header, body: &[u8], mode: Canonicalization, signed: &[u8]) -> String {
    changed_body(body, mode, signed).unwrap_or_else(|| {
        let mut text = "it was changed in a way that cannot be told from the hash".to_owned();
        if let Some(list) = header.first("List-Id") {
            text =
                format!("{text}; a mailing list ({}) has sent it on, and lists change messages", shown(list));
        } else if let Some(converted) = header.first("X-MIME-Autoconverted") {
            text = format!("{text}; a server on the way says that it converted it ({})", shown(converted));
        } else if header.first("Content-Transfer-Encoding").is_some_and(|v| v.trim_ascii() == b"8bit") {
            text.push_str("; it has 8-bit text, which a server on the way may have encoded");
        }
        text
    })
}

fn hash(mode: Canonicalization, body: &[u8]) -> Vec<u8> {
    let mut canonical = BodyCanonicalizer::new(mode, Context::new(&SHA256));
    canonical.feed(body);
    canonical.finish().finish().as_ref().to_vec()
}

fn changed_body(body: &[u8], mode: Canonicalization, signed: &[u8]) -> Option<String> {
    if mode == Canonicalization::Simple && hash(Canonicalization::Relaxed, body) == signed {
        return Some(
            "white space was added to it on the way; it would have verified with c=…/relaxed".to_owned(),
        );
    }
    if body.len() > MOST_BODY {
        return None;
    }
    let lines: Vec<&[u8]> = body.split_inclusive(|b| *b == b'\n').collect();
    // Every beginning of it: what stands behind was appended.
    let mut canonical = BodyCanonicalizer::new(mode, Context::new(&SHA256));
    for (index, line) in lines.iter().enumerate().take(MOST_LINES) {
        if canonical.clone().finish().finish().as_ref() == signed {
            let appended = lines.len() - index;
            let what = lines.iter().skip(index).find(|l| !l.trim_ascii().is_empty()).unwrap_or(line);
            return Some(format!(
                "{} were appended on the way, behind line {index}, beginning with \"{}\"",
                count(appended),
                shown(what)
            ));
        }
        canonical.feed(line);
    }
    // Every end of it: what stands in front was put there.
    let mut rest = body;
    for (index, line) in lines.iter().enumerate().take(MOST_LEADING) {
        rest = rest.get(line.len()..).unwrap_or_default();
        if hash(mode, rest) == signed {
            let what = lines.first().copied().unwrap_or_default();
            return Some(format!(
                "{} were put in front of it on the way, beginning with \"{}\"",
                count(index + 1),
                shown(what)
            ));
        }
    }
    None
}

fn count(lines: usize) -> String {
    if lines == 1 { "1 line".to_owned() } else { format!("{lines} lines") }
}

fn shown(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text.trim_ascii()).into_owned();
    let short: String = text.chars().take(SHOWN).collect();
    if short.len() < text.len() { format!("{short}…") } else { short }
}

/// Why the signature over the header does not fit, the body being as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum HeaderCause {
    /// Another key has signed, or the signature itself was damaged.
    OtherKey,
    /// The key has signed, and this has changed.
    Changed(String),
    /// The key has signed, and something has changed.
    ChangedSomehow,
    /// Nothing can be told.
    Unknown,
}

/// What a signature says of the hash that was signed.
enum Signed {
    /// This hash.
    Hash([u8; 32]),
    /// Nothing, but a guess can be verified.
    Ed25519 { key: Vec<u8>, signature: Vec<u8> },
}

impl Signed {
    fn is(&self, input: &[u8]) -> bool {
        let hash = digest(&SHA256, input);
        match self {
            Self::Hash(signed) => hash.as_ref() == signed,
            Self::Ed25519 { key, signature } => {
                UnparsedPublicKey::new(&ED25519, key).verify(hash.as_ref(), signature).is_ok()
            }
        }
    }
}

/// What became of the header. `own` is the signature's field, `record` the key record.
pub(super) fn of_header(header: &Header, own: &Field, record: &Tags) -> HeaderCause {
    let tags = Tags::parse(&own.value);
    let (Some(signature), Some(public)) = (tags.bytes("b"), record.bytes("p")) else {
        return HeaderCause::Unknown;
    };
    let signed = if tags.get("a").is_some_and(|a| a.starts_with("ed25519")) {
        Signed::Ed25519 { key: public, signature }
    } else {
        match signed_hash(&public, &signature) {
            Ok(Some(hash)) => Signed::Hash(hash),
            Ok(None) => return HeaderCause::OtherKey,
            Err(()) => return HeaderCause::Unknown,
        }
    };
    let relaxed = tags.get("c").is_some_and(|c| c.starts_with("relaxed"));
    let mode = if relaxed { Canonicalization::Relaxed } else { Canonicalization::Simple };
    let names = tags.get("h").unwrap_or_default();
    let names: Vec<&str> = names.split(':').collect();
    let fields = header.select(&names);
    let guesses: Vec<Vec<Guess>> = fields.iter().map(|field| guesses(header, field, mode)).collect();
    let own_value = without_signature(&own.value);
    let input = |chosen: &[(usize, &Guess)]| {
        let mut input = Vec::with_capacity(2048);
        for (index, field) in fields.iter().enumerate() {
            match chosen.iter().find(|(at, _)| *at == index) {
                Some((_, Guess { field: Some(other), .. })) => {
                    canonical_field(mode, &other.name, &other.value, &mut input);
                }
                Some((_, Guess { field: None, .. })) => {}
                None => canonical_field(mode, &field.name, &field.value, &mut input),
            }
        }
        canonical_field(mode, &own.name, &own_value, &mut input);
        let length = input.len().saturating_sub(2);
        input.truncate(length);
        input
    };
    let all: Vec<(usize, &Guess)> =
        guesses.iter().enumerate().flat_map(|(at, list)| list.iter().map(move |guess| (at, guess))).collect();
    for (index, one) in all.iter().enumerate() {
        if signed.is(&input(&[*one])) {
            return HeaderCause::Changed(one.1.words.clone());
        }
        for two in all.iter().skip(index + 1).filter(|two| two.0 != one.0) {
            if matches!(signed, Signed::Hash(_)) && signed.is(&input(&[*one, *two])) {
                return HeaderCause::Changed(format!("{}, and {}", one.1.words, two.1.words));
            }
        }
    }
    match signed {
        Signed::Hash(_) => HeaderCause::ChangedSomehow,
        Signed::Ed25519 { .. } => HeaderCause::Unknown,
    }
}

/// What a field may have been when it was signed.
struct Guess {
    /// The field; `None` where there was none.
    field: Option<Field>,
    /// What has happened then.
    words: String,
}

fn guesses(header: &Header, field: &Field, mode: Canonicalization) -> Vec<Guess> {
    let name = String::from_utf8_lossy(&field.name).trim().to_owned();
    let mut guesses = vec![Guess { field: None, words: format!("{name}: was added after signing") }];
    let mut was = |value: Vec<u8>, words: String| {
        if value != field.value {
            guesses.push(Guess { field: Some(Field { name: field.name.clone(), value }), words });
        }
    };
    for other in header.all(&name) {
        was(other.value.clone(), format!("a second {name}: was added after signing"));
    }
    let text = field.value.trim_ascii_start();
    // A list's "[name] ", a gateway's "[EXTERNAL] ", an answer's "Re: ".
    let mut rest = text;
    while let Some(after) = without_tag(rest) {
        let tag = text.get(..text.len() - after.len()).unwrap_or_default();
        was([b" ", after].concat(), format!("\"{}\" was put in front of {name}:", shown(tag)));
        rest = after;
    }
    if let Some(at) = text.iter().position(|b| *b == b';') {
        let first = text.get(..at).unwrap_or_default();
        was([b" ", first].concat(), format!("parameters were added to {name}:"));
    }
    if mode == Canonicalization::Simple {
        let words = || format!("white space in {name}: was changed; c=relaxed/… would have survived it");
        let flat: Vec<u8> = field.value.iter().copied().filter(|b| !matches!(b, b'\r' | b'\n')).collect();
        let single: Vec<u8> = flat
            .split(|b| matches!(b, b' ' | b'\t'))
            .filter(|w| !w.is_empty())
            .collect::<Vec<_>>()
            .join(&b' ');
        was(flat, words());
        was([b" ", single.as_slice()].concat(), words());
        was(single, words());
        was(text.to_vec(), words());
        was([b" ", text].concat(), words());
    }
    guesses
}

/// What is behind one `[…] ` or `Xx: ` in front of a subject.
fn without_tag(text: &[u8]) -> Option<&[u8]> {
    let behind = if text.first() == Some(&b'[') {
        text.get(text.iter().position(|b| *b == b']')? + 1..)?
    } else {
        let colon = text.iter().take(6).position(|b| *b == b':')?;
        let word = text.get(..colon)?;
        if word.is_empty() || !word.iter().all(|b| b.is_ascii_alphabetic() || *b == b'*') {
            return None;
        }
        text.get(colon + 1..)?
    };
    Some(behind.trim_ascii_start())
}

/// The size of an RSA key as a key record has it.
pub(super) fn rsa_bits(public: &[u8]) -> Option<u32> {
    rsa::PublicKey::from_public_key_der(public).ok().map(|key| key.n().bit_width())
}

/// The hash in an RSA signature (RFC 8017 §8.2.2): `None` where this key has not made it.
fn signed_hash(public: &[u8], signature: &[u8]) -> Result<Option<[u8; 32]>, ()> {
    let key = rsa::PublicKey::from_public_key_der(public).map_err(|_| ())?;
    let precision = key.n().bits_precision();
    let Ok(number) = BoxedUint::from_be_slice(signature, precision) else { return Ok(None) };
    let Ok(recovered) = rsa_encrypt(&key, &number) else { return Ok(None) };
    let bytes = recovered.to_be_bytes();
    let bytes = bytes.strip_prefix(&[0]).map_or(&*bytes, |rest| rest);
    let Some(padding) = bytes.strip_prefix(&[1]) else { return Ok(None) };
    let Some(info) = padding.iter().position(|b| *b != 0xff).and_then(|at| padding.get(at..)) else {
        return Ok(None);
    };
    let hash = info.strip_prefix(&[0]).and_then(|info| info.strip_prefix(&SHA256_INFO[..]));
    Ok(hash.and_then(|hash| hash.try_into().ok()))
}

/// The field of a signature with this `b=` and this place among those that can be read.
pub(super) fn field_of<'a>(header: &'a Header, signature: &[u8]) -> Option<&'a Field> {
    header.all(FIELD_NAME).find(|field| Tags::parse(&field.value).bytes("b").as_deref() == Some(signature))
}
