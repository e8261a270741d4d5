//! Where an MTA finds us: unix and TCP sockets.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::listen::listen;

/// A socket as Postfix (`inet:HOST:PORT`, `unix:PATH`) and Sendmail (`inet:PORT@HOST`, `local:PATH`) write it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SocketSpec {
    /// TCP at an address.
    Inet(SocketAddr),
    /// A unix socket at a path.
    Unix(PathBuf),
}

impl FromStr for SocketSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let remedy =
            "write unix:PATH or inet:ADDRESS:PORT, such as unix:/run/dkim/milter.sock or inet:127.0.0.1:8891";
        let (kind, rest) = text.split_once(':').ok_or(remedy)?;
        match kind {
            "unix" | "local" if rest.starts_with('/') => Ok(Self::Unix(rest.into())),
            "unix" | "local" => Err(format!("the path of a socket begins with /; {remedy}")),
            "inet" | "inet6" => {
                let address = match rest.split_once('@') {
                    Some((port, host)) if host.contains(':') && !host.starts_with('[') => {
                        format!("[{host}]:{port}")
                    }
                    Some((port, host)) => format!("{host}:{port}"),
                    None => rest.to_owned(),
                };
                let address = address.replace("localhost:", "127.0.0.1:");
                address.parse().map(Self::Inet).map_err(|_| format!("no IP address and port; {remedy}"))
            }
            _ => Err(remedy.to_owned()),
        }
    }
}

impl fmt::Display for SocketSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => write!(f, "inet:{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The mode of a unix socket, in octal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mode(pub u32);

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match u32::from_str_radix(text, 8) {
            Ok(mode) if mode <= 0o777 => Ok(Self(mode)),
            _ => Err("write an octal mode such as 0660".to_owned()),
        }
    }
}

/// The group of a unix socket, by name or number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group(pub u32);

impl FromStr for Group {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(id) = text.parse() {
            return Ok(Self(id));
        }
        let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
        let found = groups.lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next() == Some(text)).then(|| fields.nth(1)?.parse().ok())?
        });
        found.map(Self).ok_or_else(|| "no group of that name in /etc/group; write its number".to_owned())
    }
}

/// Why a socket cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    #[error("{0}")]
    Inet(io::Error),
    #[error("{}: somebody listens there already; end that program or choose another path", .0.display())]
    InUse(PathBuf),
    #[error("{}: it is there and no socket; remove it or choose another path", .0.display())]
    NoSocket(PathBuf),
    #[error("{}: {source}; the directory must be there and the milter be allowed to write in it", path.display())]
    Unix {
        /// The socket.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
}

/// A socket that is listened on.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Inet(TcpListener),
    /// A unix socket.
    Unix(UnixListener, SocketFile),
}

/// A connection.
#[derive(Debug)]
pub enum Stream {
    /// TCP.
    Inet(TcpStream),
    /// A unix socket.
    Unix(UnixStream),
}

/// A socket's place in the file system; removed with the value, unless another socket took the place.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if std::fs::symlink_metadata(&self.path).is_ok_and(|now| now.ino() == self.inode) {
            // It is stale otherwise, which the next start handles.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Listener {
    /// Listens. A unix socket that was left behind is replaced; one that somebody listens on is not.
    ///
    /// # Errors
    /// [`SocketError`].
    pub async fn bind(spec: &SocketSpec, mode: Mode, group: Option<Group>) -> Result<Self, SocketError> {
        match spec {
            SocketSpec::Inet(address) => {
                let listener = listen(*address, TcpListener::bind).await.map_err(SocketError::Inet)?;
                Ok(Self::Inet(listener))
            }
            SocketSpec::Unix(path) => bind_unix(path, mode, group).await,
        }
    }

    /// Where it listens.
    ///
    /// # Errors
    /// [`io::Error`] from the operating system.
    pub fn spec(&self) -> io::Result<SocketSpec> {
        Ok(match self {
            Self::Inet(listener) => SocketSpec::Inet(listener.local_addr()?),
            Self::Unix(_, file) => SocketSpec::Unix(file.path.clone()),
        })
    }

    /// The next connection, and the address it comes from, where it has one.
    ///
    /// # Errors
    /// [`io::Error`]; the next attempt may succeed.
    pub async fn accept(&self) -> io::Result<(Stream, Option<SocketAddr>)> {
        match self {
            Self::Inet(listener) => {
                let (stream, address) = listener.accept().await?;
                // Replies are one write each; nothing is won by holding one back, and 40 ms are lost.
                stream.set_nodelay(true)?;
                Ok((Stream::Inet(stream), Some(address)))
            }
            Self::Unix(listener, _) => Ok((Stream::Unix(listener.accept().await?.0), None)),
        }
    }
}

/// The socket gets its mode and group under another name, and then its own: nobody meets it half made.
async fn bind_unix(path: &Path, mode: Mode, group: Option<Group>) -> Result<Listener, SocketError> {
    let failed = |source| SocketError::Unix { path: path.to_owned(), source };
    if let Ok(there) = std::fs::symlink_metadata(path) {
        if !there.file_type().is_socket() {
            return Err(SocketError::NoSocket(path.to_owned()));
        }
        if UnixStream::connect(path).await.is_ok() {
            return Err(SocketError::InUse(path.to_owned()));
        }
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let temporary = path.with_file_name(name);
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(&temporary).map_err(failed)?;
    let placed = (|| {
        if let Some(Group(group)) = group {
            chown(&temporary, None, Some(group))?;
        }
        std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(mode.0))?;
        let inode = std::fs::symlink_metadata(&temporary)?.ino();
        std::fs::rename(&temporary, path)?;
        Ok(inode)
    })();
    match placed {
        Ok(inode) => Ok(Listener::Unix(listener, SocketFile { path: path.to_owned(), inode })),
        Err(error) => {
            let _ = std::fs::remove_file(&temporary);
            Err(failed(error))
        }
    }
}

impl Stream {
    /// Waits until something can be read.
    ///
    /// # Errors
    /// [`io::Error`] where the connection is broken.
    pub async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Inet(stream) => stream.readable().await,
            Self::Unix(stream) => stream.readable().await,
        }
    }

    /// Appends what is there to the buffer's spare room. 0 bytes: the end.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] where nothing is there; others where the connection is broken.
    pub fn try_read(&self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        match self {
            Self::Inet(stream) => stream.try_read_buf(buffer),
            Self::Unix(stream) => stream.try_read_buf(buffer),
        }
    }

    /// Writes all of it.
    ///
    /// # Errors
    /// [`io::Error`] where the connection is broken.
    pub async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        use tokio::io::AsyncWriteExt;
        match self {
            Self::Inet(stream) => stream.write_all(bytes).await,
            Self::Unix(stream) => stream.write_all(bytes).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_as_postfix_and_sendmail_write_them() {
        for (text, means) in [
            ("unix:/run/x.sock", "unix:/run/x.sock"),
            ("local:/run/x.sock", "unix:/run/x.sock"),
            ("inet:127.0.0.1:8891", "inet:127.0.0.1:8891"),
            ("inet:localhost:8891", "inet:127.0.0.1:8891"),
            ("inet:8891@localhost", "inet:127.0.0.1:8891"),
            ("inet:8891@10.0.0.1", "inet:10.0.0.1:8891"),
            ("inet6:8891@::1", "inet:[::1]:8891"),
            ("inet:[::]:8891", "inet:[::]:8891"),
        ] {
            assert_eq!(text.parse::<SocketSpec>().unwrap().to_string(), means, "{text}");
        }
        for text in [
            "",
            "x",
            "/run/x",
            "unix:x",
            "inet:8891",
            "inet:mx.example:25",
            "udp:1.2.3.4:5",
            "inet:1.2.3.4:x",
        ] {
            let fault = text.parse::<SocketSpec>().unwrap_err();
            assert!(fault.contains("unix:PATH or inet:ADDRESS:PORT"), "{text}: {fault}");
        }
        assert_eq!("0660".parse::<Mode>().unwrap(), Mode(0o660));
        assert!("0999".parse::<Mode>().is_err() && "10000".parse::<Mode>().is_err());
        assert_eq!("0".parse::<Group>().unwrap(), Group(0));
        assert_eq!("root".parse::<Group>().unwrap(), Group(0));
        assert!("no-such-group".parse::<Group>().unwrap_err().contains("/etc/group"));
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.sock");
        let spec = SocketSpec::Unix(path.clone());
        // Left behind: std's listener does not remove its file.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let listener = Listener::bind(&spec, Mode(0o600), Some(Group(0))).await;
        // Only root may give a file away.
        let listener = match listener {
            Err(SocketError::Unix { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => {
                Listener::bind(&spec, Mode(0o600), None).await.unwrap()
            }
            other => other.unwrap(),
        };
        assert_eq!(std::fs::symlink_metadata(&path).unwrap().mode() & 0o777, 0o600);
        let error = Listener::bind(&spec, Mode(0o600), None).await.unwrap_err().to_string();
        assert!(error.contains("somebody listens there already"), "{error}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary names are left");
        drop(listener);
        assert!(!path.exists());

        std::fs::write(&path, "").unwrap();
        let error = Listener::bind(&spec, Mode(0o600), None).await.unwrap_err().to_string();
        assert!(error.contains("no socket"), "{error}");
        let nowhere = SocketSpec::Unix(dir.path().join("none/m.sock"));
        let error = Listener::bind(&nowhere, Mode(0o600), None).await.unwrap_err().to_string();
        assert!(error.contains("the directory must be there"), "{error}");
    }

    #[tokio::test]
    async fn a_socket_that_took_the_place_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.sock");
        let first = Listener::bind(&SocketSpec::Unix(path.clone()), Mode(0o600), None).await.unwrap();
        std::fs::remove_file(&path).unwrap();
        let _second = Listener::bind(&SocketSpec::Unix(path.clone()), Mode(0o600), None).await.unwrap();
        drop(first);
        assert!(UnixStream::connect(&path).await.is_ok());
    }
}
