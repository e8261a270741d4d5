//! The result of a verification, as text and as JSON.

use std::fmt;

use jiff::Timestamp;
use serde::Serialize;

use super::verify::Hop;
use crate::model::name::DomainName;
use crate::model::words::moment;

/// What became of one signature, in the words of RFC 8601 §2.7.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It verifies.
    Pass,
    /// It does not.
    Fail,
    /// It cannot be read.
    Neutral,
    /// It can never be verified as things are: no key, or no usable one.
    PermError,
    /// It could not be verified now: DNS did not answer.
    TempError,
}

impl Verdict {
    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Neutral => "neutral",
            Self::PermError => "permerror",
            Self::TempError => "temperror",
        }
    }
}

/// How `d=` relates to the domain in `From:` (RFC 7489 §3.1.1), the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Alignment {
    /// The same domain.
    Strict,
    /// Another domain of the same organisation, by the list of public suffixes.
    Relaxed,
    /// A domain of another organisation, or no domain in `From:`.
    None,
}

impl Alignment {
    pub(super) fn of(d: &str, from: Option<&DomainName>) -> Self {
        let (Ok(d), Some(from)) = (DomainName::parse(d), from) else { return Self::None };
        if d == *from {
            Self::Strict
        } else if organisation(&d) == organisation(from) {
            Self::Relaxed
        } else {
            Self::None
        }
    }

    /// What it means for DMARC.
    #[must_use]
    pub fn explanation(self) -> &'static str {
        match self {
            Self::Strict => "strict: d= is the domain in From:",
            Self::Relaxed => {
                "relaxed: d= is another domain of the same organisation (DMARC with adkim=s does not take it)"
            }
            Self::None => {
                "none: d= belongs to another organisation than the domain in From:, so it does not count for DMARC"
            }
        }
    }
}

/// The domain that an organisation has registered (RFC 7489 §3.2).
fn organisation(domain: &DomainName) -> &str {
    psl::domain_str(domain.as_str()).unwrap_or(domain.as_str())
}

/// The hash of a body, twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BodyHash {
    /// As it was when it was signed: `bh=`.
    pub signed: String,
    /// As it is now.
    pub computed: String,
}

/// Where the key is, and what is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyReport {
    /// The name that `s=` and `d=` make.
    pub name: String,
    /// The CNAMEs on the way from there.
    pub chain: Vec<Hop>,
    /// What is at their end, in words.
    pub found: String,
    /// For how many seconds resolvers remember it still.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u32>,
}

/// One signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SignatureReport {
    /// The `d=` tag.
    pub d: String,
    /// The `s=` tag.
    pub s: String,
    /// The `a=` tag.
    pub a: String,
    /// The `c=` tag, both halves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canonicalization: Option<String>,
    /// The `h=` tag: the fields it covers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<String>,
    /// The `t=` tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signed_at: Option<Timestamp>,
    /// The `x=` tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// The body's hash.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_hash: Option<BodyHash>,
    /// The key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyReport>,
    /// What became of it.
    #[serde(rename = "result")]
    pub verdict: Verdict,
    /// The DNS name with its key, where one was needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked: Option<String>,
    /// Why, in words.
    pub reason: String,
    /// What has most likely happened, where more can be said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// How `d=` relates to `From:`.
    pub alignment: Alignment,
}

/// All signatures of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VerifyReport {
    /// The domain of the first author.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<DomainName>,
    /// Why there is no such domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_problem: Option<String>,
    /// The signatures, top to bottom; those that cannot be read last.
    pub signatures: Vec<SignatureReport>,
}

impl VerifyReport {
    /// Whether any signature verifies.
    #[must_use]
    pub fn passes(&self) -> bool {
        self.best().is_some()
    }

    /// Whether any signature verifies and is aligned: what DMARC asks.
    #[must_use]
    pub fn passes_aligned(&self) -> bool {
        self.best().is_some_and(|best| best != Alignment::None)
    }

    /// How the best of those that verify relates to `From:`.
    fn best(&self) -> Option<Alignment> {
        let good = self.signatures.iter().filter(|s| s.verdict == Verdict::Pass);
        good.map(|s| s.alignment).min()
    }
}

/// Text from a message, safe to print on a terminal.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(300).collect()
}

impl fmt::Display for VerifyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.from, &self.from_problem) {
            (Some(from), _) => writeln!(f, "From: {from} (organisation: {})", organisation(from))?,
            (None, problem) => writeln!(f, "From: {}", plain(problem.as_deref().unwrap_or("no domain")))?,
        }
        if self.signatures.is_empty() {
            return writeln!(f, "The message has no DKIM-Signature.");
        }
        for signature in &self.signatures {
            writeln!(f)?;
            signature.fmt(f)?;
        }
        writeln!(
            f,
            "\nDMARC by DKIM: {}",
            match self.best() {
                Some(Alignment::Strict) => "pass, with adkim=s and adkim=r",
                Some(Alignment::Relaxed) => "pass with adkim=r (the default), fail with adkim=s",
                Some(Alignment::None) => "fail: what verifies is of another organisation",
                None => "fail: nothing verifies",
            }
        )
    }
}

impl fmt::Display for SignatureReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SignatureReport {
            d,
            s,
            a,
            canonicalization,
            headers,
            signed_at,
            expires_at,
            body_hash,
            key,
            verdict,
            asked,
            reason,
            cause,
            alignment,
        } = self;
        let c = canonicalization.as_deref().map(|c| format!(" c={c}")).unwrap_or_default();
        writeln!(f, "{}: d={} s={} a={}{c}", verdict.as_str(), plain(d), plain(s), plain(a))?;
        writeln!(f, "  {}", plain(reason))?;
        if let Some(cause) = cause {
            writeln!(f, "  most likely: {}", plain(cause))?;
        }
        match (signed_at, expires_at) {
            (Some(at), Some(end)) => writeln!(f, "  signed {}, good until {}", moment(*at), moment(*end))?,
            (Some(at), None) => writeln!(f, "  signed {}", moment(*at))?,
            (None, Some(end)) => writeln!(f, "  good until {}", moment(*end))?,
            (None, None) => {}
        }
        if !headers.is_empty() {
            writeln!(f, "  covers {}", plain(&headers.join(", ")))?;
        }
        if let Some(BodyHash { signed, computed }) = body_hash {
            if signed == computed {
                writeln!(f, "  body hash {}, as it was signed", plain(signed))?;
            } else {
                writeln!(f, "  body hash {} when it was signed, {computed} now", plain(signed))?;
            }
        }
        match (key, asked) {
            (Some(KeyReport { name, chain, found, ttl }), _) => {
                writeln!(f, "  key: {}", plain(name))?;
                for hop in chain {
                    writeln!(f, "    CNAME {} (TTL {})", plain(&hop.target), hop.ttl)?;
                }
                match ttl {
                    Some(ttl) => writeln!(f, "    {} (TTL {ttl})", plain(found))?,
                    None => writeln!(f, "    {}", plain(found))?,
                }
            }
            (None, Some(asked)) => writeln!(f, "  key: {}", plain(asked))?,
            (None, None) => {}
        }
        writeln!(f, "  alignment {}", alignment.explanation())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signing::testing::shown;

    #[test]
    fn alignment_is_by_organisation() {
        let from = DomainName::parse("mail.contoso.com").unwrap();
        let of = |d| Alignment::of(d, Some(&from));
        assert_eq!(of("MAIL.contoso.com"), Alignment::Strict);
        assert_eq!(of("contoso.com"), Alignment::Relaxed);
        assert_eq!(of("a.mail.contoso.com"), Alignment::Relaxed);
        assert_eq!(of("il.contoso.com"), Alignment::Relaxed);
        assert_eq!(of("xcontoso.com"), Alignment::None);
        assert_eq!(of("other.contoso.com"), Alignment::Relaxed);
        assert_eq!(of("com"), Alignment::None, "a single label is no organisation");
        assert_eq!(Alignment::of("contoso.com", None), Alignment::None);
        let british = DomainName::parse("contoso.co.uk").unwrap();
        assert_eq!(Alignment::of("fabrikam.co.uk", Some(&british)), Alignment::None, "a public suffix");
        assert_eq!(Alignment::of("mail.contoso.co.uk", Some(&british)), Alignment::Relaxed);
        let hosted = DomainName::parse("contoso.onmail.example").unwrap();
        assert_eq!(Alignment::of("fabrikam.onmail.example", Some(&hosted)), Alignment::Relaxed);
    }

    #[test]
    fn reads_well() {
        let signature = shown(Verdict::Fail, Alignment::Strict);
        let from = DomainName::parse("contoso.com").ok();
        let report = VerifyReport { from, from_problem: None, signatures: vec![signature] };
        insta::assert_snapshot!(report.to_string());
        insta::assert_snapshot!(serde_json::to_string_pretty(&report).unwrap());
    }
}
