//! Awkward messages, signed in every way and judged by five verifiers, four of which share no code with the signer.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../common/judges.rs"]
mod judges;
#[path = "../common/keys.rs"]
mod keys;
mod messages;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use dkim_operator::api::Canonicalization::{self, Relaxed, Simple};
use dkim_operator::api::signing_config::{
    FORMAT_VERSION, SIGNED_HEADERS, SIGNING_FILE, SignatureConfig, SigningConfig,
};
use dkim_operator::model::key::KeyKind::{self, Ed25519, Rsa2048};
use dkim_operator::model::key::PrivateKey;
use dkim_operator::model::name::DomainName;
use dkim_operator::signing::{Unknown, run_sign};
use dkim_testbed::Scratch;
use getrandom::SysRng;
use judges::{Judge, Judges};
use keys::KeyDns;

/// A way to sign.
struct Way {
    name: &'static str,
    header: Canonicalization,
    body: Canonicalization,
    kinds: &'static [KeyKind],
    oversign: bool,
}

const fn way(
    name: &'static str,
    header: Canonicalization,
    body: Canonicalization,
    kinds: &'static [KeyKind],
    oversign: bool,
) -> Way {
    Way { name, header, body, kinds, oversign }
}

const RSA: &[KeyKind] = &[Rsa2048];
const WAYS: [Way; 6] = [
    way("rr", Relaxed, Relaxed, RSA, false),
    way("rs", Relaxed, Simple, RSA, false),
    way("sr", Simple, Relaxed, RSA, false),
    way("ss", Simple, Simple, RSA, false),
    way("rro", Relaxed, Relaxed, RSA, true),
    way("rr2", Relaxed, Relaxed, &[Rsa2048, Ed25519], false),
];

const RELAXED_BODY: &[&str] = &["rr", "sr", "rro", "rr2"];
const SIMPLE_HEADER: &[&str] = &["sr", "ss"];
const CR: &str =
    "it takes a carriage return of its own for a line end, or drops it; RFC 5322 §2.3 forbids it";
const UNIQUE: &str =
    "it fails every signature over a field that RFC 5322 §3.6 allows once and that is there twice";
const VERTICAL: &str = "it takes VT and FF for white space, which RFC 6376 §2.8 does not";
const BLANK: &str = "it keeps a line of white space that is all of the body, which RFC 6376 §3.4.4 ignores";
const NUL: &str = "its test mode reads lines as C strings, which end at NUL";
const COLON: &str = "its test mode puts one space behind each colon, and simple signs what stands there";

/// Where a verifier does not take what the others take: message, ways (all where empty), verifier, why.
const EXCEPTIONS: &[(&str, &[&str], Judge, &str)] = &[
    ("bare-cr", &[], Judge::Rspamd, CR),
    ("bare-cr-before-end", &[], Judge::Rspamd, CR),
    ("bare-cr-last", &[], Judge::Rspamd, CR),
    ("bare-cr-alone", &[], Judge::Rspamd, CR),
    ("bare-cr", RELAXED_BODY, Judge::OpenDkim, CR),
    ("bare-cr-alone", &["rs", "ss"], Judge::OpenDkim, CR),
    ("repeated-subject", &[], Judge::Rspamd, UNIQUE),
    ("repeated-to", &[], Judge::Rspamd, UNIQUE),
    ("control-characters", RELAXED_BODY, Judge::Rspamd, VERTICAL),
    ("form-feed-at-end", RELAXED_BODY, Judge::Rspamd, VERTICAL),
    ("binary", RELAXED_BODY, Judge::Rspamd, VERTICAL),
    ("white-space-alone", RELAXED_BODY, Judge::Rspamd, BLANK),
    ("white-space-without-end", RELAXED_BODY, Judge::Rspamd, BLANK),
    ("nul", &[], Judge::OpenDkim, NUL),
    ("empty-fields", SIMPLE_HEADER, Judge::OpenDkim, COLON),
    ("folded-after-colon", SIMPLE_HEADER, Judge::OpenDkim, COLON),
    ("no-space-after-colon", SIMPLE_HEADER, Judge::OpenDkim, COLON),
    ("white-space-runs-in-header", SIMPLE_HEADER, Judge::OpenDkim, COLON),
];

struct Bench {
    scratch: Scratch,
    dns: KeyDns,
}

impl Bench {
    async fn new() -> Self {
        let dns = KeyDns::start(&["contoso.com", "xn--bcher-kva.example"]).await;
        let bench = Self { scratch: Scratch::new("corpus").unwrap(), dns };
        WAYS.iter().for_each(|way| bench.keys(way));
        bench
    }

    /// A directory with the keys of both domains for a way.
    fn keys(&self, way: &Way) {
        for domain in ["contoso.com", "xn--bcher-kva.example"] {
            let dir = self.scratch.join(way.name).join(domain);
            std::fs::create_dir_all(&dir).unwrap();
            let signature = |kind: &KeyKind| {
                let key = PrivateKey::generate(*kind, &mut SysRng).unwrap();
                let public = key.public().unwrap();
                let s = format!("{}-{}", way.name, public.algorithm.as_str());
                let text = format!("v=DKIM1; k={}; p={}", public.algorithm.as_str(), public.p);
                self.dns.publish(&format!("{s}._domainkey.{domain}"), &text);
                let key_file = format!("{s}.pem");
                std::fs::write(dir.join(&key_file), key.expose_pem()).unwrap();
                SignatureConfig {
                    d: domain.to_owned(),
                    s,
                    identity: None,
                    algorithm: public.algorithm,
                    key_file,
                    fingerprint: public.fingerprint().unwrap(),
                    serial: 1,
                    header_canonicalization: way.header,
                    body_canonicalization: way.body,
                    headers: SIGNED_HEADERS.map(str::to_owned).to_vec(),
                    oversign: way.oversign,
                    timestamp: true,
                    expiration_seconds: None,
                }
            };
            let signatures = way.kinds.iter().map(signature).collect();
            let domain = DomainName::parse(domain).unwrap();
            let config = SigningConfig { format_version: FORMAT_VERSION, domain, signatures };
            std::fs::write(dir.join(SIGNING_FILE), serde_json::to_vec(&config).unwrap()).unwrap();
        }
    }

    fn directory(&self, way: &str) -> PathBuf {
        self.scratch.join(way)
    }

    fn sign(&self, way: &str, name: &str, message: &[u8]) -> PathBuf {
        let mut out = Vec::new();
        let now = jiff::Timestamp::now();
        let result = run_sign(&self.directory(way), message, &mut out, Unknown::Refuse, now);
        result.unwrap_or_else(|e| panic!("{name} is not signed: {e}"));
        let path = self.scratch.join(format!("{way}-{name}.eml"));
        std::fs::write(&path, out).unwrap();
        path
    }
}

fn excepted(way: &str, name: &str, judge: Judge) -> bool {
    // Debian's Mail::DKIM knows no Ed25519.
    let no_ed25519 = judge == Judge::MailDkim && way == "rr2";
    no_ed25519
        || EXCEPTIONS.iter().any(|(message, ways, who, _)| {
            *message == name && *who == judge && (ways.is_empty() || ways.contains(&way))
        })
}

fn parts(file: &Path) -> (String, String) {
    let name = file.file_stem().unwrap().to_str().unwrap();
    let (way, message) = name.split_once('-').unwrap();
    (way.to_owned(), message.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_message_verifies_everywhere() {
    let bench = Bench::new().await;
    let judges = Judges::start(bench.dns.resolver()).await;
    let messages = messages::all();
    assert!(messages.len() >= 60, "{}", messages.len());
    let names: BTreeSet<&str> = messages.iter().map(|m| m.name).collect();
    assert_eq!(names.len(), messages.len(), "each has a name of its own");
    let mut files: Vec<PathBuf> = Vec::new();
    for way in &WAYS {
        files.extend(messages.iter().map(|m| bench.sign(way.name, m.name, &m.bytes)));
    }
    let large = messages::large();
    files.push(bench.sign("rr", large.name, &large.bytes));
    files.push(bench.sign("ss", large.name, &large.bytes));

    let mut wrong = Vec::new();
    for judge in Judge::ALL {
        let (mut good, mut exceptions) = (0, 0);
        for (file, said) in files.iter().zip(judges.ask(judge, &files).await) {
            let (way, name) = parts(file);
            match (said, excepted(&way, &name, judge)) {
                (Ok(()), false) => good += 1,
                (Err(_), true) => exceptions += 1,
                (Ok(()), true) => {
                    wrong.push(format!("{judge} takes {way} {name}: it is no exception any more"))
                }
                (Err(why), false) => {
                    let why: String = why.chars().take(160).collect();
                    wrong.push(format!("{judge} does not take {way} {name}: {why}"));
                }
            }
        }
        println!("{judge}: {good} of {} messages verified, {exceptions} exceptions", files.len());
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_cannot_be_signed_is_refused_with_a_reason() {
    let bench = Bench::new().await;
    for (name, message, says) in messages::refused() {
        let mut out = Vec::new();
        let now = jiff::Timestamp::now();
        let error = run_sign(&bench.directory("rr"), message.as_slice(), &mut out, Unknown::Refuse, now)
            .expect_err(name)
            .to_string();
        assert!(error.contains(says), "{name}: {error}");
        assert!(out.is_empty(), "{name}: nothing leaves unsigned");
    }
}
