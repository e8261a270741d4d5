//! One update to one server, over TCP: updates with several keys of 4096 bits do not fit in a datagram.

use std::net::SocketAddr;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, ResponseCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::tsig::{Key, TsigFault};
use crate::model::publishing::Kind;

/// Bound on one update, from connecting to the answer: a server writes it to disk before it answers.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Why an update was not made, or may not have been.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpdateError {
    /// A prerequisite failed (RFC 2136 §3.2): the zone is not as it was seen. Look again.
    #[error("the zone was changed by somebody else in between; looking again")]
    Changed,
    /// The key, or what is signed with it.
    #[error(
        "{server}: {fault}; compare {}.tsig of the DkimProvider and its Secret with the server's configuration",
        .kind.server_field()
    )]
    Tsig {
        /// The server.
        server: String,
        /// What was to be published.
        kind: Kind,
        /// What is wrong.
        fault: TsigFault,
    },
    /// The server says no, and will until somebody changes something.
    #[error("{server} {words}")]
    Refused {
        /// The server.
        server: String,
        /// What it says and what to do.
        words: String,
    },
    /// No answer, or one that may be another the next time.
    #[error("{server} {words}; it is tried again, and what is published already stays")]
    Unreachable {
        /// The server.
        server: String,
        /// What happened.
        words: String,
    },
    /// The Secret with the key cannot be used.
    #[error("{0}")]
    Secret(String),
    /// The update cannot be put into a message.
    #[error("{0}")]
    Unsayable(String),
}

impl UpdateError {
    /// Whether somebody must change something before it can be better.
    #[must_use]
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::Changed | Self::Unreachable { .. } => false,
            Self::Tsig { .. } | Self::Refused { .. } | Self::Secret(_) | Self::Unsayable(_) => true,
        }
    }
}

/// Where an update goes.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The server's address.
    pub address: SocketAddr,
    /// As the provider wrote it.
    pub server: &'a str,
    /// The zone, as it is shown.
    pub zone: &'a str,
    /// The key's name, as it is shown.
    pub key_name: &'a str,
    /// What is published: which fields of the DkimProvider faults are told of.
    pub kind: Kind,
}

/// Sends an update. `now` is in seconds since 1970.
///
/// # Errors
/// [`UpdateError`].
pub async fn send(target: Target<'_>, message: Message, key: &Key, now: u64) -> Result<(), UpdateError> {
    let id = message.metadata.id;
    let unsayable = |error: hickory_proto::ProtoError| UpdateError::Unsayable(error.to_string());
    let (bytes, mac) = key.sign(message, now).map_err(unsayable)?;
    let unreachable = |words: String| UpdateError::Unreachable { server: target.server.to_owned(), words };
    let answer = match tokio::time::timeout(TIMEOUT, exchange(target.address, &bytes)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(unreachable(format!("cannot be reached ({error})"))),
        Err(_) => return Err(unreachable(format!("did not answer within {} s", TIMEOUT.as_secs()))),
    };
    judge(target, &answer, id, key.verify(&answer, &mac, now))
}

/// What an answer means. `trust` is what its signature is worth.
fn judge(
    target: Target<'_>,
    answer: &[u8],
    id: u16,
    trust: Result<(), TsigFault>,
) -> Result<(), UpdateError> {
    let Target { server, zone, key_name, kind, address: _ } = target;
    let (server_field, zone_field, types) = (kind.server_field(), kind.zone_field(), kind.types());
    let server = server.to_owned();
    let parsed = Message::from_vec(answer)
        .ok()
        .filter(|m| m.metadata.id == id && m.metadata.message_type == MessageType::Response);
    let Some(parsed) = parsed else {
        return Err(UpdateError::Unreachable {
            server,
            words: "sent an answer that is malformed".to_owned(),
        });
    };
    let code = parsed.metadata.response_code;
    let signed = trust.is_ok();
    match trust {
        Err(fault) if fault != TsigFault::Unsigned || code == ResponseCode::NoError => {
            return Err(UpdateError::Tsig { server, kind, fault });
        }
        // An error without signature is taken for what it says: the worst that a forged one does is a delay.
        _ => {}
    }
    let words = match code {
        ResponseCode::NoError => return Ok(()),
        ResponseCode::YXDomain | ResponseCode::YXRRSet | ResponseCode::NXRRSet | ResponseCode::NXDomain => {
            return Err(UpdateError::Changed);
        }
        ResponseCode::ServFail => {
            return Err(UpdateError::Unreachable {
                server,
                words: "answered SERVFAIL to an update".to_owned(),
            });
        }
        // How PowerDNS says that the secret is wrong.
        ResponseCode::Refused if !signed => format!(
            "refuses updates of zone {zone} (REFUSED) and does not sign its answer: the key {key_name} may have another secret there (compare {server_field}.tsig of the DkimProvider and its Secret), or may not change {types} records (BIND: update-policy; Knot: an acl with action update; PowerDNS: dnsupdate, allow-dnsupdate-from and TSIG-ALLOW-DNSUPDATE)"
        ),
        ResponseCode::Refused => format!(
            "refuses updates of zone {zone} with the key {key_name} (REFUSED); let that key change {types} records there (BIND: update-policy; Knot: an acl with action update; PowerDNS: dnsupdate, allow-dnsupdate-from and TSIG-ALLOW-DNSUPDATE)"
        ),
        ResponseCode::NotAuth => format!(
            "is not the primary of zone {zone}, or does not take the key {key_name} (NOTAUTH); set {zone_field} to the zone as the server has it, and {server_field}.server to its primary"
        ),
        ResponseCode::NotZone => format!(
            "says that our names are not in zone {zone} (NOTZONE); set {zone_field} to the zone that holds them"
        ),
        ResponseCode::NotImp => format!(
            "does not take dynamic updates (NOTIMP); turn them on, or choose another {}",
            kind.method_field()
        ),
        other => format!("answers an update with an error ({other})"),
    };
    Err(UpdateError::Refused { server, words })
}

async fn exchange(address: SocketAddr, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let length = u16::try_from(bytes.len()).map_err(std::io::Error::other)?;
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    stream.write_all(&[&length.to_be_bytes(), bytes].concat()).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::OpCode;

    fn judged(kind: Kind, code: ResponseCode, trust: Result<(), TsigFault>) -> String {
        let mut answer = Message::new(7, MessageType::Response, OpCode::Update);
        answer.metadata.response_code = code;
        let target = Target {
            address: ([127, 0, 0, 1], 53).into(),
            server: "ns0.onmail.example",
            zone: "onmail.example",
            key_name: "dkim-operator",
            kind,
        };
        match judge(target, &answer.to_vec().unwrap(), 7, trust) {
            Ok(()) => "done".to_owned(),
            Err(error) => format!("{} ({})", error, if error.is_lasting() { "lasting" } else { "passing" }),
        }
    }

    #[test]
    fn every_answer_has_its_words() {
        let mut said = String::new();
        for code in [
            ResponseCode::NoError,
            ResponseCode::YXRRSet,
            ResponseCode::NXRRSet,
            ResponseCode::ServFail,
            ResponseCode::Refused,
            ResponseCode::NotAuth,
            ResponseCode::NotZone,
            ResponseCode::NotImp,
            ResponseCode::FormErr,
        ] {
            said.push_str(&format!("{code}: {}\n", judged(Kind::Keys, code, Ok(()))));
        }
        for fault in [
            TsigFault::BadKey,
            TsigFault::BadSignature,
            TsigFault::BadTime { theirs: 1, ours: 1000 },
            TsigFault::BadTruncation,
        ] {
            said.push_str(&format!("NOTAUTH: {}\n", judged(Kind::Keys, ResponseCode::NotAuth, Err(fault))));
        }
        said.push_str(&format!(
            "unsigned NOERROR: {}\n",
            judged(Kind::Keys, ResponseCode::NoError, Err(TsigFault::Unsigned))
        ));
        said.push_str(&format!(
            "unsigned REFUSED: {}\n",
            judged(Kind::Keys, ResponseCode::Refused, Err(TsigFault::Unsigned))
        ));
        insta::assert_snapshot!(said);
    }

    #[test]
    fn faults_with_tenants_cnames_name_the_fields_for_those() {
        let mut said = String::new();
        for (code, trust) in [
            (ResponseCode::Refused, Ok(())),
            (ResponseCode::Refused, Err(TsigFault::Unsigned)),
            (ResponseCode::NotAuth, Ok(())),
            (ResponseCode::NotAuth, Err(TsigFault::BadKey)),
            (ResponseCode::NotZone, Ok(())),
            (ResponseCode::NotImp, Ok(())),
        ] {
            said.push_str(&format!("{code}: {}\n", judged(Kind::Cnames, code, trust)));
        }
        assert!(!said.contains("spec.publish"), "{said}");
        insta::assert_snapshot!(said);
    }

    #[test]
    fn an_answer_to_another_question_is_none() {
        let target = Target {
            address: ([127, 0, 0, 1], 53).into(),
            server: "s",
            zone: "z",
            key_name: "k",
            kind: Kind::Keys,
        };
        let other = Message::new(8, MessageType::Response, OpCode::Update).to_vec().unwrap();
        for answer in [other.as_slice(), b"", b"\0"] {
            let error = judge(target, answer, 7, Ok(())).unwrap_err();
            assert!(matches!(error, UpdateError::Unreachable { .. }), "{error}");
        }
    }
}
