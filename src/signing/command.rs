//! `dkim-operator sign`: a message in, the signed message out.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use super::address::AuthorError;
use super::fault::KeyDirError;
use super::header::{Header, HeaderError, MAX_HEADER};
use super::signer::{Made, MessageSigner};
use super::signing_key::SigningFailed;
use super::store::KeyStore;
use crate::model::key::KeyFingerprint;
use crate::model::name::DomainName;

/// A body up to this size is kept in memory until its hash is known, a larger one in a temporary file.
const IN_MEMORY: usize = 1 << 20;
const CHUNK: usize = 64 * 1024;

/// Why a message was not signed. Nothing has been written then.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    #[error("{0}")]
    Keys(#[from] KeyDirError),
    #[error(
        "no keys for {}: the key directory is for {}; mail is signed only by the keys of exactly its From: domain (--pass-unknown passes other mail on as it is)",
        list(authors),
        list(ours)
    )]
    NotOurs {
        /// The domains in `From:`.
        authors: Vec<DomainName>,
        /// The domains of the key directory.
        ours: Vec<DomainName>,
    },
    #[error("no usable keys for {}; part of the key directory cannot be used: {problem}", list(authors))]
    PerhapsOurs {
        /// The domains in `From:`.
        authors: Vec<DomainName>,
        /// The first problem.
        problem: Box<KeyDirError>,
    },
    #[error(
        "no key of {0} may sign yet (signatures in signing.json is empty): its records are not seen in DNS; status of the DkimDomain says what is missing"
    )]
    NothingToSignWith(DomainName),
    #[error("{0}")]
    Header(#[from] HeaderError),
    #[error("{0}")]
    Author(#[from] AuthorError),
    #[error("{0}")]
    Signing(#[from] SigningFailed),
    #[error("the message could not be read, kept or written: {0}")]
    Io(#[from] io::Error),
}

impl SignError {
    /// The exit code: 3 not ours, 4 no key may sign yet, else as in `sysexits.h`.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NotOurs { .. } => 3,
            Self::NothingToSignWith(_) => 4,
            Self::Header(_) | Self::Author(_) => 65,
            Self::Signing(_) => 70,
            Self::Io(_) => 74,
            Self::Keys(_) | Self::PerhapsOurs { .. } => 78,
        }
    }
}

fn list(domains: &[DomainName]) -> String {
    const MOST: usize = 5;
    let names: Vec<&str> = domains.iter().take(MOST).map(DomainName::as_str).collect();
    let more = domains.len().saturating_sub(MOST);
    match (names.is_empty(), more) {
        (true, _) => "no domain".to_owned(),
        (false, 0) => names.join(", "),
        (false, more) => format!("{} and {more} more", names.join(", ")),
    }
}

/// What was done to a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SignReport {
    /// The domain in `From:` that decided.
    pub domain: DomainName,
    /// The signatures made, in the order of the message; empty where it was passed on as it is, or had them already.
    pub signatures: Vec<MadeSignature>,
}

/// One signature made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MadeSignature {
    /// The `d=` tag.
    pub d: String,
    /// The `s=` tag.
    pub s: String,
    /// Which key it was.
    pub fingerprint: KeyFingerprint,
}

/// What to do with mail of other domains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unknown {
    /// [`SignError::NotOurs`].
    #[default]
    Refuse,
    /// Pass it on byte by byte.
    Pass,
}

/// Signs one message with the keys of its `From:` domain and writes it with the signature fields on top.
///
/// Line ends are written as CRLF, the last one too, as SMTP has them, whatever they were; so it is these bytes
/// that verify.
/// Nothing is written before the whole message is read and signed. Memory does not grow with the body.
///
/// # Errors
/// [`SignError`].
pub fn run_sign(
    key_dir: &Path,
    mut input: impl Read,
    mut output: impl Write,
    unknown: Unknown,
    now: Timestamp,
) -> Result<SignReport, SignError> {
    let store = KeyStore::load(key_dir)?;
    let Beginning { raw, body_at } = read_header(&mut input)?;
    let (raw_header, body) = raw.split_at_checked(body_at).unwrap_or((&raw, &[]));
    let header = Header::parse(raw_header)?;
    let authors = header.author_domains()?;

    let Some(keys) = store.for_authors(&authors) else {
        if let Some(problem) = store.problems().first() {
            return Err(SignError::PerhapsOurs { authors, problem: Box::new(problem.clone()) });
        }
        return match (unknown, authors.first()) {
            (Unknown::Pass, Some(author)) => {
                output.write_all(&raw)?;
                io::copy(&mut input, &mut output)?;
                output.flush()?;
                Ok(SignReport { domain: author.clone(), signatures: Vec::new() })
            }
            _ => {
                let ours = store.domains().map(|k| k.domain().clone()).collect();
                Err(SignError::NotOurs { authors, ours })
            }
        };
    };
    if keys.signers().is_empty() {
        return Err(SignError::NothingToSignWith(keys.domain().clone()));
    }

    for signer in keys.signers() {
        header.check_unambiguous(&signer.config().headers)?;
    }
    let mut wire_header = Vec::with_capacity(raw_header.len() + 256);
    let mut lines = LineEnds::default();
    lines.convert(raw_header, &mut wire_header);
    lines.end(&mut wire_header);
    let mut intake = Intake::new(MessageSigner::new(Arc::clone(keys), header));
    intake.take(body)?;
    let mut chunk = vec![0; CHUNK];
    loop {
        match input.read(&mut chunk) {
            Ok(0) => break,
            Ok(read) => intake.take(chunk.get(..read).unwrap_or_default())?,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e.into()),
        }
    }
    let (made, mut kept) = intake.finish(now)?;

    for field in made.iter().filter_map(Made::field) {
        output.write_all(field.as_str().as_bytes())?;
    }
    output.write_all(&wire_header)?;
    io::copy(&mut kept, &mut output)?;
    output.flush()?;
    let new = keys.signers().iter().zip(&made).filter(|(_, made)| made.field().is_some());
    let made = new.map(|(signer, _)| {
        let config = signer.config();
        MadeSignature { d: config.d.clone(), s: config.s.clone(), fingerprint: config.fingerprint.clone() }
    });
    Ok(SignReport { domain: keys.domain().clone(), signatures: made.collect() })
}

/// Hashes the body, and keeps it until the signature is known.
struct Intake {
    signer: MessageSigner,
    kept: tempfile::SpooledTempFile,
    lines: LineEnds,
    wire: Vec<u8>,
}

impl Intake {
    fn new(signer: MessageSigner) -> Self {
        let kept = tempfile::SpooledTempFile::new(IN_MEMORY);
        Self { signer, kept, lines: LineEnds::default(), wire: Vec::with_capacity(CHUNK + 1024) }
    }

    fn take(&mut self, chunk: &[u8]) -> io::Result<()> {
        self.wire.clear();
        self.lines.convert(chunk, &mut self.wire);
        self.signer.body(&self.wire);
        self.kept.write_all(&self.wire)
    }

    fn finish(mut self, now: Timestamp) -> Result<(Vec<Made>, impl Read), SignError> {
        // Nothing leaves by SMTP without a final CRLF, and some verifiers do not supply the missing one.
        self.wire.clear();
        self.lines.end(&mut self.wire);
        self.signer.body(&self.wire);
        self.kept.write_all(&self.wire)?;
        let made = self.signer.finish(now)?;
        self.kept.seek(SeekFrom::Start(0))?;
        Ok((made, self.kept))
    }
}

/// The header, the empty line behind it, and what of the body was read with it.
struct Beginning {
    raw: Vec<u8>,
    /// Where the body begins.
    body_at: usize,
}

fn read_header(input: &mut impl Read) -> Result<Beginning, SignError> {
    let mut raw = Vec::new();
    let mut chunk = vec![0; CHUNK];
    let (mut line_at, mut searched) = (0, 0);
    loop {
        while let Some(end) = raw.get(searched..).and_then(|rest| rest.iter().position(|b| *b == b'\n')) {
            searched += end + 1;
            if matches!(raw.get(line_at..searched), Some(b"\n" | b"\r\n")) {
                return Ok(Beginning { raw, body_at: searched });
            }
            line_at = searched;
        }
        searched = raw.len();
        if raw.len() > MAX_HEADER {
            return Err(HeaderError::TooLarge.into());
        }
        match input.read(&mut chunk) {
            Ok(0) => return Ok(Beginning { body_at: raw.len(), raw }),
            Ok(read) => raw.extend_from_slice(chunk.get(..read).unwrap_or_default()),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// Makes every line end CRLF across chunks; a CR on its own stays what it is.
#[derive(Debug, Default)]
pub(super) struct LineEnds {
    /// The last byte of what was converted, `None` before any.
    last: Option<u8>,
}

impl LineEnds {
    /// Ends the last line if it is not ended.
    fn end(&mut self, out: &mut Vec<u8>) {
        if !matches!(self.last, None | Some(b'\n')) {
            self.convert(b"\r\n", out);
        }
    }

    pub(super) fn convert(&mut self, chunk: &[u8], out: &mut Vec<u8>) {
        for line in chunk.split_inclusive(|b| *b == b'\n') {
            match line.strip_suffix(b"\n") {
                Some(bare) if bare.last().copied().or(self.last) != Some(b'\r') => {
                    out.extend_from_slice(bare);
                    out.extend_from_slice(b"\r\n");
                }
                _ => out.extend_from_slice(line),
            }
            self.last = line.last().copied().or(self.last);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::key::KeyKind;
    use crate::signing::testing::{KeyDir, broken_json, edit_json};
    use proptest::prelude::*;

    fn contoso() -> KeyDir {
        let dir = KeyDir::new();
        dir.domain("contoso", "contoso.com", &[KeyKind::Ed25519]);
        dir
    }

    fn sign(dir: &KeyDir, message: &[u8], unknown: Unknown) -> (Result<SignReport, SignError>, Vec<u8>) {
        let mut out = Vec::new();
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        let result = run_sign(dir.path(), message, &mut out, unknown, now);
        (result, out)
    }

    #[test]
    fn prepends_the_signature_and_writes_crlf() {
        let (report, out) = sign(&contoso(), b"From: a@contoso.com\n\nhello\nworld", Unknown::Refuse);
        assert_eq!(report.unwrap().signatures[0].s, "selector1");
        let out = String::from_utf8(out).unwrap();
        assert!(
            out.starts_with("DKIM-Signature: v=1; a=ed25519-sha256; q=dns/txt; c=relaxed/relaxed;"),
            "{out}"
        );
        assert!(out.ends_with("\r\nFrom: a@contoso.com\r\n\r\nhello\r\nworld\r\n"), "{out}");
        let (_, header_only) = sign(&contoso(), b"From: a@contoso.com", Unknown::Refuse);
        assert!(header_only.ends_with(b"\r\nFrom: a@contoso.com\r\n"));
    }

    #[test]
    fn a_large_body_comes_through_whole() {
        let body = "0123456789abcdef\r\n".repeat(3 * IN_MEMORY / 18);
        let message = format!("From: a@contoso.com\r\n\r\n{body}");
        let (report, out) = sign(&contoso(), message.as_bytes(), Unknown::Refuse);
        assert!(report.is_ok());
        assert!(out.ends_with(message.as_bytes()));
    }

    #[test]
    fn mail_of_others_is_refused_or_passed_byte_by_byte() {
        let message = b"From: a@sub.contoso.com\nX: \xff\n\nhello\n";
        let (refused, out) = sign(&contoso(), message, Unknown::Refuse);
        let error = refused.unwrap_err();
        assert_eq!((error.exit_code(), out.len()), (3, 0));
        assert!(error.to_string().starts_with(
            "no keys for sub.contoso.com: the key directory is for contoso.com; mail is signed only by"
        ));
        let (passed, out) = sign(&contoso(), message, Unknown::Pass);
        assert!(passed.unwrap().signatures.is_empty());
        assert_eq!(out, message);
    }

    #[test]
    fn other_reasons_not_to_sign() {
        let dir = contoso();
        let fault = |dir: &KeyDir, message: &[u8]| {
            let (result, out) = sign(dir, message, Unknown::Pass);
            assert!(out.is_empty());
            let error = result.unwrap_err();
            (error.exit_code(), error.to_string())
        };
        assert_eq!(fault(&dir, b"To: x@y.z\n\n").0, 65);
        assert_eq!(fault(&dir, b"").0, 65);
        assert_eq!(fault(&dir, b"From: a@contoso.com\nFrom: a@contoso.com\n\n").0, 65);
        assert_eq!(fault(&dir, b"nonsense\n\n").0, 65);
        assert_eq!(fault(&dir, &vec![b'a'; 2 * MAX_HEADER]).0, 65);

        dir.domain("fabrikam", "fabrikam.com", &[KeyKind::Ed25519]);
        broken_json(&dir.path().join("fabrikam"));
        assert_eq!(fault(&dir, b"From: a@fabrikam.com\n\n").0, 78, "not passed on unsigned");

        edit_json(&dir.path().join("contoso"), |json| json["signatures"] = serde_json::json!([]));
        let (code, text) = fault(&dir, b"From: a@contoso.com\n\n");
        assert_eq!(code, 4);
        assert!(text.starts_with("no key of contoso.com may sign yet"), "{text}");
    }

    proptest! {
        #[test]
        fn line_ends_do_not_depend_on_chunks(text in "([ab]|\r|\n|\r\n){0,40}", at in 0usize..40) {
            let (one, two) = text.as_bytes().split_at(at.min(text.len()));
            let (mut whole, mut parts) = (Vec::new(), Vec::new());
            LineEnds::default().convert(text.as_bytes(), &mut whole);
            let mut lines = LineEnds::default();
            lines.convert(one, &mut parts);
            lines.convert(two, &mut parts);
            prop_assert_eq!(&whole, &parts);
            let mut again = Vec::new();
            LineEnds::default().convert(&whole, &mut again);
            prop_assert_eq!(&again, &whole);
            let bare = String::from_utf8(whole).unwrap().replace("\r\n", "");
            prop_assert!(!bare.contains('\n'));
        }
    }
}
