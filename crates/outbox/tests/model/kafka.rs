//! The steps of Kafka and of faults: assignment and revocation, committed offsets, crashes; and the retention of the inbox.

use super::action::Action;
use super::in_flight::InFlight;
use super::redrive::Redrive;
use super::set::{PARTITIONS, offset, partition};
use super::state::{REDRIVERS, State, WORKERS};
use super::worker::{Assignment, Worker};
use super::world::World;

pub(crate) fn steps(world: &World, state: &State, add: &mut impl FnMut(Action, bool, State)) {
    for w in 0..WORKERS {
        let worker = &state.workers[w];
        let owns = state.owner.contains(&Some(w));
        if worker.session_expired {
            let mut to = state.clone();
            (0..PARTITIONS).for_each(|partition| to.workers[w].revoke(partition));
            to.workers[w].session_expired = false;
            add(Action::NoticeExpiry(w), false, to);
        }
        if owns {
            // The group rejects the offset commits of an expired session: they carry an old generation.
            let mut to = state.clone();
            release_partitions(&mut to, w);
            to.workers[w].session_expired = true;
            to.workers[w].commits = [None; PARTITIONS];
            add(Action::ExpireSession(w), true, to);
        }
        if *worker != Worker::default() {
            let mut to = state.clone();
            release_partitions(&mut to, w);
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
        prune_inbox(world, state, add);
    }
}

fn release_partitions(state: &mut State, w: usize) {
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
    let position = state.committed[partition];
    let mut to = state.clone();
    match worker.assigned[partition] {
        None if state.owner[partition].is_none()
            && !worker.session_expired
            && !world.log[partition].is_empty() =>
        {
            to.owner[partition] = Some(w);
            to.workers[w].assigned[partition] = Some(Assignment {
                position,
                ..Assignment::default()
            });
            add(Action::Assign(w, partition), false, to);
        }
        Some(assignment) if assignment.rewind && !worker.is_settling() => {
            to.workers[w].assigned[partition] = Some(Assignment {
                position,
                rewind: false,
                aged: false,
                ..assignment
            });
            add(Action::Rewind(w, partition), false, to);
        }
        _ => {}
    }
    if state.owner[partition] == Some(w) {
        // The worker notices the revocation before the group assigns the partition again. It sent its offset commits as a
        // member, and the group does not check the owner of the partition: they may still arrive.
        let mut to = state.clone();
        to.owner[partition] = None;
        to.workers[w].revoke(partition);
        add(Action::Revoke(w, partition), true, to);
    }
    if let Some(offset) = worker.commits[partition] {
        let mut to = state.clone();
        to.committed[partition] = offset;
        to.workers[w].commits[partition] = None;
        add(Action::CommitOffset(w, partition, offset), false, to);
    }
}

/// Retention deletes the inbox row of an event that Kafka cannot deliver any more: its messages are committed, no member of
/// the group has them in flight, no transaction is as old as that, and the event has no dead letter. A worker whose session
/// has expired may still have it in flight.
fn prune_inbox(world: &World, state: &State, add: &mut impl FnMut(Action, bool, State)) {
    let mut batches = state
        .workers
        .iter()
        .filter_map(|worker| worker.in_flight.as_ref());
    if batches.any(InFlight::is_in_transaction) {
        return;
    }
    let database = &state.database;
    let has_no_dead_letter = |event: &usize| database.dead_letter(*event).is_none();
    for event in database.inbox.iter().filter(has_no_dead_letter) {
        let is_over = |slot: usize| {
            let (partition, offset) = (partition(slot), offset(slot));
            let members = state
                .workers
                .iter()
                .filter(|worker| !worker.session_expired);
            state.committed[partition] > offset
                && members.clone().all(|worker| {
                    worker.commits[partition].is_none_or(|commit| commit > offset)
                        && worker.assigned[partition]
                            .is_none_or(|assignment| assignment.position > offset)
                        && worker
                            .in_flight
                            .as_ref()
                            .is_none_or(|in_flight| !in_flight.messages.has(slot))
                })
        };
        let mut slots = world.slots().filter(|slot| world.event(*slot) == event);
        if slots.all(is_over) {
            let mut to = state.clone();
            to.database.inbox = to.database.inbox - [event].into_iter().collect();
            for worker in &mut to.workers {
                let in_flight = worker.in_flight.iter_mut();
                in_flight.for_each(|in_flight| in_flight.aged = true);
                let session_expired = worker.session_expired;
                let assigned = worker.assigned.iter_mut().flatten();
                assigned.for_each(|assignment| assignment.aged |= session_expired);
            }
            add(Action::PruneInbox(event), false, to);
        }
    }
}
