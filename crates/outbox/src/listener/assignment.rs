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
//! No offset is committed, and no message taken, of a partition whose topic is not known yet (`identity.rs`).
//!
//! A position is the offset behind the last message that was taken into a batch, not the highest offset seen: when a topic is
//! deleted and recreated, offsets start again at 0, and a maximum would commit an offset that the new topic has not reached.

use std::collections::{BTreeMap, BTreeSet};

use super::batch::{Epochs, Settled};
use super::identity::{Identity, Recreated};
use super::lookup::{Lookup, Request};
use super::partition::Partition;
use super::topic_id::TopicId;
use crate::message::Message;

/// The offset of the next message to read, and the topic in which it was reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NextOffset {
    pub(super) offset: i64,
    pub(super) topic_id: Option<TopicId>,
}

/// What the listener knows of its partitions.
#[derive(Debug, Default)]
pub(super) struct Assignment {
    assigned: BTreeSet<Partition>,
    /// Under which each partition is held, once it was claimed.
    epochs: BTreeMap<Partition, i64>,
    /// The offset behind the last message that was taken into a batch. It falls when a topic is recreated.
    positions: BTreeMap<Partition, i64>,
    /// In which topics the positions were reached.
    identity: Identity,
    /// Rises with each change that makes a lookup useless.
    version: u64,
    /// Superseded while still assigned: to be read again from the committed offset.
    to_rewind: BTreeSet<Partition>,
    /// Revoked since the in-flight batch was taken, even if assigned again: the batch may not speak for them.
    revoked: BTreeSet<Partition>,
}

impl Assignment {
    /// Adds partitions that the group has assigned to this consumer.
    pub(super) fn assign(&mut self, partitions: BTreeSet<Partition>) {
        self.version += 1;
        self.assigned.extend(partitions);
    }

    /// Removes partitions that the group has taken away, or that were lost with the consumer.
    pub(super) fn revoke(&mut self, partitions: &BTreeSet<Partition>) {
        self.version += 1;
        for partition in partitions {
            self.identity.forget(partition);
        }
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

    /// Whether messages of a partition may be taken into a batch: its topic is known.
    pub(super) fn is_ready(&self, partition: &Partition) -> bool {
        !self.assigned.contains(partition) || self.identity.of(partition).is_some()
    }

    /// What to look up of these topics and of the assigned ones.
    pub(super) fn request(&self, topics: impl IntoIterator<Item = String>) -> Request {
        let assigned = self.assigned.iter().map(|partition| &partition.topic);
        let mut unknown = self.identity.unknown(&self.assigned);
        // Their positions are about to change.
        unknown.retain(|partition| !self.to_rewind.contains(partition));
        Request {
            version: self.version,
            topics: assigned.cloned().chain(topics).collect(),
            partitions: unknown,
        }
    }

    /// Follows a lookup. Returns the partitions that must be read from their beginning: their topic is another one now. One for an
    /// earlier assignment is of no use.
    pub(super) fn follow_lookup(&mut self, lookup: &Lookup) -> Vec<Partition> {
        if lookup.version != self.version {
            return Vec::new();
        }
        let recreated = self.identity.follow(lookup, &self.assigned);
        for partition in &recreated {
            self.epochs.remove(partition);
            self.positions.remove(partition);
            self.to_rewind.remove(partition);
        }
        recreated
    }

    /// The partitions that must be read from their beginning.
    pub(super) fn to_restart(&self) -> &BTreeMap<Partition, Recreated> {
        self.identity.to_restart()
    }

    /// Records that a partition is read from its beginning.
    pub(super) fn restarted(&mut self, partition: &Partition) {
        self.identity.restarted(partition);
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
    ) -> BTreeMap<Partition, NextOffset> {
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
    pub(super) fn offsets_to_commit(
        &self,
        unsettled: &[Message],
    ) -> BTreeMap<Partition, NextOffset> {
        let held = self.positions.iter();
        let held = held.filter(|(partition, _)| self.epochs.contains_key(*partition));
        let mut offsets: BTreeMap<Partition, NextOffset> = held
            .filter_map(|(partition, offset)| {
                let next = NextOffset {
                    offset: *offset,
                    topic_id: self.identity.of(partition)?.clone(),
                };
                Some((partition.clone(), next))
            })
            .collect();
        for message in unsettled {
            if let Some(next) = offsets.get_mut(&Partition::of(message)) {
                next.offset = message.at.offset.min(next.offset);
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
            self.identity.forget(partition);
            self.version += 1;
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
        self.version += 1;
    }

    /// Takes a partition's topic as known.
    #[cfg(test)]
    pub(super) fn verify(&mut self, partition: &Partition) {
        self.identity.verify(partition);
    }
}
