//! The client against a worker with prepared answers.

use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;

/// A worker that gives `answers` one after the other. Its task returns the requests: the first line, with the user of basic
/// authentication if there is one, and the body.
pub(crate) async fn worker(
    answers: Vec<(&'static str, &'static str)>,
) -> (Client, JoinHandle<Vec<(String, String)>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::new(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
    let requests = tokio::spawn(async move {
        let mut requests = Vec::new();
        for (status, body) in answers {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = BufReader::new(stream);
            requests.push(request(&mut stream).await);
            let answer = format!(
                "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
        requests
    });
    (client, requests)
}

async fn request(stream: &mut BufReader<tokio::net::TcpStream>) -> (String, String) {
    let (mut first, mut length) = (String::new(), 0);
    stream.read_line(&mut first).await.unwrap();
    let mut user = String::new();
    loop {
        let mut header = String::new();
        stream.read_line(&mut header).await.unwrap();
        if let Some(basic) = header.trim_end().strip_prefix("authorization: Basic ") {
            user = format!(" as {basic}");
        }
        let header = header.trim_end().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    let line = first.trim_end().trim_end_matches(" HTTP/1.1");
    (format!("{line}{user}"), String::from_utf8(body).unwrap())
}

fn config() -> Map<String, Value> {
    Map::from_iter([("tasks.max".to_owned(), json!("1"))])
}

#[tokio::test]
async fn a_request_that_meets_a_rebalance_is_sent_again() {
    let rebalance = r#"{"error_code":409,"message":"Cannot complete request momentarily due to stale configuration"}"#;
    let expected = r#"{"error_code":500,"message":"Request cannot be completed because a rebalance is expected"}"#;
    let (client, requests) = worker(vec![
        ("409 Conflict", rebalance),
        ("500 Internal Server Error", expected),
        ("200 OK", "{}"),
    ])
    .await;
    client.put_config("order-outbox", &config()).await.unwrap();
    let put = (
        "PUT /connectors/order-outbox/config".to_owned(),
        r#"{"tasks.max":"1"}"#.to_owned(),
    );
    assert_eq!(requests.await.unwrap(), [put.clone(), put.clone(), put]);
}

#[tokio::test]
async fn a_refusal_has_the_message_of_kafka_connect() {
    let refusal =
        r#"{"error_code":400,"message":"Connector configuration is invalid: slot.name is wrong"}"#;
    let (client, _) = worker(vec![
        ("400 Bad Request", refusal),
        (
            "404 Not Found",
            r#"{"error_code":404,"message":"No status found"}"#,
        ),
        ("502 Bad Gateway", "a proxy's page"),
    ])
    .await;
    let refused = client.put_config("o", &config()).await.unwrap_err();
    assert!(refused.to_string().contains("slot.name is wrong"));
    assert!(client.status("o").await.unwrap_err().is_not_found());
    let refused = client.list().await.unwrap_err();
    assert!(refused.to_string().contains("a proxy's page"));
}

#[tokio::test]
async fn only_what_failed_is_restarted_and_a_connector_is_removed_by_its_name() {
    let (client, requests) = worker(vec![
        ("202 Accepted", r#"{"name":"o"}"#),
        ("204 No Content", ""),
    ])
    .await;
    client.restart("o").await.unwrap();
    client.delete("o").await.unwrap();
    let lines: Vec<String> = requests
        .await
        .unwrap()
        .into_iter()
        .map(|(line, _)| line)
        .collect();
    assert_eq!(
        lines,
        [
            "POST /connectors/o/restart?includeTasks=true&onlyFailed=true",
            "DELETE /connectors/o"
        ]
    );
}

#[tokio::test]
async fn a_name_is_encoded_in_a_url_and_a_user_in_an_address_is_sent_and_not_shown() {
    let refusal = "<html><head><title>Error 400 Ambiguous URI path separator</title></head></html>";
    let (client, requests) = worker(vec![
        ("200 OK", "{}"),
        ("400 Bad Request", refusal),
        ("401 Unauthorized", "User cannot access the resource."),
    ])
    .await;
    let address = client
        .base
        .as_str()
        .replace("//", "//an%40operator:s3cret@");
    let client = Client::new(&format!("{address}below/")).unwrap();
    client.config("a/b c").await.unwrap();
    let refused = client.stop("ä%").await.unwrap_err().to_string();
    assert!(
        refused.ends_with("(400 Bad Request): Error 400 Ambiguous URI path separator"),
        "{refused}"
    );
    let refused = client.list().await.unwrap_err();
    assert!(!format!("{refused} {refused:?} {client:?}").contains("s3cret"));
    // "an@operator:s3cret"
    let user = "YW5Ab3BlcmF0b3I6czNjcmV0";
    let lines: Vec<String> = requests
        .await
        .unwrap()
        .into_iter()
        .map(|(line, _)| line)
        .collect();
    assert_eq!(
        lines,
        [
            format!("GET /below/connectors/a%2Fb%20c/config as {user}"),
            format!("PUT /below/connectors/%C3%A4%25/stop as {user}"),
            format!("GET /below/connectors as {user}")
        ]
    );
    assert!(
        client
            .command("reread", "it's")
            .ends_with(r"/below reread 'it'\''s'")
    );
}

#[tokio::test]
async fn a_connector_may_begin_paused_and_a_name_that_is_taken_is_no_rebalance() {
    let taken = r#"{"error_code":409,"message":"Connector o already exists"}"#;
    let (client, requests) = worker(vec![("409 Conflict", taken)]).await;
    let refused = client
        .create("o", &config(), TargetState::Paused)
        .await
        .unwrap_err();
    assert!(matches!(refused, Error::Refused { .. }), "{refused}");
    let body = r#"{"config":{"tasks.max":"1"},"initial_state":"PAUSED","name":"o"}"#;
    assert_eq!(
        requests.await.unwrap(),
        [("POST /connectors".to_owned(), body.to_owned())]
    );
}

#[tokio::test]
async fn an_absent_worker_is_named_and_an_undecodable_answer_is_an_error() {
    let away = Client::new("http://127.0.0.1:1").unwrap();
    let error = away.ready().await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }));
    assert!(error.to_string().contains("127.0.0.1:1/connectors"));
    let (client, _) = worker(vec![("200 OK", "<html>")]).await;
    let error = client.ready().await.unwrap_err();
    assert!(matches!(error, Error::Undecodable { .. }));
}

#[test]
fn an_invalid_address_is_refused() {
    for base in ["", "127.0.0.1:8083", "localhost:8083", "ftp://127.0.0.1"] {
        let error = Client::new(base).unwrap_err();
        assert!(matches!(error, Error::Address { .. }), "{base}");
        assert!(error.to_string().contains("like http://127.0.0.1:8083"));
    }
}

#[tokio::test]
async fn a_reread_of_an_unknown_connector_names_the_known_ones_and_changes_nothing() {
    let (client, requests) =
        worker(vec![("200 OK", r#"["order-outbox","inventory-outbox"]"#)]).await;
    let error = crate::reread(
        &client,
        "nope",
        Duration::from_secs(1),
        std::future::pending(),
    )
    .await
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "there is no connector nope; there are order-outbox, inventory-outbox"
    );
    assert_eq!(requests.await.unwrap().len(), 1);
}
