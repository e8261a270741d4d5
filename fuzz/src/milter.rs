#[path = "../../src/milter/sendmail.rs"]
pub mod sendmail;
#[path = "../../src/milter/wire/mod.rs"]
pub mod wire;
