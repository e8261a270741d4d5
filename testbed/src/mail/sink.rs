//! An SMTP server that keeps what it is given, byte by byte.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::error::Context;
use crate::{Address, Result};

/// A message as it arrived.
#[derive(Debug, Clone)]
pub struct Mail {
    /// The envelope's sender; empty for bounces.
    pub from: String,
    /// The message, dots unstuffed, line ends as they came.
    pub message: Vec<u8>,
}

/// Takes mail for everybody until it is dropped.
#[derive(Debug)]
pub struct Sink {
    address: SocketAddr,
    mails: Arc<Mutex<Vec<Mail>>>,
    task: JoinHandle<()>,
    _holding: Address,
}

impl Sink {
    /// Begins to listen on an address of its own.
    ///
    /// # Errors
    /// Where it cannot listen.
    pub async fn start() -> Result<Self> {
        let holding = Address::allocate()?;
        let address = holding.port(2526);
        let listening = || format!("listening on {address}");
        let listener = TcpListener::bind(address).await.context(listening)?;
        let mails = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&mails);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let kept = Arc::clone(&kept);
                // A client that breaks off loses its own mail alone.
                tokio::spawn(async move { drop(session(stream, &kept).await) });
            }
        });
        Ok(Self { address, mails, task, _holding: holding })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How much mail is there.
    #[must_use]
    pub fn len(&self) -> usize {
        self.mails.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes out all mail that has arrived since it was done last.
    #[must_use]
    pub fn take(&self) -> Vec<Mail> {
        std::mem::take(&mut *self.mails.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn session(stream: TcpStream, kept: &Mutex<Vec<Mail>>) -> std::io::Result<()> {
    let mut stream = BufStream::new(stream);
    let mut from = String::new();
    reply(&mut stream, "220 sink.example ESMTP").await?;
    loop {
        let mut line = Vec::new();
        if stream.read_until(b'\n', &mut line).await? == 0 {
            return Ok(());
        }
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
        match verb.as_str() {
            "EHLO" => {
                reply(&mut stream, "250-sink.example\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 PIPELINING")
                    .await?;
            }
            "MAIL" => {
                from = line.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
                reply(&mut stream, "250 2.1.0 Ok").await?;
            }
            "DATA" => {
                reply(&mut stream, "354 go on").await?;
                let message = data(&mut stream).await?;
                kept.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(Mail { from: from.clone(), message });
                reply(&mut stream, "250 2.0.0 taken").await?;
            }
            "QUIT" => return reply(&mut stream, "221 2.0.0 Bye").await,
            "HELO" | "RCPT" | "RSET" | "NOOP" => reply(&mut stream, "250 2.0.0 Ok").await?,
            _ => reply(&mut stream, "502 5.5.2 not known").await?,
        }
    }
}

async fn reply(stream: &mut BufStream<TcpStream>, text: &str) -> std::io::Result<()> {
    stream.write_all(text.as_bytes()).await?;
    stream.write_all(b"\r\n").await?;
    stream.flush().await
}

async fn data(stream: &mut BufStream<TcpStream>) -> std::io::Result<Vec<u8>> {
    let mut message = Vec::new();
    loop {
        let begin = message.len();
        if stream.read_until(b'\n', &mut message).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        match message.get(begin..) {
            Some(b".\r\n") => {
                message.truncate(begin);
                return Ok(message);
            }
            Some([b'.', ..]) => _ = message.remove(begin),
            _ => {}
        }
    }
}
