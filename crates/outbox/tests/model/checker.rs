//! An exhaustive breadth-first checker.
//!
//! Not stateright (0.31): what has to hold here besides safety is that from *every* reachable state a settled one can be
//! reached without another fault. Its `sometimes` asks for one such path from the start, and its `eventually` is, by its
//! own word, blind to cycles, of which redelivery and retries are full. That question needs the graph backwards.

use std::collections::HashMap;
use std::hash::Hash;
use std::rc::Rc;

use foldhash::fast::FixedState;

/// A step that a model may take.
pub(crate) struct Step<M: Model> {
    pub(crate) action: M::Action,
    /// Something went wrong: it may happen, but nothing may rely on it.
    pub(crate) fault: bool,
    pub(crate) to: M::State,
}

pub(crate) trait Model: Sized {
    type State: Eq + Hash;
    type Action;
    fn start(&self) -> Self::State;
    fn steps(&self, state: &Self::State) -> Vec<Step<Self>>;
    /// What must never be so, if it is.
    fn broken(&self, state: &Self::State) -> Option<&'static str>;
    /// Everything is done.
    fn settled(&self, state: &Self::State) -> bool;
}

pub(crate) struct Checked<A> {
    pub(crate) states: usize,
    /// What is wrong, and the shortest way there.
    pub(crate) flaw: Option<(&'static str, Vec<A>)>,
}

/// Visits every reachable state, or those up to the first broken one.
pub(crate) fn check<M: Model>(model: &M) -> Checked<M::Action> {
    let start = Rc::new(model.start());
    let mut known = HashMap::with_hasher(FixedState::default());
    known.insert(Rc::clone(&start), 0);
    let (mut states, mut came) = (vec![start], vec![None]);
    // Where a state can be come to from, without a fault.
    let mut from: Vec<Vec<u32>> = vec![Vec::new()];
    let mut settled = Vec::new();
    let mut at = 0;
    while let Some(state) = states.get(at).map(Rc::clone) {
        if let Some(why) = model.broken(&state) {
            return flawed(states.len(), why, came, at);
        }
        if model.settled(&state) {
            settled.push(at);
        }
        for step in model.steps(&state) {
            let to = Rc::new(step.to);
            let index = *known.entry(to).or_insert_with_key(|to| {
                states.push(Rc::clone(to));
                came.push(Some((at, step.action)));
                from.push(Vec::new());
                states.len() - 1
            });
            if !step.fault {
                from[index].push(u32::try_from(at).expect("fewer states than that"));
            }
        }
        at += 1;
    }
    let mut hopeful = vec![false; states.len()];
    while let Some(index) = settled.pop() {
        if !std::mem::replace(&mut hopeful[index], true) {
            settled.extend(from[index].iter().map(|index| *index as usize));
        }
    }
    match hopeful.iter().position(|hopeful| !hopeful) {
        Some(at) => flawed(
            states.len(),
            "wedged: from here nothing but another fault leads to a settled end",
            came,
            at,
        ),
        None => Checked {
            states: states.len(),
            flaw: None,
        },
    }
}

fn flawed<A>(
    states: usize,
    why: &'static str,
    mut came: Vec<Option<(usize, A)>>,
    mut at: usize,
) -> Checked<A> {
    let mut path = Vec::new();
    while let Some((before, action)) = came[at].take() {
        path.push(action);
        at = before;
    }
    path.reverse();
    Checked {
        states,
        flaw: Some((why, path)),
    }
}
