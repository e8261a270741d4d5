use super::*;
use crate::milter::testing::mta;
use crate::milter::testing::{Records, metric, policy, shared, verdicts};
use crate::model::key::KeyKind;
use crate::signing::testing::KeyDir;
use crate::signing::{KeyStore, Verdict};
use std::path::PathBuf;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const MESSAGE: &str = "From: joe@contoso.com\r\nSubject: x\r\n\r\nhello\r\n";

struct Running {
    shared: Arc<Shared>,
    records: Records,
    unix: PathBuf,
    tcp: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<()>,
    _dir: KeyDir,
}

fn limits() -> Limits {
    Limits {
        connections: 1000,
        idle: Duration::from_secs(60),
        drain: Duration::from_secs(30),
        mtas: vec!["127.0.0.0/8".parse().unwrap()],
    }
}

async fn start(limits: Limits) -> Running {
    let dir = KeyDir::new();
    let records = dir.domain("keys", "contoso.com", &[KeyKind::Ed25519]);
    let shared = shared(Some(KeyStore::load(&dir.path().join("keys")).unwrap()), policy());
    let unix = dir.path().join("m.sock");
    let specs = [SocketSpec::Unix(unix.clone()), "inet:127.0.0.1:0".parse().unwrap()];
    let bound = bind(&specs, Mode(0o600), None).await.unwrap();
    let SocketSpec::Inet(tcp) = bound.sockets().unwrap()[1].clone() else { panic!("TCP") };
    let (stop, stopped) = oneshot::channel::<()>();
    let served = tokio::spawn(bound.serve(Arc::clone(&shared), limits, async { drop(stopped.await) }));
    Running { shared, records, unix, tcp, stop: Some(stop), served, _dir: dir }
}

/// Reads replies until one that ends something.
async fn reply(stream: &mut (impl AsyncReadExt + Unpin)) -> Vec<mta::Answer> {
    let (mut bytes, mut all) = (Vec::new(), Vec::new());
    loop {
        all.extend(mta::answers(&mut bytes));
        if all.iter().any(|answer: &mta::Answer| answer.command != b'i') {
            return all;
        }
        let read =
            timeout(Duration::from_secs(10), stream.read_buf(&mut bytes)).await.expect("in time").unwrap();
        assert!(read > 0, "closed after {all:?}");
    }
}

async fn is_closed(stream: &mut (impl AsyncReadExt + Unpin)) -> bool {
    let mut rest = Vec::new();
    let read = timeout(Duration::from_secs(10), stream.read_to_end(&mut rest)).await;
    read.is_ok() && rest.is_empty()
}

fn opening() -> Vec<u8> {
    [mta::negotiate(mta::POSTFIX), mta::connect("127.0.0.1")].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_kinds_of_sockets_sign_however_bytes_come() {
    let running = start(limits()).await;
    let mut unix = UnixStream::connect(&running.unix).await.unwrap();
    let mut tcp = TcpStream::connect(running.tcp).await.unwrap();
    unix.write_all(&opening()).await.unwrap();
    assert_eq!(reply(&mut unix).await[0].command, b'O');
    for byte in opening() {
        tcp.write_all(&[byte]).await.unwrap();
    }
    assert_eq!(reply(&mut tcp).await[0].command, b'O');
    let mut signed = Vec::new();
    for _ in 0..3 {
        unix.write_all(&mta::message(MESSAGE)).await.unwrap();
        signed.push(mta::apply(&reply(&mut unix).await, MESSAGE));
        for piece in mta::message(MESSAGE).chunks(3) {
            tcp.write_all(piece).await.unwrap();
        }
        signed.push(mta::apply(&reply(&mut tcp).await, MESSAGE));
    }
    let records = running.records.clone();
    let judged = tokio::task::spawn_blocking(move || {
        signed.iter().map(|message| verdicts(&records, message)).collect::<Vec<_>>()
    });
    assert_eq!(judged.await.unwrap(), vec![[Verdict::Pass]; 6]);
}

#[tokio::test]
async fn garbage_closes_its_own_connection_alone() {
    let running = start(limits()).await;
    let mut good = UnixStream::connect(&running.unix).await.unwrap();
    good.write_all(&opening()).await.unwrap();
    reply(&mut good).await;
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 64], &[0, 0, 0, 1, b'?'], &mta::mail()] {
        let mut stream = UnixStream::connect(&running.unix).await.unwrap();
        stream.write_all(garbage).await.unwrap();
        assert!(is_closed(&mut stream).await, "{garbage:?}");
    }
    assert_eq!(metric(&running.shared.counters, "milter_protocol_errors_total"), 4);
    good.write_all(&mta::message(MESSAGE)).await.unwrap();
    assert_eq!(reply(&mut good).await.len(), 2);
    assert_eq!(metric(&running.shared.counters, "milter_connections"), 1);
}

#[tokio::test]
async fn a_large_message_passes_and_is_not_kept() {
    let running = start(limits()).await;
    let mut stream = UnixStream::connect(&running.unix).await.unwrap();
    stream.write_all(&opening()).await.unwrap();
    reply(&mut stream).await;
    let text = format!("{MESSAGE}{}", "0123456789 abcdef\r\n".repeat(1_000_000));
    stream.write_all(&mta::message(&text)).await.unwrap();
    let signed = mta::apply(&reply(&mut stream).await, &text);
    let records = running.records.clone();
    let judged = tokio::task::spawn_blocking(move || verdicts(&records, &signed));
    assert_eq!(judged.await.unwrap(), [Verdict::Pass]);
}

#[tokio::test]
async fn thousands_of_connections_wait_and_then_work() {
    let running = start(Limits { connections: 1500, ..limits() }).await;
    let mut streams = Vec::new();
    for _ in 0..1500 {
        let mut stream = UnixStream::connect(&running.unix).await.unwrap();
        stream.write_all(&opening()).await.unwrap();
        reply(&mut stream).await;
        streams.push(stream);
    }
    // One too many waits, until another one goes.
    let mut late = UnixStream::connect(&running.unix).await.unwrap();
    late.write_all(&opening()).await.unwrap();
    let mut byte = [0];
    assert!(timeout(Duration::from_millis(200), late.read(&mut byte)).await.is_err());
    drop(streams.pop());
    reply(&mut late).await;
    for stream in streams.iter_mut().step_by(100) {
        stream.write_all(&mta::message(MESSAGE)).await.unwrap();
        assert_eq!(reply(stream).await.len(), 2);
    }
}

#[tokio::test]
async fn strangers_are_refused() {
    let running = start(Limits { mtas: vec!["192.0.2.0/24".parse().unwrap()], ..limits() }).await;
    let mut stream = TcpStream::connect(running.tcp).await.unwrap();
    assert!(is_closed(&mut stream).await);
    assert_eq!(metric(&running.shared.counters, "milter_connections_refused_total"), 1);
    // Who may open a unix socket is the file system's business.
    let mut unix = UnixStream::connect(&running.unix).await.unwrap();
    unix.write_all(&opening()).await.unwrap();
    assert_eq!(reply(&mut unix).await[0].command, b'O');
}

#[tokio::test]
async fn silence_ends_a_connection() {
    let running = start(Limits { idle: Duration::from_millis(100), ..limits() }).await;
    let mut stream = UnixStream::connect(&running.unix).await.unwrap();
    stream.write_all(&mta::negotiate(mta::POSTFIX)).await.unwrap();
    reply(&mut stream).await;
    assert!(is_closed(&mut stream).await);
}

#[tokio::test]
async fn a_stop_lets_messages_end_and_takes_no_new_connections() {
    let mut running = start(Limits { drain: Duration::from_millis(300), ..limits() }).await;
    let mut busy = UnixStream::connect(&running.unix).await.unwrap();
    let mut idle = UnixStream::connect(&running.unix).await.unwrap();
    for stream in [&mut busy, &mut idle] {
        stream.write_all(&opening()).await.unwrap();
        reply(stream).await;
    }
    let message = mta::message(MESSAGE);
    let (begin, end) = message.split_at(message.len() - 5);
    busy.write_all(begin).await.unwrap();
    running.stop.take().unwrap().send(()).unwrap();
    // While it drains, connections that are there go on.
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(UnixStream::connect(&running.unix).await.is_err(), "the socket is gone");
    idle.write_all(&mta::message(MESSAGE)).await.unwrap();
    assert_eq!(reply(&mut idle).await.len(), 2);
    // Then only messages are finished.
    assert!(is_closed(&mut idle).await);
    busy.write_all(end).await.unwrap();
    assert_eq!(reply(&mut busy).await.len(), 2);
    assert!(is_closed(&mut busy).await);
    timeout(Duration::from_secs(2), running.served).await.unwrap().unwrap();
}

#[tokio::test]
async fn without_connections_a_stop_takes_no_time() {
    let mut running = start(limits()).await;
    running.stop.take().unwrap().send(()).unwrap();
    timeout(Duration::from_secs(2), running.served).await.unwrap().unwrap();
}
