//! The assigned partitions: their epochs, their positions, and what must be read again.

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
    pub(super) fn assign(&mut self, partitions: BTreeSet<Partition>) {
        self.assigned.extend(partitions);
    }

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

    pub(super) fn assigned(&self) -> &BTreeSet<Partition> {
        &self.assigned
    }

    /// Whether the in-flight batch may speak for a partition: assigned, and not revoked in between.
    pub(super) fn is_ours(&self, partition: &Partition) -> bool {
        self.assigned.contains(partition) && !self.revoked.contains(partition)
    }

    /// Records that messages are taken into a batch. What is left over of earlier ones is of partitions that are still ours.
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

    /// The offsets to commit of all held partitions: `unsettled` messages must be delivered again.
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

    /// Records that another consumer has claimed a partition; it is to be read again, and claimed again.
    pub(super) fn supersede(&mut self, partition: Partition) {
        if self.is_ours(&partition) {
            self.epochs.remove(&partition);
            self.positions.remove(&partition);
            self.to_rewind.insert(partition);
        }
    }

    /// The partitions that must be read again from their committed offsets.
    pub(super) fn to_rewind(&self) -> &BTreeSet<Partition> {
        &self.to_rewind
    }

    pub(super) fn rewound(&mut self, partition: &Partition) {
        self.to_rewind.remove(partition);
    }
}
