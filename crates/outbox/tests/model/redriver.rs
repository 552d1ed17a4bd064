//! The steps of a redrive: the head of a key's dead letters goes through the handler again, or is discarded.

use super::action::Action;
use super::database::{DeadLetter, Kind};
use super::handler::kind;
use super::redrive::Redrive;
use super::set::Set;
use super::state::State;
use super::worker::Worker;
use super::world::{Behavior, Mistake, Redriver, World};

/// Whether the dead letter is the first of its key. One without a key waits for no other.
fn is_head(world: &World, state: &State, event: usize) -> bool {
    let key = world.key(event);
    let mut dead_letters = state.database.dead_letters.iter();
    let head = dead_letters.find(|dead_letter| {
        dead_letter.event == event || key.is_some() && world.key(dead_letter.event) == key
    });
    head.is_some_and(|head| head.event == event)
}

/// Whether a worker or another redrive locks the `blocked_key` row of `key`.
fn key_is_locked(world: &World, state: &State, r: usize, key: usize) -> bool {
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

/// Locks the `blocked_key` row and then the dead letter: none while another transaction locks one of them, otherwise whether
/// the dead letter exists and is the head of its key. The holder of the row finds the dead letter unlocked, so the two locks
/// are one step.
fn lock(world: &World, state: &State, r: usize, event: usize) -> Option<bool> {
    let key = world
        .key(event)
        .filter(|_| !world.has(Mistake::RedriveWithoutLock));
    let locked_by_others = key.is_some_and(|key| key_is_locked(world, state, r, key))
        || others(state, r).any(|other| other.locked() == Some(event));
    let is_there = || {
        key.is_none_or(|key| state.database.blocked_keys.has(key)) && is_head(world, state, event)
    };
    (!locked_by_others).then(is_there)
}

/// The steps of redriver `r`.
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
                    let chosen = |discard| Redrive::Chosen { event, discard };
                    go(Action::ChooseRedrive(r, event), chosen(false));
                    if operator && world.discards {
                        go(Action::ChooseDiscard(r, event), chosen(true));
                    }
                }
            }
        }
        Redrive::Chosen { event, discard } => match lock(world, state, r, event) {
            Some(true) => go(
                Action::LockDeadLetter(r, event),
                Redrive::Locked { event, discard },
            ),
            Some(false) => go(Action::FindNoHead(r), Redrive::Idle),
            None => {}
        },
        Redrive::Locked { event, discard } => {
            let key = world.key(event);
            let mut others = state
                .database
                .dead_letters
                .iter()
                .filter(|other| other.event != event);
            let last = key.is_some() && !others.any(|other| world.key(other.event) == key);
            go(
                Action::HandleDeadLetter(r, event, last),
                Redrive::Handled {
                    event,
                    discard,
                    last,
                },
            );
            if !discard && world.events[event].behavior != Behavior::Applies {
                go(Action::FailRedrive(r, event), Redrive::Failed { event });
            }
        }
        Redrive::Handled {
            event,
            discard,
            last,
        } => {
            let key = world.key(event).filter(|_| last);
            // Without the lock, the deletion of the row waits for the transaction that locks it.
            if key.is_none_or(|key| !key_is_locked(world, state, r, key)) {
                let mut to = state.clone();
                let done = Set::of(event);
                to.database
                    .dead_letters
                    .retain(|dead_letter| dead_letter.event != event);
                to.database.blocked_keys = to.database.blocked_keys - key.into_iter().collect();
                if discard {
                    to.database.discarded |= done;
                } else {
                    to.database.apply(done);
                }
                to.redrives[r] = Redrive::Idle;
                add(Action::CommitRedrive(r, event), false, to);
            }
        }
        Redrive::Failed { event } => {
            let Some(is_there) = lock(world, state, r, event) else {
                return;
            };
            let mut to = state.clone();
            to.redrives[r] = Redrive::Idle;
            for dead_letter in to
                .database
                .dead_letters
                .iter_mut()
                .filter(|dead_letter| is_there && dead_letter.event == event)
            {
                dead_letter.kind = kind(world, event);
            }
            add(Action::RecordError(r, event), false, to);
        }
    }
}
