//! The consuming protocol of the listener, as a state machine that is checked exhaustively within small bounds.
//!
//! Two workers, one topic of one or two partitions, a few events, and those who redrive. Messages are delivered from the
//! committed offset; a worker may stall between any two statements (nothing says when a step is taken), lose a partition
//! with or without hearing of it, come late with a claim, crash, have a transaction aborted, or not hear of its commit.
//! A transaction's steps are its statements, each up to the row that it has to wait for; what it writes, others see when
//! it commits. Faults are bounded, stalls are not.
//!
//! In every state: no effect twice, none before an earlier one of its key, and the committed offset has passed nothing
//! that is neither applied nor a dead letter nor dropped. From every state a settled one can be reached without another
//! fault: so there is no state that only an operator's restart or a rebalance helps out of, and no deadlock.
//!
//! What the model does not know: that PostgreSQL ends a deadlock, the order of ids (that of the events), the dead letter that
//! becomes of an unknown error, that a batch which leaves no room for others waits for a busy key, the bound of a deferred
//! event's redrives.
#![expect(
    clippy::print_stdout,
    reason = "it tells how many states it has seen, and what a mistake leads to"
)]

#[path = "model/action.rs"]
mod action;
#[path = "model/bounds.rs"]
mod bounds;
#[path = "model/checker.rs"]
mod checker;
#[path = "model/kafka.rs"]
mod kafka;
#[path = "model/machine.rs"]
mod machine;
#[path = "model/redrive.rs"]
mod redrive;
#[path = "model/transaction.rs"]
mod transaction;
#[path = "model/worker.rs"]
mod worker;
#[path = "model/world.rs"]
mod world;

use std::time::Instant;

use action::Action;
use bounds::{grown, keyed, keyless, longer, sent_twice, small, split, strange};
use checker::{Checked, check};
use world::Manner::{Applies, Deferred, Poison, Unnamed};
use world::Redriver::{Listener, Operator};
use world::{DEPTH, Event, Variant, World};

fn explore(name: &str, world: &World) -> Checked<Action> {
    let began = Instant::now();
    let checked = check(world);
    let states = checked.states;
    println!("{name}: {states} states in {:.1?}", began.elapsed());
    if let Some((why, path)) = &checked.flaw {
        let steps = path.iter().enumerate();
        let steps = steps.map(|(number, action)| format!("\n  {:>2}. {action}", number + 1));
        let steps: String = steps.collect();
        println!("{name}: {why}\n  {}{steps}", legend(world));
    }
    checked
}

/// What the messages of a counterexample are.
fn legend(world: &World) -> String {
    let message = |slot: usize| {
        let event = world.event(slot);
        let Event { key, manner } = world.events[event];
        let key = key.map_or("no key".to_owned(), |key| format!("key {key}"));
        format!(
            "p{}@{} is e{event} ({key}, {manner:?})",
            slot / DEPTH,
            slot % DEPTH
        )
    };
    world.slots().map(message).collect::<Vec<_>>().join("; ")
}

fn holds(name: &str, world: &World) {
    let checked = explore(name, world);
    assert!(
        checked.flaw.is_none(),
        "{name}: {:?}",
        checked.flaw.map(|(why, _)| why)
    );
    assert!(
        checked.states > 1_000,
        "{name}: there is more than that to see"
    );
}

/// The checker finds `expected` in `world` once it has `variant`.
fn found(name: &str, variant: Option<Variant>, expected: &str, world: World) {
    let checked = explore(name, &World { variant, ..world });
    let (why, path) = checked.flaw.expect("it is found");
    assert!(
        why.starts_with(expected) && !path.is_empty(),
        "{name}: {why}"
    );
}

#[test]
fn two_operators_redrive_at_once() {
    let redrivers = vec![Operator, Operator];
    holds(
        "two operators",
        &World {
            redrivers,
            ..small()
        },
    );
}

#[test]
fn what_is_dropped_is_not_applied_and_lets_the_next_go() {
    holds(
        "drops",
        &World {
            drops: true,
            ..small()
        },
    );
}

#[test]
fn parked_messages_keep_their_order() {
    holds("three of one key", &longer());
}

#[test]
fn a_batch_is_split_around_what_nobody_names() {
    holds("split", &split());
}

#[test]
fn what_is_left_over_is_tried_with_what_comes_and_is_not_committed_before() {
    holds("left over", &strange());
}

#[test]
fn an_offset_that_is_committed_past_what_is_left_over_loses() {
    let variant = Some(Variant::CommitsPastLeft);
    found("commits past what is left", variant, "lost", strange());
}

#[test]
fn a_half_that_claims_after_a_superseded_one_overtakes_it() {
    // Five messages: one to know an epoch by, and halves of two, since whoever supersedes settles the first.
    let world = World {
        events: vec![
            keyless(Applies),
            keyless(Unnamed),
            keyed(0, Applies),
            keyed(0, Applies),
        ],
        log: [vec![0, 1, 2, 3, 0], vec![]],
        batch: 4,
        redrivers: vec![],
        ..small()
    };
    found("halves claim", Some(Variant::HalvesClaim), "order", world);
}

#[test]
fn what_is_deferred_is_redriven_without_an_operator() {
    let events = vec![keyed(0, Deferred), keyed(0, Applies)];
    holds(
        "deferred",
        &World {
            events,
            redrivers: vec![Listener],
            ..small()
        },
    );
}

#[test]
fn two_faults_do_no_more_than_one() {
    holds(
        "two faults",
        &World {
            events: vec![keyed(0, Poison)],
            log: [vec![0], vec![]],
            faults: 2,
            ..small()
        },
    );
}

#[test]
fn a_message_sent_twice_to_two_partitions_is_settled_once() {
    holds(
        "sent twice",
        &World {
            events: vec![keyless(Poison)],
            log: [vec![0], vec![0]],
            ..small()
        },
    );
}

#[test]
fn a_batch_spans_partitions() {
    let events = vec![keyed(0, Poison), keyed(1, Applies)];
    holds(
        "two partitions",
        &World {
            events,
            log: [vec![0], vec![1]],
            ..small()
        },
    );
}

#[test]
fn an_offset_that_is_committed_first_loses() {
    found("offset first", Some(Variant::OffsetFirst), "lost", small());
}

#[test]
fn no_epoch_doubles_once_the_inbox_forgets() {
    // While the inbox remembers, it makes up for it: whoever is second waits for the first at its first event.
    holds(
        "no epoch, nothing forgotten",
        &World {
            variant: Some(Variant::NoEpoch),
            ..small()
        },
    );
    found(
        "no epoch",
        Some(Variant::NoEpoch),
        "double",
        World {
            retention: true,
            checks_age: false,
            ..small()
        },
    );
}

#[test]
fn a_superseded_consumer_that_goes_on_is_wedged() {
    found("goes on", Some(Variant::GoesOn), "wedged", small());
}

#[test]
fn a_superseded_consumer_that_claims_without_seeking_loses() {
    let world = World {
        events: vec![keyless(Applies); 3],
        log: [vec![0, 1, 2], vec![]],
        batch: 1,
        ..small()
    };
    let variant = Some(Variant::ClaimsWithoutSeek);
    found("claims without seeking", variant, "lost", world);
}

#[test]
fn parking_without_the_inbox_doubles() {
    found(
        "parks without inbox",
        Some(Variant::ParksWithoutInbox),
        "double",
        small(),
    );
}

#[test]
fn checking_the_inbox_before_writing_doubles() {
    // In one partition the epoch's lock hides it.
    holds(
        "check then insert, one partition",
        &World {
            variant: Some(Variant::CheckThenInsert),
            ..small()
        },
    );
    let events = vec![keyless(Applies)];
    let world = World {
        events,
        log: [vec![0], vec![0]],
        ..small()
    };
    found(
        "check then insert",
        Some(Variant::CheckThenInsert),
        "double",
        world,
    );
}

#[test]
fn a_busy_key_that_is_taken_for_a_free_one_lets_a_message_overtake() {
    found(
        "ignores a busy key",
        Some(Variant::IgnoresBusyKey),
        "order",
        small(),
    );
}

#[test]
fn redrive_without_the_keys_lock_lets_a_message_overtake() {
    found(
        "redrive without lock",
        Some(Variant::RedriveWithoutLock),
        "order",
        longer(),
    );
}

/// The epoch fences off who has claimed before somebody else did. One that stalls before its claim is not fenced off by
/// it, only by the inbox; and that forgets.
#[test]
fn a_late_claim_doubles_once_the_inbox_forgets_unless_it_knows_its_age() {
    let world = World {
        retention: true,
        ..small()
    };
    let ignores = World {
        checks_age: false,
        ..world.clone()
    };
    found("late claim after retention", None, "double", ignores);
    holds("the age is checked", &world);
}

/// `on conflict do nothing` does not wait for a redrive that has locked the `blocked_key` row and is about to remove it.
#[test]
#[ignore = "takes minutes"]
fn a_dead_letter_of_a_key_in_two_partitions_may_lose_its_block_unless_it_locks_it() {
    let ignores = Some(Variant::IgnoresPresentKey);
    found("key in two partitions", ignores, "order", grown());
    holds("the row is locked", &grown());
}

#[test]
#[ignore = "takes minutes"]
fn larger_bounds() {
    holds(
        "two operators who may drop",
        &World {
            redrivers: vec![Operator, Operator],
            drops: true,
            ..small()
        },
    );
    let events = vec![keyed(0, Deferred), keyless(Deferred), keyed(0, Applies)];
    let log = [vec![0, 1, 2], vec![]];
    holds(
        "two deferred",
        &World {
            events,
            log,
            redrivers: vec![Listener],
            ..small()
        },
    );
    holds(
        "two faults",
        &World {
            faults: 2,
            ..small()
        },
    );
    holds(
        "two faults, two operators",
        &World {
            faults: 2,
            redrivers: vec![Operator, Operator],
            ..small()
        },
    );
    holds("sent twice", &sent_twice());
    holds(
        "an operator, and the listener itself",
        &World {
            events: vec![keyed(0, Deferred), keyed(0, Applies)],
            redrivers: vec![Operator, Listener],
            ..small()
        },
    );
    let events = vec![
        keyed(0, Poison),
        keyed(1, Deferred),
        keyless(Applies),
        keyed(0, Applies),
    ];
    let log = [vec![0, 1, 2, 3], vec![]];
    holds(
        "four events",
        &World {
            events,
            log,
            ..small()
        },
    );
    let events = vec![keyed(0, Poison), keyed(0, Applies), keyless(Applies)];
    holds(
        "two partitions",
        &World {
            events,
            log: [vec![0, 1], vec![2]],
            ..small()
        },
    );
    holds(
        "two faults, the age is checked",
        &World {
            faults: 2,
            retention: true,
            ..small()
        },
    );
}
