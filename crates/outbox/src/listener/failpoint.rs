//! Steps at which a test makes the process die, as if it were killed there.
//!
//! `OUTBOX_FAILPOINT=STEP` dies when the step is reached, `STEP:N` when it is reached for the Nth time. Of several,
//! `STEP:N,STEP:N`, each is counted from the one before it, and the process dies at the last: `DeadLettered,Committed` dies
//! once dead letters are committed. Builds without debug assertions have no failpoints.

/// The steps, in the order in which a batch takes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Messages are in the buffer.
    Received,
    /// A transaction has begun.
    Begun,
    /// The epochs of its partitions are locked.
    Held,
    /// Its events are in the inbox.
    Settled,
    /// The handler has returned.
    Handled,
    /// Dead letters are written, if there are any.
    DeadLettered,
    /// The outgoing events are appended.
    Appended,
    /// The transaction is committed.
    Committed,
    /// A part of a batch has failed and is rolled back.
    PartFailed,
    /// The offsets are sent to Kafka.
    OffsetsSent,
    /// A dead letter is locked.
    DeadLetterLocked,
    /// A dead letter's effects are written, and it is removed.
    DeadLetterRemoved,
    /// The failed attempt of a dead letter is recorded.
    DeadLetterStays,
}

#[cfg(debug_assertions)]
impl Step {
    /// Dies here, if the variable says so.
    pub(super) fn reached(self) {
        use std::sync::{LazyLock, Mutex, PoisonError};

        /// The last is the first to be reached.
        static LEFT: LazyLock<Mutex<Vec<(String, u32)>>> = LazyLock::new(|| {
            let asked = std::env::var("OUTBOX_FAILPOINT").unwrap_or_default();
            let steps = asked.rsplit(',').map(|step| {
                let (step, times) = step.split_once(':').unwrap_or((step, "1"));
                (step.to_owned(), times.parse().unwrap_or(1))
            });
            Mutex::new(steps.collect())
        });
        let mut left = LEFT.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((_, times)) = left
            .last_mut()
            .filter(|(step, _)| *step == format!("{self:?}"))
        else {
            return;
        };
        *times = times.saturating_sub(1);
        if *times > 0 {
            return;
        }
        left.pop();
        if left.is_empty() {
            // Nothing of the process runs after this: no destructor, no other thread.
            std::process::abort();
        }
    }
}

#[cfg(not(debug_assertions))]
impl Step {
    #[expect(clippy::unused_self, reason = "nothing dies in earnest")]
    pub(super) fn reached(self) {}
}
