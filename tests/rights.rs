//! The chart's rights are exactly what the operator uses: the API server's audit log is compared with the roles
//! after a whole life of a domain.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeSet;
use std::path::Path;

use common::{Outcome, World};
use dkim_operator::api::ConditionType;
use dkim_testbed::Options;
use dkim_testbed::operator::NAMESPACE;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, PostParams};
use serde_json::{Value, json};

const POLICY: &str = "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\n\
    rules:\n- level: Metadata\n  userGroups: [\"system:serviceaccounts\"]\n- level: None\n";

/// Asked for only where the watch shows a domain before its namespace, which no test can arrange.
const IN_A_RACE: &str = "get /namespaces";

/// `VERB GROUP/RESOURCE`.
type Rights = BTreeSet<String>;

/// What ServiceAccounts of the operator asked for, and what of it was refused.
fn asked(log: &Path, account: &str) -> (Rights, Rights) {
    let text = std::fs::read_to_string(log).expect("the audit log can be read");
    let user = format!("system:serviceaccount:{NAMESPACE}:{account}");
    let (mut asked, mut refused) = (Rights::new(), Rights::new());
    for event in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let object = &event["objectRef"];
        if event["user"]["username"] != json!(user) || object.is_null() {
            continue;
        }
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut resource = format!("{}/{}", word(&object["apiGroup"]), word(&object["resource"]));
        if let Some(sub) = object["subresource"].as_str() {
            resource = format!("{resource}/{sub}");
        }
        let right = format!("{} {resource}", word(&event["verb"]));
        if event["responseStatus"]["code"] == json!(403) {
            refused.insert(format!("{right} in {}", word(&object["namespace"])));
        }
        asked.insert(right);
    }
    (asked, refused)
}

/// What the roles bound to a ServiceAccount grant.
async fn granted(world: &World, account: &str) -> Rights {
    let list = |kind: &'static str| async move {
        let text = world.plane.kubectl(["get", kind, "-A", "-o", "json"]).await.unwrap().ok().unwrap();
        serde_json::from_str::<Value>(&text).unwrap()["items"].as_array().cloned().unwrap()
    };
    let roles: Vec<Value> = [list("roles").await, list("clusterroles").await].concat();
    let bindings: Vec<Value> = [list("rolebindings").await, list("clusterrolebindings").await].concat();
    let mut rights = Rights::new();
    for binding in bindings {
        let subjects = binding["subjects"].as_array().cloned().unwrap_or_default();
        if !subjects.iter().any(|s| s["name"] == account && s["namespace"] == NAMESPACE) {
            continue;
        }
        let of_binding = |role: &&Value| {
            role["kind"] == binding["roleRef"]["kind"]
                && role["metadata"]["name"] == binding["roleRef"]["name"]
                && (role["kind"] == "ClusterRole"
                    || role["metadata"]["namespace"] == binding["metadata"]["namespace"])
        };
        let role = roles.iter().find(of_binding).expect("the role is there");
        for rule in role["rules"].as_array().unwrap() {
            let words = |field: &str| {
                let words = rule[field].as_array().unwrap().iter();
                words.map(|w| w.as_str().unwrap().to_owned()).collect::<Vec<_>>()
            };
            for (group, resource, verb) in words("apiGroups").iter().flat_map(|group| {
                let verbs = words("verbs");
                words("resources").into_iter().flat_map(move |resource| {
                    verbs.clone().into_iter().map(move |verb| (group.clone(), resource.clone(), verb))
                })
            }) {
                rights.insert(format!("{verb} {group}/{resource}"));
            }
        }
    }
    rights
}

/// A domain whose records are published by hand: what publishers ask for.
async fn published_elsewhere(world: &World) -> Outcome {
    let extra = json!({ "keyNamespace": NAMESPACE, "publish": { "method": "Manual" } });
    world.apply(&world.provider("manual", extra)).await?;
    let (namespace, domain) = (world.plane.namespace().await?, "manual.example");
    world.create(&namespace, domain, json!({ "providerRef": { "name": "manual" } })).await;
    world.until_condition(&namespace, domain, ConditionType::RecordsPublished, "False").await?;
    dkim_testbed::eventually(std::time::Duration::from_secs(30), "a publisher reports", || async {
        let set = world.record_sets().get(domain).await.map_err(|e| e.to_string())?;
        set.status.map(drop).ok_or_else(|| "nothing yet".to_owned())
    })
    .await?;
    world.plane.kubectl(["delete", "dkim", domain, "-n", &namespace, "--timeout=30s"]).await?.ok()?;
    Ok(())
}

/// A signer that has said good-bye: its Lease is taken away.
async fn a_signer_that_has_ended(world: &World) -> Outcome {
    let leases: Api<Lease> = Api::namespaced(world.client(), NAMESPACE);
    let lease = serde_json::from_value(json!({
        "metadata": {
            "name": "dkim-milter-gone",
            "labels": { "app.kubernetes.io/managed-by": "dkim-operator", "dkim-operator.io/signer": "milter" },
        },
        "spec": { "leaseDurationSeconds": 1 },
    }))?;
    leases.create(&PostParams::default(), &lease).await?;
    dkim_testbed::eventually(std::time::Duration::from_secs(30), "the Lease is gone", || async {
        let found = leases.get_opt("dkim-milter-gone").await.map_err(|e| e.to_string())?;
        if found.is_none() { Ok(()) } else { Err("it is there".to_owned()) }
    })
    .await?;
    Ok(())
}

/// A domain from its first key to its end, with everything that happens to it on the way.
async fn whole_life(world: &World) -> Outcome {
    let domain = "rights.example";
    let extra = json!({ "rotation": { "drain": "1s" } });
    let namespace = world.enabled(domain, extra).await?;
    let now = jiff::Timestamp::now().to_string();
    world.patch(&namespace, domain, json!({ "rotation": { "rotateAt": now } })).await;
    world
        .until(&namespace, domain, "the keys are switched and the former one is gone", |d| {
            let status = d.status.as_ref().ok_or("no status")?;
            let count = status.rotation.as_ref().map_or(0, |r| r.count);
            let drained = status.keys.iter().all(|k| k.phase != "Draining");
            if count >= 1 && drained { Ok(()) } else { Err(format!("{count} rotations")) }
        })
        .await?;
    world.patch(&namespace, domain, json!({ "enabled": false })).await;
    world.until_condition(&namespace, domain, ConditionType::Enabled, "False").await?;

    // Lost keys are reported by an Event that is counted up.
    let secrets: Api<Secret> = Api::namespaced(world.client(), NAMESPACE);
    let secret = format!("dkim-{domain}");
    for _ in 0..2 {
        let before = secrets.get(&secret).await?.uid();
        secrets.delete(&secret, &DeleteParams::default()).await?;
        dkim_testbed::eventually(std::time::Duration::from_secs(30), "a new Secret", || async {
            let found = secrets.get_opt(&secret).await.map_err(|e| e.to_string())?;
            if found.is_some_and(|s| s.uid() != before) { Ok(()) } else { Err("none".to_owned()) }
        })
        .await?;
    }

    // A tenant without a right to this name is refused; then the name gets free.
    let second = world.plane.namespace().await?;
    world.create(&second, domain, json!({})).await;
    world.until_condition(&second, domain, ConditionType::Accepted, "False").await?;
    for namespace in [&namespace, &second] {
        world.plane.kubectl(["delete", "dkim", domain, "-n", namespace, "--timeout=30s"]).await?.ok()?;
    }
    dkim_testbed::eventually(std::time::Duration::from_secs(30), "the record set is gone", || async {
        let found = world.record_sets().get_opt(domain).await.map_err(|e| e.to_string())?;
        if found.is_none() { Ok(()) } else { Err("it is there".to_owned()) }
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn what_is_granted_is_used_and_nothing_else_is_asked_for() -> Outcome {
    let dir = tempfile::tempdir()?;
    let (policy, log) = (dir.path().join("policy.yaml"), dir.path().join("audit.log"));
    std::fs::write(&policy, POLICY)?;
    let options = Options::new().apiserver_args([
        format!("--audit-policy-file={}", policy.display()),
        format!("--audit-log-path={}", log.display()),
        "--audit-log-mode=blocking".to_owned(),
    ]);
    // As the chart is by default: keys live in the operator's own namespace.
    let world = World::start_with(options, &[], json!({ "keyNamespace": NAMESPACE })).await?;
    whole_life(&world).await?;
    published_elsewhere(&world).await?;
    a_signer_that_has_ended(&world).await?;
    for role in ["controller", "dns"] {
        let account = format!("dkim-operator-{role}");
        let granted = granted(&world, &account).await;
        let (mut asked, refused) = asked(&log, &account);
        if granted.contains(IN_A_RACE) {
            asked.insert(IN_A_RACE.to_owned());
        }
        assert!(granted.len() > 1, "{account}: {granted:?}");
        assert!(refused.is_empty(), "{account} was refused {refused:#?}");
        assert_eq!(asked, granted, "{account}: asked for (left), granted (right)");
    }
    tenants_and_dns_servers_cannot_reach_keys(&world).await
}

/// `kubectl auth can-i` for people and ServiceAccounts that must not.
async fn tenants_and_dns_servers_cannot_reach_keys(world: &World) -> Outcome {
    let tenant = world.plane.namespace().await?;
    let binding = ["create", "rolebinding", "tenant", "--clusterrole=edit", "--user=tenant", "-n", &tenant];
    world.plane.kubectl(binding).await?.ok()?;
    let dns = format!("system:serviceaccount:{NAMESPACE}:dkim-operator-dns");
    let controller = format!("system:serviceaccount:{NAMESPACE}:dkim-operator-controller");
    for (user, verb, what, namespace, may) in [
        ("tenant", "create", "dkimdomains", tenant.as_str(), "yes"),
        ("tenant", "patch", "dkimdomains", &tenant, "yes"),
        ("tenant", "patch", "dkimdomains/status", &tenant, "no"),
        ("tenant", "update", "dkimdomains/status", &tenant, "no"),
        ("tenant", "create", "dkimrecordsets", &tenant, "no"),
        ("tenant", "get", "dkimrecordsets", NAMESPACE, "no"),
        ("tenant", "get", "secrets", NAMESPACE, "no"),
        ("tenant", "create", "dkimproviders", &tenant, "no"),
        (&dns, "get", "secrets", NAMESPACE, "no"),
        (&dns, "list", "secrets", NAMESPACE, "no"),
        (&dns, "list", "dkimdomains", &tenant, "no"),
        (&dns, "update", "dkimrecordsets", NAMESPACE, "no"),
        (&dns, "list", "dkimrecordsets", NAMESPACE, "yes"),
        (&controller, "get", "secrets", NAMESPACE, "yes"),
        (&controller, "get", "secrets", &tenant, "no"),
        (&controller, "list", "secrets", "kube-system", "no"),
        (&controller, "list", "leases", &tenant, "no"),
        (&controller, "update", "leases", NAMESPACE, "no"),
    ] {
        let (resource, sub) = what.split_once('/').unwrap_or((what, ""));
        let sub = format!("--subresource={sub}");
        let args = ["auth", "can-i", verb, resource, &sub, "-n", namespace, "--as", user];
        let said = world.plane.kubectl(args).await?.stdout;
        assert_eq!(said.trim(), may, "{user} {verb} {what} in {namespace}");
    }
    Ok(())
}
