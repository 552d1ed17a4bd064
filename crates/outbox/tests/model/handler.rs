//! A run of the handler over the current part of a batch, and the dead letters that come of it.

use super::database::{DeadLetter, Kind};
use super::in_flight::InFlight;
use super::set::Set;
use super::world::{Behavior, World};

pub(crate) enum Run {
    /// The handler refuses an event by name.
    Refused(usize),
    /// The handler fails without naming an event.
    Failed,
    Done(Outcome),
}

#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) applied: Set,
    pub(crate) dead_letters: Vec<DeadLetter>,
    /// Keys that the new dead letters block.
    pub(crate) blocked_keys: Set,
    /// The handler may as well have failed, for an unknown reason.
    pub(crate) may_fail: bool,
}

pub(crate) fn run(world: &World, in_flight: &InFlight) -> Run {
    let mut outcome = Outcome::default();
    let mut unseen = in_flight.transaction.fresh;
    let mut blocked = in_flight.transaction.locked_keys;
    for event in in_flight.held_messages().map(|slot| world.event(slot)) {
        // A duplicate within the batch is ignored: the first one has removed the event.
        if !unseen.has(event) {
            continue;
        }
        unseen = unseen - Set::of(event);
        let key = world.key(event);
        let dead_letter = |kind| DeadLetter { event, kind };
        if key.is_some_and(|key| blocked.has(key)) {
            outcome.dead_letters.push(dead_letter(Kind::Parked));
        } else if in_flight.refused.has(event) {
            outcome.dead_letters.push(dead_letter(kind(world, event)));
            let key: Set = key.into_iter().collect();
            blocked |= key;
            outcome.blocked_keys |= key;
        } else {
            match world.events[event].behavior {
                Behavior::Applies => outcome.applied |= Set::of(event),
                Behavior::UnnamedPoison | Behavior::Unknown if in_flight.parts[0].len() > 1 => {
                    return Run::Failed;
                }
                Behavior::Unknown => {
                    outcome.applied |= Set::of(event);
                    outcome.may_fail = true;
                }
                _ => return Run::Refused(event),
            }
        }
    }
    Run::Done(outcome)
}

/// The kind of the dead letter that a refused event becomes.
pub(crate) fn kind(world: &World, event: usize) -> Kind {
    if world.events[event].behavior == Behavior::Deferred {
        Kind::Deferred
    } else {
        Kind::Poison
    }
}
