//! One question to a resolver over HTTPS (RFC 8484): HTTP/2, a connection of its own for each question, as over TLS.

use std::net::SocketAddr;

use bytes::Bytes;
use data_encoding::BASE64URL_NOPAD;
use hickory_proto::op::Message;
use http::{Request, StatusCode, header};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::exchange::{Ask, MAX_ANSWER, answers};
use super::reply::Reply;
use crate::model::sighting::Failure;

/// The type of question and answer (RFC 8484 §6).
const MEDIA_TYPE: &str = "application/dns-message";

/// Asks once. What comes late never comes: the caller bounds the time.
///
/// # Errors
/// [`Failure`]; [`Failure::Unreachable`] also where the certificate is not that of `name`, nobody vouches for it, or what is
/// there is no such service.
pub async fn ask(
    tls: &TlsConnector,
    server: SocketAddr,
    name: &ServerName<'static>,
    path: &str,
    ask: &Ask,
) -> Result<Reply, Failure> {
    let mut query = ask.message(true);
    // One question has one URL, which caches on the way can use (RFC 8484 §4.1).
    query.metadata.id = 0;
    let question = BASE64URL_NOPAD.encode(&query.to_vec().map_err(|_| Failure::Malformed)?);
    let host = match name.to_str() {
        host if host.contains(':') => format!("[{host}]"),
        host => host.into_owned(),
    };
    let request = Request::get(format!("https://{host}:{}{path}?dns={question}", server.port()))
        .header(header::ACCEPT, MEDIA_TYPE)
        .body(())
        .map_err(|_| Failure::Malformed)?;
    let stream = TcpStream::connect(server).await.map_err(|_| Failure::Unreachable)?;
    let stream = tls.connect(name.clone(), stream).await.map_err(|_| Failure::Unreachable)?;
    let (client, connection) = h2::client::handshake(stream).await.map_err(|_| Failure::Unreachable)?;
    // The connection works as long as it is polled, and ends with the answer.
    tokio::select! {
        answer = answer(client, request, &query) => answer,
        _ = connection => Err(Failure::Unreachable),
    }
}

async fn answer(
    client: h2::client::SendRequest<Bytes>,
    request: Request<()>,
    query: &Message,
) -> Result<Reply, Failure> {
    let unreachable = |_: h2::Error| Failure::Unreachable;
    let mut client = client.ready().await.map_err(unreachable)?;
    let (response, _) = client.send_request(request, true).map_err(unreachable)?;
    let response = response.await.map_err(unreachable)?;
    let typed = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == MEDIA_TYPE);
    if response.status() != StatusCode::OK || !typed {
        return Err(Failure::Unreachable);
    }
    let mut body = response.into_body();
    let mut bytes = Vec::new();
    while let Some(part) = body.data().await {
        let part = part.map_err(unreachable)?;
        if bytes.len() + part.len() > usize::from(MAX_ANSWER) {
            return Err(Failure::Malformed);
        }
        body.flow_control().release_capacity(part.len()).map_err(unreachable)?;
        bytes.extend_from_slice(&part);
    }
    let message = Message::from_vec(&bytes).map_err(|_| Failure::Malformed)?;
    if answers(&message, query) { Ok(Reply::new(message)) } else { Err(Failure::Malformed) }
}
