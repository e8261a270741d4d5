//! The whole way: a DkimDomain, keys rolled by the operator, files kept by `dkim-operator sync` from the API with the
//! rights of examples/signer-rbac.yaml, Postfix with OpenDKIM and Exim signing from them, DNS through a resolver.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;
#[path = "common/flow.rs"]
mod flow;
#[path = "common/judges.rs"]
mod judges;
#[path = "common/keys.rs"]
mod keys;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::{World, world};
use dkim_operator::api::{LABEL_SIGNER, SignerReport};
use dkim_testbed::mail::{Exim, EximDkim, Postfix, Sink};
use dkim_testbed::{Address, Process, Scratch, Spec};
use flow::{Arrivals, Flow};
use judges::{Judge, Judges};
use k8s_openapi::api::coordination::v1::Lease;
use keys::{PATIENCE, documented, ids, says_ready};
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use serde_json::json;

const ROTATIONS: i64 = 3;
/// Without rspamd: it keeps a key whose time to live is 0 in its resolver's answer, as it is in the last second of a
/// cached one, until it is restarted; here selectors get new keys within a minute.
const JUDGES: [Judge; 4] = [Judge::Dkimpy, Judge::MailDkim, Judge::MailAuth, Judge::OpenDkim];

struct Sync {
    process: Process,
    dir: PathBuf,
    _holding: Address,
}

impl Sync {
    async fn start(
        format: &str,
        user: &str,
        namespace: &str,
        kubeconfig: &Path,
        dir: &Path,
        extra: &[&str],
    ) -> Self {
        let holding = Address::allocate().unwrap();
        let health = holding.port(8080);
        let (uid, gid) = ids(user);
        let dir = dir.join(format);
        let log = kubeconfig.with_file_name(format!("{format}.log"));
        let mut process = Spec::new(format, env!("CARGO_BIN_EXE_dkim-operator"), log)
            .args(["sync", "--format", format, "--namespace", namespace, "--grace", "10s", "--dir"])
            .arg(&dir)
            .args(["--owner", &format!("{uid}:{gid}"), "--health-addr", &health.to_string()])
            .args(extra)
            .env("KUBECONFIG", kubeconfig)
            .env_remove("KUBERNETES_SERVICE_HOST")
            .spawn()
            .unwrap();
        says_ready(&mut process, health, "the first files are there").await;
        Self { process, dir, _holding: holding }
    }

    fn documented(&self, signer: &str) -> String {
        documented(signer, &self.dir)
    }
}

/// A kubeconfig with the rights that the example gives a signer.
async fn rights(world: &World, namespace: &str, scratch: &Scratch) -> PathBuf {
    let example = include_str!("../examples/signer-rbac.yaml");
    let manifest = example.replace("namespace: mail", &format!("namespace: {namespace}"));
    world.plane.kubectl_with(["apply", "-f", "-"], &manifest).await.unwrap().ok().unwrap();
    let token =
        world.plane.service_account_token(namespace, "dkim-signer", Duration::from_secs(3600)).await.unwrap();
    let path = scratch.join("kubeconfig");
    world.plane.kubeconfig_for_token(&token, &path).unwrap();
    path
}

async fn rotations(world: &World, namespace: &str, domain: &str) -> i64 {
    let found = world.domains(namespace).get(domain).await.unwrap();
    found.status.and_then(|s| s.rotation).map_or(0, |r| r.count)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn mail_verifies_through_rotations_of_the_operator() {
    let world = world().await;
    world
        .apply(&world.provider("slow", json!({ "default": false, "keyPolicy": { "signerLag": "10s" } })))
        .await
        .unwrap();
    let domain = "signed.example";
    let spec = json!({
        "providerRef": { "name": "slow" }, "rotation": { "interval": "25s", "drain": "15s" },
    });
    let namespace = world.enabled(domain, spec).await.unwrap();
    let scratch = Scratch::passable("signers").unwrap();
    let kubeconfig = rights(world, &namespace, &scratch).await;
    let tree = tempfile::Builder::new().prefix("dkim-sync-").tempdir_in("/run").unwrap();
    std::fs::set_permissions(tree.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();

    let pid_file = scratch.join("opendkim.pid");
    let reload = ["--reload-pid-file", pid_file.to_str().unwrap()];
    let for_opendkim =
        Sync::start("opendkim", "opendkim", &namespace, &kubeconfig, tree.path(), &reload).await;
    let for_exim = Sync::start("exim", "Debian-exim", &namespace, &kubeconfig, tree.path(), &[]).await;
    let holding = Address::allocate().unwrap();
    let config = format!(
        "UserID opendkim\nMode s\nSyslog no\nPidFile {}\nSocket inet:8891@{}\nInternalHosts 127.0.0.0/8\n{}",
        pid_file.display(),
        holding.ip(),
        for_opendkim.documented("opendkim"),
    );
    std::fs::write(scratch.join("opendkim.conf"), config).unwrap();
    let milter = holding.port(8891);
    let mut opendkim = Spec::new("opendkim", "/usr/sbin/opendkim", scratch.join("opendkim.out"))
        .arg("-f")
        .arg("-x")
        .arg(scratch.join("opendkim.conf"))
        .stop_within(Duration::from_secs(3))
        .spawn()
        .unwrap();
    opendkim.listens(PATIENCE, "it listens", milter).await.unwrap();
    let (of_postfix, of_exim) = (Sink::start().await.unwrap(), Sink::start().await.unwrap());
    let postfix =
        Postfix::start(&format!("inet:{}:8891", holding.ip()), of_postfix.address(), "").await.unwrap();
    let exim = Exim::start(&EximDkim(for_exim.documented("exim")), of_exim.address()).await.unwrap();
    let judges = Judges::start(world.tree.resolver()).await;
    let mut arrivals =
        [Arrivals::new(&of_postfix, &judges, &JUDGES[..3]), Arrivals::new(&of_exim, &judges, &JUDGES)];

    let first = rotations(world, &namespace, domain).await;
    let flows = [postfix.address(), exim.address()]
        .map(|server| Flow::start(server, vec![domain.to_owned()], flow::KINDS));
    let began = Instant::now();
    let mut seen = std::collections::BTreeSet::new();
    while rotations(world, &namespace, domain).await < first + ROTATIONS {
        assert!(began.elapsed() < 3 * PATIENCE, "{}", world.operator.controller().log().await);
        tokio::time::sleep(Duration::from_secs(1)).await;
        for arrivals in &mut arrivals {
            arrivals.verify().await;
            assert!(
                arrivals.complaints.is_empty(),
                "{:#?}\n{}\n{}\n{}",
                arrivals.complaints,
                for_opendkim.process.log_tail(30),
                for_exim.process.log_tail(30),
                world.operator.controller().log().await
            );
            seen.extend(arrivals.latest.values().flatten().cloned());
        }
    }
    let [by_postfix, by_exim] = flows;
    let sent = [by_postfix.stop().await, by_exim.stop().await];
    for ((arrivals, sent), name) in arrivals.iter_mut().zip(sent).zip(["Postfix + OpenDKIM", "Exim"]) {
        let bound = Instant::now();
        while arrivals.count < sent && bound.elapsed() < Duration::from_secs(30) {
            arrivals.verify().await;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        arrivals.verify().await;
        assert!(arrivals.complaints.is_empty(), "{name}: {:#?}", arrivals.complaints);
        assert_eq!(arrivals.count, sent, "{name}: all that was sent has arrived");
        println!(
            "{name}: {ROTATIONS} rotations by the operator, {sent} messages, each verified by {} verifiers, 0 unsigned, 0 unverifiable, {:.0?}",
            arrivals.ask.len(),
            began.elapsed()
        );
    }
    assert_eq!(seen.len(), 2, "both selectors have signed: {seen:?}");
    let reasons = ["get", "events.events.k8s.io", "-n", &namespace, "-o", "jsonpath={.items[*].reason}"];
    let reasons = world.plane.kubectl(reasons).await.unwrap().stdout;
    assert!(reasons.contains("KeyActivated") && !reasons.contains("SignerBehind"), "{reasons}");
    let leases: Api<Lease> = Api::namespaced(world.client(), &namespace);
    let all = leases.list(&ListParams::default().labels(LABEL_SIGNER)).await.unwrap().items;
    let kinds: Vec<_> = all.iter().map(|lease| lease.labels()[LABEL_SIGNER].as_str()).collect();
    assert_eq!(kinds, ["sync-exim", "sync-opendkim"], "both have said which keys they use");
    for lease in &all {
        let says = SignerReport::of(lease).unwrap();
        assert!(says.version.is_some() && says.except.is_empty(), "{says:?}");
    }
    for sync in [&for_opendkim, &for_exim] {
        let log = sync.process.log_text();
        assert!(!log.contains("PRIVATE") && !log.contains("ERROR"), "{log}");
    }
}
