//! The steps of a worker's poll loop: take a batch, settle it statement by statement, and commit offsets.

use super::action::Action;
use super::handler::{Run, run};
use super::in_flight::{Epoch, InFlight, Stage};
use super::set::{DEPTH, PARTITIONS, Set, offset, partition, slot};
use super::state::State;
use super::statement::{block_keys, commit, insert_inbox, lock_epochs, lock_keys};
use super::world::{Mistake, World};

/// The steps of worker `w` with its in-flight batch.
pub(crate) fn steps(
    world: &World,
    state: &State,
    w: usize,
    add: &mut impl FnMut(Action, bool, State),
) {
    let Some(in_flight) = &state.workers[w].in_flight else {
        return;
    };
    let mut to = state.clone();
    match in_flight.stage {
        // `take` retries it.
        Stage::Waiting => {}
        Stage::LockEpochs => {
            if lock_epochs(world, state, &mut to, w) {
                add(Action::LockEpochs(w), false, to);
            }
        }
        Stage::InsertInbox => {
            if insert_inbox(world, state, &mut to, w) {
                add(Action::InsertInbox(w), false, to);
            }
        }
        Stage::LockKeys => {
            lock_keys(world, state, &mut to, w);
            add(Action::LockKeys(w), false, to);
        }
        Stage::Handle => match run(world, in_flight) {
            Run::Refused(event) => {
                to.change_in_flight(w, |in_flight| {
                    in_flight.refused |= Set::of(event);
                    in_flight.run_again();
                });
                add(Action::Refuse(w, event), false, to);
            }
            Run::Failed => {
                to.change_in_flight(w, InFlight::bisect);
                add(Action::Bisect(w), false, to);
            }
            Run::Done(outcome) if outcome.blocked_keys.is_empty() => {
                if outcome.may_fail {
                    to.change_in_flight(w, |in_flight| in_flight.leave_part(world));
                    add(Action::FailAlone(w), false, to);
                }
                commit(world, state, w, outcome, add);
            }
            Run::Done(outcome) => {
                if block_keys(world, state, &mut to, w, outcome.blocked_keys) {
                    add(Action::BlockKeys(w), false, to);
                }
            }
        },
        Stage::BlockKeys => {
            if let Run::Done(outcome) = run(world, in_flight)
                && block_keys(world, state, &mut to, w, outcome.blocked_keys)
            {
                add(Action::BlockKeys(w), false, to);
            }
        }
        Stage::Commit => {
            if let Run::Done(outcome) = run(world, in_flight) {
                commit(world, state, w, outcome, add);
            }
        }
        Stage::Settled | Stage::Failed => {
            finish(world, &mut to, w);
            add(Action::FinishBatch(w), false, to);
        }
    }
    if in_flight.is_in_transaction() {
        let mut to = state.clone();
        to.change_in_flight(w, InFlight::fail);
        add(Action::Abort(w), true, to);
    }
}

/// The poll loop takes the outcome of the batch: it commits offsets, rewinds superseded partitions, and keeps the unsettled
/// messages for a retry.
fn finish(world: &World, to: &mut State, w: usize) {
    let worker = &mut to.workers[w];
    let Some(in_flight) = worker.in_flight.take() else {
        return;
    };
    let not_done = in_flight
        .parts
        .iter()
        .fold(in_flight.unsettled, |not_done, part| not_done | *part);
    let unsettled: Set = not_done
        .iter()
        .filter(|slot| !in_flight.superseded.has(partition(*slot)))
        .collect();
    for p in (0..PARTITIONS).filter(|p| !in_flight.revoked.has(*p)) {
        let Some(assignment) = &mut worker.assigned[p] else {
            continue;
        };
        if in_flight.offsets_to_commit[p].is_some() {
            assignment.epoch = in_flight.epochs[p];
        }
        if in_flight.superseded.has(p) && !world.has(Mistake::IgnoresSuperseded) {
            assignment.epoch = Epoch::Unclaimed;
            assignment.rewind = !world.has(Mistake::ClaimsWithoutRewind);
            assignment.offset_to_commit = 0;
        }
        if let Some(to_commit) = in_flight.offsets_to_commit[p]
            && !world.has(Mistake::CommitsOffsetFirst)
        {
            let to_commit = assignment.offset_to_commit.max(to_commit);
            assignment.offset_to_commit = to_commit;
            let first_unsettled = unsettled.iter().find(|slot| partition(*slot) == p);
            let to_commit = first_unsettled
                .filter(|_| !world.has(Mistake::CommitsPastUnsettled))
                .map_or(to_commit, |first| to_commit.min(offset(first)));
            worker.commit_offset(p, to_commit);
        }
    }
    if unsettled.is_empty() {
        worker.reset_offsets_to_commit();
    } else {
        let InFlight { revoked, aged, .. } = in_flight;
        worker.in_flight = Some(InFlight {
            aged,
            revoked,
            stage: Stage::Waiting,
            ..InFlight::new(unsettled, Default::default())
        });
    }
}

/// Takes the next messages, with the unsettled ones of the last batch whose partitions the worker still has.
pub(crate) fn take(
    world: &World,
    state: &State,
    w: usize,
    add: &mut impl FnMut(Action, bool, State),
) {
    let worker = &state.workers[w];
    let mut assigned = worker.assigned.iter().flatten();
    if worker.is_settling() || assigned.any(|assignment| assignment.rewind) {
        return;
    }
    let waiting = worker.in_flight.as_ref();
    let unsettled: Set = waiting.map_or_else(Set::default, |in_flight| {
        let keeps = |slot: &usize| worker.keeps(partition(*slot), in_flight.revoked);
        in_flight.messages.iter().filter(keeps).collect()
    });
    let buffered = |partition: usize| {
        let position = worker.assigned[partition].map_or(DEPTH, |assignment| assignment.position);
        world.log[partition].len().saturating_sub(position)
    };
    for first in 0..=buffered(0) {
        for second in 0..=buffered(1) {
            let new = first + second;
            let is_empty = waiting.is_none() && new == 0;
            if is_empty || new > world.max_batch.saturating_sub(unsettled.len()) {
                continue;
            }
            let mut to = state.clone();
            let worker = &mut to.workers[w];
            let mut messages = unsettled;
            let mut aged = waiting.is_some_and(|in_flight| in_flight.aged);
            for (partition, count) in [first, second].into_iter().enumerate() {
                if let Some(assignment) = &mut worker.assigned[partition]
                    && count > 0
                {
                    messages |= (0..count)
                        .map(|o| slot(partition, assignment.position + o))
                        .collect();
                    assignment.position += count;
                    aged |= assignment.aged;
                    let position = assignment.position;
                    if world.has(Mistake::CommitsOffsetFirst) {
                        worker.commit_offset(partition, position);
                    }
                }
            }
            if unsettled.is_empty() {
                worker.reset_offsets_to_commit();
            }
            worker.in_flight = (!messages.is_empty()).then(|| InFlight {
                aged,
                ..InFlight::new(messages, worker.epochs())
            });
            add(Action::TakeBatch(w, messages), false, to);
        }
    }
}
