//! A whole zone (AXFR, RFC 5936), or what changed in it (IXFR, RFC 1995), as messages.

use std::sync::Arc;

use super::answer::{APEX_TTL, NS_TTL, PAYLOAD, write_record, write_soa_data};
use super::history::{Piece, is_after, pieces};
use super::query::{HEADER, Query, Reader, kind};
use super::snapshot::{Snapshot, Zone};
use super::wire_name::WireName;

/// About how many bytes of records a message has.
const MESSAGE: usize = 16 * 1024;
/// A pointer to the zone's name, which is the question's.
const TO_ZONE: [u8; 2] = [0xc0, 12];

/// What is sent, record by record.
#[derive(Debug)]
enum Item {
    Soa { serial: u32, negative_ttl: u32, primary: WireName },
    Piece(Piece),
}

/// A transfer on its way.
#[derive(Debug)]
pub struct Transfer {
    /// Header and question, which each message repeats.
    front: Vec<u8>,
    /// Bytes of the zone's name.
    zone: usize,
    edns: bool,
    items: std::iter::Peekable<std::vec::IntoIter<Item>>,
}

/// Which way a zone was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// All of it.
    Whole,
    /// What changed.
    Changes,
    /// Nothing: the client has it already.
    Nothing,
}

impl Transfer {
    /// Prepares the answer to an AXFR or IXFR query for a zone.
    #[must_use]
    pub fn new(query: &Query<'_>, snapshot: &Snapshot, zone: &Arc<Zone>) -> (Self, Sent) {
        let client = if query.kind == kind::IXFR { serial_of(query) } else { None };
        let current = || Item::Soa {
            serial: zone.serial,
            negative_ttl: zone.negative_ttl,
            primary: zone.primary().clone(),
        };
        let mut items = vec![current()];
        let sent = match client {
            Some(serial) if !is_after(zone.serial, serial) => Sent::Nothing,
            Some(serial) => match zone.history.since(serial) {
                Some(changes) => {
                    let changes: Vec<_> = changes.collect();
                    for (at, change) in changes.iter().enumerate() {
                        // The SOA after a change is the SOA before the next one.
                        let after = changes.get(at + 1).map(|next| soa_before(next));
                        items.push(soa_before(change));
                        items.extend(change.removed.iter().cloned().map(Item::Piece));
                        items.push(after.unwrap_or_else(current));
                        items.extend(change.added.iter().cloned().map(Item::Piece));
                    }
                    Sent::Changes
                }
                None => Sent::Whole,
            },
            None => Sent::Whole,
        };
        if sent == Sent::Whole {
            items.extend(pieces(snapshot, &zone.name).into_iter().map(Item::Piece));
        }
        if sent != Sent::Nothing {
            items.push(current());
        }
        let [high, low] = query.head.id;
        let mut front = vec![high, low, 0x84 | query.head.flags, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        front.extend_from_slice(query.packet.get(HEADER..query.question_end).unwrap_or_default());
        let transfer = Self {
            front,
            zone: zone.name.len(),
            edns: query.edns.is_some(),
            items: items.into_iter().peekable(),
        };
        (transfer, sent)
    }

    /// Only the newest SOA: what a client gets over UDP, so that it comes again over TCP (RFC 1995 §4).
    #[must_use]
    pub fn only_soa(mut self) -> Self {
        let first: Vec<Item> = self.items.next().into_iter().collect();
        self.items = first.into_iter().peekable();
        self
    }

    /// Writes the next message; `false` where there is none.
    pub fn next_message(&mut self, out: &mut Vec<u8>) -> bool {
        out.clear();
        if self.items.peek().is_none() {
            return false;
        }
        out.extend_from_slice(&self.front);
        let mut count: u16 = 0;
        while out.len() < MESSAGE {
            let Some(item) = self.items.next() else { break };
            self.write(&item, out);
            count += 1;
        }
        let edns = std::mem::take(&mut self.edns);
        if edns {
            let [p, q] = PAYLOAD.to_be_bytes();
            out.extend_from_slice(&[0, 0, 41, p, q, 0, 0, 0, 0, 0, 0]);
        }
        let [high, low] = count.to_be_bytes();
        if let Some([_, _, _, _, _, _, a, b, _, _, _, additional]) = out.first_chunk_mut::<HEADER>() {
            (*a, *b, *additional) = (high, low, u8::from(edns));
        }
        true
    }

    fn write(&self, item: &Item, out: &mut Vec<u8>) {
        match item {
            Item::Soa { serial, negative_ttl, primary } => {
                write_record(out, &TO_ZONE, kind::SOA, APEX_TTL, 0);
                write_soa_data(out, primary, &TO_ZONE, *serial, *negative_ttl);
            }
            Item::Piece(Piece::Text(text)) => {
                self.owner(&text.name, out);
                out.extend_from_slice(&text.record);
            }
            Item::Piece(Piece::Ns { owner, server }) => {
                self.owner(owner, out);
                write_record(out, &[], kind::NS, NS_TTL, server.len());
                out.extend_from_slice(server);
            }
        }
    }

    /// A name in the zone, its end a pointer to the zone's name.
    fn owner(&self, name: &[u8], out: &mut Vec<u8>) {
        let own = name.len().saturating_sub(self.zone);
        out.extend_from_slice(name.get(..own).unwrap_or_default());
        out.extend_from_slice(&TO_ZONE);
    }
}

fn soa_before(change: &Arc<super::history::Change>) -> Item {
    Item::Soa {
        serial: change.from,
        negative_ttl: change.negative_ttl_before,
        primary: change.primary_before.clone().unwrap_or_else(|| WireName::from_wire(&[0])),
    }
}

/// The serial that an IXFR query says its client has: that of the SOA in the authority section (RFC 1995 §3).
fn serial_of(query: &Query<'_>) -> Option<u32> {
    let mut reader = Reader::at(query.packet, query.question_end);
    let record = reader.record()?;
    let serial = record.data.len().checked_sub(20).filter(|_| record.kind == kind::SOA)?;
    record.data.get(serial..)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}
