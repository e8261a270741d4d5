//! The way out to DNS. [`Looker`] looks once; [`Lookout`] keeps looking and tells what changed.

mod exchange;
mod looker;
mod lookout;

pub use exchange::{Reply, ask};
pub use looker::{Looker, LookupConfig, system_resolvers};
pub use lookout::{Look, Lookout, LookoutConfig, Pace};
