//! Exim: takes mail by SMTP, signs it, sends it on. It runs as its own user from the beginning, beside Postfix.

use std::net::SocketAddr;
use std::time::Duration;

use super::program;
use crate::{Address, Process, Result, Scratch, Spec};

/// Where `testbed/packages.sh` unpacks it.
const EXIM: &str = "/var/lib/dkim-testbed/exim/usr/sbin/exim4";
/// The user it was built for.
const USER: &str = "Debian-exim";

/// The options of its smtp transport that sign.
#[derive(Debug, Clone)]
pub struct EximDkim(pub String);

/// An Exim that relays everything to one place.
#[derive(Debug)]
pub struct Exim {
    process: Process,
    address: SocketAddr,
    scratch: Scratch,
    _holding: Address,
}

impl Exim {
    /// Starts it.
    ///
    /// # Errors
    /// Where it does not start; root is needed.
    pub async fn start(dkim: &EximDkim, next: SocketAddr) -> Result<Self> {
        let exim = program(EXIM)?;
        let scratch = Scratch::passable("exim")?;
        let holding = Address::allocate()?;
        let address = holding.port(2525);
        let spool = scratch.directory("spool")?;
        drop(std::process::Command::new("chown").arg(USER).arg(&spool).status());
        let config = format!(
            "primary_hostname = mx.relay.example\nexim_path = {EXIM}\nspool_directory = {spool}\nlog_file_path = {spool}/%slog\n\
             pid_file_path = {spool}/pid\ndaemon_smtp_ports = 2525\nlocal_interfaces = {ip}\n\
             tls_advertise_hosts =\nhost_lookup =\nrfc1413_hosts =\n\
             deliver_drop_privilege = true\nsmtp_accept_max = 0\nmessage_size_limit = 0\n\
             keep_environment =\nacl_smtp_rcpt = accept_all\nacl_smtp_data = accept_data\n\
             dkim_verify_signers =\nsmtputf8_advertise_hosts = *\n\n\
             begin acl\naccept_all:\n  accept control = dkim_disable_verify\n\
             accept_data:\n  accept\n\n\
             begin routers\nall:\n  driver = manualroute\n  route_list = * {next_ip}::{next_port}\n  \
             transport = out\n  self = send\n  ignore_target_hosts =\n\n\
             begin transports\nout:\n  driver = smtp\n  allow_localhost\n  hosts_try_fastopen =\n{dkim}\n\
             begin retry\n* * F,1h,1s\n",
            spool = spool.display(),
            ip = holding.ip(),
            next_ip = next.ip(),
            next_port = next.port(),
            dkim = dkim.0,
        );
        let config = scratch.write("exim.conf", config)?;
        drop(std::process::Command::new("chown").arg(USER).arg(&config).status());
        let mut process = Spec::new("exim", "/usr/bin/setpriv", scratch.join("log"))
            .args(["--reuid", USER, "--regid", USER, "--init-groups", "--"])
            .arg(exim)
            .arg("-C")
            .arg(&config)
            // -q2s: what could not be sent is tried again soon.
            .args(["-bdf", "-q2s"])
            .spawn()?;
        process.listens(Duration::from_secs(30), "Exim takes connections", address).await?;
        Ok(Self { process, address, scratch, _holding: holding })
    }

    /// Where it takes mail.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        let file = |name: &str| std::fs::read_to_string(self.scratch.join(name)).unwrap_or_default();
        [self.process.log_text(), file("spool/mainlog"), file("spool/paniclog")].concat()
    }
}
