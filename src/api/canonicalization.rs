//! What of a message may change on the way.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The canonicalisations of RFC 6376 §3.4.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Default)]
#[serde(rename_all = "lowercase")]
pub enum Canonicalization {
    /// White space and header case may change on the way.
    #[default]
    Relaxed,
    /// Nothing may change on the way.
    Simple,
}

impl Canonicalization {
    /// The word in `c=`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Relaxed => "relaxed",
            Self::Simple => "simple",
        }
    }
}
