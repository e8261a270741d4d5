#[path = "../../src/signing/address.rs"]
pub mod address;
#[path = "../../src/signing/header.rs"]
pub mod header;

pub use header::Header;
