//! Mail flows through real servers whose signers are fed by `dkim-operator sync`, while keys are rolled: every
//! message leaves signed, and verifies with verifiers that share no code with the signer.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "common/flow.rs"]
mod flow;
#[path = "common/judges.rs"]
mod judges;
#[path = "common/kept.rs"]
mod kept;
#[path = "common/keys.rs"]
mod keys;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use dkim_operator::model::key::KeyKind::{self, Ed25519, Rsa2048};
use dkim_testbed::mail::{Exim, EximDkim, Maddy, Postfix, Sink};
use dkim_testbed::{Address, Process, Scratch, Spec};
use flow::{Arrivals, Pace};
use judges::{Judge, Judges, rspamd_base};
use kept::{AFTER_GRACE, Sync, check_files};
use keys::{KeyDns, PATIENCE, Rolling, ids};

const ROTATIONS: usize = 3;
const PROVIDER: &str = "contoso.onmail.example";

const RSA: &[KeyKind] = &[Rsa2048];
const BOTH: &[KeyKind] = &[Rsa2048, Ed25519];

/// The domains of the tests: one with the kinds of keys that are named first, and an international one and one that is
/// signed as the provider with those that are named then.
fn domains(dns: &KeyDns, keys: &Path, first: &[KeyKind], others: &[KeyKind], default: bool) -> Vec<Rolling> {
    let plain = ["selector1", "selector2"];
    let mut all = vec![
        Rolling::new(dns, keys, "contoso.com", "contoso.com", plain, first),
        Rolling::new(dns, keys, "xn--bcher-kva.example", "xn--bcher-kva.example", plain, others),
    ];
    if default {
        let selectors = ["selector1-fabrikam-com", "selector2-fabrikam-com"];
        all.push(Rolling::new(dns, keys, "fabrikam.com", PROVIDER, selectors, others));
    }
    all
}

async fn dns() -> KeyDns {
    KeyDns::start(&["contoso.com", "xn--bcher-kva.example", "fabrikam.com", PROVIDER]).await
}

/// Rolls keys under mail; the signer must have moved when old keys go.
async fn roll(
    name: &str,
    dns: &KeyDns,
    server: SocketAddr,
    arrivals: &mut Arrivals<'_>,
    domains: &mut [Rolling],
    log: impl Fn() -> String,
) {
    let pace = Pace { rotations: ROTATIONS, pause: AFTER_GRACE };
    flow::roll(name, pace, dns, server, arrivals, domains, log).await;
}

/// A milter socket that listens.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn postfix_and_opendkim() {
    let dns = dns().await;
    let mut rolling = Vec::new();
    let scratch = Scratch::passable("opendkim").unwrap();
    let pid_file = scratch.join("pid");
    let extra = ["--reload-pid-file".to_owned(), pid_file.display().to_string()];
    let sync = Sync::start("opendkim", "opendkim", &extra, |keys| {
        rolling = domains(&dns, keys, RSA, RSA, true);
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
    opendkim.listens(PATIENCE, "it listens", holding.port(8891)).await.unwrap();
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
    // In the foreground it writes no pid file itself.
    let mut process = Spec::new("rspamd", "/bin/sh", scratch.join("out"))
        .args(["-c", "echo $$ >\"$0\"; exec /usr/bin/rspamd \"$@\""])
        .arg(scratch.join("pid"))
        .args(["-f", "-u", "_rspamd", "-g", "_rspamd", "-c"])
        .arg(scratch.join("rspamd.conf"))
        .spawn()
        .unwrap();
    process.listens(PATIENCE, "it listens", milter).await.unwrap();
    process
}

/// A way to have rspamd sign with the files that `sync` keeps.
struct Way<'a> {
    /// What it is called.
    what: &'a str,
    /// rspamd is told when the files are new.
    told: bool,
    /// Makes the domains.
    make: fn(&KeyDns, &Path) -> Vec<Rolling>,
    /// Lines for rspamd in Lua, and its section dkim_signing.
    config: fn(&Sync) -> (String, String),
    ask: &'a [Judge],
    /// How many key files there are in the end.
    files: usize,
}

/// Mail through Postfix and rspamd while keys are rolled.
async fn through_rspamd(way: Way<'_>) {
    let dns = dns().await;
    let mut rolling = Vec::new();
    let (scratch, holding) = (Scratch::passable("rspamd").unwrap(), Address::allocate().unwrap());
    let pid = ["--reload-pid-file".to_owned(), scratch.join("pid").display().to_string()];
    let extra: &[String] = if way.told { &pid } else { &[] };
    let sync = Sync::start("rspamd", "_rspamd", extra, |keys| rolling = (way.make)(&dns, keys)).await;
    let (lua, dkim_signing) = (way.config)(&sync);
    let process = rspamd(&scratch, &dns, &holding, &lua, &dkim_signing).await;
    let sink = Sink::start().await.unwrap();
    let postfix = Postfix::start(&format!("inet:{}:11332", holding.ip()), sink.address(), "").await.unwrap();
    let judges = Judges::start(dns.resolver()).await;
    let mut arrivals = Arrivals::new(&sink, &judges, way.ask);
    let read = |name: &str| std::fs::read_to_string(scratch.join(name)).unwrap_or_default();
    let log = || format!("{}\n{}\n{}", sync.process.log_tail(20), read("rspamd.log"), postfix.log());
    roll(way.what, &dns, postfix.address(), &mut arrivals, &mut rolling, log).await;
    check_files(&sync, "_rspamd", way.files).await;
    drop(process);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn postfix_and_rspamd_with_every_signature() {
    const CONDITION: &str =
        "  sign_condition = \"return function(task) return dkim_operator_signatures(task) end\";\n";
    through_rspamd(Way {
        what: "Postfix + rspamd (signatures.map)",
        told: false,
        make: |dns, keys| domains(dns, keys, BOTH, RSA, true),
        config: |sync| (format!("lua = \"{}\";\n", sync.path("dkim_operator.lua")), CONDITION.to_owned()),
        // Mail::DKIM knows no Ed25519.
        ask: &[Judge::Dkimpy, Judge::OpenDkim, Judge::MailAuth],
        files: 4,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn postfix_and_rspamd_with_maps() {
    through_rspamd(Way {
        what: "Postfix + rspamd (selector_map)",
        told: false,
        make: |dns, keys| domains(dns, keys, RSA, RSA, false),
        config: |sync| (String::new(), sync.documented("rspamd-maps")),
        ask: &[Judge::Dkimpy, Judge::MailDkim, Judge::OpenDkim, Judge::MailAuth],
        files: 2,
    })
    .await;
}

/// It reads its section at a reload, for which its workers are replaced: mail that comes meanwhile is deferred.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn postfix_and_rspamd_with_a_section_of_domains() {
    through_rspamd(Way {
        what: "Postfix + rspamd (domain.conf)",
        told: true,
        make: |dns, keys| domains(dns, keys, BOTH, RSA, false),
        config: |sync| (String::new(), sync.documented("rspamd-domain")),
        ask: &[Judge::Dkimpy, Judge::OpenDkim, Judge::MailAuth],
        files: 3,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn exim() {
    let dns = dns().await;
    let mut rolling = Vec::new();
    let sync =
        Sync::start("exim", "Debian-exim", &[], |keys| rolling = domains(&dns, keys, BOTH, RSA, true)).await;
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
async fn postfix_and_dkimpy(name: &str, kinds: &'static [KeyKind], table: &str, ask: &[Judge]) {
    let dns = dns().await;
    let mut rolling = Vec::new();
    let scratch = Scratch::passable("dkimpy").unwrap();
    let (wish, pid_file) = (scratch.join("restart"), scratch.join("pid"));
    let extra = ["--", "touch", wish.to_str().unwrap()].map(str::to_owned);
    let sync = Sync::start("dkimpy-milter", "dkimpy-milter", &extra, |keys| {
        rolling = domains(&dns, keys, kinds, kinds, true);
    })
    .await;
    let holding = Address::allocate().unwrap();
    let config = format!(
        "UserID dkimpy-milter\nMode s\nSyslog no\nPidFile {}\nSocket inet:8892@{}\nInternalHosts 127.0.0.0/8\n\
         Canonicalization relaxed/relaxed\n{}{}",
        pid_file.display(),
        holding.ip(),
        sync.documented("dkimpy"),
        table.replace("/dkim/", &format!("{}/", sync.dir.display())),
    );
    std::fs::write(scratch.join("conf"), config).unwrap();
    let milter = holding.port(8892);
    let mut process = Spec::new("dkimpy-milter", "/usr/bin/dkimpy-milter", scratch.join("log"))
        .arg(scratch.join("conf"))
        .stop_within(Duration::from_secs(3))
        .spawn()
        .unwrap();
    process.listens(PATIENCE, "it listens", milter).await.unwrap();
    let log_file = process.log().to_owned();
    let supervisor = tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(50)).await;
            if std::fs::remove_file(&wish).is_ok() {
                process.stop().await.unwrap();
                drop(std::fs::remove_file(&pid_file));
                process.start().unwrap();
                process.listens(PATIENCE, "it listens", milter).await.unwrap();
            }
        }
    });
    let sink = Sink::start().await.unwrap();
    let postfix = Postfix::start(&format!("inet:{}:8892", holding.ip()), sink.address(), "").await.unwrap();
    let judges = Judges::start(dns.resolver()).await;
    let mut arrivals = Arrivals::new(&sink, &judges, ask);
    // It compares the domain in From: letter by letter, and does not sign for one in capitals.
    arrivals.kinds = 3;
    let log = || {
        let milter = std::fs::read_to_string(&log_file).unwrap_or_default();
        format!("{}\n{milter}\n{}", sync.process.log_tail(20), postfix.log())
    };
    roll(name, &dns, postfix.address(), &mut arrivals, &mut rolling, log).await;
    check_files(&sync, "dkimpy-milter", 3 * kinds.len()).await;
    supervisor.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn postfix_and_dkimpy_milter() {
    let ask = [Judge::MailDkim, Judge::OpenDkim, Judge::Rspamd, Judge::MailAuth];
    postfix_and_dkimpy("Postfix + dkimpy-milter", RSA, "", &ask).await;
}

/// Every domain has both kinds of keys, and every message both signatures.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn postfix_and_dkimpy_milter_with_both_kinds_of_keys() {
    let table = "KeyTableEd25519 file:/dkim/KeyTableEd25519";
    assert!(include_str!("../docs/signers.md").contains(&format!("`{table}`")), "as documented");
    let ask = [Judge::OpenDkim, Judge::Rspamd, Judge::MailAuth];
    postfix_and_dkimpy("Postfix + dkimpy-milter, RSA and Ed25519", BOTH, &format!("{table}\n"), &ask).await;
}

/// It reads its files at start, too, and signs by the envelope's domain.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn maddy() {
    let dns = dns().await;
    let mut rolling = Vec::new();
    let scratch = Scratch::new("maddy").unwrap();
    let wish = scratch.join("restart");
    let extra = ["--", "touch", wish.to_str().unwrap()].map(str::to_owned);
    let sync = Sync::start("maddy", "root", &extra, |keys| {
        rolling = domains(&dns, keys, BOTH, RSA, false);
    })
    .await;
    let documented = sync.documented("maddy");
    let (top, example) = documented.split_once("\n\n").unwrap();
    assert!(example.starts_with("source contoso.com {\n    import dkim-contoso.com\n"), "{example}");
    let sources: Vec<_> =
        rolling.iter().map(|d| (d.domain.clone(), format!("import dkim-{}", d.domain))).collect();
    let sink = Sink::start().await.unwrap();
    let mut server = Maddy::start(top, &sources, sink.address()).await.unwrap();
    let (address, log_file) = (server.address(), server.log().to_owned());
    let supervisor = tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(50)).await;
            if std::fs::remove_file(&wish).is_ok() {
                server.restart().await.unwrap();
            }
        }
    });
    let judges = Judges::start(dns.resolver()).await;
    let ask = [Judge::Dkimpy, Judge::OpenDkim, Judge::MailAuth];
    let mut arrivals = Arrivals::new(&sink, &judges, &ask);
    arrivals.kinds = 1;
    let log = || {
        let server = std::fs::read_to_string(&log_file).unwrap_or_default();
        format!("{}\n{server}", sync.process.log_tail(20))
    };
    roll("maddy", &dns, address, &mut arrivals, &mut rolling, log).await;
    check_files(&sync, "root", 3).await;
    supervisor.abort();
}
