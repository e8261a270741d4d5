//! What mail-auth says, in the words of RFC 8601 §2.7.1, why, and what has most likely happened.

use jiff::Timestamp;
use mail_auth::common::crypto::CryptoError;
use mail_auth::dkim::{DkimError, Signature};
use mail_auth::{DkimResult, DnsError, Error};

use super::cause::{HeaderCause, field_of, of_body, of_header};
use super::records::{Found, KeyAnswer};
use super::tags::Tags;
use super::{Seen, ours};
use crate::model::words::moment;
use crate::signing::report::Verdict;

/// How far clocks may differ.
const CLOCKS: i64 = 300;
/// From this age on, a key that is gone was most likely withdrawn after its drain.
const OLD: i64 = 4 * 24 * 3600;

fn fault(result: &DkimResult) -> Option<&Error> {
    match result {
        DkimResult::Pass | DkimResult::None => None,
        DkimResult::Neutral(e)
        | DkimResult::Fail(e)
        | DkimResult::PermError(e)
        | DkimResult::TempError(e) => Some(e),
    }
}

/// The verdict, and why.
pub(super) fn judge(signature: &Signature, result: &DkimResult, answer: &KeyAnswer) -> (Verdict, String) {
    let name = &answer.name;
    let Some(error) = fault(result) else {
        return match result {
            DkimResult::Pass => (Verdict::Pass, "header and body are as they were signed".to_owned()),
            _ => (Verdict::Neutral, "it was not looked at".to_owned()),
        };
    };
    match error {
        Error::Dkim(DkimError::FailedBodyHashMatch) => {
            (Verdict::Fail, "the body was changed after signing (bh= is another hash)".to_owned())
        }
        Error::Crypto(CryptoError::IncompatibleAlgorithms) => (
            Verdict::PermError,
            format!("the key at {name} is of another kind than a={}", signature.a.name()),
        ),
        Error::Crypto(_) => (
            Verdict::Fail,
            format!(
                "a signed header field was changed after signing, or the key at {name} is not the one that signed"
            ),
        ),
        Error::Dkim(DkimError::SignatureExpired) => {
            (Verdict::Fail, format!("it ended at x={} (t={})", signature.x, signature.t))
        }
        Error::Dkim(DkimError::FailedAuidMatch) => {
            (Verdict::Fail, format!("the key at {name} has t=s, and i= is a subdomain of d="))
        }
        Error::Dkim(DkimError::RevokedPublicKey) => {
            (Verdict::PermError, format!("the key at {name} is revoked (its p= is empty)"))
        }
        Error::Dkim(DkimError::UnsupportedKeyType) => {
            (Verdict::PermError, format!("the key at {name} is neither k=rsa nor k=ed25519"))
        }
        Error::Dns(DnsError::RecordNotFound(code)) => {
            (Verdict::PermError, format!("no key is published: {name} has no TXT record ({code})"))
        }
        Error::Dns(DnsError::InvalidRecordType) => {
            (Verdict::PermError, format!("what is published at {name} is no DKIM key record"))
        }
        Error::Dns(DnsError::Resolver(text)) => (
            Verdict::TempError,
            format!("no answer from DNS for {name} ({text}); that proves nothing, try again"),
        ),
        other => (Verdict::PermError, format!("it cannot be verified with what is at {name} ({other})")),
    }
}

/// What has most likely happened, where more can be said than the verdict.
pub(super) fn cause(
    seen: &Seen<'_>,
    signature: &Signature,
    result: &DkimResult,
    answer: &KeyAnswer,
) -> Option<String> {
    let age = i64::try_from(signature.t).ok().filter(|t| *t > 0).map(|t| seen.now.as_second() - t);
    if let Some(age) = age.filter(|age| *age < -CLOCKS) {
        let at = Timestamp::from_second(seen.now.as_second() - age).ok()?;
        return Some(format!(
            "it says that it was made in the future ({}): the signer's clock is wrong, or the one here; some receivers refuse that",
            moment(at)
        ));
    }
    let error = fault(result)?;
    match error {
        Error::Dkim(DkimError::FailedBodyHashMatch) => {
            Some(of_body(seen.header?, seen.body, ours(signature.cb), &signature.bh))
        }
        Error::Crypto(CryptoError::IncompatibleAlgorithms) => Some(format!(
            "the record at {} belongs to another selector or another signature: each key kind needs a selector of its own",
            answer.end()
        )),
        Error::Crypto(_) => crypto(seen, signature, answer, age),
        Error::Dkim(DkimError::SignatureExpired) => {
            let over = seen.now.as_second() - i64::try_from(signature.x).ok()?;
            Some(format!("the message was {over} seconds too late: it was queued for long, or is read late"))
        }
        Error::Dkim(DkimError::RevokedPublicKey) => Some(
            "the domain has withdrawn this key, because it may be in the wrong hands: what it signed proves nothing any more"
                .to_owned(),
        ),
        Error::Dns(DnsError::RecordNotFound(_)) => Some(no_key(signature, answer, age)),
        Error::Dns(DnsError::InvalidRecordType) => Some(format!(
            "another record is where the key belongs, at {}: a wildcard, or a TXT for something else",
            answer.end()
        )),
        _ => None,
    }
}

/// The body is as it was, the signature over the header does not fit.
fn crypto(seen: &Seen<'_>, signature: &Signature, answer: &KeyAnswer, age: Option<i64>) -> Option<String> {
    let Found::Text { text, .. } = &answer.found else { return None };
    let header = seen.header?;
    let own = field_of(header, &signature.b)?;
    let signed = signature.h.join(", ");
    Some(match of_header(header, own, &Tags::parse(text.as_bytes())) {
        HeaderCause::OtherKey => {
            let when = match age {
                Some(age) if age > OLD => {
                    "the signature is older than keys usually stay published: the selector has a new key by now"
                }
                _ => {
                    "the signer uses a key that is not the published one, or the record (or where its CNAME leads) was changed"
                }
            };
            format!("the key at {} has not made this signature: {when}", answer.end())
        }
        HeaderCause::Changed(words) => format!("{words}; without that it verifies"),
        HeaderCause::ChangedSomehow => format!(
            "the key is the right one, so one of the signed fields ({signed}) was changed, in a way that cannot be told"
        ),
        HeaderCause::Unknown => {
            format!("one of the signed fields ({signed}) was changed, or another key has signed")
        }
    })
}

fn no_key(signature: &Signature, answer: &KeyAnswer, age: Option<i64>) -> String {
    let old = age.is_some_and(|age| age > OLD);
    match answer.hops.last() {
        Some(hop) if old => format!(
            "the CNAME is there and leads to {}, where no key is any more: keys are withdrawn some days after their last signature",
            hop.target
        ),
        Some(hop) => format!(
            "the CNAME is there and leads to {}, where no key is: it names a wrong target, or the key is gone",
            hop.target
        ),
        None if old => format!(
            "neither a CNAME nor a key is at {}: it was there when the message was signed, and was taken away since",
            answer.name
        ),
        None => format!(
            "neither a CNAME nor a key is at {}: publish the CNAME of the selector {} for {}",
            answer.name, signature.s, signature.d
        ),
    }
}
