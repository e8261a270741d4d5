//! Tells secondaries that a zone has changed (NOTIFY, RFC 1996), until they have heard it.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::answer::{APEX_TTL, write_record, write_soa_data};
use super::query::{IN, kind};
use super::serving::{Serving, seconds_now};
use super::snapshot::Zone;
use super::tsig::Session;
use super::wire_name::WireName;

/// How long to wait for the answer to each attempt.
const ATTEMPTS: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(16),
];
/// A pointer to the name in the question.
const TO_ZONE: [u8; 2] = [0xc0, 12];

/// One secondary, and what it has not heard yet.
#[derive(Debug)]
pub struct Secondary {
    address: SocketAddr,
    pending: Mutex<BTreeSet<WireName>>,
    more: Notify,
}

impl Secondary {
    /// A secondary that listens at an address.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        Self { address, pending: Mutex::default(), more: Notify::new() }
    }

    /// Says which zones have changed.
    pub fn tell(&self, zones: &[WireName]) {
        self.pending.lock().extend(zones.iter().cloned());
        self.more.notify_one();
    }

    /// Tells it, until dropped.
    pub async fn run(&self, serving: &Serving) {
        loop {
            self.more.notified().await;
            let mut away = false;
            while let Some(zone) = self.next() {
                // One that does not answer is not waited for zone by zone; it refreshes by itself.
                let attempts = if away { 1 } else { ATTEMPTS.len() };
                let heard = self.tell_one(serving, &zone, attempts).await;
                serving.tallies.notified(heard);
                if !heard && !away {
                    let secondary = self.address;
                    tracing::warn!(%secondary, %zone, "a secondary does not answer to NOTIFY");
                }
                away = !heard;
            }
        }
    }

    fn next(&self) -> Option<WireName> {
        self.pending.lock().pop_first()
    }

    async fn tell_one(&self, serving: &Serving, name: &WireName, attempts: usize) -> bool {
        for wait in ATTEMPTS.iter().take(attempts) {
            let Some(zone) = serving.snapshot.load().zone(name).cloned() else { return true };
            match timeout(*wait, self.exchange(serving, &zone)).await {
                Ok(Ok(())) => return true,
                Ok(Err(error)) => {
                    tracing::debug!(secondary = %self.address, %error, "NOTIFY");
                    tokio::time::sleep(*wait).await;
                }
                Err(_) => {}
            }
        }
        false
    }

    async fn exchange(&self, serving: &Serving, zone: &Zone) -> io::Result<()> {
        let any: SocketAddr = match self.address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any).await?;
        socket.connect(self.address).await?;
        let mut id = [0; 2];
        getrandom::fill(&mut id).map_err(io::Error::other)?;
        let mut message = message(id, zone);
        if let Some(key) = serving.keys.load().first() {
            Session::begin(Arc::clone(key), id).sign(&mut message, seconds_now());
        }
        socket.send(&message).await?;
        let mut reply = [0; 512];
        loop {
            let length = socket.recv(&mut reply).await?;
            // Whatever it says, it has heard. A response with opcode NOTIFY.
            let fits =
                length >= 12 && reply.starts_with(&id) && reply.get(2).is_some_and(|b| b & 0xf8 == 0xa0);
            if fits {
                return Ok(());
            }
        }
    }
}

/// A NOTIFY with the new SOA (RFC 1996 §3.7).
fn message(id: [u8; 2], zone: &Zone) -> Vec<u8> {
    let [high, low] = id;
    // Opcode 4, authoritative; one question and one answer.
    let mut message = vec![high, low, 0x24, 0, 0, 1, 0, 1, 0, 0, 0, 0];
    message.extend_from_slice(&zone.name);
    message.extend_from_slice(&kind::SOA.to_be_bytes());
    message.extend_from_slice(&IN.to_be_bytes());
    write_record(&mut message, &TO_ZONE, kind::SOA, APEX_TTL, 0);
    write_soa_data(&mut message, zone.primary(), &TO_ZONE, zone.serial, zone.negative_ttl);
    message
}
