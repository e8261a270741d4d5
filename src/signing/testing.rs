//! What tests share: directories of keys, made on the spot, and what is reported of a signature.

use std::fs;
use std::path::Path;
use std::time::Duration;

use getrandom::SysRng;
use jiff::Timestamp;

use crate::api::Canonicalization;
use crate::api::signing_config::{
    FORMAT_VERSION, SIGNED_HEADERS, SIGNING_FILE, SignatureConfig, SigningConfig,
};
use crate::model::key::{Algorithm, KeyFingerprint, KeyKind, PrivateKey};
use crate::model::name::DomainName;
use crate::signing::{
    AcknowledgeArgs, Alignment, BodyHash, Hop, KeyReport, Reporter, SignatureReport, Verdict,
};

pub fn signature_config(algorithm: Algorithm) -> SignatureConfig {
    SignatureConfig {
        d: "contoso.com".into(),
        s: "selector1".into(),
        identity: None,
        algorithm,
        key_file: "selector1.pem".into(),
        fingerprint: KeyFingerprint::of(b""),
        serial: 1,
        header_canonicalization: Canonicalization::Relaxed,
        body_canonicalization: Canonicalization::Relaxed,
        headers: SIGNED_HEADERS.map(str::to_owned).to_vec(),
        oversign: false,
        timestamp: true,
        expiration_seconds: None,
    }
}

/// One that reports to a server that is not there; what it would say is what counts.
pub fn reporter() -> Reporter {
    let uri = "http://127.0.0.1:9/".parse().unwrap();
    let client = kube::Client::try_from(kube::Config::new(uri)).unwrap();
    let args = AcknowledgeArgs {
        acknowledge: true,
        acknowledge_namespace: None,
        acknowledge_every: Duration::from_secs(60),
        instance: Some("a".into()),
    };
    args.reporter(client, "mail".into(), "milter")
}

/// A directory of keys that goes away with the value.
pub struct KeyDir(tempfile::TempDir);

impl KeyDir {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a domain's files below `below`, one signature per kind with selectors selector1 and up. Returns
    /// the TXT records as name and text.
    pub fn domain(&self, below: &str, domain: &str, kinds: &[KeyKind]) -> Vec<(String, String)> {
        self.domain_with(below, domain, kinds, |_| {})
    }

    pub fn domain_with(
        &self,
        below: &str,
        domain: &str,
        kinds: &[KeyKind],
        edit: impl Fn(&mut SignatureConfig),
    ) -> Vec<(String, String)> {
        let dir = self.path().join(below);
        fs::create_dir_all(&dir).unwrap();
        let mut records = Vec::new();
        let mut signatures = Vec::new();
        for (index, kind) in kinds.iter().enumerate() {
            let mut config = signature_config(kind.algorithm());
            config.d = domain.into();
            config.s = format!("selector{}", index + 1);
            config.key_file = format!("{}.pem", config.s);
            let key = PrivateKey::generate(*kind, &mut SysRng).unwrap();
            let public = key.public().unwrap();
            config.fingerprint = public.fingerprint().unwrap();
            fs::write(dir.join(&config.key_file), key.expose_pem()).unwrap();
            edit(&mut config);
            let text = format!("v=DKIM1; k={}; p={}", kind.algorithm().as_str(), public.p);
            records.push((format!("{}._domainkey.{domain}", config.s), text));
            signatures.push(config);
        }
        let domain = DomainName::parse(domain).unwrap();
        let config = SigningConfig { format_version: FORMAT_VERSION, domain, signatures };
        fs::write(dir.join(SIGNING_FILE), serde_json::to_vec_pretty(&config).unwrap()).unwrap();
        records
    }

    pub fn key(&self, file: &str, kind: KeyKind) {
        let key = PrivateKey::generate(kind, &mut SysRng).unwrap();
        fs::write(self.path().join(file), key.expose_pem()).unwrap();
    }
}

pub fn edit_json(dir: &Path, edit: impl Fn(&mut serde_json::Value)) {
    let path = dir.join(SIGNING_FILE);
    let mut json = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    edit(&mut json);
    fs::write(path, serde_json::to_vec(&json).unwrap()).unwrap();
}

pub fn broken_json(dir: &Path) {
    fs::write(dir.join(SIGNING_FILE), "{").unwrap();
}

/// A signature as a report shows it, with something from the message that no terminal should see.
pub fn shown(verdict: Verdict, alignment: Alignment) -> SignatureReport {
    let at = |second| Timestamp::from_second(second).ok();
    SignatureReport {
        d: "contoso.com".into(),
        s: "selector1\u{1b}[31m".into(),
        a: "rsa-sha256".into(),
        canonicalization: Some("relaxed/relaxed".into()),
        headers: vec!["From".into(), "Subject".into()],
        signed_at: at(1_700_000_000),
        expires_at: at(1_700_604_800),
        body_hash: Some(BodyHash { signed: "AAAA".into(), computed: "BBBB".into() }),
        key: Some(KeyReport {
            name: "selector1._domainkey.contoso.com".into(),
            chain: vec![Hop {
                name: "selector1._domainkey.contoso.com".into(),
                target: "selector1-contoso-com._domainkey.contoso.onmail.example".into(),
                ttl: 3600,
            }],
            found: "an RSA key of 2048 bits".into(),
            ttl: Some(300),
        }),
        verdict,
        asked: Some("selector1._domainkey.contoso.com".into()),
        reason: "the body was changed after signing (bh= is another hash)".into(),
        cause: Some("2 lines were appended on the way, behind line 3, beginning with \"-- \"".into()),
        alignment,
    }
}
