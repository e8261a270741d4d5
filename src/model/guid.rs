//! The domain GUID: the one label that stands for a tenant's domain in the provider's names.
//!
//! The readable map doubles each dash and turns each dot into one dash. A label never begins or ends with a
//! dash, so a single dash in a GUID is always a dot and every other run of dashes has even length: the map is
//! injective and reversible. A run of three dashes cannot arise from it and therefore marks a hash suffix.

use std::fmt;

use data_encoding::BASE32_NOPAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::name::{DomainName, MAX_LABEL};
use super::selector::Selector;

/// What separates the readable part from the hash in a shortened or salted GUID.
const HASH_MARK: &str = "---";
/// Base32 characters of the hash: 100 bits, beyond any collision that could be searched for.
const HASH_CHARS: usize = 20;

/// Why a text is not a usable GUID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{text}\" is no usable GUID: 1 to {most} lower-case letters, digits and inner hyphens, such as contoso-com"
)]
pub struct GuidError {
    text: String,
    most: usize,
}

/// How a provider derives GUIDs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GuidStyle<'a> {
    /// `contoso.com` → `contoso-com`.
    Readable,
    /// Readable, then a hash over domain and salt: a CNAME left by one tenant never fits another's.
    Salted {
        /// The namespace's uid.
        salt: &'a str,
    },
    /// Nothing but a hash over domain and salt: tells nothing of the tenant.
    Opaque {
        /// The namespace's uid.
        salt: &'a str,
    },
}

/// A domain GUID: a lower-case LDH label that fits in 63 bytes behind `SELECTOR-`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Guid(String);

impl Guid {
    /// Takes a GUID that a user chose (`spec.guid`).
    ///
    /// # Errors
    /// [`GuidError`] where it is no LDH label or does not fit beside the selectors.
    pub fn chosen(text: &str, selectors: [&Selector; 2]) -> Result<Self, GuidError> {
        let most = room(selectors);
        let folded = text.to_ascii_lowercase();
        let ldh = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let fits = !folded.is_empty()
            && folded.len() <= most
            && folded.bytes().all(ldh)
            && !folded.starts_with('-')
            && !folded.ends_with('-');
        if fits { Ok(Self(folded)) } else { Err(GuidError { text: text.chars().take(80).collect(), most }) }
    }

    /// Derives the GUID of a domain; the same input gives the same GUID for ever.
    #[must_use]
    pub fn derive(domain: &DomainName, style: &GuidStyle<'_>, selectors: [&Selector; 2]) -> Self {
        let readable = domain.as_str().replace('-', "--").replace('.', "-");
        let room = room(selectors);
        match style {
            GuidStyle::Readable if readable.len() <= room => Self(readable),
            GuidStyle::Readable => Self(with_hash(&readable, room, &hash(domain, ""))),
            GuidStyle::Salted { salt } => Self(with_hash(&readable, room, &hash(domain, salt))),
            GuidStyle::Opaque { salt } => Self(hash(domain, salt)),
        }
    }

    /// The domain a readable, unshortened GUID stands for; `None` for the other kinds.
    #[must_use]
    pub fn domain(&self) -> Option<DomainName> {
        let mut domain = String::with_capacity(self.0.len());
        let mut rest = self.0.as_str();
        while let Some(at) = rest.find('-') {
            let (label, from_dash) = rest.split_at(at);
            domain.push_str(label);
            let run = from_dash.bytes().take_while(|b| *b == b'-').count();
            match run {
                1 => domain.push('.'),
                even if even % 2 == 0 => domain.extend(std::iter::repeat_n('-', even / 2)),
                _ => return None,
            }
            rest = from_dash.get(run..).unwrap_or_default();
        }
        domain.push_str(rest);
        DomainName::parse(&domain).ok()
    }

    /// The GUID as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Bytes left for the GUID in a label that begins with the longer selector and a dash. Never more than beside
/// the default selectors, so that the GUID does not depend on shorter ones.
fn room(selectors: [&Selector; 2]) -> usize {
    let longest = selectors.iter().map(|s| s.width()).max().unwrap_or(0);
    MAX_LABEL - 1 - longest.max("selector1".len())
}

fn hash(domain: &DomainName, salt: &str) -> String {
    let digest = Sha256::new().chain_update(domain.as_str()).chain_update([0]).chain_update(salt).finalize();
    let mut text = BASE32_NOPAD.encode(&digest).to_ascii_lowercase();
    text.truncate(HASH_CHARS);
    text
}

fn with_hash(readable: &str, room: usize, hash: &str) -> String {
    let keep = room.saturating_sub(HASH_MARK.len() + hash.len());
    let head: String = readable.chars().take(keep).collect();
    format!("{}{HASH_MARK}{hash}", head.trim_end_matches('-'))
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Guid({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn selectors() -> [Selector; 2] {
        ["selector1", "selector2"].map(|s| Selector::parse(s).unwrap())
    }

    fn readable(domain: &str) -> Guid {
        let [one, two] = &selectors();
        Guid::derive(&DomainName::parse(domain).unwrap(), &GuidStyle::Readable, [one, two])
    }

    #[test]
    fn dots_become_dashes_and_dashes_double() {
        assert_eq!(readable("contoso.com").as_str(), "contoso-com");
        assert_eq!(readable("a-b.com").as_str(), "a--b-com");
        assert_eq!(readable("a.b.com").as_str(), "a-b-com");
        assert_eq!(readable("xn--bcher-kva.example").as_str(), "xn----bcher--kva-example");
    }

    #[test]
    fn long_domains_are_shortened_with_a_hash() {
        let long = format!("{}.{}.com", "a".repeat(40), "b".repeat(40));
        let guid = readable(&long);
        assert_eq!(guid.as_str().len(), 53);
        assert!(guid.as_str().contains(HASH_MARK));
        assert_eq!(guid.domain(), None);
        assert_ne!(guid, readable(&format!("{}.{}.net", "a".repeat(40), "b".repeat(40))));
    }

    #[test]
    fn salted_and_opaque_differ_per_tenant() {
        let [one, two] = &selectors();
        let domain = DomainName::parse("contoso.com").unwrap();
        let of = |style| Guid::derive(&domain, &style, [one, two]);
        let (a, b) = (of(GuidStyle::Salted { salt: "a" }), of(GuidStyle::Salted { salt: "b" }));
        assert_ne!(a, b);
        assert!(a.as_str().starts_with("contoso-com---"));
        let opaque = of(GuidStyle::Opaque { salt: "a" });
        assert!(!opaque.as_str().contains("contoso"));
    }

    fn domain() -> impl Strategy<Value = DomainName> {
        let label = "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?";
        (proptest::collection::vec(label, 1..5), "[a-z]{2,6}")
            .prop_map(|(labels, tld)| format!("{}.{tld}", labels.join(".")))
            .prop_filter_map("no valid IDN", |text| DomainName::parse(&text).ok())
    }

    proptest! {
        #[test]
        fn reversible_where_not_shortened(domain in domain()) {
            let guid = readable(domain.as_str());
            prop_assert!(guid.as_str().len() <= 53);
            if !guid.as_str().contains(HASH_MARK) || domain.as_str().contains(HASH_MARK) && guid.as_str().len() < 53 {
                if let Some(back) = guid.domain() { prop_assert_eq!(back, domain); }
                else { prop_assert!(guid.as_str().contains(HASH_MARK)); }
            }
        }

        #[test]
        fn injective(a in domain(), b in domain()) {
            prop_assert_eq!(a == b, readable(a.as_str()) == readable(b.as_str()));
        }

        #[test]
        fn injective_between_dots_and_dashes(parts in proptest::collection::vec("[a-z]{1,3}", 2..5), mask in 0u8..16) {
            let join = |mask: u8| {
                let mut text = parts[0].clone();
                for (i, part) in parts[1..].iter().enumerate() {
                    text.push(if mask >> i & 1 == 1 { '.' } else { '-' });
                    text.push_str(part);
                }
                DomainName::parse(&format!("{text}.com")).unwrap()
            };
            let (a, b) = (join(mask), join(!mask));
            prop_assert_ne!(readable(a.as_str()), readable(b.as_str()));
        }
    }
}
