//! The control plane's own authority, its server certificate and the key that signs ServiceAccount tokens.

use std::net::IpAddr;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

use crate::error::Context;
use crate::{Result, Scratch};

/// PEM texts.
#[derive(Debug)]
pub(crate) struct Certificates {
    pub authority: String,
    pub certificate: String,
    pub key: String,
}

/// Makes an authority and a certificate of it for a server at `ip`.
pub(crate) fn make(ip: IpAddr) -> Result<Certificates> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "dkim-testbed");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let authority_key = KeyPair::generate()?;
    let authority = params.self_signed(&authority_key)?;
    let issuer = Issuer::new(params, authority_key);

    let names = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"];
    let addresses = [ip.to_string(), "127.0.0.1".to_owned(), "10.96.0.1".to_owned()];
    let mut params =
        CertificateParams::new(names.map(str::to_owned).into_iter().chain(addresses).collect::<Vec<_>>())?;
    params.distinguished_name.push(DnType::CommonName, "kube-apiserver");
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &issuer)?;
    Ok(Certificates { authority: authority.pem(), certificate: certificate.pem(), key: key.serialize_pem() })
}

/// Writes a fresh key (ECDSA P-256), unless there is one already, and its public half, each to the given name.
pub(super) fn keep_key(scratch: &Scratch, private: &str, public: &str) -> Result<()> {
    let path = scratch.join(private);
    let key = if path.exists() {
        let text = std::fs::read_to_string(&path).context(|| format!("reading {}", path.display()))?;
        KeyPair::from_pem(&text)?
    } else {
        let key = KeyPair::generate()?;
        scratch.write(private, key.serialize_pem())?;
        key
    };
    scratch.write(public, key.public_key_pem()).map(drop)
}

/// The text of `name`, or a fresh random token that is written there.
pub(super) fn keep_token(scratch: &Scratch, name: &str) -> Result<String> {
    let path = scratch.join(name);
    if path.exists() {
        return std::fs::read_to_string(&path).context(|| format!("reading {}", path.display()));
    }
    let token: String = std::iter::repeat_with(fastrand::alphanumeric).take(32).collect();
    scratch.write(name, &token)?;
    Ok(token)
}
