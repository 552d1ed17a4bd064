//! The state of a worker: its partitions, its offset commits on their way, and its in-flight batch.

use super::in_flight::{Epoch, InFlight, Stage};
use super::set::{PARTITIONS, Set};
use super::transaction::Transaction;

/// A partition that a worker believes to be assigned to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Assignment {
    /// The offset of the next message to take. A log never changes, so the buffer is no state.
    pub(crate) position: usize,
    pub(crate) epoch: Epoch,
    /// The worker is superseded and reads again from the committed offset.
    pub(crate) rewind: bool,
    /// The buffered messages may be older than the inbox's retention.
    pub(crate) aged: bool,
    /// The offset after the last settled message, while earlier messages are unsettled.
    pub(crate) offset_to_commit: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Worker {
    pub(crate) assigned: [Option<Assignment>; PARTITIONS],
    /// Offset commits on their way to Kafka.
    pub(crate) commits: [Option<usize>; PARTITIONS],
    /// The group has removed the worker, which has not noticed yet.
    pub(crate) session_expired: bool,
    pub(crate) in_flight: Option<InFlight>,
}

impl Worker {
    /// Removes a partition that was revoked.
    pub(crate) fn revoke(&mut self, partition: usize) {
        self.assigned[partition] = None;
        if let Some(in_flight) = &mut self.in_flight {
            in_flight.revoked |= Set::of(partition);
        }
    }

    pub(crate) fn transaction(&self) -> Option<&Transaction> {
        self.in_flight
            .as_ref()
            .map(|in_flight| &in_flight.transaction)
    }

    /// Sends an offset commit, unless the group would reject it.
    pub(crate) fn commit_offset(&mut self, partition: usize, offset: usize) {
        if !self.session_expired {
            self.commits[partition] = Some(offset);
        }
    }

    /// Whether the in-flight batch is being settled, rather than waiting for its retry.
    pub(crate) fn is_settling(&self) -> bool {
        let in_flight = self.in_flight.as_ref();
        in_flight.is_some_and(|in_flight| in_flight.stage != Stage::Waiting)
    }

    /// No message is unsettled: the next batch alone decides the offsets to commit.
    pub(crate) fn reset_offsets_to_commit(&mut self) {
        let assigned = self.assigned.iter_mut().flatten();
        assigned.for_each(|assignment| assignment.offset_to_commit = 0);
    }

    /// Whether the partition is assigned, and has been since the batch was taken.
    pub(crate) fn keeps(&self, partition: usize, revoked: Set) -> bool {
        self.assigned[partition].is_some() && !revoked.has(partition)
    }

    pub(crate) fn epochs(&self) -> [Epoch; PARTITIONS] {
        self.assigned
            .map(|assigned| assigned.map_or(Epoch::Unclaimed, |assignment| assignment.epoch))
    }
}
