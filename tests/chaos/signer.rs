//! A signer in a process of its own: it knows nothing but the directory with the mounts.

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Instant;

use dkim_operator::signing::{Header, KeyStore, MessageSigner};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::Fallible;

/// The argument that makes this program a signer.
pub const ROLE: &str = "signer";

/// Reads `NUMBER DOMAIN FILE` from standard input, signs a message of the domain and writes it to the file; tells
/// `signed s=… d=…`, `unsigned …` or `failed …` for each.
pub fn serve(directory: &Path) -> ExitCode {
    let mut store = KeyStore::default();
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        let answer = sign(directory, &mut store, &line).unwrap_or_else(|error| format!("failed {error}"));
        if writeln!(std::io::stdout(), "{answer}").is_err() {
            break;
        }
    }
    ExitCode::SUCCESS
}

fn sign(directory: &Path, store: &mut KeyStore, order: &str) -> Fallible<String> {
    let mut words = order.splitn(3, ' ');
    let (Some(number), Some(domain), Some(file)) = (words.next(), words.next(), words.next()) else {
        return Err("an order that is none".into());
    };
    // As a milter would: the keys of this moment, and the old ones where the new ones cannot be read.
    *store = store.reload(directory)?.keep_unreadable_from(store, |_| true);
    let header = format!(
        "From: Alice <alice@{domain}>\r\nTo: bob@receiver.example\r\nMessage-ID: <{number}.chaos@{domain}>\r\n\
         Subject: Order {number}\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
    );
    let body = format!("Gruesse von {domain},  Nummer {number}.\r\n\r\n");
    let parsed = Header::parse(header.as_bytes())?;
    let Some(keys) = store.for_authors(&parsed.author_domains()?) else {
        return Ok(format!("unsigned no keys of {domain}: {:?}", store.problems()));
    };
    let mut signer = MessageSigner::new(keys.clone(), parsed);
    signer.body(body.as_bytes());
    let fields = signer.finish(jiff::Timestamp::now())?;
    if fields.is_empty() {
        return Ok("unsigned by order".to_owned());
    }
    let fields: String = fields.iter().filter_map(|made| made.field()).map(|field| field.as_str()).collect();
    std::fs::write(file, format!("{fields}{header}\r\n{body}"))?;
    let config = keys.signers()[0].config();
    Ok(format!("signed s={} d={} serial={}", config.s, config.d, config.serial))
}

/// The process.
pub struct Signer {
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

/// What became of a message.
pub enum Made {
    Signed { file: PathBuf, how: String, at: Instant },
    Unsigned(String),
}

impl Signer {
    pub fn start(directory: &Path) -> Fallible<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(ROLE)
            .arg(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let input = child.stdin.take().ok_or("no standard input")?;
        let output = BufReader::new(child.stdout.take().ok_or("no standard output")?).lines();
        Ok(Self { input, output, _child: child })
    }

    /// Has a message signed.
    pub async fn sign(&mut self, number: u64, domain: &str, file: PathBuf) -> Fallible<Made> {
        let order = format!("{number} {domain} {}\n", file.display());
        self.input.write_all(order.as_bytes()).await?;
        let answer = self.output.next_line().await?.ok_or("the signer has ended")?;
        match answer.split_once(' ') {
            Some(("signed", how)) => Ok(Made::Signed { file, how: how.to_owned(), at: Instant::now() }),
            Some(("unsigned", why)) => Ok(Made::Unsigned(format!("{domain}: {why}"))),
            _ => Err(format!("{domain}: {answer}").into()),
        }
    }
}
