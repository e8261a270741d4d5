//! Listens, and answers until told to stop.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use futures::future::join_all;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::serving::Serving;
use super::{tcp, udp};
use crate::listen;

/// Sockets that are listened on.
#[derive(Debug)]
pub struct Bound {
    udp: Vec<UdpSocket>,
    /// UDP sockets of each address.
    threads: usize,
    tcp: Vec<TcpListener>,
}

/// Listens on each address, UDP with so many sockets, and TCP. Port 0 gives one free port to all.
///
/// # Errors
/// [`io::Error`] where an address cannot be had.
pub async fn bind(listen: &[SocketAddr], threads: usize) -> io::Result<Bound> {
    let threads = threads.max(1);
    let (mut udp, mut tcp) = (Vec::new(), Vec::new());
    for address in listen {
        let listener = listen::listen(*address, TcpListener::bind).await?;
        let same = listener.local_addr()?;
        for _ in 0..threads {
            udp.push(listen::listen(same, |address| std::future::ready(udp::socket(address))).await?);
        }
        tcp.push(listener);
    }
    Ok(Bound { udp, threads, tcp })
}

impl Bound {
    /// The addresses listened on.
    ///
    /// # Errors
    /// [`io::Error`] from the operating system.
    pub fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        self.tcp.iter().map(TcpListener::local_addr).collect()
    }

    /// Serves until `stop` is done; then answers on their way still leave, for at most a second, and all sockets are
    /// closed. Dropped, it ends at once.
    ///
    /// A socket that fails is tried again and again: the other ones go on.
    pub async fn serve(self, serving: Arc<Serving>, stop: impl Future<Output = ()>) {
        let (tell, stopping) = watch::channel(false);
        let most = tcp::most_connections(self.tcp.len());
        let threads = Threads::start(self.udp, self.threads, &serving);
        let tcp =
            self.tcp.into_iter().map(|tcp| tcp::serve(tcp, most, Arc::clone(&serving), stopping.clone()));
        let stop = async {
            stop.await;
            threads.stop();
            tell.send_replace(true);
        };
        tokio::join!(join_all(tcp), stop);
        let _ = tokio::task::spawn_blocking(move || threads.join()).await;
    }
}

/// The threads of the UDP sockets. They stop when this is dropped.
struct Threads {
    stop: Arc<AtomicBool>,
    handles: Vec<thread::JoinHandle<()>>,
}

impl Threads {
    fn start(sockets: Vec<UdpSocket>, threads: usize, serving: &Arc<Serving>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut handles = Vec::new();
        for socket in sockets {
            let (serving, stop) = (Arc::clone(serving), Arc::clone(&stop));
            let thread = thread::Builder::new().name("dns-udp".to_owned());
            match thread.spawn(move || udp::serve(&socket, &serving, threads, &stop)) {
                Ok(handle) => handles.push(handle),
                Err(error) => tracing::error!(%error, "a thread that answers over UDP cannot be started"),
            }
        }
        Self { stop, handles }
    }

    fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    fn join(mut self) {
        for handle in self.handles.drain(..) {
            let _ = handle.join();
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.stop();
    }
}
