//! The consuming side: messages from Kafka, applied to the database exactly once in effect.
//!
//! A [`Listener`] reads topics and hands their events, in batches, to a [`Handler`]. For each batch, one transaction
//!
//! 1. locks the *epochs* of the partitions, so that a consumer that was superseded writes nothing;
//! 2. inserts the events' ids into the *inbox*, so that a redelivered event changes nothing;
//! 3. runs the handler;
//! 4. writes what it cannot apply as *dead letters*, and appends the handler's events to the outbox;
//! 5. commits. Only then are the offsets committed in Kafka.
//!
//! A batch starts as soon as the one before it is settled, with all messages that have arrived meanwhile: a lone message does not
//! wait for others, and large batches drain a backlog.
//!
//! The listener skips no message: [`Failure`] says what becomes of a batch that fails, and [`dead_letter`] of the messages that it
//! sets aside.
//!
//! # A message's way
//! The files of this module, in the order in which a message passes through them: `consumer` (with `consumer_context`,
//! `open_transaction`, `owned` and `config::client`), `fetcher`, `assignment` (with `identity`, `lookup` and `topic_id`), `buffer`,
//! `poll_loop`, `in_flight`, then as part of a `batch` through `apply`, `breaker`, `bisect`, `transaction`, `settle`, `decode`,
//! `inbox`, `handler`, and where it fails `failure`, `sqlstate`, `stop`, `dead_letter`.

mod apply;
mod assignment;
mod backoff;
mod batch;
mod bisect;
mod breaker;
mod buffer;
mod clock;
mod config;
mod consumer;
mod consumer_context;
pub mod dead_letter;
mod dead_letter_kind;
mod decode;
mod error;
mod failpoint;
mod failure;
mod fetcher;
mod handler;
mod identity;
mod in_flight;
mod inbox;
mod lookup;
mod metrics;
mod open_transaction;
mod owned;
mod panic;
mod partition;
mod poll_loop;
mod progress;
mod retry;
mod settle;
mod sqlstate;
mod stop;
#[cfg(test)]
mod testing;
mod topic_id;
mod transaction;

use std::sync::Arc;

use sqlx::PgPool;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use breaker::{BreakerPolicy, MAX_PAUSE};
pub use config::{Config, DEFAULT_MAX_BATCH};
pub use dead_letter::DeadLetters;
pub use error::Error;
pub use failure::{BoxError, Cause, Failure, Refusal, RefusalKind};
pub use handler::{Handler, Received};
pub use progress::Progress;
pub use retry::RetryPolicy;

use apply::Applier;
use consumer::Consumer;
use dead_letter::retry_loop;
use poll_loop::{PollLoop, STOP_TIMEOUT};
use transaction::Transactions;

/// A consumer of topics that applies their events through a [`Handler`]. See the [module](self).
///
/// ```no_run
/// use outbox::listener::{Config, Error, Handler, Listener};
/// use tokio_util::sync::CancellationToken;
///
/// async fn serve<H: Handler>(pool: sqlx::PgPool, handler: H, shutdown: CancellationToken) -> Result<(), Error> {
///     let config = Config::new("127.0.0.1:9092", "payments", "payment");
///     Listener::new(&config, pool, handler)?.run(shutdown).await
/// }
/// ```
pub struct Listener<H: Handler> {
    consumer: Consumer,
    applier: Arc<Applier<H>>,
    max_batch: usize,
}

impl<H: Handler> Listener<H> {
    /// Prepares a listener. It joins its consumer group when it [runs](Self::run).
    ///
    /// `pool` should set `idle_in_transaction_session_timeout` to 10 s or less, so that a frozen process does not keep its locks,
    /// and `lock_timeout` and `statement_timeout`, so that no statement waits for ever. It takes two connections.
    ///
    /// # Errors
    /// All of [`Error`] but [`Error::Fatal`].
    pub fn new(config: &Config, pool: PgPool, handler: H) -> Result<Self, Error> {
        config.check_names()?;
        let transactions = Transactions {
            listener: config.name.clone(),
            pool,
            handler,
            retry: config.retry,
        };
        Ok(Self {
            consumer: Consumer::new(config)?,
            applier: Arc::new(Applier::new(transactions, config.breaker)),
            max_batch: config.max_batch.max(1),
        })
    }

    /// The listener's progress, now and as it changes; for readiness. The crate `metrics` records the same as metrics, under names
    /// that begin with `outbox_listener_`.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.applier.progress.subscribe()
    }

    /// Consumes until `shutdown` is cancelled, then lets the in-flight batch finish, for 5 s at most.
    ///
    /// # Errors
    /// [`Error::Fatal`], or [`Error::Config`] if Kafka refuses a topic's name. The listener retries after every other error, for as
    /// long as it takes.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        let stop = shutdown.child_token();
        // The listener retries dead letters as long as it reads messages; in a task of its own, since a handler may take its time.
        let guard = stop.clone().drop_guard();
        let transactions = Arc::clone(&self.applier.transactions);
        let retries = tokio::spawn(retry_loop::run(transactions, stop));
        let poll_loop = PollLoop::new(self.consumer, self.applier, self.max_batch);
        let outcome = poll_loop.run(shutdown).await;
        drop(guard);
        match tokio::time::timeout(STOP_TIMEOUT, retries).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(
                %error,
                "the task of automatic retries failed; restart the listener to retry dead letters"
            ),
            Err(_) => tracing::warn!(
                "the last automatic retry did not finish in time; the next start repeats it"
            ),
        }
        outcome
    }
}
