//! For how long a replication slot has not been read, or has been read without confirming anything.
//!
//! A slot is active as soon as a process connects to it. A task that fails each time it is restarted is connected for moments, and a
//! paused connector for ever; neither confirms anything. So the slot's confirmed position decides.

use std::time::{Duration, Instant};

use super::status::Status;

/// How long one process must read a slot to count as its reader, though the slot does not advance.
const STEADY: Duration = Duration::from_secs(20);

/// When the slot was read last, and when it advanced last.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    confirmed: Option<i64>,
    /// The process that reads the slot, and since when.
    reader: Option<(Option<i32>, Instant)>,
    /// Whether the slot had no reader since it advanced last.
    interrupted: bool,
    last_read: Instant,
    /// When it advanced last, or got its present reader.
    advanced: Instant,
}

impl Reading {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            confirmed: None,
            reader: None,
            interrupted: false,
            last_read: now,
            advanced: now,
        }
    }

    /// Takes the slot's next status.
    pub(super) fn see(&mut self, status: &Status, now: Instant) {
        let has_advanced = status.confirmed.is_some() && status.confirmed != self.confirmed;
        self.confirmed = status.confirmed;
        self.reader = match (status.active, self.reader) {
            (Some(true), Some(same)) if same.0 == status.sender_pid => Some(same),
            (Some(true), _) => Some((status.sender_pid, now)),
            _ => None,
        };
        let is_steady = self
            .reader
            .is_some_and(|(_, since)| now.duration_since(since) >= STEADY);
        if self.reader.is_none() {
            self.interrupted = !has_advanced || self.interrupted;
        } else if has_advanced || is_steady {
            self.interrupted = false;
        }
        if has_advanced || (self.reader.is_some() && !self.interrupted) {
            self.last_read = now;
        }
        if has_advanced || self.reader.is_none_or(|(_, since)| since == now) {
            self.advanced = now;
        }
    }

    /// For how long no process has read it.
    pub(super) fn unread(&self, now: Instant) -> Duration {
        now.duration_since(self.last_read)
    }

    /// For how long a process has read it without its advancing.
    pub(super) fn stalled(&self, now: Instant) -> Duration {
        now.duration_since(self.advanced)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A slot whose status is seen each two seconds.
    struct Seen {
        reading: Reading,
        now: Instant,
    }

    impl Seen {
        fn new() -> Self {
            let now = Instant::now();
            let reading = Reading::new(now);
            Self { reading, now }
        }

        /// Sees the slot for `seconds`; `reader` is the process that reads it.
        fn see(&mut self, seconds: u64, reader: Option<i32>, mut confirmed: impl FnMut() -> i64) {
            for _ in 0..seconds / 2 {
                self.now += Duration::from_secs(2);
                let status = Status {
                    active: Some(reader.is_some()),
                    sender_pid: reader,
                    confirmed: Some(confirmed()),
                    ..Status::default()
                };
                self.reading.see(&status, self.now);
            }
        }

        fn unread(&self) -> u64 {
            self.reading.unread(self.now).as_secs()
        }

        fn stalled(&self) -> u64 {
            self.reading.stalled(self.now).as_secs()
        }
    }

    #[test]
    fn a_task_that_fails_each_time_it_is_restarted_leaves_the_slot_unread() {
        let mut seen = Seen::new();
        seen.see(10, Some(1), || 5);
        assert_eq!(seen.unread(), 0);
        for restart in 2..12 {
            seen.see(10, None, || 5);
            seen.see(4, Some(restart), || 5);
        }
        assert_eq!(seen.unread(), 140);
        // It runs, and confirms.
        let mut at = 5;
        seen.see(4, Some(99), || {
            at += 1;
            at
        });
        assert_eq!((seen.unread(), seen.stalled()), (0, 0));
        seen.see(4, None, || at);
        assert_eq!(seen.unread(), 4);
    }

    #[test]
    fn a_paused_connector_reads_the_slot_and_stalls() {
        let mut seen = Seen::new();
        let mut at = 0;
        seen.see(60, Some(1), || {
            at += 1;
            at
        });
        assert_eq!((seen.unread(), seen.stalled()), (0, 0));
        seen.see(60, Some(1), || at);
        assert_eq!((seen.unread(), seen.stalled()), (0, 60));
        // A worker that restarts and is paused still.
        seen.see(10, None, || at);
        assert_eq!((seen.unread(), seen.stalled()), (10, 0));
        seen.see(60, Some(2), || at);
        assert_eq!((seen.unread(), seen.stalled()), (0, 58));
    }

    #[test]
    fn a_worker_that_confirms_once_a_minute_reads_all_the_time() {
        let mut seen = Seen::new();
        for minute in 0..5 {
            seen.see(60, Some(1), || minute);
            assert_eq!(seen.unread(), 0);
            assert!(seen.stalled() < 60);
        }
    }
}
