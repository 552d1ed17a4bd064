//! Many clients at once, and clients that do not read.

use super::*;

const PATIENCE: Duration = Duration::from_secs(10);

/// A route that is at work until it is released; it signals when it begins.
fn held() -> (Router, mpsc::Receiver<()>, Arc<Semaphore>) {
    let (begun, begins) = mpsc::channel(100);
    let end = Arc::new(Semaphore::new(0));
    let (ends, watched) = (Arc::clone(&end), get(async || "live"));
    let work = post(async move |_: Bytes| {
        begun.send(()).await.unwrap();
        ends.acquire().await.unwrap().forget();
        "done"
    });
    let router = Router::new().route("/", work);
    (router.route("/health/live", watched), begins, end)
}

const POST: &[u8] =
    b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 1\r\n\r\nx";
const HEALTH: &[u8] = b"GET /health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn one_request_too_many_is_503_at_once_and_health_is_answered() {
    let (router, mut begins, end) = held();
    let server = Server::start(router, |http| http.max_requests = 2).await;
    let working = [server.send(POST).await, server.send(POST).await];
    for _ in &working {
        begins.recv().await.unwrap();
    }
    let text = answer(server.send(POST).await).await;
    assert!(text.starts_with("HTTP/1.1 503"), "{text}");
    assert!(text.contains("retry-after: 1"), "{text}");
    assert!(
        text.ends_with(r#"{"error":"too many requests are in progress; try again"}"#),
        "{text}"
    );
    let text = answer(server.send(HEALTH).await).await;
    assert!(text.ends_with("live"), "{text}");
    end.add_permits(3);
    for client in working {
        assert!(answer(client).await.ends_with("done"));
    }
    assert!(answer(server.send(POST).await).await.ends_with("done"));
}

#[tokio::test]
async fn a_slow_body_takes_no_permit() {
    let server = Server::start(echo(), |http| http.max_requests = 1).await;
    let slow = server
        .send(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nx")
        .await;
    let text = answer(server.send(POST).await).await;
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    drop(slow);
}

#[tokio::test]
async fn silent_clients_shut_no_other_one_out() {
    let server = Server::start(echo(), |http| {
        http.max_connections = 5;
        http.header_timeout_ms = 3_600_000;
        http.request_timeout_ms = 3_600_000;
    })
    .await;
    let mut silent = Vec::new();
    for _ in 0..10 {
        silent.push(server.send(b"").await);
        silent.push(server.send(b"POST / HTTP/1.1\r\nhost: ").await);
        silent.push(
            server
                .send(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nx")
                .await,
        );
        let honest = answer(server.send(POST).await);
        let text = tokio::time::timeout(PATIENCE, honest).await.unwrap();
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    }
}

#[tokio::test]
async fn a_connection_at_work_does_not_give_way() {
    let (router, mut begins, end) = held();
    let server = Server::start(router, |http| http.max_connections = 2).await;
    let working = server.send(POST).await;
    begins.recv().await.unwrap();
    for _ in 0..10 {
        let text = answer(server.send(HEALTH).await).await;
        assert!(text.ends_with("live"), "{text}");
    }
    end.add_permits(1);
    assert!(answer(working).await.ends_with("done"));
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let server = Server::start(echo(), |http| http.header_timeout_ms = 100).await;
    let client = server
        .send(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\nx")
        .await;
    let text = tokio::time::timeout(PATIENCE, answer(client))
        .await
        .unwrap();
    assert!(
        text.starts_with("HTTP/1.1 200") && text.ends_with('x'),
        "{text}"
    );
}

#[tokio::test]
async fn a_head_beyond_the_limit_is_431() {
    let server = Server::start(echo(), |_| ()).await;
    let mut request = b"POST / HTTP/1.1\r\nhost: x\r\nx: ".to_vec();
    // No byte that the server leaves unread: it would reset the connection, and the answer with it.
    request.resize(HEAD_LIMIT, b'x');
    let text = answer(server.send(&request).await).await;
    assert!(text.starts_with("HTTP/1.1 431"), "{text}");
}

#[tokio::test]
async fn a_client_that_never_reads_loses_its_connection() {
    // More than the kernel holds for a connection.
    let large = get(async || vec![b'x'; 1024 * 1024]);
    let server = Server::start(Router::new().route("/", large), |http| {
        http.request_timeout_ms = 200;
        http.header_timeout_ms = 3_600_000;
    })
    .await;
    let requests = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".repeat(100);
    let mut client = server.send(&requests).await;
    let closed = async {
        // The kernel takes a byte for the server as long as the connection stands.
        while client.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, closed).await.unwrap();
}
