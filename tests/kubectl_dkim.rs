//! `kubectl dkim` as people use it: found by kubectl as its plugin, on a real cluster, with real DNS.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::path::Path;

use common::plugin::{dkim, printed};
use common::{Outcome, world};
use dkim_operator::api::ConditionType;
use serde_json::{Value, json};

fn read(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

#[tokio::test]
async fn records_are_what_is_to_be_published() -> Outcome {
    let world = world().await;
    let namespace = world.plane.namespace().await?;
    world.tree.add_zone("xn--bcher-kva.example", 1).await?;
    world.create(&namespace, "xn--bcher-kva.example", json!({ "domain": "Bücher.example" })).await;
    world
        .until(&namespace, "xn--bcher-kva.example", "records are shown", |d| {
            let shown = d.status.as_ref().is_some_and(|s| s.records.len() == 2);
            if shown { Ok(()) } else { Err("none".into()) }
        })
        .await?;
    // What it prints as a zone file goes into the tenant's zone as it is, and the CNAMEs are found.
    let zone = printed(world, &["records", "bücher.example", "-n", &namespace, "-o", "bind"]).await;
    let lines: Vec<Vec<&str>> =
        zone.lines().filter(|l| !l.starts_with(';')).map(|l| l.split(' ').collect()).collect();
    assert_eq!(lines.len(), 2, "{zone}");
    for line in &lines {
        let [name, ttl, "IN", kind, data] = line.as_slice() else { panic!("{zone}") };
        assert_eq!(*ttl, "3600");
        world.tree.add_record(name, 1, kind, data).await?;
    }
    world.until_condition(&namespace, "xn--bcher-kva.example", ConditionType::Enabled, "True").await?;

    // Without the cluster the same names come out.
    let initial = format!("{namespace}.onmail.example");
    let offline = ["records", "Bücher.example", "--initial-domain", &initial, "-o", "json"];
    let (offline, online) = (
        read(&printed(world, &offline).await),
        read(&printed(world, &["records", "xn--bcher-kva.example", "-A", "-o", "json"]).await),
    );
    for (offline, online) in offline.as_array().unwrap().iter().zip(online.as_array().unwrap()) {
        for field in ["name", "host", "type", "value", "ttl"] {
            assert_eq!(offline[field], online[field], "{field}");
        }
        assert!(online["state"].is_string(), "{online}");
    }
    Ok(())
}

#[tokio::test]
async fn check_finds_what_receivers_find() -> Outcome {
    let world = world().await;
    let namespace = world.enabled("checked.example", json!({})).await?;
    let resolver = world.tree.resolver().to_string();
    let network = ["--allow-network", "127.0.0.0/8"];
    let check = ["check", "checked.example", "-n", &namespace, "--resolver", &resolver, "-o", "json"];
    let check = [&check[..], &network].concat();
    let found = read(&printed(world, &check).await);
    assert_eq!(found["verdict"], "Verified", "{found}");

    world.remove_cname("checked.example", "selector2").await?;
    let (code, output) = dkim(world, &check, "").await;
    let found = read(&output.stdout);
    assert_eq!((code, &found["records"][1]["verdict"]), (1, &json!("Wrong")), "{found}");
    assert_eq!(found["records"][0]["verdict"], "Verified", "{found}");

    let nowhere = ["check", "checked.example", "-n", &namespace, "--resolver", "127.0.0.1:9"];
    let (code, output) = dkim(world, &nowhere, "").await;
    assert_eq!(code, 3, "{}{}", output.stdout, output.stderr);
    Ok(())
}

#[tokio::test]
async fn check_has_the_operator_look_at_once() -> Outcome {
    let world = world().await;
    let namespace = world.plane.namespace().await?;
    // Once all is there, the operator looks again after an hour.
    world
        .apply(&world.provider("patient", json!({ "default": false, "verification": { "interval": "1h" } })))
        .await?;
    world.tree.add_zone("asked.example", 1).await?;
    world.create(&namespace, "asked.example", json!({ "providerRef": { "name": "patient" } })).await;
    world.publish_cnames(&namespace, "asked.example").await?;
    world.until_condition(&namespace, "asked.example", ConditionType::Enabled, "True").await?;
    world.until_condition(&namespace, "asked.example", ConditionType::Ready, "True").await?;
    let state = async || -> Result<String, Box<dyn std::error::Error>> {
        let found = world.domains(&namespace).get("asked.example").await?;
        Ok(found.status.ok_or("no status")?.records[1].state.clone())
    };
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    world.remove_cname("asked.example", "selector2").await?;
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    assert_eq!(state().await?, "Verified", "nobody has looked");

    let resolver = world.tree.resolver().to_string();
    let check = ["check", "asked.example", "-n", &namespace, "--resolver", &resolver];
    let (code, output) = dkim(world, &[&check[..], &["--allow-network", "127.0.0.0/8"]].concat(), "").await;
    assert_eq!(code, 1, "{}{}", output.stdout, output.stderr);
    assert!(output.stderr.contains("The operator looks again now, too."), "{}", output.stderr);
    assert!(output.stdout.contains("  asked   ns1.asked.example (127."), "{}", output.stdout);
    let seen =
        dkim_testbed::eventually(std::time::Duration::from_secs(10), "the operator has looked", || async {
            let state = state().await.map_err(|error| error.to_string())?;
            if state == "Verified" { Err(state) } else { Ok(state) }
        });
    assert_eq!(seen.await?, "Missing");
    Ok(())
}

#[tokio::test]
async fn rotate_waits_for_the_switch_and_status_shows_it() -> Outcome {
    let world = world().await;
    let namespace = world.enabled("rotated.example", json!({})).await?;
    let status = ["status", "rotated.example", "-n", &namespace, "-o", "json"];
    let before = read(&printed(world, &status).await);
    let rotate = ["rotate", "rotated.example", "-n", &namespace, "--wait", "--timeout", "60s"];
    let said = printed(world, &rotate).await;
    assert!(said.contains("rotation requested"), "{said}");
    let after = read(&printed(world, &status).await);
    let (old, new) = (&before["status"]["signing"], &after["status"]["signing"]);
    assert_ne!(old["fingerprint"], new["fingerprint"]);
    assert!(said.contains(new["selector"].as_str().unwrap()), "{said}");
    let table = printed(world, &["status", "-n", &namespace]).await;
    assert!(table.contains("rotated.example") && table.contains("True"), "{table}");
    let words = printed(world, &["status", "rotated.example", "-n", &namespace]).await;
    assert!(words.contains(&format!("d=rotated.example s={}", new["selector"].as_str().unwrap())), "{words}");
    Ok(())
}

#[tokio::test]
async fn keys_in_the_wrong_hands_are_given_up() -> Outcome {
    let world = world().await;
    let namespace = world.enabled("stolen.example", json!({})).await?;
    let status = ["status", "stolen.example", "-n", &namespace, "-o", "json"];
    let before = read(&printed(world, &status).await);
    let rotate = ["rotate", "stolen.example", "-n", &namespace, "--compromised"];
    let (code, output) = dkim(world, &rotate, "").await;
    assert_eq!(code, 2, "{}{}", output.stdout, output.stderr);
    assert!(
        output.stderr.contains("will not verify any more") && output.stderr.contains("--yes"),
        "{}",
        output.stderr
    );
    let after = read(&printed(world, &status).await);
    assert_eq!(before["status"]["signing"], after["status"]["signing"], "nobody has said yes");

    let sure = [rotate.as_slice(), &["--yes", "--wait", "--timeout", "60s"]].concat();
    let said = printed(world, &sure).await;
    assert!(said.contains("is given up"), "{said}");
    let after = read(&printed(world, &status).await);
    let (old, new) = (&before["status"]["signing"], &after["status"]["signing"]);
    assert_ne!(old["fingerprint"], new["fingerprint"]);
    world
        .until(&namespace, "stolen.example", "no key of before is there", |domain| {
            let keys = domain.status.as_ref().map(|s| s.keys.clone()).unwrap_or_default();
            let of_before = before["status"]["keys"].as_array().cloned().unwrap_or_default();
            let left = keys.iter().find(|key| {
                key.phase != "Revoked" && of_before.iter().any(|b| b["fingerprint"] == json!(key.fingerprint))
            });
            left.map_or(Ok(()), |key| Err(format!("{key:?}")))
        })
        .await?;
    Ok(())
}

#[tokio::test]
async fn disable_and_enable_change_who_signs() -> Outcome {
    let world = world().await;
    let namespace = world.enabled("switched.example", json!({})).await?;
    let says = printed(world, &["disable", "switched.example", "-n", &namespace]).await;
    assert!(says.contains("switched.example"), "{says}");
    world.until_condition(&namespace, "switched.example", ConditionType::Enabled, "False").await?;
    printed(world, &["enable", "switched.example", "-n", &namespace]).await;
    world.until_condition(&namespace, "switched.example", ConditionType::Enabled, "True").await?;
    Ok(())
}

#[tokio::test]
async fn verify_says_what_a_receiver_says() -> Outcome {
    let world = world().await;
    let namespace = world.enabled("verified.example", json!({})).await?;
    let secret = world.secret(&namespace, "verified.example").await.expect("there is a Secret");
    let keys = tempfile::tempdir()?;
    for (name, value) in secret.data.unwrap_or_default() {
        std::fs::write(keys.path().join(name), value.0)?;
    }
    let message = "From: joe@verified.example\r\nTo: ann@fabrikam.com\r\nSubject: Hello\r\n\r\nHello\r\n";
    let signed = sign(keys.path(), message)?;
    assert!(signed.starts_with("DKIM-Signature: v=1; a=rsa-sha256;"), "{signed}");

    let resolver = world.tree.resolver().to_string();
    let verify = ["verify", "-", "--aligned", "--resolver", &resolver];
    let (code, output) = dkim(world, &verify, &signed).await;
    assert_eq!(code, 0, "{}{}", output.stdout, output.stderr);
    let (code, output) = dkim(world, &verify, &signed.replace("Hello\r\n", "Hallo\r\n")).await;
    assert_eq!(code, 1, "{}{}", output.stdout, output.stderr);
    Ok(())
}

fn sign(keys: &Path, message: &str) -> Result<String, Box<dyn std::error::Error>> {
    use std::io::Write;
    use std::process::{Command, Stdio};
    let mut child = Command::new(env!("CARGO_BIN_EXE_dkim-operator"))
        .args(["sign", "--key-dir"])
        .arg(keys)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    child.stdin.take().ok_or("no stdin")?.write_all(message.as_bytes())?;
    let output = child.wait_with_output()?;
    assert!(output.status.success(), "{output:?}");
    Ok(String::from_utf8(output.stdout)?)
}

#[tokio::test]
async fn faults_name_the_way_out() -> Outcome {
    let world = world().await;
    let namespace = world.plane.namespace().await?;
    for (args, code, says) in [
        (vec!["status", "nobody.example", "-n", &namespace], 4, "there is no DkimDomain for nobody.example"),
        (vec!["check", "con toso.com", "--initial-domain", "a.onmail.example"], 2, "DOMAIN: "),
        (vec!["status", "--context", "no-such-context"], 4, "Check --kubeconfig and --context"),
        (vec!["status", "-n", &namespace, "--as", "nobody"], 4, "does not let you"),
        (vec!["rotate"], 2, "<DOMAIN>"),
        (vec!["verify", "/no/such/file"], 2, "/no/such/file cannot be read"),
    ] {
        let (found, output) = dkim(world, &args, "").await;
        assert_eq!(found, code, "{args:?}: {}{}", output.stdout, output.stderr);
        assert!(output.stderr.contains(says), "{args:?}: {}", output.stderr);
    }
    Ok(())
}
