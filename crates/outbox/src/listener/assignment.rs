//! The assigned partitions: their epochs, their positions, and what must be read again.
//!
//! Three rules keep a batch from speaking for partitions that are no longer its own:
//!
//! - A partition that was revoked, even for a moment, loses its epoch and its position. The batch that is in flight meanwhile
//!   may still commit its transaction – the epoch row in the database decides that –, but it commits no offset for the partition
//!   and records no epoch ([`Assignment::is_ours`]).
//! - The next batch that has messages of a partition without an epoch claims it, never anything earlier: a claim that is sent
//!   before the first poll could supersede the consumer that really holds the partition.
//! - A superseded partition that is still assigned is read again from its committed offset before it is claimed again. Without
//!   that, messages that the other consumer left unsettled would never be applied (`tests/model.rs` shows how).
//!
//! A position is the offset behind the last message that was taken into a batch, not the highest offset seen: when a topic is
//! deleted and recreated, offsets start again at 0, and a maximum would commit an offset that the new topic has not reached.

use std::collections::{BTreeMap, BTreeSet};

use super::batch::{Epochs, Settled};
use super::partition::Partition;
use crate::message::Message;

/// What the listener knows of its partitions.
#[derive(Debug, Default)]
pub(super) struct Assignment {
    assigned: BTreeSet<Partition>,
    /// Under which each partition is held, once it was claimed.
    epochs: BTreeMap<Partition, i64>,
    /// The offset behind the last message that was taken into a batch. It falls when a topic is recreated.
    positions: BTreeMap<Partition, i64>,
    /// Superseded while still assigned: to be read again from the committed offset.
    to_rewind: BTreeSet<Partition>,
    /// Revoked since the in-flight batch was taken, even if assigned again: the batch may not speak for them.
    revoked: BTreeSet<Partition>,
}

impl Assignment {
    /// Adds partitions that the group has assigned to this consumer.
    pub(super) fn assign(&mut self, partitions: BTreeSet<Partition>) {
        self.assigned.extend(partitions);
    }

    /// Removes partitions that the group has taken away, or that were lost with the consumer.
    pub(super) fn revoke(&mut self, partitions: &BTreeSet<Partition>) {
        self.assigned
            .retain(|partition| !partitions.contains(partition));
        self.epochs
            .retain(|partition, _| !partitions.contains(partition));
        self.positions
            .retain(|partition, _| !partitions.contains(partition));
        self.to_rewind
            .retain(|partition| !partitions.contains(partition));
        self.revoked.extend(partitions.iter().cloned());
    }

    /// The partitions that are assigned now.
    pub(super) fn assigned(&self) -> &BTreeSet<Partition> {
        &self.assigned
    }

    /// Whether the in-flight batch may speak for a partition: assigned, and not revoked in between.
    pub(super) fn is_ours(&self, partition: &Partition) -> bool {
        self.assigned.contains(partition) && !self.revoked.contains(partition)
    }

    /// Records that messages are taken into a batch. Messages left over from earlier attempts are not among them: their partitions
    /// are still ours, and their positions are known.
    pub(super) fn take(&mut self, messages: &[Message]) {
        self.revoked.clear();
        for message in messages {
            let partition = Partition::of(message);
            if self.assigned.contains(&partition) {
                self.positions.insert(partition, message.at.offset + 1);
            }
        }
    }

    /// The known epochs of the messages' partitions.
    pub(super) fn epochs(&self, messages: &[Message]) -> Epochs {
        let partitions = messages.iter().map(Partition::of);
        partitions
            .map(|partition| {
                let epoch = self.epochs.get(&partition).copied();
                (partition, epoch)
            })
            .collect()
    }

    /// Records the epochs of what was settled, and returns the offsets to commit.
    pub(super) fn settle(
        &mut self,
        settled: &Settled,
        unsettled: &[Message],
    ) -> BTreeMap<Partition, i64> {
        for (partition, epoch) in &settled.held {
            if self.is_ours(partition) {
                self.epochs.insert(partition.clone(), *epoch);
            }
        }
        let mut offsets = self.offsets_to_commit(unsettled);
        offsets.retain(|partition, _| settled.held.contains_key(partition));
        offsets
    }

    /// The offsets to commit of all held partitions: Kafka must deliver `unsettled` messages again.
    pub(super) fn offsets_to_commit(&self, unsettled: &[Message]) -> BTreeMap<Partition, i64> {
        let mut offsets = self.positions.clone();
        offsets.retain(|partition, _| self.epochs.contains_key(partition));
        for message in unsettled {
            if let Some(offset) = offsets.get_mut(&Partition::of(message)) {
                *offset = message.at.offset.min(*offset);
            }
        }
        offsets
    }

    /// Records that another consumer has claimed a partition. Returns whether it is still ours, and so to be read again.
    pub(super) fn supersede(&mut self, partition: &Partition) -> bool {
        let is_ours = self.is_ours(partition);
        if is_ours {
            self.epochs.remove(partition);
            self.positions.remove(partition);
            self.to_rewind.insert(partition.clone());
        }
        is_ours
    }

    /// The partitions that must be read again from their committed offsets.
    pub(super) fn to_rewind(&self) -> &BTreeSet<Partition> {
        &self.to_rewind
    }

    /// Records that a partition is read again from its committed offset.
    pub(super) fn rewound(&mut self, partition: &Partition) {
        self.to_rewind.remove(partition);
    }
}
