//! Redrive: the head of a key's dead letters, through the handler again.

use super::action::Action;
use super::transaction::kind;
use super::worker::Worker;
use super::world::{DeadLetter, Kind, Manner, Redriver, Set, State, Variant, World};

/// How far a redrive has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Redrive {
    #[default]
    Idle,
    /// A dead letter was chosen, without a lock.
    Chosen { event: usize, drop: bool },
    /// The key's `blocked_key` row is locked, and so is the dead letter, which is still the head.
    Locked { event: usize, drop: bool },
    /// The handler is through, and the key's other dead letters have been looked for.
    Handled {
        event: usize,
        drop: bool,
        last: bool,
    },
    /// The handler has failed: rolled back, not yet written down.
    Failed { event: usize },
}

impl Redrive {
    /// The dead letter that it has locked, with its key's `blocked_key` row.
    fn locked(self) -> Option<usize> {
        match self {
            Self::Locked { event, .. } | Self::Handled { event, .. } => Some(event),
            Self::Idle | Self::Chosen { .. } | Self::Failed { .. } => None,
        }
    }

    /// Whether it holds the `blocked_key` row of `key`.
    pub(crate) fn locks_key(self, world: &World, key: usize) -> bool {
        let event = self
            .locked()
            .filter(|_| !world.is(Variant::RedriveWithoutLock));
        event.is_some_and(|event| world.key(event) == Some(key))
    }
}

/// The next dead letter of its key; keyless ones wait for nobody.
fn is_head(world: &World, state: &State, event: usize) -> bool {
    let key = world.key(event);
    let mut dead_letters = state.database.dead_letters.iter();
    let head = dead_letters.find(|dead_letter| {
        dead_letter.event == event || key.is_some() && world.key(dead_letter.event) == key
    });
    head.is_some_and(|head| head.event == event)
}

fn key_is_taken(world: &World, state: &State, r: usize, key: usize) -> bool {
    let mut transactions = state.workers.iter().filter_map(Worker::transaction);
    transactions.any(|transaction| transaction.locks_key(world, key))
        || others(state, r).any(|other| other.locks_key(world, key))
}

fn others(state: &State, r: usize) -> impl Iterator<Item = Redrive> {
    let redrives = state.redrives.into_iter().enumerate();
    redrives
        .filter(move |(other, _)| *other != r)
        .map(|(_, redrive)| redrive)
}

/// What comes of locking the `blocked_key` row and then the dead letter, if neither is to be waited for: whether the dead letter is
/// there and the head. Who holds the row finds the dead letter free, so that the two locks are one step.
fn lock(world: &World, state: &State, r: usize, event: usize) -> Option<bool> {
    let key = world
        .key(event)
        .filter(|_| !world.is(Variant::RedriveWithoutLock));
    let taken = key.is_some_and(|key| key_is_taken(world, state, r, key))
        || others(state, r).any(|other| other.locked() == Some(event));
    let there =
        || key.is_none_or(|key| state.database.blocked.has(key)) && is_head(world, state, event);
    (!taken).then(there)
}

pub(crate) fn steps(
    world: &World,
    state: &State,
    r: usize,
    add: &mut impl FnMut(Action, bool, State),
) {
    let mut go = |action: Action, redrive: Redrive| {
        let mut to = state.clone();
        to.redrives[r] = redrive;
        add(action, false, to);
    };
    match state.redrives[r] {
        Redrive::Idle => {
            let operator = world.redrivers[r] == Redriver::Operator;
            for DeadLetter { event, kind } in state.database.dead_letters.iter().copied() {
                if is_head(world, state, event) && (operator || kind != Kind::Poison) {
                    go(
                        Action::Choose(r, event),
                        Redrive::Chosen { event, drop: false },
                    );
                    if operator && world.drops {
                        go(
                            Action::ChooseDrop(r, event),
                            Redrive::Chosen { event, drop: true },
                        );
                    }
                }
            }
        }
        Redrive::Chosen { event, drop } => match lock(world, state, r, event) {
            Some(true) => go(Action::Lock(r, event), Redrive::Locked { event, drop }),
            Some(false) => go(Action::NothingThere(r), Redrive::Idle),
            None => {}
        },
        Redrive::Locked { event, drop } => {
            let key = world.key(event);
            let mut others = state
                .database
                .dead_letters
                .iter()
                .filter(|other| other.event != event);
            let last = key.is_some() && !others.any(|other| world.key(other.event) == key);
            go(
                Action::Handle(r, event, last),
                Redrive::Handled { event, drop, last },
            );
            if !drop && world.events[event].manner != Manner::Applies {
                go(Action::FailAgain(r, event), Redrive::Failed { event });
            }
        }
        Redrive::Handled { event, drop, last } => {
            let key = world.key(event).filter(|_| last);
            // Without the lock, the removal of the row waits for whoever has it.
            if key.is_none_or(|key| !key_is_taken(world, state, r, key)) {
                let mut to = state.clone();
                let done = Set::of(event);
                to.database
                    .dead_letters
                    .retain(|dead_letter| dead_letter.event != event);
                to.database.blocked = to.database.blocked - key.into_iter().collect();
                if drop {
                    to.database.dropped |= done;
                } else {
                    to.database.apply(done);
                }
                to.redrives[r] = Redrive::Idle;
                add(Action::Redriven(r, event), false, to);
            }
        }
        Redrive::Failed { event } => {
            let Some(there) = lock(world, state, r, event) else {
                return;
            };
            let mut to = state.clone();
            to.redrives[r] = Redrive::Idle;
            for dead_letter in to
                .database
                .dead_letters
                .iter_mut()
                .filter(|dead_letter| there && dead_letter.event == event)
            {
                dead_letter.kind = kind(world, event);
            }
            add(Action::WriteDown(r, event), false, to);
        }
    }
}
