//! Keys for dynamic updates, and updates made by a program that is not ours.

use std::net::SocketAddr;

use data_encoding::BASE64;

use super::control;
use crate::{Result, Scratch, binaries};

/// A key that a server and its clients share (TSIG, RFC 8945).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TsigKey {
    /// The key's name, without final dot.
    pub name: String,
    /// Such as `hmac-sha256`.
    pub algorithm: String,
    /// The secret, in base64.
    pub secret: String,
}

impl TsigKey {
    /// A new random key of 32 bytes.
    #[must_use]
    pub fn random(name: &str, algorithm: &str) -> Self {
        let bytes: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(32).collect();
        Self { name: name.to_owned(), algorithm: algorithm.to_owned(), secret: BASE64.encode(&bytes) }
    }
}

/// Updates a zone as another party would, with `knsupdate`: `commands` such as `add NAME TTL TXT "text"` or
/// `del NAME TXT`, one a line.
///
/// # Errors
/// Where it is not installed, or the server refuses.
pub async fn nsupdate(server: SocketAddr, key: &TsigKey, zone: &str, commands: &str) -> Result<()> {
    let scratch = Scratch::new("nsupdate")?;
    let TsigKey { name, algorithm, secret } = key;
    let (ip, port) = (server.ip(), server.port());
    let script =
        format!("server {ip} {port}\nzone {zone}\nkey {algorithm}:{name} {secret}\n{commands}\nsend\n");
    let script = scratch.write("script", script)?;
    control(&binaries::system("knsupdate")?, &["-v", "-t", "5", &script.to_string_lossy()]).await.map(drop)
}
