//! The embedded DNS server by itself, on an address of its own, without a cluster.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dkim_operator::dns::{Cookies, Part, Rates, Serving, Set, Snapshot, bind};
use dkim_testbed::Address;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub const APEX: &str = "_domainkey.contoso.onmail.example";
pub const KEY: &str = "selector1-contoso-com._domainkey.contoso.onmail.example";

/// A record set for the zone [`APEX`], with negative answers of 60 seconds.
pub fn set(records: &[(&str, &str)]) -> Set {
    let texts = records.iter().map(|(name, text)| ((*name).to_owned(), 300, (*text).to_owned()));
    let part = Part {
        apex: APEX.to_owned(),
        servers: vec!["ns1.provider.example".to_owned()],
        negative: 60,
        texts: texts.collect(),
    };
    Set { name: "contoso.com".to_owned(), created: jiff::Timestamp::UNIX_EPOCH, zones: vec![part] }
}

/// No limits.
pub const UNLIMITED: Rates = Rates { same: 0, all: 0, slip: 0 };

/// The text of a key record as long as that of an RSA 4096 key.
pub fn rsa_4096() -> String {
    format!("v=DKIM1; k=rsa; p={}", "A".repeat(736))
}

/// A server at port 53; it ends with this value.
pub struct Served {
    pub address: SocketAddr,
    pub serving: Arc<Serving>,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<()>,
    // Given back when the server is gone.
    _address: Address,
}

impl Served {
    /// Serves the record sets, with the serial 7 and without limits.
    pub async fn start(sets: &[Set]) -> Self {
        Self::start_with(sets, UNLIMITED).await
    }

    /// The same with limits.
    pub async fn start_with(sets: &[Set], rates: Rates) -> Self {
        let address = Address::allocate().expect("an address");
        let bound = bind(&[address.port(53)], 2).await.expect("port 53");
        let (snapshot, complaints) = Snapshot::build(sets, 7);
        assert_eq!(complaints, [""; 0]);
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = Arc::new(Serving::new(snapshot, Cookies::random().expect("randomness"), rates));
        let ended = tokio::spawn(bound.serve(Arc::clone(&serving), async { _ = stopped.await }));
        Self { address: address.port(53), serving, stop, ended, _address: address }
    }

    /// Serves at any address until the handle is dropped; returns where.
    pub async fn on(listen: SocketAddr, sets: &[Set]) -> (SocketAddr, tokio::task::JoinSet<()>) {
        let bound = bind(&[listen], 2).await.expect("a port");
        let address = bound.addresses().expect("an address")[0];
        let cookies = Cookies::random().expect("randomness");
        let serving = Arc::new(Serving::new(Snapshot::build(sets, 7).0, cookies, UNLIMITED));
        let server = tokio::task::JoinSet::from_iter([bound.serve(serving, std::future::pending())]);
        (address, server)
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
