//! An authoritative server of another make: BIND.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::Mutex;

use super::tsig::TsigKey;
use super::zone::{Zone, absolute};
use super::{START_BOUND, control, lookup};
use crate::{Address, Error, Process, Result, Scratch, Spec, binaries};

/// BIND as an authoritative server at port 53 (UDP and TCP) of an address of its own; it ends with this value.
#[derive(Debug)]
pub struct Bind {
    // The process goes before the directory that it works in.
    state: Mutex<State>,
    scratch: Scratch,
    address: Address,
    keys: Vec<TsigKey>,
    control_key: TsigKey,
    rndc: PathBuf,
    // Given back when the process is gone.
    _listed: Listed,
}

/// Puts an address on the loopback interface while it lives: BIND listens only on addresses that an interface lists.
/// The kernel takes it away after a day if this program is killed.
#[derive(Debug)]
pub(super) struct Listed {
    ip: PathBuf,
    args: [String; 4],
}

impl Listed {
    pub(super) async fn new(address: &Address) -> Result<Self> {
        let ip = binaries::system("ip")?;
        let args = [format!("{}/32", address.ip()), "dev".into(), "lo".into(), "scope".into()];
        let lifetime = ["host", "valid_lft", "86400", "preferred_lft", "86400"];
        let listed = Self { ip, args };
        let args: Vec<&str> = listed.args.iter().map(String::as_str).chain(lifetime).collect();
        control(&listed.ip, &[&["addr", "replace"], &args[..]].concat()).await?;
        Ok(listed)
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        let command =
            std::process::Command::new(&self.ip).args(["addr", "del"]).args(&self.args[..3]).status();
        // There is nobody to tell; the lifetime ends it.
        drop(command);
    }
}

#[derive(Debug)]
struct State {
    process: Process,
    zones: BTreeMap<String, Zone>,
}

impl Bind {
    /// Starts one without zones. Its zones may be updated with each of `keys`; with none, they are fixed.
    ///
    /// # Errors
    /// Where it is not installed, or does not start; the message holds the end of its log.
    pub async fn start(keys: &[TsigKey]) -> Result<Self> {
        let (named, rndc) = (binaries::system("named")?, binaries::system("rndc")?);
        let (scratch, address) = (Scratch::new("bind")?, Address::allocate()?);
        let listed = Listed::new(&address).await?;
        scratch.directory("zones")?;
        let control_key = TsigKey::random("control", "hmac-sha256");
        let ip = address.ip();
        scratch.write(
            "rndc.conf",
            format!(
                "{}options {{ default-server {ip}; default-port 953; default-key \"control\"; }};\n",
                key_clause(&control_key)
            ),
        )?;
        let text = configuration(&scratch, &address, &control_key, keys, &BTreeMap::new());
        let config = scratch.write("named.conf", text)?;
        let process = Spec::new("named", named, scratch.join("bind.log"))
            .args(["-g", "-4", "-n", "1", "-c"])
            .arg(config)
            .stop_within(Duration::from_secs(5))
            .spawn()?;
        let state = Mutex::new(State { process, zones: BTreeMap::new() });
        let bind = Self { state, scratch, address, keys: keys.to_vec(), control_key, rndc, _listed: listed };
        bind.ready(&mut *bind.state.lock().await).await?;
        Ok(bind)
    }

    /// Where it serves.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address.port(53)
    }

    /// Adds a zone with an SOA, whose negative answers live `soa_minimum` seconds, and the name server `ns1` in
    /// it, which is this server.
    ///
    /// # Errors
    /// Where the name cannot be used or the server refuses.
    pub async fn add_zone(&self, name: &str, soa_minimum: u32) -> Result<()> {
        let name = absolute(name)?;
        self.put(Zone::new(&name, soa_minimum, self.address.ip())).await
    }

    /// Adds or replaces a zone as a whole, by the text of a zone file (with SOA; `$ORIGIN` is the zone). One that
    /// can be updated cannot be replaced.
    ///
    /// # Errors
    /// Where the name cannot be used or the server refuses the text.
    pub async fn set_zone(&self, name: &str, text: &str) -> Result<()> {
        self.put(Zone { name: absolute(name)?, text: text.to_owned(), records: Vec::new() }).await
    }

    /// Ends it, as an outage would; zones and updates stay for [`Bind::resume`].
    ///
    /// # Errors
    /// Where it cannot be ended.
    pub async fn stop(&self) -> Result<()> {
        self.state.lock().await.process.stop().await.map(drop)
    }

    /// Makes it hang: it keeps its port but answers nothing until [`Bind::resume`].
    ///
    /// # Errors
    /// Where it does not run.
    pub async fn pause(&self) -> Result<()> {
        self.state.lock().await.process.pause().await
    }

    /// Lets it serve again after [`Bind::pause`] or [`Bind::stop`].
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

    async fn put(&self, zone: Zone) -> Result<()> {
        let mut state = self.state.lock().await;
        let name = zone.name.clone();
        self.scratch.write(&format!("zones/{name}zone"), zone.render())?;
        let before = state.zones.insert(name.clone(), zone);
        let zones = &state.zones;
        let text = configuration(&self.scratch, &self.address, &self.control_key, &self.keys, zones);
        self.scratch.write("named.conf", text)?;
        if !state.process.is_running() {
            return Ok(());
        }
        match before {
            None => self.rndc(&["reconfig"]).await?,
            Some(_) => self.rndc(&["reload", &name]).await?,
        };
        self.serves(&name).await.map_err(|error| {
            let tail = state.process.log_tail(8);
            Error::Zone(format!(
                "named does not serve zone {name}: {error}\n--- the end of its log ---\n{tail}"
            ))
        })
    }

    async fn rndc(&self, args: &[&str]) -> Result<String> {
        let config = self.scratch.join("rndc.conf");
        control(&self.rndc, &[&["-c", &config.to_string_lossy()], args].concat()).await
    }

    async fn serves(&self, zone: &str) -> Result<()> {
        let what = format!("{} serves {zone}", self.address());
        crate::eventually(START_BOUND / 2, &what, || async {
            let answer = lookup(self.address(), zone, "SOA").await.map_err(|error| error.to_string())?;
            if answer.authoritative && answer.code == "NOERROR" { Ok(()) } else { Err(answer.to_string()) }
        })
        .await
    }

    async fn ready(&self, state: &mut State) -> Result<()> {
        let server = self.address();
        let answers =
            || async { lookup(server, ".", "SOA").await.map(drop).map_err(|error| error.to_string()) };
        state.process.ready(START_BOUND, "it answers DNS queries", answers).await?;
        for zone in state.zones.keys() {
            self.serves(zone).await?;
        }
        Ok(())
    }
}

fn key_clause(key: &TsigKey) -> String {
    let TsigKey { name, algorithm, secret } = key;
    format!("key \"{name}\" {{ algorithm {algorithm}; secret \"{secret}\"; }};\n")
}

fn configuration(
    scratch: &Scratch,
    address: &Address,
    control_key: &TsigKey,
    keys: &[TsigKey],
    zones: &BTreeMap<String, Zone>,
) -> String {
    let (directory, ip) = (scratch.path().display(), address.ip());
    let mut text: String = keys.iter().chain([control_key]).map(key_clause).collect();
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        r#"options {{
    directory "{directory}";
    pid-file "{directory}/named.pid";
    session-keyfile "{directory}/session.key";
    listen-on port 53 {{ {ip}; }};
    listen-on-v6 {{ none; }};
    recursion no;
    notify no;
    dnssec-validation no;
    allow-transfer {{ any; }};
}};
controls {{ inet {ip} port 953 allow {{ 127.0.0.0/8; }} keys {{ "control"; }}; }};
"#
    );
    let updates = match keys.is_empty() {
        true => String::new(),
        false => {
            let grants = keys.iter().map(|key| format!("grant {} zonesub ANY; ", key.name));
            format!(" update-policy {{ {}}};", grants.collect::<String>())
        }
    };
    for name in zones.keys() {
        let _ = writeln!(text, "zone \"{name}\" {{ type primary; file \"zones/{name}zone\";{updates} }};");
    }
    text
}
