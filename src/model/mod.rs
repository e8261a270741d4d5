//! The pure core: no client, no clock, no I/O. Time and randomness come in as values.

pub mod acceptance;
pub mod acknowledgement;
pub mod cadence;
pub mod contest;
pub mod diagnosis;
pub mod guid;
pub mod home;
pub mod key;
pub mod keyring;
pub mod lanes;
pub mod name;
pub mod present;
pub mod publication;
pub mod publishing;
pub mod record;
pub mod rotation;
pub mod selector;
pub mod sighting;
pub mod status;
#[cfg(test)]
pub mod testing;
pub mod vault;
pub mod words;
