//! Small sets of numbers, and the numbering of messages by partition and offset.

use std::ops::{BitOr, BitOrAssign, Sub};

pub(crate) const PARTITIONS: usize = 2;
/// Messages in a partition at most.
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
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let next = rest.trailing_zeros() as usize;
            rest &= rest.checked_sub(1)?;
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

/// The number of a message, from its partition and its offset.
pub(crate) fn slot(partition: usize, offset: usize) -> usize {
    partition * DEPTH + offset
}

/// The partition of a message.
pub(crate) fn partition(slot: usize) -> usize {
    slot / DEPTH
}

/// The offset of a message in its partition.
pub(crate) fn offset(slot: usize) -> usize {
    slot % DEPTH
}
