//! Whether the process has stood still for long, for example in a suspended virtual machine.
//!
//! The epoch keeps out a consumer that was superseded after it had claimed its partitions. A consumer that stands still *before*
//! it claims has only the inbox between its messages and those that others have settled since, and retention empties the inbox
//! after days (`tests/model.rs` shows how an event is then applied twice). So messages in memory do not outlive a long standstill.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// A standstill after which messages are read again: far longer than any bound of a working process, and far shorter than the
/// retention of an inbox, which is days.
const LONG: Duration = Duration::from_secs(3600);

/// [`LONG`], or in builds with debug assertions the seconds in `OUTBOX_STANDSTILL_S`, for tests.
fn long() -> Duration {
    #[cfg(debug_assertions)]
    if let Ok(seconds) = std::env::var("OUTBOX_STANDSTILL_S")
        && let Ok(seconds) = seconds.parse()
    {
        return Duration::from_secs(seconds);
    }
    LONG
}

/// A moment in nanoseconds since the machine started. Its clock also runs while the machine sleeps, which that of
/// [`std::time::Instant`] does not.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment(i128);

impl Moment {
    pub(super) fn now() -> Self {
        // It fails only for an unknown clock, and Linux has had this one since 2.6.39.
        let now = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from);
        Self(now.as_nanos().cast_signed())
    }

    /// Whether messages that were read then must be read again.
    pub(super) fn is_long_ago(self) -> bool {
        Self::now().0 - self.0 > long().as_nanos().cast_signed()
    }

    /// A moment before the machine started, if need be.
    #[cfg(test)]
    pub(super) fn long_ago() -> Self {
        Self(Self::now().0 - 2 * LONG.as_nanos().cast_signed())
    }
}
