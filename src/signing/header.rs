//! The header of one message, as its fields come in, and which of them a signature covers.

use std::collections::BTreeMap;

use super::address::{AuthorError, author_domains};
use crate::api::Canonicalization;
use crate::model::name::DomainName;

/// Most bytes of header that are kept; more is no mail.
pub const MAX_HEADER: usize = 1 << 20;

/// Why a header cannot be signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    #[error("line {line} is no header field (name, colon, value); the header ends at the first empty line")]
    NoField {
        /// Counted from 1.
        line: usize,
    },
    #[error("the first line is the \"From \" line of an mbox file; remove it and pass the message alone")]
    MboxLine,
    #[error("a header field has a name that RFC 5322 does not allow")]
    Name,
    #[error("the header is larger than {MAX_HEADER} bytes")]
    TooLarge,
    #[error(
        "the field {name} has {what}, which verifiers do not read alike: a signature over it would not verify everywhere; send it as RFC 5322 §2.2 has it"
    )]
    Ambiguous {
        /// The field.
        name: String,
        /// What it has.
        what: &'static str,
    },
}

/// One header field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// The name as it was written, with white space before the colon where there was some.
    pub name: Vec<u8>,
    /// What stands behind the colon: white space in front kept, folds as CRLF, no final CRLF.
    pub value: Vec<u8>,
}

/// The header of one message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Header {
    fields: Vec<Field>,
    size: usize,
    /// Names that no signature covers.
    left_out: Vec<String>,
    /// Its white space changes on its way.
    loose: bool,
}

impl Header {
    /// An empty header.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the next field. `value` is everything behind the colon, the space in front of it included; folds
    /// may be CRLF or LF, and one final line end is dropped.
    ///
    /// # Errors
    /// [`HeaderError::Name`] or [`HeaderError::TooLarge`].
    pub fn push(&mut self, name: &[u8], value: &[u8]) -> Result<(), HeaderError> {
        if !is_name(name) {
            return Err(HeaderError::Name);
        }
        self.size = self.size.saturating_add(name.len()).saturating_add(value.len());
        if self.size > MAX_HEADER {
            return Err(HeaderError::TooLarge);
        }
        let value = value.strip_suffix(b"\n").map_or(value, |v| v.strip_suffix(b"\r").unwrap_or(v));
        self.fields.push(Field { name: name.to_vec(), value: with_crlf(value) });
        Ok(())
    }

    /// Reads the header of a message: lines up to and without the empty one. Lines may end in CRLF or LF.
    ///
    /// # Errors
    /// [`HeaderError`] where a line is no field.
    pub fn parse(raw: &[u8]) -> Result<Self, HeaderError> {
        let mut header = Self::new();
        let mut current: Option<(Vec<u8>, Vec<u8>)> = None;
        for (index, line) in raw.split_inclusive(|b| *b == b'\n').enumerate() {
            if matches!(line, b"\n" | b"\r\n") {
                break;
            }
            let no_field = HeaderError::NoField { line: index + 1 };
            if line.starts_with(b" ") || line.starts_with(b"\t") {
                current.as_mut().ok_or(no_field)?.1.extend_from_slice(line);
                continue;
            }
            if let Some((name, value)) = current.take() {
                header.push(&name, &value)?;
            }
            let colon = line.iter().position(|b| *b == b':');
            let Some((name, value)) = colon.map(|at| line.split_at(at)).filter(|(name, _)| is_name(name))
            else {
                let mbox = index == 0 && line.starts_with(b"From ");
                return Err(if mbox { HeaderError::MboxLine } else { no_field });
            };
            current = Some((name.to_vec(), value.get(1..).unwrap_or_default().to_vec()));
        }
        if let Some((name, value)) = current {
            header.push(&name, &value)?;
        }
        Ok(header)
    }

    /// The domains of the authors in `From:`, in order (RFC 5322 §3.6.2).
    ///
    /// # Errors
    /// [`AuthorError`] where there is not exactly one `From:` or no mailbox in it.
    pub fn author_domains(&self) -> Result<Vec<DomainName>, AuthorError> {
        let mut froms = self.named("From");
        let from = froms.next().ok_or(AuthorError::NoFrom)?;
        match froms.count() {
            0 => author_domains(&from.value),
            more => Err(AuthorError::SeveralFroms(more + 1)),
        }
    }

    /// Whether verifiers read all fields of these names alike. They do not where RFC 5322 forbids what stands
    /// there, or calls it obsolete.
    ///
    /// # Errors
    /// [`HeaderError::Ambiguous`].
    pub fn check_unambiguous(&self, names: &[String]) -> Result<(), HeaderError> {
        for name in names {
            for field in self.named(name) {
                let mut bytes = field.value.iter().zip(field.value.iter().skip(1).chain([&b'\n']));
                let what = if field.name.len() != trim_end_wsp(&field.name).len() {
                    "white space before its colon"
                } else if field.value.contains(&0) {
                    "a NUL byte"
                } else if bytes.any(|(byte, next)| *byte == b'\r' && *next != b'\n') {
                    "a carriage return of its own"
                } else {
                    continue;
                };
                return Err(HeaderError::Ambiguous { name: name.clone(), what });
            }
        }
        Ok(())
    }

    /// The fields of a name, top to bottom.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Field> {
        self.named(name)
    }

    /// The value of the topmost field of a name.
    #[must_use]
    pub fn first<'a>(&'a self, name: &'a str) -> Option<&'a [u8]> {
        self.named(name).next().map(|field| field.value.as_slice())
    }

    /// How often a field occurs.
    #[must_use]
    pub fn count(&self, name: &str) -> usize {
        self.named(name).count()
    }

    pub(super) fn named<'a>(&'a self, name: &'a str) -> impl DoubleEndedIterator<Item = &'a Field> {
        self.fields.iter().filter(move |f| trim_end_wsp(&f.name).eq_ignore_ascii_case(name.as_bytes()))
    }

    /// No signature covers fields of this name, present or not: they change on their way. `From` is always covered.
    pub fn leave_out(&mut self, name: &str) {
        if !name.eq_ignore_ascii_case("From") {
            self.left_out.push(name.to_owned());
        }
    }

    /// Whether fields of this name are left out.
    pub(super) fn is_left_out(&self, name: &str) -> bool {
        self.left_out.iter().any(|out| out.eq_ignore_ascii_case(name))
    }

    /// Its white space changes on its way: no signature may depend on it.
    pub fn loosen(&mut self) {
        self.loose = true;
    }

    /// How it is signed where that is asked for.
    #[must_use]
    pub fn canonicalization(&self, configured: Canonicalization) -> Canonicalization {
        if self.loose { Canonicalization::Relaxed } else { configured }
    }

    /// The names for `h=`: the configured ones in order, present or not (RFC 6376 §3.5: a name without a field
    /// signs that there is none), but for those that are left out; with `oversign` each once more than it occurs.
    #[must_use]
    pub fn signed_names<'a>(&self, configured: &'a [String], oversign: bool) -> Vec<&'a str> {
        let configured = configured.iter().filter(|name| !self.is_left_out(name));
        if !oversign {
            return configured.map(String::as_str).collect();
        }
        let mut names: Vec<&str> = Vec::new();
        for name in configured {
            if !names.iter().any(|n| n.eq_ignore_ascii_case(name)) {
                names.extend(std::iter::repeat_n(name.as_str(), self.count(name) + 1));
            }
        }
        names
    }

    /// The fields that the names of an `h=` stand for, in its order. The n-th mention of a name is its n-th
    /// field from the bottom (RFC 6376 §5.4.2).
    #[must_use]
    pub fn select(&self, names: &[&str]) -> Vec<&Field> {
        let mut left: BTreeMap<String, Vec<&Field>> =
            names.iter().map(|name| (name.to_ascii_lowercase(), Vec::new())).collect();
        for field in &self.fields {
            let name = String::from_utf8_lossy(trim_end_wsp(&field.name)).to_ascii_lowercase();
            if let Some(fields) = left.get_mut(&name) {
                fields.push(field);
            }
        }
        names.iter().filter_map(|name| left.get_mut(&name.to_ascii_lowercase())?.pop()).collect()
    }
}

/// Whether the bytes before a colon are a field name (RFC 5322 §2.2), white space behind it tolerated.
fn is_name(name: &[u8]) -> bool {
    let bare = trim_end_wsp(name);
    !bare.is_empty() && bare.iter().all(|b| matches!(b, 33..=57 | 59..=126))
}

fn trim_end_wsp(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|b| !matches!(b, b' ' | b'\t')).map_or(0, |at| at + 1);
    text.get(..end).unwrap_or_default()
}

/// Makes every line end CRLF; a CR on its own stays what it is.
fn with_crlf(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 8);
    let mut last = 0;
    for &byte in text {
        if byte == b'\n' && last != b'\r' {
            out.push(b'\r');
        }
        out.push(byte);
        last = byte;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values<'a>(fields: &[&'a Field]) -> Vec<&'a str> {
        fields.iter().map(|f| std::str::from_utf8(&f.value).unwrap()).collect()
    }

    #[test]
    fn reads_fields_with_either_line_end() {
        let unix = Header::parse(b"From: a@b.c\nSubject : x\n\ty\n\nbody: no\n").unwrap();
        let wire = Header::parse(b"From: a@b.c\r\nSubject : x\r\n\ty\r\n\r\nbody: no\r\n").unwrap();
        assert_eq!(unix.fields, wire.fields);
        assert_eq!(unix.count("subject"), 1);
        assert_eq!(unix.count("body"), 0);
        assert_eq!(values(&unix.select(&["Subject"])), [" x\r\n\ty"]);
    }

    #[test]
    fn says_which_line_is_wrong() {
        let fault = |text: &str| Header::parse(text.as_bytes()).unwrap_err();
        assert_eq!(fault("From: a@b.c\nhello\n"), HeaderError::NoField { line: 2 });
        assert_eq!(fault(" folded\n"), HeaderError::NoField { line: 1 });
        assert_eq!(fault("From a@b.c Thu Jan  1 00:00:00 1970\nFrom: a@b.c\n"), HeaderError::MboxLine);
        assert_eq!(fault(": x\n"), HeaderError::NoField { line: 1 });
        assert!(Header::parse(b"From : a@b.c\n").is_ok());
        let large = format!("X: {}", "y".repeat(MAX_HEADER));
        assert_eq!(fault(&large), HeaderError::TooLarge);
        assert_eq!(Header::new().push(b"X\r\nY", b"z"), Err(HeaderError::Name));
    }

    #[test]
    fn repeated_fields_are_taken_from_the_bottom() {
        let header = Header::parse(b"R: 1\nr: 2\nR: 3\nFrom: a@b.c\n").unwrap();
        assert_eq!(values(&header.select(&["R", "From", "r", "R", "R"])), [" 3", " a@b.c", " 2", " 1"]);
    }

    #[test]
    fn oversigning_names_each_once_more() {
        let header = Header::parse(b"From: a@b.c\nTo: x\nTo: y\n").unwrap();
        let names = ["From", "To", "Subject", "to"].map(str::to_owned);
        assert_eq!(header.signed_names(&names, false), ["From", "To", "Subject", "to"]);
        assert_eq!(header.signed_names(&names, true), ["From", "From", "To", "To", "To", "Subject"]);
    }

    #[test]
    fn what_verifiers_read_differently() {
        let check = |text: &[u8]| Header::parse(text).unwrap().check_unambiguous(&["Subject".to_owned()]);
        assert!(check(b"subject: a\r\n b\r\nX : y\r\n").is_ok());
        for (text, what) in [
            (b"Subject : a\r\n".as_slice(), "white space before its colon"),
            (b"Subject: a\0b\r\n", "a NUL byte"),
            (b"Subject: a\rb\r\n", "a carriage return of its own"),
        ] {
            assert!(
                matches!(check(text), Err(HeaderError::Ambiguous { what: found, .. }) if found == what),
                "{what}"
            );
        }
    }

    #[test]
    fn exactly_one_from() {
        let domains = |text: &str| Header::parse(text.as_bytes()).unwrap().author_domains();
        assert_eq!(domains("To: x@y.z\n"), Err(AuthorError::NoFrom));
        assert_eq!(domains("From: a@b.com\nfrom: c@d.com\n"), Err(AuthorError::SeveralFroms(2)));
        assert_eq!(domains("FROM: a@b.com\n").unwrap()[0].as_str(), "b.com");
    }
}
