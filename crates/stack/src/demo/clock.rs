//! The clock that times the steps of an order.

use sqlx::types::chrono::{DateTime, Utc};

use crate::terminal::show;

/// Prints the end of each step, since the order was sent and since the step before.
pub(super) struct Clock {
    began: DateTime<Utc>,
    last: DateTime<Utc>,
}

impl Clock {
    /// A clock that starts at `began`.
    pub(super) fn starting(began: DateTime<Utc>) -> Self {
        Self { began, last: began }
    }

    /// Prints that `what` happened at a time.
    pub(super) fn tick(&mut self, at: DateTime<Utc>, what: &str) {
        // Kafka's timestamps are whole milliseconds, so a step may seem to end before it begins.
        let at = at.max(self.last);
        #[expect(clippy::cast_precision_loss, reason = "milliseconds for the terminal")]
        let millis = |from: DateTime<Utc>| {
            (at - from).num_microseconds().unwrap_or_default() as f64 / 1000.0
        };
        show!(
            "   {:>7.1} ms  (+{:.1})  {what}",
            millis(self.began),
            millis(self.last)
        );
        self.last = at;
    }
}
