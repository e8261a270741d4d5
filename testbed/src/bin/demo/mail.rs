//! Mail: signed with what the Secret holds, and verified by implementations that are not ours.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use dkim_testbed::Mount;
use k8s_openapi::api::core::v1::Secret;
use kube::api::Api;
use tokio::io::AsyncWriteExt;

use crate::{Failure, Outcome};

/// A domain that sends mail, with the signer's copy of its Secret.
pub struct Mailer {
    /// The domain in A-label form.
    pub domain: String,
    /// The address in `From:`, as people write it.
    pub from: String,
    secrets: Api<Secret>,
    secret: String,
    keys: Mount,
    version: Option<String>,
}

impl Mailer {
    /// A mailer that reads this Secret into a directory of its own.
    pub fn new(domain: &str, from: &str, secrets: Api<Secret>, secret: &str, directory: &Path) -> Self {
        Self {
            domain: domain.to_owned(),
            from: from.to_owned(),
            secrets,
            secret: secret.to_owned(),
            keys: Mount::new(directory.join(domain)),
            version: None,
        }
    }

    /// Brings the directory up to date with the Secret, as kubelet does.
    pub async fn sync(&mut self) -> Result<(), Failure> {
        let Some(secret) = self.secrets.get_opt(&self.secret).await? else { return Ok(()) };
        if secret.metadata.resource_version != self.version {
            self.keys.show(secret.data.iter().flatten().map(|(name, bytes)| (name, bytes.0.as_slice())))?;
            self.version = secret.metadata.resource_version;
        }
        Ok(())
    }

    /// Signs one message with the operator's own binary. `None` while no key may sign yet.
    pub async fn send(&self, operator: &Path, number: u32, to: &Path) -> Result<Option<PathBuf>, Failure> {
        let message = format!(
            "From: {from}\r\nTo: Bob <bob@receiver.example>\r\nMessage-ID: <{number}.{domain}>\r\nSubject: Order\r\n {number}\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nGrüße from {domain},  number {number}.\r\n\r\n\r\n",
            from = self.from,
            domain = self.domain,
        );
        let mut child = tokio::process::Command::new(operator)
            .args(["sign", "--key-dir"])
            .arg(self.keys.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        if let Some(mut input) = child.stdin.take() {
            input.write_all(message.as_bytes()).await?;
        }
        let output = child.wait_with_output().await?;
        match output.status.code() {
            Some(0) => {
                let path = to.join(format!("{}-{number}.eml", self.domain));
                std::fs::write(&path, &output.stdout)?;
                Ok(Some(path))
            }
            Some(4) => Ok(None),
            _ => Err(Failure::Said(String::from_utf8_lossy(&output.stderr).into_owned())),
        }
    }
}

/// Verifiers that are not ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verifier {
    /// dkimpy (Python).
    Dkimpy,
    /// Mail::DKIM (Perl).
    MailDkim,
}

impl Verifier {
    /// Both.
    pub const ALL: [Verifier; 2] = [Verifier::Dkimpy, Verifier::MailDkim];

    fn command(self, root: &Path) -> (&'static str, PathBuf) {
        match self {
            Self::Dkimpy => ("/usr/bin/python3", root.join("tests/verifiers/dkimpy.py")),
            Self::MailDkim => ("/usr/bin/perl", root.join("tests/verifiers/mail_dkim.pl")),
        }
    }

    /// Verifies messages through a real resolver. Returns those that fail, with the reason.
    async fn run(self, root: &Path, resolver: SocketAddr, files: &[PathBuf]) -> Result<Outcomes, Failure> {
        let (interpreter, script) = self.command(root);
        let output = tokio::process::Command::new(interpreter)
            .arg(script)
            .args(["--resolver", &resolver.to_string()])
            .args(files)
            .kill_on_drop(true)
            .output()
            .await?;
        if !output.status.success() {
            return Err(Failure::Said(String::from_utf8_lossy(&output.stderr).into_owned()));
        }
        let mut outcomes = Outcomes::default();
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let mut columns = line.split('\t');
            let (Some(file), Some(verdict)) = (columns.next(), columns.next()) else { continue };
            if verdict == "pass" {
                outcomes.passed.insert(PathBuf::from(file));
            } else {
                outcomes.failed.push(line.to_owned());
            }
        }
        Ok(outcomes)
    }
}

#[derive(Default)]
struct Outcomes {
    passed: HashSet<PathBuf>,
    failed: Vec<String>,
}

/// Messages under way: each is verified on arrival and once more late, shortly before the drain would end.
pub struct Post {
    root: PathBuf,
    resolver: SocketAddr,
    late: Duration,
    waiting: Vec<(PathBuf, Instant, bool)>,
    verified: BTreeMap<Verifier, HashSet<PathBuf>>,
    /// Lines of the verifiers that were no pass.
    pub failures: Vec<String>,
}

impl Post {
    /// A post that verifies through this resolver, the second time after `late`.
    pub fn new(root: &Path, resolver: SocketAddr, late: Duration) -> Self {
        Self {
            root: root.to_owned(),
            resolver,
            late,
            waiting: Vec::new(),
            verified: BTreeMap::new(),
            failures: Vec::new(),
        }
    }

    /// Takes a message.
    pub fn take(&mut self, message: PathBuf) {
        self.waiting.push((message, Instant::now(), false));
    }

    /// Verifies what has arrived, and what has come to its late hour.
    pub async fn deliver(&mut self) -> Outcome {
        let due: Vec<(PathBuf, bool)> = self
            .waiting
            .iter()
            .filter(|(_, at, early_done)| !early_done || at.elapsed() >= self.late)
            .map(|(path, _, early_done)| (path.clone(), *early_done))
            .collect();
        if due.is_empty() {
            return Ok(());
        }
        let files: Vec<PathBuf> = due.iter().map(|(path, _)| path.clone()).collect();
        let [first, second] = Verifier::ALL;
        let (one, two) = tokio::join!(
            first.run(&self.root, self.resolver, &files),
            second.run(&self.root, self.resolver, &files)
        );
        for (verifier, outcomes) in [(first, one?), (second, two?)] {
            self.failures.extend(outcomes.failed.iter().map(|line| format!("{verifier:?}: {line}")));
            let late: HashSet<&PathBuf> =
                due.iter().filter(|(_, early_done)| *early_done).map(|(path, _)| path).collect();
            let passed = outcomes.passed.into_iter().filter(|path| late.contains(path));
            self.verified.entry(verifier).or_default().extend(passed);
        }
        let done: HashSet<PathBuf> = due.iter().filter(|(_, e)| *e).map(|(p, _)| p.clone()).collect();
        let arrived: HashSet<PathBuf> = due.iter().filter(|(_, e)| !*e).map(|(p, _)| p.clone()).collect();
        self.waiting.retain(|(path, ..)| !done.contains(path));
        for (path, _, early_done) in &mut self.waiting {
            *early_done |= arrived.contains(path);
        }
        Ok(())
    }

    /// Whether every message has been verified twice.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How many messages of a domain a verifier has passed, both times.
    pub fn verified(&self, verifier: Verifier, domain: &str) -> usize {
        let prefix = format!("{domain}-");
        let of_domain = |path: &&PathBuf| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix))
        };
        let failed =
            |path: &PathBuf| self.failures.iter().any(|line| line.contains(&path.display().to_string()));
        let passed = self.verified.get(&verifier).into_iter().flatten();
        passed.filter(of_domain).filter(|path| !failed(path)).count()
    }
}
