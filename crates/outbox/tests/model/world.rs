//! What there is: events, the topic, the database, the processes.

use std::ops::{BitOr, BitOrAssign, Sub};

use super::redrive::Redrive;
use super::worker::Worker;

pub(crate) const PARTITIONS: usize = 2;
pub(crate) const WORKERS: usize = 2;
pub(crate) const REDRIVERS: usize = 2;
/// Messages of a partition at most.
pub(crate) const DEPTH: usize = 8;

/// A set of small numbers: events, keys, partitions, or messages (their [`slot`]s).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Set(u16);

impl Set {
    pub(crate) fn of(member: usize) -> Self {
        Self(1 << member)
    }

    pub(crate) fn has(self, member: usize) -> bool {
        self.0 & (1 << member) != 0
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    pub(crate) fn contains(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = usize> {
        let mut left = self.0;
        std::iter::from_fn(move || {
            let next = left.trailing_zeros() as usize;
            left &= left.checked_sub(1)?;
            Some(next)
        })
    }
}

impl BitOr for Set {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Set {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl Sub for Set {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl FromIterator<usize> for Set {
    fn from_iter<I: IntoIterator<Item = usize>>(members: I) -> Self {
        members
            .into_iter()
            .fold(Self::default(), |set, member| set | Self::of(member))
    }
}

/// The number of a message: its partition and its offset.
pub(crate) fn slot(partition: usize, offset: usize) -> usize {
    partition * DEPTH + offset
}

/// How the handler takes an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Manner {
    Applies,
    /// Refused by name until it is redriven; a redrive may fail, too.
    Poison,
    /// The same, but the handler does not say which event it was.
    Unnamed,
    /// Refused by name as not yet due, until it is redriven.
    Deferred,
    /// Fails whatever it is tried with, and alone perhaps, for no reason that anybody knows. No dead letter is made of it.
    Strange,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Event {
    pub(crate) key: Option<usize>,
    pub(crate) manner: Manner,
}

/// Who redrives dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Redriver {
    Operator,
    /// Only deferred dead letters, and parked ones that have become the head of their key.
    Listener,
}

/// A mistake, or another way to do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Variant {
    /// No epoch rows at all.
    NoEpoch,
    /// A superseded consumer goes on: it neither seeks nor claims.
    GoesOn,
    /// A superseded consumer claims again, but does not seek.
    ClaimsWithoutSeek,
    /// A parked message gets a dead letter, but no row in the inbox.
    ParksWithoutInbox,
    /// The inbox is looked into first and written later, and has nothing that keeps a second row out.
    CheckThenInsert,
    /// Redrive does not lock the `blocked_key` row.
    RedriveWithoutLock,
    /// The offset is committed before the transaction.
    OffsetFirst,
    /// Each half of a batch that was split claims its partitions anew.
    HalvesClaim,
    /// The `blocked_key` row of a dead letter is not locked where it is there already: `on conflict do nothing`.
    IgnoresPresentKey,
    /// A key of which somebody has just locked the dead letters is taken for one that has none.
    IgnoresBusyKey,
    /// The offset after what is settled is committed whatever is left over before it.
    CommitsPastLeft,
}

/// What is to be checked: bounds, and what may happen within them.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) events: Vec<Event>,
    /// The events in each partition; one that is there twice was sent twice.
    pub(crate) log: [Vec<usize>; PARTITIONS],
    /// Messages of a batch at most.
    pub(crate) batch: usize,
    pub(crate) redrivers: Vec<Redriver>,
    /// Operators may also drop.
    pub(crate) drops: bool,
    /// The inbox forgets what cannot be delivered any more.
    pub(crate) retention: bool,
    /// Once the epoch rows are locked, a batch that was received so long ago that the inbox may have forgotten it is left out
    /// like one that is superseded.
    pub(crate) checks_age: bool,
    pub(crate) variant: Option<Variant>,
    /// Crashes, rebalances, and transactions that are aborted, at most.
    pub(crate) faults: usize,
}

impl World {
    pub(crate) fn is(&self, variant: Variant) -> bool {
        self.variant == Some(variant)
    }

    pub(crate) fn event(&self, slot: usize) -> usize {
        self.log[slot / DEPTH][slot % DEPTH]
    }

    pub(crate) fn key(&self, event: usize) -> Option<usize> {
        self.events[event].key
    }

    /// Every message, in the order of its partition.
    pub(crate) fn slots(&self) -> impl Iterator<Item = usize> {
        (0..PARTITIONS)
            .flat_map(|partition| (0..self.log[partition].len()).map(move |o| slot(partition, o)))
    }

    /// Events of the same key that come before `event` in its partition.
    fn before(&self, event: usize) -> Set {
        let Some(home) = self.slots().find(|slot| self.event(*slot) == event) else {
            return Set::default();
        };
        let before = (home / DEPTH * DEPTH)..home;
        before
            .map(|slot| self.event(slot))
            .filter(|other| self.key(event).is_some() && self.key(*other) == self.key(event))
            .collect()
    }
}

/// Why a dead letter is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Poison,
    Deferred,
    Parked,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct DeadLetter {
    pub(crate) event: usize,
    pub(crate) kind: Kind,
}

/// What is committed in the database.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Database {
    pub(crate) inbox: Set,
    /// In the order of their `seq`.
    pub(crate) dead_letters: Vec<DeadLetter>,
    /// Keys with a `blocked_key` row.
    pub(crate) blocked: Set,
    pub(crate) applied: Set,
    pub(crate) applied_twice: Set,
    pub(crate) dropped: Set,
}

impl Database {
    pub(crate) fn apply(&mut self, events: Set) {
        self.applied_twice |= events - (events - self.applied);
        self.applied |= events;
    }

    pub(crate) fn dead_letter(&self, event: usize) -> Option<&DeadLetter> {
        self.dead_letters
            .iter()
            .find(|dead_letter| dead_letter.event == event)
    }

    pub(crate) fn settled(&self) -> Set {
        self.applied
            | self.dropped
            | self
                .dead_letters
                .iter()
                .map(|dead_letter| dead_letter.event)
                .collect()
    }
}

/// All that is so at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    /// Kafka's: the offset of the next message to read, and who reads.
    pub(crate) committed: [usize; PARTITIONS],
    pub(crate) owner: [Option<usize>; PARTITIONS],
    pub(crate) database: Database,
    pub(crate) workers: [Worker; WORKERS],
    pub(crate) redrives: [Redrive; REDRIVERS],
    /// Faults that may still come.
    pub(crate) faults: usize,
}

impl State {
    pub(crate) fn broken(&self, world: &World) -> Option<&'static str> {
        let database = &self.database;
        if !database.applied_twice.is_empty() {
            return Some("double: an event's effect is applied twice");
        }
        let done = database.applied | database.dropped;
        let overtakes = |event: &usize| !done.contains(world.before(*event));
        if database.applied.iter().any(|event| overtakes(&event)) {
            return Some("order: an effect is applied before an earlier one of its key");
        }
        let passed = |slot: &usize| slot % DEPTH < self.committed[slot / DEPTH];
        let settled = database.settled();
        if world
            .slots()
            .filter(passed)
            .any(|slot| !settled.has(world.event(slot)))
        {
            return Some("lost: the committed offset has passed an event that nobody settled");
        }
        None
    }

    /// Whether a partition's owner has read it to its end. The committed offset may be behind: a request that was sent
    /// before a revocation and arrives late puts it back, until the next one.
    fn is_read(&self, world: &World, partition: usize) -> bool {
        let owner = self.owner[partition].and_then(|w| self.workers[w].held[partition]);
        let end = world.log[partition].len();
        end == 0 || owner.is_some_and(|held| held.next == end && !held.rewind)
    }

    /// Everything delivered and redriven: each event applied or dropped, nothing left over.
    pub(crate) fn settled(&self, world: &World) -> bool {
        let database = &self.database;
        (database.applied | database.dropped) == (0..world.events.len()).collect()
            && database.dead_letters.is_empty()
            && database.blocked.is_empty()
            && (0..PARTITIONS).all(|p| self.is_read(world, p))
            && self.workers.iter().all(|worker| worker.hand.is_none())
            && self
                .redrives
                .iter()
                .all(|redrive| *redrive == Redrive::Idle)
    }
}
