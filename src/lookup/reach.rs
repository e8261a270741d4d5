//! Which addresses may be asked because somebody's delegation names them.
//!
//! A tenant chooses what its NS records point at. Were everything asked, a tenant could make the operator send packets
//! into networks that only the operator can reach, and learn from the diagnosis what is there.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Public addresses, and the networks that are allowed besides.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Reach {
    allowed: BTreeSet<IpNet>,
}

impl Reach {
    /// Public addresses and these networks.
    #[must_use]
    pub fn allowing(networks: impl IntoIterator<Item = IpNet>) -> Self {
        Self { allowed: networks.into_iter().collect() }
    }

    /// Whether an address that a delegation names may be asked.
    #[must_use]
    pub fn includes(&self, ip: IpAddr) -> bool {
        is_public(ip) || self.allowed.iter().any(|network| network.contains(&ip))
    }
}

/// Whether an address is of the public Internet (IANA's special-purpose registries, RFC 6890).
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let special = match a {
        // This network, private, loopback, and everything from multicast upwards, broadcast included.
        0 | 10 | 127 | 224..=255 => true,
        // Carrier-grade NAT, RFC 6598.
        100 => (64..128).contains(&b),
        // Link-local, which is also where clouds keep their metadata.
        169 => b == 254,
        172 => (16..32).contains(&b),
        // Private; protocol assignments, documentation, 6to4 relays.
        192 => b == 168 || (b == 0 && (c == 0 || c == 2)) || (b == 88 && c == 99),
        // Benchmarks, documentation.
        198 => b == 18 || b == 19 || (b == 51 && c == 100),
        203 => b == 0 && c == 113,
        _ => false,
    };
    !special
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let segments = ip.segments();
    // An IPv4 address in disguise is judged as that: mapped, NAT64 (RFC 6052), 6to4 (RFC 3056).
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => embedded(high, low),
        [0x2002, high, low, ..] => embedded(high, low),
        // Teredo and other protocol assignments, documentation.
        [0x2001, 0..=0x01ff, ..] | [0x2001, 0xdb8, ..] | [0x3fff, 0..=0x0fff, ..] => false,
        // Global unicast. All else is loopback, link-local, unique local, multicast or not given out.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn what_tenants_could_abuse_is_not_asked() {
        let reach = Reach::default();
        for text in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.251",
            "255.255.255.255",
            "198.18.0.1",
            "192.0.2.1",
            "203.0.113.9",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "ff02::1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "2002:0a00:0001::1",
            "2001:db8::1",
            "2001::1",
            "100::1",
        ] {
            assert!(!reach.includes(ip(text)), "{text}");
        }
        for text in [
            "8.8.8.8",
            "100.63.0.1",
            "100.128.0.1",
            "172.32.0.1",
            "169.253.0.1",
            "198.51.99.1",
            "2606:4700::1111",
            "2001:4860:4860::8888",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
        ] {
            assert!(reach.includes(ip(text)), "{text}");
        }
    }

    #[test]
    fn a_provider_may_allow_networks() {
        let reach = Reach::allowing(["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]);
        assert!(reach.includes(ip("10.1.2.3")) && reach.includes(ip("fd12::1")));
        assert!(!reach.includes(ip("127.0.0.1")) && !reach.includes(ip("fe80::1")));
    }
}
