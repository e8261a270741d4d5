//! Signers say which keys they use: the operator and signers with the chart's rights, a real API server, a milter that is
//! stuck, that hangs, and that ends, and a sync that ends while its signer may go on.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use common::{Outcome, World, condition};
use dkim_operator::api::{ConditionType, DkimDomain, LABEL_SIGNER, SignerReport};
use dkim_testbed::operator::{Install, NAMESPACE, Role};
use dkim_testbed::{Address, Options, Process, Scratch, Spec, eventually};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, ListParams};
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(60);
const DOMAIN: &str = "heard.example";
const LEASE: &str = "dkim-milter-mail-0";

/// A signer beside the operator, with the ServiceAccount that the chart makes for the milter.
async fn signer(world: &World, scratch: &Scratch, args: &[&str]) -> (Process, Address) {
    let account = "dkim-operator-milter";
    let token =
        world.plane.service_account_token(NAMESPACE, account, Duration::from_secs(3600)).await.unwrap();
    let kubeconfig = scratch.join("kubeconfig");
    world.plane.kubeconfig_for_token(&token, &kubeconfig).unwrap();
    let holding = Address::allocate().unwrap();
    let process = Spec::new(args[0], env!("CARGO_BIN_EXE_dkim-operator"), scratch.join(args[0]))
        .args(args)
        .args(["--instance", "mail-0", "--health-addr", &holding.port(8080).to_string()])
        .env("KUBECONFIG", &kubeconfig)
        .env_remove("KUBERNETES_SERVICE_HOST")
        .spawn()
        .unwrap();
    (process, holding)
}

fn rotations(domain: &DkimDomain) -> i64 {
    domain.status.as_ref().and_then(|s| s.rotation.as_ref()).map_or(0, |r| r.count)
}

struct Stage<'a> {
    world: &'a World,
    namespace: String,
    lease: &'static str,
}

impl Stage<'_> {
    async fn says(&self) -> Result<u64, String> {
        let leases: Api<Lease> = Api::namespaced(self.world.client(), NAMESPACE);
        let lease = leases.get(self.lease).await.map_err(|e| e.to_string())?;
        SignerReport::of(&lease).and_then(|says| says.version).ok_or_else(|| format!("{lease:?}"))
    }

    /// Waits until the milter says that it uses the Secret as it is.
    async fn up_to_date(&self) {
        eventually(PATIENCE, "the milter says that it has come as far as the Secret", || async {
            let secret = self.world.secret(NAMESPACE, DOMAIN).await.ok_or("no Secret")?;
            let version: u64 = secret.metadata.resource_version.unwrap().parse().unwrap();
            let said = self.says().await?;
            if said >= version { Ok(()) } else { Err(format!("{said} of {version}")) }
        })
        .await
        .unwrap();
    }

    /// Waits until a next key is published. Returns how many rotations there were.
    async fn next_is_ready(&self) -> i64 {
        self.until("the next key is ready", |d| {
            let keys = d.status.iter().flat_map(|s| &s.keys);
            let ready = keys.filter(|k| k.phase == "Published").count() == 1;
            if ready { Ok(rotations(d)) } else { Err(String::new()) }
        })
        .await
    }

    /// Stops the milter just after it has renewed its Lease, so that it counts as one that lives for as long as can be.
    async fn pause(&self, milter: &Role) -> Outcome {
        let before = self.renewed().await?;
        eventually(PATIENCE, "the Lease is renewed", || async {
            if self.renewed().await? == before { Err(before.clone()) } else { Ok(()) }
        })
        .await?;
        Ok(milter.pause().await?)
    }

    async fn renewed(&self) -> Result<String, String> {
        let leases: Api<Lease> = Api::namespaced(self.world.client(), NAMESPACE);
        let lease = leases.get(self.lease).await.map_err(|e| e.to_string())?;
        Ok(format!("{:?}", lease.spec.and_then(|spec| spec.renew_time)))
    }

    /// Waits until the next key is ready, then asks for a rotation and waits for the switch.
    async fn rotate(&self) {
        let before = self.next_is_ready().await;
        self.ask_for_a_rotation().await;
        self.until(
            "the keys are switched",
            |d| if rotations(d) > before { Ok(()) } else { Err(String::new()) },
        )
        .await;
    }

    async fn ask_for_a_rotation(&self) {
        let now = Timestamp::now().to_string();
        self.world.patch(&self.namespace, DOMAIN, json!({ "rotation": { "rotateAt": now } })).await;
    }

    async fn until<T>(&self, what: &str, check: impl Fn(&DkimDomain) -> Result<T, String>) -> T {
        self.world.until(&self.namespace, DOMAIN, what, check).await.unwrap()
    }

    /// Waits until the signer is told as being behind, by its name.
    async fn held(&self) {
        self.until("the signer is shown as behind", |d| {
            let (_, reason, message) = condition(d, ConditionType::Rotating).ok_or("no condition")?;
            let listed =
                d.status.as_ref().and_then(|s| s.rotation.as_ref()).map(|r| r.signers_behind.clone());
            if reason == "SignerBehind"
                && message.contains(self.lease)
                && listed.as_deref() == Some(&[self.lease.into()])
            {
                Ok(())
            } else {
                Err(format!("{listed:?}"))
            }
        })
        .await;
    }

    async fn freed(&self) {
        self.until("nobody is waited for", |d| {
            let reason = condition(d, ConditionType::Rotating).map(|(_, reason, _)| reason);
            if reason.as_deref() == Some("SignerBehind") { Err(String::new()) } else { Ok(()) }
        })
        .await;
    }

    async fn events(&self, reason: &str) -> Vec<String> {
        let api: Api<Event> = Api::namespaced(self.world.client(), &self.namespace);
        let all = api.list(&ListParams::default()).await.unwrap();
        let of = |event: Event| event.note.filter(|_| event.reason.as_deref() == Some(reason));
        all.items.into_iter().filter_map(of).collect()
    }

    async fn told(&self, reason: &str, words: &str) {
        eventually(PATIENCE, &format!("{reason} says {words:?}"), || async {
            let events = self.events(reason).await;
            if events.iter().any(|note| note.contains(words)) { Ok(()) } else { Err(format!("{events:?}")) }
        })
        .await
        .unwrap();
    }

    async fn counted(&self, line: &str) {
        eventually(PATIENCE, line, || async {
            let text = self.world.operator.controller().metrics().await.map_err(|e| e.to_string())?;
            let lines: Vec<&str> = text.lines().filter(|l| l.starts_with("dkim_operator_signer")).collect();
            if lines.contains(&line) { Ok(()) } else { Err(lines.join("\n")) }
        })
        .await
        .unwrap();
    }

    /// Takes the right to read keys away from the milter, or gives it back.
    async fn may_read_keys(&self, may: bool) {
        let verbs = if may { json!(["list", "watch"]) } else { json!(["deletecollection"]) };
        let patch = json!([{ "op": "replace", "path": "/rules/0/verbs", "value": verbs }]).to_string();
        let args = ["patch", "role", "dkim-operator-milter", "-n", NAMESPACE, "--type=json", "-p", &patch];
        self.world.plane.kubectl(args).await.unwrap().ok().unwrap();
    }
}

async fn start() -> Result<(World, String), Box<dyn std::error::Error>> {
    let install = Install::new(env!("CARGO_BIN_EXE_dkim-operator"))
        .set("milter.enabled=true")
        .set("milter.mtaNetworks={127.0.0.0/8}");
    let provider = json!({ "keyNamespace": NAMESPACE, "keyPolicy": { "signerLag": "8s" } });
    let world = World::start_installed(Options::new(), install, provider).await?;
    let namespace = world.enabled(DOMAIN, json!({ "rotation": { "drain": "2s" } })).await?;
    Ok((world, namespace))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_stays_until_the_last_signer_that_lives_has_left_it() -> Outcome {
    let (world, namespace) = start().await?;
    let stage = Stage { world: &world, namespace, lease: LEASE };
    let scratch = Scratch::new("acknowledgement")?;
    let socket = format!("--listen=unix:{}", scratch.join("m.sock").display());
    let own = ["--drain=1", "--instance=mail-0", "--acknowledge-every=6s", &socket].map(str::to_owned);
    let milter = world.operator.start_role(&world.plane, "milter", &own).await?;
    stage.up_to_date().await;
    stage.counted("dkim_operator_signers{state=\"current\"} 1").await;

    // A rotation as it should be: the milter says so within the lag, and nothing is held.
    stage.rotate().await;
    stage.up_to_date().await;
    stage
        .until("the next key is there", |d| {
            let keys = d.status.iter().flat_map(|s| &s.keys);
            if keys.filter(|k| k.phase == "Draining").count() == 0 { Ok(()) } else { Err(String::new()) }
        })
        .await;
    assert_eq!(stage.events("SignerBehind").await, Vec::<String>::new(), "{}", milter.log().await);

    // It hangs: the key stays; it goes on: the key drains anew.
    stage.up_to_date().await;
    stage.pause(&milter).await?;
    stage.rotate().await;
    stage.held().await;
    stage.told("SignerBehind", LEASE).await;
    milter.resume().await?;
    stage.freed().await;
    stage.told("SignersMoved", "drains from now on").await;
    stage.up_to_date().await;

    // It hangs for good: once its Lease has run out, nobody waits for it, and it is counted as lost.
    stage.next_is_ready().await;
    stage.pause(&milter).await?;
    stage.rotate().await;
    stage.held().await;
    stage.freed().await;
    stage.told("SignersMoved", "has fallen silent").await;
    stage.counted("dkim_operator_signers{state=\"lost\"} 1").await;
    milter.resume().await?;
    stage.counted("dkim_operator_signers{state=\"lost\"} 0").await;
    stage.up_to_date().await;

    // It lives and cannot read keys any more: the key stays for longer than a Lease, and the next rotation waits and says
    // for whom.
    stage.next_is_ready().await;
    stage.may_read_keys(false).await;
    // Rights are looked at when a watch begins.
    world.plane.kill_apiserver().await?;
    world.plane.restart_apiserver().await?;
    stage.rotate().await;
    stage.held().await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    stage.held().await;
    stage.counted("dkim_operator_signers{state=\"behind\"} 1").await;
    stage.ask_for_a_rotation().await;
    stage
        .until("the next rotation waits for the signer", |d| {
            match condition(d, ConditionType::RotationBlocked) {
                Some((status, reason, message))
                    if status == "True" && reason == "SignerBehind" && message.contains(LEASE) =>
                {
                    Ok(())
                }
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    stage.may_read_keys(true).await;
    stage.freed().await;
    stage.counted("dkim_operator_signers{state=\"behind\"} 0").await;

    // It ends, and says so: nothing is left of it.
    milter.stop().await?;
    let leases: Api<Lease> = Api::namespaced(world.client(), NAMESPACE);
    eventually(PATIENCE, "its Lease is gone", || async {
        let all =
            leases.list(&ListParams::default().labels(LABEL_SIGNER)).await.map_err(|e| e.to_string())?;
        if all.items.is_empty() { Ok(()) } else { Err(format!("{:?}", all.items)) }
    })
    .await?;
    stage.counted("dkim_operator_signers{state=\"current\"} 0").await;
    rights(&world).await
}

/// What the signer beside was told last, it may go on with.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sync_that_is_stopped_does_not_say_that_its_signer_has_ended() -> Outcome {
    let (world, namespace) = start().await?;
    let stage = Stage { world: &world, namespace, lease: "dkim-sync-exim-mail-0" };
    let scratch = Scratch::new("acknowledgement")?;
    let dir = scratch.join("files").display().to_string();
    let args = ["sync", "--format", "exim", "--dir", &dir, "--namespace", NAMESPACE];
    let quick = ["--acknowledge-every", "2s", "--hold", "40s"];
    let (mut sync, holding) = signer(&world, &scratch, &[&args[..], &quick].concat()).await;
    stage.up_to_date().await;
    stage.next_is_ready().await;

    sync.stop().await?;
    stage.rotate().await;
    stage.held().await;
    stage.counted("dkim_operator_signers{state=\"lost\"} 1").await;
    stage.held().await;
    // Not for ever.
    stage.freed().await;
    stage.told("SignersMoved", "has fallen silent").await;

    // One that is back is heard again, and may be told that its signer ends as well.
    drop(holding);
    let (mut sync, _holding) =
        signer(&world, &scratch, &[&args[..], &quick, &["--ends-with-signer"]].concat()).await;
    stage.up_to_date().await;
    stage.counted("dkim_operator_signers{state=\"current\"} 1").await;
    sync.stop().await?;
    stage.counted("dkim_operator_signers{state=\"current\"} 0").await;
    stage.counted("dkim_operator_signers{state=\"lost\"} 0").await;
    Ok(())
}

/// What the milter must not do.
async fn rights(world: &World) -> Outcome {
    let user = format!("system:serviceaccount:{NAMESPACE}:dkim-operator-milter");
    for (verb, what, namespace, may) in [
        ("create", "leases", NAMESPACE, "yes"),
        ("patch", "leases", NAMESPACE, "yes"),
        ("list", "leases", NAMESPACE, "no"),
        ("delete", "leases", NAMESPACE, "no"),
        ("create", "leases", "kube-node-lease", "no"),
        ("patch", "leases", "kube-node-lease", "no"),
        ("update", "secrets", NAMESPACE, "no"),
    ] {
        let args = ["auth", "can-i", verb, what, "-n", namespace, "--as", &user];
        let said = world.plane.kubectl(args).await?.stdout;
        assert_eq!(said.trim(), may, "{verb} {what} in {namespace}");
    }
    Ok(())
}
