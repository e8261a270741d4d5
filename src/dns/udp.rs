//! Datagrams: one thread for each socket, which takes many queries from the kernel at once and gives the answers back
//! at once.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg};
use socket2::{Domain, Protocol, Socket, Type};

use super::answer::{Asker, Told, Transport, cut, refuse_unfit, resolve};
use super::arrival::{self, Arrival};
use super::cookies::Cookies;
use super::limit::{Limiter, Verdict};
use super::query::read;
use super::serving::{Serving, seconds_now};
use super::signed::{Answer, answer_signed};
use super::snapshot::Snapshot;
use super::tally::Tally;

/// Queries taken at once.
const BATCH: usize = 32;
/// Longest query that is read, in bytes.
const MAX_QUERY: usize = 4096;
/// Room for an answer, in bytes; the buffers grow where that is too little.
const ANSWER: usize = 1500;
/// How often a thread that gets nothing looks whether it shall stop.
const LOOK_UP: Duration = Duration::from_millis(100);
/// How long a socket that fails is left alone.
const PAUSE: Duration = Duration::from_millis(20);
/// What the kernel may keep for a thread that is busy, in bytes, where it allows so much.
const QUEUE: usize = 1 << 20;

/// Makes a socket that shares its address with others of this process: the kernel spreads the clients over them.
///
/// # Errors
/// [`io::Error`] where the address cannot be had.
pub fn socket(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_port(true)?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    socket.set_read_timeout(Some(LOOK_UP))?;
    // The kernel's own limit is good enough where this is too much.
    let _ = socket.set_recv_buffer_size(QUEUE);
    arrival::ask(&socket, address)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Answers until told to stop. A socket that fails is tried again and again.
pub fn serve(socket: &UdpSocket, serving: &Serving, threads: usize, stop: &AtomicBool) {
    let tally = serving.tallies.add(Transport::Udp);
    let mut worker = Worker {
        limiter: Limiter::new(serving.rates, threads),
        begin: Instant::now(),
        tally,
        replies: std::array::from_fn(|_| Vec::with_capacity(ANSWER)),
        clients: [None; BATCH],
        arrivals: [None; BATCH],
        count: 0,
    };
    let mut buffers = Box::new([[0; MAX_QUERY]; BATCH]);
    let room = socket.local_addr().ok().and_then(arrival::room);
    let mut incoming = MultiHeaders::<SockaddrStorage>::preallocate(BATCH, room.clone());
    let mut outgoing = Headers {
        plain: MultiHeaders::preallocate(BATCH, None),
        addressed: room.map(|room| MultiHeaders::preallocate(BATCH, Some(room))),
    };
    let fd = socket.as_raw_fd();
    let mut from: [(usize, Option<SockaddrStorage>, Option<Arrival>); BATCH] = [(0, None, None); BATCH];
    while !stop.load(Ordering::Relaxed) {
        let received = {
            let mut slices = buffers.each_mut().map(|buffer| [IoSliceMut::new(buffer)]);
            match recvmmsg(fd, &mut incoming, slices.iter_mut(), MsgFlags::MSG_WAITFORONE, None) {
                Ok(messages) => {
                    let mut received = 0;
                    for (message, place) in messages.zip(&mut from) {
                        *place = (message.bytes, message.address, arrival::of(&message));
                        received += 1;
                    }
                    received
                }
                // Nothing came.
                Err(Errno::EAGAIN | Errno::EINTR) => continue,
                Err(error) => {
                    tracing::debug!(%error, "receiving over UDP");
                    thread::sleep(PAUSE);
                    continue;
                }
            }
        };
        let packets = buffers.iter().zip(&from).take(received);
        let packets = packets.filter_map(|(buffer, (length, client, arrival))| {
            Some((buffer.get(..*length)?, (*client)?, *arrival))
        });
        worker.answer_all(serving, packets);
        worker.send(fd, &mut outgoing);
    }
}

/// What replies are put into for the kernel.
struct Headers {
    plain: MultiHeaders<SockaddrStorage>,
    /// With room for the address to send from, where the socket has several.
    addressed: Option<MultiHeaders<SockaddrStorage>>,
}

struct Worker {
    limiter: Limiter,
    begin: Instant,
    tally: Arc<Tally>,
    replies: [Vec<u8>; BATCH],
    clients: [Option<SockaddrStorage>; BATCH],
    /// Where the queries came in, so that answers leave from there.
    arrivals: [Option<Arrival>; BATCH],
    /// How many replies there are to send.
    count: usize,
}

impl Worker {
    fn answer_all<'a>(
        &mut self,
        serving: &Serving,
        packets: impl Iterator<Item = (&'a [u8], SockaddrStorage, Option<Arrival>)>,
    ) {
        // One clock and one snapshot for all that came at once.
        let elapsed = u64::try_from(self.begin.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let now = u32::try_from(seconds_now() & u64::from(u32::MAX)).unwrap_or(0);
        let (snapshot, cookies) = (serving.snapshot.load(), serving.cookies.load());
        self.count = 0;
        for (packet, client, arrival) in packets {
            let (Some(ip), Some(reply)) = (ip_of(&client), self.replies.get_mut(self.count)) else {
                continue;
            };
            let asker = Asker { ip, transport: Transport::Udp, now };
            let Some(mut told) = answer(packet, serving, &snapshot, &cookies, &asker, reply) else {
                self.tally.silent();
                continue;
            };
            let verdict =
                if told.proven { Verdict::Send } else { self.limiter.judge(ip, told.sort, elapsed) };
            self.tally.answered(&told, verdict);
            match verdict {
                Verdict::Drop => continue,
                Verdict::Cut => cut(reply, &mut told),
                Verdict::Send => {}
            }
            if let (Some(place), Some(from)) =
                (self.clients.get_mut(self.count), self.arrivals.get_mut(self.count))
            {
                (*place, *from) = (Some(client), arrival);
                self.count += 1;
            }
        }
    }

    fn send(&self, fd: i32, headers: &mut Headers) {
        let mut first = 0;
        while first < self.count {
            let reply = |at: usize| self.replies.get(first + at).map_or(&[][..], Vec::as_slice);
            let slices: [_; BATCH] = std::array::from_fn(|at| [IoSlice::new(reply(at))]);
            // Those that leave from one address go at once: most servers have but one.
            let arrivals = self.arrivals.get(first..self.count).unwrap_or_default();
            let arrival = arrivals.first().copied().flatten();
            let alike = arrivals.iter().take_while(|other| **other == arrival).count();
            let clients = self.clients.get(first..first + alike).unwrap_or_default();
            let flags = MsgFlags::empty();
            let outcome = match (&arrival, &mut headers.addressed) {
                (Some(arrival), Some(headers)) => {
                    sendmmsg(fd, headers, slices.iter(), clients, [arrival.control()], flags)
                }
                _ => {
                    let none: [ControlMessage<'_>; 0] = [];
                    sendmmsg(fd, &mut headers.plain, slices.iter(), clients, none, flags)
                }
            };
            let sent = match outcome {
                Ok(sent) => sent.count(),
                Err(Errno::EINTR) => continue,
                Err(error) => {
                    tracing::debug!(%error, "sending over UDP");
                    0
                }
            };
            // One that cannot be sent is left out.
            first += sent.max(1);
        }
    }
}

fn answer(
    packet: &[u8],
    serving: &Serving,
    snapshot: &Snapshot,
    cookies: &Cookies,
    asker: &Asker,
    out: &mut Vec<u8>,
) -> Option<Told> {
    match read(packet) {
        Ok(query) if query.tsig.is_some() => {
            match answer_signed(&query, serving, snapshot, cookies, asker, seconds_now(), out) {
                Answer::One(told) => Some(told),
                Answer::Many(_) => None,
            }
        }
        Ok(query) => Some(resolve(&query, snapshot, cookies, asker, 0, out)),
        Err(unfit) => refuse_unfit(unfit, cookies, asker, out),
    }
}

/// The client's address; one of IPv4 as such also where the socket takes both.
fn ip_of(client: &SockaddrStorage) -> Option<IpAddr> {
    if let Some(v4) = client.as_sockaddr_in() {
        return Some(IpAddr::V4(v4.ip()));
    }
    client.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip()).to_canonical())
}
