//! Secondaries of foreign make: they fetch a zone from a primary, signed, and serve it.

use std::net::SocketAddr;
use std::time::Duration;

use super::bind::Listed;
use super::{START_BOUND, lookup};
use crate::{Address, Process, Result, Scratch, Spec, binaries};

/// Which program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Make {
    /// knotd
    Knot,
    /// named
    Bind,
    /// nsd
    Nsd,
    /// knotd, which signs what it fetches
    KnotSigning,
}

impl Make {
    /// Those that serve what they fetch as it is.
    pub const ALL: [Self; 3] = [Self::Knot, Self::Bind, Self::Nsd];
}

/// From whom to fetch what.
#[derive(Debug, Clone, Copy)]
pub struct Fetch<'a> {
    /// The zone.
    pub zone: &'a str,
    /// The server to fetch it from.
    pub primary: SocketAddr,
    /// The name of the key, which is one of hmac-sha256.
    pub key: &'a str,
    /// The key itself, in base64.
    pub secret: &'a str,
}

/// A server at port 53 of an address of its own that fetches one zone; it ends with this value.
#[derive(Debug)]
pub struct Secondary {
    // The process goes before the directory that it works in.
    process: Process,
    address: Address,
    _scratch: Scratch,
    _listed: Option<Listed>,
}

impl Secondary {
    /// Starts one at an address; returns once it answers anything at all.
    ///
    /// # Errors
    /// Where it is not installed, or does not start; the message holds the end of its log.
    pub async fn start(make: Make, address: Address, fetch: Fetch<'_>) -> Result<Self> {
        let (name, program) = match make {
            Make::Knot | Make::KnotSigning => ("knotd", binaries::system("knotd")?),
            Make::Bind => ("named", binaries::system("named")?),
            Make::Nsd => ("nsd", binaries::system("nsd")?),
        };
        let listed = if make == Make::Bind { Some(Listed::new(&address).await?) } else { None };
        let scratch = Scratch::new(name)?;
        scratch.directory("run")?;
        scratch.directory("zones")?;
        let directory = scratch.path().display().to_string();
        let own = address.ip().to_string();
        let (text, args): (_, &[&str]) = match make {
            Make::Knot => (knot(&directory, &own, fetch, ""), &["-c"]),
            Make::KnotSigning => (knot(&directory, &own, fetch, "    dnssec-signing: on\n"), &["-c"]),
            Make::Bind => (bind(&directory, &own, fetch), &["-g", "-4", "-n", "1", "-c"]),
            Make::Nsd => (nsd(&directory, &own, fetch), &["-d", "-c"]),
        };
        let config = scratch.write("server.conf", text)?;
        let mut process = Spec::new(name, program, scratch.join("server.log"))
            .args(args)
            .arg(config)
            .stop_within(Duration::from_secs(5))
            .spawn()?;
        let server = address.port(53);
        let answers =
            || async { lookup(server, fetch.zone, "SOA").await.map(drop).map_err(|e| e.to_string()) };
        process.ready(START_BOUND, "it answers DNS queries", answers).await?;
        Ok(Self { process, address, _scratch: scratch, _listed: listed })
    }

    /// Where it serves.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address.port(53)
    }

    /// All that it has logged.
    #[must_use]
    pub fn log_text(&self) -> String {
        self.process.log_text()
    }
}

fn knot(directory: &str, own: &str, fetch: Fetch<'_>, signing: &str) -> String {
    let Fetch { zone, primary, key, secret } = fetch;
    let (ip, port) = (primary.ip(), primary.port());
    format!(
        r#"server:
    rundir: "{directory}/run"
    listen: {own}@53
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
log:
  - target: stderr
    any: debug
database:
    storage: "{directory}/zones"
    journal-db-max-size: 64M
key:
  - id: {key}
    algorithm: hmac-sha256
    secret: {secret}
remote:
  - id: primary
    address: {ip}@{port}
    via: {own}
    key: {key}
acl:
  - id: notify
    key: {key}
    action: notify
zone:
  - domain: "{zone}"
    storage: "{directory}/zones"
    master: primary
    acl: notify
{signing}"#
    )
}

fn bind(directory: &str, own: &str, fetch: Fetch<'_>) -> String {
    let Fetch { zone, primary, key, secret } = fetch;
    let (ip, port) = (primary.ip(), primary.port());
    format!(
        r#"options {{
    directory "{directory}";
    pid-file "{directory}/run/named.pid";
    session-keyfile "{directory}/run/session.key";
    listen-on port 53 {{ {own}; }};
    listen-on-v6 {{ none; }};
    transfer-source {own};
    recursion no;
    dnssec-validation no;
    notify no;
    minimal-responses yes;
    tcp-clients 100;
}};
controls {{ }};
key "{key}" {{ algorithm hmac-sha256; secret "{secret}"; }};
zone "{zone}" {{
    type secondary;
    file "{directory}/zones/zone";
    primaries {{ {ip} port {port} key "{key}"; }};
    allow-notify {{ key "{key}"; }};
}};
"#
    )
}

fn nsd(directory: &str, own: &str, fetch: Fetch<'_>) -> String {
    let Fetch { zone, primary, key, secret } = fetch;
    let (ip, port) = (primary.ip(), primary.port());
    format!(
        r#"server:
    ip-address: {own}
    port: 53
    username: ""
    chroot: ""
    zonesdir: "{directory}/zones"
    zonelistfile: "{directory}/run/zone.list"
    database: ""
    pidfile: "{directory}/run/nsd.pid"
    xfrdfile: "{directory}/run/xfrd.state"
    xfrdir: "{directory}/run"
    server-count: 1
    verbosity: 3
remote-control:
    control-enable: no
key:
    name: "{key}"
    algorithm: hmac-sha256
    secret: "{secret}"
zone:
    name: "{zone}"
    zonefile: "zone"
    request-xfr: {ip}@{port} {key}
    allow-notify: 127.0.0.0/8 {key}
    outgoing-interface: {own}
"#
    )
}
