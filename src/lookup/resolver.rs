//! Recursive resolvers, and the way to them: plain DNS, or DNS over TLS (RFC 7858).

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

use super::config::DNS_PORT;

/// The port of DNS over TLS (RFC 7858 §3.1).
const TLS_PORT: u16 = 853;

/// A recursive resolver.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Resolver {
    /// Where it is.
    pub address: SocketAddr,
    /// The name that its certificate must have, where it is asked over TLS.
    pub tls: Option<ServerName<'static>>,
}

impl From<SocketAddr> for Resolver {
    fn from(address: SocketAddr) -> Self {
        Self { address, tls: None }
    }
}

/// Why a text names no resolver.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" is no address of a resolver; write an IP with or without port, such as 192.0.2.53 or [2001:db8::53]:53, or for DNS over TLS tls://192.0.2.53#dns.example with the name in its certificate"
)]
pub struct NoResolver(String);

impl FromStr for Resolver {
    type Err = NoResolver;

    /// Reads `IP`, `IP:port`, `tls://IP`, `tls://IP:port`, each of the latter with or without `#NAME`.
    fn from_str(text: &str) -> Result<Self, NoResolver> {
        let fault = || NoResolver(text.to_owned());
        let at = |text: &str, port: u16| {
            let ip = text.parse().map(|ip: IpAddr| SocketAddr::new(ip, port));
            ip.or_else(|_| text.parse()).map_err(|_| fault())
        };
        let Some(rest) = text.strip_prefix("tls://") else { return Ok(at(text, DNS_PORT)?.into()) };
        let (address, name) = match rest.split_once('#') {
            Some((address, name)) => (address, Some(name)),
            None => (rest, None),
        };
        let address = at(address, TLS_PORT)?;
        let name = match name {
            Some(name) => ServerName::try_from(name.to_owned()).map_err(|_| fault())?,
            None => ServerName::from(address.ip()),
        };
        Ok(Self { address, tls: Some(name) })
    }
}

impl fmt::Display for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.tls {
            None => write!(f, "{}", self.address),
            Some(name) => write!(f, "tls://{}#{}", self.address, name.to_str()),
        }
    }
}

/// What certificates of resolvers are checked against: the authorities given as PEM, or where none are those of the
/// system. `None` where there are none at all: then nothing is asked over TLS.
#[must_use]
pub fn trust(authorities: Option<&str>) -> Option<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    match authorities {
        Some(pem) => {
            let each = CertificateDer::pem_slice_iter(pem.as_bytes()).filter_map(Result::ok);
            roots.add_parsable_certificates(each);
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return None;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().ok()?;
    Some(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_prints() {
        for (text, printed) in [
            ("192.0.2.1", "192.0.2.1:53"),
            ("192.0.2.1:5300", "192.0.2.1:5300"),
            ("::1", "[::1]:53"),
            ("[::1]:5300", "[::1]:5300"),
            ("tls://192.0.2.1", "tls://192.0.2.1:853#192.0.2.1"),
            ("tls://192.0.2.1#dns.example", "tls://192.0.2.1:853#dns.example"),
            ("tls://[2001:db8::1]:8853#dns.example", "tls://[2001:db8::1]:8853#dns.example"),
        ] {
            let resolver: Resolver = text.parse().unwrap();
            assert_eq!(resolver.to_string(), printed);
            assert_eq!(printed.parse::<Resolver>().unwrap(), resolver);
        }
        for text in ["dns.example", "tls://dns.example", "tls://192.0.2.1#", "https://192.0.2.1", ""] {
            assert!(
                text.parse::<Resolver>().unwrap_err().to_string().contains("such as 192.0.2.53"),
                "{text}"
            );
        }
    }

    #[test]
    fn trusts_nobody_without_an_authority() {
        assert!(trust(Some("")).is_none());
        assert!(trust(Some("-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n")).is_none());
    }
}
