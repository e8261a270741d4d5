//! `dkim-operator milter` with keys in mounts, for tests with real mail servers.

#![allow(dead_code, reason = "each test program uses its part")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use dkim_operator::model::key::KeyKind::{Ed25519, Rsa2048};
use dkim_testbed::{Address, Process, Scratch, Spec};

use crate::keys::{KeyDns, Rolling, ids, says_ready};

const PROVIDER: &str = "contoso.onmail.example";

/// The milter, with keys in mounts.
pub struct Milter {
    pub process: Process,
    pub keys: PathBuf,
    pub tcp: SocketAddr,
    pub unix: PathBuf,
    pub health: SocketAddr,
    _scratch: Scratch,
    _holding: Address,
}

impl Milter {
    /// `make` fills the directory of mounts first.
    pub async fn start(extra: &[&str], make: impl FnOnce(&Path)) -> Self {
        let scratch = Scratch::passable("milter").unwrap();
        let holding = Address::allocate().unwrap();
        let keys = scratch.join("keys");
        std::fs::create_dir(&keys).unwrap();
        make(&keys);
        let (tcp, health) = (holding.port(8891), holding.port(8080));
        let unix = scratch.join("m.sock");
        let (_, group) = ids("postfix");
        let mut process = Spec::new("milter", env!("CARGO_BIN_EXE_dkim-operator"), scratch.join("log"))
            .args(["milter", "--drain", "2", "--key-dir"])
            .arg(&keys)
            .arg(format!("--listen=inet:{tcp},unix:{}", unix.display()))
            .args(["--socket-mode=0660", &format!("--socket-group={group}")])
            .args(["--health-addr", &health.to_string()])
            .args(extra)
            .spawn()
            .unwrap();
        says_ready(&mut process, health, "the keys are read").await;
        Self { process, keys, tcp, unix, health, _scratch: scratch, _holding: holding }
    }

    /// The TCP socket, as Postfix writes it.
    pub fn inet(&self) -> String {
        format!("inet:{}:{}", self.tcp.ip(), self.tcp.port())
    }

    pub fn log(&self) -> String {
        self.process.log_tail(40)
    }
}

/// The domains of the tests: one with two signatures, an international one, and one that is signed as the provider.
pub fn domains(dns: &KeyDns, keys: &Path) -> Vec<Rolling> {
    let plain = ["selector1", "selector2"];
    let provider = ["selector1-fabrikam-com", "selector2-fabrikam-com"];
    vec![
        Rolling::new(dns, keys, "contoso.com", "contoso.com", plain, &[Rsa2048, Ed25519]),
        Rolling::new(dns, keys, "xn--bcher-kva.example", "xn--bcher-kva.example", plain, &[Rsa2048]),
        Rolling::new(dns, keys, "fabrikam.com", PROVIDER, provider, &[Rsa2048]),
    ]
}

/// DNS for their keys.
pub async fn dns() -> KeyDns {
    KeyDns::start(&["contoso.com", "xn--bcher-kva.example", "fabrikam.com", "strict.example", PROVIDER]).await
}
