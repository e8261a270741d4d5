//! Verifiers that are not ours, and one that is partly: what each of them says of messages.

#![allow(dead_code, reason = "each test program uses its part")]

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dkim_operator::signing::{Verdict, Verifier};
use dkim_testbed::{Address, Process, Scratch, Spec};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;

/// How many messages one run of a program is given.
const BATCH: usize = 100;

/// A verifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Judge {
    /// dkimpy (Python).
    Dkimpy,
    /// Mail::DKIM (Perl); it knows no Ed25519.
    MailDkim,
    /// OpenDKIM's filter (C).
    OpenDkim,
    /// rspamd's dkim module (C).
    Rspamd,
    /// mail-auth (Rust), as `kubectl dkim verify` uses it.
    MailAuth,
}

impl Judge {
    pub const ALL: [Self; 5] = [Self::Dkimpy, Self::MailDkim, Self::OpenDkim, Self::Rspamd, Self::MailAuth];
}

impl fmt::Display for Judge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dkimpy => "dkimpy",
            Self::MailDkim => "Mail::DKIM",
            Self::OpenDkim => "OpenDKIM",
            Self::Rspamd => "rspamd",
            Self::MailAuth => "mail-auth",
        })
    }
}

/// What a judge says of one message: good, or why not.
pub type Said = Result<(), String>;

/// All judges, with one resolver to ask.
pub struct Judges {
    resolver: SocketAddr,
    mail_auth: Verifier,
    rspamd: SocketAddr,
    scratch: Scratch,
    _rspamd: Process,
    _holding: Address,
}

impl Judges {
    /// Starts what has to be started. The resolver must listen at port 53.
    pub async fn start(resolver: SocketAddr) -> Self {
        let scratch = Scratch::new("judges").expect("a directory");
        let holding = Address::allocate().expect("an address");
        let rspamd = holding.port(11333);
        let config = format!(
            "worker \"normal\" {{ bind_socket = \"{rspamd}\"; count = 1; }}\n{}",
            rspamd_base(scratch.path(), resolver)
        );
        let path = write(&scratch, "rspamd.conf", &config);
        let mut process = Spec::new("rspamd", "/usr/bin/rspamd", scratch.join("rspamd.out"))
            .args(["-f", "-i", "-u", "root", "-g", "root", "-c"])
            .arg(path)
            .spawn()
            .expect("rspamd is installed");
        process
            .ready(Duration::from_secs(120), "rspamd answers", || async move {
                http(rspamd, "GET /ping", &[], b"").await.map(|_| ())
            })
            .await
            .expect("rspamd starts");
        write(
            &scratch,
            "opendkim.conf",
            &format!("Mode v\nNameservers {}\nSocket inet:8891@127.0.0.1\nSyslog no\n", resolver.ip()),
        );
        Self {
            resolver,
            mail_auth: Verifier::new(&[resolver]).expect("a verifier"),
            rspamd,
            scratch,
            _rspamd: process,
            _holding: holding,
        }
    }

    /// What one judge says of messages in files, in their order.
    pub async fn ask(&self, judge: Judge, files: &[PathBuf]) -> Vec<Said> {
        let mut all = Vec::with_capacity(files.len());
        for batch in files.chunks(BATCH) {
            let said = match judge {
                Judge::Dkimpy => self.script("/usr/bin/python3", "dkimpy.py", batch).await,
                Judge::MailDkim => self.script("/usr/bin/perl", "mail_dkim.pl", batch).await,
                Judge::OpenDkim => self.opendkim(batch).await,
                Judge::Rspamd => self.rspamd(batch).await,
                Judge::MailAuth => self.mail_auth(batch).await,
            };
            assert_eq!(said.len(), batch.len(), "{judge}");
            all.extend(said);
        }
        all
    }

    /// What all of these say; only what is not good, each with the file and the judge.
    pub async fn complaints(&self, judges: &[Judge], files: &[PathBuf]) -> Vec<String> {
        let mut complaints = Vec::new();
        for judge in judges {
            for (file, said) in files.iter().zip(self.ask(*judge, files).await) {
                if let Err(why) = said {
                    complaints.push(format!("{judge}: {}: {why}", file.display()));
                }
            }
        }
        complaints
    }

    async fn script(&self, interpreter: &str, script: &str, files: &[PathBuf]) -> Vec<Said> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/verifiers").join(script);
        let mut command = Command::new(interpreter);
        command.arg(&script).arg("--resolver").arg(self.resolver.to_string()).args(files);
        let output = command.kill_on_drop(true).output().await.expect("the interpreter runs");
        assert!(output.status.success(), "{script:?}: {}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        let one = |line: &str| {
            let fields: Vec<&str> = line.split('\t').collect();
            let [_, result, _, _, reason] = fields.as_slice() else { panic!("not five fields: {line:?}") };
            if *result == "pass" { Ok(()) } else { Err((*reason).to_owned()) }
        };
        text.lines().map(one).collect()
    }

    async fn opendkim(&self, files: &[PathBuf]) -> Vec<Said> {
        let list: Vec<String> = files.iter().map(|f| f.display().to_string()).collect();
        let mut all = Vec::new();
        // A message that it refuses to look at ends the run: the others are for another one.
        while all.len() < list.len() {
            let rest = &list[all.len()..];
            let mut command = Command::new("/usr/sbin/opendkim");
            command.arg("-x").arg(self.scratch.join("opendkim.conf"));
            command.args(["-f", "-v", "-t", &rest.join(",")]);
            let output = command.kill_on_drop(true).output().await.expect("opendkim is installed");
            let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            let mut said: BTreeMap<&str, Said> = BTreeMap::new();
            for line in text.lines().filter_map(|line| line.strip_prefix("opendkim: ")) {
                let Some((file, words)) = line.split_once(": ") else { continue };
                if words.ends_with(") succeeded") {
                    said.insert(file, Ok(()));
                } else if words.contains("failed") || words.contains("not signed") {
                    said.insert(file, Err(words.to_owned()));
                }
            }
            let answered = rest.iter().map_while(|file| said.remove(file.as_str())).collect::<Vec<_>>();
            let complete = answered.len() == rest.len();
            all.extend(answered);
            if !complete {
                all.push(Err(format!("not looked at: {}", text.lines().last().unwrap_or_default())));
            }
        }
        all
    }

    async fn rspamd(&self, files: &[PathBuf]) -> Vec<Said> {
        let mut all = Vec::new();
        for file in files {
            let message = std::fs::read(file).expect("a message");
            let answer = http(self.rspamd, "POST /checkv2", &[], &message).await.expect("rspamd answers");
            let json: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
            let symbols = &json["symbols"];
            let names: Vec<&str> = ["R_DKIM_REJECT", "R_DKIM_PERMFAIL", "R_DKIM_TEMPFAIL", "R_DKIM_NA"]
                .into_iter()
                .filter(|name| symbols.get(name).is_some())
                .collect();
            let good = symbols.get("R_DKIM_ALLOW").is_some() && names.is_empty();
            all.push(if good { Ok(()) } else { Err(format!("{names:?} {symbols}")) });
        }
        all
    }

    async fn mail_auth(&self, files: &[PathBuf]) -> Vec<Said> {
        let mut all = Vec::new();
        for file in files {
            let report = self.mail_auth.verify(&std::fs::read(file).expect("a message")).await;
            let bad = report.signatures.iter().find(|s| s.verdict != Verdict::Pass);
            all.push(match bad {
                Some(signature) => Err(signature.reason.clone()),
                None if report.signatures.is_empty() => Err("no signature".to_owned()),
                None => Ok(()),
            });
        }
        all
    }
}

/// The settings of an rspamd that does DKIM and nothing else, with everything of its own in a directory.
pub fn rspamd_base(directory: &Path, resolver: SocketAddr) -> String {
    let at = |name: &str| directory.join(name).display().to_string();
    // Its own list of public suffixes takes it half a minute to compile.
    std::fs::write(directory.join("suffixes"), "com\nexample\n").expect("written");
    let options = format!(
        "options {{\n  filters = \"dkim\"; tempdir = \"{dir}\"; local_addrs = [\"127.0.0.0/8\"];\n  \
         control_socket = \"{socket} mode=0600\"; url_tld = \"{suffixes}\"; cache_file = \"{cache}\";\n  \
         hs_cache_dir = \"{dir}\"; history_file = \"{history}\"; max_message = 200M;\n  \
         map_watch_interval = 1s; map_file_watch_multiplier = 1.0;\n  \
         dns {{ nameserver = [\"{resolver}\"]; timeout = 3s; retransmits = 2; }}\n}}\n",
        dir = directory.display(),
        socket = at("control.sock"),
        suffixes = at("suffixes"),
        cache = at("symbols.cache"),
        history = at("history"),
        resolver = resolver.ip(),
    );
    format!(
        "lua = \"/usr/share/rspamd/rules/rspamd.lua\";\n{options}\
         logging {{ type = \"file\"; filename = \"{}\"; level = \"info\"; }}\ndkim {{ check_local = true; check_authed = true; }}\n",
        at("rspamd.log")
    )
}

pub fn write(scratch: &Scratch, name: &str, text: &str) -> PathBuf {
    let path = scratch.join(name);
    std::fs::write(&path, text).expect("written");
    path
}

/// One request over a connection of its own; the body of a good answer.
pub async fn http(
    server: SocketAddr,
    request: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<String, String> {
    let mut stream = TcpStream::connect(server).await.map_err(|e| e.to_string())?;
    let mut head = format!("{request} HTTP/1.0\r\nHost: {server}\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).await.map_err(|e| e.to_string())?;
    stream.write_all(body).await.map_err(|e| e.to_string())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.map_err(|e| e.to_string())?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    if status == "200" { Ok(body.to_owned()) } else { Err(head.to_owned()) }
}
