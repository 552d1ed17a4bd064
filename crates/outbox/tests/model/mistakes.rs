//! Tests of seeded mistakes: the checker finds a counterexample for each part of the protocol that is left out.

use super::verdict::{finds, holds};
use super::world::Behavior::{Applies, UnnamedPoison};
use super::world::{Mistake, World};
use super::worlds::{key_in_two_partitions, keyed, keyless, small, two_parked, unknown_failure};

#[test]
fn an_offset_committed_past_an_unsettled_message_loses_it() {
    finds(
        "commits past unsettled",
        Some(Mistake::CommitsPastUnsettled),
        "lost",
        unknown_failure(),
    );
}

#[test]
fn a_half_that_claims_again_overtakes_a_superseded_half() {
    // Five messages: one to learn an epoch, and two halves of two, because the other worker settles the first.
    let world = World {
        events: vec![
            keyless(Applies),
            keyless(UnnamedPoison),
            keyed(0, Applies),
            keyed(0, Applies),
        ],
        log: [vec![0, 1, 2, 3, 0], vec![]],
        max_batch: 4,
        redrivers: vec![],
        ..small()
    };
    finds("halves claim", Some(Mistake::HalvesClaim), "order", world);
}

#[test]
fn an_offset_committed_before_the_transaction_loses_messages() {
    finds(
        "offset first",
        Some(Mistake::CommitsOffsetFirst),
        "lost",
        small(),
    );
}

#[test]
fn without_epochs_an_event_is_applied_twice_after_the_retention_of_the_inbox() {
    // The inbox makes up for missing epochs while it has the row: the second worker waits for the first at its first event.
    holds(
        "no epoch, no retention",
        &World {
            mistake: Some(Mistake::NoEpoch),
            ..small()
        },
    );
    finds(
        "no epoch",
        Some(Mistake::NoEpoch),
        "duplicate",
        World {
            retention: true,
            checks_age: false,
            ..small()
        },
    );
}

#[test]
fn a_superseded_worker_that_carries_on_is_stuck() {
    finds(
        "ignores superseded",
        Some(Mistake::IgnoresSuperseded),
        "stuck",
        small(),
    );
}

#[test]
fn a_superseded_worker_that_claims_without_a_rewind_loses_messages() {
    let world = World {
        events: vec![keyless(Applies); 3],
        log: [vec![0, 1, 2], vec![]],
        max_batch: 1,
        ..small()
    };
    finds(
        "claims without rewind",
        Some(Mistake::ClaimsWithoutRewind),
        "lost",
        world,
    );
}

#[test]
fn a_message_parked_without_an_inbox_row_is_applied_twice() {
    finds(
        "parks without inbox",
        Some(Mistake::ParksWithoutInbox),
        "duplicate",
        small(),
    );
}

#[test]
fn an_event_looked_up_in_the_inbox_before_its_insert_is_applied_twice() {
    // In one partition the lock of the epoch row hides the mistake.
    holds(
        "check then insert, one partition",
        &World {
            mistake: Some(Mistake::CheckThenInsert),
            ..small()
        },
    );
    let events = vec![keyless(Applies)];
    let world = World {
        events,
        log: [vec![0], vec![0]],
        ..small()
    };
    finds(
        "check then insert",
        Some(Mistake::CheckThenInsert),
        "duplicate",
        world,
    );
}

#[test]
fn a_busy_key_that_counts_as_not_blocked_lets_a_message_overtake() {
    finds(
        "ignores a busy key",
        Some(Mistake::IgnoresBusyKey),
        "order",
        small(),
    );
}

#[test]
fn a_redrive_without_the_lock_of_its_key_lets_a_message_overtake() {
    finds(
        "redrive without lock",
        Some(Mistake::RedriveWithoutLock),
        "order",
        two_parked(),
    );
}

/// The epoch fences off a worker that claimed before another one did. A worker that stalls before its claim is fenced off
/// only by the inbox, until retention deletes the row.
#[test]
fn a_late_claim_after_retention_applies_an_event_twice_unless_the_age_is_checked() {
    let world = World {
        retention: true,
        ..small()
    };
    let ignores_age = World {
        checks_age: false,
        ..world.clone()
    };
    finds("late claim after retention", None, "duplicate", ignores_age);
    holds("the age is checked", &world);
}

/// `on conflict do nothing` does not wait for a redrive that locks the `blocked_key` row and is about to delete it.
#[test]
#[ignore = "takes minutes"]
fn a_dead_letter_of_a_key_in_two_partitions_may_lose_its_block_unless_the_row_is_locked() {
    finds(
        "key in two partitions",
        Some(Mistake::IgnoresPresentKey),
        "order",
        key_in_two_partitions(),
    );
    holds("the row is locked", &key_in_two_partitions());
}
