//! A private key, ready to sign: RSA through aws-lc-rs (six times faster than in pure Rust), Ed25519 likewise.
//!
//! A mail system may have thousands of domains, of which few send at a time. So an RSA key is kept as it was read (a
//! kilobyte) and made ready on its first use; the keys that were made ready last stay so, and no lock is taken to use
//! one of them.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Weak};

use arc_swap::ArcSwapOption;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ED25519, Ed25519KeyPair, KeyPair, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair,
    UnparsedPublicKey,
};
use getrandom::SysRng;
use parking_lot::Mutex;
use rsa::pkcs1v15;
use rsa::pkcs8::DecodePrivateKey;
use rsa::signature::{Keypair, RandomizedSigner, SignatureEncoding, Verifier};
use zeroize::Zeroizing;

use crate::model::key::{Algorithm, KeyError, PrivateKey};

/// Most RSA keys that are kept ready; one takes about 10 KB.
const MOST_READY: usize = 1024;

/// The RSA keys that are ready, the longest first.
static READY: Mutex<VecDeque<Weak<Rsa>>> = Mutex::new(VecDeque::new());

/// A signature could not be computed; tells nothing of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the cryptographic library failed to compute a signature")]
pub struct SigningFailed;

/// A private key, ready to sign. Its `Debug` shows nothing of it.
pub struct SigningKey(Inner);

enum Inner {
    Rsa(Arc<Rsa>),
    Ed25519(Box<Ed25519KeyPair>),
}

/// An RSA key as PKCS#8, and ready where it was used lately.
struct Rsa {
    der: Zeroizing<Vec<u8>>,
    ready: ArcSwapOption<Ready>,
}

enum Ready {
    Usual(RsaKeyPair),
    /// Below 2048 bits, which aws-lc-rs refuses and some providers still allow.
    Small(Box<pkcs1v15::SigningKey<sha2::Sha256>>),
}

impl SigningKey {
    /// Takes a key in. An RSA key is looked into on its first use only.
    ///
    /// # Errors
    /// [`KeyError::Unreadable`] where it is no key of this algorithm.
    pub fn new(key: &PrivateKey, algorithm: Algorithm) -> Result<Self, KeyError> {
        let der = key.expose_der()?;
        Ok(Self(match algorithm {
            Algorithm::Rsa => Inner::Rsa(Arc::new(Rsa { der, ready: ArcSwapOption::empty() })),
            // Keys made by OpenSSL hold no public half (PKCS#8 version 1), hence "maybe unchecked".
            Algorithm::Ed25519 => Inner::Ed25519(Box::new(
                Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).map_err(|_| KeyError::Unreadable)?,
            )),
        }))
    }

    /// The signature over canonical bytes: `rsa-sha256` (RFC 6376 §3.3.1) or `ed25519-sha256`, which signs the
    /// SHA-256 of them (RFC 8463 §3).
    ///
    /// # Errors
    /// [`SigningFailed`].
    pub fn sign(&self, bytes: &[u8]) -> Result<Vec<u8>, SigningFailed> {
        match &self.0 {
            Inner::Rsa(rsa) => rsa.ready()?.sign(bytes),
            Inner::Ed25519(pair) => Ok(pair.sign(digest(&SHA256, bytes).as_ref()).as_ref().to_vec()),
        }
    }

    /// Whether this key made a signature.
    #[must_use]
    pub fn made(&self, bytes: &[u8], signature: &[u8]) -> bool {
        match &self.0 {
            Inner::Rsa(rsa) => rsa.ready().is_ok_and(|ready| ready.made(bytes, signature)),
            Inner::Ed25519(pair) => UnparsedPublicKey::new(&ED25519, pair.public_key().as_ref())
                .verify(digest(&SHA256, bytes).as_ref(), signature)
                .is_ok(),
        }
    }
}

impl Rsa {
    fn ready(self: &Arc<Self>) -> Result<Arc<Ready>, SigningFailed> {
        if let Some(ready) = &*self.ready.load() {
            return Ok(Arc::clone(ready));
        }
        let ready = Arc::new(Ready::new(&self.der)?);
        self.ready.store(Some(Arc::clone(&ready)));
        let mut all = READY.lock();
        all.push_back(Arc::downgrade(self));
        while all.len() > MOST_READY {
            if let Some(old) = all.pop_front().and_then(|old| old.upgrade()) {
                old.ready.store(None);
            }
        }
        Ok(ready)
    }
}

impl Ready {
    fn new(der: &[u8]) -> Result<Self, SigningFailed> {
        if let Ok(pair) = RsaKeyPair::from_pkcs8(der) {
            return Ok(Self::Usual(pair));
        }
        let small = rsa::PrivateKey::from_pkcs8_der(der).map_err(|_| SigningFailed)?;
        Ok(Self::Small(Box::new(pkcs1v15::SigningKey::new(small))))
    }

    fn sign(&self, bytes: &[u8]) -> Result<Vec<u8>, SigningFailed> {
        match self {
            Self::Usual(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), bytes, &mut signature)
                    .map_err(|_| SigningFailed)?;
                Ok(signature)
            }
            Self::Small(key) => {
                let signature = key.try_sign_with_rng(&mut SysRng, bytes).map_err(|_| SigningFailed)?;
                Ok(signature.to_vec())
            }
        }
    }

    fn made(&self, bytes: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Usual(pair) => {
                UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pair.public_key().as_ref())
                    .verify(bytes, signature)
                    .is_ok()
            }
            Self::Small(key) => pkcs1v15::Signature::try_from(signature)
                .is_ok_and(|signature| key.verifying_key().verify(bytes, &signature).is_ok()),
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Inner::Rsa(_) => "SigningKey(rsa …)",
            Inner::Ed25519(_) => "SigningKey(ed25519 …)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::key::KeyKind;

    fn key(kind: KeyKind) -> SigningKey {
        let private = PrivateKey::generate(kind, &mut SysRng).unwrap();
        SigningKey::new(&private, kind.algorithm()).unwrap()
    }

    #[test]
    fn a_key_knows_its_own_signatures() {
        for kind in [KeyKind::Rsa1024, KeyKind::Rsa2048, KeyKind::Ed25519] {
            let (key, other) = (key(kind), key(kind));
            let signature = key.sign(b"text").unwrap();
            assert!(key.made(b"text", &signature), "{kind:?}");
            assert!(!key.made(b"texts", &signature) && !other.made(b"text", &signature), "{kind:?}");
            assert!(!key.made(b"text", b"") && !key.made(b"text", &[7; 256]), "{kind:?}");
        }
    }

    #[test]
    fn few_keys_are_ready_and_all_can_sign() {
        let Inner::Rsa(first) = key(KeyKind::Rsa1024).0 else { panic!("an RSA key") };
        first.ready().unwrap();
        assert!(first.ready.load().is_some());
        let more: Vec<Arc<Rsa>> = (0..MOST_READY)
            .map(|_| Arc::new(Rsa { der: first.der.clone(), ready: ArcSwapOption::empty() }))
            .collect();
        for rsa in &more {
            rsa.ready().unwrap();
        }
        assert!(first.ready.load().is_none(), "it was ready for the longest time");
        assert!(READY.lock().len() <= MOST_READY);
        assert!(first.ready().unwrap().made(b"x", &more[0].ready().unwrap().sign(b"x").unwrap()));
    }

    #[test]
    fn a_broken_key_fails_without_a_word_of_it() {
        let rsa = Arc::new(Rsa { der: Zeroizing::new(vec![0x30, 0]), ready: ArcSwapOption::empty() });
        assert_eq!(SigningKey(Inner::Rsa(rsa)).sign(b"x"), Err(SigningFailed));
    }
}
