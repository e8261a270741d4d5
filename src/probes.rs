//! Probes over HTTP: `/healthz` tells that the process lives, `/readyz` that it can do its work and otherwise what
//! it waits for. `/metrics` has the numbers.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::watch;

use crate::listen::listen;
use crate::metrics::{self, Metrics};

/// Serves probes and metrics until the process ends.
///
/// # Errors
/// [`std::io::Error`] where the address cannot be listened on.
pub async fn serve(
    address: SocketAddr,
    waits_for: &'static str,
    ready: watch::Receiver<bool>,
    metrics: Metrics,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .with_state((waits_for, ready))
        .route("/metrics", get(move || async move { render(&metrics) }));
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

fn render(metrics: &Metrics) -> Response {
    match metrics.render() {
        Ok(text) => ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
