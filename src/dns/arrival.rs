//! Which of the machine's addresses a datagram came to, where a socket listens at all of them: the answer must leave from that
//! one, or resolvers take it for a forgery (RFC 2181 §4.1).

use std::io;
use std::net::{Ipv6Addr, SocketAddr};

use nix::cmsg_space;
use nix::libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, RecvMsg, SockaddrStorage, setsockopt, sockopt};
use socket2::Socket;

/// The address that a datagram came to, in the form in which the kernel takes it back. A socket for both IP versions has those
/// of IPv4 mapped into IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// Of IPv4.
    V4(in_pktinfo),
    /// Of IPv6.
    V6(in6_pktinfo),
}

/// Asks the kernel to tell with each datagram where it came to, if the socket will listen at all addresses.
///
/// # Errors
/// [`io::Error`] from the operating system.
pub fn ask(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => setsockopt(socket, sockopt::Ipv4PacketInfo, &true)?,
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => {
            setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true)?
        }
        _ => {}
    }
    Ok(())
}

/// Room for what the kernel tells with a datagram; none where the socket listens at one address. It is no greater than what it
/// tells, because the length that it writes counts as the room for the next datagram.
#[must_use]
pub fn room(address: SocketAddr) -> Option<Vec<u8>> {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => Some(cmsg_space!(in_pktinfo)),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => Some(cmsg_space!(in6_pktinfo)),
        _ => None,
    }
}

/// Where a datagram came to, if the kernel told; `None` where no answer can leave from there (multicast).
#[must_use]
pub fn of(message: &RecvMsg<'_, '_, SockaddrStorage>) -> Option<Arrival> {
    message.cmsgs().ok()?.find_map(|told| match told {
        // The interface is the kernel's choice, as for any answer.
        ControlMessageOwned::Ipv4PacketInfo(info) => Some(Arrival::V4(in_pktinfo {
            ipi_ifindex: 0,
            ipi_spec_dst: info.ipi_spec_dst,
            ipi_addr: in_addr { s_addr: 0 },
        })),
        ControlMessageOwned::Ipv6PacketInfo(info) => leaving_from(info).map(Arrival::V6),
        _ => None,
    })
}

/// What an answer leaves from; `None` where none can: addresses of many, those of IPv4 mapped into IPv6 as well.
fn leaving_from(info: in6_pktinfo) -> Option<in6_pktinfo> {
    let in6_addr { s6_addr: octets } = info.ipi6_addr;
    let address = Ipv6Addr::from(octets);
    let of_many = match address.to_ipv4_mapped() {
        Some(v4) => v4.is_multicast() || v4.is_broadcast(),
        None => address.is_multicast(),
    };
    // A link-local address is one of an interface (RFC 4007 §6). Else the interface is the kernel's choice.
    let interface = if address.is_unicast_link_local() { info.ipi6_ifindex } else { 0 };
    (!of_many).then_some(in6_pktinfo { ipi6_ifindex: interface, ..info })
}

impl Arrival {
    /// What tells the kernel to send from there.
    #[must_use]
    pub fn control(&self) -> ControlMessage<'_> {
        match self {
            Self::V4(info) => ControlMessage::Ipv4PacketInfo(info),
            Self::V6(info) => ControlMessage::Ipv6PacketInfo(info),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_leave_from_the_address_that_was_asked_if_they_can() {
        let left = |address: &str| {
            let octets = address.parse::<Ipv6Addr>().unwrap().octets();
            let info = in6_pktinfo { ipi6_addr: in6_addr { s6_addr: octets }, ipi6_ifindex: 3 };
            leaving_from(info).map(|info| info.ipi6_ifindex)
        };
        for (address, interface) in [
            ("2001:db8::53", Some(0)),
            ("::ffff:192.0.2.53", Some(0)),
            ("fe80::53", Some(3)),
            ("ff02::1", None),
            ("::ffff:224.0.0.251", None),
            ("::ffff:255.255.255.255", None),
        ] {
            assert_eq!(left(address), interface, "{address}");
        }
    }
}
