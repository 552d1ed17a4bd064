//! Whether the process has stood still. The epoch keeps out a consumer that was superseded after it had claimed its
//! partitions; one that stalls before has only the inbox between it and events that others have settled since, and the inbox
//! forgets in the end (`tests/model.rs` shows how that doubles). So what is in memory does not outlive a long standstill.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// After a standstill of this length what was read before is read again. Far longer than anything takes that goes on, and
/// far shorter than an inbox remembers (days).
const LONG: Duration = Duration::from_secs(3600);

/// [`LONG`], or what a test says in `OUTBOX_STANDSTILL_S`. Builds without debug assertions know nothing of that.
fn long() -> Duration {
    #[cfg(debug_assertions)]
    if let Ok(seconds) = std::env::var("OUTBOX_STANDSTILL_S")
        && let Ok(seconds) = seconds.parse()
    {
        return Duration::from_secs(seconds);
    }
    LONG
}

/// A moment, by a clock that also runs while the machine sleeps, as that of [`std::time::Instant`] does not: nanoseconds since
/// the machine started.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment(i128);

impl Moment {
    pub(super) fn now() -> Self {
        // It fails only for an unknown clock, and Linux has had this one since 2.6.39.
        let now = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from);
        Self(now.as_nanos().cast_signed())
    }

    /// Whether that is too long ago for what was read then.
    pub(super) fn is_long_ago(self) -> bool {
        Self::now().0 - self.0 > long().as_nanos().cast_signed()
    }

    /// A moment before the machine started, if need be.
    #[cfg(test)]
    pub(super) fn long_ago() -> Self {
        Self(Self::now().0 - 2 * LONG.as_nanos().cast_signed())
    }
}
