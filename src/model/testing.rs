//! What tests of vaults begin with: contoso.com, its names and its keys.

use jiff::Timestamp;

use super::guid::{Guid, GuidStyle};
use super::home::Home;
use super::key::{KeyFingerprint, KeyKind, PublicKey};
use super::keyring::KeyInfo;
use super::name::{DnsName, DomainName};
use super::selector::{PerSlot, Selector};
use super::vault::Vault;
use crate::api::ZoneSpec;

pub fn contoso() -> DomainName {
    DomainName::parse("contoso.com").unwrap()
}

/// A pair of selectors that are not those of every domain.
pub fn pair(one: &str, two: &str) -> PerSlot<Selector> {
    PerSlot([one, two].map(|s| Selector::parse(s).unwrap()))
}

/// The selectors of every domain.
pub fn selectors() -> PerSlot<Selector> {
    pair("selector1", "selector2")
}

/// Names of contoso.com below an initial domain.
pub fn home(initial: &str) -> Home {
    Home {
        provider: "default".into(),
        guid: Guid::derive(&contoso(), &GuidStyle::Readable, selectors().0.each_ref()),
        initial_domain: DnsName::new(initial).unwrap(),
        zone: ZoneSpec {
            apex: format!("_domainkey.{initial}"),
            name_servers: Vec::new(),
            negative_ttl: 60,
            outlet: None,
        },
        ttl: 300,
    }
}

/// The vault of contoso.com, nothing in its slots.
pub fn vault(home: Home, made: Timestamp) -> Vault {
    Vault::new(contoso(), home, selectors(), made)
}

/// A key that only looks like one.
pub fn key(serial: u64, kind: KeyKind, created: Timestamp) -> KeyInfo {
    KeyInfo {
        serial,
        kind,
        public: PublicKey { algorithm: kind.algorithm(), p: format!("AAA{serial}") },
        fingerprint: KeyFingerprint::of(&serial.to_be_bytes()),
        created,
        imported: false,
    }
}
