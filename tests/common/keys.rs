//! Keys of domains without a controller: published in DNS, and given to signers as kubelet gives a Secret.

#![allow(dead_code, reason = "each test program uses its part")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dkim_operator::api::Canonicalization::Relaxed;
use dkim_operator::api::signing_config::{
    FORMAT_VERSION, SIGNED_HEADERS, SIGNING_FILE, SignatureConfig, SigningConfig,
};
use dkim_operator::dns::{Cookies, Part, Rates, Serving, Set, Snapshot, bind};
use dkim_operator::model::key::{KeyKind, PrivateKey};
use dkim_operator::model::name::DomainName;
use dkim_testbed::{Address, Mount, Process};
use getrandom::SysRng;

use crate::judges::http;

/// Serves key records at port 53 of an address of its own.
pub struct KeyDns {
    holding: Address,
    apexes: Vec<String>,
    records: Mutex<BTreeMap<String, String>>,
    serving: Arc<Serving>,
}

impl KeyDns {
    /// Serves `_domainkey` of each of these domains.
    pub async fn start(domains: &[&str]) -> Self {
        let holding = Address::allocate().expect("an address");
        let bound = bind(&[holding.port(53)], 2).await.expect("port 53");
        let apexes: Vec<String> = domains.iter().map(|domain| format!("_domainkey.{domain}")).collect();
        let unlimited = Rates { same: 0, all: 0, slip: 0 };
        let snapshot = snapshot(&apexes, &BTreeMap::new());
        let serving = Arc::new(Serving::new(snapshot, Cookies::random().expect("randomness"), unlimited));
        tokio::spawn(bound.serve(Arc::clone(&serving), std::future::pending()));
        Self { holding, apexes, records: Mutex::default(), serving }
    }

    pub fn resolver(&self) -> SocketAddr {
        self.holding.port(53)
    }

    /// Publishes a record, or another text for it.
    pub fn publish(&self, name: &str, text: &str) {
        let mut records = self.records.lock().unwrap();
        records.insert(name.to_owned(), text.to_owned());
        self.serving.publish(snapshot(&self.apexes, &records));
    }
}

fn snapshot(apexes: &[String], records: &BTreeMap<String, String>) -> Snapshot {
    let set = |apex: &String| {
        let below = |name: &String| name.ends_with(&format!(".{apex}"));
        let texts = records.iter().filter(|(name, _)| below(name));
        let part = Part {
            apex: apex.clone(),
            servers: vec!["ns1.provider.example".to_owned()],
            negative: 1,
            texts: texts.map(|(name, text)| (name.clone(), 1, text.clone())).collect(),
        };
        Set { name: apex.clone(), created: jiff::Timestamp::UNIX_EPOCH, zones: vec![part] }
    };
    let sets: Vec<Set> = apexes.iter().map(set).collect();
    let (snapshot, complaints) = Snapshot::build(&sets, 1);
    assert_eq!(complaints, [""; 0]);
    snapshot
}

/// One domain's keys in two slots, as the controller rolls them.
pub struct Rolling {
    pub domain: String,
    pub d: String,
    selectors: [String; 2],
    kinds: Vec<KeyKind>,
    /// The keys in each slot: one of each kind.
    slots: [Vec<PrivateKey>; 2],
    active: usize,
    serial: u64,
    mount: Mount,
    edit: fn(&mut SignatureConfig),
}

impl Rolling {
    /// A domain whose first key signs and whose second one is published.
    pub fn new(
        dns: &KeyDns,
        keys: &Path,
        domain: &str,
        d: &str,
        selectors: [&str; 2],
        kinds: &[KeyKind],
    ) -> Self {
        let mut rolling = Self {
            domain: domain.to_owned(),
            d: d.to_owned(),
            selectors: selectors.map(str::to_owned),
            kinds: kinds.to_vec(),
            slots: [Vec::new(), Vec::new()],
            active: 0,
            serial: 1,
            mount: Mount::new(keys.join(domain)),
            edit: |_| {},
        };
        rolling.fill(dns, 0);
        rolling.fill(dns, 1);
        rolling.write();
        rolling
    }

    /// With other options.
    pub fn with(mut self, edit: fn(&mut SignatureConfig)) -> Self {
        self.edit = edit;
        self.write();
        self
    }

    /// The selectors that sign now.
    pub fn selectors(&self) -> Vec<String> {
        (0..self.kinds.len()).map(|kind| self.selector(self.active, kind)).collect()
    }

    fn selector(&self, slot: usize, kind: usize) -> String {
        if kind == 0 { self.selectors[slot].clone() } else { format!("ed-{}", self.selectors[slot]) }
    }

    fn fill(&mut self, dns: &KeyDns, slot: usize) {
        self.slots[slot] =
            self.kinds.iter().map(|kind| PrivateKey::generate(*kind, &mut SysRng).expect("a key")).collect();
        for (kind, key) in self.slots[slot].iter().enumerate() {
            let public = key.public().expect("a key");
            let name = format!("{}._domainkey.{}", self.selector(slot, kind), self.d);
            dns.publish(&name, &format!("v=DKIM1; k={}; p={}", public.algorithm.as_str(), public.p));
        }
    }

    /// Signs with the other slot from now on.
    pub fn switch(&mut self) {
        self.active = 1 - self.active;
        self.serial += 1;
        self.write();
    }

    /// Puts a new key into the slot that does not sign: what was signed with the old one does not verify any more.
    pub fn refill(&mut self, dns: &KeyDns) {
        self.fill(dns, 1 - self.active);
        self.write();
    }

    fn write(&mut self) {
        let signature = |(kind, key): (usize, &PrivateKey)| {
            let public = key.public().expect("a key");
            let mut config = SignatureConfig {
                d: self.d.clone(),
                s: self.selector(self.active, kind),
                identity: None,
                algorithm: public.algorithm,
                key_file: format!("key{kind}.pem"),
                fingerprint: public.fingerprint().expect("a fingerprint"),
                serial: self.serial,
                header_canonicalization: Relaxed,
                body_canonicalization: Relaxed,
                headers: SIGNED_HEADERS.map(str::to_owned).to_vec(),
                oversign: false,
                timestamp: true,
                expiration_seconds: None,
            };
            (self.edit)(&mut config);
            config
        };
        let config = SigningConfig {
            format_version: FORMAT_VERSION,
            domain: DomainName::parse(&self.domain).expect("a domain"),
            signatures: self.slots[self.active].iter().enumerate().map(signature).collect(),
        };
        let json = serde_json::to_vec_pretty(&config).expect("JSON");
        let mut files = vec![(SIGNING_FILE.to_owned(), json)];
        for (kind, key) in self.slots[self.active].iter().enumerate() {
            files.push((format!("key{kind}.pem"), key.expose_pem().as_bytes().to_vec()));
        }
        self.mount.show(files.iter().map(|(name, bytes)| (name, bytes.as_slice()))).expect("written");
    }
}

/// The numbers of a system user and its group.
pub fn ids(user: &str) -> (u32, u32) {
    let passwd = std::fs::read_to_string("/etc/passwd").expect("users");
    let line = passwd.lines().find(|line| line.starts_with(&format!("{user}:")));
    let fields: Vec<&str> =
        line.unwrap_or_else(|| panic!("no user {user}: run testbed/packages.sh")).split(':').collect();
    (fields[2].parse().expect("a number"), fields[3].parse().expect("a number"))
}

/// For how long a test waits for what takes moments on a quiet machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Waits until a role of ours says at `/readyz` that it is ready.
pub async fn says_ready(process: &mut Process, health: SocketAddr, what: &str) {
    let ready = || async move { http(health, "GET /readyz", &[], b"").await.map(drop) };
    process.ready(PATIENCE, what, ready).await.expect("ready");
}

/// What docs/signers.md tells people to write for a signer, with files in `dir`.
pub fn documented(signer: &str, dir: &Path) -> String {
    let page = include_str!("../../docs/signers.md");
    let block = page.split(&format!("```{signer}\n")).nth(1).and_then(|rest| rest.split("```").next());
    let block = block.unwrap_or_else(|| panic!("docs/signers.md has no block for {signer}"));
    block.replace("/dkim/", &format!("{}/", dir.display()))
}
