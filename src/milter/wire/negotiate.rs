//! The negotiation at the beginning of each connection: we ask for silence wherever the MTA offers it, so that a whole
//! message takes one round trip.

use super::ProtocolError;

/// The newest version of the protocol, that of Sendmail 8.14 and Postfix 2.6.
const VERSION: u32 = 6;
/// The oldest version that is of use.
const OLDEST: u32 = 2;

/// `SMFIF_ADDHDRS`: header fields may be added.
const ADD_HEADERS: u32 = 0x1;
/// `SMFIF_SETSYMLIST`: the milter may say which macros it wants.
const SET_MACROS: u32 = 0x100;

/// `SMFIP_NOHELO`, `NORCPT`, `NOUNKNOWN`, `NODATA`: not sent at all.
const NOT_SENT: u32 = 0x2 | 0x8 | 0x100 | 0x200;
/// `SMFIP_SKIP`: the rest of a body may be declined.
const SKIP: u32 = 0x400;
/// `SMFIP_HDR_LEADSPC`: values come, and are taken, with the space behind the colon.
const LEADING_SPACE: u32 = 0x10_0000;

/// `SMFIP_NR_*`: no reply to a command. The commands and their flags.
const NO_REPLY: [(u8, u32); 8] = [
    (b'L', 0x80),
    (b'C', 0x1000),
    (b'H', 0x2000),
    (b'M', 0x4000),
    (b'R', 0x8000),
    (b'T', 0x1_0000),
    (b'U', 0x2_0000),
    (b'N', 0x4_0000),
];
/// `SMFIP_NR_BODY`.
const NO_REPLY_BODY: u32 = 0x8_0000;

/// When an MTA sends macros (`SMFIM_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum MacroStage {
    /// At the connection.
    Connect = 0,
    /// At MAIL.
    Mail = 2,
    /// At the end of the message.
    EndOfMessage = 5,
    /// At the end of the header.
    EndOfHeader = 6,
}

/// What an MTA offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    /// Its version of the protocol.
    pub version: u32,
    /// `SMFIF_*`: what a milter may do.
    pub actions: u32,
    /// `SMFIP_*`: what a milter may leave out.
    pub protocol: u32,
}

impl Offer {
    /// Reads three numbers; what may come behind them is for later versions.
    pub(super) fn parse(data: &[u8]) -> Option<Self> {
        let number = |at: usize| {
            let bytes = data.get(at..)?.first_chunk::<4>()?;
            Some(u32::from_be_bytes(*bytes))
        };
        Some(Self { version: number(0)?, actions: number(4)?, protocol: number(8)? })
    }

    /// What we take of it.
    ///
    /// # Errors
    /// [`ProtocolError`] where it is too little to sign with.
    pub fn agree(self) -> Result<Agreed, ProtocolError> {
        if self.version < OLDEST {
            return Err(ProtocolError::Version(self.version));
        }
        if self.actions & ADD_HEADERS == 0 {
            return Err(ProtocolError::NoAddHeaders);
        }
        let silent = NO_REPLY.iter().fold(NO_REPLY_BODY, |all, (_, flag)| all | flag);
        Ok(Agreed {
            version: self.version.min(VERSION),
            actions: self.actions & (ADD_HEADERS | SET_MACROS),
            protocol: self.protocol & (NOT_SENT | silent | SKIP | LEADING_SPACE),
        })
    }
}

/// What both sides keep to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreed {
    /// The version of the protocol.
    pub version: u32,
    /// `SMFIF_*`.
    pub actions: u32,
    /// `SMFIP_*`.
    pub protocol: u32,
}

impl Agreed {
    /// Whether we may say which macros we want.
    #[must_use]
    pub fn sets_macros(&self) -> bool {
        self.actions & SET_MACROS != 0
    }

    /// Whether header values have the space behind the colon, in both directions.
    #[must_use]
    pub fn leading_space(&self) -> bool {
        self.protocol & LEADING_SPACE != 0
    }

    /// Whether the rest of a body may be declined.
    #[must_use]
    pub fn may_skip(&self) -> bool {
        self.protocol & SKIP != 0
    }

    /// Whether the MTA waits for a reply to this command.
    #[must_use]
    pub fn waits(&self, command: u8) -> bool {
        let flag = NO_REPLY.iter().find(|(known, _)| *known == command).map_or(0, |(_, flag)| *flag);
        self.protocol & flag == 0
    }

    /// Whether the MTA waits for a reply to each piece of body.
    #[must_use]
    pub fn waits_for_body(&self) -> bool {
        self.protocol & NO_REPLY_BODY == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_silence_that_is_offered_is_taken() {
        let agreed = Offer { version: 6, actions: 0x1ff, protocol: 0x1f_ffff }.agree().unwrap();
        assert_eq!((agreed.version, agreed.actions), (6, 0x101));
        assert!(b"CHMRTULN".iter().all(|command| !agreed.waits(*command)));
        assert!(
            !agreed.waits_for_body() && agreed.leading_space() && agreed.sets_macros() && agreed.may_skip()
        );
        // Connection, sender, header and body are still sent.
        assert_eq!(agreed.protocol & (0x1 | 0x4 | 0x10 | 0x20 | 0x40), 0);
    }

    #[test]
    fn nothing_is_taken_that_is_not_offered() {
        let agreed = Offer { version: 2, actions: 0x3f, protocol: 0x7f }.agree().unwrap();
        assert_eq!(agreed, Agreed { version: 2, actions: 0x1, protocol: 0xa });
        assert!(b"CHMRTULN".iter().all(|command| agreed.waits(*command)));
        assert!(agreed.waits_for_body() && !agreed.leading_space() && !agreed.sets_macros());
        let later = Offer { version: 9, actions: 0x1, protocol: 0 }.agree().unwrap();
        assert_eq!(later.version, 6);
    }

    #[test]
    fn too_little_to_sign_with() {
        let offer = |version, actions| Offer { version, actions, protocol: 0 }.agree().unwrap_err();
        assert_eq!(offer(1, 1), ProtocolError::Version(1));
        assert_eq!(offer(6, 0x1fe), ProtocolError::NoAddHeaders);
    }
}
