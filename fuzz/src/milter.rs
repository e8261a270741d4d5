#[path = "../../src/milter/wire/mod.rs"]
pub mod wire;
