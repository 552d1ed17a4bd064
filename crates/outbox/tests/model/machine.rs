//! The machine: where it begins, and every step of everybody.

use super::action::Action;
use super::checker::{Model, Step};
use super::worker::{Held, Worker};
use super::world::{Database, State, WORKERS, World};
use super::{kafka, redrive, worker};

impl Model for World {
    type State = State;
    type Action = Action;

    fn start(&self) -> State {
        let mut workers: [Worker; WORKERS] = Default::default();
        workers[0].held[0] = Some(Held::default());
        State {
            committed: Default::default(),
            owner: [Some(0), None],
            database: Database::default(),
            workers,
            redrives: Default::default(),
            faults: self.faults,
        }
    }

    fn steps(&self, state: &State) -> Vec<Step<Self>> {
        let mut steps = Vec::new();
        let mut add = |action, fault, mut to: State| {
            if fault {
                let Some(left) = state.faults.checked_sub(1) else {
                    return;
                };
                to.faults = left;
            }
            steps.push(Step { action, fault, to });
        };
        for w in 0..WORKERS {
            worker::take(self, state, w, &mut add);
            worker::steps(self, state, w, &mut add);
        }
        for r in 0..self.redrivers.len() {
            redrive::steps(self, state, r, &mut add);
        }
        kafka::steps(self, state, &mut add);
        steps
    }

    fn broken(&self, state: &State) -> Option<&'static str> {
        State::broken(state, self)
    }

    fn settled(&self, state: &State) -> bool {
        State::settled(state, self)
    }
}
