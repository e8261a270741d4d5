use super::*;
use crate::dns::bind;
use crate::dns::testing::{KEY, serving};
use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

struct Server {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<()>,
}

async fn start() -> Server {
    let bound = bind(&["127.0.0.1:0".parse().unwrap()], 2).await.unwrap();
    let address = bound.addresses().unwrap()[0];
    let (stop, stopped) = oneshot::channel::<()>();
    let ended = tokio::spawn(bound.serve(serving(&[(KEY, "text")]), async { _ = stopped.await }));
    Server { address, stop, ended }
}

fn framed(id: u16) -> Vec<u8> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(format!("{KEY}.")).unwrap(), RecordType::TXT));
    let bytes = message.to_vec().unwrap();
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes.as_slice()].concat()
}

async fn reply(stream: &mut TcpStream) -> io::Result<Message> {
    let mut reply = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut reply).await?;
    Message::from_vec(&reply).map_err(io::Error::other)
}

async fn closed(stream: &mut TcpStream) -> bool {
    !matches!(stream.read(&mut [0; 1]).await, Ok(1..))
}

#[tokio::test]
async fn pipelined_queries_are_answered_in_their_order() {
    let server = start().await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let all: Vec<u8> = (1..=50).flat_map(framed).collect();
    // In two pieces, cut in the middle of a query.
    let (first, second) = all.split_at(all.len() / 2 + 3);
    stream.write_all(first).await.unwrap();
    assert_eq!(reply(&mut stream).await.unwrap().metadata.id, 1);
    stream.write_all(second).await.unwrap();
    for id in 2..=50 {
        let reply = reply(&mut stream).await.unwrap();
        assert_eq!((reply.metadata.id, reply.answers.len()), (id, 1));
    }
}

#[tokio::test]
async fn what_is_no_query_ends_the_connection() {
    let server = start().await;
    for bytes in [vec![0xff, 0xff, 0, 0], vec![0, 0], vec![0, 3, 1, 2, 3], vec![0x10, 1]] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        assert!(timeout(IDLE / 2, closed(&mut stream)).await.unwrap(), "{bytes:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn silent_connections_are_closed() {
    let server = start().await;
    for sent in [vec![], vec![0], framed(1)[..9].to_vec()] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(&sent).await.unwrap();
        let started = tokio::time::Instant::now();
        assert!(closed(&mut stream).await);
        assert!(started.elapsed() >= IDLE - Duration::from_millis(100), "{:?}", started.elapsed());
    }
}

#[tokio::test]
async fn the_oldest_connection_makes_room() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (_stop, stopping) = watch::channel(false);
    let _server = JoinSet::from_iter([super::serve(listener, 3, serving(&[(KEY, "text")]), stopping)]);
    let mut streams = VecDeque::new();
    for id in 1..=20 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&framed(id)).await.unwrap();
        assert_eq!(reply(&mut stream).await.unwrap().metadata.id, id);
        streams.push_back(stream);
        if streams.len() > 3 {
            assert!(timeout(IDLE / 2, closed(&mut streams.pop_front().unwrap())).await.unwrap());
        }
    }
    for mut stream in streams {
        stream.write_all(&framed(99)).await.unwrap();
        assert_eq!(reply(&mut stream).await.unwrap().metadata.id, 99);
    }
}

#[tokio::test]
async fn it_stops_when_asked() {
    let server = start().await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(&framed(1)).await.unwrap();
    reply(&mut stream).await.unwrap();
    server.stop.send(()).unwrap();
    timeout(GOODBYE / 2, server.ended).await.expect("an idle connection holds nothing up").unwrap();
    assert!(closed(&mut stream).await);
    assert!(TcpStream::connect(server.address).await.is_err());
    bind(&[server.address], 1).await.expect("the address is free again");
}

#[test]
fn connections_leave_descriptors_for_others() {
    assert_eq!(most_of(None, 1), 1024);
    assert_eq!(most_of(Some(1_048_576), 2), 512);
    assert_eq!(most_of(Some(1024), 1), 512);
    assert_eq!(most_of(Some(0), 0), 1);
}
