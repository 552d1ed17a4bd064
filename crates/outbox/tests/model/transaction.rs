//! The transaction of a batch, statement by statement.
//!
//! A statement is one step up to where it has to wait for a row that another transaction holds; what it holds by then it
//! keeps, and goes on from there. What happens within the process between two statements is no step.

use super::action::Action;
use super::worker::{Hand, Known, Stage, in_hand};
use super::world::{DEPTH, Database, DeadLetter, Kind, Manner, Set, State, Variant, World};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Transaction {
    /// Epoch rows locked, the partitions held by them, and those of them claimed.
    pub(crate) locked: Set,
    pub(crate) held: Set,
    pub(crate) claimed: Set,
    /// Events entered into the inbox or found there, and those that were new.
    looked: Set,
    fresh: Set,
    /// `blocked_key` rows locked.
    blocked: Set,
    /// `blocked_key` rows gone through for new dead letters, and those that were new.
    dead_lettered: Set,
    inserted: Set,
}

impl Transaction {
    /// Whether it holds the `blocked_key` row of `key`.
    pub(crate) fn locks_key(&self, world: &World, key: usize) -> bool {
        let dead_lettered = !world.is(Variant::IgnoresPresentKey) && self.dead_lettered.has(key);
        self.blocked.has(key) || dead_lettered
    }
}

/// What a run of the handler, and of parking, comes to.
pub(crate) enum Run {
    Refused(usize),
    Failed,
    Done(Outcome),
}

#[derive(Default)]
pub(crate) struct Outcome {
    applied: Set,
    dead_letters: Vec<DeadLetter>,
    /// Keys of the new dead letters that block theirs.
    pub(crate) keys: Set,
    /// It may as well have failed, and nobody knows why.
    pub(crate) strange: bool,
}

pub(crate) fn run(world: &World, hand: &Hand) -> Run {
    let mut outcome = Outcome::default();
    let mut unseen = hand.transaction.fresh;
    let mut blocked = hand.transaction.blocked;
    for event in hand.messages().map(|slot| world.event(slot)) {
        // Taken out as it is met: a duplicate within the batch is the second to come.
        if !unseen.has(event) {
            continue;
        }
        unseen = unseen - Set::of(event);
        let key = world.key(event);
        let dead_letter = |kind| DeadLetter { event, kind };
        if key.is_some_and(|key| blocked.has(key)) {
            outcome.dead_letters.push(dead_letter(Kind::Parked));
        } else if hand.refused.has(event) {
            outcome.dead_letters.push(dead_letter(kind(world, event)));
            let key: Set = key.into_iter().collect();
            blocked |= key;
            outcome.keys |= key;
        } else {
            match world.events[event].manner {
                Manner::Applies => outcome.applied |= Set::of(event),
                Manner::Unnamed | Manner::Strange if hand.parts[0].len() > 1 => {
                    return Run::Failed;
                }
                Manner::Strange => {
                    outcome.applied |= Set::of(event);
                    outcome.strange = true;
                }
                _ => return Run::Refused(event),
            }
        }
    }
    Run::Done(outcome)
}

pub(crate) fn kind(world: &World, event: usize) -> Kind {
    if world.events[event].manner == Manner::Deferred {
        Kind::Deferred
    } else {
        Kind::Poison
    }
}

/// The transactions of the other workers.
fn others(state: &State, w: usize) -> impl Iterator<Item = &Transaction> {
    let workers = state.workers.iter().enumerate();
    workers
        .filter(move |(other, _)| *other != w)
        .filter_map(|(_, worker)| worker.transaction())
}

/// Whether the statement got any further.
pub(crate) fn lock_epochs(world: &World, state: &State, to: &mut State, w: usize) -> bool {
    let taken: Set = others(state, w).fold(Set::default(), |taken, other| taken | other.locked);
    in_hand(to, w, |hand| {
        let transaction = &mut hand.transaction;
        let wanted: Set = hand.parts[0].iter().map(|slot| slot / DEPTH).collect();
        for partition in (wanted - transaction.locked).iter() {
            let this = Set::of(partition);
            if world.is(Variant::NoEpoch) {
                transaction.held |= this;
                continue;
            }
            if taken.has(partition) {
                return;
            }
            transaction.locked |= this;
            match hand.known[partition] {
                Known::Unclaimed => {
                    transaction.claimed |= this;
                    transaction.held |= this;
                }
                Known::Current => transaction.held |= this,
                Known::Stale => {}
            }
        }
        if world.checks_age && hand.old {
            (transaction.held, transaction.claimed) = Default::default();
        }
        hand.stage = if transaction.held.is_empty() {
            Stage::Commit
        } else {
            Stage::Inbox
        };
    });
    to != state
}

pub(crate) fn enter_inbox(world: &World, state: &State, to: &mut State, w: usize) -> bool {
    let database = &state.database;
    let taken: Set =
        others(state, w).fold(Set::default(), |taken, other| taken | other.looked) - database.inbox;
    let checks = world.is(Variant::CheckThenInsert);
    in_hand(to, w, |hand| {
        let ids: Set = hand.messages().map(|slot| world.event(slot)).collect();
        let transaction = &mut hand.transaction;
        for event in (ids - transaction.looked).iter() {
            if taken.has(event) && !checks {
                return;
            }
            transaction.looked |= Set::of(event);
            if !database.inbox.has(event) {
                transaction.fresh |= Set::of(event);
            }
        }
        hand.stage = if transaction.fresh.is_empty() {
            Stage::Commit
        } else {
            Stage::Keys
        };
    });
    to != state
}

/// `select … for update skip locked`: what somebody else has locked is left over.
pub(crate) fn lock_keys(world: &World, state: &State, to: &mut State, w: usize) {
    in_hand(to, w, |hand| {
        let keys: Set = hand
            .transaction
            .fresh
            .iter()
            .filter_map(|event| world.key(event))
            .collect();
        let found = keys - (keys - state.database.blocked);
        let busy: Set = found
            .iter()
            .filter(|key| key_is_taken(world, state, w, *key))
            .collect();
        if busy.is_empty() || world.is(Variant::IgnoresBusyKey) {
            hand.transaction.blocked = found - busy;
            hand.stage = Stage::Handler;
        } else {
            hand.leave(world, busy);
        }
    });
}

/// Whether another worker or a redrive holds the `blocked_key` row of `key`.
fn key_is_taken(world: &World, state: &State, w: usize, key: usize) -> bool {
    others(state, w).any(|other| other.locks_key(world, key))
        || state
            .redrives
            .iter()
            .any(|redrive| redrive.locks_key(world, key))
}

/// `insert into blocked_key … on conflict do update`: waits for a row that is just being inserted, and for one that is there
/// and locked; with the mistake, `on conflict do nothing`, for the first only.
pub(crate) fn block_keys(
    world: &World,
    state: &State,
    to: &mut State,
    w: usize,
    keys: Set,
) -> bool {
    let inserting = others(state, w).fold(Set::default(), |taken, other| taken | other.inserted);
    let present = state.database.blocked;
    in_hand(to, w, |hand| {
        hand.stage = Stage::Block;
        let transaction = &mut hand.transaction;
        for key in (keys - transaction.dead_lettered).iter() {
            let waits = !world.is(Variant::IgnoresPresentKey) && key_is_taken(world, state, w, key);
            if inserting.has(key) || waits {
                return;
            }
            transaction.dead_lettered |= Set::of(key);
            if !present.has(key) {
                transaction.inserted |= Set::of(key);
            }
        }
        hand.stage = Stage::Commit;
    });
    to != state
}

pub(crate) fn commit(
    world: &World,
    state: &State,
    w: usize,
    outcome: Outcome,
    add: &mut impl FnMut(Action, bool, State),
) {
    let mut to = state.clone();
    let Some(hand) = &state.workers[w].hand else {
        return;
    };
    let transaction = hand.transaction;
    write(world, &mut to.database, &transaction, outcome);
    for (other, worker) in to.workers.iter_mut().enumerate() {
        for partition in transaction.claimed.iter() {
            let stale = |known: &mut Known| {
                if *known == Known::Current {
                    *known = Known::Stale;
                }
            };
            if other != w {
                worker.held[partition]
                    .iter_mut()
                    .for_each(|held| stale(&mut held.known));
                worker
                    .hand
                    .iter_mut()
                    .for_each(|hand| stale(&mut hand.known[partition]));
            }
        }
    }
    let mut unheard = to.clone();
    in_hand(&mut unheard, w, Hand::fail);
    in_hand(&mut to, w, |hand| {
        let wanted: Set = hand.parts[0].iter().map(|slot| slot / DEPTH).collect();
        hand.superseded |= wanted - transaction.held;
        for slot in hand.parts[0]
            .iter()
            .filter(|slot| transaction.held.has(slot / DEPTH))
        {
            let next = &mut hand.next[slot / DEPTH];
            *next = (*next).max(Some(slot % DEPTH + 1));
        }
        for partition in transaction.claimed.iter() {
            hand.known[partition] = Known::Current;
        }
        hand.go_on();
        if hand.stage == Stage::Epochs && world.is(Variant::HalvesClaim) {
            hand.known = Default::default();
        }
    });
    add(Action::Commit(w), false, to);
    add(Action::CommitUnheard(w), true, unheard);
}

fn write(world: &World, database: &mut Database, transaction: &Transaction, outcome: Outcome) {
    database.apply(outcome.applied);
    let mut settled = transaction.looked;
    for dead_letter in outcome.dead_letters {
        if world.is(Variant::ParksWithoutInbox) && dead_letter.kind == Kind::Parked {
            settled = settled - Set::of(dead_letter.event);
        }
        if database.dead_letter(dead_letter.event).is_none() {
            database.dead_letters.push(dead_letter);
        }
    }
    database.inbox |= settled;
    database.blocked |= transaction.inserted;
}
