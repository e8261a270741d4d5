//! Packets taken out of a stream of bytes. Each is a length (4 bytes, big endian), a command byte, and data.

/// Longest packet that is read, in bytes: MTAs send up to 64 KiB, or 1 MiB where that was agreed.
pub const MAX_PACKET: usize = (1 << 20) + 4096;
/// The length in front of each packet, in bytes.
const LENGTH: usize = 4;

/// What no MTA sends. The connection is closed; the MTA then does what it is configured to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    #[error("a packet of {0} bytes; between 1 and {MAX_PACKET} are allowed")]
    Length(u32),
    #[error("the command {0:#04x}, which the milter protocol does not have")]
    Command(u8),
    #[error("a packet {0} that is cut off or not closed by NUL")]
    Malformed(&'static str),
    #[error("{0} before the negotiation, or a second negotiation")]
    Order(&'static str),
    #[error("version {0} of the protocol; it takes at least 2")]
    Version(u32),
    #[error("an MTA that lets no header fields be added")]
    NoAddHeaders,
}

/// Kind of a client's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// No address: the MTA does not know it, or there is no connection.
    Unknown,
    /// A local socket.
    Unix,
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// One packet, or a piece of one that carries body.
#[derive(Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// The MTA's versions and flags.
    Negotiate(super::Offer),
    /// Macros for the command that follows.
    Macros(Macros<'a>),
    /// A client connected to the MTA.
    Connect {
        /// Its name, or its address in brackets.
        host: &'a [u8],
        /// What kind of address.
        family: Family,
        /// The address as text, or a path.
        address: &'a [u8],
    },
    /// HELO or EHLO.
    Helo,
    /// MAIL FROM: a message begins.
    Mail,
    /// RCPT TO.
    Rcpt,
    /// DATA.
    Data,
    /// A command that the MTA does not know.
    Unknown,
    /// One header field.
    Header {
        /// Its name.
        name: &'a [u8],
        /// Its value; folds are LF or CRLF.
        value: &'a [u8],
    },
    /// The header is over.
    EndOfHeader,
    /// Some of the body.
    Body {
        /// The next bytes.
        piece: &'a [u8],
        /// Whether a reply is due behind it: it is the last piece of a body packet.
        last: bool,
    },
    /// The message is over.
    EndOfMessage,
    /// The message is given up; the connection goes on.
    Abort,
    /// The connection is over.
    Quit,
    /// The client's connection is over, another one follows on this one.
    QuitNewConnection,
}

/// The macros of one stage: names and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Macros<'a> {
    /// The command they belong to.
    pub stage: u8,
    data: &'a [u8],
}

impl<'a> Macros<'a> {
    /// Names (without braces) and values, in order. A name without a value is left out.
    pub fn pairs(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        let mut parts = self.data.split(|b| *b == 0);
        std::iter::from_fn(move || Some((parts.next()?, parts.next()?)))
            .map(|(name, value)| (bare(name), value))
    }
}

/// `{auth_authen}` is `auth_authen`.
fn bare(name: &[u8]) -> &[u8] {
    name.strip_prefix(b"{").and_then(|name| name.strip_suffix(b"}")).unwrap_or(name)
}

/// Takes packets out of what was read. Body passes through in pieces, so that memory holds no packet of it.
#[derive(Debug, Default)]
pub struct Decoder {
    body: Option<BodyPacket>,
}

#[derive(Debug, Clone, Copy)]
struct BodyPacket {
    /// Bytes still to come.
    left: usize,
    /// Whether the message ends behind it.
    ends: bool,
}

impl Decoder {
    /// The first packet in `input` and how many bytes it took, or `None` where more is needed.
    ///
    /// # Errors
    /// [`ProtocolError`]; nothing behind it can be understood.
    pub fn next<'a>(&mut self, input: &'a [u8]) -> Result<Option<(Packet<'a>, usize)>, ProtocolError> {
        if let Some(body) = self.body {
            return Ok(self.piece(body, input));
        }
        let Some((length, rest)) = input.split_first_chunk::<LENGTH>() else { return Ok(None) };
        let length = u32::from_be_bytes(*length);
        let size = usize::try_from(length).unwrap_or(usize::MAX);
        if size == 0 || size > MAX_PACKET {
            return Err(ProtocolError::Length(length));
        }
        let Some(&command) = rest.first() else { return Ok(None) };
        if matches!(command, b'B' | b'E') {
            let body = BodyPacket { left: size - 1, ends: command == b'E' };
            self.body = Some(body);
            let after = rest.get(1..).unwrap_or_default();
            return Ok(match self.piece(body, after) {
                Some((packet, used)) => Some((packet, LENGTH + 1 + used)),
                // Nothing of it is there yet: an empty piece says so, and takes the command away.
                None => Some((Packet::Body { piece: &[], last: false }, LENGTH + 1)),
            });
        }
        let Some((packet, _)) = rest.split_at_checked(size) else { return Ok(None) };
        Ok(Some((parse(command, packet.get(1..).unwrap_or_default())?, LENGTH + size)))
    }

    fn piece<'a>(&mut self, body: BodyPacket, input: &'a [u8]) -> Option<(Packet<'a>, usize)> {
        if body.left == 0 {
            self.body = None;
            let over = if body.ends { Packet::EndOfMessage } else { Packet::Body { piece: &[], last: true } };
            return Some((over, 0));
        }
        if input.is_empty() {
            return None;
        }
        let piece = input.get(..body.left).unwrap_or(input);
        let left = body.left - piece.len();
        let last = left == 0 && !body.ends;
        self.body = (!last).then_some(BodyPacket { left, ..body });
        Some((Packet::Body { piece, last }, piece.len()))
    }
}

fn parse(command: u8, data: &[u8]) -> Result<Packet<'_>, ProtocolError> {
    Ok(match command {
        b'O' => Packet::Negotiate(super::Offer::parse(data).ok_or(ProtocolError::Malformed("OPTNEG"))?),
        b'D' => {
            let (stage, data) = data.split_first().ok_or(ProtocolError::Malformed("MACRO"))?;
            Packet::Macros(Macros { stage: *stage, data })
        }
        b'C' => connect(data).ok_or(ProtocolError::Malformed("CONNECT"))?,
        b'L' => header(data).ok_or(ProtocolError::Malformed("HEADER"))?,
        b'H' => Packet::Helo,
        b'M' => Packet::Mail,
        b'R' => Packet::Rcpt,
        b'T' => Packet::Data,
        b'U' => Packet::Unknown,
        b'N' => Packet::EndOfHeader,
        b'A' => Packet::Abort,
        b'Q' => Packet::Quit,
        b'K' => Packet::QuitNewConnection,
        other => return Err(ProtocolError::Command(other)),
    })
}

/// Name and value, each closed by NUL.
fn header(data: &[u8]) -> Option<Packet<'_>> {
    let (name, rest) = string(data)?;
    let (value, rest) = string(rest)?;
    rest.is_empty().then_some(Packet::Header { name, value })
}

/// Host name, family, and unless that is unknown port and address.
fn connect(data: &[u8]) -> Option<Packet<'_>> {
    let (host, rest) = string(data)?;
    let (family, rest) = rest.split_first()?;
    let family = match family {
        b'U' => return Some(Packet::Connect { host, family: Family::Unknown, address: &[] }),
        b'L' => Family::Unix,
        b'4' => Family::V4,
        b'6' => Family::V6,
        _ => return None,
    };
    let (address, _) = string(rest.get(2..)?)?;
    Some(Packet::Connect { host, family, address })
}

fn string(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(0, data)?;
    Some((data.get(..end)?, data.get(end + 1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::milter::wire::Offer;
    use proptest::prelude::*;

    fn packet(command: u8, data: &[u8]) -> Vec<u8> {
        let mut out = u32::try_from(data.len() + 1).unwrap().to_be_bytes().to_vec();
        out.push(command);
        out.extend_from_slice(data);
        out
    }

    /// What a stream of bytes says, given in pieces; neighbouring pieces of body become one.
    fn told(chunks: &[&[u8]]) -> Result<Vec<String>, ProtocolError> {
        let (mut decoder, mut buffer, mut told) = (Decoder::default(), Vec::new(), Vec::new());
        let mut body = Vec::new();
        for chunk in chunks {
            buffer.extend_from_slice(chunk);
            let mut at = 0;
            while let Some((packet, used)) = decoder.next(&buffer[at..])? {
                at += used;
                match packet {
                    Packet::Body { piece, last } => {
                        body.extend_from_slice(piece);
                        if last {
                            told.push(format!(
                                "body {}",
                                String::from_utf8_lossy(&std::mem::take(&mut body))
                            ));
                        }
                    }
                    Packet::EndOfMessage => {
                        told.push(format!("end {}", String::from_utf8_lossy(&std::mem::take(&mut body))));
                    }
                    other => told.push(format!("{other:?}")),
                }
            }
            buffer.drain(..at);
        }
        Ok(told)
    }

    #[test]
    fn every_packet_is_understood() {
        let offer = [0, 0, 0, 6, 0, 0, 1, 0xff, 0, 0x1f, 0xff, 0xff];
        let one = |bytes: Vec<u8>| told(&[&bytes]).unwrap().remove(0);
        assert_eq!(
            one(packet(b'O', &offer)),
            format!("{:?}", Packet::Negotiate(Offer { version: 6, actions: 0x1ff, protocol: 0x1f_ffff }))
        );
        let connect = |host: &str, family, address: &str| {
            let (host, address) = (host.as_bytes(), address.as_bytes());
            format!("{:?}", Packet::Connect { host, family, address })
        };
        assert_eq!(
            one(packet(b'C', b"mx.example\x004\x1f\x90127.0.0.1\0")),
            connect("mx.example", Family::V4, "127.0.0.1")
        );
        assert_eq!(one(packet(b'C', b"a\x006\0\0IPv6:::1\0")), connect("a", Family::V6, "IPv6:::1"));
        assert_eq!(one(packet(b'C', b"a\0L\0\0/run/x\0")), connect("a", Family::Unix, "/run/x"));
        assert_eq!(one(packet(b'C', b"localhost\0U")), connect("localhost", Family::Unknown, ""));
        let field = Packet::Header { name: b"Subject", value: b" x\n\ty" };
        assert_eq!(one(packet(b'L', b"Subject\0 x\n\ty\0")), format!("{field:?}"));
        for (command, name) in [
            (b'H', "Helo"),
            (b'M', "Mail"),
            (b'R', "Rcpt"),
            (b'T', "Data"),
            (b'U', "Unknown"),
            (b'N', "EndOfHeader"),
            (b'A', "Abort"),
            (b'Q', "Quit"),
            (b'K', "QuitNewConnection"),
        ] {
            assert_eq!(one(packet(command, b"<>\0SIZE=1\0")), name);
        }
        assert_eq!(one(packet(b'B', b"abc")), "body abc");
        assert_eq!(one(packet(b'B', b"")), "body ");
        assert_eq!(one(packet(b'E', b"abc")), "end abc");
        assert_eq!(one(packet(b'E', b"")), "end ");
    }

    #[test]
    fn macros_lose_their_braces() {
        let bytes = packet(b'D', b"M{auth_authen}\0joe\0i\0ABC\0odd\0");
        let (packet, _) = Decoder::default().next(&bytes).unwrap().unwrap();
        let Packet::Macros(macros) = packet else { panic!("{packet:?}") };
        assert_eq!(macros.stage, b'M');
        let pairs: Vec<_> = macros.pairs().collect();
        assert_eq!(pairs, [(&b"auth_authen"[..], &b"joe"[..]), (b"i", b"ABC"), (b"odd", b"")]);
    }

    #[test]
    fn what_no_mta_sends_is_refused() {
        let fault = |bytes: &[u8]| told(&[bytes]).unwrap_err();
        assert_eq!(fault(&[0; 4]), ProtocolError::Length(0));
        assert_eq!(fault(&[0xff; 4]), ProtocolError::Length(u32::MAX));
        assert_eq!(fault(b"GET / HTTP/1.1\r\n\r\n"), ProtocolError::Length(0x4745_5420));
        assert_eq!(fault(&packet(b'Z', b"")), ProtocolError::Command(b'Z'));
        for (command, data) in [
            (b'O', &b"\0\0\0\x06"[..]),
            (b'D', b""),
            (b'C', b""),
            (b'C', b"host"),
            (b'C', b"host\0"),
            (b'C', b"host\x004\0"),
            (b'C', b"host\x004\0\x19127.0.0.1"),
            (b'C', b"host\0X\0\x19127.0.0.1\0"),
            (b'L', b""),
            (b'L', b"From\0a@b.c"),
            (b'L', b"From\0a\0b\0"),
        ] {
            let fault = fault(&packet(command, data));
            assert!(matches!(fault, ProtocolError::Malformed(_)), "{fault:?}");
        }
    }

    #[test]
    fn a_body_packet_is_never_waited_for_as_a_whole() {
        let bytes = packet(b'B', &[b'x'; 1000]);
        let mut decoder = Decoder::default();
        let (first, used) = decoder.next(&bytes[..10]).unwrap().unwrap();
        assert_eq!((first, used), (Packet::Body { piece: b"xxxxx", last: false }, 10));
        assert_eq!(decoder.next(&[]).unwrap(), None);
        let (rest, used) = decoder.next(&bytes[10..]).unwrap().unwrap();
        assert_eq!((rest, used), (Packet::Body { piece: &[b'x'; 995], last: true }, 995));
    }

    fn packets() -> impl Strategy<Value = Vec<u8>> {
        let data = proptest::collection::vec(any::<u8>(), 0..40);
        let good = proptest::sample::select(vec![
            packet(b'M', b"<a@b.c>\0"),
            packet(b'L', b"From\0 a@b.c\0"),
            packet(b'L', b"\0\0"),
            packet(b'D', b"Mi\x001\0"),
            packet(b'C', b"h\x004\0\x191.2.3.4\0"),
            packet(b'N', b""),
            packet(b'E', b""),
            packet(b'Q', b""),
        ]);
        prop_oneof![
            4 => good,
            2 => data.clone().prop_map(|data| packet(b'B', &data)),
            1 => data.clone().prop_map(|data| packet(b'E', &data)),
            1 => (any::<u8>(), data).prop_map(|(command, data)| packet(command, &data)),
        ]
    }

    proptest! {
        #[test]
        fn cuts_do_not_matter(
            packets in proptest::collection::vec(packets(), 0..8),
            cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..6),
        ) {
            let bytes = packets.concat();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert_eq!(told(&chunks), told(&[&bytes]));
        }

        #[test]
        fn one_byte_at_a_time(packets in proptest::collection::vec(packets(), 0..4)) {
            let bytes = packets.concat();
            let chunks: Vec<&[u8]> = bytes.chunks(1).collect();
            prop_assert_eq!(told(&chunks), told(&[&bytes]));
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = told(&[&bytes]);
        }
    }
}
