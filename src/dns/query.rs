//! One query, read from its packet: header, question, EDNS and where its TSIG is. Nothing is allocated, and every
//! length is checked.

mod reader;

pub use reader::{Name, RawRecord, Reader};

/// Bytes of a header (RFC 1035 §4.1.1).
pub const HEADER: usize = 12;
/// The class of the Internet.
pub const IN: u16 = 1;

/// Record types that mean something to this server.
pub mod kind {
    pub const NS: u16 = 2;
    pub const SOA: u16 = 6;
    pub const HINFO: u16 = 13;
    pub const TXT: u16 = 16;
    pub const OPT: u16 = 41;
    pub const DS: u16 = 43;
    pub const TSIG: u16 = 250;
    pub const IXFR: u16 = 251;
    pub const AXFR: u16 = 252;
    pub const ANY: u16 = 255;
}

/// Response codes.
pub mod code {
    pub const NO_ERROR: u16 = 0;
    pub const FORM_ERR: u16 = 1;
    pub const SERV_FAIL: u16 = 2;
    pub const NX_DOMAIN: u16 = 3;
    pub const NOT_IMP: u16 = 4;
    pub const REFUSED: u16 = 5;
    pub const NOT_AUTH: u16 = 9;
    pub const BAD_VERS: u16 = 16;
}

/// Option code of cookies (RFC 7873 §4).
const COOKIE: u16 = 10;
/// Opcode of an ordinary query, where it is in the third byte.
const OPCODE: u8 = 0b0111_1000;

/// What of a header the reply repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The id.
    pub id: [u8; 2],
    /// Opcode and RD, where they are in the third byte.
    pub flags: u8,
}

/// A client's cookie (RFC 7873 §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cookie {
    /// The client's own part.
    pub client: [u8; 8],
    /// What it says it has from us; none where it has nothing, or nothing of our length.
    pub server: Option<[u8; 16]>,
}

/// The OPT record (RFC 6891 §6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edns {
    /// Largest UDP reply that the client takes.
    pub payload: u16,
    /// EDNS version.
    pub version: u8,
    /// The DO bit.
    pub dnssec_ok: bool,
    /// The cookie, if there is one.
    pub cookie: Option<Cookie>,
}

/// A query with one question.
#[derive(Debug, Clone, Copy)]
pub struct Query<'a> {
    /// The whole packet.
    pub packet: &'a [u8],
    /// What the reply repeats.
    pub head: Head,
    /// The name asked for.
    pub name: Name,
    /// Where the question ends.
    pub question_end: usize,
    /// The type asked for.
    pub kind: u16,
    /// The class asked for.
    pub class: u16,
    /// EDNS, if there is some.
    pub edns: Option<Edns>,
    /// Where a TSIG record begins, if there is one: it is the last (RFC 8945 §5.1).
    pub tsig: Option<usize>,
}

/// A packet that is no query with one question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    /// A response, or too short: it gets no answer.
    Silent,
    /// It gets a header that says what is wrong (RFC 8906 §3.1.4).
    Told {
        /// What the reply repeats.
        head: Head,
        /// The response code.
        code: u16,
        /// EDNS, as far as it could be read.
        edns: Option<Edns>,
    },
}

/// Reads a packet.
///
/// # Errors
/// [`Unfit`] where it is no query with one question.
pub fn read(packet: &[u8]) -> Result<Query<'_>, Unfit> {
    let mut reader = Reader::at(packet, 0);
    let head = reader.take(4).and_then(|bytes| bytes.first_chunk::<4>().copied());
    let [high, low, flags, _] = head.ok_or(Unfit::Silent)?;
    let counts = (|| Some([reader.u16()?, reader.u16()?, reader.u16()?, reader.u16()?]))();
    let (Some(counts), true) = (counts, flags & 0x80 == 0) else { return Err(Unfit::Silent) };
    let head = Head { id: [high, low], flags: flags & (OPCODE | 1) };
    // What follows the header of another opcode need not look like a query at all.
    if flags & OPCODE != 0 {
        return Err(Unfit::Told { head, code: code::NOT_IMP, edns: None });
    }
    let malformed = Unfit::Told { head, code: code::FORM_ERR, edns: None };
    let [questions, answers, authorities, additionals] = counts;
    let mut question = None;
    for number in 0..questions {
        // What comes after the first is only counted; it may point back.
        let read = if number == 0 { reader.question() } else { reader.skip_question() };
        question = read.ok_or(malformed)?;
    }
    let question_end = reader.position();
    for _ in 0..usize::from(answers) + usize::from(authorities) {
        reader.record().ok_or(malformed)?;
    }
    let (mut edns, mut tsig) = (None, None);
    for _ in 0..additionals {
        let at = reader.position();
        let record = reader.record().ok_or(malformed)?;
        match record.kind {
            // Nothing may follow a TSIG, and one OPT is enough.
            _ if tsig.is_some() => return Err(malformed),
            kind::OPT if edns.is_some() || !record.at_root => return Err(malformed),
            kind::OPT => edns = Some(read_edns(&record).ok_or(malformed)?),
            kind::TSIG => tsig = Some(at),
            _ => {}
        }
    }
    // One question and no other number of them (RFC 9619), and nothing after the end.
    let (1, Some((name, kind, class)), true) = (questions, question, reader.is_done()) else {
        // To ask for nothing but a cookie is fine (RFC 7873 §5.4).
        let only_cookie = questions == 0 && edns.is_some_and(|edns: Edns| edns.cookie.is_some());
        let code = if only_cookie { code::NO_ERROR } else { code::FORM_ERR };
        return Err(Unfit::Told { head, code, edns });
    };
    Ok(Query { packet, head, name, question_end, kind, class, edns, tsig })
}

fn read_edns(record: &RawRecord<'_>) -> Option<Edns> {
    let [_, version, flags, _] = record.ttl;
    let mut options = Reader::at(record.data, 0);
    let mut cookie = None;
    while !options.is_done() {
        let (code, length) = (options.u16()?, usize::from(options.u16()?));
        let data = options.take(length)?;
        if code == COOKIE && cookie.is_none() {
            cookie = Some(read_cookie(data)?);
        }
    }
    Some(Edns { payload: record.class, version, dnssec_ok: flags & 0x80 != 0, cookie })
}

/// A client's part alone, or with a server's part of 8 to 32 bytes (RFC 7873 §4).
fn read_cookie(data: &[u8]) -> Option<Cookie> {
    let (client, server) = data.split_first_chunk::<8>()?;
    let sound = server.is_empty() || (8..=32).contains(&server.len());
    sound.then(|| Cookie { client: *client, server: server.try_into().ok() })
}

#[cfg(test)]
mod tests {
    use super::reader::MAX_NAME;
    use super::*;
    use proptest::prelude::*;

    fn packet(counts: [u16; 4], rest: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x12, 0x34, 1, 0];
        packet.extend(counts.iter().flat_map(|count| count.to_be_bytes()));
        packet.extend(rest);
        packet
    }

    const QUESTION: &[u8] = b"\x03KeY\x07example\0\0\x10\0\x01";

    fn code_of(packet: &[u8]) -> u16 {
        match read(packet) {
            Ok(_) => 100,
            Err(Unfit::Silent) => 101,
            Err(Unfit::Told { code, .. }) => code,
        }
    }

    #[test]
    fn a_question_is_read_in_lower_case() {
        let bytes = packet([1, 0, 0, 0], QUESTION);
        let query = read(&bytes).unwrap();
        assert_eq!(query.name.wire(), b"\x03key\x07example\0");
        assert_eq!((query.name.labels(), query.kind, query.class), (2, kind::TXT, IN));
        assert_eq!((query.question_end, query.edns, query.tsig), (bytes.len(), None, None));
        assert_eq!(query.head, Head { id: [0x12, 0x34], flags: 1 });
    }

    #[test]
    fn what_is_malformed_is_told_so() {
        let long = [[63; 64].as_slice(); 4].concat();
        for (counts, rest) in [
            ([1, 0, 0, 0], &b"\x03key"[..]),
            ([1, 0, 0, 0], b"\x40key\0\0\x10\0\x01"),
            ([1, 0, 0, 0], b"\xc0\x0c\0\x10\0\x01"),
            ([1, 0, 0, 0], &[&long, b"\0\0\x10\0\x01".as_slice()].concat()),
            ([1, 0, 0, 0], &[QUESTION, b"x"].concat()),
            ([2, 0, 0, 0], &[QUESTION, QUESTION].concat()),
            ([0, 0, 0, 0], b""),
            ([1, 1, 0, 0], QUESTION),
            // An OPT that is not at the root, options longer than the record, a cookie of 9 bytes.
            ([1, 0, 0, 1], &[QUESTION, b"\x01x\0\0\x29\x04\xd0\0\0\0\0\0\0"].concat()),
            ([1, 0, 0, 1], &[QUESTION, b"\0\0\x29\x04\xd0\0\0\0\0\0\x04\0\x0a\0\x09"].concat()),
            ([1, 0, 0, 1], &[QUESTION, b"\0\0\x29\x04\xd0\0\0\0\0\0\x0d\0\x0a\0\x09123456789"].concat()),
        ] {
            assert_eq!(code_of(&packet(counts, rest)), code::FORM_ERR, "{rest:?}");
        }
        let mut response = packet([1, 0, 0, 0], QUESTION);
        response[2] |= 0x80;
        assert_eq!(code_of(&response), 101);
    }

    #[test]
    fn edns_and_cookies_are_read() {
        let with = |options: &[u8]| {
            let opt = b"\0\0\x29\x04\xd0\0\0\x80\0\0";
            packet([1, 0, 0, 1], &[QUESTION, opt, &[options.len() as u8], options].concat())
        };
        let edns = |bytes: &[u8]| read(bytes).unwrap().edns.unwrap();
        let plain = edns(&with(b""));
        assert_eq!((plain.payload, plain.version, plain.dnssec_ok, plain.cookie), (1232, 0, true, None));
        let client = *b"12345678";
        assert_eq!(edns(&with(b"\0\x0a\0\x0812345678")).cookie, Some(Cookie { client, server: None }));
        let whole = with(b"\0\x0a\0\x18123456781234567812345678");
        assert_eq!(edns(&whole).cookie, Some(Cookie { client, server: Some(*b"1234567812345678") }));
        // Another server's cookie of another length, after an option that we do not know.
        let odd = with(b"\xff\0\0\x01x\0\x0a\0\x101234567812345678");
        assert_eq!(edns(&odd).cookie, Some(Cookie { client, server: None }));
    }

    #[test]
    fn a_cookie_may_come_without_question() {
        let opt = b"\0\0\x29\x04\xd0\0\0\0\0\0\x0c\0\x0a\0\x0812345678";
        assert_eq!(code_of(&packet([0, 0, 0, 1], opt)), code::NO_ERROR);
    }

    #[test]
    fn nothing_follows_a_tsig() {
        let tsig = b"\x01k\0\0\xfa\0\xff\0\0\0\0\0\0";
        let opt = b"\0\0\x29\x04\xd0\0\0\0\0\0\0";
        let fine = packet([1, 0, 0, 2], &[QUESTION, opt, tsig].concat());
        assert_eq!(read(&fine).unwrap().tsig, Some(12 + QUESTION.len() + opt.len()));
        let after = packet([1, 0, 0, 2], &[QUESTION, tsig, opt.as_slice()].concat());
        assert_eq!(code_of(&after), code::FORM_ERR);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let mut bytes = bytes;
            if bytes.len() > 5 {
                // Few of them are queries otherwise.
                (bytes[2], bytes[4], bytes[5]) = (0, 0, 1);
            }
            if let Ok(query) = read(&bytes) {
                prop_assert!(query.question_end <= bytes.len());
                prop_assert!(query.name.wire().len() <= MAX_NAME);
            }
        }
    }
}
