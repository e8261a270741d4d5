//! An SMTP client: one connection, one message after the other.

use std::net::SocketAddr;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;

use crate::error::Context;
use crate::{Error, Result};

/// A connection to a mail server, to submit mail over.
#[derive(Debug)]
pub struct Submission {
    stream: BufStream<TcpStream>,
    server: SocketAddr,
}

impl Submission {
    /// Connects and says EHLO.
    ///
    /// # Errors
    /// Where the server is not there or refuses.
    pub async fn open(server: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(server).await.context(|| format!("connecting to {server}"))?;
        let mut session = Self { stream: BufStream::new(stream), server };
        session.expect("").await?;
        session.command("EHLO client.example").await?;
        Ok(session)
    }

    /// Submits one message; line ends are to be CRLF.
    ///
    /// # Errors
    /// With the server's words, where it does not take the message.
    pub async fn send(&mut self, from: &str, to: &str, message: &[u8]) -> Result<()> {
        let smtputf8 = if from.is_ascii() && to.is_ascii() { "" } else { " SMTPUTF8" };
        self.command(&format!("MAIL FROM:<{from}>{smtputf8}")).await?;
        self.command(&format!("RCPT TO:<{to}>")).await?;
        self.command("DATA").await?;
        let mut stuffed = Vec::with_capacity(message.len() + 64);
        for line in message.split_inclusive(|b| *b == b'\n') {
            if line.starts_with(b".") {
                stuffed.push(b'.');
            }
            stuffed.extend_from_slice(line);
        }
        if !stuffed.ends_with(b"\r\n") && !stuffed.is_empty() {
            stuffed.extend_from_slice(b"\r\n");
        }
        stuffed.extend_from_slice(b".\r\n");
        self.write(&stuffed).await?;
        self.expect("the message").await
    }

    async fn command(&mut self, text: &str) -> Result<()> {
        self.write(format!("{text}\r\n").as_bytes()).await?;
        self.expect(text).await
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let writing = || format!("writing to {}", self.server);
        self.stream.write_all(bytes).await.context(writing)?;
        self.stream.flush().await.context(writing)
    }

    /// Reads a reply, of one line or more.
    async fn expect(&mut self, command: &str) -> Result<()> {
        let mut output = String::new();
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).await.context(|| format!("reading from {}", self.server))?;
            output.push_str(&line);
            if line.as_bytes().get(3) != Some(&b'-') {
                break;
            }
        }
        if output.starts_with(['2', '3']) {
            return Ok(());
        }
        Err(Error::Command {
            command: format!("SMTP {} {command}", self.server),
            status: output.get(..3).unwrap_or("no reply").to_owned(),
            output,
        })
    }
}
