//! DNS servers of three makes, in one shape.

use std::net::SocketAddr;

use dkim_testbed::{Bind, Knot, Pdns, Result, TsigKey, lookup};

/// An authoritative server that takes dynamic updates.
pub enum Server {
    Bind(Bind),
    Knot(Knot),
    Pdns(Pdns),
}

/// The makes.
#[derive(Debug, Clone, Copy)]
pub enum Make {
    Bind,
    Knot,
    Pdns,
}

impl Server {
    /// Starts one whose zones take updates with a key.
    pub async fn start(make: Make, key: &TsigKey) -> Result<Self> {
        let keys = std::slice::from_ref(key);
        Ok(match make {
            Make::Bind => Self::Bind(Bind::start(keys).await?),
            Make::Knot => Self::Knot(Knot::start_with(keys).await?),
            Make::Pdns => Self::Pdns(Pdns::start(keys).await?),
        })
    }

    pub fn address(&self) -> SocketAddr {
        match self {
            Self::Bind(bind) => bind.address(),
            Self::Knot(knot) => knot.address(),
            Self::Pdns(pdns) => pdns.address(),
        }
    }

    pub async fn add_zone(&self, zone: &str, minimum: u32) -> Result<()> {
        match self {
            Self::Bind(bind) => bind.add_zone(zone, minimum).await,
            Self::Knot(knot) => knot.add_zone(zone, minimum).await,
            Self::Pdns(pdns) => pdns.add_zone(zone, minimum).await,
        }
    }

    /// The zone's serial.
    pub async fn serial(&self, zone: &str) -> Result<String> {
        let answer = lookup(self.address(), zone, "SOA").await?;
        let soa = answer.data("SOA").first().map(|data| (*data).to_owned()).unwrap_or_default();
        Ok(soa.split_whitespace().nth(2).unwrap_or_default().to_owned())
    }

    /// The texts at a name.
    pub async fn texts(&self, name: &str) -> Result<Vec<String>> {
        let answer = lookup(self.address(), name, "TXT").await?;
        Ok(answer.data("TXT").into_iter().map(str::to_owned).collect())
    }
}
