//! Keys that cost nothing: their public half is their name. Rotation never looks into a key.

use std::cell::RefCell;
use std::collections::HashMap;

use data_encoding::BASE64;
use dkim_operator::model::key::{Algorithm, KeyFingerprint, KeyKind, PublicKey};
use dkim_operator::model::keyring::KeyInfo;
use dkim_operator::model::record::KeyRecord;
use jiff::Timestamp;

/// Bytes of an RSA-2048 public key as SPKI, and of an Ed25519 one.
const RSA_LEN: usize = 294;
const ED25519_LEN: usize = 32;

/// The tag of the key that a user brings: it has no serial of ours in it.
pub const BROUGHT: u8 = 100;

/// Which key: two keys of one serial differ in their tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId {
    /// The serial.
    pub serial: u16,
    /// Tells keys of one serial apart.
    pub tag: u8,
    /// Ed25519, or else RSA-2048.
    pub ed25519: bool,
}

/// The key that a user brings.
pub const THEIRS: KeyId = KeyId { serial: 0, tag: BROUGHT, ed25519: false };

impl KeyId {
    /// The kind.
    #[must_use]
    pub fn kind(self) -> KeyKind {
        if self.ed25519 { KeyKind::Ed25519 } else { KeyKind::Rsa2048 }
    }
}

/// Makes a key.
#[must_use]
pub fn make(id: KeyId, created: Timestamp) -> KeyInfo {
    let kind = id.kind();
    let mut bytes = vec![0; if id.ed25519 { ED25519_LEN } else { RSA_LEN }];
    bytes[..2].copy_from_slice(&id.serial.to_be_bytes());
    bytes[2] = id.tag;
    let public = PublicKey { algorithm: kind.algorithm(), p: BASE64.encode(&bytes) };
    KeyInfo {
        serial: u64::from(id.serial),
        kind,
        fingerprint: KeyFingerprint::of(&bytes),
        public,
        created,
        imported: id.tag == BROUGHT,
    }
}

/// Takes in the key that the user brings, under a serial of ours.
#[must_use]
pub fn take_in(serial: u64, now: Timestamp) -> KeyInfo {
    KeyInfo { serial, ..make(THEIRS, now) }
}

/// Which key this is the public half of.
#[must_use]
pub fn identify(public: &PublicKey) -> KeyId {
    let bytes = BASE64.decode(public.p.as_bytes()).expect("made here");
    KeyId {
        serial: u16::from_be_bytes([bytes[0], bytes[1]]),
        tag: bytes[2],
        ed25519: public.algorithm == Algorithm::Ed25519,
    }
}

/// Which key a TXT publishes; none where it is revoked.
#[must_use]
pub fn in_record(text: &str) -> Option<KeyId> {
    thread_local! {
        static KNOWN: RefCell<HashMap<String, Option<KeyId>>> = RefCell::default();
    }
    if let Some(known) = KNOWN.with_borrow(|known| known.get(text).copied()) {
        return known;
    }
    let key = match KeyRecord::parse(text).expect("written by the operator") {
        KeyRecord::Key(public) => Some(identify(&public)),
        KeyRecord::Revoked { .. } => None,
    };
    KNOWN.with_borrow_mut(|known| known.insert(text.to_owned(), key));
    key
}

/// The TXT of a key that is revoked.
#[must_use]
pub fn revoked() -> String {
    KeyRecord::Revoked { algorithm: Algorithm::Rsa }.to_string()
}

/// The TXT that publishes a key.
#[must_use]
pub fn record(id: KeyId) -> String {
    thread_local! {
        static KNOWN: RefCell<HashMap<KeyId, String>> = RefCell::default();
    }
    let make = || KeyRecord::Key(make(id, Timestamp::UNIX_EPOCH).public).to_string();
    KNOWN.with_borrow_mut(|known| known.entry(id).or_insert_with(make).clone())
}
