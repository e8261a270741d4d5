//! Replies put together. They are collected and leave in one write.

use super::{Agreed, MacroStage};

/// Appends packets to a buffer.
#[derive(Debug)]
pub struct Reply<'a>(pub &'a mut Vec<u8>);

impl Reply<'_> {
    /// What was agreed, and which macros are wanted where that may be said.
    pub fn negotiate(&mut self, agreed: &Agreed, macros: &[(MacroStage, String)]) {
        self.packet(b'O', |out| {
            for number in [agreed.version, agreed.actions, agreed.protocol] {
                out.extend_from_slice(&number.to_be_bytes());
            }
            for (stage, names) in macros.iter().filter(|_| agreed.sets_macros()) {
                out.extend_from_slice(&(*stage as u32).to_be_bytes());
                string(out, names);
            }
        });
    }

    /// Go on.
    pub fn proceed(&mut self) {
        self.packet(b'c', |_| {});
    }

    /// The message needs no more of us.
    pub fn accept(&mut self) {
        self.packet(b'a', |_| {});
    }

    /// The rest of the body is not needed.
    pub fn skip(&mut self) {
        self.packet(b's', |_| {});
    }

    /// A header field on top of all others. `value` is what stands behind the colon, folds as LF.
    pub fn insert_on_top(&mut self, name: &str, value: &str) {
        self.packet(b'i', |out| {
            out.extend_from_slice(&0u32.to_be_bytes());
            string(out, name);
            string(out, value);
        });
    }

    /// An SMTP reply in full, such as `451 4.7.0 try again`.
    pub fn smtp(&mut self, text: &str) {
        // Sendmail reads it as a format.
        self.packet(b'y', |out| string(out, &text.replace('%', "%%")));
    }

    fn packet(&mut self, command: u8, write: impl FnOnce(&mut Vec<u8>)) {
        let at = self.0.len();
        self.0.extend_from_slice(&[0, 0, 0, 0, command]);
        write(self.0);
        // Ours are a few hundred bytes.
        let length = u32::try_from(self.0.len() - at - 4).unwrap_or(0);
        if let Some(place) = self.0.get_mut(at..at + 4) {
            place.copy_from_slice(&length.to_be_bytes());
        }
    }
}

fn string(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
    out.push(0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::milter::wire::Offer;

    fn bytes(write: impl FnOnce(&mut Reply<'_>)) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut Reply(&mut out));
        out
    }

    #[test]
    fn replies_are_what_the_protocol_wants() {
        assert_eq!(bytes(|r| r.proceed()), b"\0\0\0\x01c");
        assert_eq!(bytes(|r| r.accept()), b"\0\0\0\x01a");
        assert_eq!(bytes(|r| r.skip()), b"\0\0\0\x01s");
        assert_eq!(bytes(|r| r.insert_on_top("A", " b\n\tc")), b"\0\0\0\x0di\0\0\0\0A\0 b\n\tc\0");
        assert_eq!(bytes(|r| r.smtp("451 4.7.0 5%")), b"\0\0\0\x0fy451 4.7.0 5%%\0");
    }

    #[test]
    fn macros_are_asked_for_only_where_that_is_offered() {
        let wanted = [(MacroStage::Mail, "{auth_authen}".to_owned())];
        let agreed = |actions| Offer { version: 6, actions, protocol: 0x1f_ffff }.agree().unwrap();
        let with = bytes(|r| r.negotiate(&agreed(0x1ff), &wanted));
        assert!(with.ends_with(b"\0\0\0\x02{auth_authen}\0"), "{with:?}");
        let without = bytes(|r| r.negotiate(&agreed(0x0ff), &wanted));
        assert_eq!(without.len(), 4 + 1 + 12);
    }
}
