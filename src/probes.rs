//! Probes over HTTP: `/healthz` tells that the process lives, `/readyz` that it can do its work and otherwise what
//! it waits for.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::sync::watch;

use crate::listen::listen;

/// Serves the probes until the process ends.
///
/// # Errors
/// [`std::io::Error`] where the address cannot be listened on.
pub async fn serve(
    address: SocketAddr,
    waits_for: &'static str,
    ready: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .with_state((waits_for, ready));
    let listener = listen(address, tokio::net::TcpListener::bind).await?;
    axum::serve(listener, router).await
}

async fn readyz(
    State((waits_for, ready)): State<(&'static str, watch::Receiver<bool>)>,
) -> (StatusCode, String) {
    if *ready.borrow() {
        (StatusCode::OK, "ok\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("waiting for {waits_for}\n"))
    }
}
