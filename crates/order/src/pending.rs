//! Orders that wait for their outcome: where messages were lost, or a part is away, it shows here.

use std::time::Duration;

use metrics::gauge;
use serde::Serialize;
use sqlx::PgPool;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::db;

/// How often they are counted.
const PERIOD: Duration = Duration::from_secs(5);

/// How long counting may take.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Orders without an outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Pending {
    /// How many there are.
    pub pending: i64,
    /// Those among them that have waited for longer than they should.
    pub overdue: i64,
    /// How long the oldest has waited, in seconds.
    pub oldest_s: i64,
    /// Whether these are old numbers: the database did not count in time.
    pub uncounted: bool,
}

impl Pending {
    /// What is worth a look.
    #[must_use]
    pub fn warning(&self, overdue_after_s: u32) -> Option<String> {
        let Self {
            overdue, oldest_s, ..
        } = self;
        if self.uncounted {
            return Some(
                "orders without an outcome could not be counted; the log says why".to_owned(),
            );
        }
        (*overdue > 0).then(|| {
            format!(
                "overdue: {overdue}, pending for more than {overdue_after_s} s, the oldest for {oldest_s} s; if every part and \
                 connector is up and no listener warns (a circuit breaker) or has dead letters, messages were lost: read the outbox \
                 again (`connect reread order-outbox`)"
            )
        })
    }
}

/// Counts them until `shutdown` is cancelled; a database that is away is waited for.
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
                    tracing::warn!(%error, "pending orders not counted");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_says_how_many_wait_and_what_to_do() {
        let mut pending = Pending {
            pending: 3,
            overdue: 0,
            oldest_s: 59,
            uncounted: false,
        };
        assert_eq!(pending.warning(60), None);
        pending.overdue = 2;
        assert!(pending.warning(60).unwrap().contains("overdue: 2"));
        pending.uncounted = true;
        assert!(pending.warning(60).unwrap().contains("not be counted"));
    }
}
