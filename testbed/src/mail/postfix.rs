//! Postfix: takes mail by SMTP, gives it to a milter, sends it on.

use std::net::SocketAddr;
use std::time::Duration;

use super::program;
use crate::{Address, Process, Result, Scratch, Spec};

/// A Postfix that relays everything to one place, through one milter.
#[derive(Debug)]
pub struct Postfix {
    process: Process,
    address: SocketAddr,
    _holding: Address,
    _scratch: Scratch,
}

const MASTER: &str = "\
cleanup   unix  n - n - 0 cleanup
qmgr      unix  n - n 300 1 qmgr
rewrite   unix  - - n - - trivial-rewrite
bounce    unix  - - n - 0 bounce
defer     unix  - - n - 0 bounce
trace     unix  - - n - 0 bounce
verify    unix  - - n - 1 verify
flush     unix  n - n 1000? 0 flush
proxymap  unix  - - n - - proxymap
smtp      unix  - - n - - smtp
error     unix  - - n - - error
retry     unix  - - n - - error
anvil     unix  - - n - 1 anvil
scache    unix  - - n - 1 scache
postlog   unix-dgram n - n - 1 postlogd
";

impl Postfix {
    /// Starts it. `milter` is a socket as Postfix writes it (`inet:127.0.0.1:8891`, `unix:/run/x.sock`); what it
    /// cannot do is tried again later. `extra` are further lines of main.cf.
    ///
    /// # Errors
    /// Where it does not start; root is needed.
    pub async fn start(milter: &str, next: SocketAddr, extra: &str) -> Result<Self> {
        let postfix = program("/usr/sbin/postfix")?;
        let scratch = Scratch::passable("postfix")?;
        let holding = Address::allocate()?;
        let address = holding.port(2525);
        let [conf, queue, data] = ["conf", "queue", "data"].map(|name| scratch.directory(name));
        let (conf, queue, data) = (conf?, queue?, data?);
        let chown = std::process::Command::new("chown").arg("postfix").arg(&data).status();
        drop(chown);
        let main = format!(
            "compatibility_level = 3.6\nqueue_directory = {queue}\ndata_directory = {data}\n\
             maillog_file = /dev/stdout\nmyhostname = mx.relay.example\nmydestination =\n\
             mynetworks = 127.0.0.0/8\ninet_interfaces = 127.0.0.1\ninet_protocols = ipv4\n\
             relayhost = [{next_ip}]:{next_port}\nsmtp_dns_support_level = disabled\nsmtp_host_lookup = native\n\
             smtp_tls_security_level = none\nsmtpd_tls_security_level = none\n\
             smtpd_relay_restrictions = permit_mynetworks, reject\nsmtpd_milters = {milter}\n\
             non_smtpd_milters =\nmilter_default_action = tempfail\nmilter_protocol = 6\n\
             milter_mail_macros = i {{mail_addr}} {{client_addr}} {{client_name}} {{auth_authen}}\n\
             milter_connect_macros = j {{daemon_name}} {{daemon_addr}} v _\n\
             smtputf8_enable = yes\nbiff = no\nlocal_recipient_maps =\nalias_maps =\nalias_database =\n\
             in_flow_delay = 0\nmessage_size_limit = 0\nsmtpd_client_connection_rate_limit = 0\n{extra}\n",
            queue = queue.display(),
            data = data.display(),
            next_ip = next.ip(),
            next_port = next.port(),
        );
        scratch.write("conf/main.cf", main)?;
        scratch.write("conf/master.cf", format!("{address} inet n - n - - smtpd\n{MASTER}"))?;
        let mut process = Spec::new("postfix", postfix, scratch.join("log"))
            .arg("-c")
            .arg(&conf)
            .arg("start-fg")
            .spawn()?;
        process.listens(Duration::from_secs(60), "Postfix takes connections", address).await?;
        Ok(Self { process, address, _holding: holding, _scratch: scratch })
    }

    /// Where it takes mail.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log_text()
    }

    /// Ends it, with its daemons.
    ///
    /// # Errors
    /// Where it cannot be ended.
    pub async fn stop(&mut self) -> Result<()> {
        self.process.stop().await.map(|_| ())
    }
}
