//! The embedded DNS server by itself, on an address of its own, without a cluster.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dkim_operator::dns::{Set, Snapshot, bind};
use dkim_testbed::Address;
use serde_json::json;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

pub const APEX: &str = "_domainkey.contoso.onmail.example";
pub const KEY: &str = "selector1-contoso-com._domainkey.contoso.onmail.example";

/// A record set for the zone [`APEX`], with negative answers of 60 seconds.
pub fn set(records: &[(&str, &str)]) -> Set {
    let record = |(name, value)| json!({ "selector": "selector1", "name": name, "ttl": 300, "value": value, "serial": 1 });
    let spec = json!({
        "provider": "default",
        "guid": "contoso-com",
        "zone": { "apex": APEX, "nameServers": ["ns1.provider.example"], "negativeTtl": 60 },
        "drainSeconds": 60,
        "records": records.iter().copied().map(record).collect::<Vec<_>>(),
    });
    let spec = serde_json::from_value(spec).expect("a record set");
    Set { name: "contoso.com".to_owned(), created: jiff::Timestamp::UNIX_EPOCH, spec }
}

/// The text of a key record as long as that of an RSA 4096 key.
pub fn rsa_4096() -> String {
    format!("v=DKIM1; k=rsa; p={}", "A".repeat(736))
}

/// A server at port 53; it ends with this value.
pub struct Served {
    pub address: SocketAddr,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<()>,
    // Given back when the server is gone.
    _address: Address,
}

impl Served {
    /// Serves the record sets, with the serial 7.
    pub async fn start(sets: &[Set]) -> Self {
        let address = Address::allocate().expect("an address");
        let bound = bind(&[address.port(53)]).await.expect("port 53");
        let (snapshot, complaints) = Snapshot::build(sets, 7);
        assert_eq!(complaints, [""; 0]);
        let (stop, stopped) = oneshot::channel::<()>();
        // The last snapshot is served when its sender is gone.
        let (_, snapshot) = watch::channel(Arc::new(snapshot));
        let ended = tokio::spawn(bound.serve(snapshot, async { _ = stopped.await }));
        Self { address: address.port(53), stop, ended, _address: address }
    }

    /// Asks it to stop, and waits until it has.
    pub async fn stop(self) {
        self.stop.send(()).expect("it serves");
        tokio::time::timeout(Duration::from_secs(5), self.ended)
            .await
            .expect("it stops")
            .expect("it ends well");
    }
}
