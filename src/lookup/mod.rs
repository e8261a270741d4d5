//! The way out to DNS. [`Looker`] looks once; [`Lookout`] keeps looking and tells what changed.
//!
//! A look walks down the delegations ([`walker`]) to the zone of the tenant and to the provider's, asks all servers of
//! both, and then, where those have the record, the resolvers. Everything that is sent goes through [`wire`], which
//! keeps to the limits.

mod config;
mod exchange;
mod https;
mod looker;
mod lookout;
mod pacer;
mod reach;
mod reply;
mod resolver;
mod walker;
mod wire;

pub use config::{Limits, LookupConfig, network};
pub use exchange::ask;
pub use looker::{Looker, Marked};
pub use lookout::{Look, Lookout, LookoutConfig, Pace, Timed};
pub use reach::Reach;
pub use reply::Reply;
pub use resolver::{NoResolver, Resolver, Way};
pub use wire::system_resolvers;
