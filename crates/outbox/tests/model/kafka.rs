//! Kafka's part: who is assigned what, committed offsets, processes that end; and the inbox's retention.

use super::action::Action;
use super::redrive::Redrive;
use super::worker::{Hand, Held, Worker};
use super::world::{DEPTH, PARTITIONS, REDRIVERS, State, WORKERS, World};

pub(crate) fn steps(world: &World, state: &State, add: &mut impl FnMut(Action, bool, State)) {
    for w in 0..WORKERS {
        let worker = &state.workers[w];
        let owns = state.owner.contains(&Some(w));
        if worker.expelled {
            let mut to = state.clone();
            (0..PARTITIONS).for_each(|partition| to.workers[w].forget(partition));
            to.workers[w].expelled = false;
            add(Action::NoticeExpulsion(w), false, to);
        }
        if owns {
            // Its session is over. Requests that it still sends carry a generation that is not known any more.
            let mut to = state.clone();
            free(&mut to, w);
            to.workers[w].expelled = true;
            to.workers[w].sent = [None; PARTITIONS];
            add(Action::Expel(w), true, to);
        }
        if *worker != Worker::default() {
            let mut to = state.clone();
            free(&mut to, w);
            to.workers[w] = Worker::default();
            add(Action::Crash(w), true, to);
        }
        for partition in 0..PARTITIONS {
            partition_steps(world, state, w, partition, add);
        }
    }
    for r in (0..REDRIVERS).filter(|r| state.redrives[*r] != Redrive::Idle) {
        let mut to = state.clone();
        to.redrives[r] = Redrive::Idle;
        add(Action::CrashRedrive(r), true, to);
    }
    if world.retention {
        forget(world, state, add);
    }
}

fn free(state: &mut State, w: usize) {
    for owner in &mut state.owner {
        if *owner == Some(w) {
            *owner = None;
        }
    }
}

fn partition_steps(
    world: &World,
    state: &State,
    w: usize,
    partition: usize,
    add: &mut impl FnMut(Action, bool, State),
) {
    let worker = &state.workers[w];
    let next = state.committed[partition];
    let mut to = state.clone();
    match worker.held[partition] {
        None if state.owner[partition].is_none()
            && !worker.expelled
            && !world.log[partition].is_empty() =>
        {
            to.owner[partition] = Some(w);
            to.workers[w].held[partition] = Some(Held {
                next,
                ..Held::default()
            });
            add(Action::Assign(w, partition), false, to);
        }
        Some(held) if held.rewind && !worker.is_settling() => {
            to.workers[w].held[partition] = Some(Held {
                next,
                rewind: false,
                old: false,
                ..held
            });
            add(Action::Rewind(w, partition), false, to);
        }
        _ => {}
    }
    if state.owner[partition] == Some(w) {
        // A revocation that the worker hears of before anybody else gets the partition. What it sent before, it sent as
        // a member, and the group does not ask whose the partition is.
        let mut to = state.clone();
        to.owner[partition] = None;
        to.workers[w].forget(partition);
        add(Action::Revoke(w, partition), true, to);
    }
    if let Some(offset) = worker.sent[partition] {
        let mut to = state.clone();
        to.committed[partition] = offset;
        to.workers[w].sent[partition] = None;
        add(Action::CommitOffset(w, partition, offset), false, to);
    }
}

/// The inbox forgets an event that was settled so long ago that Kafka delivers it no more: every message of it is
/// committed, no member of the group is still at it, and no transaction is as old as that; and it has no dead letter. A worker
/// that has been given up may still have it in flight.
fn forget(world: &World, state: &State, add: &mut impl FnMut(Action, bool, State)) {
    let mut hands = state
        .workers
        .iter()
        .filter_map(|worker| worker.hand.as_ref());
    if hands.any(Hand::is_in_transaction) {
        return;
    }
    let database = &state.database;
    let has_no_dead_letter = |event: &usize| database.dead_letter(*event).is_none();
    for event in database.inbox.iter().filter(has_no_dead_letter) {
        let over = |slot: usize| {
            let (partition, offset) = (slot / DEPTH, slot % DEPTH);
            let members = state.workers.iter().filter(|worker| !worker.expelled);
            state.committed[partition] > offset
                && members.clone().all(|worker| {
                    worker.sent[partition].is_none_or(|sent| sent > offset)
                        && worker.held[partition].is_none_or(|held| held.next > offset)
                        && worker
                            .hand
                            .as_ref()
                            .is_none_or(|hand| !hand.whole.has(slot))
                })
        };
        let mut slots = world.slots().filter(|slot| world.event(*slot) == event);
        if slots.all(over) {
            let mut to = state.clone();
            to.database.inbox = to.database.inbox - [event].into_iter().collect();
            for worker in &mut to.workers {
                worker.hand.iter_mut().for_each(|hand| hand.old = true);
                let expelled = worker.expelled;
                worker
                    .held
                    .iter_mut()
                    .flatten()
                    .for_each(|held| held.old |= expelled);
            }
            add(Action::Forget(event), false, to);
        }
    }
}
