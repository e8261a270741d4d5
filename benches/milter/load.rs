//! The load: an MTA's side over blocking sockets, one thread for each connection.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::mta::{self, Answer};

/// What one run showed.
pub struct Load {
    /// Messages a second.
    pub rate: f64,
    /// The 99th percentile of the time for a message, in seconds.
    pub p99: f64,
}

/// The message: 12 fields and 10 KB of body.
pub fn message(domain: &str) -> String {
    let line = "The quick brown fox jumps over the lazy dog, and then it does so once more.\r\n";
    let body = line.repeat(10_240 / line.len() + 1);
    format!(
        "Received: from client.{domain} by mx.{domain}; Wed, 1 Jan 2025 00:00:00 +0000\r\n\
         Date: Wed, 1 Jan 2025 00:00:00 +0000\r\nFrom: Joe <joe@{domain}>\r\nTo: Ann <ann@receiver.example>\r\n\
         Cc: Bob <bob@receiver.example>\r\nSubject: A message of ten kilobytes, with a subject that is long enough\r\n\t to be folded\r\n\
         Message-ID: <1@{domain}>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Transfer-Encoding: 8bit\r\nUser-Agent: bench/1\r\nX-Mailer: bench\r\n\r\n{body}"
    )
}

/// Sends `count` messages over `width` connections.
pub fn run(socket: &Path, width: usize, count: usize) -> Load {
    let text = message("bench.example");
    let begin = Instant::now();
    let mut times: Vec<f64> = thread::scope(|scope| {
        let one = |_| {
            let text = &text;
            scope.spawn(move || {
                let mut connection = Connection::open(socket);
                (0..count / width).map(|_| connection.time(text)).collect::<Vec<f64>>()
            })
        };
        let threads: Vec<_> = (0..width).map(one).collect();
        threads.into_iter().flat_map(|t| t.join().expect("a connection")).collect()
    });
    let rate = times.len() as f64 / begin.elapsed().as_secs_f64();
    times.sort_by(f64::total_cmp);
    Load { rate, p99: times[(times.len() * 99 / 100).min(times.len() - 1)] }
}

/// One connection of an MTA that keeps to what was agreed.
pub struct Connection {
    stream: UnixStream,
    /// The flags that the milter took.
    protocol: u32,
    input: Vec<u8>,
    packets: Vec<Vec<u8>>,
    of: String,
}

impl Connection {
    pub fn open(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).expect("the milter listens");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket");
        let mut this =
            Self { stream, protocol: 0, input: Vec::new(), packets: Vec::new(), of: String::new() };
        this.stream.write_all(&mta::negotiate(mta::POSTFIX)).expect("written");
        let offer = this.answer();
        assert_eq!(offer.command, b'O', "{offer:?}");
        this.protocol = u32::from_be_bytes(offer.data[8..12].try_into().expect("four bytes"));
        this.exchange(&[
            mta::macros(b'C', &[("j", "mx.bench.example"), ("{daemon_name}", "mx")]),
            mta::connect("127.0.0.1"),
            mta::packet(b'H', b"client\0"),
        ]);
        this
    }

    /// Seconds for one message; it must come back signed.
    fn time(&mut self, text: &str) -> f64 {
        if self.of != text {
            self.packets = packets(&mta::message(text));
            self.of = text.to_owned();
        }
        let packets = std::mem::take(&mut self.packets);
        let begin = Instant::now();
        let answers = self.exchange(&packets);
        let took = begin.elapsed().as_secs_f64();
        self.packets = packets;
        assert!(answers.iter().any(is_signature), "unsigned: {answers:?}");
        took
    }

    /// The selector that signs for a domain.
    pub fn selector(&mut self, domain: &str) -> String {
        let text = format!("From: joe@{domain}\r\nSubject: x\r\n\r\nhello\r\n");
        let answers = self.exchange(&packets(&mta::message(&text)));
        let signature = answers.iter().find(|a| is_signature(a)).expect("a signature");
        let text = String::from_utf8_lossy(&signature.data).replace("\r\n", "\n").replace("\n\t", " ");
        text.split(" s=").nth(1).and_then(|rest| rest.split(';').next()).expect("a selector").to_owned()
    }

    /// Sends packets; waits for a reply where one is due. What needs none leaves together with what does.
    fn exchange(&mut self, packets: &[Vec<u8>]) -> Vec<Answer> {
        let mut output = Vec::new();
        let mut all = Vec::new();
        for packet in packets {
            if self.protocol & not_sent(packet[4]) != 0 {
                continue;
            }
            output.extend_from_slice(packet);
            if self.protocol & no_reply(packet[4]) != 0 || matches!(packet[4], b'D' | b'A') {
                continue;
            }
            self.stream.write_all(&output).expect("written");
            output.clear();
            loop {
                let answer = self.answer();
                let modifies = matches!(answer.command, b'i' | b'h' | b'm' | b'p');
                all.push(answer);
                if !modifies {
                    break;
                }
            }
        }
        self.stream.write_all(&output).expect("written");
        all
    }

    fn answer(&mut self) -> Answer {
        loop {
            if let Some((length, rest)) = self.input.split_first_chunk::<4>() {
                let length = u32::from_be_bytes(*length) as usize;
                if rest.len() >= length {
                    let answer = Answer { command: rest[0], data: rest[1..length].to_vec() };
                    self.input.drain(..4 + length);
                    return answer;
                }
            }
            let mut chunk = [0; 8192];
            let read = self.stream.read(&mut chunk).expect("a reply");
            assert!(read > 0, "the milter closed the connection");
            self.input.extend_from_slice(&chunk[..read]);
        }
    }
}

/// A signature, wherever the signer puts it.
fn is_signature(answer: &Answer) -> bool {
    matches!(answer.command, b'i' | b'h') && answer.data.windows(14).any(|w| w == b"DKIM-Signature")
}

fn packets(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = bytes;
    let mut all = vec![mta::macros(b'M', &[("i", "4ABCDE"), ("{mail_addr}", "joe@bench.example")])];
    while let Some((length, _)) = rest.split_first_chunk::<4>() {
        let (packet, after) = rest.split_at(4 + u32::from_be_bytes(*length) as usize);
        if packet[4] == b'E' {
            all.push(mta::macros(b'E', &[("i", "4ABCDE")]));
        }
        all.push(packet.to_vec());
        rest = after;
    }
    all
}

/// `SMFIP_NO*` of a command.
fn not_sent(command: u8) -> u32 {
    match command {
        b'C' => 0x1,
        b'H' => 0x2,
        b'M' => 0x4,
        b'R' => 0x8,
        b'B' => 0x10,
        b'L' => 0x20,
        b'N' => 0x40,
        b'T' => 0x200,
        _ => 0,
    }
}

/// `SMFIP_NR_*` of a command.
fn no_reply(command: u8) -> u32 {
    match command {
        b'L' => 0x80,
        b'C' => 0x1000,
        b'H' => 0x2000,
        b'M' => 0x4000,
        b'R' => 0x8000,
        b'T' => 0x1_0000,
        b'N' => 0x4_0000,
        b'B' => 0x8_0000,
        _ => 0,
    }
}

/// The processor time of this thread's process so far.
pub fn own_cpu() -> Duration {
    cpu_of(std::process::id())
}

/// The processor time of a process so far, with that of threads that have ended: OpenDKIM has one for each connection.
/// Told in ticks of 10 ms.
pub fn cpu_of(pid: u32) -> Duration {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    // After the name, which may hold anything but ends with a parenthesis: utime and stime are fields 14 and 15.
    let fields = text.rsplit(')').next().expect("a name").split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).map(|field| field.parse::<u64>().expect("ticks")).sum();
    Duration::from_millis(ticks * 10)
}
