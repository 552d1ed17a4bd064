//! The commands when an answer of the server is lost.

use std::future::Ready;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use outbox::listener::{DeadLetters, RetryPolicy};
use serde_json::json;
use sqlx::PgPool;
use uuid::Uuid;

use super::fixture::{Fixture, Notes, ids, parse};

impl Fixture {
    /// The dead letters through a proxy that [loses an answer](proxy).
    fn through_proxy(
        &self,
        word: &'static str,
        lost: Lost,
    ) -> (DeadLetters<Notes>, Arc<AtomicBool>) {
        let options = self.pool.connect_options();
        let to = format!("{}:{}", options.get_host(), options.get_port());
        let (port, losing) = proxy(to, word, lost);
        let pool = PgPool::connect_lazy_with(options.as_ref().clone().host("127.0.0.1").port(port));
        let notes = Notes(pool.clone());
        let dead_letters = DeadLetters::new("notes", pool, notes, RetryPolicy::default());
        (dead_letters, losing)
    }
}

/// How a server's answer is lost.
#[derive(Debug, Clone, Copy)]
enum Lost {
    /// The connection is closed.
    Cut,
    /// The connection falls silent.
    Silent,
}

/// The port of a proxy to the server at `to`. Once the flag is set, the answer to the next statement that contains `word` is lost.
fn proxy(to: String, word: &'static str, lost: Lost) -> (u16, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let losing = Arc::new(AtomicBool::new(false));
    let next = Arc::clone(&losing);
    thread::spawn(move || {
        for client in listener.incoming() {
            let (client, server) = (client.unwrap(), TcpStream::connect(&to).unwrap());
            let (next, asked) = (Arc::clone(&next), Arc::new(AtomicBool::new(false)));
            let loses = Arc::clone(&asked);
            let (from, onto) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || {
                pass_on(from, onto, |sent| {
                    let asks = sent.windows(word.len()).any(|at| at == word.as_bytes());
                    if asks && next.swap(false, Ordering::SeqCst) {
                        asked.store(true, Ordering::SeqCst);
                    }
                    true
                });
            });
            thread::spawn(move || {
                pass_on(server, client, |_| match lost {
                    _ if !loses.load(Ordering::SeqCst) => true,
                    Lost::Cut => false,
                    Lost::Silent => loop {
                        thread::park();
                    },
                });
            });
        }
    });
    (port, losing)
}

/// Passes on bytes while `passes` says so.
fn pass_on(mut from: TcpStream, mut onto: TcpStream, passes: impl Fn(&[u8]) -> bool) {
    let mut bytes = [0; 8192];
    while let Ok(count @ 1..) = from.read(&mut bytes)
        && passes(&bytes[..count])
        && onto.write_all(&bytes[..count]).is_ok()
    {}
    for end in [from, onto] {
        drop(end.shutdown(Shutdown::Both));
    }
}

#[tokio::test]
async fn a_dead_letter_whose_commit_was_not_confirmed_is_listed_as_gone() {
    let mut fixture = Fixture::new().await;
    let (dead_letters, losing) = fixture.through_proxy("COMMIT", Lost::Cut);
    fixture.dead_letters = dead_letters;

    fixture.dead_letters("a", &[(1, "note"), (2, "note")]).await;
    losing.store(true, Ordering::SeqCst);
    let said = fixture.answer("redrive --all --json", 0).await;
    let none = ids(&[]);
    assert_eq!(
        said,
        json!({ "applied": ids(&[2]), "gone": ids(&[1]), "failed": none, "unconfirmed": none, "more": false })
    );
    assert_eq!(
        fixture.ids("select id from note order by seq").await,
        [1, 2]
    );

    fixture.dead_letters("b", &[(3, "note"), (4, "note")]).await;
    losing.store(true, Ordering::SeqCst);
    let said = fixture
        .answer("discard --all --reason r --yes --json", 3)
        .await;
    assert_eq!(said, json!({ "discarded": ids(&[3]), "gone": ids(&[4]) }));
    assert_eq!(
        fixture
            .ids("select id from discarded_dead_letter order by seq")
            .await,
        [4, 3]
    );
}

#[tokio::test]
async fn no_command_waits_for_ever_for_a_silent_database() {
    let fixture = Fixture::new().await;
    fixture.dead_letters("a", &[(1, "note")]).await;
    let id = Uuid::from_u128(1);
    let run = async |line: String| {
        let (dead_letters, losing) = fixture.through_proxy("dead_letter", Lost::Silent);
        losing.store(true, Ordering::SeqCst);
        let done = parse(&line).unwrap();
        let done = done.write(
            &dead_letters,
            Vec::new(),
            None::<Ready<std::io::Result<String>>>,
        );
        let done = tokio::time::timeout(Duration::from_secs(60), done).await;
        let error = done.expect("it ends").unwrap_err();
        assert!(!losing.load(Ordering::SeqCst), "{line}");
        let why = std::error::Error::source(&error).unwrap().to_string();
        assert!(why.contains("has not answered within 30s"), "{line}: {why}");
    };
    // The last one falls silent once the dead letter has been found.
    let discarded = async {
        let (dead_letters, losing) = fixture.through_proxy("discarded_dead_letter", Lost::Silent);
        losing.store(true, Ordering::SeqCst);
        let discarded = dead_letters.discard(id, "r");
        let discarded = tokio::time::timeout(Duration::from_secs(60), discarded).await;
        let why = discarded.expect("it ends").unwrap_err().to_string();
        assert!(why.contains("has not answered within 30s"), "{why}");
    };
    tokio::join!(
        run("list".to_owned()),
        run(format!("show {id}")),
        run(format!("redrive {id}")),
        run(format!("discard {id} --reason r --yes")),
        discarded,
    );
    assert_eq!(fixture.remaining().await, [1]);
}
