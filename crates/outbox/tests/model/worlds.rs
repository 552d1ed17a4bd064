//! The worlds that the tests explore or vary.

use super::world::Behavior::{self, Applies, Poison, Unknown, UnnamedPoison};
use super::world::Redriver::Operator;
use super::world::{Event, World};

pub(crate) const fn keyed(key: usize, behavior: Behavior) -> Event {
    Event {
        key: Some(key),
        behavior,
    }
}

pub(crate) const fn keyless(behavior: Behavior) -> Event {
    Event {
        key: None,
        behavior,
    }
}

/// One partition: a poison event, and a later one of its key.
pub(crate) fn small() -> World {
    World {
        events: vec![keyed(0, Poison), keyed(0, Applies)],
        log: [vec![0, 1], vec![]],
        max_batch: 2,
        redrivers: vec![Operator],
        discards: false,
        retention: false,
        checks_age: true,
        mistake: None,
        faults: 1,
    }
}

/// One partition: a poison event, and two later ones of its key.
pub(crate) fn two_parked() -> World {
    World {
        events: vec![keyed(0, Poison), keyed(0, Applies), keyed(0, Applies)],
        log: [vec![0, 1, 2], vec![]],
        ..small()
    }
}

/// A message without a key that was sent twice, to different partitions.
pub(crate) fn sent_twice() -> World {
    World {
        events: vec![keyless(Poison), keyed(0, Applies)],
        log: [vec![0], vec![0, 1]],
        ..small()
    }
}

/// A key in two partitions, as after the topic was given more partitions.
pub(crate) fn key_in_two_partitions() -> World {
    World {
        events: vec![keyed(0, Poison), keyed(0, Poison), keyed(0, Applies)],
        log: [vec![0], vec![1, 2]],
        ..small()
    }
}

/// A batch with a poison event that only bisection can find.
pub(crate) fn bisected() -> World {
    World {
        events: vec![
            keyed(0, UnnamedPoison),
            keyed(1, Applies),
            keyed(0, Applies),
        ],
        log: [vec![0, 1, 2], vec![]],
        max_batch: 3,
        ..small()
    }
}

/// An event that fails for an unknown reason, one that is settled without it, and a later one of its key.
pub(crate) fn unknown_failure() -> World {
    World {
        events: vec![keyed(0, Unknown), keyless(Applies), keyed(0, Applies)],
        log: [vec![0, 1, 2], vec![]],
        redrivers: vec![],
        ..small()
    }
}
