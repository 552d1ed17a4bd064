//! How many rows of an outbox the connector has not confirmed.
//!
//! PostgreSQL has no such number: a slot confirms positions of the log, and a row does not know its own. Counting rows would read the
//! table each time. So the keeper samples pairs of position and last `seq`, and subtracts.

use std::collections::VecDeque;

use super::status::Status;

/// The most samples. With one more, every second one goes, and from then on every second one is taken.
const MOST: usize = 256;

/// The values of `seq` at positions of the log. A row has no position of its own, so the backlog is counted from the latest sample
/// that the slot has confirmed; it is too high by at most the rows between two samples that were kept.
#[derive(Debug)]
pub(super) struct Backlog {
    samples: VecDeque<(i64, i64)>,
    stride: u32,
    /// Samples not taken since the last one that was.
    skipped: u32,
}

impl Default for Backlog {
    fn default() -> Self {
        Self {
            samples: VecDeque::new(),
            stride: 1,
            skipped: 0,
        }
    }
}

impl Backlog {
    /// Rows that the slot has not confirmed; unknown until it has confirmed the position of a sample.
    pub(super) fn rows(&mut self, status: &Status) -> Option<i64> {
        let seq = status.last_seq?;
        self.sample(status.position, seq);
        let confirmed = status.confirmed?;
        let is_confirmed = |sample: &(i64, i64)| sample.0 <= confirmed;
        while self.samples.get(1).is_some_and(is_confirmed) {
            self.samples.pop_front();
        }
        if self.samples.len() <= MOST / 4 {
            self.stride = 1;
        }
        let known = self.samples.front().filter(|front| is_confirmed(front))?.1;
        Some(seq - known)
    }

    /// Takes a sample, or skips it while the connector is far behind: memory is bounded, precision gives way.
    fn sample(&mut self, position: i64, seq: i64) {
        self.skipped += 1;
        if self.skipped < self.stride {
            return;
        }
        self.skipped = 0;
        self.samples.push_back((position, seq));
        if self.samples.len() > MOST {
            let mut index = 0;
            self.samples.retain(|_| {
                index += 1;
                index % 2 == 1
            });
            self.stride *= 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(position: i64, seq: i64, confirmed: i64) -> Status {
        Status {
            position,
            last_seq: Some(seq),
            confirmed: Some(confirmed),
            ..Status::default()
        }
    }

    #[test]
    fn the_backlog_is_counted_from_the_latest_confirmed_sample() {
        let mut backlog = Backlog::default();
        assert_eq!(backlog.rows(&at(100, 10, 90)), None);
        assert_eq!(backlog.rows(&at(200, 15, 100)), Some(5));
        assert_eq!(backlog.rows(&at(300, 20, 150)), Some(10));
        assert_eq!(backlog.rows(&at(400, 20, 399)), Some(0));
        assert_eq!(backlog.rows(&at(500, 21, 400)), Some(1));
    }

    #[test]
    fn memory_is_bounded_however_long_the_connector_is_away() {
        let mut backlog = Backlog::default();
        backlog.rows(&at(1, 0, 1));
        for position in 2..10_000 {
            assert_eq!(
                backlog.rows(&at(position, position - 1, 1)),
                Some(position - 1)
            );
        }
        assert!(backlog.samples.len() <= MOST);
        let left = backlog.rows(&at(10_000, 9_999, 5_000)).unwrap();
        assert!((4_999..5_100).contains(&left), "{left}");
    }
}
