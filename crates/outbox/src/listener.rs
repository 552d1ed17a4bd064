//! The consuming side: messages from Kafka, applied to the database exactly once in effect.
//!
//! A [`Listener`] delivers batches to a [`Handler`] inside one transaction, which first locks the epoch rows of
//! the partitions (so that a consumer that was superseded writes nothing), then enters the events' ids into the
//! inbox (so that an event that comes again changes nothing), then runs the handler, dead-letters what is not to
//! be applied, appends what the handler publishes, and commits; only then are the offsets committed. A batch
//! closes when no further message is waiting: a lone message waits for nobody, a backlog is drained in large
//! batches.
//!
//! What fails is never skipped: see [`Failure`].
//!
//! ```
//! use outbox::Outgoing;
//! use outbox::listener::{Failure, Handler, Received};
//! use sqlx::postgres::PgTransaction;
//!
//! #[derive(serde::Deserialize)]
//! #[serde(tag = "type", content = "payload")]
//! enum PaymentEvent {
//!     #[serde(rename = "payment.received")]
//!     Received { cents: i64 },
//! }
//!
//! struct Till;
//!
//! impl Handler for Till {
//!     type Event = PaymentEvent;
//!
//!     async fn handle(
//!         &self,
//!         tx: &mut PgTransaction<'_>,
//!         batch: &[Received<PaymentEvent>],
//!     ) -> Result<Vec<Outgoing>, Failure> {
//!         let cents: i64 = batch
//!             .iter()
//!             .map(|received| match received.event {
//!                 PaymentEvent::Received { cents } => cents,
//!             })
//!             .sum();
//!         sqlx::query("update till set cents = cents + $1").bind(cents).execute(&mut **tx).await?;
//!         Ok(Vec::new())
//!     }
//! }
//! ```

mod batch;
mod bisect;
mod breaker;
mod buffer;
mod clock;
mod config;
mod consumer;
pub mod dead_letter;
mod failpoint;
mod failure;
mod in_flight;
mod ledger;
mod progress;
mod retry;
mod run;

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use sqlx::PgPool;
use sqlx::postgres::PgTransaction;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use breaker::{BreakerPolicy, MAX_PAUSE};
pub use config::{Config, DEFAULT_MAX_BATCH};
pub use dead_letter::DeadLetters;
pub use failure::{BoxError, Failure, Refusal, RefusalKind};
pub use progress::Progress;
pub use retry::RetryPolicy;

use crate::Outgoing;
use crate::message::Position;

/// What a service does with the events that reach it.
///
/// It is called from several tasks at once: for the in-flight batch, for a dead letter that is tried again beside it, and with single
/// dead letters by whoever redrives, perhaps in a process of its own. A panic makes poison of the message, and the handler is called
/// again after it: a lock that the panic poisoned would make poison of every further one, until the breaker opens. A program
/// that aborts on panics (`panic = "abort"`) dies instead, again and again.
pub trait Handler: Send + Sync + 'static {
    /// An enum, tagged as for [`crate::Event`], whose variants are the event types that the handler takes.
    type Event: DeserializeOwned + Send + Sync;

    /// Event types on the topic that are none of the handler's business: settled without effect. A type that is
    /// neither here nor in [`Handler::Event`] is dead-lettered as a dead letter.
    const IGNORED_EVENT_TYPES: &'static [&'static str] = &[];

    /// Applies a batch, in the order in which the messages arrived, within `tx`. Each event is delivered in
    /// exactly one transaction that commits; one that does not commit leaves nothing behind, and the batch comes
    /// again. A transaction may take 30 s, a statement as long as the server's `statement_timeout`, and what lies between two
    /// statements (other work, a call elsewhere) as long as its `idle_in_transaction_session_timeout`; a batch that takes longer
    /// comes again in halves, and an event that takes longer alone fails as for an unknown reason. Returns the events to publish,
    /// which are appended within the same transaction.
    ///
    /// # Errors
    /// [`Failure`] says what becomes of the batch. `?` on a `sqlx::Error` classifies it.
    fn handle(
        &self,
        tx: &mut PgTransaction<'_>,
        batch: &[Received<Self::Event>],
    ) -> impl Future<Output = Result<Vec<Outgoing>, Failure>> + Send;
}

/// An event as a handler receives it.
#[derive(Debug, Clone, PartialEq)]
pub struct Received<E> {
    /// The event's id, by which the inbox knows it.
    pub id: Uuid,
    /// The message's key, if it has one.
    pub key: Option<Vec<u8>>,
    /// Where the message stands in Kafka.
    pub at: Position,
    /// The event.
    pub event: E,
}

/// A listener that cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// librdkafka refused the configuration.
    #[error("the Kafka consumer's configuration is refused")]
    Config(#[source] rdkafka::error::KafkaError),
    /// The property belongs to the listener: with another value messages would be skipped.
    #[error("the property {0} belongs to the listener; take it out of the configuration")]
    Reserved(String),
    /// librdkafka does not know the property, or not that value of it.
    #[error("librdkafka refuses the property {property}: {reason}")]
    Property {
        /// The property's name.
        property: String,
        /// What librdkafka says.
        reason: String,
    },
    /// The property's value is a secret, so it belongs into a file.
    #[error(
        "the property {0} is a secret: write it into a file, and set property_files.{0} to the path of that file instead"
    )]
    Secret(String),
    /// The property has a value and a file.
    #[error("the property {0} is set in properties and in property_files; leave one of them out")]
    Twice(String),
    /// The file of a property cannot be read.
    #[error("the property {property} names the file {path}, which cannot be read")]
    PropertyFile {
        /// The property's name.
        property: String,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The name does not fit its column.
    #[error("the listener's name must have 1 to 63 characters: {0:?}")]
    Name(String),
    /// librdkafka says that this consumer can never go on.
    #[error("the Kafka consumer failed for good; start the listener again")]
    Fatal(#[source] rdkafka::error::KafkaError),
}

/// A consumer of topics that applies their events through a handler. See the [module](self).
pub struct Listener<H: Handler> {
    consumer: consumer::Consumer,
    batcher: Arc<batch::Batcher<H>>,
    max_batch: usize,
    progress: watch::Sender<Progress>,
}

impl<H: Handler> Listener<H> {
    /// Prepares a listener; it joins its group when it [runs](Self::run).
    ///
    /// `pool` should have `idle_in_transaction_session_timeout` of 10 s or less, so that a frozen process does not
    /// hold its locks, and `lock_timeout` and `statement_timeout`, so that nothing waits for ever.
    ///
    /// # Errors
    /// [`Error`], but for [`Error::Fatal`].
    pub fn new(config: &Config, pool: PgPool, handler: H) -> Result<Self, Error> {
        config.refuse()?;
        let batcher = Arc::new(batch::Batcher::new(
            config.name.clone(),
            pool,
            handler,
            config.breaker,
            config.retry,
        ));
        Ok(Self {
            consumer: consumer::Consumer::new(config)?,
            progress: batcher.progress.clone(),
            batcher,
            max_batch: config.max_batch.max(1),
        })
    }

    /// The listener's progress, now and as it changes; for readiness. The numbers for a monitoring system are recorded
    /// by the facade of the crate `metrics`, under names that begin with `outbox_listener_`.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Consumes until `shutdown` is cancelled; the in-flight batch is then finished first.
    ///
    /// # Errors
    /// [`Error::Fatal`], or [`Error::Config`] for a topic's name that is none. Everything else is retried for as long as it takes.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        let (batcher, stop) = (Arc::clone(&self.batcher), shutdown.child_token());
        // Dead letters are tried as long as messages are read; by a task of its own, since a handler may take its time.
        let guard = stop.clone().drop_guard();
        let trying = tokio::spawn(dead_letter::keep_trying(batcher, stop));
        let outcome = run::Run::new(self).until(shutdown).await;
        drop(guard);
        match tokio::time::timeout(run::LAST_BATCH, trying).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "dead letters were not tried to the end"),
            Err(_) => {
                tracing::warn!("the last dead letter is not tried in time; it is tried again")
            }
        }
        outcome
    }
}
