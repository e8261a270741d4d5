//! Looking at DNS and telling what is wrong, on real servers: a root, a registry, tenants' servers of three makes, a
//! provider whose answers are cut, and resolvers. Each fault is made for real.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod faults;
mod resolvers;
mod stage;
mod walking;

type Test = Result<(), Box<dyn std::error::Error>>;
