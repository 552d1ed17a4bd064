//! The statements of a batch's transaction.
//!
//! A statement is one step up to the first row that another transaction locks; it keeps the rows that it has locked by
//! then, and continues from there. Work of the process between two statements is no step.

use super::action::Action;
use super::database::{Database, Kind};
use super::handler::Outcome;
use super::in_flight::{Epoch, InFlight, Stage};
use super::set::{Set, offset, partition};
use super::state::State;
use super::transaction::Transaction;
use super::world::{Mistake, World};

/// The transactions of the other workers.
fn others(state: &State, w: usize) -> impl Iterator<Item = &Transaction> {
    let workers = state.workers.iter().enumerate();
    workers
        .filter(move |(other, _)| *other != w)
        .filter_map(|(_, worker)| worker.transaction())
}

/// Partitions of the current part.
fn partitions(in_flight: &InFlight) -> Set {
    in_flight.parts[0].iter().map(partition).collect()
}

/// Locks the epoch rows of the current part, and claims partitions without an epoch. Returns whether the statement got any
/// further.
pub(crate) fn lock_epochs(world: &World, state: &State, to: &mut State, w: usize) -> bool {
    let locked_by_others: Set =
        others(state, w).fold(Set::default(), |locked, other| locked | other.locked);
    to.change_in_flight(w, |in_flight| {
        let wanted = partitions(in_flight);
        let transaction = &mut in_flight.transaction;
        for partition in (wanted - transaction.locked).iter() {
            let this = Set::of(partition);
            if world.has(Mistake::NoEpoch) {
                transaction.held |= this;
                continue;
            }
            if locked_by_others.has(partition) {
                return;
            }
            transaction.locked |= this;
            match in_flight.epochs[partition] {
                Epoch::Unclaimed => {
                    transaction.claimed |= this;
                    transaction.held |= this;
                }
                Epoch::Current => transaction.held |= this,
                Epoch::Superseded => {}
            }
        }
        if world.checks_age && in_flight.aged {
            (transaction.held, transaction.claimed) = Default::default();
        }
        in_flight.stage = if transaction.held.is_empty() {
            Stage::Commit
        } else {
            Stage::InsertInbox
        };
    });
    to != state
}

/// `insert into inbox … on conflict do nothing`: waits for an event that another transaction has just inserted. Returns
/// whether the statement got any further.
pub(crate) fn insert_inbox(world: &World, state: &State, to: &mut State, w: usize) -> bool {
    let inbox = state.database.inbox;
    let inserted_by_others: Set =
        others(state, w).fold(Set::default(), |inserted, other| inserted | other.in_inbox) - inbox;
    let waits = !world.has(Mistake::CheckThenInsert);
    to.change_in_flight(w, |in_flight| {
        let events: Set = in_flight
            .held_messages()
            .map(|slot| world.event(slot))
            .collect();
        let transaction = &mut in_flight.transaction;
        for event in (events - transaction.in_inbox).iter() {
            if inserted_by_others.has(event) && waits {
                return;
            }
            transaction.in_inbox |= Set::of(event);
            if !inbox.has(event) {
                transaction.fresh |= Set::of(event);
            }
        }
        in_flight.stage = if transaction.fresh.is_empty() {
            Stage::Commit
        } else {
            Stage::LockKeys
        };
    });
    to != state
}

/// `select … from blocked_key … for update skip locked`: messages of a key whose row another transaction locks stay unsettled.
pub(crate) fn lock_keys(world: &World, state: &State, to: &mut State, w: usize) {
    to.change_in_flight(w, |in_flight| {
        let keys: Set = in_flight
            .transaction
            .fresh
            .iter()
            .filter_map(|event| world.key(event))
            .collect();
        let blocked = keys - (keys - state.database.blocked_keys);
        let busy: Set = blocked
            .iter()
            .filter(|key| key_is_locked(world, state, w, *key))
            .collect();
        if busy.is_empty() || world.has(Mistake::IgnoresBusyKey) {
            in_flight.transaction.locked_keys = blocked - busy;
            in_flight.stage = Stage::Handle;
        } else {
            in_flight.leave_keys(world, busy);
        }
    });
}

/// Whether another worker or a redrive locks the `blocked_key` row of `key`.
fn key_is_locked(world: &World, state: &State, w: usize, key: usize) -> bool {
    others(state, w).any(|other| other.locks_key(world, key))
        || state
            .redrives
            .iter()
            .any(|redrive| redrive.locks_key(world, key))
}

/// `insert into blocked_key … on conflict do update`: waits for a row that another transaction has inserted, and for an
/// existing row that it locks; with the mistake, `on conflict do nothing`, only for the former. Returns whether the
/// statement got any further.
pub(crate) fn block_keys(
    world: &World,
    state: &State,
    to: &mut State,
    w: usize,
    keys: Set,
) -> bool {
    let inserted_by_others = others(state, w).fold(Set::default(), |inserted, other| {
        inserted | other.inserted_keys
    });
    let present = state.database.blocked_keys;
    to.change_in_flight(w, |in_flight| {
        in_flight.stage = Stage::BlockKeys;
        let transaction = &mut in_flight.transaction;
        for key in (keys - transaction.upserted_keys).iter() {
            let locked =
                !world.has(Mistake::IgnoresPresentKey) && key_is_locked(world, state, w, key);
            if inserted_by_others.has(key) || locked {
                return;
            }
            transaction.upserted_keys |= Set::of(key);
            if !present.has(key) {
                transaction.inserted_keys |= Set::of(key);
            }
        }
        in_flight.stage = Stage::Commit;
    });
    to != state
}

/// Commits the transaction. A claim supersedes the other workers.
pub(crate) fn commit(
    world: &World,
    state: &State,
    w: usize,
    outcome: Outcome,
    add: &mut impl FnMut(Action, bool, State),
) {
    let mut to = state.clone();
    let Some(in_flight) = &state.workers[w].in_flight else {
        return;
    };
    let transaction = in_flight.transaction;
    write(world, &mut to.database, &transaction, outcome);
    supersede_others(&mut to, w, transaction.claimed);
    let mut unacknowledged = to.clone();
    unacknowledged.change_in_flight(w, InFlight::fail);
    to.change_in_flight(w, |in_flight| {
        in_flight.superseded |= partitions(in_flight) - transaction.held;
        for slot in in_flight.parts[0]
            .iter()
            .filter(|slot| transaction.held.has(partition(*slot)))
        {
            let to_commit = &mut in_flight.offsets_to_commit[partition(slot)];
            *to_commit = (*to_commit).max(Some(offset(slot) + 1));
        }
        for partition in transaction.claimed.iter() {
            in_flight.epochs[partition] = Epoch::Current;
        }
        in_flight.next_part();
        if in_flight.stage == Stage::LockEpochs && world.has(Mistake::HalvesClaim) {
            in_flight.epochs = Default::default();
        }
    });
    add(Action::Commit(w), false, to);
    add(Action::CommitUnacknowledged(w), true, unacknowledged);
}

fn supersede_others(to: &mut State, w: usize, claimed: Set) {
    let supersede = |epoch: &mut Epoch| {
        if *epoch == Epoch::Current {
            *epoch = Epoch::Superseded;
        }
    };
    let workers = to.workers.iter_mut().enumerate();
    for (_, worker) in workers.filter(|(other, _)| *other != w) {
        for partition in claimed.iter() {
            worker.assigned[partition]
                .iter_mut()
                .for_each(|assignment| supersede(&mut assignment.epoch));
            worker
                .in_flight
                .iter_mut()
                .for_each(|in_flight| supersede(&mut in_flight.epochs[partition]));
        }
    }
}

fn write(world: &World, database: &mut Database, transaction: &Transaction, outcome: Outcome) {
    database.apply(outcome.applied);
    let mut in_inbox = transaction.in_inbox;
    for dead_letter in outcome.dead_letters {
        if world.has(Mistake::ParksWithoutInbox) && dead_letter.kind == Kind::Parked {
            in_inbox = in_inbox - Set::of(dead_letter.event);
        }
        if database.dead_letter(dead_letter.event).is_none() {
            database.dead_letters.push(dead_letter);
        }
    }
    database.inbox |= in_inbox;
    database.blocked_keys |= transaction.inserted_keys;
}
