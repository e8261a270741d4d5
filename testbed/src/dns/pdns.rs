//! An authoritative server of a third make: PowerDNS, with its database.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::Mutex;

use super::tsig::TsigKey;
use super::zone::{Zone, absolute};
use super::{START_BOUND, control, lookup};
use crate::{Address, Process, Result, Scratch, Spec, binaries};

/// Where Debian's package has the tables of the database.
const SCHEMA: &str = "/usr/share/pdns-backend-sqlite3/schema/schema.sqlite3.sql";

/// The port of its HTTP API.
const API_PORT: u16 = 8081;

/// PowerDNS with SQLite as an authoritative server at port 53 (UDP and TCP) of an address of its own; it ends with
/// this value.
#[derive(Debug)]
pub struct Pdns {
    // The process goes before the directory that it works in.
    process: Mutex<Process>,
    scratch: Scratch,
    address: Address,
    keys: Vec<TsigKey>,
    api_key: String,
    pdnsutil: PathBuf,
}

impl Pdns {
    /// Starts one without zones. Its zones may be updated with each of `keys`; with none, they are fixed.
    ///
    /// # Errors
    /// Where it is not installed, or does not start; the message holds the end of its log.
    pub async fn start(keys: &[TsigKey]) -> Result<Self> {
        Self::start_with(keys, &[]).await
    }

    /// The same, with lines for its configuration, such as `expand-alias=yes`.
    ///
    /// # Errors
    /// Where it is not installed, or does not start; the message holds the end of its log.
    pub async fn start_with(keys: &[TsigKey], lines: &[&str]) -> Result<Self> {
        let api_key = TsigKey::random("api", "hmac-sha256").secret;
        let (server, pdnsutil) = (binaries::system("pdns_server")?, binaries::system("pdnsutil")?);
        let (scratch, address) = (Scratch::new("pdns")?, Address::allocate()?);
        let (directory, ip) = (scratch.path().display(), address.ip());
        let database = scratch.join("pdns.sqlite3");
        let schema = format!(".read {SCHEMA}");
        control(&binaries::system("sqlite3")?, &[&database.to_string_lossy(), &schema]).await?;
        scratch.write(
            "pdns.conf",
            format!(
                "launch=gsqlite3\ngsqlite3-database={}\nlocal-address={ip}\nlocal-port=53\nsocket-dir={directory}\n\
                 daemon=no\nguardian=no\ndisable-syslog=yes\nwrite-pid=no\nsecurity-poll-suffix=\n\
                 dnsupdate=yes\nallow-dnsupdate-from=127.0.0.0/8\nzone-cache-refresh-interval=0\n\
                 api=yes\napi-key={api_key}\nwebserver-address={ip}\nwebserver-port={API_PORT}\n\
                 webserver-allow-from=127.0.0.0/8\n{}\n",
                database.display(),
                lines.join("\n")
            ),
        )?;
        let process = Spec::new("pdns_server", server, scratch.join("pdns.log"))
            .arg(format!("--config-dir={directory}"))
            .stop_within(Duration::from_secs(5))
            .spawn()?;
        let (process, keys_kept) = (Mutex::new(process), keys.to_vec());
        let pdns = Self { process, scratch, address, keys: keys_kept, api_key, pdnsutil };
        let server = pdns.address();
        let answers =
            || async { lookup(server, "example", "SOA").await.map(drop).map_err(|e| e.to_string()) };
        pdns.process.lock().await.ready(START_BOUND, "it answers DNS queries", answers).await?;
        for TsigKey { name, algorithm, secret } in keys {
            pdns.pdnsutil(&["import-tsig-key", name, algorithm, secret]).await?;
        }
        Ok(pdns)
    }

    /// Where it serves.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address.port(53)
    }

    /// Where its HTTP API is, and the key for it.
    #[must_use]
    pub fn api(&self) -> (String, &str) {
        (format!("http://{}", self.address.port(API_PORT)), &self.api_key)
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

    /// Adds or replaces a zone as a whole, by the text of a zone file (with SOA; `$ORIGIN` is the zone).
    ///
    /// # Errors
    /// Where the name cannot be used or the server refuses the text.
    pub async fn set_zone(&self, name: &str, text: &str) -> Result<()> {
        self.put(Zone { name: absolute(name)?, text: text.to_owned(), records: Vec::new() }).await
    }

    /// Makes it hang: it keeps its port but answers nothing until [`Pdns::resume`].
    ///
    /// # Errors
    /// Where it does not run.
    pub async fn pause(&self) -> Result<()> {
        self.process.lock().await.pause().await
    }

    /// Lets it answer again after [`Pdns::pause`].
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

    async fn put(&self, zone: Zone) -> Result<()> {
        let name = zone.name.trim_end_matches('.');
        let file = self.scratch.write("zone", zone.render())?;
        self.pdnsutil(&["load-zone", name, &file.to_string_lossy()]).await?;
        let keys: Vec<&str> = self.keys.iter().map(|key| key.name.as_str()).collect();
        if !keys.is_empty() {
            self.pdnsutil(&[&["set-meta", name, "TSIG-ALLOW-DNSUPDATE"], &keys[..]].concat()).await?;
            self.pdnsutil(&["set-meta", name, "SOA-EDIT-DNSUPDATE", "INCREASE"]).await?;
        }
        let what = format!("{} serves {name}", self.address());
        crate::eventually(START_BOUND, &what, || async {
            let answer = lookup(self.address(), name, "SOA").await.map_err(|error| error.to_string())?;
            if answer.authoritative && answer.code == "NOERROR" { Ok(()) } else { Err(answer.to_string()) }
        })
        .await
    }

    async fn pdnsutil(&self, args: &[&str]) -> Result<String> {
        let config = format!("--config-dir={}", self.scratch.path().display());
        control(&self.pdnsutil, &[&[config.as_str()], args].concat()).await
    }
}
