//! Verifiers that are not ours, as processes that stay, so that thousands of messages are cheap.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{Mutex, mpsc};

use crate::Fallible;

/// Processes of one verifier.
const EACH: usize = 2;

/// What a verifier says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Pass,
    Fail(String),
    /// DNS gives no answer now; a receiver tries again later.
    Temporary,
}

/// Several processes of one verifier.
pub struct Pool {
    idle: Mutex<mpsc::Receiver<Process>>,
    back: mpsc::Sender<Process>,
}

struct Process {
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl Pool {
    /// dkimpy and Mail::DKIM, asking this resolver.
    pub fn both(resolver: SocketAddr) -> Fallible<[(&'static str, Self); 2]> {
        Ok([
            ("dkimpy", Self::start("/usr/bin/python3", "dkimpy.py", resolver)?),
            ("Mail::DKIM", Self::start("/usr/bin/perl", "mail_dkim.pl", resolver)?),
        ])
    }

    fn start(interpreter: &str, script: &str, resolver: SocketAddr) -> Fallible<Self> {
        let (back, idle) = mpsc::channel(EACH);
        for _ in 0..EACH {
            let mut child = Command::new(interpreter)
                .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/verifiers").join(script))
                .args(["--resolver", &resolver.to_string(), "-"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .kill_on_drop(true)
                .spawn()?;
            let input = child.stdin.take().ok_or("no standard input")?;
            let output = BufReader::new(child.stdout.take().ok_or("no standard output")?).lines();
            back.try_send(Process { input, output, _child: child }).map_err(|_| "no place")?;
        }
        Ok(Self { idle: Mutex::new(idle), back })
    }

    /// Verifies one message.
    pub async fn verify(&self, message: &Path) -> Fallible<Verdict> {
        let mut process = self.idle.lock().await.recv().await.ok_or("no verifier is left")?;
        let verdict = process.ask(message).await;
        let _ = self.back.send(process).await;
        verdict
    }
}

impl Process {
    async fn ask(&mut self, message: &Path) -> Fallible<Verdict> {
        self.input.write_all(format!("{}\n", message.display()).as_bytes()).await?;
        let line = self.output.next_line().await?.ok_or("a verifier has ended")?;
        let mut columns = line.split('\t').skip(1);
        match columns.next() {
            Some("pass") => Ok(Verdict::Pass),
            Some("temp") => Ok(Verdict::Temporary),
            Some("fail") => Ok(Verdict::Fail(columns.collect::<Vec<_>>().join(" "))),
            _ => Err(format!("a verifier says {line}").into()),
        }
    }
}
