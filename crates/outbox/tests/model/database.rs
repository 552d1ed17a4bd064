//! The committed rows of the database.

use super::set::Set;

/// The kind of a dead letter.
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

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Database {
    /// Events with an inbox row.
    pub(crate) inbox: Set,
    /// In the order of their `seq`.
    pub(crate) dead_letters: Vec<DeadLetter>,
    /// Keys with a `blocked_key` row.
    pub(crate) blocked_keys: Set,
    pub(crate) applied: Set,
    pub(crate) applied_twice: Set,
    pub(crate) discarded: Set,
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

    /// Events that are applied, dead-lettered or discarded.
    pub(crate) fn settled(&self) -> Set {
        self.applied
            | self.discarded
            | self
                .dead_letters
                .iter()
                .map(|dead_letter| dead_letter.event)
                .collect()
    }
}
