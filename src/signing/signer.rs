//! Signs one message as it streams by: header first, then the body in chunks, then the fields to prepend.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use jiff::Timestamp;

use super::canon::{BodyCanonicalizer, canonical_field};
use super::earlier;
use super::field::{FIELD_NAME, SignatureField, UnsignedField};
use super::header::Header;
use super::keys::DomainKeys;
use super::signing_key::SigningFailed;
use crate::api::Canonicalization;
use crate::model::name::DomainName;

/// Signs one message. The body is hashed as it comes and not kept.
pub struct MessageSigner {
    keys: Arc<DomainKeys>,
    header: Header,
    /// One hash for each body canonicalisation that the signatures ask for.
    bodies: Vec<(Canonicalization, BodyCanonicalizer<Context>)>,
}

impl fmt::Debug for MessageSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageSigner").field("domain", self.domain()).finish_non_exhaustive()
    }
}

impl MessageSigner {
    /// Begins with the whole header. Whether the keys are the ones of the message's author is the caller's to
    /// decide ([`super::KeyStore::for_authors`]).
    #[must_use]
    pub fn new(keys: Arc<DomainKeys>, header: Header) -> Self {
        let mut bodies: Vec<(Canonicalization, BodyCanonicalizer<Context>)> = Vec::new();
        for signer in keys.signers() {
            let mode = signer.config().body_canonicalization;
            if !bodies.iter().any(|(known, _)| *known == mode) {
                bodies.push((mode, BodyCanonicalizer::new(mode, Context::new(&SHA256))));
            }
        }
        Self { keys, header, bodies }
    }

    /// Takes the next bytes of the body; chunks may end anywhere.
    pub fn body(&mut self, chunk: &[u8]) {
        for (_, body) in &mut self.bodies {
            body.feed(chunk);
        }
    }

    /// The domain whose keys it signs with.
    #[must_use]
    pub fn domain(&self) -> &DomainName {
        self.keys.domain()
    }

    /// Takes other keys of the same domain, where the body was hashed as they want it. Otherwise, and that takes a
    /// change of the domain's options, the message is finished with the keys that it began with.
    #[must_use]
    pub fn with_keys(mut self, keys: &Arc<DomainKeys>) -> Self {
        let hashed = |mode| self.bodies.iter().any(|(known, _)| *known == mode);
        let fits = keys.domain() == self.keys.domain()
            && keys.signers().iter().all(|signer| hashed(signer.config().body_canonicalization));
        if fits {
            self.keys = Arc::clone(keys);
        }
        self
    }

    /// Ends the body and signs: one result per signature of the configuration, in its order.
    ///
    /// # Errors
    /// [`SigningFailed`], where a key turns out to be unusable.
    pub fn finish(self, now: Timestamp) -> Result<Vec<Made>, SigningFailed> {
        let Self { keys, header, bodies } = self;
        let now = u64::try_from(now.as_second()).unwrap_or(0);
        let hashes: Vec<_> = bodies.into_iter().map(|(mode, body)| (mode, body.finish().finish())).collect();
        let hash_of = |mode| hashes.iter().find(|(known, _)| *known == mode).map(|(_, hash)| hash.as_ref());
        let mut all = Vec::with_capacity(keys.signers().len());
        for signer in keys.signers() {
            if earlier::stands(signer, &header, now, hash_of) {
                all.push(Made::Before);
                continue;
            }
            let config = signer.config();
            let hash = hash_of(config.body_canonicalization).ok_or(SigningFailed)?;
            let names = header.signed_names(&config.headers, config.oversign);
            let mode = header.canonicalization(config.header_canonicalization);
            let unsigned = UnsignedField::new(config, mode, &names, hash, now);
            let mut input = Vec::with_capacity(2048);
            for field in header.select(&names) {
                canonical_field(mode, &field.name, &field.value, &mut input);
            }
            canonical_field(mode, FIELD_NAME.as_bytes(), unsigned.value().as_bytes(), &mut input);
            // Its own field goes in without the CRLF (RFC 6376 §3.7).
            let input = input.strip_suffix(b"\r\n").unwrap_or(&input);
            let signature = signer.key().sign(input)?;
            all.push(Made::Now(unsigned.signed(&signature)));
        }
        Ok(all)
    }
}

/// A signature of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Made {
    /// Made now; to be prepended.
    Now(SignatureField),
    /// The message came with it, and it verifies.
    Before,
}

impl Made {
    /// The field, where it was made now.
    #[must_use]
    pub fn field(&self) -> Option<&SignatureField> {
        match self {
            Self::Now(field) => Some(field),
            Self::Before => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::key::{Algorithm, KeyKind};
    use crate::signing::testing::KeyDir;
    use crate::signing::{Verdict, Verifier};
    use proptest::prelude::*;
    use std::sync::OnceLock;

    /// Keys are made once: four directories of keys for each way to sign.
    struct Bench {
        _dir: KeyDir,
        keys: Arc<DomainKeys>,
        verifier: Verifier,
    }

    fn bench(header: Canonicalization, body: Canonicalization, oversign: bool) -> Bench {
        let dir = KeyDir::new();
        let records = dir.domain_with("", "contoso.com", &[KeyKind::Rsa2048, KeyKind::Ed25519], |config| {
            (config.header_canonicalization, config.body_canonicalization) = (header, body);
            config.oversign = oversign;
            config.headers.push("Received".into());
            config.timestamp = config.algorithm == Algorithm::Rsa;
        });
        let keys = DomainKeys::load(dir.path(), None).unwrap();
        let verifier = Verifier::offline(records.iter().map(|(n, t)| (n.as_str(), t.as_str()))).unwrap();
        Bench { _dir: dir, keys, verifier }
    }

    fn benches() -> &'static [Bench] {
        use Canonicalization::{Relaxed, Simple};
        static BENCHES: OnceLock<Vec<Bench>> = OnceLock::new();
        BENCHES.get_or_init(|| {
            let ways = [(Relaxed, Relaxed), (Relaxed, Simple), (Simple, Relaxed), (Simple, Simple)];
            ways.into_iter().flat_map(|(h, b)| [false, true].map(|o| bench(h, b, o))).collect()
        })
    }

    impl Bench {
        fn sign(&self, header: &str, chunks: &[&[u8]]) -> Vec<u8> {
            let parsed = Header::parse(header.as_bytes()).unwrap();
            let mut signer = MessageSigner::new(Arc::clone(&self.keys), parsed);
            chunks.iter().for_each(|chunk| signer.body(chunk));
            let fields = signer.finish(Timestamp::now()).unwrap();
            let mut message: Vec<u8> = fields
                .iter()
                .filter_map(Made::field)
                .flat_map(|f| f.as_str().bytes())
                .chain(header.bytes())
                .collect();
            message.extend_from_slice(b"\r\n");
            message.extend(chunks.concat());
            message
        }

        fn verdicts(&self, message: &[u8]) -> Vec<Verdict> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let report = runtime.block_on(self.verifier.verify(message));
            report.signatures.iter().map(|s| s.verdict).collect()
        }
    }

    /// A header with exactly one From, folds and repeated fields; line ends are CRLF.
    fn header() -> impl Strategy<Value = String> {
        let value = "[!-9;-~]{0,8}([ \t]{1,2}|\r\n[ \t]{1,2}[!-~])[!-~]{1,20}[ ]{0,2}";
        let name = proptest::sample::select(vec![
            "To",
            "Subject",
            "Received",
            "X-Other",
            "MIME-Version",
            "Message-ID",
            "subject",
            "received",
        ]);
        let field = (name, value).prop_map(|(name, value)| format!("{name}:{value}\r\n"));
        let fields = proptest::collection::vec(field, 0..8);
        (fields.clone(), fields)
            .prop_map(|(a, b)| format!("{}From: Joe <joe@contoso.com>\r\n{}", a.concat(), b.concat()))
    }

    fn body() -> impl Strategy<Value = Vec<u8>> {
        let line = prop_oneof!["[ -~]{0,60}", "[ \t]{0,3}", "[a-z \tä]{0,20}"];
        (proptest::collection::vec(line, 0..6), "(\r\n){0,3}")
            .prop_map(|(lines, end)| format!("{}{end}", lines.join("\r\n")).into_bytes())
    }

    const PASS: [Verdict; 2] = [Verdict::Pass; 2];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_is_signed_verifies(header in header(), body in body(), cut in 0usize..80) {
            let (one, two) = body.split_at(cut.min(body.len()));
            for bench in benches() {
                prop_assert_eq!(bench.verdicts(&bench.sign(&header, &[one, two])), PASS);
            }
        }

        #[test]
        fn what_is_changed_does_not(header in header(), body in body(), word in "[a-z]{1,5}") {
            let changed_body = [body.as_slice(), word.as_bytes()].concat();
            for bench in benches() {
                let signed = bench.sign(&header, &[&body]);
                let end = signed.len() - body.len();
                let with_other_body = [&signed[..end], &changed_body].concat();
                prop_assert!(!bench.verdicts(&with_other_body).contains(&Verdict::Pass));
                let text = String::from_utf8(signed).unwrap();
                let other_from = text.replacen("Joe <joe@contoso.com>", "Eve <joe@contoso.com>", 1);
                prop_assert!(!bench.verdicts(other_from.as_bytes()).contains(&Verdict::Pass));
            }
        }

        #[test]
        fn nobody_adds_a_field_to_an_oversigned_message(header in header(), body in body()) {
            for bench in benches() {
                let signed = bench.sign(&header, &[&body]);
                let added = [b"Subject: win\r\n".as_slice(), &signed].concat();
                let oversigned = bench.keys.signers().iter().all(|s| s.config().oversign);
                if oversigned || !header.to_ascii_lowercase().contains("subject:") {
                    prop_assert!(!bench.verdicts(&added).contains(&Verdict::Pass));
                }
            }
        }
    }

    #[test]
    fn an_expired_signature_fails() {
        let dir = KeyDir::new();
        let records = dir.domain_with("", "contoso.com", &[KeyKind::Ed25519], |config| {
            config.expiration_seconds = Some(3600);
        });
        let keys = DomainKeys::load(dir.path(), None).unwrap();
        let verifier = Verifier::offline(records.iter().map(|(n, t)| (n.as_str(), t.as_str()))).unwrap();
        let bench = Bench { _dir: dir, keys, verifier };
        let now = Timestamp::now();
        for (age, verdict) in [(60, Verdict::Pass), (3700, Verdict::Fail)] {
            let header = Header::parse(b"From: joe@contoso.com\r\n").unwrap();
            let signer = MessageSigner::new(Arc::clone(&bench.keys), header);
            let at = Timestamp::from_second(now.as_second() - age).unwrap();
            let made = signer.finish(at).unwrap().remove(0);
            let field = made.field().unwrap();
            let message = format!("{}From: joe@contoso.com\r\n\r\n", field.as_str());
            assert_eq!(bench.verdicts(message.as_bytes()), [verdict]);
            assert_eq!(format!("DKIM-Signature:{}\r\n", field.value()), field.as_str());
        }
    }
}
