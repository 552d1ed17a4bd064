//! Steps at which a test can have the process die, as if it were killed there: `OUTBOX_FAILPOINT=STEP` or `STEP:N`, the Nth
//! time that the step is reached. Of several, `STEP:N,STEP:N`, each counts from where the one before it was reached, and it dies
//! at the last: at `DeadLettered,Committed` once dead letters are committed. Builds without debug assertions know nothing of it.

/// The steps, in the order in which a batch takes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Messages are in the buffer.
    Received,
    /// A transaction has begun.
    Begun,
    /// Its partitions are held.
    Held,
    /// Its events are in the inbox.
    Settled,
    /// The handler has done its work.
    Handled,
    /// Dead letters are written, if there are any.
    DeadLettered,
    /// The outgoing events are appended.
    Appended,
    /// The transaction is committed.
    Committed,
    /// A batch, or a part of it, has failed and is rolled back; it is run in parts.
    PartFailed,
    /// The offsets are on their way to Kafka.
    OffsetsSent,
    /// A dead letter is locked.
    DeadLetterLocked,
    /// A dead letter's effects are written, and it is removed.
    DeadLetterRemoved,
    /// A dead letter that failed again has its new error.
    DeadLetterStays,
}

#[cfg(debug_assertions)]
impl Step {
    /// Dies here, if that was asked for.
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
