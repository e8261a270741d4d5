//! Where the binaries are.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use crate::{Error, Result};

/// What pins the versions, in the order in which `build.sh` hashes it.
const PINS: [&[u8]; 6] = [
    include_bytes!("../kubernetes/go.mod"),
    include_bytes!("../kubernetes/go.sum"),
    include_bytes!("../etcd/go.mod"),
    include_bytes!("../etcd/go.sum"),
    include_bytes!("../helm/go.mod"),
    include_bytes!("../helm/go.sum"),
];
/// What pins external-dns, which is kept apart.
const EXTERNAL_DNS_PINS: [&[u8]; 3] = [
    include_bytes!("../external-dns/go.mod"),
    include_bytes!("../external-dns/go.sum"),
    include_bytes!("../external-dns/main.go"),
];
/// What pins maddy, likewise.
const MADDY_PINS: [&[u8]; 2] = [include_bytes!("../maddy/go.mod"), include_bytes!("../maddy/go.sum")];
/// What is taken from `KUBEBUILDER_ASSETS` where it is there.
const ASSETS: [&str; 3] = ["etcd", "kube-apiserver", "kubectl"];

/// The binaries that `testbed/build.sh` has built, or that `KUBEBUILDER_ASSETS` holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    assets: Option<PathBuf>,
    cache: PathBuf,
    external_dns: PathBuf,
    maddy: PathBuf,
}

impl Binaries {
    /// Finds them by the environment: `KUBEBUILDER_ASSETS` for etcd, kube-apiserver and kubectl, then the cache
    /// (`DKIM_TESTBED_CACHE`, or `XDG_CACHE_HOME/dkim-operator`, or `~/.cache/dkim-operator`).
    ///
    /// # Errors
    /// Where etcd or kube-apiserver is missing; the message says what to run.
    pub fn locate() -> Result<Self> {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let cache = set("DKIM_TESTBED_CACHE")
            .or_else(|| Some(set("XDG_CACHE_HOME")?.join("dkim-operator")))
            .or_else(|| Some(set("HOME")?.join(".cache/dkim-operator")))
            .unwrap_or_default();
        let bin = |pins: &[&[u8]]| cache.join("testbed").join(hash(pins)).join("bin");
        let found = Self {
            assets: set("KUBEBUILDER_ASSETS"),
            cache: bin(&PINS),
            external_dns: bin(&EXTERNAL_DNS_PINS),
            maddy: bin(&MADDY_PINS),
        };
        found.etcd()?;
        found.kube_apiserver()?;
        Ok(found)
    }

    /// The path of etcd.
    ///
    /// # Errors
    /// Where it is missing.
    pub fn etcd(&self) -> Result<PathBuf> {
        self.find("etcd")
    }

    /// The path of kube-apiserver.
    ///
    /// # Errors
    /// Where it is missing.
    pub fn kube_apiserver(&self) -> Result<PathBuf> {
        self.find("kube-apiserver")
    }

    /// The path of kube-controller-manager.
    ///
    /// # Errors
    /// Where it is missing.
    pub fn kube_controller_manager(&self) -> Result<PathBuf> {
        self.find("kube-controller-manager")
    }

    /// The path of kubectl.
    ///
    /// # Errors
    /// Where it is missing.
    pub fn kubectl(&self) -> Result<PathBuf> {
        self.find("kubectl")
    }

    /// The path of helm.
    ///
    /// # Errors
    /// Where it is missing.
    pub fn helm(&self) -> Result<PathBuf> {
        self.find("helm")
    }

    /// The path of external-dns.
    ///
    /// # Errors
    /// Where it is missing.
    pub fn external_dns(&self) -> Result<PathBuf> {
        apart(&self.external_dns, "external-dns")
    }

    /// The path of maddy, a mail server.
    ///
    /// # Errors
    /// Where it is missing.
    pub fn maddy(&self) -> Result<PathBuf> {
        apart(&self.maddy, "maddy")
    }

    /// The directories that hold those of Kubernetes, in the order of preference: for a `PATH`.
    #[must_use]
    pub fn directories(&self) -> Vec<PathBuf> {
        self.assets.iter().chain([&self.cache]).cloned().collect()
    }

    fn find(&self, name: &str) -> Result<PathBuf> {
        let assets = self.assets.iter().filter(|_| ASSETS.contains(&name));
        let searched: Vec<&PathBuf> = assets.chain([&self.cache]).collect();
        searched.iter().map(|directory| directory.join(name)).find(|path| is_executable(path)).ok_or_else(
            || {
                let searched: Vec<String> = searched.iter().map(|path| path.display().to_string()).collect();
                Error::BinaryMissing { name: name.to_owned(), searched: searched.join(" and ") }
            },
        )
    }
}

/// The path of what has a directory of its own.
fn apart(directory: &Path, name: &str) -> Result<PathBuf> {
    let path = directory.join(name);
    if is_executable(&path) {
        return Ok(path);
    }
    Err(Error::BinaryMissing { name: name.to_owned(), searched: directory.display().to_string() })
}

/// The path of a program of the system, in `PATH` or where administrators' programs are.
pub(crate) fn system(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/bin"];
    std::env::split_paths(&path)
        .chain(usual.map(PathBuf::from))
        .map(|directory| directory.join(OsStr::new(name)))
        .find(|path| is_executable(path))
        .ok_or_else(|| Error::PackageMissing { name: name.to_owned() })
}

fn is_executable(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

fn hash(pins: &[&[u8]]) -> String {
    let mut hasher = Sha256::new();
    for pin in pins {
        hasher.update(pin);
    }
    HEXLOWER.encode(&hasher.finalize()[..8])
}
