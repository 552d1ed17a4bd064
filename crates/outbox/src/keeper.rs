//! The keeper of an outbox: it watches the replication slot and the server, and removes rows that have done their work.
//!
//! Run one for each database, in the service that owns the outbox, under a role of its own
//! ([`Roles::keeper`](crate::schema::Roles::keeper)); several do no harm. Its [`Observation`] is for a readiness check; its gauges and
//! counters, whose names begin with `outbox_`, go through the facade of the crate `metrics`.
//!
//! - It removes an outbox row once that is older than the [retention](crate::Retention) **and** the slot has confirmed it,
//!   and so never a row that has not reached Kafka, however old.
//! - It removes an inbox row once that is older than the retention, unless the event is still a dead letter.
//! - It reports a server that differs from the one recorded – a restored backup, a promoted standby, another machine –, and removes no
//!   outbox row until an operator has read the outbox again and [accepts](accept) it.
//!
//! # Metrics
//! Each has the label `outbox`, the specification's context. An unknown value is `NaN`.
//!
//! | name | meaning |
//! | --- | --- |
//! | `outbox_watched` | 1 while the database answers the keeper; 0 makes the others stale |
//! | `outbox_slot_read` | 1 while a process reads the slot |
//! | `outbox_slot_lag_bytes` | write-ahead log that the slot has not confirmed |
//! | `outbox_slot_retained_bytes` | write-ahead log that the server keeps for the slot |
//! | `outbox_slot_wal_status` | 1 for the present `wal_status` (a label): `reserved`, `extended`, `unreserved`, `lost`, `missing` |
//! | `outbox_backlog_rows` | outbox rows that the slot has not confirmed |
//! | `outbox_oldest_row_seconds` | age of the oldest outbox row |
//! | `outbox_database_changed` | 1 until an operator accepts the server |
//! | `outbox_removed_rows_total` | rows removed since the start, by the label `table`: `outbox` or `inbox` |

mod backlog;
mod observation;
mod reading;
mod rows;
mod status;

use std::time::Duration;

use sqlx::{PgConnection, PgPool};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use observation::{Limits, Observation};

use crate::deadline;
use crate::specification::Specification;
use backlog::Backlog;
use rows::{INBOX_AT_ONCE, Mark, Verdict};
use status::Status;

/// How often the keeper reads the slot's status.
const PERIOD: Duration = Duration::from_secs(2);
/// How often, while there are rows to remove.
const BUSY_PERIOD: Duration = Duration::from_millis(200);
/// How long a pass may take: the status, and the removal that follows.
const PASS_TIMEOUT: Duration = Duration::from_secs(60);

/// The task that keeps one outbox; see [the module](self).
///
/// ```no_run
/// use outbox::keeper::{Keeper, Limits};
/// use outbox::specification::Specification;
/// use tokio_util::sync::CancellationToken;
///
/// async fn keep(specification: Specification, pool: sqlx::PgPool, shutdown: CancellationToken) {
///     let keeper = Keeper::new(specification, pool);
///     let observation = keeper.observation();
///     let running = tokio::spawn(keeper.run(shutdown));
///     // At any time, such as in a readiness check:
///     let warnings = observation.borrow().warnings(&Limits::default());
///     println!("{}", warnings.join("; "));
///     running.await.expect("the keeper does not panic");
/// }
/// ```
pub struct Keeper {
    specification: Specification,
    pool: PgPool,
    observation: watch::Sender<Observation>,
    backlog: Backlog,
    mark: Option<Mark>,
    /// The highest position of the log that was on disk. A lower one later is the log of another state.
    flushed: i64,
}

impl Keeper {
    /// A keeper of the outbox in the database of `pool`, which connects as the keeper's role. One connection is enough.
    #[must_use]
    pub fn new(specification: Specification, pool: PgPool) -> Self {
        Self {
            observation: watch::Sender::new(Observation::new(
                &specification.context,
                specification.slot(),
                specification.retention,
            )),
            specification,
            pool,
            backlog: Backlog::default(),
            mark: None,
            flushed: 0,
        }
    }

    /// What it has seen last; the receiver wakes at each pass, two seconds apart.
    #[must_use]
    pub fn observation(&self) -> watch::Receiver<Observation> {
        self.observation.subscribe()
    }

    /// Keeps the outbox until `shutdown` is cancelled. While the database is away it tries again, and the observation says so.
    pub async fn run(mut self, shutdown: CancellationToken) {
        // On the heap: the future is large, and it is part of its caller's.
        let keep = Box::pin(async {
            loop {
                let began = Instant::now();
                let more = self.pass().await.unwrap_or_else(|error| {
                    self.observation.send_modify(|observation| {
                        // Logged once, not every two seconds.
                        if observation.watched() {
                            tracing::warn!(%error, "the keeper cannot read the outbox's status; trying again");
                        }
                        observation.lose_contact();
                    });
                    false
                });
                let period = if more { BUSY_PERIOD } else { PERIOD };
                tokio::time::sleep_until(began + period).await;
            }
        });
        shutdown.run_until_cancelled(keep).await;
    }

    /// Reads the status once and removes rows; says whether there are more to remove.
    async fn pass(&mut self) -> Result<bool, sqlx::Error> {
        let mut connection = self.pool.acquire().await?;
        let pass = async |connection: &mut PgConnection| self.pass_on(connection).await;
        deadline::within(PASS_TIMEOUT, &mut connection, pass).await
    }

    async fn pass_on(&mut self, connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
        let status = Status::read(connection, &self.specification.slot()).await?;
        let changed = self.identity(connection, &status).await?;
        let backlog = self.backlog.rows(&status);
        self.observation
            .send_modify(|observation| observation.update(&status, backlog, changed.clone()));

        // A failed removal does not hide the status.
        let (outbox, held) = match self
            .trim_outbox(connection, &status, changed.is_some())
            .await
        {
            Ok((removed, held)) => (removed, held.map(str::to_owned)),
            Err(error) => (0, Some(error.to_string())),
        };
        let inbox = if status.has_inbox {
            rows::forget(connection, self.specification.retention.inbox()).await
        } else {
            Ok(0)
        };
        let held = held.or_else(|| inbox.as_ref().err().map(ToString::to_string));
        let inbox = inbox.unwrap_or_default();
        let marked = self.mark.as_ref().map_or(0, Mark::len);
        self.observation
            .send_modify(|observation| observation.add_removed(outbox, inbox, marked, held));
        Ok(outbox > 0 || inbox >= INBOX_AT_ONCE.unsigned_abs())
    }

    /// Compares the server with the one recorded, and records a first one. A difference stays until an operator [accepts](accept)
    /// it.
    async fn identity(
        &mut self,
        connection: &mut PgConnection,
        status: &Status,
    ) -> Result<Option<String>, sqlx::Error> {
        let went_back = status.flushed < self.flushed;
        let Some(remembered) = status.remembered() else {
            remember(connection).await?;
            self.flushed = status.flushed;
            return Ok(None);
        };
        if status.changed.is_some() {
            return Ok(status.changed.clone());
        }
        let Some(changed) = remembered.difference(status, went_back) else {
            self.flushed = status.flushed;
            return Ok(None);
        };
        tracing::error!(
            changed,
            "the outbox's database differs from the one recorded, so the connector's offsets are meaningless; read the outbox again \
             (`connect reread {}`), then run the command `accept-database`",
            self.specification.name()
        );
        // The conditions: an operator may have accepted it at this very moment.
        sqlx::query(
            "update outbox_identity set changed = $1
             where system_identifier = $2 and timeline = $3 and changed is null",
        )
        .bind(&changed)
        .bind(remembered.identifier)
        .bind(remembered.timeline)
        .execute(connection)
        .await?;
        self.flushed = status.flushed;
        Ok(Some(changed))
    }

    /// Removes outbox rows that are old and confirmed; says how many, and why not even those.
    async fn trim_outbox(
        &mut self,
        connection: &mut PgConnection,
        status: &Status,
        changed: bool,
    ) -> Result<(u64, Option<&'static str>), sqlx::Error> {
        let mark = self.mark.take();
        let sender = match status.sender() {
            Ok(_) if changed => return Ok((0, Some("the database has changed"))),
            Ok(sender) => sender,
            Err(why) => return Ok((0, Some(why))),
        };
        if let Some(mut mark) = mark {
            match mark.verdict(sender, status.confirmed) {
                Verdict::Wait => {
                    self.mark = Some(mark);
                    return Ok((0, None));
                }
                Verdict::Confirmed => {
                    let removed = rows::remove(connection, &mut mark).await?;
                    self.mark = Some(mark).filter(|mark| mark.len() > 0);
                    return Ok((removed, None));
                }
                Verdict::Void => {
                    tracing::debug!("marking old rows anew: another process reads the slot");
                }
            }
        }
        let slot = self.specification.slot();
        self.mark = rows::mark(connection, &slot, self.specification.retention.outbox()).await?;
        Ok((0, None))
    }
}

/// Records the present server as the outbox's own: what an operator does after a restore or a move, once Debezium has read the outbox again.
///
/// The connection's role is the keeper's. The keeper removes rows again from its next pass on.
///
/// ```no_run
/// # async fn run(keeper: &mut sqlx::PgConnection) -> Result<(), sqlx::Error> {
/// outbox::keeper::accept(keeper).await?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// The database's, such as a missing grant.
pub async fn accept(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    remember(connection).await
}

async fn remember(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let statement = format!(
        "insert into outbox_identity (system_identifier, timeline)
         select system_identifier, {} from pg_control_system()
         on conflict (single) do update set system_identifier = excluded.system_identifier,
                                          timeline = excluded.timeline, changed = null, remembered_at = now()",
        status::TIMELINE
    );
    sqlx::query(sqlx::AssertSqlSafe(statement))
        .execute(connection)
        .await?;
    Ok(())
}
