//! What can go wrong in a reconcile, in classes that decide the retry.

use std::time::Duration;

use crate::model::key::KeyError;

/// A failed step.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server said no or could not be reached.
    #[error("{step}: {}", words(source))]
    Api {
        /// What was being done.
        step: &'static str,
        /// The client's error.
        #[source]
        source: Box<kube::Error>,
    },
    /// Somebody else wrote in between; read again.
    #[error("{0}: written by somebody else in between; reading again")]
    Conflict(&'static str),
    /// The decision is too old to be carried out; decide again.
    #[error("the controller was held up for too long after it had decided; deciding again")]
    Late,
    /// It cannot be told what time it is.
    #[error(
        "the clocks of this machine and of the API server differ, and nobody can tell which is right; nothing is decided until they agree"
    )]
    Clocks,
    /// A key could not be made.
    #[error("making a key: {0}")]
    Key(#[from] KeyError),
    /// A worker thread ended early.
    #[error("a worker ended before it was done")]
    Worker,
    /// Something that this program wrote could not be turned into JSON.
    #[error("{step}: {source}")]
    Json {
        /// What was being done.
        step: &'static str,
        /// The serializer's error.
        #[source]
        source: serde_json::Error,
    },
}

/// The words of an API error, without the Debug dump that kube appends.
fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => format!("{} ({} {})", status.message, status.code, status.reason),
        other => other.to_string(),
    }
}

/// What an error asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Try again at once: the state read was old.
    Conflict,
    /// Try again with growing pauses.
    Transient,
    /// The operator lacks a permission: try again rarely, somebody must grant it.
    Forbidden,
    /// The API server refuses what we wrote: a fault of ours or of the schema; try again rarely.
    Refused,
}

impl Error {
    /// Wraps an API error; a conflict or a lost race becomes [`Error::Conflict`].
    pub fn api(step: &'static str) -> impl FnOnce(kube::Error) -> Self {
        move |source| match &source {
            kube::Error::Api(status) if status.code == 409 => Self::Conflict(step),
            _ => Self::Api { step, source: Box::new(source) },
        }
    }

    /// The class.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Conflict(_) | Self::Late => Class::Conflict,
            Self::Api { source, .. } => match source.as_ref() {
                kube::Error::Api(status) if status.code == 403 => Class::Forbidden,
                kube::Error::Api(status) if matches!(status.code, 400 | 405 | 413 | 415 | 422) => {
                    Class::Refused
                }
                _ => Class::Transient,
            },
            Self::Clocks | Self::Key(_) | Self::Worker => Class::Transient,
            Self::Json { .. } => Class::Refused,
        }
    }

    /// Whether the API server refused for want of permission.
    #[must_use]
    pub fn is_forbidden(&self) -> bool {
        self.class() == Class::Forbidden
    }
}

impl Class {
    /// A label for metrics: one of a closed list.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Conflict => "conflict",
            Self::Transient => "transient",
            Self::Forbidden => "forbidden",
            Self::Refused => "refused",
        }
    }

    /// The pause before try number `tries` (from 1). `jitter` is a number in 0..1 that spreads it over ±25 %.
    #[must_use]
    pub fn pause(self, tries: u32, jitter: f64) -> Duration {
        let (first, most) = match self {
            Self::Conflict => (0.05, 5.0),
            Self::Transient => (0.5, 120.0),
            Self::Forbidden | Self::Refused => (10.0, 300.0),
        };
        let grown = f64::min(first * 2f64.powi(i32::try_from(tries.min(30)).unwrap_or(30) - 1), most);
        Duration::from_secs_f64(grown * (0.75 + 0.5 * jitter.clamp(0.0, 1.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_spread() {
        assert_eq!(Class::Transient.pause(1, 0.5), Duration::from_millis(500));
        assert_eq!(Class::Transient.pause(3, 0.5), Duration::from_secs(2));
        assert_eq!(Class::Transient.pause(99, 0.5), Duration::from_secs(120));
        assert!(Class::Conflict.pause(1, 0.0) < Class::Conflict.pause(1, 1.0));
    }
}
