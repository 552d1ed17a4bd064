//! Exponential back-off.
//!
//! Not by the crate `backon`: its back-off is an iterator over the attempts of one future. Here the number of failures stands
//! in the state of a batch, beside a message, or in a row of `dead_letter`, and the wait after any number of them is computed
//! at once.

use std::time::Duration;

/// Waits that double from `initial` to `max`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Backoff {
    pub(super) initial: Duration,
    pub(super) max: Duration,
}

impl Backoff {
    /// The wait after so many failures, counted from 1.
    pub(super) fn after(self, failures: u32) -> Duration {
        self.initial
            .saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1)))
            .min(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_its_bound() {
        let backoff = Backoff {
            initial: Duration::from_millis(50),
            max: Duration::from_secs(2),
        };
        let waits = (1..=7).map(|failures| backoff.after(failures).as_millis());
        assert_eq!(
            waits.collect::<Vec<_>>(),
            [50, 100, 200, 400, 800, 1600, 2000]
        );
        assert_eq!(backoff.after(u32::MAX), backoff.max);
    }
}
