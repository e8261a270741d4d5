//! `kubectl dkim verify`: what a receiver would say of a message's signatures, in words.
//!
//! The verification itself is mail-auth's. Body hashes are computed here: mail-auth 0.13 takes a line of white
//! space at the end of a relaxed body for text, where RFC 6376 §3.4.4 has an empty line that does not count.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::net::SocketAddr;

use mail_auth::common::cache::NoCache;
use mail_auth::common::crypto::{CryptoError, HashAlgorithm};
use mail_auth::common::parse::TxtRecordParser;
use mail_auth::common::verify::DomainKey;
use mail_auth::dkim::{DkimError, Signature};
use mail_auth::hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts};
use mail_auth::hickory_resolver::proto::op::ResponseCode;
use mail_auth::{
    AuthenticatedMessage, DkimResult, DnsError, Error, MessageAuthenticator, Parameters, ResolverCache, Txt,
};

use super::canon::BodyCanonicalizer;
use super::command::LineEnds;
use super::header::Header;
use super::report::{Alignment, SignatureReport, Verdict, VerifyReport};
use crate::api::Canonicalization;
use crate::model::name::DomainName;

/// Why messages cannot be verified at all.
#[derive(Debug, thiserror::Error)]
pub enum VerifierError {
    #[error("no resolver is given; name one by its address, such as 192.0.2.53")]
    NoResolver,
    #[error("the resolver could not be set up: {0}")]
    Resolver(String),
}

/// Verifies messages against the key records in DNS, or in a table.
pub struct Verifier {
    authenticator: MessageAuthenticator,
    records: Records,
}

impl Verifier {
    /// Asks these resolvers and no others.
    ///
    /// # Errors
    /// [`VerifierError`].
    pub fn new(resolvers: &[SocketAddr]) -> Result<Self, VerifierError> {
        if resolvers.is_empty() {
            return Err(VerifierError::NoResolver);
        }
        Self::with(resolvers, Records::default())
    }

    /// Asks the resolvers of the system (`/etc/resolv.conf`).
    ///
    /// # Errors
    /// [`VerifierError::Resolver`].
    pub fn system() -> Result<Self, VerifierError> {
        let authenticator = MessageAuthenticator::new_system_conf()
            .map_err(|error| VerifierError::Resolver(error.to_string()))?;
        Ok(Self { authenticator, records: Records::default() })
    }

    /// Asks nobody: these TXT records, each as name and text, are all there are.
    ///
    /// # Errors
    /// [`VerifierError::Resolver`].
    pub fn offline<'a>(records: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, VerifierError> {
        let key = |text: &str| match DomainKey::parse(text.as_bytes()) {
            Ok(key) => Txt::DomainKey(key.into()),
            Err(error) => Txt::Error(error),
        };
        let known = records.into_iter().map(|(name, text)| (fqdn(name), key(text))).collect();
        Self::with(&[], Records { all: true, known })
    }

    fn with(resolvers: &[SocketAddr], records: Records) -> Result<Self, VerifierError> {
        let server = |address: &SocketAddr| {
            let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
            connections.iter_mut().for_each(|c| c.port = address.port());
            NameServerConfig::new(address.ip(), true, connections)
        };
        let config = ResolverConfig::from_parts(None, Vec::new(), resolvers.iter().map(server).collect());
        let authenticator = MessageAuthenticator::new(config, ResolverOpts::default())
            .map_err(|error| VerifierError::Resolver(error.to_string()))?;
        Ok(Self { authenticator, records })
    }

    /// Verifies every signature of a message, whose lines may end in CRLF or LF.
    pub async fn verify(&self, message: &[u8]) -> VerifyReport {
        let mut wire = Vec::with_capacity(message.len() + message.len() / 32);
        LineEnds::default().convert(message, &mut wire);
        let authors = Header::parse(&wire)
            .map_err(|e| e.to_string())
            .and_then(|header| header.author_domains().map_err(|e| e.to_string()));
        let (from, from_problem) = match authors {
            Ok(domains) => (domains.into_iter().next(), None),
            Err(problem) => (None, Some(problem)),
        };
        let Some(mut parsed) = AuthenticatedMessage::parse(&wire) else {
            return VerifyReport { from, from_problem, signatures: Vec::new() };
        };
        correct_body_hashes(&mut parsed);

        let parameters =
            Parameters::<_, NoCache<_, _>, NoCache<_, _>, NoCache<_, _>, NoCache<_, _>, NoCache<_, _>>::new(
                &parsed,
            )
            .with_txt_cache(&self.records);
        let outputs = self.authenticator.verify_dkim(parameters).await;
        let mut signatures: Vec<SignatureReport> = outputs
            .iter()
            .filter_map(|output| {
                let signature = output.signature()?;
                Some(report(signature, output.result(), from.as_ref()))
            })
            .collect();
        signatures.extend(parsed.errors.iter().filter_map(|field| match &field.header {
            error if field.name.trim_ascii().eq_ignore_ascii_case(b"DKIM-Signature") => {
                Some(malformed(field.value, error, from.as_ref()))
            }
            _ => None,
        }));
        VerifyReport { from, from_problem, signatures }
    }
}

fn correct_body_hashes(message: &mut AuthenticatedMessage<'_>) {
    let body = message.raw_message.get(message.body_offset as usize..).unwrap_or_default();
    for (mode, algorithm, length, hash) in &mut message.body_hashes {
        let mode = match mode {
            mail_auth::dkim::Canonicalization::Relaxed => Canonicalization::Relaxed,
            mail_auth::dkim::Canonicalization::Simple => Canonicalization::Simple,
        };
        // A signature with l= is refused before (RFC 6376 §8.2); rsa-sha1 is as bad (RFC 8301 §3.1).
        if *length == 0 && *algorithm == HashAlgorithm::Sha256 {
            let context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
            let mut canonical = BodyCanonicalizer::new(mode, context);
            canonical.feed(body);
            *hash = canonical.finish().finish().as_ref().to_vec();
        }
    }
}

fn report(signature: &Signature, result: &DkimResult, from: Option<&DomainName>) -> SignatureReport {
    let (verdict, reason) = judge(signature, result);
    SignatureReport {
        d: signature.d.clone(),
        s: signature.s.clone(),
        a: signature.a.name().to_owned(),
        verdict,
        asked: Some(asked(&signature.s, &signature.d)),
        reason,
        alignment: Alignment::of(&signature.d, from),
    }
}

fn malformed(value: &[u8], error: &Error, from: Option<&DomainName>) -> SignatureReport {
    let text = String::from_utf8_lossy(value);
    let tag = |name: &str| {
        let values = text.split(';').filter_map(|tag| tag.split_once('='));
        let found = values.into_iter().find(|(n, _)| n.trim() == name).map(|(_, value)| value);
        found.unwrap_or_default().split_ascii_whitespace().collect::<String>()
    };
    let reason = match error {
        Error::Dkim(DkimError::SignatureLength) => {
            "it has l=, which lets anybody append to the message; such signatures are not accepted".to_owned()
        }
        Error::Dkim(DkimError::UnsupportedVersion) => "it is not v=1".to_owned(),
        Error::Dkim(DkimError::UnsupportedAlgorithm) => {
            "its algorithm (a=) is none that is known; use rsa-sha256 or ed25519-sha256".to_owned()
        }
        Error::Dkim(DkimError::UnsupportedCanonicalization) => "its c= is none that is known".to_owned(),
        Error::Base64 => "its b= or bh= is no base64".to_owned(),
        Error::MissingParameters => "one of its tags b=, bh=, d=, h= and s= is missing or empty".to_owned(),
        other => format!("it cannot be read ({other})"),
    };
    let d = tag("d");
    SignatureReport {
        alignment: Alignment::of(&d, from),
        d,
        s: tag("s"),
        a: tag("a"),
        verdict: Verdict::Neutral,
        asked: None,
        reason,
    }
}

fn asked(s: &str, d: &str) -> String {
    format!("{s}._domainkey.{d}")
}

/// The verdict in the words of RFC 8601 §2.7.1, and why.
fn judge(signature: &Signature, result: &DkimResult) -> (Verdict, String) {
    let name = asked(&signature.s, &signature.d);
    let error = match result {
        DkimResult::Pass => return (Verdict::Pass, "header and body are as they were signed".to_owned()),
        DkimResult::None => return (Verdict::Neutral, "it was not looked at".to_owned()),
        DkimResult::Neutral(e)
        | DkimResult::Fail(e)
        | DkimResult::PermError(e)
        | DkimResult::TempError(e) => e,
    };
    match error {
        Error::Dkim(DkimError::FailedBodyHashMatch) => {
            (Verdict::Fail, "the body was changed after signing (bh= is another hash)".to_owned())
        }
        Error::Crypto(CryptoError::IncompatibleAlgorithms) => (
            Verdict::PermError,
            format!("the key at {name} is of another kind than a={}", signature.a.name()),
        ),
        Error::Crypto(_) => (
            Verdict::Fail,
            format!(
                "a signed header field was changed after signing, or the key at {name} is not the one that signed"
            ),
        ),
        Error::Dkim(DkimError::SignatureExpired) => {
            (Verdict::Fail, format!("it ended at x={} (t={})", signature.x, signature.t))
        }
        Error::Dkim(DkimError::FailedAuidMatch) => {
            (Verdict::Fail, format!("the key at {name} has t=s, and i= is a subdomain of d="))
        }
        Error::Dkim(DkimError::RevokedPublicKey) => {
            (Verdict::PermError, format!("the key at {name} is revoked (its p= is empty)"))
        }
        Error::Dkim(DkimError::UnsupportedKeyType) => {
            (Verdict::PermError, format!("the key at {name} is neither k=rsa nor k=ed25519"))
        }
        Error::Dns(DnsError::RecordNotFound(code)) => (
            Verdict::PermError,
            format!(
                "no key is published: {name} has no TXT record ({code}); is the CNAME there, and does it point at the right name?"
            ),
        ),
        Error::Dns(DnsError::InvalidRecordType) => {
            (Verdict::PermError, format!("what is published at {name} is no DKIM key record"))
        }
        Error::Dns(DnsError::Resolver(text)) => (
            Verdict::TempError,
            format!("no answer from DNS for {name} ({text}); that proves nothing, try again"),
        ),
        other => (Verdict::PermError, format!("it cannot be verified with what is at {name} ({other})")),
    }
}

fn fqdn(name: &str) -> Box<str> {
    format!("{}.", name.trim_end_matches('.').to_ascii_lowercase()).into()
}

/// TXT records that are known without asking.
#[derive(Default)]
struct Records {
    /// There are no others.
    all: bool,
    known: HashMap<Box<str>, Txt>,
}

impl ResolverCache<Box<str>, Txt> for Records {
    fn get<Q>(&self, name: &Q) -> Option<Txt>
    where
        Box<str>: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let missing = || Txt::Error(Error::Dns(DnsError::RecordNotFound(ResponseCode::NXDomain)));
        self.known.get(name).cloned().or_else(|| self.all.then(missing))
    }

    fn remove<Q>(&self, _: &Q) -> Option<Txt>
    where
        Box<str>: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        None
    }

    fn insert(&self, _: Box<str>, _: Txt, _: std::time::Instant) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::key::KeyKind;
    use crate::signing::testing::KeyDir;
    use crate::signing::{Unknown, run_sign};
    use proptest::prelude::*;

    type Table = Vec<(String, String)>;

    fn signed(body: &str) -> (Table, Vec<u8>) {
        let dir = KeyDir::new();
        let records = dir.domain("", "contoso.com", &[KeyKind::Ed25519]);
        let message = format!("From: a@contoso.com\r\nSubject: x\r\n\r\n{body}");
        let mut out = Vec::new();
        run_sign(dir.path(), message.as_bytes(), &mut out, Unknown::Refuse, jiff::Timestamp::now()).unwrap();
        (records, out)
    }

    fn verify(records: &Table, message: &[u8]) -> VerifyReport {
        let verifier = Verifier::offline(records.iter().map(|(n, t)| (n.as_str(), t.as_str()))).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(verifier.verify(message))
    }

    #[test]
    fn each_fault_has_its_words() {
        let (records, message) = signed("hello\r\n \r\n");
        let name = "selector1._domainkey.contoso.com";
        let table = |text: &str| vec![(name.to_owned(), text.to_owned())];
        let text = String::from_utf8(message.clone()).unwrap();
        let (_, other) = &signed("").0.remove(0);
        for (records, message, verdict, says) in [
            (records.clone(), text.clone(), Verdict::Pass, "as they were signed"),
            (records.clone(), text.replace("\r\n", "\n"), Verdict::Pass, "as they were signed"),
            (records.clone(), text.replace("hello", "hullo"), Verdict::Fail, "the body was changed"),
            (
                records.clone(),
                text.replace("Subject: x", "Subject: y"),
                Verdict::Fail,
                "header field was changed",
            ),
            (table(other), text.clone(), Verdict::Fail, "is not the one that signed"),
            (
                vec![],
                text.clone(),
                Verdict::PermError,
                "no key is published: selector1._domainkey.contoso.com",
            ),
            (table("v=DKIM1; k=ed25519; p="), text.clone(), Verdict::PermError, "is revoked"),
            (table("v=spf1 -all"), text.clone(), Verdict::PermError, "no DKIM key record"),
            (table("v=DKIM1; k=dsa; p=AAAA"), text.clone(), Verdict::PermError, "neither k=rsa nor"),
            (records.clone(), text.replace("v=1;", "v=2;"), Verdict::Neutral, "not v=1"),
            (records.clone(), text.replace("v=1;", "v=1; l=5;"), Verdict::Neutral, "l="),
        ] {
            let report = verify(&records, message.as_bytes());
            let [signature] = report.signatures.as_slice() else { panic!("{report:?}") };
            assert_eq!(signature.verdict, verdict, "{says}: {signature:?}");
            assert!(signature.reason.contains(says), "{says}: {signature:?}");
            assert_eq!((signature.d.as_str(), signature.s.as_str()), ("contoso.com", "selector1"));
            assert_eq!(signature.alignment, Alignment::Strict);
        }
    }

    #[test]
    fn mail_without_signature_or_author() {
        let report = verify(&vec![], b"Subject: x\r\n\r\n");
        assert!(!report.passes() && report.signatures.is_empty());
        assert!(report.from_problem.unwrap().contains("no From: field"));
        assert!(verify(&vec![], b"").signatures.is_empty());
        assert!(matches!(Verifier::new(&[]), Err(VerifierError::NoResolver)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn never_panics(
            start in "(DKIM-Signature: ?)?",
            noise in "([vabdshqtlxci]=[a-z0-9+/:.]{0,9};?|[ \r\n\t]|From: a@b.c\r\n|c=simple;){0,20}",
        ) {
            let _ = verify(&vec![], format!("{start}{noise}").as_bytes());
        }
    }
}
