//! The times of one way in one round.

use std::time::Duration;

/// What one way took in one round.
pub(super) struct Taken {
    /// For each row sent alone, in ascending order.
    pub(super) alone: Vec<Duration>,
    /// For all rows sent at once.
    pub(super) burst: Duration,
}
