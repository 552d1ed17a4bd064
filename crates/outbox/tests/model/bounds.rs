//! What the tests begin with.

use super::world::Manner::{self, Applies, Poison, Strange, Unnamed};
use super::world::Redriver::Operator;
use super::world::{Event, World};

pub(crate) const fn keyed(key: usize, manner: Manner) -> Event {
    Event {
        key: Some(key),
        manner,
    }
}

pub(crate) const fn keyless(manner: Manner) -> Event {
    Event { key: None, manner }
}

/// One partition: a poisoned event, and one of its key behind it.
pub(crate) fn small() -> World {
    World {
        events: vec![keyed(0, Poison), keyed(0, Applies)],
        log: [vec![0, 1], vec![]],
        batch: 2,
        redrivers: vec![Operator],
        drops: false,
        retention: false,
        checks_age: true,
        variant: None,
        faults: 1,
    }
}

/// Two of its key behind it.
pub(crate) fn longer() -> World {
    World {
        events: vec![keyed(0, Poison), keyed(0, Applies), keyed(0, Applies)],
        log: [vec![0, 1, 2], vec![]],
        ..small()
    }
}

/// A message without a key that was sent twice: nothing says to the same partition.
pub(crate) fn sent_twice() -> World {
    World {
        events: vec![keyless(Poison), keyed(0, Applies)],
        log: [vec![0], vec![0, 1]],
        ..small()
    }
}

/// A key in two partitions: the topic was given more of them.
pub(crate) fn grown() -> World {
    World {
        events: vec![keyed(0, Poison), keyed(0, Poison), keyed(0, Applies)],
        log: [vec![0], vec![1, 2]],
        ..small()
    }
}

/// A batch that is split before it is known which event is at fault.
pub(crate) fn split() -> World {
    World {
        events: vec![keyed(0, Unnamed), keyed(1, Applies), keyed(0, Applies)],
        log: [vec![0, 1, 2], vec![]],
        batch: 3,
        ..small()
    }
}

/// One that fails for no known reason, before one that is settled without it, and one that waits behind it.
pub(crate) fn strange() -> World {
    World {
        events: vec![keyed(0, Strange), keyless(Applies), keyed(0, Applies)],
        log: [vec![0, 1, 2], vec![]],
        redrivers: vec![],
        ..small()
    }
}
