//! Recursive resolvers, and the way to them: plain DNS, DNS over TLS (RFC 7858) or over HTTPS (RFC 8484).

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

/// The port of DNS over HTTPS (RFC 8484 §4.1).
const HTTPS_PORT: u16 = 443;
/// The path where none is given: the one that everybody uses.
const PATH: &str = "/dns-query";

/// A recursive resolver.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Resolver {
    /// Where it is.
    pub address: SocketAddr,
    /// How it is asked.
    pub way: Way,
}

/// How a resolver is asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Way {
    /// Over UDP and TCP.
    Plain,
    /// Over TLS (RFC 7858).
    Tls {
        /// What its certificate must say.
        name: ServerName<'static>,
    },
    /// Over HTTPS (RFC 8484), HTTP/2.
    Https {
        /// What its certificate must say.
        name: ServerName<'static>,
        /// The path of the URL, without a query.
        path: String,
    },
}

impl From<SocketAddr> for Resolver {
    fn from(address: SocketAddr) -> Self {
        Self { address, way: Way::Plain }
    }
}

/// Why a text names no resolver.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" is no address of a resolver; write an IP with or without port, such as 192.0.2.53 or [2001:db8::53]:53, or for DNS over TLS tls://192.0.2.53#dns.example with the name in its certificate, or for DNS over HTTPS https://192.0.2.53/dns-query#dns.example"
)]
pub struct NoResolver(String);

impl FromStr for Resolver {
    type Err = NoResolver;

    /// Reads `IP`, `IP:port`, `tls://IP[:port][#NAME]` and `https://IP[:port][/PATH][#NAME]`.
    fn from_str(text: &str) -> Result<Self, NoResolver> {
        let fault = || NoResolver(text.to_owned());
        let at = |text: &str, port: u16| {
            let ip = text.parse().map(|ip: IpAddr| SocketAddr::new(ip, port));
            ip.or_else(|_| text.parse()).map_err(|_| fault())
        };
        let named = |address: SocketAddr, name: Option<&str>| match name {
            Some(name) => ServerName::try_from(name.to_owned()).map_err(|_| fault()),
            None => Ok(ServerName::from(address.ip())),
        };
        let split = |rest: &'_ str| match rest.split_once('#') {
            Some((before, name)) => (before.to_owned(), Some(name.to_owned())),
            None => (rest.to_owned(), None),
        };
        if let Some(rest) = text.strip_prefix("tls://") {
            let (address, name) = split(rest);
            let address = at(&address, TLS_PORT)?;
            return Ok(Self { address, way: Way::Tls { name: named(address, name.as_deref())? } });
        }
        if let Some(rest) = text.strip_prefix("https://") {
            let (place, name) = split(rest);
            let (address, path) = match place.split_once('/') {
                Some((address, path)) => (address, format!("/{path}")),
                None => (place.as_str(), PATH.to_owned()),
            };
            let plain = |c: char| c.is_ascii_alphanumeric() || "/-._~".contains(c);
            if !path.chars().all(plain) {
                return Err(fault());
            }
            let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
            let address = at(bare.unwrap_or(address), HTTPS_PORT)?;
            return Ok(Self { address, way: Way::Https { name: named(address, name.as_deref())?, path } });
        }
        Ok(at(text, DNS_PORT)?.into())
    }
}

impl fmt::Display for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.way {
            Way::Plain => write!(f, "{}", self.address),
            Way::Tls { name } => write!(f, "tls://{}#{}", self.address, name.to_str()),
            Way::Https { name, path } => write!(f, "https://{}{path}#{}", self.address, name.to_str()),
        }
    }
}

/// What certificates of resolvers are checked against: the authorities given as PEM, or where none are those of the
/// system. `None` where there are none at all: then nothing is asked over TLS. `protocol` is what is spoken inside, where
/// that is to be agreed on (ALPN).
#[must_use]
pub fn trust(authorities: Option<&str>, protocol: Option<&[u8]>) -> Option<Arc<ClientConfig>> {
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
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols.extend(protocol.map(<[u8]>::to_vec));
    Some(Arc::new(config))
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
            ("https://192.0.2.1", "https://192.0.2.1:443/dns-query#192.0.2.1"),
            ("https://192.0.2.1/q#dns.example", "https://192.0.2.1:443/q#dns.example"),
            ("https://[2001:db8::1]/dns-query", "https://[2001:db8::1]:443/dns-query#2001:db8::1"),
            ("https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443/dns-query#2001:db8::1"),
        ] {
            let resolver: Resolver = text.parse().unwrap();
            assert_eq!(resolver.to_string(), printed);
            assert_eq!(printed.parse::<Resolver>().unwrap(), resolver);
        }
        for text in [
            "dns.example",
            "tls://dns.example",
            "tls://192.0.2.1#",
            "https://dns.example/dns-query",
            "https://192.0.2.1/?x",
            "",
        ] {
            assert!(
                text.parse::<Resolver>().unwrap_err().to_string().contains("such as 192.0.2.53"),
                "{text}"
            );
        }
    }

    #[test]
    fn trusts_nobody_without_an_authority() {
        assert!(trust(Some(""), None).is_none());
        assert!(
            trust(Some("-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n"), None).is_none()
        );
    }
}
