//! Messages signed by `dkim-operator sign` verify with verifiers that share no code with it: dkimpy (Python) and
//! Mail::DKIM (Perl). Changed copies do not.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;

use dkim_operator::api::Canonicalization::{self, Relaxed, Simple};
use dkim_operator::api::signing_config::{
    FORMAT_VERSION, SIGNED_HEADERS, SIGNING_FILE, SignatureConfig, SigningConfig,
};
use dkim_operator::model::key::{KeyKind, PrivateKey};
use dkim_operator::model::name::DomainName;
use dkim_operator::signing::{Alignment, Unknown, Verdict, run_sign};
use getrandom::SysRng;
use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::{RData, Record, rdata::TXT};

const BOUNCE: &str = "Return-Path: <>\r\nFrom: Mail Delivery <MAILER-DAEMON@contoso.com>\r\nTo: joe@fabrikam.com\r\n\
    Auto-Submitted: auto-replied\r\nSubject: Undelivered Mail\r\nMIME-Version: 1.0\r\n\
    Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=\"b1\"\r\nMessage-ID: <1@contoso.com>\r\n\r\n\
    --b1\r\nContent-Type: text/plain\r\n\r\nIt bounced.\r\n\r\n--b1\r\nContent-Type: message/delivery-status\r\n\r\n\
    Reporting-MTA: dns; mx.contoso.com\r\n\r\nFinal-Recipient: rfc822; x@y.example\r\nAction: failed\r\nStatus: 5.1.1\r\n\r\n--b1--\r\n";

/// Name and text of each message.
fn messages() -> Vec<(&'static str, String)> {
    let plain = "From: Joe <joe@contoso.com>\r\nTo: ann@fabrikam.com\r\nSubject: Hello\r\nMessage-ID: <1@contoso.com>\r\n\r\n";
    let with = |body: &str| format!("{plain}{body}");
    vec![
        ("ascii", with("Hello Ann,\r\n\r\nbye\r\n")),
        ("utf8", with("Grüße aus Köln — 你好\r\n").replace("Hello\r\n", "Grüße\r\n")),
        ("empty-body", with("")),
        ("header-only", plain.trim_end().to_owned()),
        ("one-empty-line", with("\r\n")),
        ("trailing-blank-lines", with("text\r\n\r\n\r\n\r\n")),
        ("trailing-white-space-lines", with("-- \r\nJoe\t \r\n \r\n\t\r\n")),
        ("white-space-alone", with("  \r\n")),
        ("inner-white-space", with(" a  b\t c \r\n\r\n  \r\nd\r\n")),
        ("no-final-newline", with("no newline")),
        ("unix-line-ends", with("one\r\ntwo\r\n\r\n").replace("\r\n", "\n")),
        ("bare-carriage-return", with("a\rb\r\nc \r\r\n")),
        ("dots", with(".\r\n..\r\n.x\r\n")),
        ("long-lines", with(&format!("{}\r\n", "x".repeat(5000)))),
        ("large", with(&"0123456789 abcdef\r\n".repeat(80_000))),
        (
            "folded",
            "From: \"Doe, Joe\"\r\n\t<joe@contoso.com>\r\nTo: a@x.example,\r\n  b@y.example ,\r\n\tc@z.example\r\n\
             Subject:  a \t folded\r\n  subject\t\r\nMime-version: 1.0\r\nCONTENT-TYPE: text/plain;\r\n charset=utf-8\r\n\r\nx\r\n"
                .to_owned(),
        ),
        (
            "repeated",
            "Received: from a\r\nTo: first@x.example\r\nReceived: from b\r\nFrom: joe@contoso.com\r\nTo: second@x.example\r\n\
             Subject: one\r\nReceived: from c\r\nSubject: two\r\n\r\nx\r\n"
                .to_owned(),
        ),
        ("from-alone", "From: joe@contoso.com\r\n\r\n".to_owned()),
        ("empty-fields", "From: joe@contoso.com\r\nSubject:\r\nTo: \r\n\r\nx\r\n".to_owned()),
        ("bounce", BOUNCE.to_owned()),
        (
            "signed-before",
            format!("DKIM-Signature: v=1; a=rsa-sha256; d=list.example; s=s; h=From; bh=AA==;\r\n b=AA==\r\n{}", with("x\r\n")),
        ),
    ]
}

struct Bench {
    dir: tempfile::TempDir,
    dns: BTreeMap<String, String>,
}

impl Bench {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), dns: BTreeMap::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A key directory of its own for each way to sign, as the Secret is mounted.
    fn keys(
        &mut self,
        below: &str,
        domain: &str,
        kinds: &[KeyKind],
        (header, body): (Canonicalization, Canonicalization),
        oversign: bool,
    ) {
        let dir = self.path(below);
        fs::create_dir_all(&dir).unwrap();
        let signature = |(index, kind): (usize, &KeyKind)| {
            let key = PrivateKey::generate(*kind, &mut SysRng).unwrap();
            let public = key.public().unwrap();
            let s = format!("{below}-{}", index + 1);
            let text = format!("v=DKIM1; k={}; p={}", public.algorithm.as_str(), public.p);
            self.dns.insert(format!("{s}._domainkey.{domain}"), text);
            let key_file = format!("selector{}.pem", index + 1);
            fs::write(dir.join(&key_file), key.expose_pem()).unwrap();
            SignatureConfig {
                d: domain.to_owned(),
                s,
                identity: oversign.then(|| format!("news@lists.{domain}")),
                algorithm: kind.algorithm(),
                key_file,
                fingerprint: public.fingerprint().unwrap(),
                serial: 1,
                header_canonicalization: header,
                body_canonicalization: body,
                headers: SIGNED_HEADERS.iter().chain(&["Received"]).map(|&name| name.to_owned()).collect(),
                oversign,
                timestamp: true,
                expiration_seconds: oversign.then_some(3600),
            }
        };
        let signatures = kinds.iter().enumerate().map(signature).collect();
        let domain = DomainName::parse(domain).unwrap();
        let config = SigningConfig { format_version: FORMAT_VERSION, domain, signatures };
        fs::write(dir.join(SIGNING_FILE), serde_json::to_vec(&config).unwrap()).unwrap();
    }

    fn sign(&self, below: &str, message: &str) -> Vec<u8> {
        let mut out = Vec::new();
        let now = jiff::Timestamp::now();
        run_sign(&self.path(below), message.as_bytes(), &mut out, Unknown::Refuse, now).unwrap();
        out
    }

    fn write(&self, name: &str, message: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, message).unwrap();
        path
    }

    /// What a foreign verifier says, in the order of the files.
    fn ask(&self, verifier: &Verifier, files: &[PathBuf]) -> Vec<Answer> {
        self.ask_through(verifier, &["--dns".as_ref(), self.table().as_os_str()], files)
    }

    fn table(&self) -> PathBuf {
        let table: String = self.dns.iter().map(|(name, text)| format!("{name}\t{text}\n")).collect();
        self.write("dns.tsv", table.as_bytes())
    }

    fn ask_through(&self, verifier: &Verifier, source: &[&OsStr], files: &[PathBuf]) -> Vec<Answer> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/verifiers").join(verifier.script);
        let output =
            Command::new(verifier.interpreter).arg(script).args(source).args(files).output().unwrap_or_else(
                |e| panic!("{} cannot be run ({e}); {}", verifier.interpreter, verifier.install),
            );
        assert!(
            output.status.success(),
            "{} did not work; {}\n{}",
            verifier.script,
            verifier.install,
            String::from_utf8_lossy(&output.stderr)
        );
        let text = String::from_utf8(output.stdout).unwrap();
        let answers: Vec<Answer> = text.lines().map(Answer::parse).collect();
        assert_eq!(answers.iter().map(|a| a.file.clone()).collect::<Vec<_>>(), files);
        answers
    }
}

struct Verifier {
    interpreter: &'static str,
    script: &'static str,
    install: &'static str,
}

const DKIMPY: Verifier = Verifier {
    interpreter: "/usr/bin/python3",
    script: "dkimpy.py",
    install: "apt-get install python3-dkim python3-nacl python3-dnspython",
};
const MAIL_DKIM: Verifier = Verifier {
    interpreter: "/usr/bin/perl",
    script: "mail_dkim.pl",
    install: "apt-get install libmail-dkim-perl libnet-dns-perl",
};

#[derive(Debug)]
struct Answer {
    file: PathBuf,
    pass: bool,
    d: String,
    s: String,
    reason: String,
}

impl Answer {
    fn parse(line: &str) -> Self {
        let fields: Vec<&str> = line.split('\t').collect();
        let [file, result @ ("pass" | "fail"), d, s, reason] = fields.as_slice() else {
            panic!("not the five fields of a verifier: {line:?}")
        };
        let pass = *result == "pass";
        Self { file: file.into(), pass, d: (*d).into(), s: (*s).into(), reason: (*reason).into() }
    }
}

const WAYS: [(&str, (Canonicalization, Canonicalization), bool); 6] = [
    ("rr", (Relaxed, Relaxed), false),
    ("rs", (Relaxed, Simple), false),
    ("sr", (Simple, Relaxed), false),
    ("ss", (Simple, Simple), false),
    ("rro", (Relaxed, Relaxed), true),
    ("sso", (Simple, Simple), true),
];

/// `signed-before` carries the signature of somebody else, which never verifies.
fn verifies_as_a_whole(name: &str) -> bool {
    name != "signed-before"
}

#[test]
fn foreign_verifiers_accept_every_message() {
    let mut bench = Bench::new();
    let mut files = Vec::new();
    for (way, modes, oversign) in WAYS {
        bench.keys(way, "contoso.com", &[KeyKind::Rsa2048], modes, oversign);
        for (name, message) in messages().iter().filter(|(name, _)| verifies_as_a_whole(name)) {
            files.push(bench.write(&format!("{way}-{name}.eml"), &bench.sign(way, message)));
        }
    }
    for verifier in [&DKIMPY, &MAIL_DKIM] {
        for answer in bench.ask(verifier, &files) {
            assert!(answer.pass, "{}: {answer:?}", verifier.script);
            assert_eq!(answer.d, "contoso.com");
            let way = answer.file.file_name().unwrap().to_str().unwrap().split('-').next().unwrap();
            assert_eq!(answer.s, format!("{way}-1"));
        }
    }
}

#[test]
fn foreign_verifiers_refuse_changed_copies() {
    let mut bench = Bench::new();
    let mut files = Vec::new();
    for (way, modes, oversign) in WAYS {
        bench.keys(way, "contoso.com", &[KeyKind::Rsa2048], modes, oversign);
        let (_, message) = messages().remove(0);
        let signed = String::from_utf8(bench.sign(way, &message)).unwrap();
        let changes = [
            ("body", signed.replace("Hello Ann", "Hello Bob")),
            ("appended", format!("{signed}PS: pay me\r\n")),
            ("subject", signed.replace("Subject: Hello", "Subject: Bye")),
            ("from", signed.replace("From: Joe", "From: Eve")),
            ("time", signed.replace("; t=1", "; t=2")),
            ("mime-added", signed.replace("Subject:", "Content-Type: text/html\r\nSubject:")),
        ];
        for (change, text) in changes {
            assert_ne!(text, signed, "{change}");
            files.push(bench.write(&format!("{way}-{change}.eml"), text.as_bytes()));
        }
        if oversign {
            let text = format!("From: Eve <eve@contoso.com>\r\n{signed}");
            files.push(bench.write(&format!("{way}-second-from.eml"), text.as_bytes()));
        }
    }
    for verifier in [&DKIMPY, &MAIL_DKIM] {
        for answer in bench.ask(verifier, &files) {
            assert!(!answer.pass, "{}: {answer:?}", verifier.script);
            assert!(!answer.reason.is_empty());
        }
    }
}

/// RFC 8463: RSA and Ed25519 side by side. Debian's Mail::DKIM knows no Ed25519.
#[test]
fn two_signatures_verify_side_by_side() {
    let mut bench = Bench::new();
    let mut files = Vec::new();
    for (way, modes, oversign) in WAYS {
        bench.keys(way, "contoso.com", &[KeyKind::Rsa2048, KeyKind::Ed25519], modes, oversign);
        for (name, message) in messages().iter().filter(|(name, _)| verifies_as_a_whole(name)) {
            files.push(bench.write(&format!("{way}-{name}.eml"), &bench.sign(way, message)));
        }
    }
    for answer in bench.ask(&DKIMPY, &files) {
        assert!(answer.pass, "{answer:?}");
        assert_eq!(answer.d, "contoso.com,contoso.com");
    }
}

#[test]
fn keys_of_every_size_and_names_of_every_kind() {
    let mut bench = Bench::new();
    let idn = "xn--bcher-kva.example";
    bench.keys("idn", idn, &[KeyKind::Rsa2048], (Relaxed, Relaxed), false);
    bench.keys("small", "contoso.com", &[KeyKind::Rsa1024], (Relaxed, Relaxed), false);
    bench.keys("great", "contoso.com", &[KeyKind::Rsa4096], (Relaxed, Relaxed), false);
    let utf8 = bench.sign("idn", "From: Jö <jö@Bücher.example>\r\nSubject: ö\r\n\r\nx\r\n");
    let ascii = bench.sign("idn", "From: joe@xn--bcher-kva.example\r\n\r\nx\r\n");
    let plain = "From: joe@contoso.com\r\n\r\nx\r\n";
    let files = [
        bench.write("idn-utf8.eml", &utf8),
        bench.write("idn-ascii.eml", &ascii),
        bench.write("small.eml", &bench.sign("small", plain)),
        bench.write("great.eml", &bench.sign("great", plain)),
    ];
    for verifier in [&DKIMPY, &MAIL_DKIM] {
        for (answer, d) in bench.ask(verifier, &files).iter().zip([idn, idn, "contoso.com", "contoso.com"]) {
            assert!(answer.pass, "{}: {answer:?}", verifier.script);
            assert_eq!(answer.d, d);
        }
    }
}

/// A signature that was there before is left alone: the new one goes on top and signs nothing of it.
#[test]
fn earlier_signatures_stay() {
    let mut bench = Bench::new();
    bench.keys("rr", "contoso.com", &[KeyKind::Rsa2048], (Relaxed, Relaxed), false);
    let (_, message) = messages().into_iter().find(|(name, _)| !verifies_as_a_whole(name)).unwrap();
    let signed = bench.sign("rr", &message);
    let file = bench.write("both.eml", &signed);
    for answer in [&DKIMPY, &MAIL_DKIM].iter().flat_map(|v| bench.ask(v, std::slice::from_ref(&file))) {
        assert!(!answer.pass);
        assert_eq!(answer.d, "contoso.com,list.example");
        assert!(answer.reason.starts_with("signature 2"), "the first is good: {answer:?}");
    }
}

/// A name server on loopback that answers from the table, for as long as the test runs.
fn serve(dns: BTreeMap<String, String>) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut packet = [0; 4096];
        while let Ok((length, client)) = socket.recv_from(&mut packet) {
            let Ok(mut reply) = Message::from_vec(&packet[..length]) else { continue };
            let name = reply.queries[0].name().clone();
            let text = dns.get(name.to_ascii().to_ascii_lowercase().trim_end_matches('.'));
            reply.metadata.message_type = MessageType::Response;
            reply.metadata.recursion_available = true;
            match text {
                Some(text) => {
                    let strings =
                        text.as_bytes().chunks(255).map(|s| String::from_utf8_lossy(s).into_owned());
                    let txt = TXT::new(strings.collect());
                    reply.add_answer(Record::from_rdata(name, 60, RData::TXT(txt)));
                }
                None => reply.metadata.response_code = ResponseCode::NXDomain,
            }
            socket.send_to(&reply.to_vec().unwrap(), client).unwrap();
        }
    });
    address
}

#[test]
fn keys_are_looked_up_in_real_dns() {
    let mut bench = Bench::new();
    bench.keys("rr", "contoso.com", &[KeyKind::Rsa1024], (Relaxed, Relaxed), false);
    bench.keys("gone", "contoso.com", &[KeyKind::Rsa1024], (Relaxed, Relaxed), false);
    bench.dns.remove("gone-1._domainkey.contoso.com");
    let plain = "From: joe@contoso.com\r\n\r\nx\r\n";
    let signed = ["rr", "gone"].map(|way| bench.sign(way, plain));
    let files = [bench.write("rr.eml", &signed[0]), bench.write("gone.eml", &signed[1])];
    let resolver = serve(bench.dns.clone());

    let ours = dkim_operator::signing::Verifier::new(&[resolver]).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let reports =
        signed.each_ref().map(|message| runtime.block_on(ours.verify(message)).signatures.remove(0));
    assert_eq!(reports.each_ref().map(|r| r.verdict), [Verdict::Pass, Verdict::PermError]);
    assert_eq!(reports[0].alignment, Alignment::Strict);
    assert_eq!(reports[1].asked.as_deref(), Some("gone-1._domainkey.contoso.com"));
    assert!(reports[1].reason.starts_with("no key is published"), "{}", reports[1].reason);

    let address = resolver.to_string();
    for verifier in [&DKIMPY, &MAIL_DKIM] {
        let answers = bench.ask_through(verifier, &["--resolver".as_ref(), address.as_ref()], &files);
        assert_eq!(answers.iter().map(|a| a.pass).collect::<Vec<_>>(), [true, false], "{answers:?}");
    }
}

/// The example of the format's document is of the format, field by field.
#[test]
fn the_document_shows_the_format() {
    let document = include_str!("../docs/secret-format.md");
    let example = document.split("```json").nth(1).unwrap().split("```").next().unwrap();
    let shown: serde_json::Value = serde_json::from_str(example).unwrap();
    let config: SigningConfig = serde_json::from_str(example).unwrap();
    assert_eq!(serde_json::to_value(&config).unwrap(), shown);
    assert_eq!(config.format_version, FORMAT_VERSION);
}
