//! The signers that are measured, each with a unix socket.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use dkim_operator::model::key::PrivateKey;
use dkim_testbed::Address;

use crate::keys::mount;
use crate::load::{Connection, cpu_of, message};

const DOMAIN: &str = "bench.example";
/// How long a signer may take to listen.
const PATIENCE: Duration = Duration::from_secs(60);

pub trait Signer {
    fn name(&self) -> &'static str;
    fn socket(&self) -> &Path;
    /// Its processes.
    fn pids(&self) -> Vec<u32>;

    fn cpu(&self) -> Duration {
        self.pids().into_iter().map(cpu_of).sum()
    }

    /// It signs.
    fn check(&self) {
        assert!(message(DOMAIN).len() > 10_240);
        let selector = Connection::open(self.socket()).selector(DOMAIN);
        assert!(selector.starts_with("selector"), "{}: {selector}", self.name());
    }
}

/// A process that ends with this value: TERM, then KILL, by its id.
pub struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).spawn().expect("the program is installed: testbed/packages.sh"))
    }

    fn id(&self) -> u32 {
        self.0.id()
    }

    fn wait_for(&mut self, what: &str, done: impl Fn() -> bool) {
        let begin = Instant::now();
        while !done() {
            assert!(self.0.try_wait().expect("a process").is_none(), "it ended before {what}");
            assert!(begin.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let pid = i32::try_from(self.id()).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(5) && self.0.try_wait().is_ok_and(|s| s.is_none()) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// dkim-operator milter.
pub struct Ours {
    process: Running,
    socket: PathBuf,
    _scratch: tempfile::TempDir,
    _health: Address,
}

pub fn ours(key: &PrivateKey) -> Box<dyn Signer> {
    let keys = tempfile::tempdir().expect("a directory").keep();
    mount(&keys, 0, DOMAIN, key);
    std::os::unix::fs::symlink("..data/signing.json", keys.join("signing.json")).expect("a link");
    Box::new(Ours::start(&keys))
}

impl Ours {
    /// Returns when it is ready.
    pub fn start(keys: &Path) -> Self {
        let scratch = tempfile::tempdir().expect("a directory");
        let socket = scratch.path().join("m.sock");
        let health = Address::allocate().expect("an address");
        let address = health.port(8080);
        let mut process = Running::start(
            Command::new(env!("CARGO_BIN_EXE_dkim-operator"))
                .args(["--log", "warn", "milter", "--drain", "1", "--key-dir"])
                .arg(keys)
                .arg("--listen")
                .arg(format!("unix:{}", socket.display()))
                .args(["--health-addr", &address.to_string()]),
        );
        process.wait_for("it is ready", || ready(address));
        Self { process, socket, _scratch: scratch, _health: health }
    }

    /// Resident memory in bytes.
    pub fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("memory");
        line.split_whitespace().next().and_then(|n| n.parse::<u64>().ok()).expect("a number") * 1024
    }
}

fn ready(address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(address) else { return false };
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let mut answer = String::new();
    stream.write_all(request.as_bytes()).is_ok()
        && stream.read_to_string(&mut answer).is_ok()
        && answer.starts_with("HTTP/1.1 200")
}

impl Signer for Ours {
    fn name(&self) -> &'static str {
        "dkim-operator"
    }

    fn socket(&self) -> &Path {
        &self.socket
    }

    fn pids(&self) -> Vec<u32> {
        vec![self.process.id()]
    }
}

struct Other {
    name: &'static str,
    process: Running,
    socket: PathBuf,
    _scratch: tempfile::TempDir,
}

impl Signer for Other {
    fn name(&self) -> &'static str {
        self.name
    }

    fn socket(&self) -> &Path {
        &self.socket
    }

    fn pids(&self) -> Vec<u32> {
        let main = self.process.id();
        let children = fs::read_to_string(format!("/proc/{main}/task/{main}/children")).unwrap_or_default();
        std::iter::once(main).chain(children.split_whitespace().filter_map(|pid| pid.parse().ok())).collect()
    }
}

/// A directory that nobody else can write to: OpenDKIM wants that of all directories above its keys.
fn scratch() -> tempfile::TempDir {
    let scratch = tempfile::Builder::new().prefix("dkim-bench-").tempdir_in("/run").expect("a directory");
    fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755)).expect("a mode");
    scratch
}

pub fn opendkim(key: &PrivateKey) -> Box<dyn Signer> {
    let scratch = scratch();
    let at = |name: &str| scratch.path().join(name);
    fs::write(at("key.pem"), key.expose_pem()).expect("written");
    fs::set_permissions(at("key.pem"), fs::Permissions::from_mode(0o600)).expect("a mode");
    let config = format!(
        "Syslog no\nMode s\nDomain {DOMAIN}\nSelector selector1\nKeyFile {}\nCanonicalization relaxed/relaxed\n\
         SignatureAlgorithm rsa-sha256\nInternalHosts 127.0.0.1\nSocket local:{}\nUMask 000\n",
        at("key.pem").display(),
        at("m.sock").display()
    );
    fs::write(at("opendkim.conf"), config).expect("written");
    let mut command = Command::new("/usr/sbin/opendkim");
    let mut process = Running::start(command.arg("-f").arg("-x").arg(at("opendkim.conf")));
    let socket = at("m.sock");
    process.wait_for("OpenDKIM listens", || std::os::unix::net::UnixStream::connect(&socket).is_ok());
    Box::new(Other { name: "OpenDKIM", process, socket, _scratch: scratch })
}

/// The owner of a system user's files.
fn user(name: &str) -> (u32, u32) {
    let users = fs::read_to_string("/etc/passwd").expect("users");
    let line = users.lines().find(|line| line.starts_with(&format!("{name}:"))).expect("the user is there");
    let numbers: Vec<u32> = line.split(':').filter_map(|field| field.parse().ok()).collect();
    (numbers[0], numbers[1])
}

/// One worker, and of its modules the one that signs.
pub fn rspamd(key: &PrivateKey) -> Box<dyn Signer> {
    let scratch = scratch();
    let at = |name: &str| scratch.path().join(name).display().to_string();
    let (uid, gid) = user("_rspamd");
    fs::write(at("key.pem"), key.expose_pem()).expect("written");
    fs::write(at("suffixes"), "com\nexample\n").expect("written");
    let config = format!(
        "lua = \"/usr/share/rspamd/rules/rspamd.lua\";\n\
         options {{\n  filters = \"dkim\"; tempdir = \"{dir}\"; local_addrs = [\"127.0.0.0/8\"];\n  \
         control_socket = \"{control} mode=0600\"; url_tld = \"{suffixes}\"; cache_file = \"{cache}\";\n  \
         hs_cache_dir = \"{dir}\"; history_file = \"{history}\";\n  \
         dns {{ nameserver = [\"127.0.0.1\"]; timeout = 0.1s; retransmits = 1; }}\n}}\n\
         logging {{ type = \"file\"; filename = \"{log}\"; level = \"error\"; }}\n\
         worker \"rspamd_proxy\" {{\n  bind_socket = \"{socket} mode=0666\"; milter = yes; count = 1; timeout = 60s;\n  \
         upstream \"local\" {{ default = yes; self_scan = yes; }}\n}}\n\
         modules {{ path = \"/usr/share/rspamd/plugins/dkim_signing.lua\"; }}\n\
         dkim_signing {{\n  enabled = true; sign_local = true; use_domain = \"header\"; allow_username_mismatch = true;\n  \
         allow_hdrfrom_mismatch = true; allow_envfrom_empty = true; check_pubkey = false; use_redis = false;\n  \
         domain {{ {DOMAIN} {{ path = \"{key}\"; selector = \"selector1\"; }} }}\n}}\n",
        dir = scratch.path().display(),
        control = at("control.sock"),
        suffixes = at("suffixes"),
        cache = at("symbols.cache"),
        history = at("history"),
        log = at("rspamd.log"),
        socket = at("m.sock"),
        key = at("key.pem"),
    );
    fs::write(at("rspamd.conf"), config).expect("written");
    for entry in fs::read_dir(scratch.path()).expect("a directory").flatten() {
        chown(entry.path(), Some(uid), Some(gid)).expect("given away");
    }
    chown(scratch.path(), Some(uid), Some(gid)).expect("given away");
    let mut command = Command::new("/usr/bin/rspamd");
    let command = command.args(["-f", "-u", "_rspamd", "-g", "_rspamd", "-c"]).arg(at("rspamd.conf"));
    let mut process = Running::start(command.stdout(Stdio::null()).stderr(Stdio::null()));
    let socket = PathBuf::from(at("m.sock"));
    process.wait_for("rspamd listens", || std::os::unix::net::UnixStream::connect(&socket).is_ok());
    Box::new(Other { name: "rspamd", process, socket, _scratch: scratch })
}
