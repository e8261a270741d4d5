//! A test bed for dkim-operator: a real Kubernetes control plane and a real DNS tree, on loopback addresses of
//! their own, up in seconds and surely gone afterwards.
//!
//! - [`ControlPlane`]: etcd, kube-apiserver and kube-controller-manager, with kubectl and helm.
//! - [`DnsTree`]: a root, tenants' zones and a recursive resolver; [`Knot`], [`Bind`], [`Pdns`] and [`Unbound`] one
//!   by one; [`kdig`] asks any server, [`nsupdate`] changes what one serves.
//! - [`ExternalDns`]: external-dns, publishing into one of those.
//! - [`mail`]: Postfix and Exim, a sink for what they send, and a client.
//! - [`Process`] and [`Spec`]: running other programs, the operator's own among them, in the same way.
//! - [`Relay`]: a TCP relay that can be made to stall.
//! - [`WoundClock`]: a clock that is set under a running process.
//! - [`Mount`]: a Secret as pods see it, swapped as kubelet does.
//! - [`Address`]: a loopback address that nobody else has; [`eventually`]: waiting with a clear message.
//!
//! `testbed/build.sh` builds the Kubernetes binaries once, `testbed/packages.sh` installs the DNS servers.

mod address;
mod binaries;
mod dns;
mod error;
pub mod mail;
mod mount;
pub mod operator;
mod plane;
mod poll;
mod process;
mod relay;
mod scratch;
mod wound;

pub use address::Address;
pub use binaries::Binaries;
pub use dns::{
    Answer, Bind, Caching, DnsTree, ExternalDns, Fetch, FileServer, Found, Knot, Make, Pdns, Secondary,
    SlowWay, TsigKey, Unbound, ZoneText, kdig, lookup, nsupdate, to_pdns, to_rfc2136, txt,
};
pub use error::{Error, Result};
pub use mount::Mount;
pub use plane::{ControlPlane, KUBECONFIG_VARIABLE, Options, Output};
pub use poll::eventually;
pub use process::{Process, Signal, Spec, Usage};
pub use relay::Relay;
pub use scratch::{KEEP_VARIABLE, Scratch};
pub use wound::WoundClock;
