//! Applying a batch: circuit breaker, bisection and transaction put together.
//!
//! [`Applier::apply`] asks the [`Bisection`] what to settle next, settles it in one transaction, and reports the outcome to the
//! bisection and the circuit breaker, until the batch is settled or must wait. Each part commits by itself: what it has settled
//! stays settled, whatever becomes of the others.
//!
//! The poll loop runs one `apply` at a time. The breaker stands behind a mutex all the same, since the poll loop reads its state
//! while a batch is in flight.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use sqlx::PgConnection;
use tokio::sync::watch;

use super::batch::{Batch, BatchPart, Settled, Unsettled};
use super::bisect::Bisection;
use super::breaker::{Breaker, BreakerPolicy, Transition};
use super::decode::identity;
use super::failpoint::Step;
use super::handler::Handler;
use super::progress::Progress;
use super::stop::{Blocker, Stop};
use super::transaction::Transactions;

/// Applies batches with one handler in one database.
pub(super) struct Applier<H> {
    pub(super) transactions: Arc<Transactions<H>>,
    breaker: Mutex<Breaker>,
    pub(super) progress: watch::Sender<Progress>,
}

impl<H: Handler> Applier<H> {
    pub(super) fn new(transactions: Transactions<H>, policy: BreakerPolicy) -> Self {
        Self {
            progress: watch::Sender::new(Progress::new(&transactions.listener)),
            transactions: Arc::new(transactions),
            breaker: Mutex::new(Breaker::new(policy)),
        }
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the circuit breaker is closed.
    pub(super) fn is_closed(&self) -> bool {
        self.breaker().is_closed()
    }

    /// When the open circuit breaker becomes half-open.
    pub(super) fn open_until(&self) -> Option<Instant> {
        self.breaker().open_until()
    }

    /// Settles a batch, in as many parts as it takes to isolate what fails.
    pub(super) async fn apply(&self, batch: &Batch) -> Result<Settled, Box<Unsettled>> {
        let mut bisection = Bisection::new(batch, identity);
        let outcome = self.apply_parts(&mut bisection).await;
        if outcome.as_ref().is_err_and(Blocker::is_unknown) {
            let transition = self.breaker().record_failure(Instant::now());
            self.log(transition);
        }
        bisection.end(outcome)
    }

    async fn apply_parts(&self, bisection: &mut Bisection<'_>) -> Result<(), Blocker> {
        while let Some(next) = bisection.next()? {
            let began = Instant::now();
            if !next.wait.is_zero() {
                tokio::time::sleep(next.wait).await;
            }
            let outcome = self.apply_part(&bisection.part(&next.messages)).await;
            bisection.elapsed += began.elapsed();
            match outcome {
                Ok(settled) => {
                    self.record(&settled);
                    bisection.record_settled(&next, settled);
                }
                Err(stop) => {
                    Step::PartFailed.reached();
                    if let Stop::TooSlow(error) = &stop {
                        tracing::warn!(
                            listener = self.transactions.listener,
                            error,
                            messages = next.messages.len(),
                            "a transaction takes too long; retrying, with fewer messages if there are several"
                        );
                    }
                    bisection.record_stop(next, stop)?;
                }
            }
        }
        Ok(())
    }

    async fn apply_part(&self, part: &BatchPart<'_>) -> Result<Settled, Stop> {
        let (permitted, is_half_open) = {
            let mut breaker = self.breaker();
            (breaker.permits(Instant::now()), breaker.is_half_open())
        };
        if permitted == 0 {
            return Err(Stop::BreakerOpen);
        }
        if is_half_open && part.messages.len() > 1 {
            return Err(Stop::BreakerLimit);
        }
        let connection = self.transactions.connection().await;
        let connection = connection.map_err(Stop::Failed)?;
        let settle = async |connection: &mut PgConnection| {
            self.transactions.settle(connection, part, permitted).await
        };
        let (outcome, _) = self.transactions.run(connection, settle).await;
        outcome?
    }

    /// Records a committed part at once: a batch that fails later has settled it all the same.
    fn record(&self, settled: &Settled) {
        let transition = self
            .breaker()
            .record(settled.applied, settled.counted, Instant::now());
        self.log(transition);
        self.progress.send_modify(|progress| {
            progress.record_settled(settled.fresh, settled.dead_lettered);
        });
    }

    fn log(&self, transition: Option<Transition>) {
        let listener = &self.transactions.listener;
        match transition {
            None => {}
            Some(Transition::Opened(pause)) => tracing::error!(
                listener,
                ?pause,
                "the circuit breaker is open: too many messages became dead letters; `dead-letters list` shows their errors. \
                 After the pause the listener tries one message"
            ),
            Some(Transition::Closed) => tracing::info!(
                listener,
                "the circuit breaker is closed: the listener has applied a message"
            ),
        }
    }
}

#[cfg(test)]
mod tests;
