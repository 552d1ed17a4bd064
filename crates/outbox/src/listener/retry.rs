//! Automatic retries of dead letters: when the next one follows, and when they end.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::backoff::Backoff;
use crate::duration;

/// When the listener retries a deferred or unknown dead letter by itself, and for how long.
///
/// The wait doubles from `initial_backoff` to `max_backoff`. After `max_elapsed` the dead letter is left to an operator.
///
/// ```
/// use std::time::Duration;
/// use outbox::listener::{Config, RetryPolicy};
///
/// let mut config = Config::new("127.0.0.1:9092", "payments", "payment");
/// // Half an hour instead of ten minutes.
/// config.retry = RetryPolicy { max_elapsed: Duration::from_secs(1800), ..RetryPolicy::default() };
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetryPolicy {
    /// Setting `initial_backoff_ms`, in milliseconds: the wait before the first automatic retry.
    #[serde(rename = "initial_backoff_ms", with = "duration::milliseconds")]
    pub initial_backoff: Duration,
    /// Setting `max_backoff_s`, in seconds: the longest wait between two automatic retries.
    #[serde(rename = "max_backoff_s", with = "duration::seconds")]
    pub max_backoff: Duration,
    /// Setting `max_elapsed_s`, in seconds: the sum of the waits after which automatic retries end.
    #[serde(rename = "max_elapsed_s", with = "duration::seconds")]
    pub max_elapsed: Duration,
}

impl Default for RetryPolicy {
    /// From 200 ms to 30 s, for ten minutes.
    fn default() -> Self {
        Self {
            initial_backoff: Duration::from_millis(200),
            max_backoff: Duration::from_secs(30),
            max_elapsed: Duration::from_secs(600),
        }
    }
}

/// The shortest wait that counts: how often the listener looks for dead letters whose `retry_at` has passed.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(500);

impl RetryPolicy {
    /// The wait before the first automatic retry.
    pub(super) fn first(self) -> Duration {
        self.wait(1)
    }

    /// The wait after `attempts` attempts; none once automatic retries have ended. Only the waits between attempts count: time
    /// during which a dead letter was parked, or its listener stopped, does not.
    pub(super) fn next(self, attempts: u32) -> Option<Duration> {
        let mut left = self.max_elapsed;
        for attempt in 1..=attempts {
            left = left.checked_sub(self.wait(attempt).max(POLL_INTERVAL))?;
        }
        Some(self.wait(attempts))
    }

    fn wait(self, attempt: u32) -> Duration {
        let (initial, max) = (
            self.initial_backoff,
            self.max_backoff.min(duration::LONGEST),
        );
        Backoff { initial, max }.after(attempt)
    }
}
