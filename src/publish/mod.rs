//! Publishers: bring the records of DkimRecordSets into DNS that others run, by RFC 2136 or external-dns, or have people do
//! it; look whether they are there; and say so in the sets' status.
//!
//! They work from record sets alone and read no tenant's object and no key Secret. What to do is decided purely in
//! [`crate::model::publishing`]; here it is done. A place is written down before anything is sent there, and a record
//! set is held by a finalizer until its records are withdrawn.

mod book;
mod endpoint;
mod memory;
mod object;
mod publisher;
mod rfc2136;
mod sets;
mod sight;

pub use publisher::{Publisher, Settings};
pub use rfc2136::UpdateError;

/// Finalizer on record sets whose records are with publishers: those are withdrawn before the object goes.
pub const FINALIZER: &str = "dkim-operator.io/publish";
