//! A service's listener: beside its HTTP server, in its readiness, and its dead letters.

use outbox::listener::{Config, DeadLetters, Error, Handler, Listener, Progress};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::Database;
use crate::database;
use crate::health::{Health, Report};

impl Health {
    /// Adds a check `listener`: the listener's progress, with its warnings. It never fails.
    #[must_use]
    pub fn with_listener(self, progress: watch::Receiver<Progress>) -> Self {
        self.with("listener", move || {
            let progress = progress.borrow().clone();
            async move { Report::warnings(progress.warning()).with_facts(&progress) }
        })
    }
}

/// Runs the listener beside a server that `shutdown` stops, to the end of both. A listener that cannot go on stops the server.
///
/// # Errors
/// The listener's.
pub async fn run_beside<H: Handler>(
    server: impl Future<Output = ()>,
    listener: Listener<H>,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let guard = shutdown.clone().drop_guard();
    let listen = async {
        let _guard = guard;
        listener.run(shutdown).await
    };
    let (listened, ()) = tokio::join!(listen, server);
    listened
}

/// The dead letters of a listener, for the commands over them.
///
/// # Errors
/// [`database::Error`], without a connection to the database.
pub async fn dead_letters<H: Handler>(
    database: &Database,
    kafka: &Config,
    handler: H,
) -> Result<DeadLetters<H>, database::Error> {
    database::probe(database).await?;
    let pool = database::pool(database, &format!("{}-dead-letters", kafka.name))?;
    Ok(DeadLetters::new(&kafka.name, pool, handler, kafka.retry))
}
