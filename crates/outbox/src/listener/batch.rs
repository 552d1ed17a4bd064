//! A batch of messages, and what becomes of it.
//!
//! A [`Batch`] is the unit of the poll loop, a [`BatchPart`] the unit of a transaction: mostly they are the same, and where
//! something fails a batch is settled in several parts. [`Settled`] adds up what its parts have committed, [`Unsettled`] says
//! what is left.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use uuid::Uuid;

use super::clock::Moment;
use super::dead_letter_kind::Kind;
use super::partition::Partition;
use super::stop::Blocker;
use crate::message::Message;

/// The epoch under which each partition is held; none where it is still to be claimed.
pub(super) type Epochs = BTreeMap<Partition, Option<i64>>;

/// Messages that are settled together, from the buffer until all of them are settled.
#[derive(Debug, Clone)]
pub(super) struct Batch {
    /// In the order of their arrival.
    pub(super) messages: Vec<Message>,
    /// Of every partition among them.
    pub(super) epochs: Epochs,
    /// When it was taken from the buffer.
    pub(super) taken_at: Moment,
    /// The most messages in one transaction.
    pub(super) max_transaction: usize,
    /// Whether messages left over from earlier attempts leave no room for further ones.
    pub(super) is_full: bool,
}

/// Messages that become dead letters: the kind and the error, by the event's id.
pub(super) type Isolated = HashMap<Uuid, (Kind, String)>;

/// A part of a batch, to be settled in one transaction.
pub(super) struct BatchPart<'a> {
    pub(super) messages: Vec<&'a Message>,
    pub(super) epochs: &'a Epochs,
    pub(super) taken_at: Moment,
    /// Those of its messages that earlier attempts have isolated.
    pub(super) isolated: &'a Isolated,
    /// Whether to wait for keys that another transaction has locked.
    pub(super) waits_for_keys: bool,
}

/// What committed transactions have settled.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Settled {
    /// Partitions of which messages were settled, with their epochs.
    pub(super) held: BTreeMap<Partition, i64>,
    /// Partitions that another consumer has claimed since; nothing of them was written.
    pub(super) superseded: BTreeSet<Partition>,
    /// Events that the inbox did not know.
    pub(super) fresh: usize,
    /// Fresh events that the handler has applied.
    pub(super) applied: usize,
    /// Fresh events that became dead letters.
    pub(super) dead_lettered: usize,
    /// Dead letters that were parked behind an earlier one of their key.
    pub(super) parked: usize,
    /// Dead letters that the handler deferred.
    pub(super) deferred: usize,
    /// Dead letters that the circuit breaker counts: neither deferred, nor behind an earlier dead letter of their key, which
    /// would have parked them whatever they are.
    pub(super) counted: usize,
}

impl Settled {
    /// Adds what a later part of the same batch has settled.
    pub(super) fn add(&mut self, part: Self) {
        self.held.extend(part.held);
        for partition in part.superseded {
            self.held.remove(&partition);
            self.superseded.insert(partition);
        }
        self.fresh += part.fresh;
        self.applied += part.applied;
        self.dead_lettered += part.dead_lettered;
        self.parked += part.parked;
        self.deferred += part.deferred;
        self.counted += part.counted;
    }
}

/// A batch of which messages are left to settle.
#[derive(Debug)]
pub(super) struct Unsettled {
    /// Why.
    pub(super) blocker: Blocker,
    /// What its other parts have settled.
    pub(super) settled: Settled,
    /// The messages that are left, by their indices.
    pub(super) left: Vec<usize>,
}

#[cfg(test)]
impl Unsettled {
    /// The failure that blocks the rest.
    pub(super) fn failure(&self) -> &super::failure::Failure {
        match &self.blocker {
            Blocker::Failed(failure) => failure,
            blocker => panic!("{blocker:?} is no failure"),
        }
    }
}
