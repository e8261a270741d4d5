//! The keys of one domain, ready to sign with.

use std::path::Path;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use sha2::{Digest, Sha256};

use super::bundle::{Files, KeyBundle};
use super::fault::{KeyDirError, KeyDirFault};
use super::signing_key::SigningKey;
use crate::api::signing_config::{SIGNING_FILE, SignatureConfig};
use crate::model::name::DomainName;

/// One signature to make, and the key for it.
#[derive(Debug)]
pub struct Signer {
    config: SignatureConfig,
    key: SigningKey,
}

impl Signer {
    /// What the signature looks like.
    #[must_use]
    pub fn config(&self) -> &SignatureConfig {
        &self.config
    }

    pub(super) fn key(&self) -> &SigningKey {
        &self.key
    }
}

/// The keys of one domain.
#[derive(Debug)]
pub struct DomainKeys {
    origin: Arc<Path>,
    domain: DomainName,
    signers: Vec<Signer>,
    config_hash: [u8; 32],
}

impl DomainKeys {
    /// The domain whose mail they sign.
    #[must_use]
    pub fn domain(&self) -> &DomainName {
        &self.domain
    }

    /// The signatures to make, in order; empty while no key may sign yet.
    #[must_use]
    pub fn signers(&self) -> &[Signer] {
        &self.signers
    }

    /// The directory they were read from, before any link was followed; or `NAMESPACE/NAME` of a Secret.
    #[must_use]
    pub fn origin(&self) -> &Path {
        &self.origin
    }

    /// Reads one domain's directory. All files come from one version of the Secret: `..data` is resolved once.
    ///
    /// Where `signing.json` is the same as in `previous`, so are the keys, by their fingerprints in it:
    /// `previous` is given back.
    ///
    /// # Errors
    /// [`KeyDirError`] names the file, what is wrong with it and what to do.
    pub fn load(directory: &Path, previous: Option<&Arc<Self>>) -> Result<Arc<Self>, KeyDirError> {
        Self::load_at(&Arc::from(directory), directory, previous)
    }

    /// As [`DomainKeys::load`], where links above the directory were followed before: `real`.
    pub(super) fn load_at(
        directory: &Arc<Path>,
        real: &Path,
        previous: Option<&Arc<Self>>,
    ) -> Result<Arc<Self>, KeyDirError> {
        let files = Files::new(directory, real);
        let raw_config = files.config()?;
        if let Some(same) = previous.filter(|p| p.is_of(directory, &raw_config)) {
            return Ok(Arc::clone(same));
        }
        Ok(Arc::new(Self::from_bundle(directory, files.bundle(raw_config)?)?))
    }

    /// Reads a Secret that was fetched as one object; `origin` is its `NAMESPACE/NAME`.
    ///
    /// # Errors
    /// As [`DomainKeys::load`].
    pub fn from_secret(
        origin: &Arc<Path>,
        secret: &Secret,
        previous: Option<&Arc<Self>>,
    ) -> Result<Arc<Self>, KeyDirError> {
        let raw_config = secret.data.as_ref().and_then(|data| data.get(SIGNING_FILE));
        if let Some(same) = previous.filter(|p| raw_config.is_some_and(|raw| p.is_of(origin, &raw.0))) {
            return Ok(Arc::clone(same));
        }
        Ok(Arc::new(Self::from_bundle(origin, KeyBundle::from_secret(secret)?)?))
    }

    /// Takes the keys of a bundle in. `origin` names where it came from, in messages.
    ///
    /// # Errors
    /// [`KeyDirError`] where a key cannot sign.
    pub fn from_bundle(origin: &Arc<Path>, bundle: KeyBundle) -> Result<Self, KeyDirError> {
        let (config, keys, raw_config) = bundle.into_parts();
        let mut signers = Vec::with_capacity(keys.len());
        for (signature, private) in config.signatures.into_iter().zip(keys) {
            let key = SigningKey::new(&private, signature.algorithm).map_err(|_| {
                let fault = KeyDirFault::NoKey(signature.algorithm.name());
                fault.at(&origin.join(&signature.key_file)).of(&config.domain)
            })?;
            signers.push(Signer { config: signature, key });
        }
        let config_hash = Sha256::digest(&raw_config).into();
        Ok(Self { origin: Arc::clone(origin), domain: config.domain, signers, config_hash })
    }

    fn is_of(&self, origin: &Arc<Path>, raw_config: &[u8]) -> bool {
        self.origin == *origin && self.config_hash == <[u8; 32]>::from(Sha256::digest(raw_config))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::key::KeyKind;
    use crate::signing::testing::{KeyDir, edit_json};
    use serde_json::json;
    use std::fs;

    fn fault(edit: impl Fn(&mut serde_json::Value)) -> String {
        let dir = KeyDir::new();
        dir.domain("", "contoso.com", &[KeyKind::Ed25519]);
        edit_json(dir.path(), edit);
        DomainKeys::load(dir.path(), None).unwrap_err().to_string()
    }

    #[test]
    fn loads_keys_of_every_kind() {
        let dir = KeyDir::new();
        dir.domain("", "contoso.com", &[KeyKind::Rsa1024, KeyKind::Rsa2048, KeyKind::Ed25519]);
        let keys = DomainKeys::load(dir.path(), None).unwrap();
        assert_eq!(keys.domain().as_str(), "contoso.com");
        let lengths: Vec<usize> = keys.signers().iter().map(|s| s.key().sign(b"x").unwrap().len()).collect();
        assert_eq!(lengths, [128, 256, 64]);
    }

    #[test]
    fn a_newer_format_is_refused_whatever_it_looks_like() {
        let text = fault(|json| *json = json!({"formatVersion": 2, "entirely": "different"}));
        assert!(text.ends_with(
            "signing.json: it has formatVersion 2 and this program reads up to 1; update the signer first, the controller after it"
        ));
        let unknown = |json: &mut serde_json::Value| json["later"] = json!(true);
        let dir = KeyDir::new();
        dir.domain("", "contoso.com", &[KeyKind::Ed25519]);
        edit_json(dir.path(), unknown);
        assert!(DomainKeys::load(dir.path(), None).is_ok(), "added fields are no new version");
    }

    #[test]
    fn values_that_would_do_harm_are_refused() {
        for (field, value, says) in [
            ("keyFile", json!("../x.pem"), "keyFile of signature"),
            ("keyFile", json!(".."), "keyFile of signature"),
            ("keyFile", json!("/etc/passwd"), "keyFile of signature"),
            ("d", json!("contoso.com; l=0"), "d of signature"),
            ("d", json!("Contoso.com"), "d of signature"),
            ("s", json!("a\r\nBcc: x@y.z"), "s of signature"),
            ("s", json!(""), "s of signature"),
            ("headers", json!(["From", "To:Subject"]), "headers of signature"),
            ("headers", json!(["From", "DKIM-Signature"]), "headers of signature"),
            ("headers", json!(["To"]), "which lack From"),
            ("expirationSeconds", json!(0), "expirationSeconds of signature"),
        ] {
            let text = fault(|json| json["signatures"][0][field] = value.clone());
            assert!(text.contains(says), "{field}={value}: {text}");
        }
    }

    #[test]
    fn another_key_than_named_is_refused() {
        let dir = KeyDir::new();
        dir.domain("", "contoso.com", &[KeyKind::Ed25519]);
        dir.key("selector1.pem", KeyKind::Ed25519);
        let text = DomainKeys::load(dir.path(), None).unwrap_err().to_string();
        assert!(text.contains("selector1.pem: it holds the key SHA256:"), "{text}");
        let swapped = fault(|json| json["signatures"][0]["algorithm"] = json!("rsa"));
        assert!(swapped.contains("holds no PKCS#8 PEM of an RSA key"), "{swapped}");
    }

    #[test]
    fn errors_show_no_key() {
        let dir = KeyDir::new();
        dir.domain("", "contoso.com", &[KeyKind::Ed25519]);
        let pem = fs::read_to_string(dir.path().join("selector1.pem")).unwrap();
        let secret = pem.lines().nth(1).unwrap().to_owned();
        fs::write(dir.path().join("selector1.pem"), pem.replace("-----BEGIN", "-----BEGUN")).unwrap();
        let error = DomainKeys::load(dir.path(), None).unwrap_err();
        assert!(!format!("{error:?} {error}").contains(secret.get(8..).unwrap()));
        assert!(error.to_string().contains("holds no PKCS#8 PEM"), "{error}");
    }

    #[test]
    fn only_regular_files() {
        let dir = KeyDir::new();
        dir.domain("", "contoso.com", &[KeyKind::Ed25519]);
        fs::remove_file(dir.path().join("selector1.pem")).unwrap();
        let missing = DomainKeys::load(dir.path(), None).unwrap_err().to_string();
        assert!(missing.contains("selector1.pem: it is not there"), "{missing}");
        fs::create_dir(dir.path().join("selector1.pem")).unwrap();
        let text = DomainKeys::load(dir.path(), None).unwrap_err().to_string();
        assert!(text.contains("selector1.pem: it is no regular file"), "{text}");
    }
}
