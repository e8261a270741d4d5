//! `signing.json` in the key Secret: what a signer needs to know besides the keys. Documented in
//! `docs/secret-format.md`; others may build on it.

use serde::{Deserialize, Serialize};

use super::SignatureRequest;
use crate::model::key::{Algorithm, KeyFingerprint};
use crate::model::keyring::{Keyring, Mode, Phase};
use crate::model::name::DomainName;
use crate::model::record::provider_selector;
use crate::model::vault::Vault;

/// File name of the signing configuration in the Secret.
pub const SIGNING_FILE: &str = "signing.json";
/// The version this program writes and reads. A reader refuses a greater one.
pub const FORMAT_VERSION: u32 = 1;

/// The whole of `signing.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SigningConfig {
    /// The version of this format, 1.
    pub format_version: u32,
    /// Mail with this domain in `From:` is signed by it (A-label form).
    pub domain: DomainName,
    /// The signatures to make, in order; empty while no key may sign yet.
    pub signatures: Vec<SignatureConfig>,
}

/// One signature to make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SignatureConfig {
    /// The `d=` tag: the domain itself, or the provider's initial domain while default signing.
    pub d: String,
    /// The `s=` tag.
    pub s: String,
    /// The `i=` tag, where one is to be written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// The key's algorithm.
    pub algorithm: Algorithm,
    /// The file beside this one that holds the private key as PKCS#8 PEM.
    pub key_file: String,
    /// SHA-256 of the public key, to check the file by.
    pub fingerprint: KeyFingerprint,
    /// The key's serial within its domain.
    pub serial: u64,
    /// Canonicalisation of the header: `relaxed` or `simple`.
    pub header_canonicalization: crate::api::Canonicalization,
    /// Canonicalisation of the body: `relaxed` or `simple`.
    pub body_canonicalization: crate::api::Canonicalization,
    /// The headers to sign, in the order of `h=`.
    pub headers: Vec<String>,
    /// Name each header once more than it occurs.
    pub oversign: bool,
    /// Whether to write `t=`.
    pub timestamp: bool,
    /// Seconds from signing to `x=`, where signatures are to end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiration_seconds: Option<u64>,
}

/// The headers that every signature covers, in the order of `h=`.
pub const SIGNED_HEADERS: [&str; 6] = ["From", "To", "Message-ID", "Subject", "MIME-Version", "Content-Type"];

impl SigningConfig {
    /// What signers are told, derived from the vault. The second signature is there only while it is made as the same
    /// domain as the first.
    #[must_use]
    pub fn of(vault: &Vault, signature: &SignatureRequest) -> Self {
        let mode = vault.rings.primary.mode;
        let rings = vault.rings.iter().filter(|(_, ring)| ring.mode == mode);
        Self {
            format_version: FORMAT_VERSION,
            domain: vault.domain.clone(),
            signatures: rings.filter_map(|(_, ring)| signature_of(vault, ring, signature)).collect(),
        }
    }
}

fn signature_of(vault: &Vault, ring: &Keyring, options: &SignatureRequest) -> Option<SignatureConfig> {
    let slot = &ring.slots[ring.active()?];
    let Phase::Active { key, .. } = &slot.phase else { return None };
    let selector = &slot.selector;
    let (d, s) = match ring.mode {
        Mode::Domain => (vault.domain.to_string(), selector.to_string()),
        Mode::Default => {
            (vault.home.initial_domain.to_string(), provider_selector(selector, &vault.home.guid))
        }
    };
    let extra = options.extra_headers.iter().map(String::as_str);
    let mut headers: Vec<String> = Vec::new();
    for name in SIGNED_HEADERS.into_iter().chain(extra) {
        if !headers.iter().any(|h| h.eq_ignore_ascii_case(name)) {
            headers.push(name.to_owned());
        }
    }
    Some(SignatureConfig {
        d,
        s,
        // It must be at or below d= (RFC 6376 §3.5).
        identity: options.identity.clone().filter(|_| ring.mode == Mode::Domain),
        algorithm: key.public.algorithm,
        key_file: format!("{selector}.pem"),
        fingerprint: key.fingerprint.clone(),
        serial: key.serial,
        header_canonicalization: options.header_canonicalization,
        body_canonicalization: options.body_canonicalization,
        headers,
        oversign: options.oversign,
        timestamp: options.timestamp,
        expiration_seconds: options.expiration.and_then(|e| u64::try_from(e.0.as_secs()).ok()),
    })
}
