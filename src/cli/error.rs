//! What can go wrong, in words and as exit codes.

use std::process::ExitCode;

use super::find::FindError;
use crate::api::HumanDuration;

/// How the command ended, for scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Exit {
    /// Everything is as it should be.
    Fine = 0,
    /// Something is wrong in DNS or with a signature.
    Wrong = 1,
    /// The command or its input cannot be used.
    Usage = 2,
    /// Nothing can be said (yet).
    Unknown = 3,
    /// The cluster.
    Cluster = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command failed: the thing, the fault, the remedy.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// Something given on the command line is wrong.
    #[error("{0}")]
    Usage(String),
    /// A file cannot be read.
    #[error("{file} cannot be read: {source}")]
    Input {
        /// Its name.
        file: String,
        /// The fault.
        source: std::io::Error,
    },
    /// The operator has not written what is asked for.
    #[error("{0}")]
    NotYet(String),
    /// The wait ran out.
    #[error("{what} did not happen within {timeout}: {why}")]
    TimedOut {
        /// What was awaited.
        what: String,
        /// For how long.
        timeout: HumanDuration,
        /// What it hangs on.
        why: String,
    },
    /// No such DkimDomain, or several.
    #[error("{0}")]
    Find(#[from] FindError),
    /// There is no way to the cluster.
    #[error("the cluster cannot be used: {0}. Check --kubeconfig and --context, or $KUBECONFIG")]
    Connect(String),
    /// The cluster does not know the resource.
    #[error(
        "the cluster has no resource dkimdomains.dkim-operator.io; install dkim-operator there, or choose another cluster with --context"
    )]
    NotInstalled,
    /// The cluster refuses.
    #[error(
        "the cluster does not let you {action}: {message}. Ask for a role that may, or use --context or -n"
    )]
    Forbidden {
        /// What was to be done.
        action: String,
        /// The API server's words.
        message: String,
    },
    /// Any other answer.
    #[error("the cluster could not {action}: {message}")]
    Cluster {
        /// What was to be done.
        action: String,
        /// The fault.
        message: String,
    },
    /// DNS cannot be asked.
    #[error("DNS cannot be asked: {0}")]
    Dns(String),
    /// The result cannot be written.
    #[error("the result cannot be written: {0}")]
    Output(String),
}

impl CliError {
    /// The exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) | Self::Input { .. } | Self::Output(_) => Exit::Usage,
            Self::NotYet(_) | Self::TimedOut { .. } | Self::Dns(_) => Exit::Unknown,
            Self::Find(_)
            | Self::Connect(_)
            | Self::NotInstalled
            | Self::Forbidden { .. }
            | Self::Cluster { .. } => Exit::Cluster,
        }
    }

    /// What the API server's answer to `action` means.
    #[must_use]
    pub fn from_kube(action: impl Into<String>, error: &kube::Error) -> Self {
        let action = action.into();
        match error {
            kube::Error::Api(status) if status.code == 404 && status.details.is_none() => Self::NotInstalled,
            kube::Error::Api(status) if status.code == 401 => Self::Connect(format!(
                "it does not know who you are ({}); log in again",
                trimmed(&status.message)
            )),
            kube::Error::Api(status) if status.code == 403 => {
                Self::Forbidden { action, message: trimmed(&status.message).to_owned() }
            }
            kube::Error::Api(status) => {
                Self::Cluster { action, message: trimmed(&status.message).to_owned() }
            }
            kube::Error::Service(_) | kube::Error::HyperError(_) | kube::Error::Auth(_) => {
                Self::Connect(chain(error))
            }
            other => Self::Cluster { action, message: chain(other) },
        }
    }
}

fn trimmed(text: &str) -> &str {
    text.trim_end_matches(['.', '\n', ' '])
}

/// An error with its causes, each said once.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        next = cause.source();
    }
    trimmed(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;

    fn api(code: u16, message: &str) -> kube::Error {
        kube::Error::Api(Box::new(Status::failure(message, "").with_code(code)))
    }

    #[test]
    fn answers_have_their_words_and_codes() {
        for (error, exit, says) in [
            (api(404, "404 page not found\n"), Exit::Cluster, "install dkim-operator"),
            (
                api(403, "dkimdomains is forbidden"),
                Exit::Cluster,
                "does not let you list DkimDomains: dkimdomains is forbidden. Ask",
            ),
            (api(401, "Unauthorized"), Exit::Cluster, "log in again"),
            (api(409, "conflict."), Exit::Cluster, "could not list DkimDomains: conflict"),
        ] {
            let error = CliError::from_kube("list DkimDomains", &error);
            assert_eq!(error.exit(), exit, "{error}");
            assert!(error.to_string().contains(says), "{error}");
        }
        assert_eq!(CliError::NotYet(String::new()).exit(), Exit::Unknown);
        assert_eq!(CliError::Usage(String::new()).exit(), Exit::Usage);
    }
}
