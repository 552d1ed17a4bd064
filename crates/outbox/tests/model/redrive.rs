//! The state of a redrive.

use super::world::{Mistake, World};

/// The progress of a redrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Redrive {
    #[default]
    Idle,
    /// A dead letter is chosen, without a lock.
    Chosen { event: usize, discard: bool },
    /// The key's `blocked_key` row and the dead letter, still the head of its key, are locked.
    Locked { event: usize, discard: bool },
    /// The handler has succeeded, and the other dead letters of the key have been looked up.
    Handled {
        event: usize,
        discard: bool,
        /// The key has no other dead letter.
        last: bool,
    },
    /// The handler has failed and the transaction is rolled back; the new error is not recorded yet.
    Failed { event: usize },
}

impl Redrive {
    /// The dead letter that the redrive has locked, with its key's `blocked_key` row.
    pub(crate) fn locked(self) -> Option<usize> {
        match self {
            Self::Locked { event, .. } | Self::Handled { event, .. } => Some(event),
            Self::Idle | Self::Chosen { .. } | Self::Failed { .. } => None,
        }
    }

    /// Whether the redrive locks the `blocked_key` row of `key`.
    pub(crate) fn locks_key(self, world: &World, key: usize) -> bool {
        let event = self
            .locked()
            .filter(|_| !world.has(Mistake::RedriveWithoutLock));
        event.is_some_and(|event| world.key(event) == Some(key))
    }
}
