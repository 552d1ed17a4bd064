//! The HTTP server: bounded in connections, headers, bodies and time, and stopped in order.

mod problem;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::middleware::{from_fn, map_response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::timeout::TimeoutLayer;

pub use problem::Problem;

use crate::config::Http;
use crate::metrics;

/// How long requests in flight may take to finish when the server stops.
const LAST_REQUESTS: Duration = Duration::from_secs(5);
/// How long to rest when the process has no file descriptor left for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The address cannot be listened at.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen at {address}; another process may have the port: see `ss -ltnp`, or set http.listen"
)]
pub struct BindError {
    address: std::net::SocketAddr,
    source: std::io::Error,
}

/// Takes the port.
///
/// # Errors
/// [`BindError`] names the address.
pub async fn bind(http: &Http) -> Result<TcpListener, BindError> {
    TcpListener::bind(http.listen)
        .await
        .map_err(|source| BindError {
            address: http.listen,
            source,
        })
}

/// Serves `router` until `shutdown` is cancelled, then finishes what is in flight. What takes longer than five
/// seconds is cut off: on return nothing holds the router or its state.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    http: &Http,
    shutdown: CancellationToken,
) {
    let router = router
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "there is nothing here"))
        .layer(DefaultBodyLimit::max(http.body_limit))
        .layer(TimeoutLayer::with_status_code(
            StatusCode::REQUEST_TIMEOUT,
            http.request_timeout(),
        ))
        .layer(CatchPanicLayer::new())
        .layer(map_response(problem::complete))
        .layer(from_fn(metrics::track));
    // axum::serve sets no header time-out (axum#2741): a slow client would hold its connection for ever.
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(http.header_timeout());
    let (graceful, places) = (
        GracefulShutdown::new(),
        Arc::new(Semaphore::new(http.max_connections)),
    );
    let (connections, cut) = (TaskTracker::new(), CancellationToken::new());
    loop {
        let accepted = async {
            // The place is taken first: beyond the bound, clients wait in the kernel's queue.
            let place = Arc::clone(&places).acquire_owned().await;
            (place, accept(&listener).await)
        };
        let (place, stream) = tokio::select! {
            accepted = accepted => accepted,
            () = shutdown.cancelled() => break,
        };
        let service = TowerToHyperService::new(router.clone());
        let connection = builder
            .serve_connection(TokioIo::new(stream), service)
            .into_owned();
        let connection = graceful.watch(connection);
        let cut = cut.clone();
        connections.spawn(async move {
            if let Some(Err(error)) = cut.run_until_cancelled(connection).await {
                tracing::debug!(error, "connection ended");
            }
            drop(place);
        });
    }
    drop(listener);
    if tokio::time::timeout(LAST_REQUESTS, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("requests in flight did not finish in time");
    }
    cut.cancel();
    connections.close();
    connections.wait().await;
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Answers are small and one write each: waiting for more only delays them.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "connection without nodelay");
                }
                return stream;
            }
            Err(error) => {
                tracing::warn!(%error, "no connection accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests;
