//! Publishing by dynamic updates (RFC 2136): look at the server, change what is not as it shall be, look again.

mod client;
mod desk;
mod tsig;
mod update;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures::future::join_all;
use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::{RData, RecordType};

use super::endpoint::Brought;
use crate::api::{PublishState, RecordState, Rfc2136, ZoneSpec};
use crate::lookup::{Reply, ask};
use crate::model::name::DnsName;
use crate::model::publishing::{
    Change, Data, Kind, Mark, Place, Seen, Step, keep, mark_name, marked_elsewhere, names, publish,
    publish_cname, remembered, withdraw, withdraw_cname,
};
use crate::model::sighting::Outcome;

pub use client::UpdateError;
pub use desk::{Desk, Zone};

/// Bound on one try of one question to the server.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Tries of one question.
const ATTEMPTS: u32 = 2;
/// The port where none is named.
const PORT: u16 = 53;

/// Brings about what shall be at a place, and says how it stands with each record that is or may be there.
pub async fn bring_about(desk: &Desk, place: &Place, settings: &Rfc2136, mark: &Mark) -> Brought {
    let server = settings.server.as_str();
    let mut states = BTreeMap::new();
    let all = names(place);
    let address = match resolve(server).await {
        Ok(address) => address,
        Err(fault) => {
            let words = format!("{}.server of the DkimProvider: {fault}", place.kind.server_field());
            let all = all.into_iter().map(|name| failed(place, name, words.clone()));
            return Brought::new(all.collect(), true);
        }
    };
    let mut beside = BTreeMap::new();
    let mut changes: Vec<Change> = Vec::new();
    let looks = join_all(all.iter().map(|name| see(server, address, name))).await;
    for (name, seen) in all.iter().zip(looks) {
        if let (Ok(seen), true) = (&seen, place.wanted.contains_key(*name)) {
            beside.extend(marked_elsewhere(seen, mark).map(|other| (other, (*name).clone())));
        }
        match seen.map(|seen| step(place, name, &seen, mark)) {
            Err(words) => _ = states.insert((*name).clone(), failed(place, name, words)),
            Ok(Step::Nothing) => note_done(place, name, &mut states),
            Ok(Step::Conflict(words)) => {
                states.insert((*name).clone(), state(name, PublishState::Conflict, words));
            }
            Ok(Step::Change(change)) => changes.push(*change),
        }
    }
    // For how long the tenant's zone has its names remembered as not there is a matter of looking.
    if place.kind == Kind::Keys
        && changes.iter().any(|change| change.before.texts.is_empty() && change.record.is_some())
    {
        let words = match too_long_remembered(server, address, &place.zone).await {
            Ok(None) => None,
            Ok(Some(words)) | Err(words) => Some(words),
        };
        if let Some(words) = words {
            for change in changes.extract_if(.., |c| c.before.texts.is_empty() && c.record.is_some()) {
                states.insert(change.name.clone(), failed(place, &change.name, words.clone()));
            }
        }
    }
    if changes.is_empty() {
        return Brought { records: states.into_values().collect(), written: true, beside };
    }
    let fresh =
        |change: &Change| matches!(change.record, Some((Data::Cname(_), _))) && change.before.cname.is_none();
    let fresh: Vec<DnsName> = changes.iter().filter(|c| fresh(c)).map(|c| c.name.clone()).collect();
    let changed: Vec<DnsName> = changes.iter().map(|change| change.name.clone()).collect();
    let made = desk.update(address, changes).await;
    let looks = match &made {
        Ok(()) => join_all(changed.iter().map(|name| see(server, address, name))).await,
        Err(_) => Vec::new(),
    };
    for (at, name) in changed.iter().enumerate() {
        let seen = looks.get(at).and_then(|seen| seen.as_ref().ok());
        match (&made, seen.map(|seen| step(place, name, seen, mark))) {
            (Ok(()), Some(Step::Nothing)) => note_done(place, name, &mut states),
            (Ok(()), _) => {
                let words =
                    format!("{server} has taken the update of {name} and does not answer with it yet");
                states.insert(name.clone(), pending(place, name, words));
            }
            (Err(error), _) if !error.is_lasting() && matches!(error, UpdateError::Changed) => {
                let words = match fresh.contains(name) {
                    true => format!(
                        "{error}. If this lasts, {name} or another name of the domain has records of another type, beside which no CNAME may be: remove them from the zone"
                    ),
                    false => error.to_string(),
                };
                states.insert(name.clone(), pending(place, name, words));
            }
            (Err(error), _) => _ = states.insert(name.clone(), failed(place, name, error.to_string())),
        }
    }
    Brought { records: states.into_values().collect(), written: true, beside }
}

fn step(place: &Place, name: &DnsName, seen: &Seen, mark: &Mark) -> Step {
    match (place.kind, place.wanted.get(name)) {
        (Kind::Keys, Some(wanted)) if place.leaving => keep(name, seen, &wanted.text, wanted.ttl, mark),
        (Kind::Keys, Some(wanted)) => publish(name, seen, &wanted.text, wanted.ttl, mark),
        (Kind::Keys, None) => withdraw(name, seen, mark),
        (Kind::Cnames, Some(wanted)) => match DnsName::new(&wanted.text) {
            Ok(target) => publish_cname(name, seen, &target, wanted.ttl, mark),
            Err(fault) => Step::Conflict(fault.to_string()),
        },
        (Kind::Cnames, None) => withdraw_cname(name, seen, mark),
    }
}

/// What is to be there is published; what is to go is gone and needs no state any more.
fn note_done(place: &Place, name: &DnsName, states: &mut BTreeMap<DnsName, RecordState>) {
    if place.wanted.contains_key(name) {
        states.insert(name.clone(), state(name, PublishState::Published, String::new()));
    }
}

fn failed(place: &Place, name: &DnsName, words: String) -> RecordState {
    let wanted = place.wanted.contains_key(name);
    state(name, if wanted { PublishState::Failed } else { PublishState::Withdrawing }, words)
}

fn pending(place: &Place, name: &DnsName, words: String) -> RecordState {
    let wanted = place.wanted.contains_key(name);
    state(name, if wanted { PublishState::Pending } else { PublishState::Withdrawing }, words)
}

fn state(name: &DnsName, state: PublishState, message: String) -> RecordState {
    RecordState { name: name.to_string(), state, message }
}

/// Words, where resolvers remember for longer than we wait that a name is not there.
async fn too_long_remembered(
    server: &str,
    address: SocketAddr,
    zone: &ZoneSpec,
) -> Result<Option<String>, String> {
    let told = |failure: &dyn std::fmt::Display| {
        format!("{server} {failure} when asked for the SOA of zone {}; it is asked again", zone.apex)
    };
    let apex = DnsName::new(&zone.apex).map_err(|error| error.to_string())?;
    let reply = ask(address, &apex, RecordType::SOA, false, TIMEOUT, ATTEMPTS).await.map_err(|f| told(&f))?;
    if let Outcome::Failed(failure) = reply.outcome(&apex, RecordType::SOA, true) {
        return Err(told(&failure));
    }
    if reply.zone().as_ref() != Some(&apex) {
        return Err(format!(
            "{server} has no zone {apex}; set {} to the zone as the server has it",
            Kind::Keys.zone_field()
        ));
    }
    Ok(reply.negative_ttl().and_then(|theirs| remembered(&zone.apex, theirs, zone.negative_ttl)))
}

/// What a server has at a name and at its mark's.
async fn see(server: &str, address: SocketAddr, name: &DnsName) -> Result<Seen, String> {
    let mark = mark_name(name).map_err(|error| error.to_string())?;
    let (record, mark_there) = tokio::join!(texts(server, address, name), texts(server, address, &mark));
    let (texts, cname) = record?;
    Ok(Seen { texts, cname, marks: mark_there?.0 })
}

/// The TXTs at a name, and the target of a CNAME.
async fn texts(
    server: &str,
    address: SocketAddr,
    name: &DnsName,
) -> Result<(Vec<(TXT, u32)>, Option<(DnsName, u32)>), String> {
    let told = |failure: &dyn std::fmt::Display| {
        format!(
            "{server} {failure} when asked for the TXT of {name}; it is asked again, and what is published already stays"
        )
    };
    let reply: Reply = ask(address, name, RecordType::TXT, false, TIMEOUT, ATTEMPTS)
        .await
        .map_err(|failure| told(&failure))?;
    if let Outcome::Failed(failure) = reply.outcome(name, RecordType::TXT, true) {
        return Err(told(&failure));
    }
    let (mut texts, mut cname) = (Vec::new(), None);
    for record in &reply.message.answers {
        if DnsName::new(record.name.to_ascii()).ok().as_ref() != Some(name) {
            continue;
        }
        match &record.data {
            RData::TXT(text) => texts.push((text.clone(), record.ttl)),
            RData::CNAME(target) => {
                let odd = |_| format!("{server} has a CNAME at {name} whose target is no name; remove it");
                cname = Some((DnsName::new(target.0.to_ascii()).map_err(odd)?, record.ttl));
            }
            _ => {}
        }
    }
    Ok((texts, cname))
}

/// The address of a server given as IP, IP:port, name or name:port.
async fn resolve(server: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = server.parse::<SocketAddr>() {
        return Ok(address);
    }
    if let Ok(ip) = server.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, PORT));
    }
    let (host, port) = match server.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().map_err(|_| format!("{server} has no usable port"))?),
        None => (server, PORT),
    };
    let mut found = match tokio::time::timeout(TIMEOUT * 2, tokio::net::lookup_host((host, port))).await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => {
            return Err(format!("{host} has no address ({error})"));
        }
        Err(_) => return Err(format!("{host} cannot be looked up in time")),
    };
    found.next().ok_or_else(|| format!("{host} has no address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn servers_are_written_in_many_ways() {
        for (text, address) in [
            ("192.0.2.53", "192.0.2.53:53"),
            ("192.0.2.53:5353", "192.0.2.53:5353"),
            ("2001:db8::53", "[2001:db8::53]:53"),
            ("[2001:db8::53]", "[2001:db8::53]:53"),
            ("[2001:db8::53]:5353", "[2001:db8::53]:5353"),
        ] {
            assert_eq!(resolve(text).await.unwrap().to_string(), address, "{text}");
        }
        assert!(resolve("localhost:5353").await.unwrap().ip().is_loopback());
        let fault = resolve("ns0.onmail.example:x").await.unwrap_err();
        assert!(fault.contains("no usable port"), "{fault}");
    }
}
