//! Whose mail is ours to sign: that of clients on trusted networks, of users who authenticated, and what the MTA marks
//! by a macro. Everything else came from outside, whatever its `From:` says, and is left alone.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use super::wire::Family;

/// The macro with the name of an authenticated user.
pub(super) const AUTHENTICATED: &[u8] = b"auth_authen";

/// What to do with a message of ours that cannot be signed at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum OnFailure {
    /// Let the client try again later.
    #[default]
    Tempfail,
    /// Let it leave unsigned.
    Accept,
}

/// What to do with a message of ours whose author cannot be told: no `From:`, several, or one without an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum OnUnsignable {
    /// Let it leave unsigned.
    #[default]
    Accept,
    /// Refuse it for good, with the reason.
    Reject,
}

/// A macro and its value that mark mail as ours, such as `daemon_name=ORIGINATING`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MacroRule {
    name: String,
    value: String,
}

impl FromStr for MacroRule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once('=').unwrap_or_default();
        let name = name.trim_start_matches('{').trim_end_matches('}');
        if name.is_empty() || value.is_empty() {
            return Err("write NAME=VALUE, such as daemon_name=ORIGINATING".to_owned());
        }
        Ok(Self { name: name.to_owned(), value: value.to_owned() })
    }
}

impl MacroRule {
    /// The macro's name, without braces.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// Whose mail is signed, and what happens where that fails.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// Clients of the MTA whose mail is ours.
    pub trusted: Vec<IpNet>,
    /// Whether mail of authenticated users is ours.
    pub authenticated: bool,
    /// Macros that mark mail as ours.
    pub macros: Vec<MacroRule>,
    /// What to do with a message of ours that cannot be signed at the moment.
    pub on_failure: OnFailure,
    /// What to do with a message of ours whose author cannot be told.
    pub on_unsignable: OnUnsignable,
}

impl Policy {
    /// Whether a client's mail is ours wherever else it says so.
    #[must_use]
    pub fn trusts(&self, host: &[u8], family: Family, address: &[u8]) -> bool {
        match family {
            Family::Unix => true,
            // Sendmail says so of mail from its command line. A client that the MTA does not know has another name.
            Family::Unknown => host.eq_ignore_ascii_case(b"localhost"),
            Family::V4 | Family::V6 => {
                ip(address).is_some_and(|ip| self.trusted.iter().any(|net| net.contains(&ip)))
            }
        }
    }

    /// Whether a macro marks mail as ours.
    #[must_use]
    pub fn marks(&self, name: &[u8], value: &[u8]) -> bool {
        (self.authenticated && name == AUTHENTICATED && !value.is_empty())
            || self.macros.iter().any(|m| m.name.as_bytes() == name && m.value.as_bytes() == value)
    }
}

/// An address as MTAs write it: `192.0.2.1`, `2001:db8::1`, `IPv6:2001:db8::1`, `fe80::1%eth0`.
fn ip(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let text = match text.get(..5) {
        Some(prefix) if prefix.eq_ignore_ascii_case("IPv6:") => text.get(5..)?,
        _ => text,
    };
    let text = text.split('%').next()?;
    text.parse::<IpAddr>().ok().map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Policy {
        Policy {
            trusted: ["127.0.0.0/8", "::1/128", "2001:db8::/32"].map(|n| n.parse().unwrap()).to_vec(),
            authenticated: true,
            macros: vec!["{daemon_name}=ORIGINATING".parse().unwrap()],
            ..Policy::default()
        }
    }

    #[test]
    fn clients_are_trusted_by_network() {
        let trusts =
            |host: &str, family, address: &str| policy().trusts(host.as_bytes(), family, address.as_bytes());
        for (address, trusted) in [
            ("127.0.0.1", true),
            ("127.255.0.9", true),
            ("::1", true),
            ("IPv6:::1", true),
            ("ipv6:2001:db8::7", true),
            ("::ffff:127.0.0.1", true),
            ("2001:db8::7%eth0", true),
            ("192.0.2.1", false),
            ("::ffff:192.0.2.1", false),
            ("2001:db9::1", false),
            ("", false),
            ("127.0.0.1.", false),
            ("localhost", false),
            ("unknown", false),
        ] {
            assert_eq!(trusts("localhost", Family::V4, address), trusted, "{address}");
            assert_eq!(trusts("mx.evil.example", Family::V6, address), trusted, "{address}");
        }
        assert!(trusts("mx", Family::Unix, "/run/x"));
        assert!(trusts("localhost", Family::Unknown, ""));
        assert!(!trusts("unknown", Family::Unknown, ""));
        assert!(!policy().trusts(b"x", Family::V4, b"\xff"));
    }

    #[test]
    fn macros_mark_mail() {
        let policy = policy();
        assert!(policy.marks(b"auth_authen", b"joe"));
        assert!(!policy.marks(b"auth_authen", b""));
        assert!(policy.marks(b"daemon_name", b"ORIGINATING"));
        assert!(!policy.marks(b"daemon_name", b"mx.example") && !policy.marks(b"j", b"ORIGINATING"));
        let strict = Policy { authenticated: false, ..policy };
        assert!(!strict.marks(b"auth_authen", b"joe"));
        for wrong in ["", "x", "=y", "x=", "{}=y"] {
            assert!(wrong.parse::<MacroRule>().unwrap_err().contains("NAME=VALUE"), "{wrong}");
        }
    }
}
