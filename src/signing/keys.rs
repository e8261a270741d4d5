//! The keys of one domain, as its Secret is mounted: `signing.json` and the PEM files it names.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use zeroize::Zeroizing;

use super::fault::{KeyDirError, KeyDirFault, MAX_FILE};
use super::signing_key::SigningKey;
use crate::api::signing_config::{FORMAT_VERSION, SIGNING_FILE, SignatureConfig, SigningConfig};
use crate::model::key::PrivateKey;
use crate::model::name::{DnsName, DomainName};

/// Where kubelet's atomic writer keeps the current version of a mounted Secret.
const KUBELET_DATA: &str = "..data";

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
    directory: PathBuf,
    domain: DomainName,
    signers: Vec<Signer>,
    raw_config: Vec<u8>,
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

    /// The directory they were read from, before any link was followed.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Reads one domain's directory. All files come from one version of the Secret: `..data` is resolved once.
    ///
    /// Where `signing.json` is the same as in `previous`, so are the keys, by their fingerprints in it:
    /// `previous` is given back.
    ///
    /// # Errors
    /// [`KeyDirError`] names the file, what is wrong with it and what to do.
    pub fn load(directory: &Path, previous: Option<&Arc<Self>>) -> Result<Arc<Self>, KeyDirError> {
        Self::load_at(directory, directory, previous)
    }

    /// As [`DomainKeys::load`], where links above the directory were followed before: `real`.
    pub(super) fn load_at(
        directory: &Path,
        real: &Path,
        previous: Option<&Arc<Self>>,
    ) -> Result<Arc<Self>, KeyDirError> {
        let source = Source { shown: directory, real: resolve(real) };
        let raw_config = source.read(SIGNING_FILE)?;
        if let Some(same) = previous.filter(|p| *p.raw_config == *raw_config && p.directory == directory) {
            return Ok(Arc::clone(same));
        }
        let at = |fault: KeyDirFault| fault.at(&directory.join(SIGNING_FILE));
        let config = parse(&raw_config).map_err(at)?;
        let SigningConfig { format_version: _, domain, signatures } = config;
        let mut signers = Vec::with_capacity(signatures.len());
        for config in signatures {
            check(&config).map_err(at)?;
            let key = source.key(&config)?;
            signers.push(Signer { config, key });
        }
        Ok(Arc::new(Self { directory: directory.to_owned(), domain, signers, raw_config }))
    }
}

/// Follows kubelet's `..data` once, so that all files are read from one version of the Secret.
pub(super) fn resolve(directory: &Path) -> PathBuf {
    fs::canonicalize(directory.join(KUBELET_DATA)).unwrap_or_else(|_| directory.to_owned())
}

/// Reads the version before anything else, so that a newer format gives the right message.
fn parse(raw: &[u8]) -> Result<SigningConfig, KeyDirFault> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Version {
        format_version: u64,
    }
    let no_config = |e: serde_json::Error| KeyDirFault::NoConfig(e.to_string());
    let Version { format_version } = serde_json::from_slice(raw).map_err(no_config)?;
    if format_version == 0 || format_version > u64::from(FORMAT_VERSION) {
        return Err(KeyDirFault::FormatVersion { found: format_version });
    }
    serde_json::from_slice(raw).map_err(no_config)
}

/// Whether the values may stand in a header field and in a file name. The controller writes no others.
fn check(config: &SignatureConfig) -> Result<(), KeyDirFault> {
    let bad = |what, value: &str| {
        let value = value.chars().take(80).collect();
        Err(KeyDirFault::BadValue { selector: config.s.chars().take(80).collect(), what, value })
    };
    if !DomainName::parse(&config.d).is_ok_and(|d| d.as_str() == config.d) {
        return bad("d", &config.d);
    }
    if DnsName::new(format!("{}._domainkey.{}", config.s, config.d)).is_err()
        || config.s.contains(['*', '/', '_'])
        || config.s.ends_with('.')
    {
        return bad("s", &config.s);
    }
    let mut name = Path::new(&config.key_file).components();
    let plain = matches!((name.next(), name.next()), (Some(std::path::Component::Normal(_)), None));
    if !plain || config.key_file.contains(['/', '\\', '\0']) {
        return bad("keyFile", &config.key_file);
    }
    for header in &config.headers {
        let fits =
            !header.is_empty() && header.bytes().all(|b| matches!(b, 33..=126) && b != b':' && b != b';');
        if !fits || header.eq_ignore_ascii_case(super::field::FIELD_NAME) {
            return bad("headers", header);
        }
    }
    if !config.headers.iter().any(|h| h.eq_ignore_ascii_case("From")) {
        return bad("headers, which lack From (RFC 6376 §5.4),", &config.headers.join(":"));
    }
    match config.expiration_seconds {
        Some(0) => bad("expirationSeconds", "0"),
        _ => Ok(()),
    }
}

/// One version of a domain's directory.
struct Source<'a> {
    /// As it was given: what people know.
    shown: &'a Path,
    /// With `..data` resolved.
    real: PathBuf,
}

impl Source<'_> {
    fn key(&self, config: &SignatureConfig) -> Result<SigningKey, KeyDirError> {
        let at = |fault: KeyDirFault| fault.at(&self.shown.join(&config.key_file));
        let no_key = || KeyDirFault::NoKey(config.algorithm.name());
        let raw = Zeroizing::new(self.read(&config.key_file)?);
        let pem = std::str::from_utf8(&raw).map_err(|_| at(no_key()))?;
        let private = PrivateKey::from_pem(pem).map_err(|_| at(no_key()))?;
        let public = private.public().map_err(|_| at(no_key()))?;
        let found = public.fingerprint().map_err(|_| at(no_key()))?;
        if found != config.fingerprint {
            return Err(at(KeyDirFault::OtherKey { expected: config.fingerprint.clone(), found }));
        }
        if public.algorithm != config.algorithm {
            return Err(at(no_key()));
        }
        SigningKey::new(&private, config.algorithm).map_err(|_| at(no_key()))
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, KeyDirError> {
        let path = self.real.join(name);
        let at = |fault: KeyDirFault| fault.at(&self.shown.join(name));
        let io = |e: std::io::Error| match e.kind() {
            std::io::ErrorKind::NotFound => at(KeyDirFault::NotThere),
            _ => at(KeyDirFault::Unreadable(e.to_string())),
        };
        // Before opening: to open a FIFO would wait for ever.
        let metadata = fs::metadata(&path).map_err(io)?;
        if !metadata.is_file() {
            return Err(at(KeyDirFault::NotRegular));
        }
        if metadata.len() > MAX_FILE {
            return Err(at(KeyDirFault::TooLarge));
        }
        // Room for all of it at once: a vector that grows would leave copies of a key behind.
        let mut raw = Vec::with_capacity(usize::try_from(MAX_FILE.min(metadata.len() + 1)).unwrap_or(0));
        fs::File::open(&path).and_then(|file| file.take(MAX_FILE).read_to_end(&mut raw)).map_err(io)?;
        Ok(raw)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::key::KeyKind;
    use crate::signing::testing::{KeyDir, edit_json};
    use serde_json::json;

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
