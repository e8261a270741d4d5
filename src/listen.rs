//! Listening for both IP versions at one address, also where the machine knows only one of them.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Linux' EAFNOSUPPORT and EADDRNOTAVAIL: the kernel has no IPv6, or it is switched off.
const NO_IPV6: [i32; 2] = [97, 99];

/// Listens at an address with `bind`. `[::]`, which takes IPv4 as well, becomes `0.0.0.0` where there is no IPv6.
///
/// # Errors
/// [`io::Error`] that names the address.
pub async fn listen<T, F>(address: SocketAddr, bind: impl Fn(SocketAddr) -> F) -> io::Result<T>
where
    F: Future<Output = io::Result<T>>,
{
    let named = |address: SocketAddr, error: &io::Error| {
        io::Error::new(error.kind(), format!("listening on {address}: {error}"))
    };
    match bind(address).await {
        Ok(socket) => Ok(socket),
        Err(error) => match instead(address, &error) {
            Some(v4) => bind(v4).await.map_err(|e| named(v4, &e)),
            None => Err(named(address, &error)),
        },
    }
}

fn instead(address: SocketAddr, error: &io::Error) -> Option<SocketAddr> {
    let any = address.is_ipv6() && address.ip().is_unspecified();
    let no_ipv6 = error.raw_os_error().is_some_and(|code| NO_IPV6.contains(&code));
    (any && no_ipv6).then(|| SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), address.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a kernel without IPv6 answers.
    async fn without_ipv6(address: SocketAddr) -> io::Result<SocketAddr> {
        if address.is_ipv6() { Err(io::Error::from_raw_os_error(97)) } else { Ok(address) }
    }

    #[tokio::test]
    async fn any_address_becomes_that_of_ipv4() {
        let found = listen("[::]:8080".parse().unwrap(), without_ipv6).await.unwrap();
        assert_eq!(found, "0.0.0.0:8080".parse().unwrap());
    }

    #[tokio::test]
    async fn an_address_that_was_chosen_stays() {
        let error = listen("[::1]:8080".parse().unwrap(), without_ipv6).await.unwrap_err();
        assert!(error.to_string().starts_with("listening on [::1]:8080: "), "{error}");
    }

    #[tokio::test]
    async fn any_address_takes_ipv4() {
        let listener = listen("[::]:0".parse().unwrap(), tokio::net::TcpListener::bind).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    }
}
