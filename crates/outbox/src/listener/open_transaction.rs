//! Kafka transactions that stand still: open, and hiding all messages behind their first one.
//!
//! The listener reads committed transactions only, and so no further than the last stable offset, where the oldest open transaction
//! begins. A producer that never ends its transaction hides everything behind it, also what others wrote. The high watermark shows
//! how much; the lag counts up to it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rdkafka::statistics::Partition as Statistics;

use super::partition::Partition;

/// An open Kafka transaction that hides messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OpenTransaction {
    pub(super) partition: Partition,
    /// The offset of its first message, which is the last stable offset.
    pub(super) offset: i64,
    /// Offsets from there to the high watermark.
    pub(super) hidden: u64,
    /// Since when the last stable offset has stood there, as far as the statistics show.
    pub(super) since: Instant,
}

impl OpenTransaction {
    /// For how long it has stood still.
    pub(super) fn age(&self) -> Duration {
        self.since.elapsed()
    }
}

/// The oldest open transaction of each partition.
#[derive(Debug, Default)]
pub(super) struct OpenTransactions(BTreeMap<Partition, OpenTransaction>);

impl OpenTransactions {
    /// Follows the statistics of a partition.
    pub(super) fn observe(&mut self, partition: &Partition, statistics: &Statistics, now: Instant) {
        let Statistics {
            hi_offset,
            ls_offset,
            next_offset,
            ..
        } = *statistics;
        // While there is more to fetch, both offsets may be as old as the last fetch.
        let is_open = statistics.fetch_state == "active"
            && (0..hi_offset).contains(&ls_offset)
            && next_offset >= ls_offset;
        if !is_open {
            self.0.remove(partition);
            return;
        }
        let known = self
            .0
            .get(partition)
            .filter(|open| open.offset == ls_offset);
        let open = OpenTransaction {
            partition: partition.clone(),
            offset: ls_offset,
            hidden: u64::try_from(hi_offset - ls_offset).unwrap_or_default(),
            since: known.map_or(now, |open| open.since),
        };
        self.0.insert(partition.clone(), open);
    }

    /// The one that has stood still for the longest time, of these partitions.
    pub(super) fn oldest(&self, partitions: &BTreeSet<Partition>) -> Option<OpenTransaction> {
        let open = self.0.values();
        let ours = open.filter(|open| partitions.contains(&open.partition));
        ours.min_by_key(|open| open.since).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition() -> Partition {
        Partition {
            topic: "payment".to_owned(),
            number: 3,
        }
    }

    fn statistics(next_offset: i64, ls_offset: i64, hi_offset: i64) -> Statistics {
        Statistics {
            fetch_state: "active".to_owned(),
            next_offset,
            ls_offset,
            hi_offset,
            ..Statistics::default()
        }
    }

    #[test]
    fn a_transaction_stands_still_as_long_as_the_last_stable_offset_does() {
        let (began, mut open) = (Instant::now(), OpenTransactions::default());
        let mut observe = |seconds: u64, statistics: Statistics| {
            let now = began + Duration::from_secs(seconds);
            open.observe(&partition(), &statistics, now);
            let oldest = open.oldest(&[partition()].into());
            oldest.map(|open| (open.offset, open.hidden, open.since))
        };
        assert_eq!(observe(0, statistics(-1001, -1001, -1001)), None);
        assert_eq!(observe(1, statistics(7, 7, 7)), None);
        let since = began + Duration::from_secs(2);
        assert_eq!(observe(2, statistics(7, 7, 9)), Some((7, 2, since)));
        assert_eq!(observe(9, statistics(7, 7, 12)), Some((7, 5, since)));
        // One transaction ended, and another one is open.
        let since = began + Duration::from_secs(10);
        assert_eq!(observe(10, statistics(11, 11, 12)), Some((11, 1, since)));
        // It fetches no more, and the offsets are old.
        assert_eq!(observe(11, statistics(8, 11, 12)), None);
        assert_eq!(observe(12, statistics(12, 12, 12)), None);
        assert_eq!(open.oldest(&BTreeSet::new()), None);
    }
}
