//! The commands where a server's answer does not come.

use std::io::Read;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::*;

impl Desk {
    /// The dead letters by a way that [loses an answer](loses_the_answer).
    fn by_way_of(&self, word: &'static str, lost: Lost) -> (DeadLetters<Clerk>, Arc<AtomicBool>) {
        let options = self.pool.connect_options();
        let to = format!("{}:{}", options.get_host(), options.get_port());
        let (port, told) = loses_the_answer(to, word, lost);
        let pool = PgPool::connect_lazy_with(options.as_ref().clone().host("127.0.0.1").port(port));
        let clerk = Clerk(pool.clone());
        let dead_letters = DeadLetters::new("clerk", pool, clerk, RetryPolicy::default());
        (dead_letters, told)
    }
}

/// What becomes of a server's answer.
#[derive(Debug, Clone, Copy)]
enum Lost {
    /// Its connection is cut.
    Cut,
    /// It does not come, nor does anything after it, and nobody says so.
    Silent,
}

/// A way to the server at `to`, by its port. Once it is told, the answer to the next statement with `word` in it is lost.
fn loses_the_answer(to: String, word: &'static str, lost: Lost) -> (u16, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let told = Arc::new(AtomicBool::new(false));
    let next = Arc::clone(&told);
    thread::spawn(move || {
        for client in listener.incoming() {
            let (client, server) = (client.unwrap(), TcpStream::connect(&to).unwrap());
            let (next, asked) = (Arc::clone(&next), Arc::new(AtomicBool::new(false)));
            let loses = Arc::clone(&asked);
            let (from, onto) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || {
                through(from, onto, |sent| {
                    let asks = sent.windows(word.len()).any(|at| at == word.as_bytes());
                    if asks && next.swap(false, Ordering::SeqCst) {
                        asked.store(true, Ordering::SeqCst);
                    }
                    true
                });
            });
            thread::spawn(move || {
                through(server, client, |_| match lost {
                    _ if !loses.load(Ordering::SeqCst) => true,
                    Lost::Cut => false,
                    Lost::Silent => loop {
                        thread::park();
                    },
                });
            });
        }
    });
    (port, told)
}

/// Passes on what `passes` lets, until it does not.
fn through(mut from: TcpStream, mut onto: TcpStream, passes: impl Fn(&[u8]) -> bool) {
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
async fn a_dead_letter_that_went_though_nobody_could_say_so_is_told_to_be_gone() {
    let mut desk = Desk::new().await;
    let (dead_letters, told) = desk.by_way_of("COMMIT", Lost::Cut);
    desk.dead_letters = dead_letters;

    desk.dead_letters("a", &[(1, "note"), (2, "note")]).await;
    told.store(true, Ordering::SeqCst);
    let said = desk.says("redrive --all --json", 0).await;
    let none = ids(&[]);
    assert_eq!(
        said,
        json!({ "applied": ids(&[2]), "gone": ids(&[1]), "failed": none, "untried": none, "more": false })
    );
    assert_eq!(desk.ids("select id from note order by seq").await, [1, 2]);

    desk.dead_letters("b", &[(3, "note"), (4, "note")]).await;
    told.store(true, Ordering::SeqCst);
    let said = desk.says("discard --all --reason r --yes --json", 3).await;
    assert_eq!(said, json!({ "discarded": ids(&[3]), "gone": ids(&[4]) }));
    assert_eq!(
        desk.ids("select id from discarded_dead_letter order by seq")
            .await,
        [4, 3]
    );
}

#[tokio::test]
async fn no_command_waits_for_ever_for_a_database_that_has_fallen_silent() {
    let desk = Desk::new().await;
    desk.dead_letters("a", &[(1, "note")]).await;
    let id = Uuid::from_u128(1);
    let run = async |line: String| {
        let (dead_letters, told) = desk.by_way_of("dead_letter", Lost::Silent);
        told.store(true, Ordering::SeqCst);
        let done = parse(&line).unwrap();
        let done = done.write(
            &dead_letters,
            Vec::new(),
            None::<fn() -> std::io::Result<String>>,
        );
        let done = tokio::time::timeout(Duration::from_secs(60), done).await;
        let error = done.expect("it ends").unwrap_err();
        assert!(!told.load(Ordering::SeqCst), "{line}");
        let why = std::error::Error::source(&error).unwrap().to_string();
        assert!(why.contains("has not answered within 30s"), "{line}: {why}");
    };
    // The last one falls silent once the dead letter has been found.
    let discarded = async {
        let (dead_letters, told) = desk.by_way_of("discarded_dead_letter", Lost::Silent);
        told.store(true, Ordering::SeqCst);
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
    assert_eq!(desk.move_to_dead_letter().await, [1]);
}
