//! Notifications at a real socket.
#![expect(
    clippy::result_large_err,
    reason = "figment's Jail asks for its own error"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use figment::Jail;
use tokio::net::UnixDatagram;
use tokio::time::timeout;

use super::*;
use crate::health::Report;

/// How long a notification may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);

async fn received(socket: &UnixDatagram) -> String {
    let mut bytes = [0; 1024];
    let length = timeout(PATIENCE, socket.recv(&mut bytes)).await;
    let length = length.expect("no notification came").unwrap();
    String::from_utf8(bytes[..length].to_vec()).unwrap()
}

/// Runs `test` with a socket that `NOTIFY_SOCKET` names, and the further `variables`.
fn with_socket(variables: &[(&str, &str)], test: impl AsyncFnOnce(UnixDatagram)) {
    Jail::expect_with(|jail| {
        let path = jail.directory().join("notify");
        jail.set_env("NOTIFY_SOCKET", path.display());
        for (name, value) in variables {
            jail.set_env(name, value);
        }
        runtime().block_on(async { test(UnixDatagram::bind(path).unwrap()).await });
        Ok(())
    });
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap()
}

fn when(answers: &Arc<AtomicBool>) -> Health {
    let answers = Arc::clone(answers);
    Health::default().with("database", move || {
        let answers = answers.load(Ordering::Relaxed);
        async move {
            if answers {
                Report::ok()
            } else {
                Report::failing("away")
            }
        }
    })
}

#[test]
fn ready_is_sent_once_the_checks_pass_and_stopping_before_the_end() {
    with_socket(&[], async |socket| {
        let (answers, shutdown) = (Arc::default(), CancellationToken::new());
        let work = supervised(when(&answers), shutdown.clone(), shutdown.cancelled());
        tokio::join!(work, async {
            assert_eq!(received(&socket).await, "STATUS=waiting: database: away\n");
            answers.store(true, Ordering::Relaxed);
            assert_eq!(received(&socket).await, "READY=1\nSTATUS=ready\n");
            // Sent once: a database that goes down later is for /health/ready.
            answers.store(false, Ordering::Relaxed);
            shutdown.cancel();
        });
        assert_eq!(received(&socket).await, "STOPPING=1\nSTATUS=stopping\n");
    });
}

#[test]
fn a_service_that_is_stopped_before_it_is_ready_never_sends_ready() {
    with_socket(&[], async |socket| {
        let (answers, shutdown) = (Arc::default(), CancellationToken::new());
        shutdown.cancel();
        supervised(when(&answers), shutdown.clone(), shutdown.cancelled()).await;
        assert_eq!(received(&socket).await, "STOPPING=1\nSTATUS=stopping\n");
    });
}

#[test]
fn stopping_is_sent_however_the_work_ends() {
    with_socket(&[], async |socket| {
        // Without a shutdown, and in the same step as one.
        for asked in [false, true] {
            let shutdown = CancellationToken::new();
            let work = async {
                sleep(PERIOD / 2).await;
                if asked {
                    shutdown.cancel();
                }
            };
            supervised(Health::default(), shutdown.clone(), work).await;
            assert_eq!(received(&socket).await, "READY=1\nSTATUS=ready\n");
            assert_eq!(received(&socket).await, "STOPPING=1\nSTATUS=stopping\n");
        }
    });
}

#[test]
fn the_watchdog_is_fed_until_the_work_ends() {
    with_socket(&[("WATCHDOG_USEC", "20000")], async |socket| {
        let (shutdown, end) = (CancellationToken::new(), CancellationToken::new());
        let work = supervised(Health::default(), shutdown.clone(), end.cancelled());
        tokio::join!(work, async {
            let mut before = Vec::new();
            while before.iter().filter(|said| *said == "WATCHDOG=1\n").count() < 3 {
                before.push(received(&socket).await);
            }
            assert!(before.contains(&"READY=1\nSTATUS=ready\n".to_owned()));
            shutdown.cancel();
            while !received(&socket).await.starts_with("STOPPING=1") {}
            assert_eq!(received(&socket).await, "WATCHDOG=1\n", "while it stops");
            end.cancel();
        });
    });
}

#[test]
fn the_watchdog_of_another_process_is_not_fed() {
    let variables = [("WATCHDOG_USEC", "1000"), ("WATCHDOG_PID", "1")];
    with_socket(&variables, async |socket| {
        let shutdown = CancellationToken::new();
        let work = supervised(Health::default(), shutdown.clone(), shutdown.cancelled());
        tokio::join!(work, async {
            assert_eq!(received(&socket).await, "READY=1\nSTATUS=ready\n");
            let next = timeout(Duration::from_millis(50), received(&socket)).await;
            assert!(next.is_err(), "nothing more is sent");
            shutdown.cancel();
        });
    });
}

#[test]
fn a_supervisor_that_is_gone_does_not_end_the_work() {
    with_socket(&[], async |socket| {
        drop(socket);
        std::fs::remove_file(env::var_os("NOTIFY_SOCKET").unwrap()).unwrap();
        assert_eq!(
            supervised(Health::default(), CancellationToken::new(), async { 7 }).await,
            7
        );
    });
}

#[test]
fn without_a_supervisor_no_check_runs() {
    Jail::expect_with(|jail| {
        jail.clear_env();
        let checks = Arc::new(AtomicUsize::default());
        let counted = Arc::clone(&checks);
        let health = Health::default().with("database", move || {
            counted.fetch_add(1, Ordering::Relaxed);
            async { Report::ok() }
        });
        let work = async {
            sleep(PERIOD / 2).await;
            7
        };
        let done = runtime().block_on(supervised(health, CancellationToken::new(), work));
        assert_eq!((done, checks.load(Ordering::Relaxed)), (7, 0));
        Ok(())
    });
}
