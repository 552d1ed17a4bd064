//! The HTTP server: bounded in connections, requests, headers, bodies and time, with a graceful shutdown.

mod answer;
mod connections;
mod problem;
mod requests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::StatusCode;
use axum::middleware::{from_fn, from_fn_with_state, map_response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::timeout::TimeoutLayer;

pub use problem::Problem;

use answer::ReadInTime;
use connections::Connections;

use crate::config::Http;
use crate::metrics;

/// How long the requests in flight may take when the server stops.
const LAST_REQUESTS: Duration = Duration::from_secs(5);
/// The largest request head, in bytes, and the most that is read ahead of a connection.
const HEAD_LIMIT: usize = 32 * 1024;
/// The kernel's buffer for the answers of a connection, in bytes, so that the server notices early a client that does not
/// read. The default is megabytes. Connections inherit it from the listening socket.
const SEND_BUFFER: u32 = 128 * 1024;
/// Connections that wait in the kernel, as many as with `TcpListener::bind`.
const BACKLOG: u32 = 1024;
/// The pause when the process has no file descriptor left for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The server cannot listen at its address.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen at {address}; another process may have the port: run `ss -ltnp`, or set http.listen"
)]
pub struct BindError {
    address: SocketAddr,
    source: std::io::Error,
}

/// Binds the port.
///
/// # Errors
/// [`BindError`] names the address.
#[expect(clippy::unused_async, reason = "it needs a runtime")]
pub async fn bind(http: &Http) -> Result<TcpListener, BindError> {
    listen(http.listen).map_err(|source| BindError {
        address: http.listen,
        source,
    })
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // Connections of an earlier run that linger in the kernel do not block the port.
    socket.set_reuseaddr(true)?;
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves `router` until `shutdown` is cancelled, then finishes the requests in flight. After five
/// seconds it cuts off the others: on return nothing holds the router or its state.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    http: &Http,
    shutdown: CancellationToken,
) {
    let router = router
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "there is nothing here"))
        .layer(from_fn_with_state(
            Arc::new(Semaphore::new(http.max_requests)),
            requests::bounded,
        ))
        .layer(DefaultBodyLimit::max(http.body_limit))
        .layer(TimeoutLayer::with_status_code(
            StatusCode::REQUEST_TIMEOUT,
            http.request_timeout(),
        ))
        .layer(CatchPanicLayer::new())
        .layer(map_response(problem::complete))
        .layer(from_fn(metrics::track));
    // axum::serve sets no header time-out (axum#2741): a slow client would hold its connection for ever. It also bounds an
    // idle connection.
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(http.header_timeout())
        .max_buf_size(HEAD_LIMIT);
    let (graceful, connections) = (
        GracefulShutdown::new(),
        Connections::new(http.max_connections),
    );
    let (tasks, cut) = (TaskTracker::new(), CancellationToken::new());
    loop {
        let accepted = async {
            let stream = accept(&listener, &connections).await;
            (connections.admit().await, stream)
        };
        let (place, stream) = tokio::select! {
            accepted = accepted => accepted,
            () = shutdown.cancelled() => break,
        };
        let place = Arc::new(place);
        let stream = ReadInTime::new(stream, http.request_timeout());
        let service = {
            let place = Arc::clone(&place);
            router.clone().map_request(move |mut request: Request<_>| {
                request.extensions_mut().insert(Arc::clone(&place));
                request
            })
        };
        let connection = builder
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service))
            .into_owned();
        let connection = graceful.watch(connection);
        let cut = cut.clone();
        tasks.spawn(async move {
            let connection = place.end().run_until_cancelled(connection);
            match cut.run_until_cancelled(connection).await {
                Some(Some(Err(error))) => tracing::debug!(error, "connection ended"),
                Some(None) => tracing::debug!("connection closed: it was idle the longest"),
                _ => {}
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(LAST_REQUESTS, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("cutting off the requests that did not end within 5 s");
    }
    cut.cancel();
    tasks.close();
    tasks.wait().await;
}

async fn accept(listener: &TcpListener, connections: &Connections) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Answers are small and one write each: Nagle's algorithm would only delay them.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "cannot set TCP_NODELAY on a connection");
                }
                return stream;
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection; trying again; without a free file descriptor, raise LimitNOFILE");
                connections.give_way();
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests;
