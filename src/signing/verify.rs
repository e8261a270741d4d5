//! `kubectl dkim verify`: what a receiver would say of a message's signatures, in words.
//!
//! The verification itself is mail-auth's. Body hashes are computed here: mail-auth 0.13 takes a line of white
//! space at the end of a relaxed body for text, where RFC 6376 §3.4.4 has an empty line that does not count. Keys are
//! looked up here, too, to show the way to them.

mod cause;
mod judge;
mod records;
mod tags;

use std::borrow::Borrow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::net::SocketAddr;

use data_encoding::BASE64;
use jiff::Timestamp;
use mail_auth::common::cache::NoCache;
use mail_auth::common::crypto::HashAlgorithm;
use mail_auth::common::parse::TxtRecordParser;
use mail_auth::common::verify::DomainKey;
use mail_auth::dkim::{DkimError, Signature};
use mail_auth::hickory_resolver::config::{ResolverConfig, ResolverOpts};
use mail_auth::hickory_resolver::proto::op::ResponseCode;
use mail_auth::{
    AuthenticatedMessage, DkimResult, DnsError, Error, MessageAuthenticator, Parameters, ResolverCache, Txt,
};

pub use records::Hop;

use super::canon::BodyCanonicalizer;
use super::command::LineEnds;
use super::header::Header;
use super::report::{Alignment, BodyHash, KeyReport, SignatureReport, Verdict, VerifyReport};
use crate::api::Canonicalization;
use crate::lookup::system_resolvers;
use crate::model::name::DomainName;
use judge::{cause, judge};
use records::{Found, KeyAnswer, KeyRecords};
use tags::Tags;

/// Why messages cannot be verified at all.
#[derive(Debug, thiserror::Error)]
pub enum VerifierError {
    #[error("no resolver is given; name one by its address, such as 192.0.2.53")]
    NoResolver,
    #[error("/etc/resolv.conf names no resolver; name one with --resolver")]
    NoSystemResolver,
    #[error("the resolver could not be set up: {0}")]
    Resolver(String),
}

/// Verifies messages against the key records in DNS, or in a table.
pub struct Verifier {
    authenticator: MessageAuthenticator,
    keys: KeyRecords,
}

impl Verifier {
    /// Asks these resolvers and no others, in their order.
    ///
    /// # Errors
    /// [`VerifierError`].
    pub fn new(resolvers: &[SocketAddr]) -> Result<Self, VerifierError> {
        if resolvers.is_empty() {
            return Err(VerifierError::NoResolver);
        }
        Self::with(KeyRecords::Servers(resolvers.to_vec()))
    }

    /// Asks the resolvers of the system (`/etc/resolv.conf`).
    ///
    /// # Errors
    /// [`VerifierError`].
    pub fn system() -> Result<Self, VerifierError> {
        match system_resolvers() {
            resolvers if resolvers.is_empty() => Err(VerifierError::NoSystemResolver),
            resolvers => Self::with(KeyRecords::Servers(resolvers)),
        }
    }

    /// Asks nobody: these TXT records, each as name and text, are all there are.
    ///
    /// # Errors
    /// [`VerifierError::Resolver`].
    pub fn offline<'a>(records: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, VerifierError> {
        let bare = |name: &str| name.trim_end_matches('.').to_ascii_lowercase();
        let table = records.into_iter().map(|(name, text)| (bare(name), text.to_owned())).collect();
        Self::with(KeyRecords::Table(table))
    }

    fn with(keys: KeyRecords) -> Result<Self, VerifierError> {
        // It never asks by itself: all it wants to know is in its cache.
        let config = ResolverConfig::from_parts(None, Vec::new(), Vec::new());
        let authenticator = MessageAuthenticator::new(config, ResolverOpts::default())
            .map_err(|error| VerifierError::Resolver(error.to_string()))?;
        Ok(Self { authenticator, keys })
    }

    /// Verifies every signature of a message, whose lines may end in CRLF or LF.
    pub async fn verify(&self, message: &[u8]) -> VerifyReport {
        let mut wire = Vec::with_capacity(message.len() + message.len() / 32);
        LineEnds::default().convert(message, &mut wire);
        let header = Header::parse(&wire);
        let authors = match &header {
            Ok(header) => header.author_domains().map_err(|e| e.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let (from, from_problem) = match authors {
            Ok(domains) => (domains.into_iter().next(), None),
            Err(problem) => (None, Some(problem)),
        };
        let Some(mut parsed) = AuthenticatedMessage::parse(&wire) else {
            return VerifyReport { from, from_problem, signatures: Vec::new() };
        };
        correct_body_hashes(&mut parsed);
        let mut answers = HashMap::new();
        for Signature { s, d, .. } in parsed.dkim_headers.iter().map(|found| &found.header) {
            if let Entry::Vacant(place) = answers.entry((s.clone(), d.clone())) {
                place.insert(self.keys.find(s, d).await);
            }
        }
        let cache = Records::of(answers.values());
        let parameters =
            Parameters::<_, NoCache<_, _>, NoCache<_, _>, NoCache<_, _>, NoCache<_, _>, NoCache<_, _>>::new(
                &parsed,
            )
            .with_txt_cache(&cache);
        let outputs = self.authenticator.verify_dkim(parameters).await;
        let body = parsed.raw_message.get(parsed.body_offset as usize..).unwrap_or_default();
        let seen = Seen { header: header.as_ref().ok(), body, from: from.as_ref(), now: Timestamp::now() };
        let mut signatures: Vec<SignatureReport> = outputs
            .iter()
            .filter_map(|output| {
                let signature = output.signature()?;
                let answer = answers.get(&(signature.s.clone(), signature.d.clone()))?;
                Some(seen.report(signature, output.result(), answer))
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

/// What of a message explains its signatures.
struct Seen<'a> {
    header: Option<&'a Header>,
    body: &'a [u8],
    from: Option<&'a DomainName>,
    now: Timestamp,
}

impl Seen<'_> {
    fn report(&self, signature: &Signature, result: &DkimResult, answer: &KeyAnswer) -> SignatureReport {
        let (verdict, reason) = judge(signature, result, answer);
        let body_mode = ours(signature.cb);
        let mut canonical =
            BodyCanonicalizer::new(body_mode, aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256));
        canonical.feed(self.body);
        let computed = canonical.finish().finish();
        let time =
            |seconds: u64| Timestamp::from_second(i64::try_from(seconds).ok()?).ok().filter(|_| seconds > 0);
        SignatureReport {
            d: signature.d.clone(),
            s: signature.s.clone(),
            a: signature.a.name().to_owned(),
            canonicalization: Some(format!("{}/{}", ours(signature.ch).as_str(), body_mode.as_str())),
            headers: signature.h.clone(),
            signed_at: time(signature.t),
            expires_at: time(signature.x),
            body_hash: Some(BodyHash {
                signed: BASE64.encode(&signature.bh),
                computed: BASE64.encode(computed.as_ref()),
            }),
            key: Some(key_report(answer)),
            cause: cause(self, signature, result, answer),
            verdict,
            asked: Some(answer.name.clone()),
            reason,
            alignment: Alignment::of(&signature.d, self.from),
        }
    }
}

fn ours(mode: mail_auth::dkim::Canonicalization) -> Canonicalization {
    match mode {
        mail_auth::dkim::Canonicalization::Relaxed => Canonicalization::Relaxed,
        mail_auth::dkim::Canonicalization::Simple => Canonicalization::Simple,
    }
}

fn key_report(answer: &KeyAnswer) -> KeyReport {
    let (found, ttl) = match &answer.found {
        Found::Text { text, ttl } => (key_words(text), Some(*ttl)),
        Found::NoText => ("no TXT record".to_owned(), None),
        Found::NoName => ("nothing: the name is not there (NXDOMAIN)".to_owned(), None),
        Found::NoAnswer(text) => (format!("no answer: {text}"), None),
    };
    KeyReport { name: answer.name.clone(), chain: answer.hops.clone(), found, ttl }
}

/// What a key record says, in a few words.
fn key_words(text: &str) -> String {
    let tags = Tags::parse(text.as_bytes());
    let kind = tags.get("k").unwrap_or_else(|| "rsa".to_owned());
    let flags = tags.get("t").map(|t| format!(", t={t}")).unwrap_or_default();
    match tags.get("p") {
        None => format!("a TXT record that is no key: \"{text}\""),
        Some(p) if p.is_empty() => format!("a revoked key (p= is empty){flags}"),
        Some(_) => match (kind.as_str(), tags.bytes("p").and_then(|p| cause::rsa_bits(&p))) {
            ("rsa", Some(bits)) => format!("an RSA key of {bits} bits{flags}"),
            ("rsa", None) => format!("an RSA key that cannot be read{flags}"),
            (other, _) => format!("a key of the kind {other}{flags}"),
        },
    }
}

fn correct_body_hashes(message: &mut AuthenticatedMessage<'_>) {
    let body = message.raw_message.get(message.body_offset as usize..).unwrap_or_default();
    for (mode, algorithm, length, hash) in &mut message.body_hashes {
        let mode = ours(*mode);
        // A signature with l= is refused before (RFC 6376 §8.2); rsa-sha1 is as bad (RFC 8301 §3.1).
        if *length == 0 && *algorithm == HashAlgorithm::Sha256 {
            let context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
            let mut canonical = BodyCanonicalizer::new(mode, context);
            canonical.feed(body);
            *hash = canonical.finish().finish().as_ref().to_vec();
        }
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
        canonicalization: None,
        headers: Vec::new(),
        signed_at: None,
        expires_at: None,
        body_hash: None,
        key: None,
        cause: None,
        alignment: Alignment::of(&d, from),
        d,
        s: tag("s"),
        a: tag("a"),
        verdict: Verdict::Neutral,
        asked: None,
        reason,
    }
}

/// The key records of one message, as mail-auth looks them up.
struct Records(HashMap<Box<str>, Txt>);

impl Records {
    fn of<'a>(answers: impl Iterator<Item = &'a KeyAnswer>) -> Self {
        let text = |answer: &KeyAnswer| match &answer.found {
            Found::Text { text, .. } => match DomainKey::parse(text.as_bytes()) {
                Ok(key) => Txt::DomainKey(key.into()),
                Err(error) => Txt::Error(error),
            },
            Found::NoText => Txt::Error(Error::Dns(DnsError::RecordNotFound(ResponseCode::NoError))),
            Found::NoName => Txt::Error(Error::Dns(DnsError::RecordNotFound(ResponseCode::NXDomain))),
            Found::NoAnswer(words) => Txt::Error(Error::Dns(DnsError::Resolver(words.clone()))),
        };
        Self(answers.map(|answer| (format!("{}.", answer.name).into(), text(answer))).collect())
    }
}

impl ResolverCache<Box<str>, Txt> for Records {
    fn get<Q>(&self, name: &Q) -> Option<Txt>
    where
        Box<str>: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let missing = || Txt::Error(Error::Dns(DnsError::RecordNotFound(ResponseCode::NXDomain)));
        Some(self.0.get(name).cloned().unwrap_or_else(missing))
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
mod tests;
