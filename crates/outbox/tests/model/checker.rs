//! An exhaustive breadth-first model checker.
//!
//! Not stateright (0.31): besides safety, a settled state must be reachable without another fault from *every* reachable
//! state. Its `sometimes` asks for one such path from the start, and its `eventually` is documented to be blind to cycles,
//! which redelivery and retries are full of. That question needs the reversed graph.

use std::collections::HashMap;
use std::hash::Hash;
use std::rc::Rc;

use foldhash::fast::FixedState;

/// A step that a model may take.
pub(crate) struct Step<M: Model> {
    pub(crate) action: M::Action,
    /// A fault may happen, but no progress may depend on it.
    pub(crate) fault: bool,
    pub(crate) to: M::State,
}

pub(crate) trait Model: Sized {
    type State: Eq + Hash;
    type Action;
    fn start(&self) -> Self::State;
    fn steps(&self, state: &Self::State) -> Vec<Step<Self>>;
    /// The invariant that the state violates, if any.
    fn violation(&self, state: &Self::State) -> Option<&'static str>;
    /// Whether all work is done.
    fn is_settled(&self, state: &Self::State) -> bool;
}

pub(crate) struct Checked<A> {
    /// The number of states visited.
    pub(crate) states: usize,
    /// The property that is violated, and a shortest path to the violation.
    pub(crate) counterexample: Option<(&'static str, Vec<A>)>,
}

/// Visits every reachable state, or those up to the first violation.
pub(crate) fn check<M: Model>(model: &M) -> Checked<M::Action> {
    let start = Rc::new(model.start());
    let mut indices = HashMap::with_hasher(FixedState::default());
    indices.insert(Rc::clone(&start), 0);
    let (mut states, mut parents) = (vec![start], vec![None]);
    // The states from which a step without a fault leads to each state.
    let mut predecessors: Vec<Vec<u32>> = vec![Vec::new()];
    let mut settled = Vec::new();
    let mut at = 0;
    while let Some(state) = states.get(at).map(Rc::clone) {
        if let Some(violation) = model.violation(&state) {
            return counterexample(states.len(), violation, parents, at);
        }
        if model.is_settled(&state) {
            settled.push(at);
        }
        for step in model.steps(&state) {
            let to = Rc::new(step.to);
            let index = *indices.entry(to).or_insert_with_key(|to| {
                states.push(Rc::clone(to));
                parents.push(Some((at, step.action)));
                predecessors.push(Vec::new());
                states.len() - 1
            });
            if !step.fault {
                predecessors[index].push(u32::try_from(at).expect("fewer states than that"));
            }
        }
        at += 1;
    }
    let mut can_settle = vec![false; states.len()];
    while let Some(index) = settled.pop() {
        if !std::mem::replace(&mut can_settle[index], true) {
            settled.extend(predecessors[index].iter().map(|index| *index as usize));
        }
    }
    match can_settle.iter().position(|can_settle| !can_settle) {
        Some(at) => counterexample(
            states.len(),
            "stuck: no settled state can be reached without another fault",
            parents,
            at,
        ),
        None => Checked {
            states: states.len(),
            counterexample: None,
        },
    }
}

fn counterexample<A>(
    states: usize,
    violation: &'static str,
    mut parents: Vec<Option<(usize, A)>>,
    mut at: usize,
) -> Checked<A> {
    let mut path = Vec::new();
    while let Some((parent, action)) = parents[at].take() {
        path.push(action);
        at = parent;
    }
    path.reverse();
    Checked {
        states,
        counterexample: Some((violation, path)),
    }
}
