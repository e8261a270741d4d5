//! Domain names as mail uses them, and the DNS names the product derives from them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::selector::Selector;

/// Longest textual domain name, without the final dot (RFC 1035 §2.3.4: 255 octets on the wire).
pub const MAX_NAME: usize = 253;
/// Longest label (RFC 1035 §2.3.4).
pub const MAX_LABEL: usize = 63;

/// Why a text is not a domain name that can be signed for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("it is empty; write the domain that stands after the @ of the sender, such as contoso.com")]
    Empty,
    #[error("\"{0}\" is a single label; write the whole domain, such as contoso.com")]
    SingleLabel(String),
    #[error(
        "\"{0}\" is no valid domain name (letters, digits and inner hyphens, labels of 1 to 63 characters, IDN allowed); write it as it stands after the @ of the sender, without scheme, path or spaces"
    )]
    Invalid(String),
    #[error(
        "the name {name} would be {length} bytes long and DNS allows {MAX_NAME}; use a shorter domain or selector"
    )]
    TooLong {
        /// The name that does not fit.
        name: String,
        /// Its length in bytes.
        length: usize,
    },
}

/// A domain that sends mail: A-labels, lower case, no final dot, at least two labels.
///
/// Made from what people write: IDN U-labels are converted (UTS #46, STD3 rules), case is folded, one
/// final dot is tolerated.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DomainName(String);

impl DomainName {
    /// Parses what a person wrote.
    ///
    /// # Errors
    /// [`NameError`] where the text is no domain name, or is so long that no `_domainkey` name fits below it.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let text = text.trim_matches([' ', '\t', '\n', '\r']);
        let bare = text.strip_suffix('.').unwrap_or(text);
        if bare.is_empty() {
            return Err(NameError::Empty);
        }
        let ascii = idna::domain_to_ascii_strict(bare).map_err(|_| match bare.len() {
            length if length > MAX_NAME && bare.is_ascii() => {
                NameError::TooLong { name: bare.to_owned(), length }
            }
            _ => NameError::Invalid(shorten(bare)),
        })?;
        if !ascii.contains('.') {
            return Err(NameError::SingleLabel(ascii));
        }
        // A name whose last label is numeric is an address to every resolver library (RFC 3696 §2).
        let numeric_tld = ascii.rsplit('.').next().is_some_and(|l| l.bytes().all(|b| b.is_ascii_digit()));
        if numeric_tld || !ascii.split('.').all(is_host_label) {
            return Err(NameError::Invalid(shorten(bare)));
        }
        Ok(Self(ascii))
    }

    /// The A-label form, lower case, without final dot.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The form for people: U-labels where they are valid.
    #[must_use]
    pub fn to_unicode(&self) -> String {
        idna::domain_to_unicode(&self.0).0
    }

    /// `SELECTOR._domainkey.DOMAIN`, where receivers look (RFC 6376 §3.6.2.1).
    ///
    /// # Errors
    /// [`NameError::TooLong`] over 253 bytes.
    pub fn domainkey_name(&self, selector: &Selector) -> Result<DnsName, NameError> {
        DnsName::new(format!("{selector}._domainkey.{}", self.0))
    }
}

fn is_host_label(label: &str) -> bool {
    !label.is_empty()
        && label.len() <= MAX_LABEL
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn shorten(text: &str) -> String {
    const MOST: usize = 80;
    if text.chars().count() <= MOST {
        return text.to_owned();
    }
    text.chars().take(MOST).chain(['…']).collect()
}

impl fmt::Display for DomainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for DomainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DomainName({})", self.0)
    }
}

impl FromStr for DomainName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for DomainName {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        Self::parse(&text)
    }
}

impl From<DomainName> for String {
    fn from(name: DomainName) -> Self {
        name.0
    }
}

/// Any owner name or target in DNS, underscores allowed: lower case, no final dot, at most 253 bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DnsName(String);

impl DnsName {
    /// Takes a name in presentation form; folds case and drops one final dot.
    ///
    /// # Errors
    /// [`NameError`] where a label is empty, over 63 bytes or has characters that need escaping, or the whole
    /// is over 253 bytes.
    pub fn new(text: impl AsRef<str>) -> Result<Self, NameError> {
        let text = text.as_ref();
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        if name.is_empty() {
            return Err(NameError::Empty);
        }
        if name.len() > MAX_NAME {
            return Err(NameError::TooLong { length: name.len(), name });
        }
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'*' | b'/');
        let fits = |l: &str| !l.is_empty() && l.len() <= MAX_LABEL && l.bytes().all(plain);
        if !name.split('.').all(fits) {
            return Err(NameError::Invalid(shorten(&name)));
        }
        Ok(Self(name))
    }

    /// The name without final dot.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name with its final dot, as zone files and CNAME targets are best written.
    #[must_use]
    pub fn absolute(&self) -> String {
        format!("{}.", self.0)
    }

    /// Whether `self` is `zone` or lies below it.
    #[must_use]
    pub fn is_in(&self, zone: &DnsName) -> bool {
        self.0 == zone.0 || self.0.strip_suffix(&zone.0).is_some_and(|rest| rest.ends_with('.'))
    }

    /// The name one label up, `None` at a single label.
    #[must_use]
    pub fn parent(&self) -> Option<DnsName> {
        self.0.split_once('.').map(|(_, rest)| DnsName(rest.to_owned()))
    }
}

impl From<DomainName> for DnsName {
    fn from(name: DomainName) -> Self {
        Self(name.0)
    }
}

impl From<&DomainName> for DnsName {
    fn from(name: &DomainName) -> Self {
        Self(name.0.clone())
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DnsName({})", self.0)
    }
}

impl FromStr for DnsName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl TryFrom<String> for DnsName {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl From<DnsName> for String {
    fn from(name: DnsName) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn folds_case_dot_and_idn() {
        assert_eq!(DomainName::parse("Contoso.COM.").unwrap().as_str(), "contoso.com");
        let idn = DomainName::parse("Bücher.example").unwrap();
        assert_eq!(idn.as_str(), "xn--bcher-kva.example");
        assert_eq!(idn.to_unicode(), "bücher.example");
    }

    #[test]
    fn refuses_what_is_no_domain() {
        for bad in [
            "",
            ".",
            "contoso",
            "a..b",
            "-a.com",
            "a-.com",
            "http://contoso.com",
            "a b.com",
            "*.contoso.com",
            "_dmarc.contoso.com",
            "192.0.2.1",
            "contoso.com/x",
            "user@contoso.com",
        ] {
            assert!(DomainName::parse(bad).is_err(), "{bad:?} was taken");
        }
        let long = format!("{}.com", "a".repeat(64));
        assert!(DomainName::parse(&long).is_err());
    }

    #[test]
    fn refuses_domainkey_names_over_253_bytes() {
        let domain = vec!["a".repeat(58); 4].join(".");
        let domain = DomainName::parse(&domain).unwrap();
        let error = domain.domainkey_name(&Selector::parse("selector1").unwrap()).unwrap_err();
        assert!(error.to_string().contains("DNS allows 253"), "{error}");
    }

    #[test]
    fn zones_end_at_label_bounds() {
        let zone = DnsName::new("onmail.example.").unwrap();
        assert!(DnsName::new("a._domainkey.onmail.example").unwrap().is_in(&zone));
        assert!(!DnsName::new("xonmail.example").unwrap().is_in(&zone));
        assert!(zone.is_in(&zone));
    }

    proptest! {
        #[test]
        fn parsing_is_idempotent(text in "\\PC{0,40}") {
            if let Ok(name) = DomainName::parse(&text) {
                prop_assert_eq!(DomainName::parse(name.as_str()).unwrap(), name);
            }
        }
    }
}
