//! What a tenant or a provider is told whose spec cannot be served.

use crate::api::Reason;

/// Why something is refused, in words that say what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The reason for the condition.
    pub reason: Reason,
    /// Field, fault and remedy.
    pub message: String,
}

impl Refusal {
    /// Refuses a spec for one of its fields.
    pub(super) fn invalid(field: &str, fault: impl std::fmt::Display) -> Self {
        Self::new(Reason::InvalidSpec, format!("spec.{field}: {fault}"))
    }

    pub(super) fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}
