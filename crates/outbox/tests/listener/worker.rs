//! A worker: a real listener on a thread of its own, which can be stopped, killed and frozen as a process can.

use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use outbox::listener::{Config, Error, Listener, Progress, RetryPolicy};
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use stack::testing::Database;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::clerk::{Gate, Hand};

/// For how long the group waits for a member that is not heard of, or that does not poll: the least that a broker takes
/// where nothing is configured (`group.min.session.timeout.ms`).
const PATIENCE: Duration = Duration::from_secs(6);

/// Deferred dead letters are tried by themselves for a part of a case, then left to the operators.
pub(crate) const RETRY_POLICY: RetryPolicy = RetryPolicy {
    initial_backoff: Duration::from_millis(50),
    max_backoff: Duration::from_secs(1),
    max_elapsed: Duration::from_secs(4),
};

enum Command {
    Freeze(Arc<Gate>),
    Die,
}

pub(crate) struct Worker {
    /// Its connections bear it, too.
    pub(crate) name: String,
    command: mpsc::UnboundedSender<Command>,
    within: Arc<Mutex<Option<Arc<Gate>>>>,
    progress: Arc<OnceLock<watch::Receiver<Progress>>>,
    stop: CancellationToken,
    thread: JoinHandle<Result<(), Error>>,
}

/// Connections as those of a service, but less patient: a case is short.
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
    pub(crate) fn start(name: &str, mut config: Config, database: &Database, hand: Hand) -> Self {
        let patience = PATIENCE.as_millis().to_string();
        for (property, value) in [
            ("session.timeout.ms", patience.as_str()),
            ("max.poll.interval.ms", &patience),
            ("heartbeat.interval.ms", "300"),
        ] {
            let property = property.to_owned();
            config.properties.insert(property, value.to_owned());
        }
        // A burst of dead letters is what is wanted here.
        config.breaker.max_dead_letters = u32::MAX;
        config.retry = RETRY_POLICY;
        let (command, commands) = mpsc::unbounded_channel();
        let (within, stop) = (Arc::clone(&hand.gate), CancellationToken::new());
        let (database, bears, stops) = (database.clone(), name.to_owned(), stop.clone());
        let progress = Arc::new(OnceLock::new());
        let shows = Arc::clone(&progress);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let listens = async {
                let listener = Listener::new(&config, pool(&database, &bears), hand)?;
                shows.get_or_init(|| listener.progress());
                until_told(Box::pin(listener.run(stops)), commands).await
            };
            let ended = runtime.block_on(listens);
            // What is still open is cut off where it stands.
            runtime.shutdown_background();
            ended
        });
        Self {
            name: name.to_owned(),
            command,
            within,
            progress,
            stop,
            thread,
        }
    }

    /// Stands still until the gate is opened: where it happens to be, or within its next transaction.
    pub(crate) fn freeze(&self, within: bool) -> Arc<Gate> {
        let gate = Arc::new(Gate::default());
        if within {
            *self.within.lock().unwrap() = Some(Arc::clone(&gate));
        } else {
            // One that has ended is as still as can be.
            drop(self.command.send(Command::Freeze(Arc::clone(&gate))));
        }
        gate
    }

    /// Whether it holds partitions. Before it was first given some, librdkafka does not mind that it does not poll: it would go
    /// on as a member of the group, in whose name nobody reads.
    pub(crate) fn holds_partitions(&self) -> bool {
        let progress = self.progress.get();
        progress.is_some_and(|progress| progress.borrow().partitions > 0)
    }

    /// Ends where it happens to be, once it is not frozen. Nobody waits for it: a consumer of rdkafka that is dropped during
    /// a rebalance may not come back (it asks a group that has ended for its protocol).
    pub(crate) fn die(&self) {
        drop(self.command.send(Command::Die));
    }

    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits for its end; it should have been told to.
    pub(crate) async fn ended(self) -> Result<(), Error> {
        tokio::task::spawn_blocking(|| self.thread.join().unwrap())
            .await
            .unwrap()
    }
}

async fn until_told(
    mut run: impl Future<Output = Result<(), Error>> + Unpin,
    mut commands: mpsc::UnboundedReceiver<Command>,
) -> Result<(), Error> {
    loop {
        tokio::select! {
            biased;
            command = commands.recv() => match command {
                Some(Command::Freeze(gate)) => gate.stand(),
                Some(Command::Die) | None => return Ok(()),
            },
            ended = &mut run => return ended,
        }
    }
}
