//! The milter protocol on the wire: what an MTA sends and what it may be answered.
//!
//! Names and numbers are those of Sendmail's `mfdef.h`; Postfix speaks the same (versions 2 to 6).

mod decode;
mod negotiate;
mod reply;

pub use decode::{Decoder, Family, MAX_PACKET, Macros, Packet, ProtocolError};
pub use negotiate::{Agreed, MacroStage, Offer};
pub use reply::Reply;
