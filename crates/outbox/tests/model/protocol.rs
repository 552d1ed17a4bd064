//! Tests of the protocol as the listener implements it: it holds in every world.

use super::verdict::holds;
use super::world::Behavior::{Applies, Deferred, Poison};
use super::world::Redriver::{Listener, Operator};
use super::world::World;
use super::worlds::{bisected, keyed, keyless, sent_twice, small, two_parked, unknown_failure};

#[test]
fn two_operators_redrive_at_the_same_time() {
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
fn a_discarded_event_is_not_applied_and_unblocks_its_key() {
    holds(
        "discards",
        &World {
            discards: true,
            ..small()
        },
    );
}

#[test]
fn parked_messages_keep_their_order() {
    holds("three of one key", &two_parked());
}

#[test]
fn bisection_isolates_an_event_that_the_error_does_not_name() {
    holds("bisection", &bisected());
}

#[test]
fn an_unsettled_message_is_retried_with_the_next_batch_and_holds_back_the_offset() {
    holds("unknown failure", &unknown_failure());
}

#[test]
fn the_listener_redrives_a_deferred_event_without_an_operator() {
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
#[ignore = "takes minutes"]
fn larger_bounds() {
    holds(
        "two operators who may discard",
        &World {
            redrivers: vec![Operator, Operator],
            discards: true,
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
        "an operator and the automatic retry",
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
