//! Proves that rotation cannot break mail.
//!
//! The decision, its application, the publication and the judgement of DNS are the operator's own functions, called
//! through [`operator`]; nothing of them is copied. Around them stand two worlds: [`checker`] goes through *every*
//! history of a small one, [`simulation`] through ten years of a large one. [`rules`] holds the seeded faults that
//! both must find.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "only tests use it, and they fail by panicking"
)]

pub mod checker;
pub mod keys;
pub mod mutants;
pub mod operator;
pub mod rules;
pub mod sight;
pub mod simulation;
pub mod terms;
