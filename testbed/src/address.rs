//! Loopback addresses of one's own, so that many servers can each have port 53.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;

use crate::{Error, Result};

/// An address is held by having this UDP port of it open: the kernel gives it to one process only, and takes it
/// back when the process ends, however that happens.
const HOLDING_PORT: u16 = 28_653;
/// Ports that must be free at a new address: someone who does not take part in the holding may use them.
const PROBED_PORTS: [u16; 3] = [53, 2379, 6443];
/// How many addresses are tried.
const ATTEMPTS: u32 = 200;

/// An address in 127.0.0.0/8 that nobody else who asks has at the same time, in any process of the machine.
///
/// Clones share the address; it is given back when the last one is dropped. On Linux every address of
/// 127.0.0.0/8 is there already: nothing needs to be configured.
#[derive(Debug, Clone)]
pub struct Address {
    ip: Ipv4Addr,
    _holding: Arc<UdpSocket>,
}

impl Address {
    /// Takes a free address.
    ///
    /// # Errors
    /// Where none of many is free; the message says why.
    pub fn allocate() -> Result<Self> {
        let mut reason = String::new();
        for _ in 0..ATTEMPTS {
            let ip = Ipv4Addr::new(127, fastrand::u8(64..=126), fastrand::u8(..), fastrand::u8(1..=254));
            match Self::take(ip) {
                Ok(address) => return Ok(address),
                Err(error) => reason = format!("{ip}: {error}"),
            }
        }
        Err(Error::Address { attempts: ATTEMPTS, reason })
    }

    /// The address.
    #[must_use]
    pub fn ip(&self) -> IpAddr {
        IpAddr::V4(self.ip)
    }

    /// The address with a port.
    #[must_use]
    pub fn port(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip(), port)
    }

    fn take(ip: Ipv4Addr) -> std::io::Result<Self> {
        let holding = UdpSocket::bind((ip, HOLDING_PORT))?;
        for port in PROBED_PORTS {
            let probe = TcpListener::bind((ip, port)).and_then(|_| UdpSocket::bind((ip, port)));
            match probe {
                // Without the right to use low ports only servers on high ports can be run; those can.
                Err(error) if error.kind() != ErrorKind::PermissionDenied => {
                    return Err(std::io::Error::new(error.kind(), format!("port {port}: {error}")));
                }
                Ok(_) | Err(_) => {}
            }
        }
        Ok(Self { ip, _holding: Arc::new(holding) })
    }
}
