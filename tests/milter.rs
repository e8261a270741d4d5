//! `dkim-operator milter` in a real Postfix: while keys are rolled, with bounces, with mail from outside; and what
//! miltertest makes of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "common/flow.rs"]
mod flow;
#[path = "common/judges.rs"]
mod judges;
#[path = "common/keys.rs"]
mod keys;
#[path = "common/own_milter.rs"]
mod own_milter;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use dkim_operator::model::key::KeyKind::Rsa2048;
use dkim_testbed::eventually;
use dkim_testbed::mail::{Postfix, Sink, Submission};
use flow::{Arrivals, Flow, Pace, arrived, selectors};
use judges::{Judge, Judges, http};
use keys::{KeyDns, PATIENCE, Rolling, says_ready};
use own_milter::{Milter, dns, domains};

const ROTATIONS: usize = 4;

/// The rules of docs/milter.md for bounces.
const BOUNCES: &str = "internal_mail_filter_classes = bounce, notify\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_switched_while_mail_flows() {
    let dns = dns().await;
    let mut rolling = Vec::new();
    let milter = Milter::start(&[], |keys| rolling = domains(&dns, keys)).await;
    let sink = Sink::start().await.unwrap();
    let socket = format!("unix:{}", milter.unix.display());
    let postfix = Postfix::start(&socket, sink.address(), "").await.unwrap();
    let judges = Judges::start(dns.resolver()).await;
    let mut arrivals = Arrivals::new(&sink, &judges, &[Judge::Dkimpy, Judge::OpenDkim, Judge::MailAuth]);
    let pace = Pace { rotations: ROTATIONS, pause: Duration::from_millis(300) };
    let sent =
        flow::roll("Postfix + milter", pace, &dns, postfix.address(), &mut arrivals, &mut rolling, || {
            milter.log()
        })
        .await;
    let metrics = http(milter.health, "GET /metrics", &[], b"").await.unwrap();
    let signed = metrics.lines().find_map(|l| l.strip_prefix("dkim_operator_milter_messages_signed_total "));
    assert!(signed.unwrap().parse::<usize>().unwrap() >= sent, "{metrics}");
    let log = milter.process.log_text();
    assert!(!log.contains("PRIVATE") && !log.contains("ERROR"), "{log}");
}

/// What arrives of some messages.
async fn through(postfix: &Postfix, sink: &Sink, messages: &[(&str, &str)]) -> Vec<Vec<u8>> {
    let mut session = Submission::open(postfix.address()).await.unwrap();
    for (from, text) in messages {
        session.send(from, "ann@receiver.example", text.as_bytes()).await.unwrap();
    }
    eventually(PATIENCE, "all has arrived", || {
        let there = sink.len();
        async move { if there >= messages.len() { Ok(()) } else { Err(there.to_string()) } }
    })
    .await
    .unwrap();
    sink.take().into_iter().map(|mail| mail.message).collect()
}

const PLAIN: &str = "From: Joe <joe@contoso.com>\r\nTo: ann@receiver.example\r\nSubject: x\r\n\r\nhello\r\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_from_outside_and_of_others_is_left_alone() {
    let dns = dns().await;
    let milter = Milter::start(&["--trusted-networks=192.0.2.0/24"], |keys| drop(domains(&dns, keys))).await;
    let sink = Sink::start().await.unwrap();
    let outside = Postfix::start(&milter.inet(), sink.address(), "").await.unwrap();
    for message in through(&outside, &sink, &[("joe@contoso.com", PLAIN), ("", PLAIN)]).await {
        assert!(selectors(&message).is_empty(), "{}", String::from_utf8_lossy(&message));
    }
    // The same clients, marked by the MTA.
    let marked = Postfix::start(&milter.inet(), sink.address(), "milter_macro_daemon_name = ORIGINATING\n")
        .await
        .unwrap();
    let other = PLAIN.replace("contoso.com", "sub.contoso.com");
    let results =
        "Authentication-Results: mx.contoso.com; dkim=pass header.d=contoso.com\r\n".to_owned() + PLAIN;
    let arrived =
        through(&marked, &sink, &[("joe@contoso.com", PLAIN), ("x@y.example", &other), ("", &results)]).await;
    for message in arrived {
        let text = String::from_utf8_lossy(&message).into_owned();
        assert_eq!(selectors(&message).is_empty(), text.contains("@sub.contoso.com"), "{text}");
        assert_eq!(
            text.contains("Authentication-Results: mx.contoso.com; dkim=pass"),
            text.contains("Results")
        );
    }
}

/// Mail that Postfix itself makes: the bounce of a message that nobody takes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bounces_are_signed() {
    let dns = KeyDns::start(&["relay.example", "mx.relay.example"]).await;
    let plain = ["selector1", "selector2"];
    let milter = Milter::start(&[], |keys| {
        for domain in ["relay.example", "mx.relay.example"] {
            drop(Rolling::new(&dns, keys, domain, domain, plain, &[Rsa2048]));
        }
    })
    .await;
    let sink = Sink::start().await.unwrap();
    let extra = format!(
        "{BOUNCES}non_smtpd_milters = {}\nmyorigin = relay.example\n\
         smtpd_reject_unlisted_recipient = no\n\
         transport_maps = inline:{{{{nobody.example = error:5.1.1 nobody is here}}}}\n",
        milter.inet()
    );
    let postfix = Postfix::start(&milter.inet(), sink.address(), &extra).await.unwrap();
    let judges = Judges::start(dns.resolver()).await;
    let mut arrivals =
        Arrivals::new(&sink, &judges, &[Judge::Dkimpy, Judge::MailDkim, Judge::OpenDkim, Judge::MailAuth]);
    let mut session = Submission::open(postfix.address()).await.unwrap();
    let text = PLAIN.replace("contoso.com", "relay.example");
    session.send("joe@relay.example", "x@nobody.example", text.as_bytes()).await.unwrap();
    let mails = arrived(&sink, "the bounce arrives", || postfix.log()).await;
    let [bounce] = mails.as_slice() else { panic!("{mails:?}") };
    let text = String::from_utf8_lossy(&bounce.message).into_owned();
    assert_eq!(bounce.from, "");
    assert!(text.contains("multipart/report") && text.contains("MAILER-DAEMON@relay.example>"), "{text}");
    assert_eq!(
        selectors(&bounce.message),
        BTreeSet::from(["selector1".to_owned()]),
        "{text}\n{}",
        milter.log()
    );
    let path = milter.keys.join("../bounce.eml");
    std::fs::write(&path, &bounce.message).unwrap();
    let complaints = judges.complaints(arrivals.ask, &[path]).await;
    assert!(complaints.is_empty(), "{complaints:?}");
    arrivals.collect();
}

/// While a milter is away mail waits; what is sent while one ends and the next begins arrives, signed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarts_lose_nothing() {
    let dns = dns().await;
    let mut rolling = Vec::new();
    let mut milter = Milter::start(&[], |keys| rolling = domains(&dns, keys)).await;
    let sink = Sink::start().await.unwrap();
    let postfix = Postfix::start(&milter.inet(), sink.address(), "").await.unwrap();
    let judges = Judges::start(dns.resolver()).await;
    let mut arrivals = Arrivals::new(&sink, &judges, &[Judge::Dkimpy, Judge::OpenDkim, Judge::MailAuth]);
    let flow =
        Flow::start(postfix.address(), rolling.iter().map(|d| d.domain.clone()).collect(), flow::KINDS);
    for _ in 0..3 {
        let before = flow.sent();
        eventually(PATIENCE, "mail flows", || {
            let sent = flow.sent();
            async move { if sent >= before + 4 { Ok(()) } else { Err(sent.to_string()) } }
        })
        .await
        .unwrap();
        milter.process.stop().await.unwrap();
        milter.process.start().unwrap();
        says_ready(&mut milter.process, milter.health, "it is ready again").await;
    }
    let sent = flow.stop().await;
    arrivals.all(sent, || milter.log()).await;
    arrivals.verify().await;
    assert!(arrivals.complaints.is_empty(), "{:#?}\n{}", arrivals.complaints, milter.log());
}

/// What a foreign implementation of the protocol's MTA side makes of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn miltertest_scripts_pass() {
    let dns = dns().await;
    let milter = Milter::start(&[], |keys| drop(domains(&dns, keys))).await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/miltertest/sign.lua");
    for socket in [milter.inet().replace("inet:", ""), milter.unix.display().to_string()] {
        let socket = match socket.rsplit_once(':') {
            Some((host, port)) => format!("inet:{port}@{host}"),
            None => format!("unix:{socket}"),
        };
        let output = tokio::process::Command::new("/usr/bin/miltertest")
            .arg("-D")
            .arg(format!("socket={socket}"))
            .arg("-s")
            .arg(&script)
            .kill_on_drop(true)
            .output()
            .await
            .expect("miltertest is installed: testbed/packages.sh");
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{text}\n{}", milter.log());
    }
}
