//! The parts of the operator that read what strangers send, without all the rest, so that fuzzing is built in a moment.

#[path = "../../src/api"]
pub mod api {
    mod canonicalization;

    pub use canonicalization::Canonicalization;
}

#[path = "../../src/dns"]
pub mod dns {
    pub mod answer;
    pub mod cookies;
    pub mod history;
    pub mod limit;
    pub mod query;
    pub mod secrets;
    pub mod set;
    pub mod snapshot;
    pub mod store;
    pub mod transfer;
    pub mod tsig;
    pub mod wire_name;
}

#[path = "../../src/model"]
pub mod model {
    pub mod name;
    pub mod selector;
}

pub mod milter;
pub mod signing;
