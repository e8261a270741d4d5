//! What `kubectl dkim export` writes and `import` reads, before it is encrypted: a domain with its keys, as JSON.
//! Documented in `docs/kubectl-dkim.md`.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use super::error::CliError;
use crate::api::signing_config::SIGNING_FILE;
use crate::api::{DkimDomain, DkimDomainSpec};
use crate::controller::secret::{self, Found, STATE_FILE, Stored};
use crate::model::keyring::Phase;
use crate::model::name::DomainName;
use crate::model::vault::Vault;

/// What the file says it is.
const FORMAT: &str = "dkim-operator.io/domain";
/// The version that this program writes and reads.
const VERSION: u32 = 1;

/// A domain with its keys.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bundle {
    format: String,
    version: u32,
    /// When it was made.
    pub exported: Timestamp,
    /// The domain.
    pub domain: DomainName,
    /// The DkimDomain's name.
    pub name: String,
    /// What was asked for.
    pub spec: DkimDomainSpec,
    /// The files of the key Secret.
    files: BTreeMap<String, File>,
}

/// A file's content. Wiped on drop; its `Debug` shows nothing of it.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct File(String);

impl Drop for File {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { exported, domain, name, files, .. } = self;
        let names: Vec<&String> = files.keys().collect();
        write!(f, "Bundle({domain}, {name}, {exported}, {names:?})")
    }
}

/// Why a domain cannot be exported, or a file not be imported. Holds no key material.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    #[error("it is no DKIM domain that kubectl dkim export wrote")]
    NoBundle,
    #[error(
        "a later version of kubectl dkim wrote it (format {0}, and this one reads up to {VERSION}); import it with that version"
    )]
    TooNew(u32),
    #[error(
        "it says that it is for {said}, and its {place} is for {found}; it was put together by hand, export anew"
    )]
    OtherDomain {
        /// What it says of itself.
        said: DomainName,
        /// Where something else stands.
        place: &'static str,
        /// What stands there.
        found: String,
    },
    #[error("the state of the keys ({STATE_FILE}) is missing or cannot be read")]
    NoState,
    #[error(
        "the state of the keys was written by a later version of the operator; use the kubectl dkim of that version"
    )]
    StateTooNew,
    #[error(
        "the key Secret was not made by the operator (it has no label app.kubernetes.io/managed-by=dkim-operator)"
    )]
    Foreign,
    #[error("the private key of {0}, which signs, is missing or does not fit its public half")]
    NoKey(String),
    #[error(
        "no key was made yet, so there is nothing to take along; apply the DkimDomain in the other cluster"
    )]
    NothingYet,
    #[error("it cannot be written as JSON")]
    Json,
}

impl BundleError {
    /// As an error of the command that met it; `what` is the thing that is wrong.
    #[must_use]
    pub fn of(&self, what: &str) -> CliError {
        CliError::Usage(format!("{what}: {self}"))
    }
}

impl Bundle {
    /// Takes a domain and its key Secret.
    ///
    /// # Errors
    /// [`BundleError`] where another cluster could not go on with it.
    pub fn of(object: &DkimDomain, secret: &Secret, now: Timestamp) -> Result<Self, BundleError> {
        let domain = DomainName::parse(&object.spec.domain).map_err(|_| BundleError::NoState)?;
        let vault = inspect(secret, &domain)?.vault;
        let mut files = BTreeMap::new();
        for (name, bytes) in secret.data.iter().flatten() {
            if known(&vault, name) {
                let text = std::str::from_utf8(&bytes.0).map_err(|_| BundleError::NoState)?;
                files.insert(name.clone(), File(text.to_owned()));
            }
        }
        let mut spec = object.spec.clone();
        // Asked for once, of the other cluster; and what was to be taken in is among the keys.
        spec.rotation.rotate_at = None;
        spec.import_keys.clear();
        let exported = Timestamp::from_second(now.as_second()).unwrap_or(now);
        let (format, name) = (FORMAT.to_owned(), object.name_any());
        Ok(Self { format, version: VERSION, exported, domain, name, spec, files })
    }

    /// As JSON.
    ///
    /// # Errors
    /// [`BundleError::Json`] only if our own types cannot be serialised.
    pub fn to_json(&self) -> Result<Zeroizing<Vec<u8>>, BundleError> {
        // Room for everything, escapes included, so that the buffer never moves and leaves keys behind.
        let room: usize = self.files.values().map(|file| file.0.len() * 2).sum();
        let mut json = Zeroizing::new(Vec::with_capacity(room + (64 << 10)));
        serde_json::to_writer(&mut *json, self).map_err(|_| BundleError::Json)?;
        Ok(json)
    }

    /// Reads JSON, and checks that it is whole.
    ///
    /// # Errors
    /// [`BundleError`].
    pub fn from_json(json: &[u8]) -> Result<Self, BundleError> {
        #[derive(Deserialize)]
        struct Head {
            format: String,
            version: u32,
        }
        let head: Head = serde_json::from_slice(json).map_err(|_| BundleError::NoBundle)?;
        match head {
            Head { format, .. } if format != FORMAT => return Err(BundleError::NoBundle),
            Head { version, .. } if version > VERSION => return Err(BundleError::TooNew(version)),
            Head { .. } => {}
        }
        let bundle: Self = serde_json::from_slice(json).map_err(|_| BundleError::NoBundle)?;
        let said = || bundle.domain.clone();
        let other = |place, found: &str| {
            Err(BundleError::OtherDomain { said: said(), place, found: found.to_owned() })
        };
        if DomainName::parse(&bundle.spec.domain).ok() != Some(said()) {
            return other("spec.domain", &bundle.spec.domain);
        }
        let state = bundle.files.get(STATE_FILE).ok_or(BundleError::NoState)?;
        let state: StateDomain = serde_json::from_str(&state.0).map_err(|_| BundleError::NoState)?;
        if state.domain != bundle.domain.as_str() {
            return other(STATE_FILE, &state.domain);
        }
        Ok(bundle)
    }

    /// The data of the key Secret.
    #[must_use]
    pub fn data(&self) -> BTreeMap<String, ByteString> {
        let files = self.files.iter();
        files.map(|(name, file)| (name.clone(), ByteString(file.0.as_bytes().to_vec()))).collect()
    }
}

#[derive(Deserialize)]
struct StateDomain {
    domain: String,
}

/// Whether a file of the Secret is the operator's.
fn known(vault: &Vault, name: &str) -> bool {
    let mut selectors =
        vault.rings.iter().flat_map(|(_, ring)| ring.slots.0.iter().map(|slot| &slot.selector));
    name == STATE_FILE
        || name == SIGNING_FILE
        || selectors.any(|selector| name.strip_suffix(".pem") == Some(selector.as_str()))
}

/// Reads a key Secret as the operator does; what signs must be there.
///
/// # Errors
/// [`BundleError`].
pub fn inspect(secret: &Secret, domain: &DomainName) -> Result<Stored, BundleError> {
    let stored = match secret::read(secret, domain, false) {
        Found::Stored(stored) => *stored,
        Found::Unreadable => return Err(BundleError::NoState),
        Found::Foreign => return Err(BundleError::Foreign),
        Found::TooNew => return Err(BundleError::StateTooNew),
    };
    if stored.vault.last_serial() == 0 {
        return Err(BundleError::NothingYet);
    }
    let custody = stored.custody();
    for (lane, ring) in stored.vault.rings.iter() {
        for (slot, state) in ring.slots.iter() {
            let held = custody.get(lane).is_some_and(|custody| custody[slot]);
            if matches!(state.phase, Phase::Active { .. }) && !held {
                return Err(BundleError::NoKey(state.selector.to_string()));
            }
        }
    }
    Ok(stored)
}

/// Which key signs and which are beside it, in words: `selector2 signs (key 4, SHA256:…); selector1 is Draining (key 3)`.
#[must_use]
pub fn keys_in_words(vault: &Vault) -> String {
    let slots = || vault.rings.iter().flat_map(|(_, ring)| ring.slots.0.iter());
    let words = slots().filter_map(|slot| {
        let key = slot.phase.key()?;
        let (selector, serial) = (&slot.selector, key.serial);
        Some(match &slot.phase {
            Phase::Active { .. } => format!("{selector} signs (key {serial}, {})", key.fingerprint),
            other => format!("{selector} is {} (key {serial})", other.as_str()),
        })
    });
    words.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::cli::testing::{contoso, key_secret, now};

    pub fn bundle() -> Bundle {
        Bundle::of(&contoso(), &key_secret(), now()).unwrap()
    }

    fn changed(change: impl Fn(&mut serde_json::Value)) -> Result<Bundle, BundleError> {
        let mut json: serde_json::Value = serde_json::from_slice(&bundle().to_json().unwrap()).unwrap();
        change(&mut json);
        Bundle::from_json(json.to_string().as_bytes())
    }

    #[test]
    fn what_was_exported_is_read_back() {
        let mut object = contoso();
        object.spec.rotation.rotate_at = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now()));
        let mut secret = key_secret();
        let data = secret.data.as_mut().unwrap();
        data.insert("somebody-elses".into(), ByteString(b"\xff".to_vec()));
        let bundle = Bundle::of(&object, &secret, now()).unwrap();
        let json = bundle.to_json().unwrap();
        let again = Bundle::from_json(&json).unwrap();
        assert_eq!(again.data(), key_secret().data.unwrap(), "the operator's files, and no other");
        assert_eq!(again.spec, contoso().spec, "rotateAt is left out");
        assert_eq!(
            (again.domain.as_str(), again.name.as_str(), again.exported),
            ("contoso.com", "contoso", now())
        );
        let shown = format!("{bundle:?}");
        assert!(!shown.contains("PRIVATE") && shown.contains("selector1.pem"), "{shown}");
    }

    #[test]
    fn what_cannot_go_on_elsewhere_is_refused() {
        let export = |change: &dyn Fn(&mut Secret)| {
            let mut secret = key_secret();
            change(&mut secret);
            Bundle::of(&contoso(), &secret, now()).unwrap_err()
        };
        let data = |secret: &mut Secret, name: &str, text: Option<&str>| {
            let data = secret.data.as_mut().unwrap();
            match text {
                Some(text) => data.insert(name.into(), ByteString(text.into())),
                None => data.remove(name),
            };
        };
        let other_key = crate::cli::testing::new_key();
        assert_eq!(export(&|s| s.metadata.labels = None), BundleError::Foreign);
        assert_eq!(export(&|s| data(s, STATE_FILE, None)), BundleError::NoState);
        assert_eq!(export(&|s| data(s, STATE_FILE, Some("{"))), BundleError::NoState);
        assert_eq!(
            export(&|s| data(s, STATE_FILE, Some(r#"{"formatVersion":99}"#))),
            BundleError::StateTooNew
        );
        assert_eq!(export(&|s| data(s, "selector1.pem", None)), BundleError::NoKey("selector1".into()));
        let swapped = export(&|s| data(s, "selector1.pem", Some(other_key.expose_pem())));
        assert_eq!(swapped, BundleError::NoKey("selector1".into()));
    }

    #[test]
    fn files_that_are_not_whole_are_refused_in_words() {
        let faults = [
            Bundle::from_json(b"hello").unwrap_err(),
            changed(|j| j["format"] = "something/else".into()).unwrap_err(),
            changed(|j| j["version"] = 7.into()).unwrap_err(),
            changed(|j| j["files"] = serde_json::json!({})).unwrap_err(),
            changed(|j| j["files"][STATE_FILE] = "{}".into()).unwrap_err(),
            changed(|j| j["domain"] = "fabrikam.com".into()).unwrap_err(),
            changed(|j| {
                j["domain"] = "fabrikam.com".into();
                j["spec"]["domain"] = "fabrikam.com".into();
            })
            .unwrap_err(),
            BundleError::StateTooNew,
            BundleError::Foreign,
            BundleError::NoKey("selector1".into()),
            BundleError::NothingYet,
        ];
        let words: Vec<String> = faults.iter().map(|f| f.of("contoso.age").to_string()).collect();
        insta::assert_snapshot!(words.join("\n"));
    }

    #[test]
    fn keys_are_told_by_serial_and_fingerprint() {
        let domain = DomainName::parse("contoso.com").unwrap();
        let vault = inspect(&key_secret(), &domain).unwrap().vault;
        let words = keys_in_words(&vault);
        let fingerprint = vault.rings.primary.slots[crate::model::selector::SlotId::One].phase.key().unwrap();
        let expected =
            format!("selector1 signs (key 4, {}); selector2 is Draining (key 3)", fingerprint.fingerprint);
        assert_eq!(words, expected);
    }
}
