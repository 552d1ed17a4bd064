//! Counts the orders without an outcome: lost messages, or a part that is down, show here.

use std::time::Duration;

use metrics::gauge;
use sqlx::PgPool;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::db;
use crate::domain::Pending;

/// How often they are counted.
const PERIOD: Duration = Duration::from_secs(5);

/// How long counting may take.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Counts them until `shutdown` is cancelled. A database that does not answer is asked again.
pub async fn count(
    pool: PgPool,
    overdue_after_s: u32,
    pending: watch::Sender<Pending>,
    shutdown: CancellationToken,
) {
    let count = async {
        loop {
            let counted = tokio::time::timeout(TIMEOUT, db::pending(&pool, overdue_after_s));
            match counted
                .await
                .unwrap_or_else(|elapsed| Err(sqlx::Error::Io(elapsed.into())))
            {
                Ok(counted) => {
                    show(counted);
                    pending.send_replace(counted);
                }
                Err(error) => {
                    tracing::warn!(%error, "pending orders could not be counted; counting them again");
                    pending.send_modify(|pending| pending.uncounted = true);
                }
            }
            tokio::time::sleep(PERIOD).await;
        }
    };
    shutdown.run_until_cancelled(count).await;
}

#[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
fn show(counted: Pending) {
    gauge!("orders_pending").set(counted.pending as f64);
    gauge!("orders_overdue").set(counted.overdue as f64);
    gauge!("orders_oldest_pending_seconds").set(counted.oldest_s as f64);
}
