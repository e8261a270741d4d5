//! The way out to DNS. [`Looker`] looks once; [`Lookout`] keeps looking and tells what changed.

mod exchange;
mod looker;
mod lookout;

pub use looker::{Looker, LookupConfig};
pub use lookout::{Look, Lookout, LookoutConfig, Pace};
