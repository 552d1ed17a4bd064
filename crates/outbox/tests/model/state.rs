//! A state of the whole system, the invariants that hold in each, and the settled states.

use super::database::Database;
use super::in_flight::InFlight;
use super::redrive::Redrive;
use super::set::{PARTITIONS, offset, partition};
use super::worker::Worker;
use super::world::World;

pub(crate) const WORKERS: usize = 2;
pub(crate) const REDRIVERS: usize = 2;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    /// The group's committed offset of each partition.
    pub(crate) committed: [usize; PARTITIONS],
    /// The worker to which the group has assigned each partition.
    pub(crate) owner: [Option<usize>; PARTITIONS],
    pub(crate) database: Database,
    pub(crate) workers: [Worker; WORKERS],
    pub(crate) redrives: [Redrive; REDRIVERS],
    /// Faults that may still happen.
    pub(crate) faults: usize,
}

impl State {
    /// Changes the in-flight batch of worker `w`, if it has one.
    pub(crate) fn change_in_flight(&mut self, w: usize, change: impl FnOnce(&mut InFlight)) {
        if let Some(in_flight) = &mut self.workers[w].in_flight {
            change(in_flight);
        }
    }

    /// The invariant that the state violates, if any.
    pub(crate) fn violation(&self, world: &World) -> Option<&'static str> {
        let database = &self.database;
        if !database.applied_twice.is_empty() {
            return Some("duplicate: an event's effect is applied twice");
        }
        let done = database.applied | database.discarded;
        let overtakes = |event: &usize| !done.contains(world.before(*event));
        if database.applied.iter().any(|event| overtakes(&event)) {
            return Some("order: an event is applied before an earlier one of its key");
        }
        let passed = |slot: &usize| offset(*slot) < self.committed[partition(*slot)];
        let settled = database.settled();
        if world
            .slots()
            .filter(passed)
            .any(|slot| !settled.has(world.event(slot)))
        {
            return Some("lost: the committed offset has passed an unsettled event");
        }
        None
    }

    /// Whether the owner of a partition has read it to its end. The committed offset may be behind: an offset commit that was
    /// sent before a revocation and arrives late sets it back, until the next one.
    fn is_read(&self, world: &World, partition: usize) -> bool {
        let assigned = self.owner[partition].and_then(|w| self.workers[w].assigned[partition]);
        let end = world.log[partition].len();
        end == 0
            || assigned.is_some_and(|assignment| assignment.position == end && !assignment.rewind)
    }

    /// Whether everything is delivered and redriven: each event is applied or discarded, and no message is in flight.
    pub(crate) fn is_settled(&self, world: &World) -> bool {
        let database = &self.database;
        (database.applied | database.discarded) == (0..world.events.len()).collect()
            && database.dead_letters.is_empty()
            && database.blocked_keys.is_empty()
            && (0..PARTITIONS).all(|p| self.is_read(world, p))
            && self.workers.iter().all(|worker| worker.in_flight.is_none())
            && self
                .redrives
                .iter()
                .all(|redrive| *redrive == Redrive::Idle)
    }
}
