//! Stores orders, each with its event in the same transaction.
//!
//! A few tasks take all orders that wait and store them in one transaction, so under load one round trip serves many
//! orders, and a lone order does not wait. They are not the requests' own: a client that disconnects leaves no connection
//! within a transaction.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use outbox::{Outgoing, deadline};
use sqlx::{Acquire, PgConnection, PgPool};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::db;
use crate::domain::{NewOrder, Placed};

/// The tasks that store orders, each one transaction at a time. More are slower: they wait for the same write-ahead log.
const TASKS: usize = 2;
/// The most orders in one transaction.
const MOST: usize = 200;
/// Orders that may wait; the intake refuses one more.
const WAITING: usize = 4096;

/// How long a transaction may take.
const STORE_TIMEOUT: Duration = Duration::from_secs(12);

/// An order that is not placed. The database holds nothing of it, unless the answer to a commit was lost.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The queue is full.
    #[error("too many orders are waiting")]
    Full,
    /// The service is stopping.
    #[error("the service is stopping")]
    Stopping,
    /// The database refused the transaction that the order was in, or did not answer in time.
    #[error("the database did not store the order")]
    Database(#[source] Arc<sqlx::Error>),
    /// The order's event has no JSON.
    #[error("cannot write the order's event as JSON")]
    Event(#[source] Arc<outbox::Unpublishable>),
}

struct Waiting {
    order: NewOrder,
    answer: oneshot::Sender<Result<Uuid, Error>>,
}

/// The queue of the tasks that store orders. Cheap to clone; the tasks end when the last clone is dropped.
#[derive(Clone)]
pub struct Intake(mpsc::Sender<Waiting>);

impl Intake {
    /// Starts the tasks that store orders, tracked by `tasks`.
    #[must_use]
    pub fn start(pool: &PgPool, tasks: &TaskTracker) -> Self {
        let (sender, receiver) = mpsc::channel(WAITING);
        let receiver = Arc::new(Mutex::new(receiver));
        for _ in 0..TASKS {
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
    // One task waits at the queue while another one stores; `recv_many` takes all that wait.
    while waiting.lock().await.recv_many(&mut batch, MOST).await > 0 {
        // Their requests timed out: a client that tries again would have placed two orders.
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
                "cannot store orders; answering 503 to their clients"
            );
        }
        for (waiting, placed) in batch.drain(..).zip(placed) {
            // The client may be gone; the order stands all the same.
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
    let store = async |connection: &mut PgConnection| {
        let mut tx = connection.begin().await?;
        db::insert(&mut tx, placed).await?;
        outbox::append(&mut tx, &events).await?;
        tx.commit().await
    };
    deadline::within(STORE_TIMEOUT, &mut connection, store)
        .await
        .map_err(database)
}
