//! A recursive resolver: unbound.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::Mutex;

use super::zone::absolute;
use super::{START_BOUND, control, lookup};
use crate::{Address, Process, Result, Scratch, Spec, Usage, binaries};

/// What the resolver may keep, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caching {
    /// Answers are kept at least so long, whatever their TTL.
    pub min_ttl: u32,
    /// Answers are kept at most so long.
    pub max_ttl: u32,
    /// The answer that something is not there is kept at most so long.
    pub max_negative_ttl: u32,
}

impl Default for Caching {
    /// What the records themselves say, up to a day; negative answers up to an hour.
    fn default() -> Self {
        Self { min_ttl: 0, max_ttl: 86_400, max_negative_ttl: 3_600 }
    }
}

/// A recursive resolver at port 53 (UDP and TCP) of an address of its own, over a root of one's own; it ends
/// with this value.
#[derive(Debug)]
pub struct Unbound {
    // The process goes before the directory that it works in.
    process: Mutex<Process>,
    scratch: Scratch,
    address: Address,
    control: PathBuf,
}

impl Unbound {
    /// Starts one that begins at the root server `root`.
    ///
    /// # Errors
    /// Where it is not installed, or does not start; the message holds the end of its log.
    pub async fn start(root: IpAddr, caching: Caching) -> Result<Self> {
        Self::start_with(root, caching, None, None).await
    }

    /// Starts one that validates DNSSEC, beginning with the DS of the root.
    ///
    /// # Errors
    /// As [`Unbound::start`].
    pub async fn validating(root: IpAddr, caching: Caching, ds: &str) -> Result<Self> {
        Self::start_with(root, caching, Some(ds), None).await
    }

    /// Starts one that answers over TLS, too, at port 853, and over HTTPS at port 443, with a certificate for its address and for `localhost`;
    /// returns it with the authority's certificate as PEM.
    ///
    /// # Errors
    /// As [`Unbound::start`].
    pub async fn over_tls(root: IpAddr) -> Result<(Self, String)> {
        let address = Address::allocate()?;
        let certificates = crate::plane::certificates(address.ip())?;
        let authority = certificates.authority.clone();
        let tls = Some((address, certificates));
        Ok((Self::start_with(root, Caching::default(), None, tls).await?, authority))
    }

    async fn start_with(
        root: IpAddr,
        caching: Caching,
        ds: Option<&str>,
        tls: Option<(Address, crate::plane::Certificates)>,
    ) -> Result<Self> {
        let (unbound, control) = (binaries::system("unbound")?, binaries::system("unbound-control")?);
        let scratch = Scratch::new("unbound")?;
        let (address, tls) = match tls {
            None => (Address::allocate()?, String::new()),
            Some((address, certificates)) => {
                let key = scratch.write("tls.key", certificates.key)?;
                let certificate = scratch.write("tls.pem", certificates.certificate)?;
                let text = format!(
                    "    interface: {0}@853\n    tls-port: 853\n    interface: {0}@443\n    https-port: 443\n    http-endpoint: \"/dns-query\"\n    tls-service-key: \"{1}\"\n    tls-service-pem: \"{2}\"\n",
                    address.ip(),
                    key.display(),
                    certificate.display()
                );
                (address, text)
            }
        };
        let kind = super::zone::address_kind(root);
        scratch.write("root.hints", format!(". 3600000 NS ns1.\nns1. 3600000 {kind} {root}\n"))?;
        let config = scratch.write("unbound.conf", configuration(&scratch, &address, caching, ds, &tls))?;
        let mut process = Spec::new("unbound", unbound, scratch.join("unbound.log"))
            .args(["-d", "-p", "-c"])
            .arg(config)
            .stop_within(Duration::from_secs(5))
            .spawn()?;
        let server = address.port(53);
        let answers = || async {
            let answer = lookup(server, ".", "NS").await.map_err(|error| error.to_string())?;
            if answer.code == "NOERROR" { Ok(()) } else { Err(answer.to_string()) }
        };
        process.ready(START_BOUND, "it answers DNS queries", answers).await?;
        Ok(Self { process: Mutex::new(process), scratch, address, control })
    }

    /// Where it serves.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address.port(53)
    }

    /// Makes it forget everything, and what it thinks of the servers it has asked.
    ///
    /// # Errors
    /// Where it does not run.
    pub async fn flush(&self) -> Result<()> {
        self.command(&["flush_zone", "."]).await?;
        self.command(&["flush_infra", "all"]).await
    }

    /// Makes it forget a name and all below it.
    ///
    /// # Errors
    /// Where it does not run.
    pub async fn flush_name(&self, name: &str) -> Result<()> {
        self.command(&["flush_zone", &absolute(name)?]).await
    }

    /// Makes it hang: it keeps its port but answers nothing until [`Unbound::resume`].
    ///
    /// # Errors
    /// Where it does not run.
    pub async fn pause(&self) -> Result<()> {
        self.process.lock().await.pause().await
    }

    /// Lets it answer again after [`Unbound::pause`].
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

    /// Its memory and processor time.
    ///
    /// # Errors
    /// Where it does not run.
    pub async fn usage(&self) -> Result<Usage> {
        self.process.lock().await.usage()
    }

    async fn command(&self, args: &[&str]) -> Result<()> {
        let config = self.scratch.join("unbound.conf");
        let config = config.to_string_lossy();
        control(&self.control, &[&["-c", &config], args].concat()).await.map(drop)
    }
}

fn configuration(
    scratch: &Scratch,
    address: &Address,
    caching: Caching,
    ds: Option<&str>,
    tls: &str,
) -> String {
    let validation = match ds {
        None => "module-config: \"iterator\"".to_owned(),
        Some(ds) => format!(
            "module-config: \"validator iterator\"\n    trust-anchor: \". DS {ds}\"\n    val-bogus-ttl: 1\n    val-log-level: 1"
        ),
    };
    let Caching { min_ttl, max_ttl, max_negative_ttl } = caching;
    let (directory, ip) = (scratch.path().display(), address.ip());
    // The local zones would answer for names that tests like to use; nothing is fetched ahead, and a server
    // that has failed is tried again soon, so that each test sees its own faults only.
    format!(
        r#"server:
    directory: "{directory}"
    chroot: ""
    username: ""
    use-syslog: no
    logfile: ""
    verbosity: 1
    interface: {ip}
    outgoing-interface: {ip}
    port: 53
    do-ip6: no
    access-control: 127.0.0.0/8 allow
    root-hints: "{directory}/root.hints"
    {validation}
    do-not-query-localhost: no
    local-zone: "test." nodefault
    local-zone: "invalid." nodefault
    qname-minimisation: no
    target-fetch-policy: "0 0 0 0 0"
    num-threads: 1
    msg-cache-size: 4m
    rrset-cache-size: 8m
    cache-min-ttl: {min_ttl}
    cache-max-ttl: {max_ttl}
    cache-max-negative-ttl: {max_negative_ttl}
    infra-host-ttl: 1
    infra-keep-probing: yes
{tls}remote-control:
    control-enable: yes
    control-interface: "{directory}/control.sock"
    control-use-cert: no
"#
    )
}
