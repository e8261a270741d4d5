//! `signing.json` in the key Secret: what a signer needs to know besides the keys. Documented in
//! `docs/secret-format.md`; others may build on it.

use serde::{Deserialize, Serialize};

use crate::model::acceptance::Order;
use crate::model::key::{Algorithm, KeyFingerprint};
use crate::model::keyring::{Keyring, Mode, Phase};
use crate::model::name::DomainName;
use crate::model::record::provider_selector;

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
    /// What signers are told, derived from the keyring.
    #[must_use]
    pub fn of(keyring: &Keyring, order: &Order) -> Self {
        let options = &order.signature;
        let signatures = keyring.active().into_iter().filter_map(|slot| {
            let Phase::Active { key, .. } = &keyring.slots[slot].phase else { return None };
            let selector = &keyring.slots[slot].selector;
            let (d, s) = match keyring.mode {
                Mode::Domain => (order.domain.to_string(), selector.to_string()),
                Mode::Default => (
                    order.placement.initial_domain.to_string(),
                    provider_selector(selector, &order.placement.guid),
                ),
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
        });
        Self {
            format_version: FORMAT_VERSION,
            domain: order.domain.clone(),
            signatures: signatures.collect(),
        }
    }
}
