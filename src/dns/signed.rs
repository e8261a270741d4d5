//! Signed queries: what secondaries send. Whoever has a key may fetch zones.

use super::answer::{Asker, Told, Transport, refuse, refuse_unfit, resolve};
use super::cookies::Cookies;
use super::query::{IN, Query, Unfit, code, kind};
use super::serving::Serving;
use super::snapshot::Snapshot;
use super::transfer::{Sent, Transfer};
use super::tsig::{Checked, Session, check};

/// The answer to a signed query.
#[derive(Debug)]
pub enum Answer {
    /// One message, which is written.
    One(Told),
    /// Messages that are still to be written.
    Many(Box<Stream>),
}

/// Messages of a transfer, each signed.
#[derive(Debug)]
pub struct Stream {
    /// For counting.
    pub told: Told,
    transfer: Transfer,
    session: Session,
}

impl Stream {
    /// Writes the next message; `false` where there is none. `now` in seconds since 1970.
    pub fn next_message(&mut self, out: &mut Vec<u8>, now: u64) -> bool {
        let more = self.transfer.next_message(out);
        if more {
            self.session.sign(out, now);
        }
        more
    }
}

/// Answers a signed query; `now` in seconds since 1970.
pub fn answer_signed(
    query: &Query<'_>,
    serving: &Serving,
    snapshot: &Snapshot,
    cookies: &Cookies,
    asker: &Asker,
    now: u64,
    out: &mut Vec<u8>,
) -> Answer {
    let mut session = match check(query, &serving.keys.load(), now) {
        Checked::Good(session) => session,
        Checked::Bad(refusal) => {
            let told = refuse(query, code::NOT_AUTH, cookies, asker, out);
            refusal.append(out, now);
            return Answer::One(told);
        }
        Checked::Malformed => {
            let unfit = Unfit::Told { head: query.head, code: code::FORM_ERR, edns: query.edns };
            let told = refuse_unfit(unfit, cookies, asker, out);
            return Answer::One(told.unwrap_or_else(|| refuse(query, code::FORM_ERR, cookies, asker, out)));
        }
    };
    if query.class != IN || !matches!(query.kind, kind::AXFR | kind::IXFR) {
        let mut told = resolve(query, snapshot, cookies, asker, session.length(), out);
        session.sign(out, now);
        told.proven = true;
        return Answer::One(told);
    }
    let zone = snapshot.zone(query.name.wire());
    let fault = match zone {
        None => Some(code::NOT_AUTH),
        // There is no way to send a zone over UDP.
        Some(_) if query.kind == kind::AXFR && asker.transport == Transport::Udp => Some(code::FORM_ERR),
        Some(_) => None,
    };
    let (Some(zone), None) = (zone, fault) else {
        let code = fault.unwrap_or(code::NOT_AUTH);
        let mut told = refuse(query, code, cookies, asker, out);
        session.sign(out, now);
        told.proven = true;
        return Answer::One(told);
    };
    let mut told = refuse(query, code::NO_ERROR, cookies, asker, out);
    told.proven = true;
    let (mut transfer, sent) = Transfer::new(query, snapshot, zone);
    if asker.transport == Transport::Udp {
        transfer = transfer.only_soa();
        transfer.next_message(out);
        session.sign(out, now);
        return Answer::One(told);
    }
    serving.tallies.transfer(sent);
    let name = &zone.name;
    match sent {
        Sent::Whole => {
            tracing::info!(zone = %name, to = %asker.ip, serial = zone.serial, "a zone is fetched")
        }
        Sent::Changes | Sent::Nothing => {
            tracing::debug!(zone = %name, to = %asker.ip, serial = zone.serial, ?sent, "a zone is fetched");
        }
    }
    Answer::Many(Box::new(Stream { told, transfer, session }))
}
