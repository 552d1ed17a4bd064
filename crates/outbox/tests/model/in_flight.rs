//! The in-flight batch of a worker, and its bisection.

use super::set::{PARTITIONS, Set, partition};
use super::transaction::Transaction;
use super::world::World;

/// The epoch of a partition as a worker knows it. Epochs only rise and are only compared for equality, so these three
/// cases replace the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Epoch {
    /// The worker knows no epoch: its next transaction claims the partition.
    #[default]
    Unclaimed,
    /// The worker's claim is the last one.
    Current,
    /// Another worker has claimed the partition since.
    Superseded,
}

/// The next step of the in-flight batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Stage {
    /// A part of the batch is unsettled; the poll loop has not noticed yet.
    Failed,
    /// The unsettled messages wait for their retry.
    Waiting,
    LockEpochs,
    InsertInbox,
    LockKeys,
    /// The handler, the dead letters, and the commit if no key is to be blocked.
    Handle,
    BlockKeys,
    Commit,
    /// The whole batch is settled; the poll loop has not noticed yet.
    Settled,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct InFlight {
    /// All messages of the batch.
    pub(crate) messages: Set,
    /// Parts of the bisection: that of the current transaction first, then those that follow.
    pub(crate) parts: [Set; 4],
    /// Messages that failed alone for an unknown reason, the messages that follow them in their key, and messages of busy
    /// keys.
    pub(crate) unsettled: Set,
    pub(crate) epochs: [Epoch; PARTITIONS],
    /// The batch may be older than the inbox's retention.
    pub(crate) aged: bool,
    /// Partitions revoked since the batch was taken.
    pub(crate) revoked: Set,
    /// Events that the handler refused: the next transaction moves them to dead letters.
    pub(crate) refused: Set,
    /// Partitions that another worker has claimed.
    pub(crate) superseded: Set,
    /// The offset after the last settled message of each partition.
    pub(crate) offsets_to_commit: [Option<usize>; PARTITIONS],
    pub(crate) stage: Stage,
    pub(crate) transaction: Transaction,
}

impl InFlight {
    pub(crate) fn new(messages: Set, epochs: [Epoch; PARTITIONS]) -> Self {
        Self {
            messages,
            parts: [messages, Set::default(), Set::default(), Set::default()],
            unsettled: Set::default(),
            epochs,
            aged: false,
            revoked: Set::default(),
            refused: Set::default(),
            superseded: Set::default(),
            offsets_to_commit: [None; PARTITIONS],
            stage: Stage::LockEpochs,
            transaction: Transaction::default(),
        }
    }

    pub(crate) fn is_in_transaction(&self) -> bool {
        self.transaction != Transaction::default()
    }

    /// Rolls back and ends the batch.
    pub(crate) fn fail(&mut self) {
        self.transaction = Transaction::default();
        self.stage = Stage::Failed;
    }

    /// Rolls back and begins the current part again.
    pub(crate) fn run_again(&mut self) {
        self.transaction = Transaction::default();
        self.stage = Stage::LockEpochs;
    }

    /// Splits the current part into two halves, each with a transaction of its own.
    pub(crate) fn bisect(&mut self) {
        let half = self.parts[0].len() / 2;
        let first: Set = self.parts[0].iter().take(half).collect();
        let second = self.parts[0] - first;
        self.parts = [first, second, self.parts[1], self.parts[2]];
        self.run_again();
    }

    /// Goes on with the next part, if there is one.
    pub(crate) fn next_part(&mut self) {
        self.parts[0] = Set::default();
        self.run_remaining();
    }

    /// Runs the parts that are not empty; ends the batch if there are none.
    fn run_remaining(&mut self) {
        let mut parts = self.parts.into_iter();
        self.parts = std::array::from_fn(|_| {
            let next = parts.find(|part| !part.is_empty());
            next.unwrap_or_default()
        });
        self.run_again();
        if self.parts[0].is_empty() {
            self.stage = if self.unsettled.is_empty() {
                Stage::Settled
            } else {
                Stage::Failed
            };
        }
    }

    /// Leaves the message of the current part unsettled, with the messages that follow it in its key.
    pub(crate) fn leave_part(&mut self, world: &World) {
        let first = self.parts[0];
        self.unsettled |= first;
        self.parts[0] = Set::default();
        let keys = first.iter().filter_map(|slot| world.key(world.event(slot)));
        self.leave_keys(world, keys.collect());
    }

    /// Leaves the messages of these keys unsettled.
    pub(crate) fn leave_keys(&mut self, world: &World, keys: Set) {
        let key = |slot: usize| world.key(world.event(slot));
        let is_of_keys = |slot: &usize| key(*slot).is_some_and(|key| keys.has(key));
        for part in &mut self.parts {
            let unsettled: Set = part.iter().filter(is_of_keys).collect();
            self.unsettled |= unsettled;
            *part = *part - unsettled;
        }
        self.run_remaining();
    }

    /// Messages of the current part in partitions that the transaction holds, in order.
    pub(crate) fn held_messages(&self) -> impl Iterator<Item = usize> {
        let held = self.transaction.held;
        self.parts[0]
            .iter()
            .filter(move |slot| held.has(partition(*slot)))
    }
}
