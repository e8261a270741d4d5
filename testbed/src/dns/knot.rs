//! An authoritative server: knotd.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::Mutex;

use super::tsig::TsigKey;
use super::zone::{Record, Zone, absolute, is_within};
use super::{START_BOUND, control, lookup};
use crate::{Address, Error, Process, Result, Scratch, Spec, Usage, binaries};

/// An authoritative DNS server at port 53 (UDP and TCP) of an address of its own; it ends with this value.
///
/// Zones and records can be changed while it serves: a change is there when the call returns. What the server
/// refuses (a CNAME beside other data, say) is an error and changes nothing.
#[derive(Debug)]
pub struct Knot {
    // The process goes before the directory that it works in.
    state: Mutex<State>,
    scratch: Scratch,
    address: Address,
    keys: Vec<TsigKey>,
    knotc: PathBuf,
}

#[derive(Debug)]
struct State {
    process: Process,
    zones: BTreeMap<String, Zone>,
    signed: BTreeSet<String>,
}

impl Knot {
    /// Starts one without zones, at a free address.
    ///
    /// # Errors
    /// Where it is not installed, or does not start; the message holds the end of its log.
    pub async fn start() -> Result<Self> {
        Self::start_at(Address::allocate()?).await
    }

    /// Starts one without zones, whose zones may be updated with each of `keys`. What is added by
    /// [`Knot::add_record`] then takes back what was updated.
    ///
    /// # Errors
    /// As for [`Knot::start`].
    pub async fn start_with(keys: &[TsigKey]) -> Result<Self> {
        Self::launch(Address::allocate()?, keys).await
    }

    /// Starts one without zones, at the given address.
    ///
    /// # Errors
    /// As for [`Knot::start`].
    pub async fn start_at(address: Address) -> Result<Self> {
        Self::launch(address, &[]).await
    }

    async fn launch(address: Address, keys: &[TsigKey]) -> Result<Self> {
        let (knotd, knotc) = (binaries::system("knotd")?, binaries::system("knotc")?);
        let scratch = Scratch::new("knot")?;
        for name in ["run", "db", "zones"] {
            scratch.directory(name)?;
        }
        let config = scratch.write(
            "knot.conf",
            configuration(&scratch, &address, keys, &BTreeMap::new(), &BTreeSet::new()),
        )?;
        let process = Spec::new("knotd", knotd, scratch.join("knot.log"))
            .arg("-c")
            .arg(config)
            .stop_within(Duration::from_secs(5))
            .spawn()?;
        let state = Mutex::new(State { process, zones: BTreeMap::new(), signed: BTreeSet::new() });
        let knot = Self { state, scratch, address, keys: keys.to_vec(), knotc };
        knot.ready(&mut *knot.state.lock().await).await?;
        Ok(knot)
    }

    /// Where it serves.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address.port(53)
    }

    /// Adds a zone with an SOA, whose negative answers live `soa_minimum` seconds, and the name server `ns1` in
    /// it, which is this server. One that is there already is replaced.
    ///
    /// # Errors
    /// Where the name cannot be used or the server refuses.
    pub async fn add_zone(&self, name: &str, soa_minimum: u32) -> Result<()> {
        let name = absolute(name)?;
        self.put(Zone::new(&name, soa_minimum, self.address.ip())).await
    }

    /// Adds or replaces a zone as a whole, by the text of a zone file (with SOA; `$ORIGIN` is the zone).
    ///
    /// Its serial does not matter: the server counts up by itself at each change.
    ///
    /// # Errors
    /// Where the name cannot be used or the server refuses the text.
    pub async fn set_zone(&self, name: &str, text: &str) -> Result<()> {
        self.put(Zone { name: absolute(name)?, text: text.to_owned(), records: Vec::new() }).await
    }

    /// Takes a zone away; returns whether it was there.
    ///
    /// # Errors
    /// Where the server cannot be told.
    pub async fn remove_zone(&self, name: &str) -> Result<bool> {
        let name = absolute(name)?;
        let mut state = self.state.lock().await;
        if state.zones.remove(&name).is_none() {
            return Ok(false);
        }
        self.configure(&mut state).await?;
        Ok(true)
    }

    /// Signs a zone that is there, with keys of its own (DNSSEC); returns the DS record's data for the zone above.
    ///
    /// # Errors
    /// Where the server or its key tool cannot be told.
    pub async fn sign(&self, name: &str) -> Result<String> {
        let name = absolute(name)?;
        let mut state = self.state.lock().await;
        state.signed.insert(name.clone());
        self.configure(&mut state).await?;
        let config = self.scratch.join("knot.conf");
        let keymgr = binaries::system("keymgr")?;
        let ds = crate::eventually(START_BOUND, "the zone has a key", || async {
            let text = control(&keymgr, &["-c", &config.to_string_lossy(), &name, "ds"]).await;
            let text = text.map_err(|error| error.to_string())?;
            // `NAME DS TAG ALGORITHM DIGEST-TYPE DIGEST`, one line for each kind of digest: SHA-256 is 2.
            let line = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
            let found =
                line.into_iter().find(|words| words.get(1) == Some(&"DS") && words.get(4) == Some(&"2"));
            found.map(|words| words[2..].join(" ")).ok_or(text)
        });
        let ds = ds.await?;
        let server = self.address();
        crate::eventually(START_BOUND, "the zone is signed", || async {
            let answer = lookup(server, &name, "DNSKEY").await.map_err(|error| error.to_string())?;
            if answer.data("DNSKEY").is_empty() { Err(answer.to_string()) } else { Ok(()) }
        })
        .await?;
        Ok(ds)
    }

    /// The zone that holds `name`, with a dot at its end: the longest that fits.
    pub async fn zone_of(&self, name: &str) -> Option<String> {
        longest(&self.state.lock().await.zones, &absolute(name).ok()?)
    }

    /// Adds a record to the zone that holds it; `data` is as in a zone file (see [`crate::txt`]).
    ///
    /// # Errors
    /// Where no zone holds the name, or the server refuses.
    pub async fn add_record(&self, name: &str, ttl: u32, kind: &str, data: &str) -> Result<()> {
        self.add_to(name, name, ttl, kind, data).await
    }

    /// As [`Knot::add_record`], to the zone that holds `within`: which is how a parent gets records of its child.
    ///
    /// # Errors
    /// As [`Knot::add_record`].
    pub async fn add_to(&self, within: &str, name: &str, ttl: u32, kind: &str, data: &str) -> Result<()> {
        let owner = absolute(name)?;
        let record = Record { owner, ttl, kind: kind.to_ascii_uppercase(), data: data.to_owned() };
        self.change(within, |zone| {
            let fresh = !zone.records.contains(&record);
            if fresh {
                zone.records.push(record);
            }
            usize::from(fresh)
        })
        .await?;
        Ok(())
    }

    /// Removes the records of one name and type that were added by [`Knot::add_record`], those with `data` only
    /// where it is given; returns how many those were.
    ///
    /// # Errors
    /// Where no zone holds the name, or the server refuses.
    pub async fn remove_record(&self, name: &str, kind: &str, data: Option<&str>) -> Result<usize> {
        self.remove_from(name, name, kind, data).await
    }

    /// As [`Knot::remove_record`], from the zone that holds `within`.
    pub(super) async fn remove_from(
        &self,
        within: &str,
        name: &str,
        kind: &str,
        data: Option<&str>,
    ) -> Result<usize> {
        let owner = absolute(name)?;
        let goes = |record: &Record| {
            record.owner == owner
                && record.kind.eq_ignore_ascii_case(kind)
                && data.is_none_or(|data| data == record.data)
        };
        self.change(within, |zone| {
            let before = zone.records.len();
            zone.records.retain(|record| !goes(record));
            before - zone.records.len()
        })
        .await
    }

    /// Ends it, as an outage would; the zones stay for [`Knot::resume`].
    ///
    /// # Errors
    /// Where it cannot be ended.
    pub async fn stop(&self) -> Result<()> {
        self.state.lock().await.process.stop().await.map(drop)
    }

    /// Makes it hang: it keeps its port but answers nothing until [`Knot::resume`].
    ///
    /// # Errors
    /// Where it does not run.
    pub async fn pause(&self) -> Result<()> {
        self.state.lock().await.process.pause().await
    }

    /// Lets it serve again after [`Knot::pause`] or [`Knot::stop`].
    ///
    /// # Errors
    /// Where it does not start.
    pub async fn resume(&self) -> Result<()> {
        let mut state = self.state.lock().await;
        if state.process.is_running() {
            return state.process.resume();
        }
        state.process.start()?;
        self.ready(&mut state).await
    }

    /// All that it has logged.
    pub async fn log_text(&self) -> String {
        self.state.lock().await.process.log_text()
    }

    /// Its memory and processor time.
    ///
    /// # Errors
    /// Where it does not run.
    pub async fn usage(&self) -> Result<Usage> {
        self.state.lock().await.process.usage()
    }

    async fn put(&self, zone: Zone) -> Result<()> {
        let mut state = self.state.lock().await;
        let name = zone.name.clone();
        self.write(&zone)?;
        let before = state.zones.insert(name.clone(), zone);
        let outcome = match before {
            Some(_) => self.reload(&mut state, &name).await,
            None => self.configure(&mut state).await,
        };
        if outcome.is_err() {
            match before {
                Some(zone) => {
                    self.write(&zone)?;
                    state.zones.insert(name, zone);
                }
                None => {
                    state.zones.remove(&name);
                    self.configure(&mut state).await?;
                }
            }
        }
        outcome
    }

    async fn change(&self, name: &str, edit: impl FnOnce(&mut Zone) -> usize) -> Result<usize> {
        let mut state = self.state.lock().await;
        let found = longest(&state.zones, &absolute(name)?);
        let zone = found.and_then(|zone| state.zones.get(&zone));
        let mut zone =
            zone.ok_or_else(|| Error::Zone(format!("no zone of this server holds {name}")))?.clone();
        let changed = edit(&mut zone);
        if changed == 0 {
            return Ok(0);
        }
        self.write(&zone)?;
        if let Err(error) = self.reload(&mut state, &zone.name).await {
            if let Some(before) = state.zones.get(&zone.name) {
                self.write(before)?;
            }
            return Err(error);
        }
        state.zones.insert(zone.name.clone(), zone);
        Ok(changed)
    }

    fn write(&self, zone: &Zone) -> Result<()> {
        self.scratch.write(&format!("zones/{}", file_name(&zone.name)), zone.render()).map(drop)
    }

    /// Tells the server that a zone's file has changed; one that is stopped reads it when it starts.
    async fn reload(&self, state: &mut State, zone: &str) -> Result<()> {
        if !state.process.is_running() {
            return Ok(());
        }
        let socket = self.scratch.join("run/knot.sock");
        let told = control(&self.knotc, &["-s", &socket.to_string_lossy(), "-b", "zone-reload", zone]).await;
        told.map(drop).map_err(|error| refusal(zone, &state.process, &error))
    }

    /// Tells the server that the list of zones has changed, and waits until it serves them all.
    async fn configure(&self, state: &mut State) -> Result<()> {
        let text = configuration(&self.scratch, &self.address, &self.keys, &state.zones, &state.signed);
        self.scratch.write("knot.conf", text)?;
        if !state.process.is_running() {
            return Ok(());
        }
        let socket = self.scratch.join("run/knot.sock");
        control(&self.knotc, &["-s", &socket.to_string_lossy(), "-b", "reload"]).await?;
        for zone in state.zones.keys() {
            let serves = self.serves(zone, START_BOUND / 4).await;
            serves.map_err(|error| refusal(zone, &state.process, &error))?;
        }
        Ok(())
    }

    /// Waits until the server answers for a zone with authority.
    async fn serves(&self, zone: &str, bound: Duration) -> Result<()> {
        let what = format!("{} serves {zone}", self.address());
        crate::eventually(bound, &what, || async {
            let answer = lookup(self.address(), zone, "SOA").await.map_err(|error| error.to_string())?;
            if answer.authoritative && answer.code == "NOERROR" { Ok(()) } else { Err(answer.to_string()) }
        })
        .await
    }

    /// Waits until a server that was just started answers.
    async fn ready(&self, state: &mut State) -> Result<()> {
        let server = self.address();
        let socket = self.scratch.join("run/knot.sock");
        let listens = || async {
            lookup(server, ".", "SOA").await.map_err(|error| error.to_string())?;
            if socket.exists() { Ok(()) } else { Err("its control socket is not there yet".to_owned()) }
        };
        state.process.ready(START_BOUND, "it answers DNS queries", listens).await?;
        for zone in state.zones.keys() {
            self.serves(zone, START_BOUND).await?;
        }
        Ok(())
    }
}

fn longest(zones: &BTreeMap<String, Zone>, name: &str) -> Option<String> {
    zones.keys().filter(|zone| is_within(name, zone)).max_by_key(|zone| zone.len()).cloned()
}

fn refusal(zone: &str, process: &Process, error: &Error) -> Error {
    Error::Zone(format!(
        "knotd refuses zone {zone}: {error}\n--- the end of its log ---\n{}",
        process.log_tail(8)
    ))
}

fn file_name(zone: &str) -> String {
    format!("{}zone", if zone == "." { "root." } else { zone })
}

fn configuration(
    scratch: &Scratch,
    address: &Address,
    keys: &[TsigKey],
    zones: &BTreeMap<String, Zone>,
    signed: &BTreeSet<String>,
) -> String {
    let directory = scratch.path().display();
    let (mut key_section, mut acl) = (String::new(), "");
    if !keys.is_empty() {
        let each = keys.iter().map(|TsigKey { name, algorithm, secret }| {
            format!("  - id: {name}\n    algorithm: {algorithm}\n    secret: {secret}\n")
        });
        let names: Vec<&str> = keys.iter().map(|key| key.name.as_str()).collect();
        key_section = format!(
            "key:\n{}acl:\n  - id: update\n    key: [{}]\n    action: [update, transfer]\n",
            each.collect::<String>(),
            names.join(", ")
        );
        acl = "    acl: update\n";
    }
    let mut text = format!(
        r#"server:
    rundir: "{directory}/run"
    listen: {}@53
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
log:
  - target: stderr
    any: info
{key_section}database:
    storage: "{directory}/db"
    journal-db-max-size: 64M
control:
    listen: "{directory}/run/knot.sock"
policy:
  - id: brisk
    algorithm: ecdsap256sha256
    single-type-signing: on
    cds-cdnskey-publish: none
template:
  - id: default
    storage: "{directory}/zones"
    zonefile-load: difference-no-serial
    zonefile-sync: -1
    journal-content: all
    serial-policy: increment
{acl}zone:
"#,
        address.ip()
    );
    for name in zones.keys() {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  - domain: \"{name}\"\n    file: \"{}\"", file_name(name));
        if signed.contains(name) {
            text.push_str("    dnssec-signing: on\n    dnssec-policy: brisk\n");
        }
    }
    text
}
