//! Asking with a program that is not ours.

use std::net::SocketAddr;

use super::control;
use crate::{Result, binaries};

/// What `kdig` prints for its arguments (names, types, `+` options), asking `server` and nobody else.
///
/// # Errors
/// Where it is not installed, or gets no answer; its output is part of the error.
pub async fn kdig(server: SocketAddr, args: &[&str]) -> Result<String> {
    let (at, port) = (format!("@{}", server.ip()), server.port().to_string());
    // No configuration of the user's, and one attempt only: a lost answer is a finding.
    let ours = ["-p", &port, &at, "+retry=0", "+timeout=5", "+noidn"];
    control(&binaries::system("kdig")?, &[&ours, args].concat()).await
}
