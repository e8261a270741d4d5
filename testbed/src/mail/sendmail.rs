//! Sendmail: takes mail by SMTP, gives it to a milter, sends it on. It runs beside Postfix, unpacked, in a view of the machine of
//! its own: at start it asks how the machine is called, in files and in DNS, and waits a minute where nobody knows.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use super::program;
use crate::error::Context;
use crate::{Address, Error, Process, Result, Scratch, Spec};

/// Where `testbed/packages.sh` unpacks it.
const ROOT: &str = "/var/lib/dkim-testbed/sendmail";

/// What it sees of the machine. `$0` is the directory with its files. Its group must not change as it starts: the kernel would
/// forget then to end it with its parent.
const OWN_VIEW: &str = r#"set -e
hostname mx.relay.example
mount --bind "$0/hosts" /etc/hosts
mount --bind "$0/nsswitch.conf" /etc/nsswitch.conf
exec setpriv --no-new-privs -- "$@""#;

/// A Sendmail that relays everything to one place, through one milter.
#[derive(Debug)]
pub struct Sendmail {
    process: Process,
    address: SocketAddr,
    _holding: Address,
    _scratch: Scratch,
}

impl Sendmail {
    /// Starts it. `lines` go into its `sendmail.mc`: the milter, and what else is to be tried.
    ///
    /// # Errors
    /// Where it does not start, or m4 cannot make its configuration; root is needed.
    pub async fn start(lines: &str, next: SocketAddr) -> Result<Self> {
        let sendmail = program(&format!("{ROOT}/usr/libexec/sendmail/sendmail"))?;
        let m4 = program("/usr/bin/m4")?;
        let scratch = Scratch::passable("sendmail")?;
        let holding = Address::allocate()?;
        let address = holding.port(2525);
        let cf = format!("{ROOT}/usr/share/sendmail/cf/");
        let input = scratch.write("sendmail.mc", source(&cf, &scratch, address, next, lines)?)?;
        let making = || "making sendmail.cf with m4".to_owned();
        let made = Command::new(m4).arg(format!("-D_CF_DIR_={cf}")).arg(&input).output().context(making)?;
        if !made.status.success() {
            return Err(Error::Command {
                command: making(),
                status: made.status.to_string(),
                output: String::from_utf8_lossy(&made.stderr).into_owned(),
            });
        }
        let config = scratch.write("sendmail.cf", made.stdout)?;
        scratch.write("hosts", "127.0.0.1 mx.relay.example localhost\n")?;
        scratch.write("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\naliases: files\n")?;
        let mut process = Spec::new("sendmail", "/usr/bin/unshare", scratch.join("log"))
            .args(["--uts", "--mount", "--", "/bin/sh", "-c", OWN_VIEW])
            .arg(scratch.path())
            .arg(sendmail)
            // In the foreground; what could not be sent is tried again soon.
            .args(["-bD", "-q2s", "-C"])
            .arg(&config)
            .spawn()?;
        process.listens(Duration::from_secs(60), "Sendmail takes connections", address).await?;
        Ok(Self { process, address, _holding: holding, _scratch: scratch })
    }

    /// Where it takes mail.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has said.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log_text()
    }
}

/// Its configuration, in m4.
fn source(cf: &str, scratch: &Scratch, address: SocketAddr, next: SocketAddr, lines: &str) -> Result<String> {
    let queue = scratch.directory("queue")?;
    let at = |name: &str| scratch.join(name).display().to_string();
    Ok(format!(
        "include(`{cf}m4/cf.m4')dnl\nVERSIONID(`dkim-testbed')dnl\nOSTYPE(`linux')dnl\n\
         define(`QUEUE_DIR', `{queue}')dnl\ndefine(`HELP_FILE', `{help}')dnl\n\
         define(`STATUS_FILE', `{status}')dnl\ndefine(`confPID_FILE', `{pid}')dnl\n\
         undefine(`ALIAS_FILE')dnl\ndefine(`confDOMAIN_NAME', `mx.relay.example')dnl\n\
         define(`confTO_IDENT', `0')dnl\ndefine(`confDONT_PROBE_INTERFACES', `True')dnl\n\
         define(`SMART_HOST', `esmtp:[{next_ip}]')dnl\ndefine(`ESMTP_MAILER_ARGS', `TCP $h {next_port}')dnl\n\
         FEATURE(`no_default_msa')dnl\nFEATURE(`promiscuous_relay')dnl\n\
         FEATURE(`accept_unresolvable_domains')dnl\nFEATURE(`accept_unqualified_senders')dnl\n\
         DAEMON_OPTIONS(`Name=MTA, Family=inet, Addr={ip}, Port={port}')dnl\n{lines}\n\
         MAILER(`local')dnl\nMAILER(`smtp')dnl\n",
        queue = queue.display(),
        help = at("help"),
        status = at("status"),
        pid = at("pid"),
        next_ip = next.ip(),
        next_port = next.port(),
        ip = address.ip(),
        port = address.port(),
    ))
}
