//! maddy: takes mail by SMTP, signs it, sends it on.

use std::net::SocketAddr;
use std::time::Duration;

use crate::{Address, Binaries, Process, Result, Scratch, Spec};

/// A maddy that relays everything to one place.
#[derive(Debug)]
pub struct Maddy {
    process: Process,
    address: SocketAddr,
    _scratch: Scratch,
    _holding: Address,
}

impl Maddy {
    /// Starts it. `top` are lines outside of all blocks; `sources` are the senders' domains, each with what is done to its mail
    /// before it is sent on.
    ///
    /// # Errors
    /// Where it does not start.
    pub async fn start(top: &str, sources: &[(String, String)], next: SocketAddr) -> Result<Self> {
        let maddy = Binaries::locate()?.maddy()?;
        let scratch = Scratch::new("maddy")?;
        let holding = Address::allocate()?;
        let address = holding.port(2525);
        let [state, runtime] = ["state", "run"].map(|name| scratch.directory(name));
        let deliver =
            format!("    deliver_to target.smtp {{\n      targets tcp://{next}\n      starttls no\n    }}\n");
        let blocks: String = sources
            .iter()
            .map(|(domain, lines)| format!("  source {domain} {{\n    {lines}\n{deliver}  }}\n"))
            .collect();
        let config = format!(
            "hostname mx.relay.example\nstate_dir {}\nruntime_dir {}\ntls off\nlog stderr\n{top}\n\
             smtp tcp://{address} {{\n{blocks}  default_source {{\n{deliver}  }}\n}}\n",
            state?.display(),
            runtime?.display(),
        );
        let config = scratch.write("maddy.conf", config)?;
        let process =
            Spec::new("maddy", maddy, scratch.join("log")).arg("--config").arg(&config).arg("run").spawn()?;
        let mut maddy = Self { process, address, _scratch: scratch, _holding: holding };
        maddy.ready().await?;
        Ok(maddy)
    }

    async fn ready(&mut self) -> Result<()> {
        self.process.listens(Duration::from_secs(60), "maddy takes connections", self.address).await
    }

    /// Ends it and starts it anew, with the files as they are now.
    ///
    /// # Errors
    /// Where it does not end, or does not start.
    pub async fn restart(&mut self) -> Result<()> {
        self.process.stop().await?;
        self.process.start()?;
        self.ready().await
    }

    /// Where it takes mail.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The file that it logs to.
    #[must_use]
    pub fn log(&self) -> &std::path::Path {
        self.process.log()
    }
}
