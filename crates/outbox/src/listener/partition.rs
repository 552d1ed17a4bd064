//! Partitions and keys: what the listener holds and locks.
//!
//! Both belong to a topic: a listener reads several, and two topics may use the same key for different things. Where
//! they are locked, the SQL orders them itself, so that two transactions never wait for each other in a circle.

use crate::message::Message;

/// A partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Partition {
    pub(super) topic: String,
    pub(super) number: i32,
}

impl Partition {
    /// The partition that a message comes from.
    pub(super) fn of(message: &Message) -> Self {
        Self {
            topic: message.at.topic.clone(),
            number: message.at.partition,
        }
    }
}

/// A message's key within its topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    pub(super) topic: String,
    pub(super) bytes: Vec<u8>,
}

impl Key {
    /// A message's key, if it has one.
    pub(super) fn of(message: &Message) -> Option<Self> {
        Some(Self {
            topic: message.at.topic.clone(),
            bytes: message.key.clone()?,
        })
    }
}
