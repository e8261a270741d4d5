//! `dkim-operator sync` with keys in mounts, for tests with real signers.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dkim_testbed::{Address, Process, Scratch, Spec};

use crate::judges::http;
use crate::keys::{documented, ids, says_ready};

/// How long sync keeps old keys. A signer that has not moved by then cannot sign any more.
const GRACE: &str = "4s";
/// By then they are gone.
pub const AFTER_GRACE: Duration = Duration::from_secs(5);

/// `dkim-operator sync` for one signer.
pub struct Sync {
    pub process: Process,
    pub dir: PathBuf,
    health: SocketAddr,
    _scratch: Scratch,
    _tree: tempfile::TempDir,
    _holding: Address,
}

impl Sync {
    /// `make` fills the directory of mounted Secrets first.
    pub async fn start(format: &str, user: &str, extra: &[String], make: impl FnOnce(&Path)) -> Self {
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
        says_ready(&mut process, health, "the first files are there").await;
        Self { process, dir, health, _scratch: scratch, _tree: tree, _holding: holding }
    }

    /// The path of one of its files.
    pub fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    /// What docs/signers.md tells people to write, for this directory.
    pub fn documented(&self, signer: &str) -> String {
        documented(signer, &self.dir)
    }
}

/// Old key files are gone, what is there has the right owner and mode.
pub async fn check_files(sync: &Sync, user: &str, expected_keys: usize) {
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
