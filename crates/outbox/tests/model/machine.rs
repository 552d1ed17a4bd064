//! The state machine: its initial state and the steps of all its processes.

use super::action::Action;
use super::checker::{Model, Step};
use super::database::Database;
use super::state::{State, WORKERS};
use super::worker::{Assignment, Worker};
use super::world::World;
use super::{batch, kafka, redriver};

impl Model for World {
    type State = State;
    type Action = Action;

    fn start(&self) -> State {
        let mut workers: [Worker; WORKERS] = Default::default();
        workers[0].assigned[0] = Some(Assignment::default());
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
                let Some(faults) = state.faults.checked_sub(1) else {
                    return;
                };
                to.faults = faults;
            }
            steps.push(Step { action, fault, to });
        };
        for w in 0..WORKERS {
            batch::take(self, state, w, &mut add);
            batch::steps(self, state, w, &mut add);
        }
        for r in 0..self.redrivers.len() {
            redriver::steps(self, state, r, &mut add);
        }
        kafka::steps(self, state, &mut add);
        steps
    }

    fn violation(&self, state: &State) -> Option<&'static str> {
        State::violation(state, self)
    }

    fn is_settled(&self, state: &State) -> bool {
        State::is_settled(state, self)
    }
}
