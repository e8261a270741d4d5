//! The whole story in two minutes, on a real API server with real DNS: keys made, two CNAMEs shown, missing, published,
//! signing switched on, keys rolled, and every message verified by implementations that are not ours.

mod keep;
mod mail;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use dkim_testbed::operator::{Install, Operator};
use dkim_testbed::{Binaries, ControlPlane, DnsTree, Options, Scratch, eventually};
use k8s_openapi::api::core::v1::Secret;
use kube::api::Api;
use mail::{Mailer, Post, Verifier};
use serde_json::{Value, json};

/// Rotations that each domain must have had.
const ROTATIONS: i64 = 2;
/// The namespace of the tenant.
const TENANT: &str = "contoso";
/// From switch to switch. In life it is months.
const INTERVAL: &str = "8s";
/// How long a key that has signed stays published. In life it is days.
const DRAIN: Duration = Duration::from_secs(4);

type Outcome = Result<(), Failure>;

/// What ends the demo early.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Testbed(#[from] dkim_testbed::Error),
    #[error("{0}")]
    Kube(#[from] kube::Error),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    #[error("{0}")]
    Said(String),
}

fn main() -> ExitCode {
    let told = if keep::wanted() && !keep::is_keeper() {
        keep::tell().map_err(Failure::from)
    } else {
        tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(Failure::from)
            .and_then(|runtime| runtime.block_on(Demo::run()))
    };
    told.unwrap_or_else(|failure| {
        eprintln!("demo: failed: {failure}");
        ExitCode::FAILURE
    })
}

struct Demo {
    plane: ControlPlane,
    tree: DnsTree,
    operator: Operator,
    binary: PathBuf,
    root: PathBuf,
    began: Instant,
}

impl Demo {
    async fn run() -> Result<ExitCode, Failure> {
        let demo = Self::start().await?;
        let result = demo.story().await;
        if result.is_err() {
            eprintln!("--- the controller's log ---\n{}", demo.operator.controller().log().await);
        }
        let good = result?;
        if keep::is_keeper() {
            keep::stay(good).await?;
        }
        Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    async fn start() -> Result<Self, Failure> {
        let began = Instant::now();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).to_owned();
        let binary = std::env::current_exe()?.with_file_name("dkim-operator");
        say(began, "starting etcd, kube-apiserver and kube-controller-manager");
        let plane = ControlPlane::start(Options::new().with_controller_manager()).await?;
        say(began, "starting DNS: a root, the tenants' servers (Knot) and a resolver (Unbound)");
        let tree = DnsTree::start().await?;
        say(began, "installing the operator from charts/dkim-operator with helm");
        let install = Install::new(&binary).set("controller.allSecretNamespaces=true");
        let operator = install.start(&plane).await?;
        operator.delegate(&tree, "onmail.example").await?;
        Ok(Self { plane, tree, operator, binary, root, began })
    }

    fn say(&self, text: &str) {
        say(self.began, text);
    }

    async fn show(&self, args: &[&str]) -> Outcome {
        println!("\n    $ kubectl {}", args.join(" "));
        let output = self.plane.kubectl(args).await?.ok()?;
        for line in output.lines() {
            println!("    {line}");
        }
        println!();
        Ok(())
    }

    async fn story(&self) -> Result<bool, Failure> {
        self.say("applying examples/, with times of seconds instead of days");
        self.plane.kubectl(["create", "namespace", TENANT]).await?.ok()?;
        let examples = self.root.join("examples");
        let provider = examples.join("provider.yaml").display().to_string();
        self.plane.kubectl(["apply", "--server-side", "-f", &provider]).await?.ok()?;
        let hurry = json!({ "spec": {
            "keyPolicy": { "minInterval": "1s", "minDrain": "1s", "signerLag": "2s" },
            "publish": { "ttl": 1, "negativeTtl": 1, "zone": "onmail.example", "nameServers": self.operator.name_servers() },
            "verification": { "resolvers": [self.tree.resolver().to_string()], "allowPrivateNetworks": ["127.0.0.0/8"], "pendingInterval": "1s", "interval": "2s", "grace": "2s" },
        } });
        self.plane
            .kubectl(["patch", "dkimprovider", "default", "--type=merge", "-p", &hurry.to_string()])
            .await?
            .ok()?;
        let domains = examples.join("domains").display().to_string();
        self.plane.kubectl(["apply", "--server-side", "-n", TENANT, "-f", &domains]).await?.ok()?;
        let list = self.domains().await?;
        for domain in &list {
            let name = text(domain, "/metadata/name");
            let hurry = json!({ "spec": { "rotation": { "interval": INTERVAL, "drain": format!("{}s", DRAIN.as_secs()) } } });
            self.plane
                .kubectl(["patch", "dkim", &name, "-n", TENANT, "--type=merge", "-p", &hurry.to_string()])
                .await?
                .ok()?;
        }
        let mut zones: Vec<String> = list.iter().map(|d| zone_of(&ascii(&text(d, "/spec/domain")))).collect();
        zones.sort();
        zones.dedup();
        for zone in &zones {
            self.tree.add_zone(zone, 1).await?;
        }
        self.until("every domain is signed as the provider and told what to publish", |d| {
            d.pointer("/status/signing/selector").is_some()
                && d.pointer("/status/records").and_then(Value::as_array).is_some_and(|r| {
                    r.len() == 2 && r.iter().all(|r| !["", "Pending"].contains(&text(r, "/state").as_str()))
                })
        })
        .await?;
        self.say("keys are made and published; mail is signed as the provider until the CNAMEs are there");
        self.show(&["get", "dkim", "-n", TENANT]).await?;
        self.tell_records().await?;
        let mut senders = self.senders().await?;
        self.mail(&mut senders).await
    }

    /// Sends and verifies mail while CNAMEs are published and keys are rolled.
    async fn mail(&self, senders: &mut [Mailer]) -> Result<bool, Failure> {
        let scratch = Scratch::new("post")?;
        let mut post =
            Post::new(&self.root, self.tree.resolver(), DRAIN.saturating_sub(Duration::from_secs(1)));
        let mut sent = vec![0u32; senders.len()];
        let (mut published, mut enabled) = (false, false);
        let bound = Instant::now() + Duration::from_secs(150);
        let mut number = 0;
        loop {
            for (sender, sent) in senders.iter_mut().zip(&mut sent) {
                sender.sync().await?;
                number += 1;
                if let Some(message) = sender.send(&self.binary, number, scratch.path()).await? {
                    post.take(message);
                    *sent += 1;
                }
            }
            post.deliver().await?;
            if !published && number > 6 {
                published = true;
                self.say("the tenant publishes the CNAMEs in its zones");
                self.publish_cnames().await?;
            }
            let list = self.domains().await?;
            if published && !enabled && list.iter().all(|d| holds(d, "Enabled")) {
                enabled = true;
                self.say("the CNAMEs are seen in DNS; mail is signed as the domains themselves");
                self.show(&["get", "dkim", "-n", TENANT]).await?;
                self.say("keys are rolled on schedule while mail flows");
            }
            if enabled && list.iter().all(|d| rotations(d) >= ROTATIONS) {
                break;
            }
            if Instant::now() > bound {
                return Err(Failure::Said(format!("not done in time: {}", serde_json::to_string(&list)?)));
            }
        }
        while !post.is_empty() {
            tokio::time::sleep(Duration::from_millis(200)).await;
            post.deliver().await?;
        }
        self.show(&["get", "dkim", "-n", TENANT]).await?;
        self.table(senders, &sent, &post).await
    }

    async fn table(&self, senders: &[Mailer], sent: &[u32], post: &Post) -> Result<bool, Failure> {
        let list = self.domains().await?;
        println!(
            "{:<28} {:<10} {:<10} {:>9} {:>7} {:>8} {:>12}",
            "DOMAIN", "STATE", "SELECTOR", "ROTATIONS", "SIGNED", "DKIMPY", "MAIL::DKIM"
        );
        let (mut messages, mut verified, mut turned) = (0, 0, i64::MAX);
        for (sender, sent) in senders.iter().zip(sent) {
            let Some(domain) = list.iter().find(|d| ascii(&text(d, "/spec/domain")) == sender.domain) else {
                continue;
            };
            let [dkimpy, mail_dkim] = Verifier::ALL.map(|v| post.verified(v, &sender.domain));
            println!(
                "{:<28} {:<10} {:<10} {:>9} {:>7} {:>8} {:>12}",
                sender.domain,
                if holds(domain, "Enabled") { "Enabled" } else { "Default" },
                text(domain, "/status/signing/selector"),
                rotations(domain),
                sent,
                dkimpy,
                mail_dkim
            );
            messages += *sent as usize;
            verified += dkimpy.min(mail_dkim);
            turned = turned.min(rotations(domain));
        }
        for failure in &post.failures {
            println!("not verified: {failure}");
        }
        if keep::is_keeper() {
            self.tell_how_to_look()?;
        }
        let unverifiable = messages - verified;
        let good = unverifiable == 0 && senders.len() >= 3 && turned >= ROTATIONS && post.failures.is_empty();
        println!(
            "\ndemo: {} domains={} messages={messages} verified={verified} unverifiable={unverifiable} rotations={turned}",
            if good { "ok" } else { "failed" },
            senders.len()
        );
        Ok(good)
    }

    async fn tell_records(&self) -> Outcome {
        for domain in self.domains().await? {
            for record in domain.pointer("/status/records").and_then(Value::as_array).into_iter().flatten() {
                println!(
                    "    {}  {}  {}",
                    text(record, "/name"),
                    text(record, "/type"),
                    text(record, "/value")
                );
                println!("      {}: {}", text(record, "/state"), text(record, "/diagnosis"));
            }
        }
        println!();
        Ok(())
    }

    async fn publish_cnames(&self) -> Outcome {
        for domain in self.domains().await? {
            for record in domain.pointer("/status/records").and_then(Value::as_array).into_iter().flatten() {
                let target = format!("{}.", text(record, "/value"));
                self.tree.add_record(&text(record, "/name"), 1, "CNAME", &target).await?;
            }
        }
        Ok(())
    }

    async fn senders(&self) -> Result<Vec<Mailer>, Failure> {
        let keys = self.operator.directory().join("signer");
        let mut senders = Vec::new();
        for domain in self.domains().await? {
            let written = text(&domain, "/spec/domain");
            let namespace = text(&domain, "/status/secretRef/namespace");
            let secrets: Api<Secret> = Api::namespaced(self.plane.admin()?, &namespace);
            let secret = text(&domain, "/status/secretRef/name");
            let from = format!("Alice <alice@{written}>");
            senders.push(Mailer::new(&ascii(&written), &from, secrets, &secret, &keys));
        }
        Ok(senders)
    }

    async fn domains(&self) -> Result<Vec<Value>, Failure> {
        let output = self.plane.kubectl(["get", "dkim", "-n", TENANT, "-o", "json"]).await?.ok()?;
        let list: Value = serde_json::from_str(&output)?;
        let items = list.pointer("/items").and_then(Value::as_array).cloned().unwrap_or_default();
        Ok(items.into_iter().filter(|d| d.pointer("/spec/enabled") != Some(&Value::Bool(false))).collect())
    }

    async fn until(&self, what: &str, check: impl Fn(&Value) -> bool) -> Outcome {
        eventually(Duration::from_secs(60), what, || async {
            let list = self.domains().await.map_err(|e| e.to_string())?;
            match list.iter().find(|d| !check(d)) {
                None if !list.is_empty() => Ok(()),
                other => Err(other.map(ToString::to_string).unwrap_or_default()),
            }
        })
        .await?;
        Ok(())
    }

    /// How to look at what goes on running.
    fn tell_how_to_look(&self) -> Outcome {
        let plugin = self.binary.parent().unwrap_or(Path::new("."));
        let tools = Binaries::locate()?.directories().into_iter().chain([plugin.to_owned()]);
        let tools: Vec<String> = tools.map(|directory| directory.display().to_string()).collect();
        println!("\nKEEP=1: everything goes on running. Look at it with");
        println!(
            "    export KUBECONFIG={} PATH={}:$PATH",
            self.plane.kubeconfig().display(),
            tools.join(":")
        );
        println!("    kubectl get dkim,dkimprovider,dkimrecordset -A");
        println!("    kubectl dkim status -n {TENANT}");
        println!("    kdig @{} selector1._domainkey.contoso.com TXT", self.tree.resolver().ip());
        println!("    tail {}/*.log", self.operator.directory().display());
        println!("and end it with");
        println!("    kill {}", std::process::id());
        Ok(())
    }
}

fn say(began: Instant, text: &str) {
    println!("[{:>5.1}s] {text}", began.elapsed().as_secs_f64());
}

fn text(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn holds(domain: &Value, condition: &str) -> bool {
    let conditions = domain.pointer("/status/conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().any(|c| text(c, "/type") == condition && text(c, "/status") == "True")
}

fn rotations(domain: &Value) -> i64 {
    domain.pointer("/status/rotation/count").and_then(Value::as_i64).unwrap_or(0)
}

fn ascii(domain: &str) -> String {
    idna::domain_to_ascii(domain).unwrap_or_else(|_| domain.to_owned())
}

/// The zone of a domain in the demo: its last two labels.
fn zone_of(domain: &str) -> String {
    let labels: Vec<&str> = domain.split('.').collect();
    labels.get(labels.len().saturating_sub(2)..).map_or_else(|| domain.to_owned(), |last| last.join("."))
}
