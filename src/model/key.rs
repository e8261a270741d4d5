//! Signing keys: made, read, named by fingerprint, wiped from memory when dropped.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use data_encoding::{BASE64, BASE64_NOPAD};
use rsa::pkcs1::RsaPrivateKeyRef;
use rsa::pkcs8::der::asn1::BitStringRef;
use rsa::pkcs8::der::{Decode, Encode, pem::PemLabel};
use rsa::pkcs8::{
    DecodePrivateKey, EncodePublicKey, LineEnding, PrivateKeyInfoRef, SecretDocument, SubjectPublicKeyInfoRef,
};
use rsa::rand_core::TryCryptoRng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// PKCS#8 (RFC 5958, RFC 8410 §7) of an Ed25519 seed: everything before the 32 bytes of the seed.
const ED25519_PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
/// Length of an Ed25519 seed and of its public key in bytes (RFC 8032 §5.1.5).
const ED25519_LEN: usize = 32;

/// The `k=` of a key (RFC 6376 §3.6.1, RFC 8463 §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// `rsa-sha256`.
    Rsa,
    /// `ed25519-sha256`.
    Ed25519,
}

impl Algorithm {
    /// The `k=` value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rsa => "rsa",
            Self::Ed25519 => "ed25519",
        }
    }

    /// The name as people and `spec.key.algorithm` write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rsa => "RSA",
            Self::Ed25519 => "Ed25519",
        }
    }
}

/// Which kind of key to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyKind {
    /// 1024 bits: only where the provider allows it (RFC 8301 §3.2 says SHOULD be 2048 at least).
    Rsa1024,
    /// 2048 bits: the default.
    Rsa2048,
    /// 3072 bits.
    Rsa3072,
    /// 4096 bits.
    Rsa4096,
    /// Ed25519 (RFC 8463).
    Ed25519,
}

impl KeyKind {
    /// The algorithm of this kind.
    #[must_use]
    pub fn algorithm(self) -> Algorithm {
        match self {
            Self::Ed25519 => Algorithm::Ed25519,
            Self::Rsa1024 | Self::Rsa2048 | Self::Rsa3072 | Self::Rsa4096 => Algorithm::Rsa,
        }
    }

    /// The key's size in bits.
    #[must_use]
    pub fn bits(self) -> u16 {
        match self {
            Self::Rsa1024 => 1024,
            Self::Rsa2048 => 2048,
            Self::Rsa3072 => 3072,
            Self::Rsa4096 => 4096,
            Self::Ed25519 => 256,
        }
    }
}

/// What can be wrong with a key. Never holds key material.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("the random number generator of the system failed")]
    Random,
    #[error("the key could not be generated: {0}")]
    Generate(String),
    #[error("the private key is no PKCS#8 PEM of an RSA or Ed25519 key")]
    Unreadable,
    #[error("the public key is no base64 of an RSA or Ed25519 key")]
    UnreadablePublic,
    #[error("the fingerprint is not SHA256: and 43 base64 characters")]
    UnreadableFingerprint,
}

/// SHA-256 over the bytes of `p=`: names a key in status, metrics and logs.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyFingerprint(String);

impl KeyFingerprint {
    /// The fingerprint of the decoded bytes of a `p=` tag.
    #[must_use]
    pub fn of(public: &[u8]) -> Self {
        Self(format!("SHA256:{}", BASE64_NOPAD.encode(&Sha256::digest(public))))
    }

    /// `SHA256:` and 43 base64 characters, as `ssh-keygen` writes them.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for KeyFingerprint {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let digest = text.strip_prefix("SHA256:").and_then(|b| BASE64_NOPAD.decode(b.as_bytes()).ok());
        match digest {
            Some(digest) if digest.len() == 32 => Ok(Self(text.to_owned())),
            _ => Err(KeyError::UnreadableFingerprint),
        }
    }
}

impl fmt::Display for KeyFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for KeyFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A public key as DNS carries it: SPKI for RSA, the raw 32 bytes for Ed25519 (RFC 8463 §4.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicKey {
    /// The algorithm, `k=`.
    pub algorithm: Algorithm,
    /// The value of `p=`: base64 with padding.
    pub p: String,
}

impl PublicKey {
    /// The key's fingerprint.
    ///
    /// # Errors
    /// [`KeyError::UnreadablePublic`] where `p` is no base64.
    pub fn fingerprint(&self) -> Result<KeyFingerprint, KeyError> {
        BASE64
            .decode(self.p.as_bytes())
            .map(|bytes| KeyFingerprint::of(&bytes))
            .map_err(|_| KeyError::UnreadablePublic)
    }
}

/// A private key as PKCS#8 PEM. Wiped on drop; its `Debug` shows nothing of it.
#[derive(Clone)]
pub struct PrivateKey {
    pem: Zeroizing<String>,
}

impl PrivateKey {
    /// Makes a new key. RSA-2048 takes about 45 ms of one core on average, with a long tail.
    ///
    /// # Errors
    /// [`KeyError::Random`] or [`KeyError::Generate`].
    pub fn generate(kind: KeyKind, rng: &mut impl TryCryptoRng) -> Result<Self, KeyError> {
        match kind.algorithm() {
            Algorithm::Ed25519 => {
                let mut seed = Zeroizing::new([0u8; ED25519_LEN]);
                rng.try_fill_bytes(seed.as_mut()).map_err(|_| KeyError::Random)?;
                let der = Zeroizing::new([ED25519_PKCS8_PREFIX.as_slice(), seed.as_slice()].concat());
                Self::from_der(&der)
            }
            Algorithm::Rsa => {
                let bits = usize::from(kind.bits());

                let key = rsa::PrivateKey::new(rng, bits).map_err(|e| KeyError::Generate(e.to_string()))?;
                let document = rsa::pkcs8::EncodePrivateKey::to_pkcs8_der(&key)
                    .map_err(|e| KeyError::Generate(e.to_string()))?;
                Self::from_document(&document)
            }
        }
    }

    /// Reads a PKCS#8 PEM and checks that it is a key of a kind we sign with.
    ///
    /// # Errors
    /// [`KeyError::Unreadable`]; the error tells nothing of the content.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let (label, document) = SecretDocument::from_pem(pem).map_err(|_| KeyError::Unreadable)?;
        PrivateKeyInfoRef::validate_pem_label(label).map_err(|_| KeyError::Unreadable)?;
        let key = Self::from_document(&document)?;
        key.public()?;
        Ok(key)
    }

    /// Reads a PEM that a user brings: PKCS#8, or PKCS#1 (`BEGIN RSA PRIVATE KEY`) as older tools write it.
    ///
    /// # Errors
    /// As [`PrivateKey::from_pem`].
    pub fn from_foreign_pem(pem: &str) -> Result<Self, KeyError> {
        use rsa::pkcs1::DecodeRsaPrivateKey;
        if let Ok(key) = Self::from_pem(pem) {
            return Ok(key);
        }
        let key = rsa::PrivateKey::from_pkcs1_pem(pem).map_err(|_| KeyError::Unreadable)?;
        let document = rsa::pkcs8::EncodePrivateKey::to_pkcs8_der(&key).map_err(|_| KeyError::Unreadable)?;
        Self::from_document(&document)
    }

    /// The kind of key it is; `None` for an RSA key of a size that we do not make.
    ///
    /// # Errors
    /// [`KeyError::Unreadable`].
    pub fn kind(&self) -> Result<Option<KeyKind>, KeyError> {
        use rsa::traits::PublicKeyParts;
        let der = self.expose_der()?;
        let info = PrivateKeyInfoRef::from_der(&der).map_err(|_| KeyError::Unreadable)?;
        if info.algorithm.oid != rsa::pkcs1::ALGORITHM_OID {
            return Ok(Some(KeyKind::Ed25519));
        }
        let key = rsa::PrivateKey::from_pkcs8_der(&der).map_err(|_| KeyError::Unreadable)?;
        let all = [KeyKind::Rsa1024, KeyKind::Rsa2048, KeyKind::Rsa3072, KeyKind::Rsa4096];
        Ok(all.into_iter().find(|kind| usize::from(kind.bits()) == key.size() * 8))
    }

    /// Reads a PKCS#8 PEM without looking into the key: it may turn out to be unusable when it is used.
    ///
    /// # Errors
    /// [`KeyError::Unreadable`] where it is no such PEM.
    pub fn from_pem_as_stated(pem: &str) -> Result<Self, KeyError> {
        let (label, document) = SecretDocument::from_pem(pem).map_err(|_| KeyError::Unreadable)?;
        PrivateKeyInfoRef::validate_pem_label(label).map_err(|_| KeyError::Unreadable)?;
        Self::from_document(&document)
    }

    fn from_der(der: &[u8]) -> Result<Self, KeyError> {
        let document = SecretDocument::try_from(der).map_err(|_| KeyError::Unreadable)?;
        Self::from_document(&document)
    }

    fn from_document(document: &SecretDocument) -> Result<Self, KeyError> {
        let pem = document
            .to_pem(PrivateKeyInfoRef::PEM_LABEL, LineEnding::LF)
            .map_err(|_| KeyError::Unreadable)?;
        Ok(Self { pem })
    }

    /// The PKCS#8 PEM. Whoever asks for it writes it to the Secret or to a file of mode 0600 and nowhere else.
    #[must_use]
    pub fn expose_pem(&self) -> &str {
        &self.pem
    }

    /// The PKCS#8 DER, for signing libraries.
    ///
    /// # Errors
    /// [`KeyError::Unreadable`].
    pub fn expose_der(&self) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let (_, document) = SecretDocument::from_pem(&self.pem).map_err(|_| KeyError::Unreadable)?;
        Ok(document.to_bytes())
    }

    /// The public half.
    ///
    /// # Errors
    /// [`KeyError::Unreadable`].
    pub fn public(&self) -> Result<PublicKey, KeyError> {
        let der = self.expose_der()?;
        let info = PrivateKeyInfoRef::from_der(&der).map_err(|_| KeyError::Unreadable)?;
        if info.algorithm.oid == rsa::pkcs1::ALGORITHM_OID {
            let key = rsa::PrivateKey::from_pkcs8_der(&der).map_err(|_| KeyError::Unreadable)?;
            let spki = key.to_public_key().to_public_key_der().map_err(|_| KeyError::Unreadable)?;
            Ok(PublicKey { algorithm: Algorithm::Rsa, p: BASE64.encode(spki.as_bytes()) })
        } else {
            let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).map_err(|_| KeyError::Unreadable)?;
            Ok(PublicKey { algorithm: Algorithm::Ed25519, p: BASE64.encode(pair.public_key().as_ref()) })
        }
    }

    /// The public half as the key states it. For RSA it is read, not checked against the private half, which takes
    /// microseconds where [`PrivateKey::public`] takes most of a millisecond.
    ///
    /// # Errors
    /// [`KeyError::Unreadable`].
    pub fn stated_public(&self) -> Result<PublicKey, KeyError> {
        let der = self.expose_der()?;
        let info = PrivateKeyInfoRef::from_der(&der).map_err(|_| KeyError::Unreadable)?;
        if info.algorithm.oid != rsa::pkcs1::ALGORITHM_OID {
            return self.public();
        }
        let key = RsaPrivateKeyRef::try_from(info.private_key.as_bytes());
        let key = key.map_err(|_| KeyError::Unreadable)?;
        let pkcs1 = key.public_key().to_der().map_err(|_| KeyError::Unreadable)?;
        let key = BitStringRef::from_bytes(&pkcs1).map_err(|_| KeyError::Unreadable)?;
        let spki = SubjectPublicKeyInfoRef { algorithm: info.algorithm, subject_public_key: key };
        let spki = spki.to_der().map_err(|_| KeyError::Unreadable)?;
        Ok(PublicKey { algorithm: Algorithm::Rsa, p: BASE64.encode(&spki) })
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use getrandom::SysRng;

    #[test]
    fn rsa_and_ed25519_round_trip() {
        for kind in [KeyKind::Rsa1024, KeyKind::Rsa2048, KeyKind::Ed25519] {
            let key = PrivateKey::generate(kind, &mut SysRng).unwrap();
            let again = PrivateKey::from_pem(key.expose_pem()).unwrap();
            let public = key.public().unwrap();
            assert_eq!(public, again.public().unwrap());
            assert_eq!(public, key.stated_public().unwrap());
            assert_eq!(public.algorithm, kind.algorithm());
            let bytes = BASE64.decode(public.p.as_bytes()).unwrap();
            match kind {
                KeyKind::Ed25519 => assert_eq!(bytes.len(), 32, "RFC 8463 wants the raw key"),
                KeyKind::Rsa2048 => assert_eq!(bytes.len(), 294),
                _ => assert_eq!(bytes.len(), 162),
            }
            assert_eq!(public.fingerprint().unwrap().as_str().len(), 50);
        }
    }

    #[test]
    fn debug_and_errors_tell_nothing() {
        let key = PrivateKey::generate(KeyKind::Ed25519, &mut SysRng).unwrap();
        assert_eq!(format!("{key:?}"), "PrivateKey(…)");
        let broken = key.expose_pem().replace("MC4", "MC5");
        let error = PrivateKey::from_pem(&broken).unwrap_err().to_string();
        assert!(!error.contains("MC5"), "{error}");
    }

    /// RFC 8410 §10.3 names this key; its public half is given in §10.1.
    #[test]
    fn reads_the_key_of_rfc_8410() {
        let pem = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";
        let public = PrivateKey::from_pem(pem).unwrap().public().unwrap();
        assert_eq!(public.p, "Gb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=");
    }
}
