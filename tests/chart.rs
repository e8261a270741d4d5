//! What the chart installs, and what it refuses.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Command;

use dkim_testbed::Binaries;
use serde_json::Value;

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/dkim-operator");

/// Runs helm; the output, or what it complained of.
fn helm(args: &[&str]) -> Result<String, String> {
    let binary = Binaries::locate().and_then(|b| b.helm()).expect("helm is built");
    let output = Command::new(binary).args(args).output().expect("helm runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

fn template(args: &[&str]) -> Result<String, String> {
    helm(&[&["template", "dkim-operator", CHART, "--namespace", "dkim-system"], args].concat())
}

#[test]
fn is_what_helm_calls_good() {
    helm(&["lint", "--strict", CHART]).unwrap();
}

#[test]
fn installs_as_it_comes() {
    insta::assert_snapshot!(template(&["--set", "crds.install=false"]).unwrap());
}

#[test]
fn installs_with_everything_chosen() {
    let values = Path::new(CHART).parent().unwrap().join("../tests/chart-values.yaml");
    insta::assert_snapshot!(template(&["--values", values.to_str().unwrap()]).unwrap());
}

/// The arguments of each Deployment, in the order of the roles.
fn arguments(manifests: &str) -> Vec<Vec<&str>> {
    let blocks = manifests.split("\n          args:\n").skip(1);
    blocks.map(|block| block.lines().map_while(|line| line.trim().strip_prefix("- ")).collect()).collect()
}

/// Whether the binary takes a command line. It stops at --help, behind which nothing is read.
fn takes(args: &[&str]) -> Result<(), String> {
    let binary = env!("CARGO_BIN_EXE_dkim-operator");
    let output = Command::new(binary).args(args).arg("--help").output().expect("the binary runs");
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(()) } else { Err(complaint) }
}

#[test]
fn every_role_takes_the_arguments_that_it_is_given() {
    let values = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/chart-values.yaml");
    let milter = ["--set", "milter.enabled=true", "--set", "milter.mtaNetworks={10.0.0.0/8}"];
    for chosen in [&milter[..], &["--values", values]] {
        let manifests = template(chosen).unwrap();
        let roles = arguments(&manifests);
        let names: Vec<&str> = roles.iter().map(|args| args[0]).collect();
        assert_eq!(names, ["controller", "dns", "milter"]);
        for args in roles {
            assert!(args.len() > 1, "{args:?}");
            takes(&args).unwrap();
            takes(&[&args[..], &["--no-such-thing"]].concat()).expect_err("nobody knows it");
        }
    }
    takes(&["milter", "--on-failure=perhaps"]).expect_err("a value that it does not know");
}

#[test]
fn keeps_the_definitions_when_it_goes() {
    let text = template(&["--show-only", "templates/crds.yaml"]).unwrap();
    assert_eq!(text.matches("kind: CustomResourceDefinition").count(), 3);
    assert_eq!(text.matches("helm.sh/resource-policy: keep").count(), 3);
}

#[test]
fn tells_what_to_do_next() {
    let notes = |args: &[&str]| {
        let all = ["install", "dkim-operator", CHART, "--namespace", "dkim-system", "--dry-run=client"];
        let text = helm(&[&all[..], args].concat()).unwrap();
        text.split_once("NOTES:\n").expect("notes").1.to_owned()
    };
    insta::assert_snapshot!("notes", notes(&[]));
    insta::assert_snapshot!(
        "notes_without_dns",
        notes(&["--set", "dns.enabled=false", "--set", "controller.allSecretNamespaces=true"])
    );
}

#[test]
fn refuses_values_that_mean_nothing() {
    for wrong in [
        "dns.replicas=0",
        "controler.log=debug",
        "controller.secretNamespaces={Mail}",
        "image.digest=latest",
        "dns.service.type=Ingress",
    ] {
        let fault = template(&["--set", wrong]).expect_err(wrong);
        assert!(fault.contains("schema"), "{wrong}: {fault}");
    }
}

#[test]
fn every_value_is_in_the_schema() {
    let schema: Value =
        serde_json::from_str(&std::fs::read_to_string(Path::new(CHART).join("values.schema.json")).unwrap())
            .unwrap();
    let values = helm(&["show", "values", CHART]).unwrap();
    // Top-level keys are enough: the schema takes no others below them either, and helm has checked the defaults.
    let known = schema["properties"].as_object().unwrap();
    let listed: Vec<&str> =
        values.lines().filter(|l| l.starts_with(|c: char| c.is_ascii_lowercase())).collect();
    assert!(listed.len() >= 8, "{listed:?}");
    for line in listed {
        let key = line.split(':').next().unwrap();
        assert!(known.contains_key(key), "{key}");
    }
}
