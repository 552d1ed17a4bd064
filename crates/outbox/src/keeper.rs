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

use crate::specification::Specification;
use backlog::Backlog;
use observation::Seen;
use rows::Mark;

/// How often the slot is looked at.
const PERIOD: Duration = Duration::from_secs(2);
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
    /// The latest position of the log that was seen: an earlier one is another log.
    latest: i64,
}

impl Keeper {
    /// A keeper of the outbox that `pool`, under the keeper's role, leads to. One connection is enough.
    #[must_use]
    pub fn new(specification: Specification, pool: PgPool) -> Self {
        Self {
            observation: watch::Sender::new(Observation::new(&specification.context)),
            specification,
            pool,
            backlog: Backlog::default(),
            mark: None,
            latest: 0,
        }
    }

    /// What it saw last.
    #[must_use]
    pub fn observation(&self) -> watch::Receiver<Observation> {
        self.observation.subscribe()
    }

    /// Keeps the outbox until `shutdown` is cancelled. A database that is away is waited for.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let keep = async {
            loop {
                let began = Instant::now();
                if let Err(error) = self.pass().await {
                    let told = format!("the outbox cannot be watched: {error}");
                    self.observation.send_if_modified(|observation| {
                        let news = observation.unwatched.as_ref() != Some(&told);
                        if news {
                            tracing::warn!(%error, "the outbox cannot be watched; trying again");
                            observation.unwatched = Some(told);
                        }
                        news
                    });
                }
                tokio::time::sleep_until(began + PERIOD).await;
            }
        };
        shutdown.run_until_cancelled(keep).await;
    }

    /// Looks once, and removes what may go.
    ///
    /// # Errors
    /// The database's.
    pub async fn pass(&mut self) -> Result<(), sqlx::Error> {
        let mut connection = self.pool.acquire().await?;
        let seen = Seen::look(&mut connection, &self.specification.slot()).await?;
        let changed = self.identity(&mut connection, &seen).await?;
        let backlog = self.backlog.rows(&seen);
        let mut observation = self.observation.borrow().clone();
        observation.see(&seen, backlog, changed);
        self.observation.send_replace(observation.clone());

        let (outbox, held) = self
            .trim_outbox(&mut connection, &seen, &observation)
            .await?;
        let inbox = self.trim_inbox(&mut connection, &seen).await?;
        drop(connection);
        let marked = self.mark.as_ref().map_or(0, Mark::len);
        self.observation
            .send_modify(|observation| observation.trimmed(outbox, inbox, marked, held));
        Ok(())
    }

    /// Compares the server with the one remembered, and remembers what is new. What has changed stays so until somebody
    /// [accepts](accept) it.
    async fn identity(
        &mut self,
        connection: &mut PgConnection,
        seen: &Seen,
    ) -> Result<Option<String>, sqlx::Error> {
        let went_back = seen.position < self.latest;
        self.latest = seen.position;
        let Some(remembered) = seen.remembered() else {
            remember(connection).await?;
            return Ok(None);
        };
        if seen.changed.is_some() {
            return Ok(seen.changed.clone());
        }
        let Some(changed) = remembered.difference(seen, went_back) else {
            return Ok(None);
        };
        tracing::error!(
            changed,
            "the outbox's database is not what it was: what the connector remembers of it means nothing; read the \
             outbox again, then accept the database"
        );
        sqlx::query("update outbox_identity set changed = $1")
            .bind(&changed)
            .execute(connection)
            .await?;
        Ok(Some(changed))
    }

    /// Removes outbox rows that are old and confirmed; says how many, and why none may go.
    async fn trim_outbox(
        &mut self,
        connection: &mut PgConnection,
        seen: &Seen,
        observation: &Observation,
    ) -> Result<(u64, Option<String>), sqlx::Error> {
        let sender = match (seen.sender(), &observation.changed) {
            (Ok(sender), None) => sender,
            (Err(why), _) => {
                self.mark = None;
                return Ok((0, Some(why.to_owned())));
            }
            (_, Some(_)) => {
                self.mark = None;
                return Ok((0, Some("the database has changed".to_owned())));
            }
        };
        let mut removed = 0;
        if let Some(mark) = self.mark.take() {
            if mark.sender != sender {
                // The slot may be a new one: nobody knows what it has confirmed of these rows.
                tracing::debug!("another reader of the slot; old rows are marked anew");
            } else if seen
                .confirmed
                .is_none_or(|confirmed| confirmed < mark.position)
            {
                self.mark = Some(mark);
                return Ok((0, None));
            } else {
                removed = rows::remove(connection, &mark).await?;
            }
        }
        let slot = self.specification.slot();
        self.mark = rows::mark(connection, &slot, self.specification.retention.outbox()).await?;
        Ok((removed, None))
    }

    async fn trim_inbox(
        &self,
        connection: &mut PgConnection,
        seen: &Seen,
    ) -> Result<u64, sqlx::Error> {
        if !seen.has_inbox {
            return Ok(0);
        }
        rows::forget(connection, self.specification.retention.inbox()).await
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
