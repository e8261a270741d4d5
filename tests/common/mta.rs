//! The MTA's side of the milter protocol, for tests and benchmarks.

#![allow(dead_code, reason = "each test program uses a part of it")]

/// What Postfix 3.7 offers: version 6, all actions, all protocol flags.
pub const POSTFIX: (u32, u32, u32) = (6, 0x1ff, 0x1f_ffff);
/// What an MTA of the days of Sendmail 8.12 offers.
pub const OLD: (u32, u32, u32) = (2, 0x3f, 0x7f);

/// One packet.
pub fn packet(command: u8, data: &[u8]) -> Vec<u8> {
    let mut out = u32::try_from(data.len() + 1).unwrap().to_be_bytes().to_vec();
    out.push(command);
    out.extend_from_slice(data);
    out
}

pub fn negotiate((version, actions, protocol): (u32, u32, u32)) -> Vec<u8> {
    packet(b'O', &[version, actions, protocol].map(u32::to_be_bytes).concat())
}

/// A client with an IPv4 address.
pub fn connect(address: &str) -> Vec<u8> {
    packet(b'C', format!("client.example\x004\x19\x19{address}\0").as_bytes())
}

pub fn macros(stage: u8, pairs: &[(&str, &str)]) -> Vec<u8> {
    let text: String = pairs.iter().map(|(name, value)| format!("{name}\0{value}\0")).collect();
    packet(b'D', &[&[stage], text.as_bytes()].concat())
}

pub fn mail() -> Vec<u8> {
    packet(b'M', b"<>\0")
}

pub fn field(name: &str, value: &str) -> Vec<u8> {
    packet(b'L', format!("{name}\0{value}\0").as_bytes())
}

/// From MAIL to the end of the message, of a message with CRLF line ends; the values with their leading space, folds
/// as LF, as MTAs send them.
pub fn message(text: &str) -> Vec<u8> {
    let (header, body) = text.split_once("\r\n\r\n").unwrap();
    let mut out = [mail(), packet(b'R', b"<x@y.example>\0"), packet(b'T', b"")].concat();
    for line in header.replace("\r\n\t", "\n\t").replace("\r\n ", "\n ").split("\r\n") {
        let (name, value) = line.split_once(':').unwrap();
        out.extend(field(name, value));
    }
    out.extend(packet(b'N', b""));
    for chunk in body.as_bytes().chunks(65_535) {
        out.extend(packet(b'B', chunk));
    }
    out.extend(packet(b'E', b""));
    out
}

/// One reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub command: u8,
    pub data: Vec<u8>,
}

impl Answer {
    /// Name and value of an inserted field.
    pub fn inserted(&self) -> Option<(String, String)> {
        if self.command != b'i' {
            return None;
        }
        assert_eq!(self.data[..4], [0; 4], "on top");
        let mut parts =
            self.data[4..].split(|b| *b == 0).map(|part| String::from_utf8(part.to_vec()).unwrap());
        Some((parts.next().unwrap(), parts.next().unwrap()))
    }

    /// The text of an SMTP reply.
    pub fn smtp(&self) -> Option<String> {
        let text = self.data.strip_suffix(&[0])?;
        (self.command == b'y').then(|| String::from_utf8(text.to_vec()).unwrap())
    }
}

/// Takes complete replies from the front.
pub fn answers(bytes: &mut Vec<u8>) -> Vec<Answer> {
    let mut found = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        if rest.len() < length {
            break;
        }
        found.push(Answer { command: rest[0], data: rest[1..length].to_vec() });
        bytes.drain(..4 + length);
    }
    found
}

/// The message as it goes on: inserted fields on top.
pub fn apply(answers: &[Answer], text: &str) -> String {
    let mut out = text.to_owned();
    for (name, value) in answers.iter().filter_map(Answer::inserted) {
        out = format!("{name}:{}\r\n{out}", value.replace('\n', "\r\n"));
    }
    out
}
