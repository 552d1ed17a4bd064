//! Slow, huge and late clients, over real sockets.

mod crowd;

use axum::body::Bytes;
use axum::routing::{get, post};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::*;

struct Server {
    http: Http,
    shutdown: CancellationToken,
    serving: JoinHandle<()>,
}

impl Server {
    async fn start(router: Router, limits: impl FnOnce(&mut Http)) -> Self {
        let mut http = Http::at(0);
        limits(&mut http);
        let listener = bind(&http).await.unwrap();
        http.listen = listener.local_addr().unwrap();
        let (shutdown, settings) = (CancellationToken::new(), http.clone());
        let token = shutdown.clone();
        let serving = tokio::spawn(async move { serve(listener, router, &settings, token).await });
        Self {
            http,
            shutdown,
            serving,
        }
    }

    async fn send(&self, bytes: &[u8]) -> TcpStream {
        let mut client = TcpStream::connect(self.http.listen).await.unwrap();
        client.write_all(bytes).await.unwrap();
        client
    }
}

async fn answer(mut client: TcpStream) -> String {
    let mut text = Vec::new();
    client.read_to_end(&mut text).await.unwrap();
    String::from_utf8(text).unwrap()
}

fn echo() -> Router {
    Router::new().route("/", post(async |body: Bytes| body))
}

#[tokio::test]
async fn headers_that_never_end_close_the_connection() {
    let server = Server::start(echo(), |http| http.header_timeout_ms = 100).await;
    let client = server.send(b"POST / HTTP/1.1\r\nhost: x\r\nx: ").await;
    let text = answer(client).await;
    assert!(
        text.is_empty() || text.starts_with("HTTP/1.1 408"),
        "{text}"
    );
}

#[tokio::test]
async fn a_body_that_never_ends_is_408() {
    let server = Server::start(echo(), |http| http.request_timeout_ms = 100).await;
    let client = server
        .send(b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 9\r\n\r\nx")
        .await;
    assert!(answer(client).await.starts_with("HTTP/1.1 408"));
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_413() {
    let server = Server::start(echo(), |http| http.body_limit = 10).await;
    let client = server.send(b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 11\r\n\r\n01234567890").await;
    assert!(answer(client).await.starts_with("HTTP/1.1 413"));
}

#[tokio::test]
async fn an_unknown_route_is_404_with_a_body() {
    let server = Server::start(echo(), |_| ()).await;
    let client = server
        .send(b"GET /x HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await;
    let text = answer(client).await;
    assert!(
        text.starts_with("HTTP/1.1 404") && text.ends_with(r#"{"error":"there is nothing here"}"#),
        "{text}"
    );
}

#[tokio::test]
async fn an_error_that_no_handler_answered_has_a_body_of_the_same_form() {
    let panics = get(async || -> () { panic!("on purpose") });
    let server = Server::start(echo().route("/panics", panics), |_| ()).await;
    let client = server
        .send(b"GET /panics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await;
    let text = answer(client).await;
    assert!(
        text.starts_with("HTTP/1.1 500") && text.ends_with(r#"{"error":"Internal Server Error"}"#),
        "{text}"
    );
    let client = server
        .send(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await;
    let text = answer(client).await;
    assert!(
        text.contains("allow: POST") && text.ends_with(r#"{"error":"Method Not Allowed"}"#),
        "{text}"
    );
}

#[tokio::test]
async fn a_stopping_server_finishes_requests_in_flight_and_accepts_no_new_one() {
    let (entered, mut inside) = mpsc::channel::<()>(1);
    let (leave, left) = mpsc::channel::<()>(1);
    let left = Arc::new(tokio::sync::Mutex::new(left));
    let slow = get(async move || {
        entered.send(()).await.unwrap();
        left.lock().await.recv().await.unwrap();
        "done"
    });
    let server = Server::start(Router::new().route("/", slow), |_| ()).await;
    let client = server.send(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    inside.recv().await.unwrap();
    server.shutdown.cancel();
    while TcpStream::connect(server.http.listen).await.is_ok() {
        tokio::task::yield_now().await;
    }
    leave.send(()).await.unwrap();
    assert!(answer(client).await.ends_with("done"));
    server.serving.await.unwrap();
}

#[tokio::test]
async fn a_busy_port_is_named() {
    let taken = bind(&Http::at(0)).await.unwrap();
    let mut http = Http::at(0);
    http.listen = taken.local_addr().unwrap();
    let refused = bind(&http).await.unwrap_err().to_string();
    assert!(refused.contains(&http.listen.to_string()), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_stopped_server_drops_a_request_that_does_not_finish() {
    let (held, mut released) = mpsc::channel::<()>(1);
    let (entered, mut inside) = mpsc::channel::<()>(1);
    let stuck = get(async move || {
        let _held = &held;
        entered.send(()).await.unwrap();
        std::future::pending::<()>().await;
    });
    let server = Server::start(Router::new().route("/", stuck), |http| {
        http.request_timeout_ms = 3_600_000;
    })
    .await;
    let client = server.send(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    inside.recv().await.unwrap();
    server.shutdown.cancel();
    server.serving.await.unwrap();
    let end = tokio::time::timeout(Duration::from_secs(1), released.recv()).await;
    assert_eq!(end, Ok(None), "the handler lives on");
    assert!(answer(client).await.is_empty());
}
