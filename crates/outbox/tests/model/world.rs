//! A world: the events, the topic and the bounds that one run of the checker explores, and the mistake seeded in it.

use super::set::{PARTITIONS, Set, offset, partition, slot};

/// How the handler behaves when it is given an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Behavior {
    Applies,
    /// The handler refuses the event by name. A redrive may apply it, or fail again.
    Poison,
    /// Like `Poison`, but the handler's error does not name the event.
    UnnamedPoison,
    /// The handler defers the event by name. A redrive may apply it, or fail again.
    Deferred,
    /// The handler fails for an unknown reason: always beside other messages, sometimes alone. The event never becomes a
    /// dead letter.
    Unknown,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Event {
    pub(crate) key: Option<usize>,
    pub(crate) behavior: Behavior,
}

/// The process that redrives dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Redriver {
    Operator,
    /// The listener's automatic retry: only deferred dead letters, and parked ones at the head of their key.
    Listener,
}

/// A mistake, or another way to do it, that is seeded in the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mistake {
    /// There are no epoch rows.
    NoEpoch,
    /// A superseded worker carries on: it neither rewinds nor claims again.
    IgnoresSuperseded,
    /// A superseded worker claims again, but does not rewind.
    ClaimsWithoutRewind,
    /// A parked message becomes a dead letter, but gets no row in the inbox.
    ParksWithoutInbox,
    /// The inbox is read first and written later, without a constraint that keeps a second row out.
    CheckThenInsert,
    /// A redrive does not lock the `blocked_key` row.
    RedriveWithoutLock,
    /// The offset is committed before the transaction.
    CommitsOffsetFirst,
    /// Each half of a bisected batch claims its partitions anew.
    HalvesClaim,
    /// A dead letter does not lock a `blocked_key` row that exists already: `on conflict do nothing`.
    IgnoresPresentKey,
    /// A blocked key whose row another transaction has locked counts as not blocked.
    IgnoresBusyKey,
    /// The offset after the last settled message is committed even if an earlier message is unsettled.
    CommitsPastUnsettled,
}

/// The bounds of a run, and what may happen within them.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) events: Vec<Event>,
    /// The events in each partition; an event that appears twice was sent twice.
    pub(crate) log: [Vec<usize>; PARTITIONS],
    /// Messages in a batch at most.
    pub(crate) max_batch: usize,
    pub(crate) redrivers: Vec<Redriver>,
    /// Operators may also discard dead letters.
    pub(crate) discards: bool,
    /// Retention deletes inbox rows of events that Kafka cannot deliver any more.
    pub(crate) retention: bool,
    /// A batch that is older than the inbox's retention is treated as superseded, once its epoch rows are locked.
    pub(crate) checks_age: bool,
    pub(crate) mistake: Option<Mistake>,
    /// Crashes, rebalances and aborted transactions at most.
    pub(crate) faults: usize,
}

impl World {
    pub(crate) fn has(&self, mistake: Mistake) -> bool {
        self.mistake == Some(mistake)
    }

    pub(crate) fn event(&self, slot: usize) -> usize {
        self.log[partition(slot)][offset(slot)]
    }

    pub(crate) fn key(&self, event: usize) -> Option<usize> {
        self.events[event].key
    }

    /// Every message, in the order of partitions and offsets.
    pub(crate) fn slots(&self) -> impl Iterator<Item = usize> {
        (0..PARTITIONS)
            .flat_map(|partition| (0..self.log[partition].len()).map(move |o| slot(partition, o)))
    }

    /// Events of the same key that precede `event` in its partition.
    pub(crate) fn before(&self, event: usize) -> Set {
        let Some(first) = self.slots().find(|slot| self.event(*slot) == event) else {
            return Set::default();
        };
        let before = slot(partition(first), 0)..first;
        before
            .map(|slot| self.event(slot))
            .filter(|other| self.key(event).is_some() && self.key(*other) == self.key(event))
            .collect()
    }
}
