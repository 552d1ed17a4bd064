//! How many rows of an outbox the connector has not confirmed.

use std::collections::VecDeque;

use super::observation::Seen;

/// Samples that are kept; with more, every second one goes, and from then on only every second one is taken.
const MOST: usize = 256;

/// Where `seq` stood at positions of the log. A row has no position of its own, so the count is that of the latest
/// sample that the slot has confirmed: at most as many samples late as lie between two that were kept.
#[derive(Debug)]
pub(super) struct Backlog {
    samples: VecDeque<(i64, i64)>,
    stride: u32,
    passed_over: u32,
}

impl Default for Backlog {
    fn default() -> Self {
        Self {
            samples: VecDeque::new(),
            stride: 1,
            passed_over: 0,
        }
    }
}

impl Backlog {
    /// Rows not confirmed, as far as is known: not before the slot has confirmed a position that was sampled.
    pub(super) fn rows(&mut self, seen: &Seen) -> Option<i64> {
        let seq = seen.last_seq?;
        self.sample(seen.position, seq);
        let confirmed = seen.confirmed?;
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

    fn sample(&mut self, position: i64, seq: i64) {
        self.passed_over += 1;
        if self.passed_over < self.stride {
            return;
        }
        self.passed_over = 0;
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

    fn at(position: i64, seq: i64, confirmed: i64) -> Seen {
        Seen {
            position,
            last_seq: Some(seq),
            confirmed: Some(confirmed),
            ..Seen::default()
        }
    }

    #[test]
    fn rows_are_counted_from_the_last_sample_that_is_confirmed() {
        let mut backlog = Backlog::default();
        assert_eq!(backlog.rows(&at(100, 10, 90)), None);
        assert_eq!(backlog.rows(&at(200, 15, 100)), Some(5));
        assert_eq!(backlog.rows(&at(300, 20, 150)), Some(10));
        assert_eq!(backlog.rows(&at(400, 20, 399)), Some(0));
        assert_eq!(backlog.rows(&at(500, 21, 400)), Some(1));
    }

    #[test]
    fn a_connector_that_is_away_for_long_takes_no_memory_without_bound() {
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
