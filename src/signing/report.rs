//! The result of a verification, as text and as JSON.

use std::fmt;

use serde::Serialize;

use crate::model::name::DomainName;

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

/// How `d=` relates to the domain in `From:` (RFC 7489 §3.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Alignment {
    /// The same domain.
    Strict,
    /// One is below the other. No list of public suffixes is used: that both belong to one organisation is
    /// taken from that alone.
    Relaxed,
    /// Another domain, or no domain in `From:`.
    None,
}

impl Alignment {
    pub(super) fn of(d: &str, from: Option<&DomainName>) -> Self {
        let (Ok(d), Some(from)) = (DomainName::parse(d), from) else { return Self::None };
        let below = |name: &DomainName, parent: &DomainName| {
            name.as_str().strip_suffix(parent.as_str()).is_some_and(|rest| rest.ends_with('.'))
        };
        if d == *from {
            Self::Strict
        } else if below(&d, from) || below(from, &d) {
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
                "relaxed: one of d= and the domain in From: is below the other (DMARC with adkim=s does not take it, \
                 nor where they are registered to different organisations)"
            }
            Self::None => {
                "none: d= is another domain than the one in From:, so the signature does not count for DMARC"
            }
        }
    }
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
    /// What became of it.
    #[serde(rename = "result")]
    pub verdict: Verdict,
    /// The DNS name with its key, where one was needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked: Option<String>,
    /// Why, in words.
    pub reason: String,
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
        self.signatures.iter().any(|s| s.verdict == Verdict::Pass)
    }

    /// Whether any signature verifies and is aligned: what DMARC asks.
    #[must_use]
    pub fn passes_aligned(&self) -> bool {
        self.signatures.iter().any(|s| s.verdict == Verdict::Pass && s.alignment != Alignment::None)
    }
}

/// Text from a message, safe to print on a terminal.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(300).collect()
}

impl fmt::Display for VerifyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.from, &self.from_problem) {
            (Some(from), _) => writeln!(f, "From: {from}")?,
            (None, problem) => writeln!(f, "From: {}", plain(problem.as_deref().unwrap_or("no domain")))?,
        }
        if self.signatures.is_empty() {
            return writeln!(f, "The message has no DKIM-Signature.");
        }
        for signature in &self.signatures {
            let SignatureReport { d, s, a, verdict, asked, reason, alignment } = signature;
            writeln!(f)?;
            writeln!(f, "{}: d={} s={} a={}", verdict.as_str(), plain(d), plain(s), plain(a))?;
            writeln!(f, "  {}", plain(reason))?;
            if let Some(asked) = asked {
                writeln!(f, "  key: {}", plain(asked))?;
            }
            writeln!(f, "  alignment {}", alignment.explanation())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alignment_is_by_whole_labels() {
        let from = DomainName::parse("mail.contoso.com").unwrap();
        let of = |d| Alignment::of(d, Some(&from));
        assert_eq!(of("MAIL.contoso.com"), Alignment::Strict);
        assert_eq!(of("contoso.com"), Alignment::Relaxed);
        assert_eq!(of("a.mail.contoso.com"), Alignment::Relaxed);
        assert_eq!(of("il.contoso.com"), Alignment::None);
        assert_eq!(of("xmail.contoso.com"), Alignment::None);
        assert_eq!(of("other.contoso.com"), Alignment::None);
        assert_eq!(of("com"), Alignment::None, "a single label is no organisation");
        assert_eq!(Alignment::of("contoso.com", None), Alignment::None);
    }

    #[test]
    fn reads_well() {
        let signature = SignatureReport {
            d: "contoso.com".into(),
            s: "selector1\u{1b}[31m".into(),
            a: "rsa-sha256".into(),
            verdict: Verdict::Fail,
            asked: Some("selector1._domainkey.contoso.com".into()),
            reason: "the body was changed after signing (bh= is another hash)".into(),
            alignment: Alignment::Strict,
        };
        let from = DomainName::parse("contoso.com").ok();
        let report = VerifyReport { from, from_problem: None, signatures: vec![signature] };
        insta::assert_snapshot!(report.to_string());
        insta::assert_snapshot!(serde_json::to_string_pretty(&report).unwrap());
    }
}
