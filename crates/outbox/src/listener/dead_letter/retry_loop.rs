//! Automatic retries: the running listener attempts dead letters whose back-off has passed.
//!
//! Every worker of a listener runs this loop. They do not divide the work among them: each takes those whose `retry_at` has
//! passed and that are not locked, and checks `retry_at` again under the lock, so that no dead letter is attempted twice as
//! often with twice as many workers.
//!
//! A pass is bounded in number and in time: it ends after a second, or with its second attempt if that is later. A dead letter
//! whose `retry_at` passes during a pass comes first in the next one, so that many slow dead letters delay others by two
//! attempts at most. Passes follow each other at once while they make progress, every half second otherwise, and after an error
//! every two seconds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::redrive::Outcome;
use super::select;
use super::store::{self, LockMode};
use crate::deadline;
use crate::listener::dead_letter_kind::Kind;
use crate::listener::failure::Failure;
use crate::listener::handler::Handler;
use crate::listener::metrics;
use crate::listener::retry::POLL_INTERVAL;
use crate::listener::transaction::{TIMEOUT, Transactions};

/// The wait after an error that keeps the listener from attempting dead letters, or a certain one.
pub(super) const ERROR_WAIT: Duration = Duration::from_secs(2);
/// How often the loop counts dead letters.
const COUNT_INTERVAL: Duration = Duration::from_secs(10);
/// How often the loop logs a lasting error that an operator must cure.
const LOG_INTERVAL: Duration = Duration::from_secs(30);
/// The most dead letters attempted in one pass.
const PASS_SIZE: i64 = 100;
/// How long a pass goes on if some attempts take long: dead letters whose `retry_at` has passed since come first in the next one.
const PASS_TIME: Duration = Duration::from_secs(1);

/// The outcome of one pass over the dead letters to retry.
#[derive(Default)]
pub(super) struct Pass {
    /// Whether more dead letters may be ready.
    pub(super) full: bool,
    pub(super) applied: usize,
    /// Attempted without success; each has a new `retry_at`.
    pub(super) stayed: usize,
    /// The last error that kept the pass from attempting a dead letter, with the dead letter's id if the pass had chosen one.
    pub(super) failed: Option<(Option<Uuid>, Failure)>,
}

impl Pass {
    /// How long to wait before the next pass.
    pub(super) fn wait(&self) -> Duration {
        match self.failed {
            // The dead letters that were parked behind them are ready now.
            _ if self.applied > 0 => Duration::ZERO,
            // Others are ready too, unless the pass only met dead letters that it could not attempt.
            _ if self.full && self.stayed > 0 => Duration::ZERO,
            None => POLL_INTERVAL,
            Some(_) => ERROR_WAIT,
        }
    }
}

impl<H: Handler> Transactions<H> {
    /// Attempts the dead letters whose `retry_at` has passed, until `shutdown` is cancelled.
    pub(super) async fn retry_pass(&self, shutdown: &CancellationToken) -> Result<Pass, Failure> {
        let mut connection = self.connection().await?;
        let to_retry = async |connection: &mut PgConnection| {
            select::to_retry(connection, &self.listener, PASS_SIZE).await
        };
        let ready = deadline::within(TIMEOUT, &mut connection, to_retry).await?;
        drop(connection);
        let mut pass = Pass {
            full: i64::try_from(ready.len()) == Ok(PASS_SIZE),
            ..Pass::default()
        };
        let began = Instant::now();
        let mut attempted = 0;
        for id in ready {
            if shutdown.is_cancelled() {
                break;
            }
            if attempted > 1 && began.elapsed() > PASS_TIME {
                pass.full = true;
                break;
            }
            match self.redrive(id, LockMode::SkipLocked).await {
                Ok(Outcome::Applied) => {
                    tracing::info!(listener = self.listener, %id, "applied a dead letter");
                    pass.applied += 1;
                }
                Ok(Outcome::Failed { .. }) => pass.stayed += 1,
                Ok(Outcome::Gone | Outcome::Parked | Outcome::Busy) => continue,
                // It may be the only one that needs what is missing: others come first for a while.
                Err(failure) => {
                    self.postpone(id, &failure).await?;
                    pass.failed = Some((Some(id), failure));
                }
            }
            attempted += 1;
        }
        Ok(pass)
    }

    /// Records the error that keeps the listener from attempting a dead letter, and lets others come first for [`ERROR_WAIT`].
    async fn postpone(&self, id: Uuid, failure: &Failure) -> Result<(), Failure> {
        let error = failure.to_string();
        let postpone = async |connection: &mut PgConnection| {
            store::postpone(connection, &self.listener, id, &error, ERROR_WAIT).await
        };
        let mut connection = self.connection().await?;
        Ok(deadline::within(TIMEOUT, &mut connection, postpone).await?)
    }

    /// Sets the gauges of dead letters, by kind.
    async fn count(&self) -> Result<(), Failure> {
        let count =
            async |connection: &mut PgConnection| select::count(connection, &self.listener).await;
        let mut connection = self.connection().await?;
        let counts = deadline::within(TIMEOUT, &mut connection, count).await?;
        for kind in Kind::ALL {
            let of_kind = counts.iter().find(|(counted, _)| *counted == kind);
            let count = of_kind.map_or(0, |(_, count)| *count);
            metrics::set_dead_letters(&self.listener, kind.as_str(), count);
        }
        Ok(())
    }
}

/// Attempts dead letters as their back-off passes, until `shutdown` is cancelled.
pub(in crate::listener) async fn run<H: Handler>(
    transactions: Arc<Transactions<H>>,
    shutdown: CancellationToken,
) {
    let listener = &transactions.listener;
    let mut logged: Option<Instant> = None;
    let mut counted: Option<Instant> = None;
    loop {
        if counted.is_none_or(|then| then.elapsed() > COUNT_INTERVAL) {
            counted = Some(Instant::now());
            if let Err(error) = transactions.count().await {
                tracing::warn!(%error, listener, "cannot count dead letters; the metric keeps the old numbers");
            }
        }
        let pass = transactions.retry_pass(&shutdown).await;
        let pass = pass.unwrap_or_else(|failure| Pass {
            failed: Some((None, failure)),
            ..Pass::default()
        });
        let wait = pass.wait();
        match pass.failed {
            None => logged = None,
            Some((id, failure)) => {
                let advice = failure.advice();
                let may_log = |then: Instant| advice.is_some() && then.elapsed() > LOG_INTERVAL;
                if logged.is_none_or(may_log) {
                    logged = Some(Instant::now());
                    log(listener, id, &failure, advice);
                }
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Logs what keeps the listener from attempting dead letters: as an error, with advice, if only an operator can help.
fn log(listener: &str, id: Option<Uuid>, error: &Failure, advice: Option<&str>) {
    if let Some(advice) = advice {
        tracing::error!(%error, advice, ?id, listener,
            "cannot retry dead letters until an operator follows the advice");
    } else {
        tracing::warn!(%error, ?id, listener, "cannot retry dead letters now; trying again");
    }
}
