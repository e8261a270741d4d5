//! The command line of `dkim-operator dns`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::Args;

use super::{DnsOptions, Rates};

/// Arguments of `dkim-operator dns`.
#[derive(Debug, Args)]
pub struct DnsArgs {
    /// The namespace of the record sets: the operator's own.
    #[arg(long, env = "DKIM_OPERATOR_NAMESPACE")]
    pub namespace: String,
    /// Where to listen, UDP and TCP; may be given several times. On a host with several addresses name each one.
    #[arg(long, env = "DKIM_OPERATOR_LISTEN", value_delimiter = ',', default_value = "[::]:53")]
    pub listen: Vec<SocketAddr>,
    /// Where /healthz and /readyz are served.
    #[arg(long, env = "DKIM_OPERATOR_HEALTH_ADDR", default_value = "0.0.0.0:8080")]
    pub health_addr: SocketAddr,
    /// UDP sockets of each address, each with a thread of its own; the number of processors where left out.
    #[arg(long, env = "DKIM_OPERATOR_UDP_THREADS", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub udp_threads: Option<u16>,
    /// Where the zones are kept, so that they are served after a restart while the API server is away.
    #[arg(long, env = "DKIM_OPERATOR_STATE_FILE")]
    pub state_file: Option<PathBuf>,
    /// A file with the secrets of DNS cookies, which all servers of a name share: 32 hexadecimal digits a line, the
    /// first in use, others still honoured. Read again when it changes; a secret of its own where left out.
    #[arg(long, env = "DKIM_OPERATOR_COOKIE_SECRET_FILE")]
    pub cookie_secret_file: Option<PathBuf>,
    /// A file with the TSIG keys with which secondaries may fetch the zones (AXFR, IXFR): [ALGORITHM:]NAME:SECRET a line,
    /// as dig -y takes them; hmac-sha256 where left out. Read again when it changes; no transfers where left out.
    #[arg(long, env = "DKIM_OPERATOR_TRANSFER_KEY_FILE")]
    pub transfer_key_file: Option<PathBuf>,
    /// Secondaries that are told of each change (NOTIFY), as ADDRESS or ADDRESS:PORT, separated by commas.
    #[arg(long, env = "DKIM_OPERATOR_NOTIFY", value_delimiter = ',', value_parser = secondary)]
    pub notify: Vec<SocketAddr>,
    /// Answers over UDP with the same content a second to one network (/24, /56); 0 is no limit. Clients with a cookie
    /// are not limited.
    #[arg(long, env = "DKIM_OPERATOR_RATE_LIMIT", default_value_t = 100)]
    pub rate_limit: u32,
    /// All answers over UDP a second to one network; 0 is no limit.
    #[arg(long, env = "DKIM_OPERATOR_RATE_LIMIT_ALL", default_value_t = 10_000)]
    pub rate_limit_all: u32,
    /// Every how many answers over a limit one is sent as truncated, so that the client comes over TCP; 0 is never.
    #[arg(long, env = "DKIM_OPERATOR_RATE_LIMIT_SLIP", default_value_t = 2)]
    pub rate_limit_slip: u32,
}

impl DnsArgs {
    /// How the server is run.
    #[must_use]
    pub fn options(self) -> DnsOptions {
        let processors = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        DnsOptions {
            listen: self.listen,
            namespace: self.namespace,
            threads: self.udp_threads.map_or_else(processors, usize::from),
            rates: Rates { same: self.rate_limit, all: self.rate_limit_all, slip: self.rate_limit_slip },
            cookie_secrets: self.cookie_secret_file,
            transfer_keys: self.transfer_key_file,
            notify: self.notify,
            state: self.state_file,
        }
    }
}

/// An address, with port 53 where none is given.
fn secondary(text: &str) -> Result<SocketAddr, String> {
    let address = text.parse().or_else(|_| text.parse().map(|ip: IpAddr| SocketAddr::new(ip, 53)));
    address.map_err(|_| "write an address such as 192.0.2.1, 192.0.2.1:5353 or [2001:db8::1]:53".to_owned())
}
