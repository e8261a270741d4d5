//! DNS cookies: proof that a client is at the address it sends from (RFC 7873), in the form that all servers of a name
//! understand (RFC 9018).

use std::hash::Hasher;
use std::net::IpAddr;

use siphasher::sip::SipHasher24;
use zeroize::Zeroizing;

use super::query::Cookie;
use super::secrets;

/// Bytes of a secret.
pub const SECRET: usize = 16;
/// How old a cookie may be, in seconds (RFC 9018 §4.3).
const MAX_AGE: u32 = 3600;
/// How far ahead another server's clock may be, in seconds (RFC 9018 §4.3).
const MAX_AHEAD: u32 = 300;

/// The secrets that make and check cookies.
pub struct Cookies {
    /// The first makes cookies; the others are honoured as well, while a new one is brought to all servers.
    secrets: Vec<Zeroizing<[u8; SECRET]>>,
}

impl std::fmt::Debug for Cookies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cookies({} secrets)", self.secrets.len())
    }
}

/// Why a text is no list of cookie secrets.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    #[error("line {0} is not {digits} hexadecimal digits; write one with: openssl rand -hex {SECRET}", digits = 2 * SECRET)]
    NoSecret(usize),
    #[error("there is no secret; write one with: openssl rand -hex {SECRET}")]
    Empty,
}

impl Cookies {
    /// With a secret of its own, which no other server knows.
    ///
    /// # Errors
    /// [`getrandom::Error`] where the operating system gives no randomness.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut secret = Zeroizing::new([0; SECRET]);
        getrandom::fill(&mut *secret)?;
        Ok(Self { secrets: vec![secret] })
    }

    /// Reads secrets, one a line in hexadecimal digits; lines that are empty or begin with `#` mean nothing.
    ///
    /// # Errors
    /// [`SecretError`] names the line, never what is in it.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let secrets = secrets::read(text, SecretError::Empty, |number, line| {
            let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(line.as_bytes()).unwrap_or_default();
            let secret = Zeroizing::new(bytes).as_slice().try_into().map(Zeroizing::new);
            secret.map_err(|_| SecretError::NoSecret(number))
        })?;
        Ok(Self { secrets })
    }

    /// Our part of a cookie for a client at `ip`; `now` in seconds since 1970.
    #[must_use]
    pub fn make(&self, client: [u8; 8], ip: IpAddr, now: u32) -> [u8; 16] {
        let [a, b, c, d] = now.to_be_bytes();
        let front = [1, 0, 0, 0, a, b, c, d];
        let hash = self.secrets.first().map_or([0; 8], |secret| hash(secret, client, front, ip));
        let mut cookie = [0; 16];
        let (left, right) = cookie.split_at_mut(8);
        left.copy_from_slice(&front);
        right.copy_from_slice(&hash);
        cookie
    }

    /// Whether a client's cookie has our part, made for this address and not too long ago.
    #[must_use]
    pub fn proves(&self, cookie: &Cookie, ip: IpAddr, now: u32) -> bool {
        let Some(server) = cookie.server else { return false };
        let Some((front, theirs)) = server.split_first_chunk::<8>() else { return false };
        let [1, _, _, _, a, b, c, d] = *front else { return false };
        let made = u32::from_be_bytes([a, b, c, d]);
        let (age, ahead) = (now.wrapping_sub(made), made.wrapping_sub(now));
        if age > MAX_AGE && ahead > MAX_AHEAD {
            return false;
        }
        // As numbers, in one step: the time tells nothing.
        let number = |hash: &[u8]| hash.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
        let same = |secret: &Zeroizing<_>| number(&hash(secret, cookie.client, *front, ip)) == number(theirs);
        theirs.len() == 8 && self.secrets.iter().any(same)
    }
}

/// The hash of RFC 9018 §4.4.
fn hash(secret: &[u8; SECRET], client: [u8; 8], front: [u8; 8], ip: IpAddr) -> [u8; 8] {
    let mut hasher = SipHasher24::new_with_key(secret);
    hasher.write(&client);
    hasher.write(&front);
    match ip {
        IpAddr::V4(ip) => hasher.write(&ip.octets()),
        IpAddr::V6(ip) => hasher.write(&ip.octets()),
    }
    hasher.finish().to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap()
    }

    /// RFC 9018 appendix A.
    #[test]
    fn it_is_the_cookie_of_the_rfc() {
        let cookies = Cookies::parse("e5e973e5a6b2a43f48e7dc849e37bfcf").unwrap();
        let client: [u8; 8] = hex("2464c4abcf10c957").try_into().unwrap();
        let made = cookies.make(client, "198.51.100.100".parse().unwrap(), 1_559_731_985);
        assert_eq!(made.as_slice(), hex("010000005cf79f111f8130c3eee29480"));
    }

    #[test]
    fn a_cookie_is_for_one_client_and_one_hour() {
        let cookies = Cookies::parse("# old\n\n00112233445566778899aabbccddeeff").unwrap();
        let (client, ip) = ([7; 8], "192.0.2.1".parse().unwrap());
        let cookie = Cookie { client, server: Some(cookies.make(client, ip, 10_000)) };
        for (now, good) in [(10_000, true), (13_600, true), (13_601, false), (9_700, true), (9_699, false)] {
            assert_eq!(cookies.proves(&cookie, ip, now), good, "{now}");
        }
        assert!(!cookies.proves(&cookie, "192.0.2.2".parse().unwrap(), 10_000));
        assert!(!cookies.proves(&Cookie { client: [8; 8], ..cookie }, ip, 10_000));
        assert!(!cookies.proves(&Cookie { server: None, ..cookie }, ip, 10_000));
        let other = Cookies::random().unwrap();
        assert!(!other.proves(&cookie, ip, 10_000));
    }

    #[test]
    fn faults_name_the_line_and_keep_the_secret() {
        let error = Cookies::parse("00112233445566778899aabbccddeeff\nabc").unwrap_err();
        assert_eq!(
            error.to_string(),
            "line 2 is not 32 hexadecimal digits; write one with: openssl rand -hex 16"
        );
        assert_eq!(Cookies::parse("# nothing\n").unwrap_err(), SecretError::Empty);
        assert_eq!(format!("{:?}", Cookies::random().unwrap()), "Cookies(1 secrets)");
    }
}
