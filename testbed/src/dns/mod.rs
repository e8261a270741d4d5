//! Real DNS servers on loopback addresses of their own.

mod bind;
mod external_dns;
mod files;
mod kdig;
mod knot;
mod lookup;
mod pdns;
mod secondary;
mod slow;
mod tree;
mod tsig;
mod unbound;
mod zone;

pub use bind::Bind;
pub use external_dns::{ExternalDns, to_pdns, to_rfc2136};
pub use files::{FileServer, ZoneText};
pub use kdig::kdig;
pub use knot::Knot;
pub use lookup::{Answer, Found, lookup};
pub use pdns::Pdns;
pub use secondary::{Fetch, Make, Secondary};
pub use slow::SlowWay;
pub use tree::DnsTree;
pub use tsig::{TsigKey, nsupdate};
pub use unbound::{Caching, Unbound};
pub use zone::txt;

use std::path::Path;
use std::time::Duration;

use crate::{Error, Result};

/// How long a DNS server may take to start.
const START_BOUND: Duration = Duration::from_secs(10);

/// Runs a server's control program; its output is part of the error.
async fn control(program: &Path, args: &[&str]) -> Result<String> {
    let run = tokio::process::Command::new(program).args(args).kill_on_drop(true).output();
    let command = || format!("{} {}", program.display(), args.join(" "));
    let failed = |status: String, output: String| Error::Command { command: command(), status, output };
    let output = match tokio::time::timeout(START_BOUND, run).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Err(failed(error.to_string(), String::new())),
        Err(_) => return Err(failed(format!("no answer within {START_BOUND:?}"), String::new())),
    };
    let text =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    if output.status.success() { Ok(text) } else { Err(failed(output.status.to_string(), text)) }
}
