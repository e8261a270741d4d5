//! Directories of keys, as kubelet mounts them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use dkim_operator::api::Canonicalization::Relaxed;
use dkim_operator::api::signing_config::{
    FORMAT_VERSION, SIGNED_HEADERS, SIGNING_FILE, SignatureConfig, SigningConfig,
};
use dkim_operator::model::key::{KeyKind, PrivateKey};
use dkim_operator::model::name::DomainName;
use getrandom::SysRng;

/// Different keys in a directory of many domains. Each domain has a file and, in the signer, memory of its own.
const DIFFERENT: usize = 40;

/// Writes one version of a domain's mount and turns `..data` to it.
pub fn mount(path: &Path, version: usize, domain: &str, key: &PrivateKey) {
    let public = key.public().expect("a key");
    let selector = format!("selector{}", version % 2 + 1);
    let config = SigningConfig {
        format_version: FORMAT_VERSION,
        domain: DomainName::parse(domain).expect("a domain"),
        signatures: vec![SignatureConfig {
            d: domain.to_owned(),
            key_file: format!("{selector}.pem"),
            s: selector,
            identity: None,
            algorithm: public.algorithm,
            fingerprint: public.fingerprint().expect("a key"),
            serial: 1,
            header_canonicalization: Relaxed,
            body_canonicalization: Relaxed,
            headers: SIGNED_HEADERS.map(str::to_owned).to_vec(),
            oversign: false,
            timestamp: true,
            expiration_seconds: None,
        }],
    };
    let name = format!("..{version}");
    let real = path.join(&name);
    fs::create_dir_all(&real).expect("a directory");
    fs::write(real.join(&config.signatures[0].key_file), key.expose_pem()).expect("written");
    fs::write(real.join(SIGNING_FILE), serde_json::to_vec_pretty(&config).expect("JSON")).expect("written");
    symlink(name, path.join("..data_tmp")).expect("a link");
    fs::rename(path.join("..data_tmp"), path.join("..data")).expect("renamed");
}

/// Many domains.
pub struct Directory {
    dir: tempfile::TempDir,
    keys: Vec<PrivateKey>,
    version: Mutex<usize>,
}

impl Directory {
    pub fn of(domains: usize) -> Self {
        let keys =
            (0..DIFFERENT).map(|_| PrivateKey::generate(KeyKind::Rsa2048, &mut SysRng).expect("a key"));
        let this = Self {
            dir: tempfile::tempdir().expect("a directory"),
            keys: keys.collect(),
            version: Mutex::new(0),
        };
        for number in 0..domains {
            mount(&this.place(number), 0, &this.domain(number), &this.keys[number % DIFFERENT]);
            // What a mount shows. The links are what makes a directory one of a domain.
            symlink("..data/signing.json", this.place(number).join(SIGNING_FILE)).expect("a link");
        }
        this
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn domain(&self, number: usize) -> String {
        format!("customer-{number}.example")
    }

    fn place(&self, number: usize) -> PathBuf {
        self.dir.path().join(format!("dkim-customer-{number}.example"))
    }

    /// Gives a domain another key and selector.
    pub fn switch(&self, number: usize) {
        let mut version = self.version.lock().expect("no panic");
        *version += 1;
        // Odd: another selector than at the start.
        mount(
            &self.place(number),
            *version * 2 + 1,
            &self.domain(number),
            &self.keys[(number + 1) % DIFFERENT],
        );
    }
}
