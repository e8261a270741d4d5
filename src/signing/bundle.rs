//! What a signer is given for one domain, read and checked: `signing.json` and the private keys it names.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Secret;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::fault::{KeyDirError, KeyDirFault, MAX_FILE};
use crate::api::signing_config::{FORMAT_VERSION, SIGNING_FILE, SignatureConfig, SigningConfig};
use crate::model::acceptance;
use crate::model::key::PrivateKey;
use crate::model::name::{DnsName, DomainName};

/// Where kubelet's atomic writer keeps the current version of a mounted Secret.
const KUBELET_DATA: &str = "..data";

/// One version of one domain's key Secret: the configuration, and the key of each of its signatures. Keys that
/// no signature names are not read. Its `Debug` shows nothing of the keys.
#[derive(Debug)]
pub struct KeyBundle {
    config: SigningConfig,
    keys: Vec<PrivateKey>,
    raw_config: Vec<u8>,
}

impl KeyBundle {
    /// The domain whose mail it signs.
    #[must_use]
    pub fn domain(&self) -> &DomainName {
        &self.config.domain
    }

    /// The signatures to make, in order, each with its key; none while no key may sign.
    pub fn signatures(&self) -> impl ExactSizeIterator<Item = (&SignatureConfig, &PrivateKey)> {
        self.config.signatures.iter().zip(&self.keys)
    }

    /// `signing.json` as it was read. It names the keys by fingerprint: where it is the same, they are.
    #[must_use]
    pub fn raw_config(&self) -> &[u8] {
        &self.raw_config
    }

    /// Reads a Secret as the API server gives it.
    ///
    /// # Errors
    /// [`KeyDirError`]; its path is `NAMESPACE/NAME/FILE`.
    pub fn from_secret(secret: &Secret) -> Result<Self, KeyDirError> {
        let shown = secret_path(secret);
        let data = secret.data.as_ref();
        let file = |name: &str| match data.and_then(|files| files.get(name)) {
            Some(bytes) if bytes.0.len() as u64 > MAX_FILE => Err(KeyDirFault::TooLarge),
            Some(bytes) => Ok(Zeroizing::new(bytes.0.clone())),
            None => Err(KeyDirFault::NotThere),
        };
        let raw_config = file(SIGNING_FILE).map_err(|fault| fault.at(&shown.join(SIGNING_FILE)))?;
        Self::read(&shown, raw_config.to_vec(), file)
    }

    /// Checks a configuration, and reads the keys it names with `file`.
    pub(super) fn read(
        shown: &Path,
        raw_config: Vec<u8>,
        file: impl Fn(&str) -> Result<Zeroizing<Vec<u8>>, KeyDirFault>,
    ) -> Result<Self, KeyDirError> {
        let at = |fault: KeyDirFault| fault.at(&shown.join(SIGNING_FILE));
        let config = parse(&raw_config).map_err(at)?;
        let mut keys = Vec::with_capacity(config.signatures.len());
        for signature in &config.signatures {
            check(signature).map_err(|fault| at(fault).of(&config.domain))?;
            let key = file(&signature.key_file).and_then(|raw| key(signature, &raw));
            keys.push(key.map_err(|f| f.at(&shown.join(&signature.key_file)).of(&config.domain))?);
        }
        Ok(Self { config, keys, raw_config })
    }

    pub(super) fn into_parts(self) -> (SigningConfig, Vec<PrivateKey>, Vec<u8>) {
        (self.config, self.keys, self.raw_config)
    }
}

/// What a Secret is called in messages: `NAMESPACE/NAME`.
pub(super) fn secret_path(secret: &Secret) -> PathBuf {
    let metadata = &secret.metadata;
    Path::new(metadata.namespace.as_deref().unwrap_or_default())
        .join(metadata.name.as_deref().unwrap_or_default())
}

/// The key in a file, if it is the one that the signature is to be made with.
fn key(signature: &SignatureConfig, raw: &[u8]) -> Result<PrivateKey, KeyDirFault> {
    let no_key = || KeyDirFault::NoKey(signature.algorithm.name());
    let pem = std::str::from_utf8(raw).map_err(|_| no_key())?;
    let private = PrivateKey::from_pem_as_stated(pem).map_err(|_| no_key())?;
    let public = private.stated_public().map_err(|_| no_key())?;
    let found = public.fingerprint().map_err(|_| no_key())?;
    if found != signature.fingerprint {
        return Err(KeyDirFault::OtherKey { expected: signature.fingerprint.clone(), found });
    }
    if public.algorithm != signature.algorithm {
        return Err(no_key());
    }
    Ok(private)
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
    if let Some(identity) = &config.identity
        && !acceptance::identity(identity, &config.d).is_ok_and(|normal| normal == *identity)
    {
        return bad("identity", identity);
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
pub(super) struct Files<'a> {
    /// As it was given: what people know.
    shown: &'a Path,
    /// With `..data` resolved.
    real: PathBuf,
}

impl<'a> Files<'a> {
    /// The files below `real`, which is `shown` with links above it followed.
    pub(super) fn new(shown: &'a Path, real: &Path) -> Self {
        Self { shown, real: resolve(real) }
    }

    pub(super) fn config(&self) -> Result<Vec<u8>, KeyDirError> {
        let raw = self.read(SIGNING_FILE).map_err(|fault| fault.at(&self.shown.join(SIGNING_FILE)))?;
        Ok(raw.to_vec())
    }

    pub(super) fn bundle(&self, raw_config: Vec<u8>) -> Result<KeyBundle, KeyDirError> {
        KeyBundle::read(self.shown, raw_config, |name| self.read(name))
    }

    fn read(&self, name: &str) -> Result<Zeroizing<Vec<u8>>, KeyDirFault> {
        let path = self.real.join(name);
        let io = |e: std::io::Error| match e.kind() {
            std::io::ErrorKind::NotFound => KeyDirFault::NotThere,
            _ => KeyDirFault::Unreadable(e.to_string()),
        };
        // Before opening: to open a FIFO would wait for ever.
        let metadata = fs::metadata(&path).map_err(io)?;
        if !metadata.is_file() {
            return Err(KeyDirFault::NotRegular);
        }
        if metadata.len() > MAX_FILE {
            return Err(KeyDirFault::TooLarge);
        }
        // Room for all of it at once: a vector that grows would leave copies of a key behind.
        let room = usize::try_from(MAX_FILE.min(metadata.len() + 1)).unwrap_or(0);
        let mut raw = Zeroizing::new(Vec::with_capacity(room));
        fs::File::open(&path).and_then(|file| file.take(MAX_FILE).read_to_end(&mut raw)).map_err(io)?;
        Ok(raw)
    }
}
