//! A worker: a real listener on its own thread, which can be stopped, killed and frozen like a process.

use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use outbox::listener::{Config, Error, Listener, Progress, RetryPolicy};
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use stack::testing::Database;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::handler::{Gate, RecordingHandler};

/// The session timeout and the maximum poll interval: the least that a broker accepts by default
/// (`group.min.session.timeout.ms`).
const SESSION_TIMEOUT: Duration = Duration::from_secs(6);

/// The automatic retry of deferred dead letters covers a part of a case; then they are left to the operators.
pub(crate) const RETRY_POLICY: RetryPolicy = RetryPolicy {
    initial_backoff: Duration::from_millis(50),
    max_backoff: Duration::from_secs(1),
    max_elapsed: Duration::from_secs(4),
};

enum Command {
    Freeze(Arc<Gate>),
    Kill,
}

pub(crate) struct Worker {
    /// Also the `application_name` of its connections.
    pub(crate) name: String,
    command: mpsc::UnboundedSender<Command>,
    next_gate: Arc<Mutex<Option<Arc<Gate>>>>,
    progress: Arc<OnceLock<watch::Receiver<Progress>>>,
    stop: CancellationToken,
    thread: JoinHandle<Result<(), Error>>,
}

/// A pool like that of a service, with shorter timeouts because a case is short.
pub(crate) fn pool(database: &Database, name: &str) -> PgPool {
    let options: PgConnectOptions = database
        .options("order_owner")
        .application_name(name)
        .options([
            ("idle_in_transaction_session_timeout", "3s"),
            ("lock_timeout", "5s"),
            ("statement_timeout", "10s"),
        ]);
    PgPoolOptions::new()
        .max_connections(4)
        .acquire_timeout(Duration::from_secs(10))
        .connect_lazy_with(options)
}

impl Worker {
    pub(crate) fn start(
        name: &str,
        mut config: Config,
        database: &Database,
        handler: RecordingHandler,
    ) -> Self {
        let timeout = SESSION_TIMEOUT.as_millis().to_string();
        for (property, value) in [
            ("session.timeout.ms", timeout.as_str()),
            ("max.poll.interval.ms", &timeout),
            ("heartbeat.interval.ms", "300"),
        ] {
            let property = property.to_owned();
            config.properties.insert(property, value.to_owned());
        }
        // The breaker stays closed: a case has bursts of dead letters on purpose.
        config.breaker.max_dead_letters = u32::MAX;
        config.retry = RETRY_POLICY;
        let (command, commands) = mpsc::unbounded_channel();
        let (next_gate, stop) = (Arc::clone(&handler.next_gate), CancellationToken::new());
        let (database, connection_name, stops) = (database.clone(), name.to_owned(), stop.clone());
        let progress = Arc::new(OnceLock::new());
        let shared_progress = Arc::clone(&progress);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let listen = async {
                let listener = Listener::new(&config, pool(&database, &connection_name), handler)?;
                shared_progress.get_or_init(|| listener.progress());
                run_until_killed(Box::pin(listener.run(stops)), commands).await
            };
            let ended = runtime.block_on(listen);
            // Drops open transactions and connections without waiting.
            runtime.shutdown_background();
            ended
        });
        Self {
            name: name.to_owned(),
            command,
            next_gate,
            progress,
            stop,
            thread,
        }
    }

    /// Blocks the worker until the gate is opened: wherever it is, or in its next transaction.
    pub(crate) fn freeze(&self, in_transaction: bool) -> Arc<Gate> {
        let gate = Arc::new(Gate::default());
        if in_transaction {
            *self.next_gate.lock().unwrap() = Some(Arc::clone(&gate));
        } else {
            // A worker that has ended needs no freeze.
            drop(self.command.send(Command::Freeze(Arc::clone(&gate))));
        }
        gate
    }

    /// Whether the worker has partitions. Before the first assignment librdkafka does not enforce the poll interval: a frozen
    /// worker would stay a member of the group without consuming.
    pub(crate) fn holds_partitions(&self) -> bool {
        let progress = self.progress.get();
        progress.is_some_and(|progress| progress.borrow().partitions > 0)
    }

    /// Its progress, once it has started.
    pub(crate) fn progress(&self) -> Option<Progress> {
        let progress = self.progress.get()?;
        Some(progress.borrow().clone())
    }

    /// Ends the worker wherever it is, once it is not frozen. Nothing joins its thread: an rdkafka consumer that is dropped during
    /// a rebalance may hang (it asks a closed group for its protocol).
    pub(crate) fn kill(&self) {
        drop(self.command.send(Command::Kill));
    }

    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits for the worker to end, after [`Self::stop`].
    pub(crate) async fn join(self) -> Result<(), Error> {
        tokio::task::spawn_blocking(|| self.thread.join().unwrap())
            .await
            .unwrap()
    }
}

async fn run_until_killed(
    mut run: impl Future<Output = Result<(), Error>> + Unpin,
    mut commands: mpsc::UnboundedReceiver<Command>,
) -> Result<(), Error> {
    loop {
        tokio::select! {
            biased;
            command = commands.recv() => match command {
                Some(Command::Freeze(gate)) => gate.wait(),
                Some(Command::Kill) | None => return Ok(()),
            },
            ended = &mut run => return ended,
        }
    }
}
