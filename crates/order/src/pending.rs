//! Counts the orders without an outcome: lost messages, or a part that is down, show here.

use std::time::Duration;

use metrics::gauge;
use outbox::deadline;
use sqlx::{PgConnection, PgPool};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::db;
use crate::domain::Pending;

/// The pause between two counts.
const PERIOD: Duration = Duration::from_secs(5);

/// How long the database may take to count them.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Counts them until `shutdown` is cancelled, and again after a failure.
pub async fn count(
    pool: PgPool,
    overdue_after_s: u32,
    pending: watch::Sender<Pending>,
    shutdown: CancellationToken,
) {
    let count = async {
        loop {
            match count_within(TIMEOUT, &pool, overdue_after_s).await {
                Ok(counted) => {
                    show(counted);
                    pending.send_replace(counted);
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot count the pending orders; counting them again");
                    pending.send_modify(|pending| pending.uncounted = true);
                }
            }
            tokio::time::sleep(PERIOD).await;
        }
    };
    // Its future is large.
    Box::pin(shutdown.run_until_cancelled(count)).await;
}

async fn count_within(
    bound: Duration,
    pool: &PgPool,
    overdue_after_s: u32,
) -> Result<Pending, sqlx::Error> {
    let mut connection = pool.acquire().await?;
    let count =
        async |connection: &mut PgConnection| db::pending(connection, overdue_after_s).await;
    deadline::within(bound, &mut connection, count).await
}

#[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
fn show(counted: Pending) {
    gauge!("orders_pending").set(counted.pending as f64);
    gauge!("orders_overdue").set(counted.overdue as f64);
    gauge!("orders_oldest_pending_seconds").set(counted.oldest_s as f64);
}

#[cfg(test)]
mod tests {
    use sqlx::postgres::PgPoolOptions;
    use sqlx::{ConnectOptions, Connection};
    use stack::testing::{Context, database};

    use super::*;
    use crate::config::Config;

    #[tokio::test]
    async fn a_connection_that_did_not_answer_in_time_is_not_used_again() {
        let database = database(Context::Order).await;
        let mut owner = database.options("order_owner").connect().await.unwrap();
        let roles = Config::default().roles().unwrap();
        db::migrate(&mut owner, &roles).await.unwrap();
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .connect_with(database.options("order_service"))
            .await
            .unwrap();
        let backend = async || -> i32 {
            let pid = sqlx::query_scalar("select pg_backend_pid()");
            pid.fetch_one(&pool).await.unwrap()
        };
        let silent = backend().await;

        let mut lock = owner.begin().await.unwrap();
        sqlx::query("lock table orders")
            .execute(&mut *lock)
            .await
            .unwrap();
        let error = count_within(Duration::from_millis(100), &pool, 60).await;
        let error = error.unwrap_err();
        assert!(matches!(error, sqlx::Error::Io(_)), "{error}");
        lock.rollback().await.unwrap();

        let counted = count_within(TIMEOUT, &pool, 60).await.unwrap();
        assert_eq!(counted, Pending::default());
        assert_ne!(backend().await, silent);
    }
}
