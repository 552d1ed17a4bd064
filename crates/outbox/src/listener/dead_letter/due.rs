//! Dead letters that the running listener tries by itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::redrive::{Outcome, Patience, in_time};
use super::rows;
use crate::listener::batch::{Batcher, TRANSACTION_TIMEOUT};
use crate::listener::retry::POLL_INTERVAL;
use crate::listener::{Failure, Handler, ledger, progress};

/// How long to wait after an error of the database.
pub(super) const REST: Duration = Duration::from_secs(2);
/// How often dead letters are counted.
const COUNT: Duration = Duration::from_secs(10);
/// How often it is said that somebody is to do something, or no dead letter can be tried.
const TELL: Duration = Duration::from_secs(30);
/// Dead letters that are tried between two looks, at most.
const AT_ONCE: i64 = 100;
/// How long dead letters are tried before the next look, if some take long: one that is due since goes before theirs.
const LONG: Duration = Duration::from_secs(1);

/// Half are those that were tried the fewest times, so that many that stay do not keep one for long that could be applied;
/// half those that have been due the longest, so that many new ones do not either; one of each in turn. No index carries the
/// first order, since tries take longer: of a hundred thousand that are due, all are read, without their messages, in a fraction
/// of a second.
const DUE: &str = "
    with fresh as (
        select id, attempts, retry_at, seq from dead_letter
        where listener = $1 and retry_at <= now() order by attempts, retry_at, seq limit $2
    ), old as (
        select id, retry_at, seq from dead_letter where listener = $1 and retry_at <= now() order by retry_at, seq limit $2
    ), turns as (
        select id, row_number() over (order by attempts, retry_at, seq) * 2 as turn from fresh
        union all
        select id, row_number() over (order by retry_at, seq) * 2 + 1 from old
    )
    select id from turns group by id order by min(turn) limit $2";

impl<H: Handler> Batcher<H> {
    /// Tries what is due, until `shutdown` is cancelled.
    pub(super) async fn redrive_due(&self, shutdown: &CancellationToken) -> Result<Pass, Failure> {
        let mut connection = self.connection().await?;
        let due = sqlx::query_scalar(DUE)
            .bind(&self.listener)
            .bind(AT_ONCE)
            .fetch_all(&mut *connection);
        let due = timeout(TRANSACTION_TIMEOUT, due).await;
        let due: Vec<Uuid> = in_time(connection, due)?;
        let mut pass = Pass {
            full: i64::try_from(due.len()) == Ok(AT_ONCE),
            ..Pass::default()
        };
        let began = Instant::now();
        let mut tried = 0;
        for id in due {
            if shutdown.is_cancelled() {
                break;
            }
            if tried > 1 && began.elapsed() > LONG {
                pass.full = true;
                break;
            }
            match self.redrive(id, Patience::SkipLocked).await {
                Ok(Outcome::Applied) => {
                    tracing::info!(listener = self.listener, %id, "a dead letter has been applied");
                    pass.applied += 1;
                }
                Ok(Outcome::Failed { .. }) => pass.stayed += 1,
                Ok(Outcome::Gone | Outcome::Behind | Outcome::Busy) => continue,
                // Perhaps it is this one that wants something that is not there: others go first for a while.
                Err(failure) => {
                    self.rests(id, &failure).await?;
                    pass.failed = Some((Some(id), failure));
                }
            }
            tried += 1;
        }
        Ok(pass)
    }

    /// A dead letter that could not be tried says why, and is not due for a moment.
    async fn rests(&self, id: Uuid, failure: &Failure) -> Result<(), Failure> {
        let mut connection = self.connection().await?;
        let noted = sqlx::query(
            "update dead_letter set error = $3, retry_at = now() + make_interval(secs => $4)
             where listener = $1 and id = $2 and retry_at <= now()",
        )
        .bind(&self.listener)
        .bind(id)
        .bind(ledger::text(&failure.to_string()))
        .bind(REST.as_secs_f64())
        .execute(&mut *connection);
        let noted = timeout(TRANSACTION_TIMEOUT, noted).await;
        in_time(connection, noted)?;
        Ok(())
    }

    /// Has the numbers say how many dead letters wait.
    async fn count(&self) -> Result<(), Failure> {
        let mut connection = self.connection().await?;
        let counted = timeout(
            TRANSACTION_TIMEOUT,
            rows::count(&mut connection, &self.listener),
        )
        .await;
        progress::waiting(&self.listener, &in_time(connection, counted)?);
        Ok(())
    }
}

/// What one look has come to.
#[derive(Default)]
pub(super) struct Pass {
    /// Whether there may be more that is due.
    pub(super) full: bool,
    pub(super) applied: usize,
    /// Tried, and not due any more.
    pub(super) stayed: usize,
    /// Why the last one that could not be tried could not, and which it was, if it came so far.
    pub(super) failed: Option<(Option<Uuid>, Failure)>,
}

impl Pass {
    /// How long to wait before the next look.
    pub(super) fn rest(&self) -> Duration {
        match self.failed {
            // What waited behind is due now.
            _ if self.applied > 0 => Duration::ZERO,
            // So is the rest. Dead letters that somebody else is just trying, or that cannot be tried, do not make haste.
            _ if self.full && self.stayed > 0 => Duration::ZERO,
            None => POLL_INTERVAL,
            Some(_) => REST,
        }
    }
}

/// Tries what is due, until `shutdown` is cancelled.
pub(in crate::listener) async fn keep_trying<H: Handler>(
    batcher: Arc<Batcher<H>>,
    shutdown: CancellationToken,
) {
    let mut told: Option<Instant> = None;
    let mut counted: Option<Instant> = None;
    loop {
        if counted.is_none_or(|then| then.elapsed() > COUNT) {
            counted = Some(Instant::now());
            // No reason to try nothing.
            if let Err(error) = batcher.count().await {
                tracing::warn!(%error, listener = batcher.listener, "dead letters cannot be counted now");
            }
        }
        let pass = batcher.redrive_due(&shutdown).await;
        let pass = pass.unwrap_or_else(|why| Pass {
            failed: Some((None, why)),
            ..Pass::default()
        });
        let wait = pass.rest();
        let failed = pass.failed;
        if let Some((id, error)) = &failed {
            let (listener, advice) = (&batcher.listener, error.advice());
            if told.is_none_or(|then| advice.is_some() && then.elapsed() > TELL) {
                told = Some(Instant::now());
                if let Some(advice) = advice {
                    tracing::error!(%error, advice, ?id, listener,
                        "dead letters cannot be tried until somebody does something");
                } else {
                    tracing::warn!(%error, ?id, listener, "dead letters cannot be tried now");
                }
            }
        } else {
            told = None;
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}
