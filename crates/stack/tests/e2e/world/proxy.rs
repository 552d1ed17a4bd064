//! A proxy of Kafka Connect that fails after a given request.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

/// What becomes of the client's request after Kafka Connect has done what it asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// This answer is withheld; those to other requests are not.
    Withhold,
    /// Neither this request nor a later one is answered: the connections close.
    Vanish,
}

/// It passes requests on, one for each connection. Dropping it ends it.
pub(crate) struct Proxy {
    pub(crate) url: String,
    task: AbortHandle,
}

impl Proxy {
    /// Starts it before the worker at `connect`. After the `step`th request that changes something, it does what `then` says, and the
    /// receiver gets a word.
    pub(crate) async fn start(
        connect: &str,
        step: usize,
        then: Then,
    ) -> (Self, mpsc::Receiver<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let worker = connect.trim_start_matches("http://").to_owned();
        let (word, words) = mpsc::channel(1);
        let task = tokio::spawn(async move {
            let (mut changes, mut withheld) = (0, Vec::new());
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let request = request(&mut client).await;
                changes += usize::from(!request.starts_with(b"GET"));
                if then == Then::Vanish && changes > step {
                    continue;
                }
                let is_last = changes == step && !request.starts_with(b"GET");
                let mut to = TcpStream::connect(&worker).await.unwrap();
                to.write_all(&request).await.unwrap();
                let mut answer = Vec::new();
                to.read_to_end(&mut answer).await.unwrap();
                if is_last {
                    let _ = word.try_send(());
                }
                if then == Then::Vanish && changes >= step {
                    changes = step + 1;
                } else if is_last {
                    withheld.push(client);
                } else {
                    // The client may be dead.
                    let _ = client.write_all(&answer).await;
                }
            }
        });
        let task = task.abort_handle();
        (Self { url, task }, words)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Reads one request, which closes its connection after the answer.
async fn request(client: &mut TcpStream) -> Vec<u8> {
    let mut request = Vec::new();
    let end = loop {
        let found = request.windows(4).position(|it| it == b"\r\n\r\n");
        if let Some(at) = found {
            break at;
        }
        if client.read_buf(&mut request).await.unwrap() == 0 {
            return request;
        }
    };
    let head = String::from_utf8(request[..end].to_vec()).unwrap();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.parse::<usize>().unwrap())
    });
    let mut body = request.split_off(end);
    while body.len() < 4 + length.unwrap_or(0) {
        client.read_buf(&mut body).await.unwrap();
    }
    request.extend_from_slice(b"\r\nconnection: close");
    request.extend(body);
    request
}
