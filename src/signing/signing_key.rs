//! A private key, ready to sign: RSA through aws-lc-rs (six times faster than in pure Rust), Ed25519 likewise.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{Ed25519KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use getrandom::SysRng;
use rsa::pkcs1v15;
use rsa::pkcs8::DecodePrivateKey;
use rsa::signature::{RandomizedSigner, SignatureEncoding};

use crate::model::key::{Algorithm, KeyError, PrivateKey};

/// A signature could not be computed; tells nothing of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the cryptographic library failed to compute a signature")]
pub struct SigningFailed;

/// A private key, ready to sign. Its `Debug` shows nothing of it.
pub struct SigningKey(Inner);

enum Inner {
    Rsa(Box<RsaKeyPair>),
    /// RSA below 2048 bits, which aws-lc-rs refuses and some providers still allow.
    SmallRsa(Box<pkcs1v15::SigningKey<sha2::Sha256>>),
    Ed25519(Box<Ed25519KeyPair>),
}

impl SigningKey {
    /// Makes a key ready.
    ///
    /// # Errors
    /// [`KeyError::Unreadable`] where it is no key of this algorithm.
    pub fn new(key: &PrivateKey, algorithm: Algorithm) -> Result<Self, KeyError> {
        let der = key.expose_der()?;
        let inner = match algorithm {
            Algorithm::Rsa => match RsaKeyPair::from_pkcs8(&der) {
                Ok(pair) => Inner::Rsa(Box::new(pair)),
                Err(_) => {
                    let small = rsa::PrivateKey::from_pkcs8_der(&der).map_err(|_| KeyError::Unreadable)?;
                    Inner::SmallRsa(Box::new(pkcs1v15::SigningKey::new(small)))
                }
            },
            // Keys made by OpenSSL hold no public half (PKCS#8 version 1), hence "maybe unchecked".
            Algorithm::Ed25519 => Inner::Ed25519(Box::new(
                Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).map_err(|_| KeyError::Unreadable)?,
            )),
        };
        Ok(Self(inner))
    }

    /// The signature over canonical bytes: `rsa-sha256` (RFC 6376 §3.3.1) or `ed25519-sha256`, which signs the
    /// SHA-256 of them (RFC 8463 §3).
    ///
    /// # Errors
    /// [`SigningFailed`].
    pub fn sign(&self, bytes: &[u8]) -> Result<Vec<u8>, SigningFailed> {
        match &self.0 {
            Inner::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), bytes, &mut signature)
                    .map_err(|_| SigningFailed)?;
                Ok(signature)
            }
            Inner::SmallRsa(key) => {
                let signature = key.try_sign_with_rng(&mut SysRng, bytes).map_err(|_| SigningFailed)?;
                Ok(signature.to_vec())
            }
            Inner::Ed25519(pair) => Ok(pair.sign(digest(&SHA256, bytes).as_ref()).as_ref().to_vec()),
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Inner::Rsa(_) | Inner::SmallRsa(_) => "SigningKey(rsa …)",
            Inner::Ed25519(_) => "SigningKey(ed25519 …)",
        })
    }
}
