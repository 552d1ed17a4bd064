//! The open transaction of a batch: the rows that it has locked and written.

use super::set::Set;
use super::world::{Mistake, World};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Transaction {
    /// Partitions whose epoch row is locked.
    pub(crate) locked: Set,
    /// Partitions that the worker holds by their epoch.
    pub(crate) held: Set,
    /// Partitions that this transaction claims.
    pub(crate) claimed: Set,
    /// Events that were inserted into the inbox or found there.
    pub(crate) in_inbox: Set,
    /// Events that were not in the inbox before.
    pub(crate) fresh: Set,
    /// Blocked keys whose `blocked_key` row is locked.
    pub(crate) locked_keys: Set,
    /// Keys of new dead letters whose `blocked_key` row was inserted or updated.
    pub(crate) upserted_keys: Set,
    /// Keys of new dead letters whose `blocked_key` row was inserted.
    pub(crate) inserted_keys: Set,
}

impl Transaction {
    /// Whether the transaction locks the `blocked_key` row of `key`.
    pub(crate) fn locks_key(&self, world: &World, key: usize) -> bool {
        let upserted = !world.has(Mistake::IgnoresPresentKey) && self.upserted_keys.has(key);
        self.locked_keys.has(key) || upserted
    }
}
