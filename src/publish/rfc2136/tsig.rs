//! Signing what is sent to a DNS server and checking what comes back, with a shared key (TSIG, RFC 8945). The wire format
//! is hickory's; the key stays in memory that is wiped.

use aws_lc_rs::hmac;
use data_encoding::BASE64;
use hickory_proto::op::Message;
use hickory_proto::rr::Name;
use hickory_proto::rr::rdata::TSIG;
use hickory_proto::rr::rdata::tsig::{
    TsigAlgorithm as Algorithm, TsigError, make_tsig_record, message_tbs, signed_bitmessage_to_buf,
};
use zeroize::Zeroizing;

use crate::api::TsigAlgorithm;

/// Seconds by which two clocks may differ (RFC 8945 §10 recommends it).
const FUDGE: u16 = 300;

/// A key shared with a server.
pub struct Key {
    name: Name,
    algorithm: Algorithm,
    hash: hmac::Algorithm,
    secret: Zeroizing<Vec<u8>>,
}

/// Why a key cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// Its name is no domain name.
    #[error("the key's name {0} is no domain name")]
    Name(String),
    /// The secret is no base64.
    #[error("the secret is no base64; put it into the Secret as it stands in the server's configuration")]
    Base64,
    /// The secret is empty.
    #[error("the secret is empty")]
    Empty,
}

/// Why an answer cannot be trusted, or what the server finds wrong with the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TsigFault {
    /// RFC 8945 §5.2.1.
    #[error("the server does not know the key (BADKEY): its name or algorithm is another one there")]
    BadKey,
    /// RFC 8945 §5.2.2.
    #[error("the server's key of that name has another secret (BADSIG)")]
    BadSignature,
    /// RFC 8945 §5.2.3.
    #[error(
        "the server's clock and ours are too far apart (BADTIME): it is {theirs}, here {ours} (seconds since 1970)"
    )]
    BadTime {
        /// The server's time.
        theirs: u64,
        /// Ours.
        ours: u64,
    },
    /// RFC 8945 §5.2.4.
    #[error("the server wants a longer signature (BADTRUNC)")]
    BadTruncation,
    /// An answer without signature, or with one that is not of this key.
    #[error("the answer is not signed with the key, so it cannot be trusted")]
    Unsigned,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key")
            .field("name", &self.name)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

impl Key {
    /// A key from its parts; `secret` is base64, white space around it is tolerated.
    ///
    /// # Errors
    /// [`KeyFault`], which never holds anything of the secret.
    pub fn new(name: &str, algorithm: TsigAlgorithm, secret: &[u8]) -> Result<Self, KeyFault> {
        let mut owner = Name::from_ascii(name).map_err(|_| KeyFault::Name(name.to_owned()))?.to_lowercase();
        owner.set_fqdn(true);
        let secret = BASE64.decode(secret.trim_ascii()).map(Zeroizing::new).map_err(|_| KeyFault::Base64)?;
        if secret.is_empty() {
            return Err(KeyFault::Empty);
        }
        let (algorithm, hash) = match algorithm {
            TsigAlgorithm::HmacSha256 => (Algorithm::HmacSha256, hmac::HMAC_SHA256),
            TsigAlgorithm::HmacSha384 => (Algorithm::HmacSha384, hmac::HMAC_SHA384),
            TsigAlgorithm::HmacSha512 => (Algorithm::HmacSha512, hmac::HMAC_SHA512),
        };
        Ok(Self { name: owner, algorithm, hash, secret })
    }

    /// The message with its signature, ready to be sent, and the signature itself, which the answer's is made over.
    ///
    /// `now` is in seconds since 1970.
    ///
    /// # Errors
    /// Where the message cannot be encoded.
    pub fn sign(
        &self,
        mut message: Message,
        now: u64,
    ) -> Result<(Vec<u8>, Vec<u8>), hickory_proto::ProtoError> {
        let bare =
            TSIG::new(self.algorithm.clone(), now, FUDGE, Vec::new(), message.metadata.id, None, Vec::new());
        let mac = self.mac(&message_tbs(&message, &bare, &self.name)?);
        message.set_signature(Box::new(make_tsig_record(self.name.clone(), bare.set_mac(mac.clone()))));
        Ok((message.to_vec()?, mac))
    }

    /// Checks the answer to a message whose signature was `request`.
    ///
    /// # Errors
    /// [`TsigFault`]. What an unsigned answer says of the key is only what somebody on the way may say, too.
    pub fn verify(&self, answer: &[u8], request: &[u8], now: u64) -> Result<(), TsigFault> {
        let (signed, record) =
            signed_bitmessage_to_buf(answer, Some(request), true).map_err(|_| TsigFault::Unsigned)?;
        let tsig = &record.data;
        match tsig.error {
            Some(TsigError::BadKey) => return Err(TsigFault::BadKey),
            Some(TsigError::BadSig) => return Err(TsigFault::BadSignature),
            Some(TsigError::BadTrunc) => return Err(TsigFault::BadTruncation),
            _ => {}
        }
        let ours = record.name.to_lowercase() == self.name && tsig.algorithm == self.algorithm;
        let key = hmac::Key::new(self.hash, &self.secret);
        if !ours || hmac::verify(&key, &signed, &tsig.mac).is_err() {
            return Err(TsigFault::Unsigned);
        }
        if tsig.error == Some(TsigError::BadTime) || now.abs_diff(tsig.time) > u64::from(tsig.fudge) {
            let theirs = tsig.other.iter().fold(0, |sum, byte| (sum << 8) | u64::from(*byte));
            return Err(TsigFault::BadTime {
                theirs: if theirs == 0 { tsig.time } else { theirs },
                ours: now,
            });
        }
        Ok(())
    }

    fn mac(&self, text: &[u8]) -> Vec<u8> {
        hmac::sign(&hmac::Key::new(self.hash, &self.secret), text).as_ref().to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::{MessageType, OpCode};

    fn key(secret: &[u8]) -> Result<Key, KeyFault> {
        Key::new("Update", TsigAlgorithm::HmacSha256, secret)
    }

    #[test]
    fn tells_what_is_wrong_with_a_secret_and_shows_nothing_of_it() {
        assert_eq!(key(b"not base64!").unwrap_err(), KeyFault::Base64);
        assert_eq!(key(b"  \n").unwrap_err(), KeyFault::Empty);
        let key = key(b"c2VjcmV0LXNlY3JldA==\n").unwrap();
        let shown = format!("{key:?}");
        assert!(shown.contains("update") && !shown.contains("secret"), "{shown}");
    }

    #[test]
    fn an_answer_is_trusted_only_with_a_signature_over_the_request() {
        let key = key(b"c2VjcmV0LXNlY3JldA==").unwrap();
        let message = Message::new(7, MessageType::Query, OpCode::Update);
        let (sent, mac) = key.sign(message.clone(), 1000).unwrap();
        // The request's own signature is not one over an answer to it.
        assert_eq!(key.verify(&sent, &mac, 1000), Err(TsigFault::Unsigned));
        assert_eq!(key.verify(&message.to_vec().unwrap(), &mac, 1000), Err(TsigFault::Unsigned));
        assert_eq!(key.verify(b"", &mac, 1000), Err(TsigFault::Unsigned));
        let answer = |error, at: u64, other: Vec<u8>| {
            let mut answer = Message::new(7, MessageType::Response, OpCode::Update);
            let tsig = TSIG::new(key.algorithm.clone(), at, FUDGE, Vec::new(), 7, error, other);
            let mut signed = u16::try_from(mac.len()).unwrap().to_be_bytes().to_vec();
            signed.extend_from_slice(&mac);
            signed.extend(message_tbs(&answer, &tsig, &key.name).unwrap());
            let tsig = tsig.set_mac(key.mac(&signed));
            answer.set_signature(Box::new(make_tsig_record(key.name.clone(), tsig)));
            answer.to_vec().unwrap()
        };
        assert_eq!(key.verify(&answer(None, 1000, vec![]), &mac, 1100), Ok(()));
        assert_eq!(
            key.verify(&answer(None, 1000, vec![]), &mac, 1301),
            Err(TsigFault::BadTime { theirs: 1000, ours: 1301 })
        );
        let late = answer(Some(TsigError::BadTime), 1000, vec![0, 0, 0, 0, 0x20, 0]);
        assert_eq!(key.verify(&late, &mac, 1000), Err(TsigFault::BadTime { theirs: 8192, ours: 1000 }));
        assert_eq!(
            key.verify(&answer(Some(TsigError::BadKey), 1000, vec![]), &mac, 1000),
            Err(TsigFault::BadKey)
        );
    }
}
