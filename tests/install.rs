//! The chart on a real API server: upgrades reach the definitions, and uninstalling takes no domain away.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::process::Command;

use dkim_testbed::{ControlPlane, Options};

type Outcome = Result<(), Box<dyn std::error::Error>>;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const DEFINITION: &str = "dkimdomains.dkim-operator.io";

async fn helm(plane: &ControlPlane, verb: &[&str], rest: &[&str]) -> Result<String, dkim_testbed::Error> {
    plane.helm([verb, &["dkim-operator"], rest, &["--namespace", "dkim-system"]].concat()).await?.ok()
}

async fn kubectl(plane: &ControlPlane, args: &[&str]) -> Result<String, dkim_testbed::Error> {
    plane.kubectl(args).await?.ok()
}

#[tokio::test]
async fn upgrades_reach_the_definitions_and_uninstalling_takes_no_domain_away() -> Outcome {
    let plane = ControlPlane::start(Options::new().with_controller_manager()).await?;
    let chart = format!("{ROOT}/charts/dkim-operator");

    // An older chart, whose definition lacks a column.
    let scratch = tempfile::tempdir()?;
    let older = scratch.path().join("chart");
    assert!(Command::new("cp").arg("-r").args([chart.as_ref(), older.as_path()]).status()?.success());
    let file = older.join("files/crds/dkim-operator.io_dkimdomains.yaml");
    let text = std::fs::read_to_string(&file)?;
    std::fs::write(&file, text.replace("NEXT ROTATION", "NEXT"))?;
    helm(&plane, &["install"], &[&older.to_string_lossy(), "--create-namespace"]).await?;
    let columns = "jsonpath={.spec.versions[0].additionalPrinterColumns[*].name}";
    let column = ["get", "crd", DEFINITION, "-o", columns];
    assert!(!kubectl(&plane, &column).await?.contains("NEXT ROTATION"));

    kubectl(&plane, &["create", "namespace", "contoso"]).await?;
    let example = format!("{ROOT}/examples/domains/contoso.yaml");
    kubectl(&plane, &["apply", "--server-side", "-n", "contoso", "-f", &example]).await?;

    helm(&plane, &["upgrade"], &[&chart]).await?;
    assert!(kubectl(&plane, &column).await?.contains("NEXT ROTATION"));

    let domains = ["get", "dkimdomains", "--all-namespaces", "-o", "name"];
    let before = kubectl(&plane, &domains).await?;
    assert!(before.contains("contoso.com"), "{before}");
    helm(&plane, &["uninstall"], &["--wait"]).await?;
    let roles = ["get", "deployments,serviceaccounts", "-n", "dkim-system", "-o", "name"];
    let left = kubectl(&plane, &roles).await?;
    assert!(!left.contains("dkim-operator"), "{left}");
    assert_eq!(kubectl(&plane, &domains).await?, before);

    helm(&plane, &["install"], &[&chart]).await?;
    assert_eq!(kubectl(&plane, &domains).await?, before);
    Ok(())
}
