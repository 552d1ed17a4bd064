//! Orders into the database: each with its event in one transaction, many in one where many are waiting.
//!
//! A few writers take what is waiting and write it at once, so under load one round trip serves many orders, and
//! a lone order waits for nobody. A writer is a task of its own: a client that goes away cannot leave its
//! connection within a transaction.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use outbox::Outgoing;
use sqlx::{Acquire, PgPool};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::db;
use crate::domain::{NewOrder, Placed};

/// Transactions at the same time. More are slower: they wait for the same log.
const WRITERS: usize = 2;
/// The most orders in one transaction.
const MOST: usize = 200;
/// Orders that may wait; one more is told to come again.
const WAITING: usize = 4096;

/// How long a transaction may take.
const STORE_TIMEOUT: Duration = Duration::from_secs(12);

/// Why an order was not taken. Nothing of it is stored, unless the answer to a commit was lost.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// As many orders as may wait are waiting.
    #[error("too many orders are waiting")]
    Full,
    /// The service is stopping.
    #[error("the service is stopping")]
    Stopping,
    /// The database did not take the batch that the order was in.
    #[error("the order was not stored")]
    Database(#[source] Arc<sqlx::Error>),
    /// The database does not answer.
    #[error("the database does not answer")]
    TimedOut,
    /// The event of the order cannot be written.
    #[error("the order's event cannot be written")]
    Event(#[source] Arc<outbox::Unpublishable>),
}

struct Waiting {
    order: NewOrder,
    answer: oneshot::Sender<Result<Uuid, Error>>,
}

/// Takes orders. Cheap to clone; the writers end when the last one is dropped.
#[derive(Clone)]
pub struct Intake(mpsc::Sender<Waiting>);

impl Intake {
    /// Starts the writers, tracked by `tasks`.
    #[must_use]
    pub fn start(pool: &PgPool, tasks: &TaskTracker) -> Self {
        let (sender, receiver) = mpsc::channel(WAITING);
        let receiver = Arc::new(Mutex::new(receiver));
        for _ in 0..WRITERS {
            tasks.spawn(write(pool.clone(), Arc::clone(&receiver)));
        }
        Self(sender)
    }

    /// Places an order: on return it and its event are committed.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn place(&self, order: NewOrder) -> Result<Uuid, Error> {
        let (answer, answered) = oneshot::channel();
        self.0
            .try_send(Waiting { order, answer })
            .map_err(|refused| match refused {
                mpsc::error::TrySendError::Full(_) => Error::Full,
                mpsc::error::TrySendError::Closed(_) => Error::Stopping,
            })?;
        answered.await.unwrap_or(Err(Error::Stopping))
    }
}

async fn write(pool: PgPool, waiting: Arc<Mutex<mpsc::Receiver<Waiting>>>) {
    let mut batch = Vec::new();
    // One writer waits at the queue while another writes; `recv_many` takes all that is there.
    while waiting.lock().await.recv_many(&mut batch, MOST).await > 0 {
        // Who has been told that it took too long will come again: its order would be a second one.
        batch.retain(|waiting| !waiting.answer.is_closed());
        if batch.is_empty() {
            continue;
        }
        let now = Utc::now();
        let placed: Vec<Placed> = batch
            .iter()
            .map(|waiting| Placed {
                id: Uuid::now_v7(),
                event_id: Uuid::now_v7(),
                order: waiting.order,
                at: now,
            })
            .collect();
        let outcome = store(&pool, &placed).await;
        if let Err(error) = &outcome {
            tracing::error!(
                error = error as &dyn std::error::Error,
                orders = placed.len(),
                "orders not stored"
            );
        }
        for (waiting, placed) in batch.drain(..).zip(placed) {
            // Whoever asked may be gone; the order stands all the same.
            drop(waiting.answer.send(outcome.clone().map(|()| placed.id)));
        }
    }
}

/// Orders and their events, in one transaction.
async fn store(pool: &PgPool, placed: &[Placed]) -> Result<(), Error> {
    let events: Vec<Outgoing> = placed
        .iter()
        .map(|placed| Outgoing::new(&placed.event()))
        .collect::<Result<_, _>>()
        .map_err(|error| Error::Event(Arc::new(error)))?;
    let database = |error| Error::Database(Arc::new(error));
    let mut connection = pool.acquire().await.map_err(database)?;
    let stored = async {
        let mut tx = connection.begin().await?;
        db::insert(&mut tx, placed).await?;
        outbox::append(&mut tx, &events).await?;
        tx.commit().await
    };
    if let Ok(stored) = tokio::time::timeout(STORE_TIMEOUT, stored).await {
        return stored.map_err(database);
    }
    // The server's own time-outs do not help against a connection that died without a word.
    connection.close_on_drop();
    Err(Error::TimedOut)
}
