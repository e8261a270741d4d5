//! DKIM key records (RFC 6376 §3.6.1, RFC 8463 §4.2): written, read back, cut into character-strings.

use std::fmt;

use data_encoding::BASE64;

use super::guid::Guid;
use super::key::{Algorithm, KeyFingerprint, PublicKey};
use super::name::{DnsName, NameError};
use super::selector::Selector;

/// Longest character-string of a TXT record (RFC 1035 §3.3).
pub const MAX_CHARACTER_STRING: usize = 255;

/// TTL shown for the CNAMEs a tenant publishes, in seconds.
pub const CNAME_TTL: u32 = 3600;

/// The content of a key's TXT record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyRecord {
    /// A key that verifies signatures.
    Key(PublicKey),
    /// A revoked key: an empty `p=` (RFC 6376 §3.6.1).
    Revoked {
        /// The `k=` of the key that was.
        algorithm: Algorithm,
    },
}

/// Why a TXT is no key record that we understand.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("it is no tag=value list")]
    NoTagList,
    #[error("it has v={0}, not v=DKIM1 in the first place")]
    Version(String),
    #[error("it has k={0}, neither rsa nor ed25519")]
    Algorithm(String),
    #[error("it has no p= tag")]
    NoKey,
    #[error("its p= is no base64")]
    Base64,
}

impl KeyRecord {
    /// Reads the text of a TXT record, its character-strings joined (RFC 6376 §3.6.2.2).
    ///
    /// # Errors
    /// [`RecordError`] says what about it a verifier would refuse.
    pub fn parse(text: &str) -> Result<Self, RecordError> {
        let (mut k, mut p) = (None, None);
        for (position, tag) in text.split(';').enumerate() {
            if tag.trim().is_empty() {
                continue;
            }
            let (name, value) = tag.split_once('=').ok_or(RecordError::NoTagList)?;
            match name.trim() {
                "v" if position != 0 || value.trim() != "DKIM1" => {
                    return Err(RecordError::Version(value.trim().chars().take(20).collect()));
                }
                "k" => k = Some(value.trim().to_owned()),
                "p" => p = Some(value.split_ascii_whitespace().collect::<String>()),
                _ => {}
            }
        }
        let algorithm = match k.as_deref() {
            None | Some("rsa") => Algorithm::Rsa,
            Some("ed25519") => Algorithm::Ed25519,
            Some(other) => return Err(RecordError::Algorithm(other.chars().take(20).collect())),
        };
        let p = p.ok_or(RecordError::NoKey)?;
        if p.is_empty() {
            return Ok(Self::Revoked { algorithm });
        }
        let bytes = BASE64.decode(p.as_bytes()).map_err(|_| RecordError::Base64)?;
        Ok(Self::Key(PublicKey { algorithm, p: BASE64.encode(&bytes) }))
    }

    /// The fingerprint of the key, `None` where it is revoked.
    #[must_use]
    pub fn fingerprint(&self) -> Option<KeyFingerprint> {
        match self {
            Self::Key(key) => key.fingerprint().ok(),
            Self::Revoked { .. } => None,
        }
    }
}

impl fmt::Display for KeyRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (algorithm, p) = match self {
            Self::Key(key) => (key.algorithm, key.p.as_str()),
            Self::Revoked { algorithm } => (*algorithm, ""),
        };
        write!(f, "v=DKIM1; k={}; p={p}", algorithm.as_str())
    }
}

/// Cuts a record's text into character-strings of at most 255 bytes.
pub fn character_strings(text: &str) -> impl Iterator<Item = &[u8]> {
    text.as_bytes().chunks(MAX_CHARACTER_STRING)
}

/// A TXT value as zone files want it: quoted, cut into character-strings.
#[must_use]
pub fn zone_file_txt(text: &str) -> String {
    let quoted: Vec<String> = character_strings(text)
        .map(|part| {
            let part = String::from_utf8_lossy(part);
            format!("\"{}\"", part.replace('\\', "\\\\").replace('"', "\\\""))
        })
        .collect();
    quoted.join(" ")
}

/// `SELECTOR-GUID`: the selector of default signing, and the first label of the provider's name.
///
/// Dashes of the selector are doubled, so that the first dash that stands alone ends it: no two pairs of selector and
/// GUID share a label (`a-b` of `c.com` is not `a` of `b.c.com`).
#[must_use]
pub fn provider_selector(selector: &Selector, guid: &Guid) -> String {
    format!("{}-{guid}", selector.as_str().replace('-', "--"))
}

/// `SELECTOR-GUID._domainkey.INITIAL-DOMAIN`: what the tenant's CNAME points at and where the TXT lives.
///
/// # Errors
/// [`NameError`] where the name does not fit in DNS.
pub fn provider_name(
    selector: &Selector,
    guid: &Guid,
    initial_domain: &DnsName,
) -> Result<DnsName, NameError> {
    DnsName::new(format!("{}._domainkey.{initial_domain}", provider_selector(selector, guid)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::guid::GuidStyle;
    use crate::model::key::{KeyKind, PrivateKey};
    use crate::model::name::DomainName;
    use getrandom::SysRng;
    use proptest::prelude::*;

    #[test]
    fn writes_and_reads_back() {
        let public = PrivateKey::generate(KeyKind::Rsa2048, &mut SysRng).unwrap().public().unwrap();
        let record = KeyRecord::Key(public.clone());
        let text = record.to_string();
        assert!(text.starts_with("v=DKIM1; k=rsa; p=MIIB"), "{text}");
        assert_eq!(KeyRecord::parse(&text).unwrap(), record);
        assert_eq!(record.fingerprint(), public.fingerprint().ok());
        assert_eq!(character_strings(&text).map(<[u8]>::len).collect::<Vec<_>>(), [255, 155]);
    }

    #[test]
    fn tells_what_is_wrong() {
        for (text, fault) in [
            ("hello", RecordError::NoTagList),
            ("v=DKIM2; p=", RecordError::Version("DKIM2".into())),
            ("p=; v=DKIM1", RecordError::Version("DKIM1".into())),
            ("v=DKIM1; k=dsa; p=", RecordError::Algorithm("dsa".into())),
            ("v=DKIM1; k=rsa", RecordError::NoKey),
            ("v=DKIM1; p=%%%", RecordError::Base64),
        ] {
            assert_eq!(KeyRecord::parse(text), Err(fault), "{text}");
        }
    }

    #[test]
    fn an_empty_p_is_revoked() {
        let record = KeyRecord::parse("v=DKIM1; k=ed25519; p=").unwrap();
        assert_eq!(record, KeyRecord::Revoked { algorithm: Algorithm::Ed25519 });
        assert_eq!(record.to_string(), "v=DKIM1; k=ed25519; p=");
    }

    proptest! {
        #[test]
        fn no_two_pairs_of_selector_and_domain_share_a_label(
            one in "[ab]{1,2}(-[ab]{1,2}){0,2}", two in "[ab]{1,2}(-[ab]{1,2}){0,2}",
            this in "([ab](-[ab])?\\.){1,3}b", that in "([ab](-[ab])?\\.){1,3}b",
        ) {
            let label = |selector: &str, domain: &str| {
                let selector = Selector::parse(selector).unwrap();
                let domain = DomainName::parse(domain).unwrap();
                let guid = Guid::derive(&domain, &GuidStyle::Readable, [&selector, &selector]);
                provider_selector(&selector, &guid)
            };
            if (&one, &this) != (&two, &that) {
                prop_assert_ne!(label(&one, &this), label(&two, &that));
            }
        }

        #[test]
        fn parsing_never_panics(text in "\\PC{0,200}") {
            let _ = KeyRecord::parse(&text);
        }

        #[test]
        fn strings_join_to_the_text(text in "[ -~]{0,900}") {
            let parts: Vec<&[u8]> = character_strings(&text).collect();
            prop_assert!(parts.iter().all(|p| p.len() <= 255));
            prop_assert_eq!(parts.concat(), text.as_bytes());
        }
    }
}
