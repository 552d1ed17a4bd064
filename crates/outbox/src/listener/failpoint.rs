//! Steps at which a test can have the process die, as if it were killed there: `OUTBOX_FAILPOINT=STEP` or `STEP:N`, the Nth
//! time that the step is reached. Builds without debug assertions know nothing of it.

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
    /// Letters are written.
    Lettered,
    /// The outgoing events are appended.
    Appended,
    /// The transaction is committed.
    Committed,
    /// The offsets are on their way to Kafka.
    OffsetsSent,
    /// A letter is locked.
    LetterLocked,
    /// A letter's effects are written, and it is removed.
    LetterRemoved,
}

#[cfg(debug_assertions)]
impl Step {
    /// Dies here, if that was asked for.
    pub(super) fn reached(self) {
        use std::sync::LazyLock;
        use std::sync::atomic::{AtomicU32, Ordering};

        static ASKED: LazyLock<Option<(String, u32)>> = LazyLock::new(|| {
            let asked = std::env::var("OUTBOX_FAILPOINT").ok()?;
            let (step, time) = asked.split_once(':').unwrap_or((&asked, "1"));
            Some((step.to_owned(), time.parse().unwrap_or(1)))
        });
        static REACHED: AtomicU32 = AtomicU32::new(0);
        if let Some((step, time)) = &*ASKED
            && *step == format!("{self:?}")
            && REACHED.fetch_add(1, Ordering::SeqCst) + 1 == *time
        {
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
