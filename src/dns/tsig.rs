//! Messages signed with a shared key (TSIG, RFC 8945): requests are checked, replies signed, also those of many
//! messages, each of which depends on the one before.

use std::sync::Arc;

use aws_lc_rs::{constant_time, hmac};
use data_encoding::BASE64;
use zeroize::Zeroizing;

use super::query::{Query, Reader, kind};
use super::secrets;
use super::wire_name::WireName;
use crate::model::name::DnsName;

/// How far clocks may differ, in seconds (RFC 8945 §10).
const FUDGE: u16 = 300;
/// The class ANY.
const ANY: u16 = 255;

/// TSIG error codes (RFC 8945 §3).
const BAD_SIG: u16 = 16;
const BAD_KEY: u16 = 17;
const BAD_TIME: u16 = 18;

/// How messages are authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// `hmac-sha256`
    Sha256,
    /// `hmac-sha384`
    Sha384,
    /// `hmac-sha512`
    Sha512,
}

impl Algorithm {
    const ALL: [(Self, &'static str); 3] =
        [(Self::Sha256, "hmac-sha256"), (Self::Sha384, "hmac-sha384"), (Self::Sha512, "hmac-sha512")];

    fn hmac(self) -> hmac::Algorithm {
        match self {
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha384 => hmac::HMAC_SHA384,
            Self::Sha512 => hmac::HMAC_SHA512,
        }
    }

    /// Its name on the wire.
    fn wire(self) -> Vec<u8> {
        let name = Self::ALL.iter().find(|(algorithm, _)| *algorithm == self).map_or("", |(_, name)| name);
        [&[u8::try_from(name.len()).unwrap_or(0)], name.as_bytes(), &[0]].concat()
    }
}

/// A shared key.
pub struct Key {
    name: WireName,
    algorithm: Algorithm,
    secret: hmac::Key,
}

impl Key {
    fn parse(number: usize, line: &str) -> Result<Self, KeyError> {
        let (front, secret) = line.rsplit_once(':').ok_or(KeyError::Form(number))?;
        let (algorithm, name) = front.split_once(':').unwrap_or(("hmac-sha256", front));
        let known = Algorithm::ALL.iter().find(|(_, known)| known.eq_ignore_ascii_case(algorithm));
        let (algorithm, _) = *known.ok_or(KeyError::Algorithm(number))?;
        let name = DnsName::new(name).map_err(|_| KeyError::Name(number))?;
        let bytes = BASE64.decode(secret.as_bytes()).map_err(|_| KeyError::Form(number))?;
        let bytes = Zeroizing::new(bytes);
        if bytes.len() < 16 {
            return Err(KeyError::Short(number));
        }
        let secret = hmac::Key::new(algorithm.hmac(), &bytes);
        Ok(Self { name: WireName::from(&name), algorithm, secret })
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({} {:?})", self.name, self.algorithm)
    }
}

/// The keys with which a zone may be fetched.
#[derive(Debug, Default)]
pub struct Keys(Vec<Arc<Key>>);

/// Why a text is no list of keys.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error(
        "line {0} is not [ALGORITHM:]NAME:SECRET with the secret in base64, such as hmac-sha256:transfer.example:c2VjcmV0…"
    )]
    Form(usize),
    #[error("line {0} has an algorithm that is not hmac-sha256, hmac-sha384 or hmac-sha512")]
    Algorithm(usize),
    #[error("line {0} has a name that is no domain name")]
    Name(usize),
    #[error("line {0} has a secret of less than 16 bytes; write one with: openssl rand -base64 32")]
    Short(usize),
    #[error(
        "there is no key; write one as [ALGORITHM:]NAME:SECRET, with the secret of: openssl rand -base64 32"
    )]
    Empty,
}

impl Keys {
    /// Reads keys, one a line as `dig -y` takes them; lines that are empty or begin with `#` mean nothing.
    ///
    /// # Errors
    /// [`KeyError`] names the line, never what is in it.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        secrets::read(text, KeyError::Empty, |number, line| Key::parse(number, line).map(Arc::new)).map(Self)
    }

    /// The first key, with which we sign what we send of ourselves.
    #[must_use]
    pub fn first(&self) -> Option<&Arc<Key>> {
        self.0.first()
    }
}

/// What a TSIG says.
struct Tsig<'a> {
    key: &'a [u8],
    algorithm: &'a [u8],
    time: u64,
    fudge: u16,
    mac: &'a [u8],
    original_id: [u8; 2],
    error: u16,
    other: &'a [u8],
}

/// What a signed request is worth.
#[derive(Debug)]
pub enum Checked {
    /// Signed with one of our keys.
    Good(Session),
    /// Not to be trusted: the reply's code is NOTAUTH, and [`Refusal::append`] says why.
    Bad(Refusal),
    /// Not to be understood.
    Malformed,
}

/// Why a request is not trusted.
#[derive(Debug)]
pub struct Refusal {
    error: u16,
    key: Vec<u8>,
    algorithm: Vec<u8>,
    time: u64,
    id: [u8; 2],
    /// Clocks differ: then the reply is signed, and says our time.
    session: Option<Session>,
}

/// An exchange that is signed: each message with what was signed before.
#[derive(Debug)]
pub struct Session {
    key: Arc<Key>,
    /// The MAC before.
    mac: Vec<u8>,
    id: [u8; 2],
    /// Later messages leave the key's name out of what is signed (RFC 8945 §5.3.1).
    first: bool,
}

/// Checks the signature of a query; `now` in seconds since 1970.
#[must_use]
pub fn check(query: &Query<'_>, keys: &Keys, now: u64) -> Checked {
    let Some(at) = query.tsig else { return Checked::Malformed };
    let (mut name, mut algorithm) = ([0; 255], [0; 255]);
    let Some(tsig) = parse(query.packet, at, &mut name, &mut algorithm) else { return Checked::Malformed };
    let refuse = |error, session| {
        Checked::Bad(Refusal {
            error,
            key: tsig.key.to_vec(),
            algorithm: tsig.algorithm.to_vec(),
            time: tsig.time,
            id: tsig.original_id,
            session,
        })
    };
    let fits = |key: &&Arc<Key>| *key.name == *tsig.key && key.algorithm.wire() == tsig.algorithm;
    let Some(key) = keys.0.iter().find(fits) else { return refuse(BAD_KEY, None) };
    let mut context = hmac::Context::with_key(&key.secret);
    // The message as it was before the TSIG was added (RFC 8945 §4.3.2).
    let Some(([_, _, flags @ ..], rest)) = query.packet.get(..at).and_then(|m| m.split_first_chunk::<10>())
    else {
        return Checked::Malformed;
    };
    let Some((count, body)) = rest.split_first_chunk::<2>() else { return Checked::Malformed };
    context.update(&tsig.original_id);
    context.update(flags);
    context.update(&u16::from_be_bytes(*count).wrapping_sub(1).to_be_bytes());
    context.update(body);
    let variables = Variables { time: tsig.time, fudge: tsig.fudge, error: tsig.error, other: tsig.other };
    context.update(&variables.whole(key));
    let mac = context.sign();
    // Cut MACs are not taken: they are for links where bytes count.
    if constant_time::verify_slices_are_equal(mac.as_ref(), tsig.mac).is_err() {
        return refuse(BAD_SIG, None);
    }
    let session = Session { key: Arc::clone(key), mac: tsig.mac.to_vec(), id: tsig.original_id, first: true };
    if now.abs_diff(tsig.time) > u64::from(tsig.fudge) {
        return refuse(BAD_TIME, Some(session));
    }
    Checked::Good(session)
}

fn parse<'a>(
    packet: &'a [u8],
    at: usize,
    name: &'a mut [u8; 255],
    algorithm: &'a mut [u8; 255],
) -> Option<Tsig<'a>> {
    let mut reader = Reader::at(packet, at);
    let key = copy(reader.name()?.wire(), name);
    let (_, class) = (reader.u16()?, reader.u16()?);
    let ttl = reader.take(4)?;
    let length = usize::from(reader.u16()?);
    let mut data = Reader::at(reader.take(length)?, 0);
    if class != ANY || ttl != [0; 4] {
        return None;
    }
    let algorithm = copy(data.name()?.wire(), algorithm);
    let (high, low) = (data.u16()?, data.take(4)?.first_chunk::<4>()?);
    let time = u64::from(high) << 32 | u64::from(u32::from_be_bytes(*low));
    let fudge = data.u16()?;
    let length = usize::from(data.u16()?);
    let mac = data.take(length)?;
    let original_id = *data.take(2)?.first_chunk()?;
    let error = data.u16()?;
    let length = usize::from(data.u16()?);
    let other = data.take(length)?;
    data.is_done().then_some(Tsig { key, algorithm, time, fudge, mac, original_id, error, other })
}

fn copy<'a>(from: &[u8], to: &'a mut [u8; 255]) -> &'a [u8] {
    let Some(place) = to.get_mut(..from.len()) else { return &[] };
    place.copy_from_slice(from);
    place
}

/// What of a TSIG is signed together with the message.
struct Variables<'a> {
    time: u64,
    fudge: u16,
    error: u16,
    other: &'a [u8],
}

impl Variables<'_> {
    fn timers(&self) -> [u8; 8] {
        let [_, _, a, b, c, d, e, f] = self.time.to_be_bytes();
        let [g, h] = self.fudge.to_be_bytes();
        [a, b, c, d, e, f, g, h]
    }

    fn whole(&self, key: &Key) -> Vec<u8> {
        let length = u16::try_from(self.other.len()).unwrap_or(0);
        [
            &*key.name,
            &ANY.to_be_bytes(),
            &[0; 4],
            &key.algorithm.wire(),
            &self.timers(),
            &self.error.to_be_bytes(),
            &length.to_be_bytes(),
            self.other,
        ]
        .concat()
    }
}

impl Session {
    /// For a message of our own.
    #[must_use]
    pub fn begin(key: Arc<Key>, id: [u8; 2]) -> Self {
        Self { key, mac: Vec::new(), id, first: true }
    }

    /// How many bytes a signature adds.
    #[must_use]
    pub fn length(&self) -> usize {
        let mac = self.key.algorithm.hmac().digest_algorithm().output_len;
        self.key.name.len() + 10 + self.key.algorithm.wire().len() + 16 + mac
    }

    /// Signs a whole message and adds the signature; `now` in seconds since 1970.
    pub fn sign(&mut self, message: &mut Vec<u8>, now: u64) {
        self.sign_with(message, &Variables { time: now, fudge: FUDGE, error: 0, other: &[] });
    }

    fn sign_with(&mut self, message: &mut Vec<u8>, variables: &Variables<'_>) {
        let mut context = hmac::Context::with_key(&self.key.secret);
        if !self.mac.is_empty() {
            context.update(&u16::try_from(self.mac.len()).unwrap_or(0).to_be_bytes());
            context.update(&self.mac);
        }
        context.update(message);
        if self.first {
            context.update(&variables.whole(&self.key));
        } else {
            context.update(&variables.timers());
        }
        self.first = false;
        self.mac = context.sign().as_ref().to_vec();
        append(message, &self.key.name, &self.key.algorithm.wire(), variables, &self.mac, self.id);
    }
}

impl Refusal {
    /// Adds to a reply why its request was not trusted; `now` in seconds since 1970.
    pub fn append(self, message: &mut Vec<u8>, now: u64) {
        let [_, _, ours @ ..] = now.to_be_bytes();
        match self.session {
            Some(mut session) => {
                let variables = Variables { time: self.time, fudge: FUDGE, error: self.error, other: &ours };
                session.sign_with(message, &variables);
            }
            // There is nothing to sign with.
            None => {
                let variables = Variables { time: self.time, fudge: FUDGE, error: self.error, other: &[] };
                append(message, &self.key, &self.algorithm, &variables, &[], self.id);
            }
        }
    }
}

fn append(
    message: &mut Vec<u8>,
    name: &[u8],
    algorithm: &[u8],
    variables: &Variables<'_>,
    mac: &[u8],
    id: [u8; 2],
) {
    let short = |length: usize| u16::try_from(length).unwrap_or(0).to_be_bytes();
    let length = algorithm.len() + 16 + mac.len() + variables.other.len();
    for part in [
        name,
        &kind::TSIG.to_be_bytes(),
        &ANY.to_be_bytes(),
        &[0; 4],
        &short(length),
        algorithm,
        &variables.timers(),
        &short(mac.len()),
        mac,
        &id,
        &variables.error.to_be_bytes(),
        &short(variables.other.len()),
        variables.other,
    ] {
        message.extend_from_slice(part);
    }
    if let Some(count) = message.get_mut(10..12).and_then(|bytes| bytes.first_chunk_mut::<2>()) {
        *count = u16::from_be_bytes(*count).wrapping_add(1).to_be_bytes();
    }
}

#[cfg(test)]
mod tests;
