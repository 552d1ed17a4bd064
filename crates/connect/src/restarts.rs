//! When a connector that failed is restarted: at once, and then after waits that double.

use std::collections::BTreeMap;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::time::Instant;

/// The longest wait between two restarts. A connector with a wrong password must not hammer its database.
const RESTART_MAX: Duration = Duration::from_secs(60);
/// The waits after a restart; they double.
const RESTART_BACKOFF: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_secs(1))
    .with_max_delay(RESTART_MAX)
    .without_max_times();
/// How long a connector must run before its back-off starts anew.
const STEADY: Duration = Duration::from_secs(60);

/// The connectors that failed not long ago, by name.
#[derive(Debug, Default)]
pub(crate) struct Restarts(BTreeMap<String, Failing>);

#[derive(Debug)]
struct Failing {
    backoff: ExponentialBackoff,
    again: Instant,
    running_since: Option<Instant>,
}

impl Restarts {
    /// Records that the connector runs.
    pub(crate) fn runs(&mut self, name: &str, now: Instant) {
        if let Some(failing) = self.0.get_mut(name) {
            let since = *failing.running_since.get_or_insert(now);
            if now - since >= STEADY {
                self.0.remove(name);
            }
        }
    }

    /// Records that the connector is FAILED. If it is to be restarted now, returns the wait before its next restart.
    pub(crate) fn failed(&mut self, name: &str, now: Instant) -> Option<Duration> {
        let failing = self.0.entry(name.to_owned()).or_insert_with(|| Failing {
            backoff: RESTART_BACKOFF.build(),
            again: now,
            running_since: None,
        });
        failing.running_since = None;
        if now < failing.again {
            return None;
        }
        let wait = failing.backoff.next().unwrap_or(RESTART_MAX);
        failing.again = now + wait;
        Some(wait)
    }

    /// Forgets the connectors that `is_declared` does not know.
    pub(crate) fn retain(&mut self, is_declared: impl Fn(&str) -> bool) {
        self.0.retain(|name, _| is_declared(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_to_a_minute_and_start_anew_after_a_minute_of_running() {
        let mut restarts = Restarts::default();
        let mut now = Instant::now();
        let second = Duration::from_secs(1);
        for wait in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(restarts.failed("o", now), Some(second * wait));
            // A moment of running is no recovery.
            restarts.runs("o", now);
            assert_eq!(restarts.failed("o", now), None);
            now += second * wait;
        }
        restarts.runs("o", now);
        restarts.runs("o", now + STEADY);
        assert_eq!(restarts.failed("o", now + STEADY), Some(second));
    }
}
