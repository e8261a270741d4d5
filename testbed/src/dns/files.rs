//! Authoritative servers that serve what the others of this test bed would refuse or never say: BIND, PowerDNS and
//! tinydns, from files that nobody checks.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::sync::Mutex;

use super::zone::absolute;
use super::{START_BOUND, SlowWay, lookup};
use crate::error::Context;
use crate::{Address, Process, Result, Scratch, Spec, binaries};

/// A zone as the text of a zone file (`$ORIGIN` is the zone).
#[derive(Debug, Clone)]
pub struct ZoneText {
    name: String,
    text: String,
    only_for: Option<IpAddr>,
}

impl ZoneText {
    /// A zone whose records follow an SOA, with negative answers of `minimum` seconds, and the name server `ns1`
    /// of the zone, which is at `server`.
    ///
    /// # Errors
    /// Where the name cannot be used.
    pub fn new(name: &str, minimum: u32, server: IpAddr, records: &str) -> Result<Self> {
        let name = absolute(name)?;
        let head = super::zone::Zone::new(&name, minimum, server).text;
        Ok(Self { text: format!("$ORIGIN {name}\n$TTL 60\n{head}{records}\n"), name, only_for: None })
    }

    /// A zone whose file no server can read.
    ///
    /// # Errors
    /// Where the name cannot be used.
    pub fn broken(name: &str) -> Result<Self> {
        Ok(Self { name: absolute(name)?, text: "this is no zone (\n".to_owned(), only_for: None })
    }

    /// The same, shown to one client only: a split horizon. BIND only.
    #[must_use]
    pub fn only_for(self, client: IpAddr) -> Self {
        Self { only_for: Some(client), ..self }
    }
}

/// An authoritative server at port 53 (UDP and TCP) of an address of its own, with zones from files; it ends with
/// this value.
#[derive(Debug)]
pub struct FileServer {
    // The process goes before the directory that it works in.
    process: Mutex<Process>,
    _scratch: Scratch,
    _way: Option<SlowWay>,
    address: Address,
}

impl FileServer {
    /// Starts BIND. UDP answers are cut at `max_udp` bytes.
    ///
    /// BIND listens only on addresses that an interface has, which those of 127.0.0.0/8 but the first are not: it is
    /// at a port of 127.0.0.1, and what comes to `address` is passed on to it.
    ///
    /// # Errors
    /// Where it is not installed, or does not start; the message holds the end of its log.
    pub async fn bind(address: Address, zones: &[ZoneText], max_udp: u16) -> Result<Self> {
        let scratch = Scratch::new("bind")?;
        let directory = scratch.path().display().to_string();
        let files = write(&scratch, zones)?;
        let behind = free_port()?;
        let mut config = format!(
            r#"options {{
    directory "{directory}";
    listen-on port {port} {{ 127.0.0.1; }};
    listen-on-v6 {{ none; }};
    pid-file none;
    session-keyfile "{directory}/session.key";
    managed-keys-directory "{directory}";
    recursion no;
    notify no;
    dnssec-validation no;
    empty-zones-enable no;
    minimal-responses yes;
    max-udp-size {max_udp};
    nocookie-udp-size {max_udp};
}};
controls {{ }};
"#,
            port = behind.port()
        );
        let zone = |file: &str, zone: &ZoneText| {
            format!("zone \"{}\" {{ type primary; file \"{file}\"; check-names ignore; }};\n", zone.name)
        };
        let clients: std::collections::BTreeSet<IpAddr> = zones.iter().filter_map(|z| z.only_for).collect();
        let views = clients.iter().copied().map(Some).chain([None]);
        for view in views {
            // In a client's view a zone of its own stands for the one that all others see.
            let hidden = |z: &ZoneText| {
                z.only_for.is_some_and(|client| Some(client) != view)
                    || (z.only_for.is_none()
                        && view.is_some()
                        && zones.iter().any(|other| other.only_for == view && other.name == z.name))
            };
            let shown = files.iter().zip(zones).filter(|(_, z)| !hidden(z));
            let text: String = shown.map(|(file, z)| zone(file, z)).collect();
            // Writing to a String cannot fail.
            let _ = match view {
                Some(client) => {
                    writeln!(config, "view \"{client}\" {{ match-clients {{ {client}; }}; {text} }};")
                }
                None => writeln!(config, "view \"all\" {{ match-clients {{ any; }}; {text} }};"),
            };
        }
        let config = scratch.write("named.conf", config)?;
        let spec = Spec::new("named", binaries::system("named")?, scratch.join("named.log"))
            .args(["-g", "-n", "1", "-c"])
            .arg(config);
        let way = SlowWay::at(address.clone(), behind, Duration::ZERO).await?;
        Self::start(spec, scratch, address, Some(way)).await
    }

    /// Starts PowerDNS, which serves what others refuse to load.
    ///
    /// # Errors
    /// As [`FileServer::bind`].
    pub async fn powerdns(address: Address, zones: &[ZoneText]) -> Result<Self> {
        let scratch = Scratch::new("pdns")?;
        let directory = scratch.path().display().to_string();
        let files = write(&scratch, zones)?;
        let mut config = format!("options {{ directory \"{directory}\"; }};\n");
        for (file, zone) in files.iter().zip(zones) {
            let _ = writeln!(
                config,
                "zone \"{}\" {{ type master; file \"{file}\"; }};",
                zone.name.trim_end_matches('.')
            );
        }
        let config = scratch.write("named.conf", config)?;
        let spec = Spec::new("pdns_server", binaries::system("pdns_server")?, scratch.join("pdns.log"))
            .arg(format!("--config-dir={directory}"))
            .arg(format!("--socket-dir={directory}"))
            .arg(format!("--bind-config={}", config.display()))
            .arg(format!("--local-address={}", address.ip()))
            .args([
                "--launch=bind",
                "--local-port=53",
                "--daemon=no",
                "--guardian=no",
                "--disable-syslog=yes",
            ])
            .args([
                "--cache-ttl=0",
                "--query-cache-ttl=0",
                "--negquery-cache-ttl=0",
                "--security-poll-suffix=",
            ])
            .args(["--receiver-threads=1", "--distributor-threads=1", "--zone-cache-refresh-interval=0"]);
        Self::start(spec, scratch, address, None).await
    }

    /// Starts tinydns with one zone, which serves a TXT beside a CNAME. `records` are lines of its own format.
    ///
    /// # Errors
    /// As [`FileServer::bind`].
    pub async fn tinydns(address: Address, zone: &str, records: &str) -> Result<Self> {
        let scratch = Scratch::new("tinydns")?;
        let (zone, ip) = (absolute(zone)?, address.ip());
        let zone = zone.trim_end_matches('.');
        scratch.write("data", format!(".{zone}:{ip}:ns1.{zone}:600\n{records}\n"))?;
        let mut compiler =
            Spec::new("tinydns-data", binaries::system("tinydns-data")?, scratch.join("tinydns-data.log"))
                .current_dir(scratch.path())
                .spawn()?;
        compiler.wait(START_BOUND).await?;
        let spec = Spec::new("tinydns", binaries::system("tinydns")?, scratch.join("tinydns.log"))
            .env("IP", ip.to_string())
            .env("ROOT", scratch.path())
            .env("UID", "0")
            .env("GID", "0");
        // It answers for nothing but its zones.
        let server = address.port(53);
        let mut process = spec.stop_within(Duration::from_secs(5)).spawn()?;
        let answers = || async {
            let answer = lookup(server, zone, "SOA").await.map_err(|error| error.to_string())?;
            if answer.authoritative { Ok(()) } else { Err(answer.to_string()) }
        };
        process.ready(START_BOUND, "it answers DNS queries", answers).await?;
        Ok(Self { process: Mutex::new(process), _scratch: scratch, _way: None, address })
    }

    async fn start(spec: Spec, scratch: Scratch, address: Address, way: Option<SlowWay>) -> Result<Self> {
        let server = address.port(53);
        let mut process = spec.stop_within(Duration::from_secs(5)).spawn()?;
        let answers = || async {
            let answer = lookup(server, "version.invalid", "SOA").await.map_err(|error| error.to_string())?;
            if answer.code == "REFUSED" { Ok(()) } else { Err(answer.to_string()) }
        };
        process.ready(START_BOUND, "it answers DNS queries", answers).await?;
        Ok(Self { process: Mutex::new(process), _scratch: scratch, _way: way, address })
    }

    /// Where it serves.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address.port(53)
    }

    /// Makes it hang: it keeps its port but answers nothing until [`FileServer::resume`].
    ///
    /// # Errors
    /// Where it does not run.
    pub async fn pause(&self) -> Result<()> {
        self.process.lock().await.pause().await
    }

    /// Lets it answer again.
    ///
    /// # Errors
    /// Where it does not run.
    pub async fn resume(&self) -> Result<()> {
        self.process.lock().await.resume()
    }

    /// All that it has logged.
    pub async fn log_text(&self) -> String {
        self.process.lock().await.log_text()
    }
}

/// A port of 127.0.0.1 that nobody uses.
fn free_port() -> Result<SocketAddr> {
    let choosing = || "choosing a port".to_owned();
    let socket = std::net::UdpSocket::bind(("127.0.0.1", 0)).context(choosing)?;
    socket.local_addr().context(choosing)
}

fn write(scratch: &Scratch, zones: &[ZoneText]) -> Result<Vec<String>> {
    let each = zones.iter().enumerate().map(|(number, zone)| {
        let name = format!("{number}.zone");
        scratch.write(&name, &zone.text).map(|_| name)
    });
    each.collect()
}
