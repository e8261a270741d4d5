//! The control plane: up and down, tokens, tools, faults.

use std::path::Path;
use std::time::{Duration, Instant};

use dkim_testbed::{ControlPlane, Options, Result, eventually};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{Api, DeleteParams, PostParams};

type Outcome = std::result::Result<(), Box<dyn std::error::Error>>;

fn gone(pid: u32) -> bool {
    !Path::new(&format!("/proc/{pid}")).exists()
}

fn is_zombie(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
}

fn config_map(name: &str) -> ConfigMap {
    let mut map = ConfigMap::default();
    map.metadata.name = Some(name.to_owned());
    map
}

#[tokio::test]
async fn starts_and_stops_twice_and_leaves_nothing() -> Outcome {
    for explicit in [true, false] {
        let plane = ControlPlane::start(Options::new().with_controller_manager()).await?;
        println!("ready after {:?}", plane.started_in());
        let namespace = plane.namespace().await?;
        let maps: Api<ConfigMap> = Api::namespaced(plane.admin()?, &namespace);
        maps.create(&PostParams::default(), &config_map("a")).await?;
        for (name, usage) in plane.usage().await? {
            println!("{name}: {} MB resident, {:?} CPU", usage.resident / 1_000_000, usage.cpu);
        }
        let processes = plane.processes().await;
        assert_eq!(processes.len(), 3);
        assert!(processes.iter().all(|(_, pid)| !gone(*pid)));
        let directory = plane.directory().to_owned();
        let stopping = Instant::now();
        if explicit {
            plane.stop().await?;
        } else {
            drop(plane);
        }
        println!("gone after {:?}", stopping.elapsed());
        assert!(processes.iter().all(|(_, pid)| gone(*pid)), "{processes:?}");
        assert!(!directory.exists());
    }
    Ok(())
}

#[tokio::test]
async fn a_namespace_goes_with_what_is_in_it() -> Outcome {
    let plane = ControlPlane::shared().await?;
    let name = plane.namespace().await?;
    let maps: Api<ConfigMap> = Api::namespaced(plane.admin()?, &name);
    maps.create(&PostParams::default(), &config_map("a")).await?;
    let namespaces: Api<Namespace> = Api::all(plane.admin()?);
    namespaces.delete(&name, &DeleteParams::default()).await?;
    eventually(Duration::from_secs(30), "the namespace is gone", || async {
        match namespaces.get_opt(&name).await {
            Ok(None) => Ok(()),
            Ok(Some(found)) => Err(format!("{:?}", found.status)),
            Err(error) => Err(error.to_string()),
        }
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn a_service_account_has_its_own_rights() -> Outcome {
    let plane = ControlPlane::shared().await?;
    let namespace = plane.namespace().await?;
    let token = plane.service_account_token(&namespace, "reader", Duration::from_secs(600)).await?;
    let maps: Api<ConfigMap> = Api::namespaced(plane.client_for_token(&token)?, &namespace);
    let refused = maps.list(&Default::default()).await;
    assert!(matches!(&refused, Err(kube::Error::Api(status)) if status.code == 403), "{refused:?}");

    let role = ["create", "role", "reader", "--verb=list", "--resource=configmaps", "-n", &namespace];
    plane.kubectl(role).await?.ok()?;
    let account = format!("--serviceaccount={namespace}:reader");
    let binding = ["create", "rolebinding", "reader", "--role=reader", &account, "-n", &namespace];
    plane.kubectl(binding).await?.ok()?;
    eventually(Duration::from_secs(10), "the role counts", || async { maps.list(&Default::default()).await })
        .await?;

    let as_user: Api<ConfigMap> = Api::namespaced(plane.client_as("somebody", &["people"])?, &namespace);
    assert!(as_user.list(&Default::default()).await.is_err());

    let kubeconfig = tempfile::NamedTempFile::new()?;
    plane.kubeconfig_for_token(&token, kubeconfig.path())?;
    let other = format!("--kubeconfig={}", kubeconfig.path().display());
    let who = plane.kubectl([&other, "auth", "whoami", "-o", "name"]).await?;
    let who = format!("{}{}", who.stdout, who.stderr);
    let listed = plane.kubectl([&other, "get", "configmaps", "-n", &namespace]).await?;
    assert!(listed.status.success(), "{who} {listed:?}");
    Ok(())
}

#[tokio::test]
async fn tools_work() -> Outcome {
    let plane = ControlPlane::shared().await?;
    let version = plane.kubectl(["version"]).await?.ok()?;
    assert!(version.contains("Server Version: v1.36.3"), "{version}");
    let namespace = plane.namespace().await?;
    let text = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: piped\n";
    plane.kubectl_with(["apply", "-n", &namespace, "-f", "-"], text).await?.ok()?;
    assert_eq!(plane.helm(["list", "-n", &namespace, "-q"]).await?.ok()?, "");
    let failed = plane.kubectl(["get", "nonsense"]).await?.ok();
    assert!(failed.as_ref().is_err_and(|error| error.to_string().contains("nonsense")), "{failed:?}");
    Ok(())
}

#[test]
fn tests_with_runtimes_of_their_own_share_one() -> Outcome {
    let use_it = || -> Result<String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime =
            runtime.map_err(|source| dkim_testbed::Error::Io { context: "runtime".into(), source })?;
        runtime.block_on(async {
            let plane = ControlPlane::shared().await?;
            plane.namespace().await?;
            Ok(plane.kubeconfig().display().to_string())
        })
    };
    // Each thread ends before the next begins; the control plane must outlive them.
    let first = std::thread::spawn(use_it).join().map_err(|_| "first")??;
    let second = std::thread::spawn(use_it).join().map_err(|_| "second")??;
    assert_eq!(first, second);
    Ok(())
}

#[tokio::test]
async fn faults_heal_and_objects_stay() -> Outcome {
    let plane = ControlPlane::start(Options::new()).await?;
    let namespace = plane.namespace().await?;
    let maps: Api<ConfigMap> = Api::namespaced(plane.admin()?, &namespace);
    maps.create(&PostParams::default(), &config_map("kept")).await?;

    plane.kill_apiserver().await?;
    assert!(maps.get("kept").await.is_err());
    let started = Instant::now();
    plane.restart_apiserver().await?;
    println!("kube-apiserver again after {:?}", started.elapsed());
    maps.get("kept").await?;

    plane.kill_etcd().await?;
    let hangs = tokio::time::timeout(Duration::from_secs(1), maps.get("kept")).await;
    assert!(hangs.is_err() || hangs.is_ok_and(|answer| answer.is_err()));
    let started = Instant::now();
    plane.restart_etcd().await?;
    println!("etcd again after {:?}", started.elapsed());
    eventually(Duration::from_secs(10), "the object is there", || maps.get("kept")).await?;

    plane.pause_apiserver().await?;
    let hangs = tokio::time::timeout(Duration::from_millis(300), maps.get("kept")).await;
    assert!(hangs.is_err());
    plane.resume_apiserver().await?;
    maps.get("kept").await?;
    plane.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_fixed_directory_keeps_the_cluster() -> Outcome {
    let directory = tempfile::tempdir()?;
    let options = Options::new().directory(directory.path());
    let plane = ControlPlane::start(options.clone()).await?;
    let namespace = plane.namespace().await?;
    plane.stop().await?;
    let plane = ControlPlane::start(options).await?;
    Api::<Namespace>::all(plane.admin()?).get(&namespace).await?;
    plane.stop().await?;
    Ok(())
}

#[tokio::test]
async fn one_that_is_reached_by_its_kubeconfig_is_left_alone() -> Outcome {
    let plane = ControlPlane::shared().await?;
    let other = ControlPlane::attach(plane.kubeconfig()).await?;
    let namespace = other.namespace().await?;
    plane.kubectl(["get", "namespace", &namespace]).await?.ok()?;
    other.kubectl(["get", "namespace", &namespace]).await?.ok()?;
    let token = other.service_account_token(&namespace, "somebody", Duration::from_secs(600)).await?;
    other.client_for_token(&token)?.apiserver_version().await?;
    let refused = other.restart_apiserver().await;
    assert!(matches!(refused, Err(dkim_testbed::Error::NotOwned { .. })), "{refused:?}");
    other.stop().await?;
    plane.namespace().await?;
    Ok(())
}

#[tokio::test]
async fn one_that_is_kept_goes_on() -> Outcome {
    let plane = ControlPlane::start(Options::new().keep()).await?;
    let (kubeconfig, directory) = (plane.kubeconfig(), plane.directory().to_owned());
    let processes = plane.processes().await;
    drop(plane);
    let again = ControlPlane::attach(&kubeconfig).await?;
    again.namespace().await?;
    let pids = std::fs::read_to_string(directory.join("pids"))?;
    for (name, pid) in processes {
        assert!(pids.contains(&format!("{pid} {name}")), "{pids}");
        let killed = std::process::Command::new("kill").args(["-KILL", &pid.to_string()]).status()?;
        assert!(killed.success());
        eventually(Duration::from_secs(5), "it has ended", || async {
            if gone(pid) || is_zombie(pid) { Ok(()) } else { Err("it runs") }
        })
        .await?;
    }
    std::fs::remove_dir_all(directory)?;
    Ok(())
}

#[tokio::test]
async fn a_bad_flag_is_told_with_the_log() -> Outcome {
    let failed = ControlPlane::start(Options::new().apiserver_args(["--no-such-flag"])).await;
    let text = failed.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(text.contains("kube-apiserver did not start: it ended with"), "{text}");
    assert!(text.contains("no-such-flag"), "{text}");
    Ok(())
}
