//! The assertions of the tests: a world holds, or the checker finds its mistake. Each prints the number of states and the
//! counterexample.

use std::time::Instant;

use super::action::Action;
use super::checker::{Checked, check};
use super::set::{offset, partition};
use super::world::{Event, Mistake, World};

fn explore(name: &str, world: &World) -> Checked<Action> {
    let began = Instant::now();
    let checked = check(world);
    let states = checked.states;
    println!("{name}: {states} states in {:.1?}", began.elapsed());
    if let Some((violation, path)) = &checked.counterexample {
        let steps = path.iter().enumerate();
        let steps = steps.map(|(number, action)| format!("\n  {:>2}. {action}", number + 1));
        let steps: String = steps.collect();
        println!("{name}: {violation}\n  {}{steps}", legend(world));
    }
    checked
}

/// The events that the messages of a counterexample carry.
fn legend(world: &World) -> String {
    let message = |slot: usize| {
        let event = world.event(slot);
        let Event { key, behavior } = world.events[event];
        let key = key.map_or("no key".to_owned(), |key| format!("key {key}"));
        format!(
            "p{}@{} is e{event} ({key}, {behavior:?})",
            partition(slot),
            offset(slot)
        )
    };
    world.slots().map(message).collect::<Vec<_>>().join("; ")
}

/// Asserts that no state of `world` violates an invariant, and that each can reach a settled one.
pub(crate) fn holds(name: &str, world: &World) {
    let checked = explore(name, world);
    assert!(
        checked.counterexample.is_none(),
        "{name}: {:?}",
        checked.counterexample.map(|(violation, _)| violation)
    );
    assert!(
        checked.states > 1_000,
        "{name}: the world has more states than that"
    );
}

/// Asserts that the checker finds the violation `expected` in `world` with the mistake seeded.
pub(crate) fn finds(name: &str, mistake: Option<Mistake>, expected: &str, world: World) {
    let checked = explore(name, &World { mistake, ..world });
    let (violation, path) = checked.counterexample.expect("the checker finds it");
    assert!(
        violation.starts_with(expected) && !path.is_empty(),
        "{name}: {violation}"
    );
}
