//! Mail flows through real servers whose signers are fed by `dkim-operator sync`, while keys are rolled: every
//! message leaves signed, and verifies with verifiers that share no code with the signer.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "common/flow.rs"]
mod flow;
#[path = "common/judges.rs"]
mod judges;
#[path = "common/keys.rs"]
mod keys;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dkim_operator::model::key::KeyKind::{self, Ed25519, Rsa2048};
use dkim_testbed::mail::{Exim, EximDkim, Postfix, Sink};
use dkim_testbed::{Address, Process, Scratch, Spec, eventually};
use flow::{Arrivals, Flow};
use judges::{Judge, Judges, http, rspamd_base};
use keys::{KeyDns, PATIENCE, Rolling, ids};

const ROTATIONS: usize = 3;
/// How long sync keeps old keys. A signer that has not moved by then cannot sign any more.
const GRACE: &str = "4s";
const AFTER_GRACE: Duration = Duration::from_secs(5);
const PROVIDER: &str = "contoso.onmail.example";

/// `dkim-operator sync` for one signer.
struct Sync {
    process: Process,
    dir: PathBuf,
    health: SocketAddr,
    _scratch: Scratch,
    _tree: tempfile::TempDir,
    _holding: Address,
}

impl Sync {
    /// `make` fills the directory of mounted Secrets first.
    async fn start(format: &str, user: &str, extra: &[String], make: impl FnOnce(&Path)) -> Self {
        let scratch = Scratch::new("sync").unwrap();
        let holding = Address::allocate().unwrap();
        // OpenDKIM wants no directory above its keys that everybody may write to, as /tmp is.
        let tree = tempfile::Builder::new().prefix("dkim-sync-").tempdir_in("/run").unwrap();
        std::fs::set_permissions(tree.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
        let (dir, keys) = (tree.path().join("out"), scratch.join("keys"));
        std::fs::create_dir(&keys).unwrap();
        make(&keys);
        let health = holding.port(8080);
        let (uid, gid) = ids(user);
        let mut process = Spec::new("sync", env!("CARGO_BIN_EXE_dkim-operator"), scratch.join("log"))
            .args(["sync", "--format", format, "--look-every", "200ms", "--grace", GRACE, "--dir"])
            .arg(&dir)
            .arg("--key-dir")
            .arg(&keys)
            .args(["--owner", &format!("{uid}:{gid}"), "--health-addr", &health.to_string()])
            .args(extra)
            .spawn()
            .unwrap();
        process
            .ready(PATIENCE, "the first files are there", || async move {
                http(health, "GET /readyz", &[], b"").await.map(|_| ())
            })
            .await
            .unwrap();
        Self { process, dir, health, _scratch: scratch, _tree: tree, _holding: holding }
    }

    fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    /// What docs/signers.md tells people to write, for this directory.
    fn documented(&self, signer: &str) -> String {
        let page = include_str!("../docs/signers.md");
        let block = page.split(&format!("```{signer}\n")).nth(1).and_then(|rest| rest.split("```").next());
        let block = block.unwrap_or_else(|| panic!("docs/signers.md has no block for {signer}"));
        block.replace("/dkim/", &format!("{}/", self.dir.display()))
    }
}

/// The domains of the tests: one with two signatures where the signer can, one that is signed as the provider, and
/// an international one.
fn domains(dns: &KeyDns, keys: &Path, dual: bool, default: bool) -> Vec<Rolling> {
    let kinds: &[KeyKind] = if dual { &[Rsa2048, Ed25519] } else { &[Rsa2048] };
    let plain = ["selector1", "selector2"];
    let mut all = vec![
        Rolling::new(dns, keys, "contoso.com", "contoso.com", plain, kinds),
        Rolling::new(dns, keys, "xn--bcher-kva.example", "xn--bcher-kva.example", plain, &[Rsa2048]),
    ];
    if default {
        let selectors = ["selector1-fabrikam-com", "selector2-fabrikam-com"];
        all.push(Rolling::new(dns, keys, "fabrikam.com", PROVIDER, selectors, &[Rsa2048]));
    }
    all
}

async fn dns() -> KeyDns {
    KeyDns::start(&["contoso.com", "xn--bcher-kva.example", "fabrikam.com", PROVIDER]).await
}

/// Rolls the keys of all domains while mail flows, and returns how many messages were verified.
async fn roll(
    name: &str,
    dns: &KeyDns,
    server: SocketAddr,
    arrivals: &mut Arrivals<'_>,
    domains: &mut [Rolling],
    log: impl Fn() -> String,
) -> usize {
    let began = Instant::now();
    let flow = Flow::start(server, domains.iter().map(|d| d.domain.clone()).collect(), arrivals.kinds);
    let mut verified_early = 0;
    for rotation in 0..=ROTATIONS {
        if rotation > 0 {
            domains.iter_mut().for_each(Rolling::switch);
        }
        let at_least = flow.sent() + 2 * domains.len();
        let wait = Instant::now();
        loop {
            arrivals.collect();
            let moved = domains.iter().all(|d| {
                let expected: BTreeSet<String> = d.selectors().into_iter().collect();
                arrivals.latest.get(&d.domain) == Some(&expected)
            });
            if moved && flow.sent() >= at_least {
                break;
            }
            assert!(
                wait.elapsed() < PATIENCE,
                "{name}: rotation {rotation} is not taken up: {:?}, {} sent, {} arrived\n{}",
                arrivals.latest,
                flow.sent(),
                arrivals.count,
                log()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // What was signed with the old keys arrives and is verified while they are still published.
        let until_now = flow.sent();
        eventually(PATIENCE, "what was sent has arrived", || {
            arrivals.collect();
            let arrived = arrivals.count;
            async move { if arrived >= until_now { Ok(()) } else { Err(format!("{arrived} of {until_now}")) } }
        })
        .await
        .unwrap();
        tokio::time::sleep(AFTER_GRACE).await;
        arrivals.verify().await;
        verified_early = arrivals.count;
        assert!(arrivals.complaints.is_empty(), "{name}: {:#?}\n{}", arrivals.complaints, log());
        // From here a signature with the old key of a slot is unverifiable.
        domains.iter_mut().for_each(|domain| domain.refill(dns));
    }
    let sent = flow.stop().await;
    eventually(PATIENCE, "everything has arrived", || {
        arrivals.collect();
        let arrived = arrivals.count;
        async move { if arrived == sent { Ok(()) } else { Err(format!("{arrived} of {sent}")) } }
    })
    .await
    .unwrap();
    arrivals.verify().await;
    assert!(arrivals.complaints.is_empty(), "{name}: {:#?}\n{}", arrivals.complaints, log());
    assert!(verified_early > ROTATIONS * domains.len());
    println!(
        "{name}: {ROTATIONS} rotations, {sent} messages sent, {} verified by each of {}, 0 unsigned, 0 unverifiable, {:.0?}",
        arrivals.count,
        arrivals.ask.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        began.elapsed()
    );
    arrivals.count
}

/// Old key files are gone, what is there has the right owner and mode.
async fn check_files(sync: &Sync, user: &str, expected_keys: usize) {
    use std::os::unix::fs::MetadataExt;
    let (uid, gid) = ids(user);
    let keys: Vec<_> = std::fs::read_dir(sync.dir.join("keys")).unwrap().flatten().collect();
    assert_eq!(keys.len(), expected_keys, "{keys:?}\n{}", sync.process.log_text());
    for path in keys.iter().map(std::fs::DirEntry::path) {
        let metadata = std::fs::metadata(&path).unwrap();
        assert_eq!((metadata.mode() & 0o7777, metadata.uid(), metadata.gid()), (0o600, uid, gid), "{path:?}");
    }
    let log = sync.process.log_text();
    assert!(!log.contains("PRIVATE") && !log.contains("ERROR"), "{log}");
    let metrics = http(sync.health, "GET /metrics", &[], b"").await.unwrap();
    for line in ["dkim_operator_sync_failures_total 0", "dkim_operator_sync_unreadable_sources 0"] {
        assert!(metrics.lines().any(|l| l == line), "{line}: {metrics}");
    }
    let signatures = metrics.lines().find_map(|l| l.strip_prefix("dkim_operator_sync_signatures "));
    assert_eq!(signatures, Some(expected_keys.to_string().as_str()), "{metrics}");
}

/// A milter socket that listens.
async fn listening(process: &mut Process, address: SocketAddr) {
    process
        .ready(
            PATIENCE,
            "it listens",
            || async move { tokio::net::TcpStream::connect(address).await.map(|_| ()) },
        )
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn postfix_and_opendkim() {
    let dns = dns().await;
    let mut rolling = Vec::new();
    let scratch = Scratch::passable("opendkim").unwrap();
    let pid_file = scratch.join("pid");
    let extra = ["--reload-pid-file".to_owned(), pid_file.display().to_string()];
    let sync = Sync::start("opendkim", "opendkim", &extra, |keys| {
        rolling = domains(&dns, keys, false, true);
    })
    .await;
    let holding = Address::allocate().unwrap();
    let config = format!(
        "UserID opendkim\nMode s\nSyslog no\nPidFile {}\nSocket inet:8891@{}\nInternalHosts 127.0.0.0/8\n{}",
        pid_file.display(),
        holding.ip(),
        sync.documented("opendkim"),
    );
    std::fs::write(scratch.join("conf"), config).unwrap();
    std::fs::set_permissions(scratch.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
    let mut opendkim = Spec::new("opendkim", "/usr/sbin/opendkim", scratch.join("log"))
        .arg("-f")
        .arg("-x")
        .arg(scratch.join("conf"))
        .stop_within(Duration::from_secs(3))
        .spawn()
        .unwrap();
    listening(&mut opendkim, holding.port(8891)).await;
    let sink = Sink::start().await.unwrap();
    let postfix = Postfix::start(&format!("inet:{}:8891", holding.ip()), sink.address(), "").await.unwrap();
    let judges = Judges::start(dns.resolver()).await;
    let ask = [Judge::Dkimpy, Judge::MailDkim, Judge::Rspamd, Judge::MailAuth];
    let mut arrivals = Arrivals::new(&sink, &judges, &ask);
    let log = || format!("{}\n{}\n{}", sync.process.log_tail(20), opendkim.log_tail(20), postfix.log());
    roll("Postfix + OpenDKIM", &dns, postfix.address(), &mut arrivals, &mut rolling, log).await;
    check_files(&sync, "opendkim", 3).await;
}

/// An rspamd that signs, as a milter.
async fn rspamd(
    scratch: &Scratch,
    dns: &KeyDns,
    holding: &Address,
    lua: &str,
    dkim_signing: &str,
) -> Process {
    let milter = holding.port(11332);
    let config = format!(
        "{}{lua}worker \"rspamd_proxy\" {{\n  bind_socket = \"{milter}\"; milter = yes; count = 1; timeout = 60s;\n  \
         upstream \"local\" {{ default = yes; self_scan = yes; }}\n}}\n\
         modules {{ path = \"/usr/share/rspamd/plugins/dkim_signing.lua\"; }}\n\
         dkim_signing {{\n{dkim_signing}}}\n",
        rspamd_base(scratch.path(), dns.resolver())
    );
    std::fs::write(scratch.join("rspamd.conf"), config).unwrap();
    let (uid, gid) = ids("_rspamd");
    std::os::unix::fs::chown(scratch.path(), Some(uid), Some(gid)).unwrap();
    let mut process = Spec::new("rspamd", "/usr/bin/rspamd", scratch.join("out"))
        .args(["-f", "-u", "_rspamd", "-g", "_rspamd", "-c"])
        .arg(scratch.join("rspamd.conf"))
        .spawn()
        .unwrap();
    listening(&mut process, milter).await;
    process
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn postfix_and_rspamd_with_every_signature() {
    let dns = dns().await;
    let mut rolling = Vec::new();
    let sync = Sync::start("rspamd", "_rspamd", &[], |keys| rolling = domains(&dns, keys, true, true)).await;
    let (scratch, holding) = (Scratch::passable("rspamd").unwrap(), Address::allocate().unwrap());
    let lua = format!("lua = \"{}\";\n", sync.path("dkim_operator.lua"));
    let condition =
        "  sign_condition = \"return function(task) return dkim_operator_signatures(task) end\";\n";
    let process = rspamd(&scratch, &dns, &holding, &lua, condition).await;
    let sink = Sink::start().await.unwrap();
    let postfix = Postfix::start(&format!("inet:{}:11332", holding.ip()), sink.address(), "").await.unwrap();
    let judges = Judges::start(dns.resolver()).await;
    // Mail::DKIM knows no Ed25519.
    let ask = [Judge::Dkimpy, Judge::OpenDkim, Judge::MailAuth];
    let mut arrivals = Arrivals::new(&sink, &judges, &ask);
    let read = |name: &str| std::fs::read_to_string(scratch.join(name)).unwrap_or_default();
    let log = || format!("{}\n{}\n{}", sync.process.log_tail(20), read("rspamd.log"), postfix.log());
    roll("Postfix + rspamd (signatures.map)", &dns, postfix.address(), &mut arrivals, &mut rolling, log)
        .await;
    check_files(&sync, "_rspamd", 4).await;
    drop(process);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn postfix_and_rspamd_with_maps() {
    let dns = dns().await;
    let mut rolling = Vec::new();
    let sync =
        Sync::start("rspamd", "_rspamd", &[], |keys| rolling = domains(&dns, keys, false, false)).await;
    let (scratch, holding) = (Scratch::passable("rspamd").unwrap(), Address::allocate().unwrap());
    let maps = sync.documented("rspamd-maps");
    let process = rspamd(&scratch, &dns, &holding, "", &maps).await;
    let sink = Sink::start().await.unwrap();
    let postfix = Postfix::start(&format!("inet:{}:11332", holding.ip()), sink.address(), "").await.unwrap();
    let judges = Judges::start(dns.resolver()).await;
    let ask = [Judge::Dkimpy, Judge::MailDkim, Judge::OpenDkim, Judge::MailAuth];
    let mut arrivals = Arrivals::new(&sink, &judges, &ask);
    let read = |name: &str| std::fs::read_to_string(scratch.join(name)).unwrap_or_default();
    let log = || format!("{}\n{}\n{}", sync.process.log_tail(20), read("rspamd.log"), postfix.log());
    roll("Postfix + rspamd (selector_map)", &dns, postfix.address(), &mut arrivals, &mut rolling, log).await;
    check_files(&sync, "_rspamd", 2).await;
    drop(process);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn exim() {
    let dns = dns().await;
    let mut rolling = Vec::new();
    let sync =
        Sync::start("exim", "Debian-exim", &[], |keys| rolling = domains(&dns, keys, true, true)).await;
    let sink = Sink::start().await.unwrap();
    let exim = Exim::start(&EximDkim(sync.documented("exim")), sink.address()).await.unwrap();
    let judges = Judges::start(dns.resolver()).await;
    let ask = [Judge::Dkimpy, Judge::OpenDkim, Judge::Rspamd, Judge::MailAuth];
    let mut arrivals = Arrivals::new(&sink, &judges, &ask);
    let log = || format!("{}\n{}", sync.process.log_tail(20), exim.log());
    roll("Exim", &dns, exim.address(), &mut arrivals, &mut rolling, log).await;
    check_files(&sync, "Debian-exim", 4).await;
}

/// It reads its files at start and never again: the hook asks for a restart. Mail that comes meanwhile is deferred.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn postfix_and_dkimpy_milter() {
    let dns = dns().await;
    let mut rolling = Vec::new();
    let scratch = Scratch::passable("dkimpy").unwrap();
    let (wish, pid_file) = (scratch.join("restart"), scratch.join("pid"));
    let extra = ["--", "touch", wish.to_str().unwrap()].map(str::to_owned);
    let sync = Sync::start("dkimpy-milter", "dkimpy-milter", &extra, |keys| {
        rolling = domains(&dns, keys, false, true);
    })
    .await;
    let holding = Address::allocate().unwrap();
    let config = format!(
        "UserID dkimpy-milter\nMode s\nSyslog no\nPidFile {}\nSocket inet:8892@{}\nInternalHosts 127.0.0.0/8\n\
         Canonicalization relaxed/relaxed\n{}",
        pid_file.display(),
        holding.ip(),
        sync.documented("dkimpy"),
    );
    std::fs::write(scratch.join("conf"), config).unwrap();
    let milter = holding.port(8892);
    let mut process = Spec::new("dkimpy-milter", "/usr/bin/dkimpy-milter", scratch.join("log"))
        .arg(scratch.join("conf"))
        .stop_within(Duration::from_secs(3))
        .spawn()
        .unwrap();
    listening(&mut process, milter).await;
    let log_file = process.log().to_owned();
    let supervisor = tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(50)).await;
            if std::fs::remove_file(&wish).is_ok() {
                process.stop().await.unwrap();
                drop(std::fs::remove_file(&pid_file));
                process.start().unwrap();
                listening(&mut process, milter).await;
            }
        }
    });
    let sink = Sink::start().await.unwrap();
    let postfix = Postfix::start(&format!("inet:{}:8892", holding.ip()), sink.address(), "").await.unwrap();
    let judges = Judges::start(dns.resolver()).await;
    let ask = [Judge::MailDkim, Judge::OpenDkim, Judge::Rspamd, Judge::MailAuth];
    let mut arrivals = Arrivals::new(&sink, &judges, &ask);
    // It compares the domain in From: letter by letter, and does not sign for one in capitals.
    arrivals.kinds = 3;
    let log = || {
        let milter = std::fs::read_to_string(&log_file).unwrap_or_default();
        format!("{}\n{milter}\n{}", sync.process.log_tail(20), postfix.log())
    };
    roll("Postfix + dkimpy-milter", &dns, postfix.address(), &mut arrivals, &mut rolling, log).await;
    check_files(&sync, "dkimpy-milter", 3).await;
    supervisor.abort();
}
