//! `dkim-operator milter` in a real Sendmail, with the lines of docs/milter.md: while keys are rolled, with awkward messages,
//! and with mail from outside.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "common/flow.rs"]
mod flow;
#[path = "common/judges.rs"]
mod judges;
#[path = "common/keys.rs"]
mod keys;
#[path = "corpus/messages.rs"]
#[allow(dead_code, reason = "some are for the signer alone")]
mod messages;
#[path = "common/own_milter.rs"]
mod own_milter;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use dkim_operator::api::Canonicalization::Simple;
use dkim_operator::model::key::KeyKind;
use dkim_testbed::mail::{Sendmail, Sink, Submission};
use dkim_testbed::{Scratch, eventually};
use flow::{Arrivals, Pace, arrived, selectors};
use judges::{Judge, Judges, http};
use keys::{KeyDns, PATIENCE, Rolling};
use own_milter::{Milter, dns, domains};

/// What docs/milter.md tells people to write, for this milter.
fn documented(milter: &Milter) -> String {
    let page = include_str!("../docs/milter.md");
    let block = page.split("```sendmail\n").nth(1).and_then(|rest| rest.split("```").next());
    let socket = format!("inet:{}@{}", milter.tcp.port(), milter.tcp.ip());
    let block = block.expect("docs/milter.md has a block for Sendmail");
    assert!(block.contains("inet:8891@127.0.0.1"), "{block}");
    block.replace("inet:8891@127.0.0.1", &socket)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_switched_while_mail_flows() {
    let dns = dns().await;
    let mut rolling = Vec::new();
    let milter = Milter::start(&[], |keys| rolling = domains(&dns, keys)).await;
    let sink = Sink::start().await.unwrap();
    let sendmail = Sendmail::start(&documented(&milter), sink.address()).await.unwrap();
    let judges = Judges::start(dns.resolver()).await;
    // rspamd remembers keys for longer than they stay here.
    let ask = [Judge::Dkimpy, Judge::OpenDkim, Judge::MailAuth];
    let mut arrivals = Arrivals::new(&sink, &judges, &ask);
    let pace = Pace { rotations: 4, pause: Duration::from_millis(300) };
    let log = || format!("{}\n{}", milter.log(), sendmail.log());
    flow::roll("Sendmail + milter", pace, &dns, sendmail.address(), &mut arrivals, &mut rolling, log).await;
    let log = milter.process.log_text();
    assert!(!log.contains("PRIVATE") && !log.contains("ERROR"), "{log}");
    let metrics = http(milter.health, "GET /metrics", &[], b"").await.unwrap();
    assert!(metrics.lines().any(|l| l == "dkim_operator_milter_protocol_errors_total 0"), "{metrics}");
}

/// What one message with these fields becomes, without its body.
fn header(from: &str, to: &str, more: &str) -> Vec<u8> {
    format!("From: {from}\r\nTo: {to}\r\nSubject: Hello\r\n{more}\r\nhello\r\n").into_bytes()
}

const ID: &str = "Message-ID: <1@contoso.com>\r\n";

/// Headers that Sendmail completes or writes anew, by names.
fn rewritten() -> Vec<(String, Vec<u8>)> {
    let (joe, ann) = ("Joe <joe@contoso.com>", "ann@receiver.example");
    let authors = [
        "JOE@CONTOSO.COM",
        "\"Doe, Joe\"\r\n <joe@contoso.com>",
        "Joe Q. O'Neil <joe@contoso.com>",
        "'Joe' <joe@contoso.com>",
        "=?utf-8?Q?J=C3=B6._x?= <joe@contoso.com>",
        "joe@contoso.com (Joe  Doe)",
        "Joe (Sales.) <joe@contoso.com>",
        "Joe <joe@contoso.com>, Ann <ann@contoso.com>",
    ];
    let receivers = [
        "ann",
        "a@x.example,b@y.example",
        "  a@x.example ,   b@y.example",
        "a@x.example, , b@y.example, ",
        "a@x.example\r\n , b@y.example",
        "Ann < ann@receiver.example >",
        "<@a.example:ann@receiver.example>",
        "ann@receiver.example.",
        "Team: a@x.example, b@y.example;",
        "undisclosed-recipients:;",
        "Dr. Ann [x] <ann@receiver.example>",
        "\"Doe,Ann\" <ann@receiver.example>, Jo\u{f6} <b@y.example>",
    ];
    let many = (0..40).map(|n| format!("user{n}@receiver.example")).collect::<Vec<_>>().join(", ");
    let mut all: Vec<(String, Vec<u8>)> = Vec::new();
    all.extend(authors.iter().map(|from| ((*from).to_owned(), header(from, ann, ID))));
    all.extend(receivers.iter().map(|to| ((*to).to_owned(), header(joe, to, ID))));
    all.push(("many receivers".to_owned(), header(joe, &many, ID)));
    all.push(("nothing but From".to_owned(), b"From: joe@contoso.com\r\n\r\nhello\r\n".to_vec()));
    all.push(("no Message-ID".to_owned(), header(joe, ann, "")));
    all.push((
        "Bcc".to_owned(),
        header(joe, ann, &format!("{ID}Bcc: c@z.example\r\nCc: a@x.example,b@y.example\r\n")),
    ));
    all
}

const CR: &str = "Sendmail refuses a carriage return of its own";
const LF: &str = "Sendmail refuses a line feed of its own";
const LONG: &str = "Sendmail breaks lines of more than 2,040 bytes";
const OPEN: &str = "Sendmail adds the boundary that is missing at the end";
const NUL: &str = "the test mode of OpenDKIM reads lines as C strings, which end at NUL";

/// What does not verify everywhere, and why.
const BROKEN: &[(&str, &str)] = &[
    ("bare-cr", CR),
    ("bare-cr-alone", CR),
    ("bare-cr-before-end", CR),
    ("bare-cr-last", CR),
    ("mixed-line-ends", LF),
    ("unix-line-ends", LF),
    ("cut-between-cr-and-lf", LONG),
    ("line-100000", LONG),
    ("line-2048", LONG),
    ("line-5000", LONG),
    ("subject-4000", LONG),
    ("white-space-4000", LONG),
    ("without-closing-boundary", OPEN),
    ("nul", NUL),
];

/// Sends them all through Sendmail, and says which do not verify everywhere, and why.
async fn broken(all: &[(String, Vec<u8>)]) -> BTreeMap<&str, String> {
    let dns = dns().await;
    let milter = Milter::start(&[], |keys| {
        domains(&dns, keys);
        strict(&dns, keys);
    })
    .await;
    let sink = Sink::start().await.unwrap();
    let sendmail = Sendmail::start(&documented(&milter), sink.address()).await.unwrap();
    let judges = Judges::start(dns.resolver()).await;
    let mut session = Submission::open(sendmail.address()).await.unwrap();
    let (mut sent, mut broken) = (0, BTreeMap::new());
    for (number, (name, message)) in all.iter().enumerate() {
        let message = [format!("X-Number: {number}\r\n").as_bytes(), message].concat();
        match session.send("joe@contoso.com", "ann@receiver.example", &message).await {
            Ok(()) => sent += 1,
            Err(error) => {
                broken.insert(name.as_str(), error.to_string());
                session = Submission::open(sendmail.address()).await.unwrap();
            }
        }
    }
    let mails = eventually(PATIENCE, "all that was taken has arrived", || {
        let there = sink.len();
        async move { if there >= sent { Ok(()) } else { Err(format!("{there} of {sent}")) } }
    });
    mails.await.unwrap();
    let scratch = Scratch::new("sendmail").unwrap();
    let mut files = Vec::new();
    for mail in sink.take() {
        let text = String::from_utf8_lossy(&mail.message).into_owned();
        let number = text.split("X-Number: ").nth(1).and_then(|rest| rest.split("\r\n").next()).unwrap();
        let (name, _) = &all[number.parse::<usize>().unwrap()];
        if selectors(&mail.message).is_empty() {
            broken.insert(name, "it is not signed".to_owned());
            continue;
        }
        let path = scratch.join(format!("{number}.eml"));
        std::fs::write(&path, &mail.message).unwrap();
        files.push((name, path, text));
    }
    for judge in [Judge::Dkimpy, Judge::OpenDkim, Judge::MailAuth] {
        let paths: Vec<_> = files.iter().map(|(_, path, _)| path.clone()).collect();
        for ((name, _, text), said) in files.iter().zip(judges.ask(judge, &paths).await) {
            if let Err(why) = said {
                let head = text.split("\r\n\r\n").next().unwrap_or_default();
                broken.insert(name, format!("{judge}: {why}\n{head}"));
            }
        }
    }
    if !broken.is_empty() {
        println!("{}", milter.log());
    }
    broken
}

/// What Sendmail does to messages on their way through is known before they are signed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_it_writes_anew_verifies() {
    let awkward = messages::all().into_iter().map(|m| (m.name.to_owned(), m.bytes));
    let all: Vec<_> = rewritten().into_iter().chain(awkward).collect();
    let broken = broken(&all).await;
    let found: Vec<&str> = broken.keys().copied().collect();
    let mut expected: Vec<&str> = BROKEN.iter().map(|(name, _)| *name).collect();
    expected.sort_unstable();
    assert_eq!(found, expected, "{broken:#?}");
    println!("Sendmail + milter: {} awkward messages, {} exceptions", all.len(), broken.len());
}

/// Fields that somebody may want to have signed, and that Sendmail knows: those it does not touch, takes away, or makes.
const KNOWN: [&str; 26] = [
    "Apparently-To",
    "Comments",
    "Content-Length",
    "Content-Transfer-Encoding",
    "Delivery-Receipt-To",
    "Disposition-Notification-To",
    "Errors-To",
    "Full-Name",
    "In-Reply-To",
    "Keywords",
    "List-Id",
    "Mail-From",
    "Organization",
    "Precedence",
    "Priority",
    "References",
    "Reply-To",
    "Resent-Date",
    "Resent-From",
    "Resent-Message-ID",
    "Return-Path",
    "Return-Receipt-To",
    "Sender",
    "Status",
    "Via",
    "X-Mailer",
];

/// A domain that asks for everything that Sendmail makes hard: every byte, every field, and no field more.
fn strict(dns: &KeyDns, keys: &Path) -> Rolling {
    let kinds = [KeyKind::Rsa2048];
    let rolling =
        Rolling::new(dns, keys, "strict.example", "strict.example", ["selector1", "selector2"], &kinds);
    rolling.with(|config| {
        (config.header_canonicalization, config.body_canonicalization) = (Simple, Simple);
        config.oversign = true;
        config.headers.extend(["Cc", "Date"].into_iter().chain(KNOWN).map(str::to_owned));
    })
}

/// Sendmail folds headers anew and knows fields of its own: what a domain asks for gives way to what will verify.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_verifies_whatever_a_domain_wants_signed() {
    let of = |message: Vec<u8>| {
        String::from_utf8_lossy(&message).replace("contoso.com", "strict.example").into_bytes()
    };
    let mut all: Vec<_> = rewritten().into_iter().map(|(name, message)| (name, of(message))).collect();
    let (joe, ann) = ("Joe <joe@strict.example>", "ann@receiver.example");
    for name in KNOWN {
        for value in ["8", "a@x.example,b@y.example", "a b <c@z.example>"] {
            all.push((format!("{name}: {value}"), header(joe, ann, &format!("{ID}{name}: {value}\r\n"))));
        }
    }
    let mut too_long = Vec::new();
    for size in [180, 210, 240, 300, 600, 1100] {
        let word = "x".repeat(size);
        let words = "xyz ".repeat(size / 4);
        let coded = "=?utf-8?Q?J=C3=B6?=\r\n ".repeat(size / 20);
        for (kind, phrase) in [
            ("a word", word.clone()),
            ("words", words.trim_end().to_owned()),
            ("quoted", format!("\"{}\"", "a, b".repeat(size / 4))),
            ("coded", coded.trim_end().to_owned()),
        ] {
            let named = |address: &str| format!("{phrase} <{address}>");
            all.push((format!("To: {kind}, {size}"), header(joe, &named(ann), ID)));
            let name = format!("From: {kind}, {size}");
            if size > 210 {
                too_long.push(name.clone());
            }
            all.push((name, header(&named("joe@strict.example"), ann, ID)));
        }
        all.push((format!("To: comment, {size}"), header(joe, &format!("{ann} ({word})"), ID)));
        all.push((format!("To: address, {size}"), header(joe, &format!("{word}@receiver.example"), ID)));
    }
    all.push((
        "folded".to_owned(),
        header(joe, "a@x.example,\r\n\t b@y.example", &format!("{ID}X-Mailer:  a\r\n   b \r\n")),
    ));
    let broken = broken(&all).await;
    let found: Vec<&str> = broken.keys().copied().collect();
    too_long.sort_unstable();
    assert_eq!(found, too_long, "{broken:#?}");
    assert!(broken.values().all(|why| why == "it is not signed"), "{broken:#?}");
    println!("Sendmail + milter: {} messages of a strict domain, {} too long", all.len(), found.len());
}

/// Mail from outside is not signed, whatever it says; what the MTA marks is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_from_outside_is_left_alone_unless_it_is_marked() {
    let dns = dns().await;
    let message = header("Joe <joe@contoso.com>", "ann@receiver.example", ID);
    for (mark, signed) in [("MTA=no", false), ("MTA", true)] {
        let args = ["--trusted-networks=192.0.2.0/24", &format!("--sign-macro=daemon_name={mark}")];
        let milter = Milter::start(&args, |keys| drop(domains(&dns, keys))).await;
        let sink = Sink::start().await.unwrap();
        let sendmail = Sendmail::start(&documented(&milter), sink.address()).await.unwrap();
        let mut session = Submission::open(sendmail.address()).await.unwrap();
        session.send("joe@contoso.com", "ann@receiver.example", &message).await.unwrap();
        let mails = arrived(&sink, "it arrives", || sendmail.log()).await;
        let text = String::from_utf8_lossy(&mails[0].message).into_owned();
        assert_eq!(!selectors(&mails[0].message).is_empty(), signed, "{text}\n{}", milter.log());
    }
}
