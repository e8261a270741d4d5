//! What answers of DNS prove, and what they mean for a tenant. Pure.

mod evidence;
mod keys;
mod target;
#[cfg(test)]
mod tests;
mod words;

use std::fmt;

pub use evidence::{
    KeyEvidence, LinkEvidence, MAX_POSITIVE, behind, copy_evidence, key_evidence, link_evidence, present_ttl,
};
pub use keys::{ExpectedKey, KeyDiagnosis, KeyState, diagnose_key};
pub use words::diagnose;

/// What DNS says of a record that a tenant must publish. `docs/diagnosis.md` tells people what each means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RecordState {
    /// Not looked at yet.
    Pending,
    /// There, at every server that was heard.
    Verified,
    /// No CNAME visible, but the right TXT answers: it works.
    Flattened,
    /// There, but a resolver still remembers that it was not.
    StaleNegativeCache,
    /// Not there.
    Missing,
    /// The domain itself is not there.
    NxDomain,
    /// It points somewhere else.
    WrongTarget,
    /// It points at the other selector's target.
    SwappedSelectors,
    /// The zone stands twice in its name.
    DoubledZone,
    /// The zone was appended to its target: the final dot is missing.
    RelativeTarget,
    /// The underscore of `_domainkey` is missing, in its name or in its target.
    UnderscoreDropped,
    /// Dashes and dots of its target are mixed up.
    DashInsteadOfDot,
    /// The quotes around its target are part of it.
    QuotedTarget,
    /// There is a TXT in its place.
    TxtInsteadOfCname,
    /// There is a TXT beside it.
    CnameAndTxt,
    /// What is there comes from a wildcard.
    Wildcard,
    /// The CNAMEs behind it lead in a circle.
    CnameLoop,
    /// More CNAMEs follow behind it than resolvers follow.
    ChainTooLong,
    /// There is another key in its place, where the tenant publishes keys itself.
    OtherKey,
    /// Servers disagree.
    PartlyPropagated,
    /// The servers named by the delegation do not serve the zone.
    LameDelegation,
    /// DNSSEC validation fails.
    DnssecBogus,
    /// No server answered in time.
    Timeout,
    /// Servers failed.
    ServFail,
    /// Servers refused.
    Refused,
    /// No server could be reached, or might be asked.
    Unreachable,
}

impl RecordState {
    /// All of them.
    pub const ALL: [Self; 26] = [
        Self::Pending,
        Self::Verified,
        Self::Flattened,
        Self::StaleNegativeCache,
        Self::Missing,
        Self::NxDomain,
        Self::WrongTarget,
        Self::SwappedSelectors,
        Self::DoubledZone,
        Self::RelativeTarget,
        Self::UnderscoreDropped,
        Self::DashInsteadOfDot,
        Self::QuotedTarget,
        Self::TxtInsteadOfCname,
        Self::CnameAndTxt,
        Self::Wildcard,
        Self::CnameLoop,
        Self::ChainTooLong,
        Self::OtherKey,
        Self::PartlyPropagated,
        Self::LameDelegation,
        Self::DnssecBogus,
        Self::Timeout,
        Self::ServFail,
        Self::Refused,
        Self::Unreachable,
    ];

    /// The word as it stands in status.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Verified => "Verified",
            Self::Flattened => "Flattened",
            Self::StaleNegativeCache => "StaleNegativeCache",
            Self::Missing => "Missing",
            Self::NxDomain => "NxDomain",
            Self::WrongTarget => "WrongTarget",
            Self::SwappedSelectors => "SwappedSelectors",
            Self::DoubledZone => "DoubledZone",
            Self::RelativeTarget => "RelativeTarget",
            Self::UnderscoreDropped => "UnderscoreDropped",
            Self::DashInsteadOfDot => "DashInsteadOfDot",
            Self::QuotedTarget => "QuotedTarget",
            Self::TxtInsteadOfCname => "TxtInsteadOfCname",
            Self::CnameAndTxt => "CnameAndTxt",
            Self::Wildcard => "Wildcard",
            Self::CnameLoop => "CnameLoop",
            Self::ChainTooLong => "ChainTooLong",
            Self::OtherKey => "OtherKey",
            Self::PartlyPropagated => "PartlyPropagated",
            Self::LameDelegation => "LameDelegation",
            Self::DnssecBogus => "DnssecBogus",
            Self::Timeout => "Timeout",
            Self::ServFail => "ServFail",
            Self::Refused => "Refused",
            Self::Unreachable => "Unreachable",
        }
    }

    /// Whether the state proves nothing about the record.
    #[must_use]
    pub fn is_unclear(self) -> bool {
        matches!(
            self,
            Self::Pending
                | Self::LameDelegation
                | Self::DnssecBogus
                | Self::Timeout
                | Self::ServFail
                | Self::Refused
                | Self::Unreachable
        )
    }
}

impl fmt::Display for RecordState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A state, and the words for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    /// The state.
    pub state: RecordState,
    /// Who said what, and what to do.
    pub message: String,
}
