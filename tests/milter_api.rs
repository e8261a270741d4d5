//! `dkim-operator milter` with keys from Secrets, through a real API server and with no more rights than the chart gives.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "common/mta.rs"]
mod mta;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dkim_operator::api::Canonicalization::Relaxed;
use dkim_operator::api::signing_config::{
    FORMAT_VERSION, SIGNED_HEADERS, SIGNING_FILE, SignatureConfig, SigningConfig,
};
use dkim_operator::api::{LABEL_DOMAIN, LABEL_MANAGED_BY, MANAGED_BY, SignerReport};
use dkim_operator::model::key::{KeyKind, PrivateKey};
use dkim_operator::model::name::DomainName;
use dkim_testbed::{Address, ControlPlane, Process, Scratch, Spec, eventually};
use getrandom::SysRng;
use k8s_openapi::ByteString;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, DeleteParams, ObjectMeta, PostParams};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

const PATIENCE: Duration = Duration::from_secs(60);

/// A key Secret whose signature has this selector; `None`: no key may sign.
fn secret(namespace: &str, domain: &str, selector: Option<&str>) -> Secret {
    let key = PrivateKey::generate(KeyKind::Ed25519, &mut SysRng).unwrap();
    let public = key.public().unwrap();
    let signature = |s: &str| SignatureConfig {
        d: domain.to_owned(),
        s: s.to_owned(),
        identity: None,
        algorithm: public.algorithm,
        key_file: "selector1.pem".to_owned(),
        fingerprint: public.fingerprint().unwrap(),
        serial: 1,
        header_canonicalization: Relaxed,
        body_canonicalization: Relaxed,
        headers: SIGNED_HEADERS.map(str::to_owned).to_vec(),
        oversign: false,
        timestamp: true,
        expiration_seconds: None,
    };
    let config = SigningConfig {
        format_version: FORMAT_VERSION,
        domain: DomainName::parse(domain).unwrap(),
        signatures: selector.map(signature).into_iter().collect(),
    };
    let labels = [(LABEL_MANAGED_BY, MANAGED_BY), (LABEL_DOMAIN, domain)];
    let data = [
        (SIGNING_FILE, serde_json::to_vec(&config).unwrap()),
        ("selector1.pem", key.expose_pem().as_bytes().to_vec()),
    ];
    Secret {
        metadata: ObjectMeta {
            namespace: Some(namespace.to_owned()),
            name: Some(format!("dkim-{domain}")),
            labels: Some(labels.map(|(k, v)| (k.to_owned(), v.to_owned())).into()),
            ..ObjectMeta::default()
        },
        data: Some(data.map(|(k, v)| (k.to_owned(), ByteString(v))).into_iter().collect::<BTreeMap<_, _>>()),
        ..Secret::default()
    }
}

struct Milter {
    process: Process,
    socket: PathBuf,
    _scratch: Scratch,
    _holding: Address,
}

/// The rights that the chart gives.
async fn rights(plane: &ControlPlane, namespace: &str) -> String {
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": { "name": "milter", "namespace": namespace },
        "rules": [
            { "apiGroups": [""], "resources": ["secrets"], "verbs": ["list", "watch"] },
            { "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create", "patch"] },
        ],
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": { "name": "milter", "namespace": namespace },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "milter" },
        "subjects": [{ "kind": "ServiceAccount", "name": "milter", "namespace": namespace }],
    });
    for manifest in [role, binding] {
        plane.kubectl_with(["apply", "-f", "-"], &manifest.to_string()).await.unwrap().ok().unwrap();
    }
    plane.service_account_token(namespace, "milter", Duration::from_secs(3600)).await.unwrap()
}

impl Milter {
    async fn start(plane: &ControlPlane, namespace: &str) -> Self {
        Self::with(plane, namespace, &["--key-namespace", namespace]).await
    }

    async fn with(plane: &ControlPlane, namespace: &str, args: &[&str]) -> Self {
        let token = rights(plane, namespace).await;
        let scratch = Scratch::new("milter-api").unwrap();
        let kubeconfig = scratch.join("kubeconfig");
        plane.kubeconfig_for_token(&token, &kubeconfig).unwrap();
        let holding = Address::allocate().unwrap();
        let health = holding.port(8080);
        let socket = scratch.join("m.sock");
        let mut process = Spec::new("milter", env!("CARGO_BIN_EXE_dkim-operator"), scratch.join("log"))
            .args(["milter", "--drain", "1"])
            .args(args)
            .arg(format!("--listen=unix:{}", socket.display()))
            .args(["--health-addr", &health.to_string()])
            .env("KUBECONFIG", &kubeconfig)
            .env_remove("KUBERNETES_SERVICE_HOST")
            .spawn()
            .unwrap();
        let ready = || async move {
            let mut stream = TcpStream::connect(health).await.map_err(|e| e.to_string())?;
            let request = format!("GET /readyz HTTP/1.1\r\nHost: {health}\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.map_err(|e| e.to_string())?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.map_err(|e| e.to_string())?;
            if answer.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(answer) }
        };
        process.ready(PATIENCE, "the Secrets are listed", ready).await.unwrap();
        Self { process, socket, _scratch: scratch, _holding: holding }
    }

    /// The selector that signs, or the SMTP reply, or nothing.
    async fn says(&self, domain: &str) -> String {
        let mut stream = UnixStream::connect(&self.socket).await.unwrap();
        let text = format!("From: joe@{domain}\r\nSubject: x\r\n\r\nhello\r\n");
        let bytes = [mta::negotiate(mta::POSTFIX), mta::connect("127.0.0.1"), mta::message(&text)].concat();
        stream.write_all(&bytes).await.unwrap();
        let (mut input, mut answers) = (Vec::new(), Vec::new());
        while !answers.iter().any(|a: &mta::Answer| matches!(a.command, b'c' | b'y')) {
            assert!(stream.read_buf(&mut input).await.unwrap() > 0, "{}", self.process.log_tail(20));
            answers.extend(mta::answers(&mut input));
        }
        if let Some(reply) = answers.iter().find_map(mta::Answer::smtp) {
            return reply.split(' ').next().unwrap().to_owned();
        }
        let field = answers.iter().find_map(mta::Answer::inserted);
        let value = field.map(|(_, value)| value.replace("\n\t", " ")).unwrap_or_default();
        value.split(" s=").nth(1).and_then(|rest| rest.split(';').next()).unwrap_or_default().to_owned()
    }

    async fn comes_to_say(&self, domain: &str, expected: &str) {
        eventually(PATIENCE, &format!("{domain} is signed with {expected:?}"), || async {
            let said = self.says(domain).await;
            if said == expected { Ok(()) } else { Err(format!("{said:?}\n{}", self.process.log_tail(10))) }
        })
        .await
        .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_come_go_and_change_through_the_api() {
    let plane = ControlPlane::shared().await.unwrap();
    let namespace = plane.namespace().await.unwrap();
    let api: Api<Secret> = Api::namespaced(plane.admin().unwrap(), &namespace);
    let create = async |secret: Secret| {
        api.create(&PostParams::default(), &secret).await.unwrap();
    };
    create(secret(&namespace, "contoso.com", Some("selector1"))).await;
    let mut foreign = secret(&namespace, "foreign.com", Some("selector1"));
    foreign.metadata.labels = None;
    create(foreign).await;
    let milter = Milter::with(&plane, &namespace, &["--key-namespace", &namespace, "--signer-lag=10"]).await;
    assert_eq!(milter.says("contoso.com").await, "selector1");
    assert_eq!(milter.says("foreign.com").await, "", "a Secret without our labels is none of ours");
    assert_eq!(milter.says("fabrikam.com").await, "");

    create(secret(&namespace, "fabrikam.com", None)).await;
    milter.comes_to_say("fabrikam.com", "451").await;
    let replace = async |secret: Secret| {
        let name = secret.metadata.name.clone().unwrap();
        api.delete(&name, &DeleteParams::default()).await.unwrap();
        api.create(&PostParams::default(), &secret).await.unwrap();
    };
    replace(secret(&namespace, "fabrikam.com", Some("selector2"))).await;
    milter.comes_to_say("fabrikam.com", "selector2").await;

    // An update in place, as the controller makes it.
    let mut changed = secret(&namespace, "contoso.com", Some("selector2"));
    let now = api.get("dkim-contoso.com").await.unwrap();
    changed.metadata.resource_version = now.metadata.resource_version;
    api.replace("dkim-contoso.com", &PostParams::default(), &changed).await.unwrap();
    milter.comes_to_say("contoso.com", "selector2").await;

    // One that cannot be read: the earlier keys stay for now, and nobody else is hindered.
    let mut broken = api.get("dkim-contoso.com").await.unwrap();
    broken.data.as_mut().unwrap().insert(SIGNING_FILE.to_owned(), ByteString(b"{".to_vec()));
    api.replace("dkim-contoso.com", &PostParams::default(), &broken).await.unwrap();
    eventually(PATIENCE, "it is told", || {
        let log = milter.process.log_text();
        async move {
            if log.contains("dkim-contoso.com/signing.json: it is no signing") { Ok(()) } else { Err(log) }
        }
    })
    .await
    .unwrap();
    assert_eq!(milter.says("contoso.com").await, "selector2");
    assert_eq!(milter.says("fabrikam.com").await, "selector2");
    // But for no longer than the signer lag, although nothing else happens.
    milter.comes_to_say("contoso.com", "451").await;
    assert_eq!(milter.says("fabrikam.com").await, "selector2");

    api.delete("dkim-fabrikam.com", &DeleteParams::default()).await.unwrap();
    milter.comes_to_say("fabrikam.com", "").await;
    assert!(!milter.process.log_text().contains("PRIVATE"));
}

/// A milter that reads files says in a Lease which keys it uses, by name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_from_files_are_told_by_name() {
    let plane = ControlPlane::shared().await.unwrap();
    let namespace = plane.namespace().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let write = |domain: &str| {
        let secret = secret(&namespace, domain, Some("selector1"));
        let place = dir.path().join(domain);
        std::fs::create_dir_all(&place).unwrap();
        let data = secret.data.unwrap();
        for (name, bytes) in &data {
            std::fs::write(place.join(name), &bytes.0).unwrap();
        }
        let config: SigningConfig = serde_json::from_slice(&data[SIGNING_FILE].0).unwrap();
        SignerReport::name_of(&config.signatures[0].fingerprint)
    };
    let mut keys: BTreeMap<_, _> =
        ["contoso.com", "fabrikam.com"].map(|domain| (domain.to_owned(), vec![write(domain)])).into();
    let key_dir = dir.path().to_str().unwrap();
    let args = ["--key-dir", key_dir, "--acknowledge-namespace", &namespace, "--instance", "mx"];
    let mut milter = Milter::with(&plane, &namespace, &args).await;
    let leases: Api<Lease> = Api::namespaced(plane.admin().unwrap(), &namespace);
    let says = async |keys: &BTreeMap<String, Vec<String>>| {
        eventually(PATIENCE, "it says which keys it uses", || async {
            let lease = leases.get("dkim-milter-mx").await.map_err(|e| e.to_string())?;
            let said = SignerReport::of(&lease).unwrap();
            if said.keys == *keys && said.version.is_none() { Ok(()) } else { Err(format!("{said:?}")) }
        })
        .await
        .unwrap();
    };
    says(&keys).await;
    // A key is left: that is said long before the Lease would be renewed.
    let began = std::time::Instant::now();
    keys.insert("contoso.com".into(), vec![write("contoso.com")]);
    says(&keys).await;
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    milter.process.stop().await.unwrap();
    let lease = leases.get("dkim-milter-mx").await.unwrap();
    assert_eq!(lease.spec.unwrap().holder_identity, None, "it has said good-bye");
}

/// The API server goes, comes back without its past, and the milter signs all the time and hears of what changed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_that_is_away_stops_no_mail() {
    let options = dkim_testbed::Options::new();
    let plane = ControlPlane::start(options).await.unwrap();
    let namespace = plane.namespace().await.unwrap();
    let api: Api<Secret> = Api::namespaced(plane.admin().unwrap(), &namespace);
    api.create(&PostParams::default(), &secret(&namespace, "contoso.com", Some("selector1"))).await.unwrap();
    let milter = Milter::start(&plane, &namespace).await;
    plane.kill_apiserver().await.unwrap();
    for _ in 0..20 {
        assert_eq!(milter.says("contoso.com").await, "selector1");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    plane.restart_apiserver().await.unwrap();
    let mut changed = secret(&namespace, "contoso.com", Some("selector2"));
    let now = api.get("dkim-contoso.com").await.unwrap();
    changed.metadata.resource_version = now.metadata.resource_version;
    api.replace("dkim-contoso.com", &PostParams::default(), &changed).await.unwrap();
    milter.comes_to_say("contoso.com", "selector2").await;
}

/// Nothing is read from the tests' own files: a path that is not there is told, and tried again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn arguments_that_cannot_be_are_refused() {
    for (args, says) in [
        (&["milter"][..], "--key-dir"),
        (&["milter", "--key-dir=/x", "--key-namespace=y"], "cannot be used with"),
        (&["milter", "--key-dir=/x", "--listen=tcp:1"], "unix:PATH or inet:ADDRESS:PORT"),
        (&["milter", "--key-dir=/x", "--trusted-networks=contoso.com"], "trusted-networks"),
        (&["milter", "--key-dir=/x", "--sign-macro=x"], "NAME=VALUE"),
        (&["milter", "--key-dir=/x", "--poll=0"], "number of seconds"),
        (&["milter", "--key-dir=/x", "--socket-mode=rw"], "octal mode"),
        (&["milter", "--key-dir=/x", "--listen=unix:/no/such/place/m.sock"], "the directory must be there"),
    ] {
        let output = tokio::process::Command::new(Path::new(env!("CARGO_BIN_EXE_dkim-operator")))
            .args(args)
            .args(if args.len() > 1 { &["--health-addr=127.0.0.1:0"][..] } else { &[] })
            .kill_on_drop(true)
            .output()
            .await
            .unwrap();
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(!output.status.success() && text.contains(says), "{args:?}: {text}");
    }
}
