//! Bisection, without a database.

mod rig;

use rig::{Rig, by_offset, partition};

use super::*;

#[test]
fn a_batch_without_a_failure_is_one_transaction() {
    let mut rig = Rig::new("abc-a");
    let settled = rig.run().unwrap();
    assert_eq!((rig.runs, settled.applied), (1, 5));
}

#[test]
fn poison_is_isolated_in_a_few_runs_and_all_other_messages_are_applied_in_order() {
    let mut rig = Rig::new(&"abcdefgh".repeat(60));
    rig.poison = [17, 300].into();
    let settled = rig.run().unwrap();
    assert_eq!((settled.applied, settled.dead_lettered), (478, 2));
    assert!(rig.runs < 45, "{} runs", rig.runs);
    let order: Vec<usize> = rig.log.iter().map(|(message, _)| *message).collect();
    assert!(order.is_sorted(), "parts are run in order");
}

#[test]
fn a_batch_of_poison_becomes_dead_letters() {
    let mut rig = Rig::new(&"ab".repeat(8));
    rig.poison = (0..16).collect();
    assert_eq!(rig.run().unwrap().dead_lettered, 16);
}

#[test]
fn an_unknown_failure_is_retried_while_other_keys_go_on_and_its_own_key_waits() {
    let mut rig = Rig::new("abab-a");
    rig.unknown = [(0, 2)].into();
    let settled = rig.run().unwrap();
    assert_eq!((settled.applied, settled.dead_lettered), (6, 0));
    assert_eq!(rig.of_key('a'), [0, 2, 5], "in order");
    assert!(
        rig.log.first().is_some_and(|(first, _)| *first == 1),
        "b did not wait"
    );

    rig = Rig::new("abab-a");
    rig.unknown = [(0, u32::MAX)].into();
    let settled = rig.run().unwrap();
    assert_eq!((settled.applied, settled.dead_lettered), (5, 1));
    assert_eq!(rig.of_key('a'), [0, 2, 5]);
    assert!(rig.log.contains(&(0, false)));
}

#[test]
fn a_message_that_is_too_slow_alone_is_dead_lettered_if_others_are_applied() {
    let mut rig = Rig::new("abab-a");
    rig.slow = [0].into();
    let settled = rig.run().unwrap();
    assert_eq!((settled.applied, settled.dead_lettered), (5, 1));
    assert_eq!(rig.of_key('a'), [0, 2, 5]);
    rig = Rig::new("ab");
    rig.slow = [0, 1].into();
    let unsettled = rig.run().unwrap_err();
    assert!(unsettled.blocker.is_unknown());
}

#[test]
fn two_unknown_failures_of_one_key_end_in_order() {
    let mut rig = Rig::new("aaab");
    rig.unknown = [(0, u32::MAX), (2, u32::MAX)].into();
    let Unsettled { settled, left, .. } = *rig.run().unwrap_err();
    assert_eq!((settled.applied, settled.dead_lettered), (2, 1));
    assert_eq!((rig.of_key('a'), left), (vec![0, 1], vec![2]));
    // The rest is attempted again, with newer messages.
    rig = Rig::new("ab");
    rig.unknown = [(0, u32::MAX)].into();
    let settled = rig.run().unwrap();
    assert_eq!((settled.applied, settled.dead_lettered), (1, 1));
}

#[test]
fn nothing_is_dead_lettered_once_nothing_can_be_applied_any_more() {
    let mut rig = Rig::new("abcdef");
    rig.batch.max_transaction = 2;
    rig.unknown = [(4, u32::MAX), (5, u32::MAX)].into();
    let Unsettled { settled, left, .. } = *rig.run().unwrap_err();
    assert_eq!((settled.applied, settled.dead_lettered), (4, 0));
    assert_eq!(left, [4, 5]);
    // A message that is applied after they failed shows that they are to blame.
    rig.unknown.insert(0, 2);
    let settled = rig.run().unwrap();
    assert_eq!((settled.applied, settled.dead_lettered), (4, 2));
}

#[test]
fn nothing_is_dead_lettered_if_nothing_can_be_applied() {
    let mut rig = Rig::new("ab-");
    rig.unknown = [(0, u32::MAX), (1, u32::MAX), (2, u32::MAX)].into();
    for full in [false, true] {
        rig.batch.is_full = full;
        let unsettled = rig.run().unwrap_err();
        assert!(unsettled.blocker.is_unknown());
        assert_eq!(unsettled.left, [0, 1, 2]);
    }
    assert!(rig.log.is_empty());
}

#[test]
fn an_unknown_failure_that_fills_the_batch_is_dead_lettered() {
    let mut rig = Rig::new("aaaa");
    rig.unknown = [(0, u32::MAX)].into();
    assert_eq!(rig.run().unwrap_err().left, [0, 1, 2, 3]);
    rig.batch.is_full = true;
    let settled = rig.run().unwrap();
    assert_eq!((settled.applied, settled.dead_lettered), (3, 1));
    assert_eq!(rig.of_key('a'), [0, 1, 2, 3]);
}

#[test]
fn many_unknown_failures_wait_at_the_same_time() {
    let mut rig = Rig::new(&"-".repeat(100));
    rig.unknown = (0..99).map(|message| (message, u32::MAX)).collect();
    let settled = rig.run().unwrap();
    assert_eq!((settled.applied, settled.dead_lettered), (1, 99));
    assert_eq!(rig.waited, BACKOFF.initial * (1 + 2 + 4 + 8));
}

#[test]
fn many_slow_messages_are_dead_lettered_one_by_one() {
    let mut rig = Rig::new(&"-".repeat(33));
    rig.slow = (0..32).collect();
    rig.run_time = Duration::from_secs(10);
    // Each stands alone after 65 runs, and is attempted four times more.
    rig.max_runs = 65 + 12;
    let settled = rig.run().unwrap_err().settled;
    assert_eq!((settled.applied, settled.dead_lettered), (1, 2));
}

#[test]
fn no_part_exceeds_the_bound_of_a_transaction() {
    let mut rig = Rig::new("abcdefg");
    rig.batch.max_transaction = 3;
    rig.run().unwrap();
    assert_eq!((rig.runs, rig.log.len()), (3, 7));
    // Messages that were held back do not exceed it either.
    for max in 1..3 {
        rig = Rig::new("aaaaaab");
        rig.batch.max_transaction = max;
        rig.unknown = [(0, 2)].into();
        rig.run().unwrap();
        assert_eq!(rig.of_key('a'), [0, 1, 2, 3, 4, 5]);
    }
}

#[test]
fn a_settled_message_is_not_attempted_again() {
    let mut rig = Rig::new("abcd");
    rig.batch.messages[3].at.partition = 1;
    rig.batch.max_transaction = 1;
    let mut bisection = Bisection::new(&rig.batch, by_offset);
    for (message, fails) in [(0, false), (1, true), (2, false), (3, false)] {
        let part = bisection.next().unwrap().unwrap();
        assert_eq!(part.messages, [message]);
        if fails {
            let unknown = Stop::Failed(Failure::Unknown("XX000".into()));
            bisection.record_stop(part, unknown).unwrap();
        } else if message == 3 {
            let superseded = Settled {
                superseded: [Partition {
                    number: 1,
                    ..partition()
                }]
                .into(),
                ..Settled::default()
            };
            bisection.record_settled(&part, superseded);
        } else {
            let settled = Settled {
                applied: 1,
                ..Settled::default()
            };
            bisection.record_settled(&part, settled);
        }
    }
    let lost = Failure::Transient("connection lost".into());
    let unsettled = bisection.end(Err(lost.into())).unwrap_err();
    assert_eq!(unsettled.left, [1]);
    assert_eq!(unsettled.settled.superseded.len(), 1, "and are read again");
}

#[test]
fn an_isolated_message_whose_part_fails_again_is_not_to_blame() {
    let batch = Rig::new("a").batch;
    let mut bisection = Bisection::new(&batch, by_offset);
    for _ in 0..2 {
        let part = bisection.next().unwrap().unwrap();
        let poison = Failure::Poison("disk full of NULs".into());
        let outcome = bisection.record_stop(part, Stop::Failed(poison));
        if let Err(blocker) = outcome {
            assert!(blocker.is_unknown());
            return;
        }
    }
    panic!("the message was blamed");
}

#[test]
fn messages_of_a_superseded_partition_are_left_out() {
    let batch = Rig::new("ab").batch;
    let mut bisection = Bisection::new(&batch, by_offset);
    let part = bisection.next().unwrap().unwrap();
    bisection.record_stop(part, Stop::BreakerLimit).unwrap();
    let part = bisection.next().unwrap().unwrap();
    let superseded = Settled {
        superseded: [partition()].into(),
        ..Settled::default()
    };
    bisection.record_settled(&part, superseded);
    assert_eq!(bisection.next().unwrap(), None);
}

#[test]
fn messages_of_a_locked_key_are_left_over_and_no_others() {
    let mut rig = Rig::new("abab-a");
    rig.locked = [('a', 0)].into();
    let Unsettled {
        settled,
        left,
        blocker,
    } = *rig.run().unwrap_err();
    assert!(matches!(blocker, Blocker::KeyLocked));
    assert_eq!((settled.applied, left), (3, vec![0, 2, 5]));

    // The listener waits for the key if the rest leaves no room for others, whatever else fails.
    rig = Rig::new("abab-a");
    rig.batch.is_full = true;
    rig.locked = [('a', 0)].into();
    rig.unknown = [(1, u32::MAX)].into();
    rig.poison = [5].into();
    let settled = rig.run().unwrap();
    assert_eq!((settled.applied, settled.dead_lettered), (4, 2));
    assert_eq!(rig.of_key('a'), [0, 2, 5]);

    // It ends if the suspect itself is of a locked key.
    rig = Rig::new("ab");
    rig.unknown = [(0, 1)].into();
    rig.locked = [('a', 2)].into();
    let unsettled = rig.run().unwrap_err();
    assert_eq!((unsettled.left, rig.of_key('b')), (vec![0], vec![1]));
}
