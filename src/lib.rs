//! dkim-operator: a tenant publishes two CNAMEs once; the operator makes the keys, publishes them behind the CNAMEs,
//! watches DNS until they are there, turns signing on, and rolls the keys for ever.
//!
//! [`model`] is pure; [`controller`] observes, decides, applies and reports; [`lookup`] is the way out to DNS;
//! [`dns`] serves what is published, [`publish`] brings it into DNS that others run; [`signing`] signs with what the
//! Secret holds; [`sync`] keeps files for other signers; [`cli`] is the kubectl plugin.
pub mod api;
pub mod cli;
pub mod controller;
pub mod crds;
pub mod dns;
pub mod jitter;
pub mod listen;
pub mod lookup;
pub mod metrics;
pub mod milter;
pub mod model;
pub mod probes;
pub mod publish;
pub mod signing;
pub mod sync;
pub mod uptime;
pub mod wipe;
