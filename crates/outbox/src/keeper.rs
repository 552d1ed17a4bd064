//! Keeps an outbox: watches how far the connector is behind it, and removes rows that have done their work.
//!
//! Run one a database, in the service that owns the outbox, under a role of its own (see `migrations` of this
//! workspace for its grants). Several do no harm. What it sees is a [`watch`] for readiness, and numbers for a
//! monitoring system under names that begin with `outbox_`.

mod backlog;
mod observation;
mod rows;

use std::time::Duration;

use sqlx::{PgConnection, PgPool};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use observation::{Limits, Observation};

use crate::deadline;
use crate::specification::Specification;
use backlog::Backlog;
use observation::Seen;
use rows::{Mark, Verdict};

/// How often the slot is looked at.
const PERIOD: Duration = Duration::from_secs(2);
/// How often, while there is something to remove.
const BUSY_PERIOD: Duration = Duration::from_millis(200);
/// How long a look and what is removed after it may take.
const PASS_TIMEOUT: Duration = Duration::from_secs(60);
/// Rows that are removed in one transaction.
const CHUNK: i64 = 1_000;
/// Inbox rows that are removed at most before the slot is looked at again.
const INBOX_AT_ONCE: i64 = 20 * CHUNK;

/// See the [module](self).
pub struct Keeper {
    specification: Specification,
    pool: PgPool,
    observation: watch::Sender<Observation>,
    backlog: Backlog,
    mark: Option<Mark>,
    /// How long the log was on disk: a shorter one is another log.
    flushed: i64,
}

impl Keeper {
    /// A keeper of the outbox that `pool`, under the keeper's role, leads to. One connection is enough.
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

    /// What it saw last.
    #[must_use]
    pub fn observation(&self) -> watch::Receiver<Observation> {
        self.observation.subscribe()
    }

    /// Keeps the outbox until `shutdown` is cancelled. A database that is away is waited for.
    pub async fn run(mut self, shutdown: CancellationToken) {
        // On the heap: it is large, and callers have it within futures of their own.
        let keep = Box::pin(async {
            loop {
                let began = Instant::now();
                let more = self.pass().await.unwrap_or_else(|error| {
                    self.observation.send_modify(|observation| {
                        // Once, not every two seconds.
                        if observation.watched() {
                            tracing::warn!(%error, "the outbox cannot be watched; trying again");
                        }
                        observation.lose_sight();
                    });
                    false
                });
                let period = if more { BUSY_PERIOD } else { PERIOD };
                tokio::time::sleep_until(began + period).await;
            }
        });
        shutdown.run_until_cancelled(keep).await;
    }

    /// Looks once, and removes some of what may go; says whether there is more.
    async fn pass(&mut self) -> Result<bool, sqlx::Error> {
        let mut connection = self.pool.acquire().await?;
        let pass = async |connection: &mut PgConnection| self.pass_by(connection).await;
        deadline::within(PASS_TIMEOUT, &mut connection, pass).await
    }

    async fn pass_by(&mut self, connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
        let seen = Seen::look(connection, &self.specification.slot()).await?;
        let changed = self.identity(connection, &seen).await?;
        let backlog = self.backlog.rows(&seen);
        self.observation
            .send_modify(|observation| observation.see(&seen, backlog, changed.clone()));

        // What cannot be removed is no reason not to look.
        let (outbox, held) = match self.trim_outbox(connection, &seen, changed.is_some()).await {
            Ok((removed, held)) => (removed, held.map(str::to_owned)),
            Err(error) => (0, Some(error.to_string())),
        };
        let inbox = if seen.has_inbox {
            rows::forget(connection, self.specification.retention.inbox()).await
        } else {
            Ok(0)
        };
        let held = held.or_else(|| inbox.as_ref().err().map(ToString::to_string));
        let inbox = inbox.unwrap_or_default();
        let marked = self.mark.as_ref().map_or(0, Mark::len);
        self.observation
            .send_modify(|observation| observation.trimmed(outbox, inbox, marked, held));
        Ok(outbox > 0 || inbox >= INBOX_AT_ONCE.unsigned_abs())
    }

    /// Compares the server with the one remembered, and remembers what is new. What has changed stays so until somebody
    /// [accepts](accept) it.
    async fn identity(
        &mut self,
        connection: &mut PgConnection,
        seen: &Seen,
    ) -> Result<Option<String>, sqlx::Error> {
        let went_back = seen.flushed < self.flushed;
        let Some(remembered) = seen.remembered() else {
            remember(connection).await?;
            self.flushed = seen.flushed;
            return Ok(None);
        };
        if seen.changed.is_some() {
            return Ok(seen.changed.clone());
        }
        let Some(changed) = remembered.difference(seen, went_back) else {
            self.flushed = seen.flushed;
            return Ok(None);
        };
        tracing::error!(
            changed,
            "the outbox's database is not what it was: what the connector remembers of it means nothing; read the \
             outbox again, then accept the database"
        );
        // Not where somebody has accepted it this very moment.
        sqlx::query(
            "update outbox_identity set changed = $1
             where system_identifier = $2 and timeline = $3 and changed is null",
        )
        .bind(&changed)
        .bind(remembered.identifier)
        .bind(remembered.timeline)
        .execute(connection)
        .await?;
        self.flushed = seen.flushed;
        Ok(Some(changed))
    }

    /// Removes outbox rows that are old and confirmed; says how many, and why none may go.
    async fn trim_outbox(
        &mut self,
        connection: &mut PgConnection,
        seen: &Seen,
        changed: bool,
    ) -> Result<(u64, Option<&'static str>), sqlx::Error> {
        let mark = self.mark.take();
        let sender = match seen.sender() {
            Ok(_) if changed => return Ok((0, Some("the database has changed"))),
            Ok(sender) => sender,
            Err(why) => return Ok((0, Some(why))),
        };
        if let Some(mut mark) = mark {
            match mark.verdict(sender, seen.confirmed) {
                Verdict::Wait => {
                    self.mark = Some(mark);
                    return Ok((0, None));
                }
                Verdict::Confirmed => {
                    let removed = rows::remove(connection, &mut mark).await?;
                    self.mark = Some(mark).filter(|mark| mark.len() > 0);
                    return Ok((removed, None));
                }
                Verdict::Void => tracing::debug!("old rows are marked anew"),
            }
        }
        let slot = self.specification.slot();
        self.mark = rows::mark(connection, &slot, self.specification.retention.outbox()).await?;
        Ok((0, None))
    }
}

/// Takes the server for the outbox's own from now on.
///
/// # Errors
/// The database's.
pub async fn accept(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    remember(connection).await
}

async fn remember(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let statement = format!(
        "insert into outbox_identity (system_identifier, timeline)
         select system_identifier, {} from pg_control_system()
         on conflict (single) do update set system_identifier = excluded.system_identifier,
                                          timeline = excluded.timeline, changed = null, remembered_at = now()",
        observation::TIMELINE
    );
    sqlx::query(sqlx::AssertSqlSafe(statement))
        .execute(connection)
        .await?;
    Ok(())
}
