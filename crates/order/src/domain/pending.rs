//! Orders without an outcome, and when they are worth a warning.

use serde::Serialize;

/// Orders without an outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Pending {
    /// Their number.
    pub pending: i64,
    /// Those of them that have waited for too long.
    pub overdue: i64,
    /// How long the oldest has waited, in seconds.
    pub oldest_s: i64,
    /// Whether the numbers are old: the database did not answer in time.
    pub uncounted: bool,
}

impl Pending {
    /// The warning for readiness, if there is one.
    #[must_use]
    pub fn warning(&self, overdue_after_s: u32) -> Option<String> {
        let Self {
            overdue, oldest_s, ..
        } = self;
        if self.uncounted {
            return Some(
                "the service cannot count the orders without an outcome; its log says why"
                    .to_owned(),
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
        assert!(pending.warning(60).unwrap().contains("cannot count"));
    }
}
