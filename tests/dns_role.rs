//! The role `dns` and its API server: what changes is served at once, what was served goes on without the API server and
//! after a crash, and foreign secondaries follow.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use common::dns::APEX;
use common::dns_role::{DnsRole, name};
use dkim_testbed::{Address, Fetch, Make, Secondary, eventually, kdig, lookup};

const KEY: &str = "transfer.example";
const SECRET: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// Waits until a server says this text at the name of a domain's key; none is that the name is not there.
async fn until(server: std::net::SocketAddr, domain: &str, text: Option<&str>) {
    let (name, expected) = (name(domain), text);
    eventually(Duration::from_secs(30), &format!("{server} says {text:?} for {domain}"), || {
        let name = name.clone();
        async move {
            let answer = lookup(server, &name, "TXT").await.map_err(|e| e.to_string())?;
            let found = answer.data("TXT");
            let fits = match expected {
                Some(text) => found == [text],
                None => answer.code == "NXDOMAIN",
            };
            if fits { Ok(()) } else { Err(answer.to_string()) }
        }
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn it_serves_without_the_api_server_and_after_a_crash() {
    let mut role = DnsRole::start(&[("a.example", "one"), ("b.example", "two")], &[]).await;
    until(role.address, "a.example", Some("one")).await;
    until(role.address, "c.example", None).await;
    assert_eq!(role.metric("dkim_operator_dns_records").await, Some(2.0));

    role.put("a.example", "changed").await;
    until(role.address, "a.example", Some("changed")).await;
    role.put("c.example", "new").await;
    until(role.address, "c.example", Some("new")).await;
    let state = role.state();
    eventually(Duration::from_secs(20), "the zones are saved", || async {
        let text = std::fs::read_to_string(&state).unwrap_or_default();
        if text.contains("c.example") { Ok(()) } else { Err(text) }
    })
    .await
    .unwrap();

    // The API server hangs, then it is gone.
    role.plane.pause_apiserver().await.unwrap();
    until(role.address, "a.example", Some("changed")).await;
    role.plane.kill_apiserver().await.unwrap();
    role.until_metric("dkim_operator_dns_watch_connected", |value| value == 0.0).await;
    until(role.address, "a.example", Some("changed")).await;
    until(role.address, "x.example", None).await;

    // The server is killed and comes again, without the API server: what it does not know it does not deny at first.
    role.process.kill().await.unwrap();
    role.process.start().unwrap();
    until(role.address, "a.example", Some("changed")).await;
    let unknown = lookup(role.address, &name("x.example"), "TXT").await.unwrap();
    assert_eq!(unknown.code, "SERVFAIL", "{unknown}");
    role.until_ready().await;
    until(role.address, "c.example", Some("new")).await;
    until(role.address, "x.example", None).await;
    let soa = || async { lookup(role.address, APEX, "SOA").await.unwrap().data("SOA").join("\n") };
    let before = soa().await;

    // The API server is back; nothing has changed, and nothing looks as if it had.
    role.plane.restart_apiserver().await.unwrap();
    role.until_metric("dkim_operator_dns_last_list_timestamp_seconds", |value| value > 0.0).await;
    assert_eq!(soa().await, before);
    role.delete("b.example").await;
    until(role.address, "b.example", None).await;
    until(role.address, "a.example", Some("changed")).await;
    assert_ne!(soa().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_secondaries_follow() {
    let addresses = Make::ALL.map(|_| Address::allocate().unwrap());
    let notify = addresses.each_ref().map(|a| a.port(53).to_string()).join(",");
    let keys = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(keys.path(), format!("# for the secondaries\nhmac-sha256:{KEY}:{SECRET}\n")).unwrap();
    let args =
        ["--transfer-key-file", &keys.path().display().to_string(), "--notify", &notify].map(str::to_owned);
    let long = "x".repeat(4000);
    let role = DnsRole::start(&[("a.example", "one"), ("b.example", &long)], &args).await;

    let mut secondaries = Vec::new();
    for (make, address) in Make::ALL.into_iter().zip(addresses) {
        let fetch = Fetch { zone: APEX, primary: role.address, key: KEY, secret: SECRET };
        secondaries.push((make, Secondary::start(make, address, fetch).await.unwrap()));
    }
    for (make, secondary) in &secondaries {
        eprintln!("{make:?} fetches the zone");
        until(secondary.address(), "a.example", Some("one")).await;
        until(secondary.address(), "b.example", Some(&long)).await;
    }
    let sent = |what: &str| format!("dkim_operator_dns_transfers_total{{sent=\"{what}\"}}");
    assert!(role.metric(&sent("whole")).await >= Some(3.0));

    // Changes reach them by NOTIFY long before they would look by themselves.
    role.put("a.example", "changed").await;
    role.put("c.example", "new").await;
    for (make, secondary) in &secondaries {
        eprintln!("{make:?} follows a change");
        until(secondary.address(), "a.example", Some("changed")).await;
        until(secondary.address(), "c.example", Some("new")).await;
    }
    role.delete("b.example").await;
    for (make, secondary) in &secondaries {
        eprintln!("{make:?} follows a deletion");
        until(secondary.address(), "b.example", None).await;
        until(secondary.address(), "c.example", Some("new")).await;
    }
    role.until_metric(&sent("changes"), |value| value >= 3.0).await;
    role.until_metric("dkim_operator_dns_notifies_total{result=\"answered\"}", |value| value >= 3.0).await;
    // All serve what the primary serves, record by record.
    let key = format!("hmac-sha256:{KEY}:{SECRET}");
    let text = kdig(role.address, &[APEX, "AXFR", "-y", &key]).await.unwrap();
    assert!(text.contains("changed") && text.contains("new") && !text.contains(&long), "{text}");
    for (make, secondary) in &secondaries {
        let log = secondary.log_text();
        for word in ["bad signature", "badsig", "badkey", "badtime", "malformed", "axfr-style"] {
            let line = log.lines().find(|line| line.to_lowercase().contains(word));
            assert!(line.is_none(), "{make:?}: {line:?}");
        }
    }
}

/// As docs/publishing.md has it: who wants DNSSEC puts a Knot in front that signs what it fetches.
#[tokio::test(flavor = "multi_thread")]
async fn a_secondary_signs_the_zone() {
    let address = Address::allocate().unwrap();
    let keys = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(keys.path(), format!("hmac-sha256:{KEY}:{SECRET}\n")).unwrap();
    let notify = address.port(53).to_string();
    let args =
        ["--transfer-key-file", &keys.path().display().to_string(), "--notify", &notify].map(str::to_owned);
    let role = DnsRole::start(&[("a.example", "one")], &args).await;
    let fetch = Fetch { zone: APEX, primary: role.address, key: KEY, secret: SECRET };
    let signer = Secondary::start(Make::KnotSigning, address, fetch).await.unwrap();
    until(signer.address(), "a.example", Some("one")).await;
    let anchors = tempfile::NamedTempFile::new().unwrap();
    eventually(Duration::from_secs(30), "the zone's keys are published", || async {
        let text =
            kdig(signer.address(), &[APEX, "DNSKEY", "+short", "+tcp"]).await.map_err(|e| e.to_string())?;
        let line = text.lines().find(|line| line.starts_with("257 ")).ok_or("no key")?;
        let fields: Vec<&str> = line.split_whitespace().collect();
        let key = format!("{} {} {} \"{}\"", fields[0], fields[1], fields[2], fields[3..].concat());
        let text = format!("trust-anchors {{ {APEX}. static-key {key}; }};\n");
        std::fs::write(anchors.path(), text).map_err(|e| e.to_string())
    })
    .await
    .unwrap();
    let delv = async |name: String, says: &str, shows: &str| {
        let (at, root) = (format!("@{}", signer.address().ip()), format!("+root={APEX}"));
        let file = anchors.path().display().to_string();
        let output = tokio::process::Command::new("delv")
            .args([&at, "-a", &file, &root, &name, "TXT"])
            .output()
            .await
            .map_err(|e| e.to_string())?;
        let text = [output.stdout, output.stderr].map(|b| String::from_utf8_lossy(&b).into_owned()).concat();
        if text.contains(says) && text.contains(shows) { Ok(()) } else { Err(text) }
    };
    delv(name("a.example"), "; fully validated", "\"one\"").await.unwrap();
    delv(name("nobody.example"), "; negative response, fully validated", "").await.unwrap();
    // A change is signed as it comes.
    role.put("a.example", "two").await;
    eventually(Duration::from_secs(30), "the change is signed", || {
        delv(name("a.example"), "; fully validated", "\"two\"")
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn zones_are_for_those_with_a_key() {
    let keys = tempfile::NamedTempFile::new().unwrap();
    let write = |secret: &str| std::fs::write(keys.path(), format!("{KEY}:{secret}\n")).unwrap();
    write(SECRET);
    let args = ["--transfer-key-file", &keys.path().display().to_string()].map(str::to_owned);
    let role = DnsRole::start(&[("a.example", "one")], &args).await;
    let ask = |key: String, args: &'static [&'static str]| async move {
        let all = [&["-y", &key][..], args].concat();
        kdig(role.address, &all).await.unwrap_or_else(|error| error.to_string())
    };
    let good = || format!("hmac-sha256:{KEY}:{SECRET}");
    let whole = ask(good(), &[APEX, "AXFR"]).await;
    assert!(whole.contains("\"one\"") && whole.matches("IN\tSOA").count() == 2, "{whole}");
    // Nothing newer than the newest.
    let nothing = ask(good(), &[APEX, "IXFR=1000000000"]).await;
    assert!(!nothing.contains("\"one\""), "{nothing}");
    let soa = ask(good(), &[APEX, "SOA"]).await;
    assert!(soa.contains("status: NOERROR") && soa.contains("TSIG"), "{soa}");
    // Other zones, other keys, other secrets, no key.
    let other = ask(good(), &["other.example", "AXFR"]).await;
    assert!(other.contains("NOTAUTH"), "{other}");
    let wrong = format!("hmac-sha256:{KEY}:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
    let refused = ask(wrong, &[APEX, "AXFR"]).await;
    assert!(refused.contains("BADSIG") || refused.contains("NOTAUTH"), "{refused}");
    let unknown = ask(format!("hmac-sha256:other.example:{SECRET}"), &[APEX, "AXFR"]).await;
    assert!(unknown.contains("BADKEY") || unknown.contains("NOTAUTH"), "{unknown}");
    let none = kdig(role.address, &[APEX, "AXFR"]).await.unwrap_or_else(|error| error.to_string());
    assert!(none.contains("REFUSED"), "{none}");
    // A new key is taken up while it runs; one that is none changes nothing.
    write("not base64");
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(ask(good(), &[APEX, "AXFR"]).await.contains("\"one\""));
    let fresh = "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=";
    write(fresh);
    eventually(Duration::from_secs(15), "the new key is in use", || async {
        let text = ask(format!("hmac-sha256:{KEY}:{fresh}"), &[APEX, "AXFR"]).await;
        if text.contains("\"one\"") { Ok(()) } else { Err(text) }
    })
    .await
    .unwrap();
    let log = role.process.log_text();
    assert!(log.contains("line 1 is not [ALGORITHM:]NAME:SECRET"), "{log}");
    assert!(!log.contains(SECRET) && !log.contains(fresh) && !log.contains("not base64"), "{log}");
}
