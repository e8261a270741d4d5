//! What a signer says of itself in a Lease of its own: that it lives, and which keys it uses. Documented in
//! `docs/secret-format.md`; other signers may say the same.

use std::collections::BTreeMap;

use k8s_openapi::api::coordination::v1::Lease;
use serde::{Deserialize, Serialize};

use crate::model::key::KeyFingerprint;

/// Label on the Leases of signers: what kind of signer it is, such as `milter`.
pub const LABEL_SIGNER: &str = "dkim-operator.io/signer";
/// Annotation on the Leases of signers: a [`SignerReport`] as JSON.
pub const ANNOTATION_KEYS_IN_USE: &str = "dkim-operator.io/keys-in-use";
/// How many characters of a fingerprint, after `SHA256:`, name a key in a report: 96 bits.
const KEY_CHARS: usize = 16;

/// Longest report that is read, in bytes: nobody fills the memory of the controller with one.
pub const LONGEST_REPORT: usize = 32 * 1024;

/// Which keys a signer uses. What grows with the number of domains is left out: a signer that follows the API says how
/// far it has come.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SignerReport {
    /// Every change of the namespace's key Secrets up to this resourceVersion is in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// But for these Secrets, of which an earlier version is in use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<String>,
    /// The keys in use, domain by domain, where they come from files, whose versions nobody knows.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub keys: BTreeMap<String, Vec<String>>,
    /// For how many seconds after the Lease has run out that is still so: what signs goes on without what reports for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_seconds: Option<u32>,
}

impl SignerReport {
    /// What a Lease says; nothing where it says nothing that can be understood.
    #[must_use]
    pub fn of(lease: &Lease) -> Option<Self> {
        let text = lease.metadata.annotations.as_ref()?.get(ANNOTATION_KEYS_IN_USE)?;
        if text.len() > LONGEST_REPORT {
            return None;
        }
        serde_json::from_str(text).ok()
    }

    /// What a key is called in a report.
    #[must_use]
    pub fn name_of(key: &KeyFingerprint) -> String {
        key.as_str().trim_start_matches("SHA256:").chars().take(KEY_CHARS).collect()
    }
}

/// A resourceVersion as a number: those of one resource grow with each change, and the API server promises that they
/// may be compared.
#[must_use]
pub fn version_number(version: Option<&str>) -> Option<u64> {
    version?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_understood_is_left_alone() {
        let lease = |text: &str| {
            let mut lease = Lease::default();
            lease.metadata.annotations = Some([(ANNOTATION_KEYS_IN_USE.to_owned(), text.to_owned())].into());
            lease
        };
        assert_eq!(SignerReport::of(&Lease::default()), None);
        assert_eq!(SignerReport::of(&lease("{")), None);
        assert_eq!(SignerReport::of(&lease(r#"{"version":-1}"#)), None);
        let later =
            SignerReport::of(&lease(r#"{"version":7,"except":["dkim-a.com"],"mood":"good"}"#)).unwrap();
        assert_eq!((later.version, later.except.len()), (Some(7), 1), "fields of later versions are ignored");
        let long = format!(r#"{{"version":7{}}}"#, " ".repeat(LONGEST_REPORT));
        assert_eq!(SignerReport::of(&lease(&long)), None);
        let report = SignerReport { version: Some(7), ..SignerReport::default() };
        assert_eq!(serde_json::to_string(&report).unwrap(), r#"{"version":7}"#);
        let held = SignerReport { hold_seconds: Some(60), ..report };
        assert_eq!(serde_json::to_string(&held).unwrap(), r#"{"version":7,"holdSeconds":60}"#);
    }

    #[test]
    fn versions_are_whole_numbers() {
        assert_eq!(version_number(Some("184")), Some(184));
        for none in [None, Some(""), Some("a"), Some("-1")] {
            assert_eq!(version_number(none), None);
        }
    }
}
