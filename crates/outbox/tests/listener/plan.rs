//! What happens in a case: drawn at random, printed as JSON, and read back from it.

use std::fmt;
use std::ops::Range;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

/// A case. What runs beside what is left to the machine; everything else is here.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) partitions: u8,
    /// Whether a second listener, with a group and a name of its own, shares topic and database.
    pub(crate) two_listeners: bool,
    pub(crate) steps: Vec<Step>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Step {
    pub(crate) action: Action,
    /// What is begun goes on beside what follows.
    pub(crate) then_wait_ms: u16,
}

/// Numbers that choose among what is there are taken modulo how many there are.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Action {
    Produce {
        messages: Vec<Sent>,
        gap_ms: u8,
    },
    Start {
        listener: u8,
        max_batch: u8,
        dwell_ms: u8,
    },
    /// The in-flight batch is finished, and the group is left.
    Stop(u8),
    /// What is open is rolled back. In silence, the group waits for it as long as for a process that is gone.
    Kill {
        worker: u8,
        silently: bool,
    },
    /// The worker's thread stands still: where it happens to be, or within its next transaction.
    Freeze {
        worker: u8,
        within: bool,
        for_ms: u16,
    },
    /// The cause of the oldest failures is gone.
    Heal(u8),
    /// Operators who try dead letters again and again for a while, and may give up those that can never be applied.
    Redrive {
        operators: u8,
        which: Which,
        drops: bool,
        dwell_ms: u8,
        for_ms: u16,
    },
    /// The connections of a worker, or of all and of the operators, are broken.
    Disconnect(Option<u8>),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Which {
    All,
    Key(u8),
    Most(u8),
}

/// Numbers are a key and a partition; without a key, it goes to the partition.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Sent {
    New(Option<u8>, u8, Manner),
    /// An earlier event once more; one without a key perhaps on another partition.
    Again(u8, u8),
}

/// What becomes of an event when it is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Manner {
    Applies,
    /// Fails so, so many times.
    Fails(Flaw, u8),
    /// Fails so until its cause is gone.
    Curable(Flaw),
    /// Fails so always, and is given up in the end.
    Hopeless(Flaw),
    /// Bytes that are no event.
    Undecodable,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Flaw {
    /// The handler names it.
    Poison,
    Deferred,
    /// Breaks a rule of the database.
    Violates,
    /// Fails, and no rule says what that means. Such a one becomes a dead letter only where others can be applied.
    Strange,
    Panics,
}

/// Few, so that much happens to each.
const KEYS: u8 = 5;
/// Longer than the group waits for one that does not poll (`worker::PATIENCE`).
const BEYOND_PATIENCE_MS: Range<u16> = 6_500..8_500;

fn manner() -> impl Strategy<Value = Manner> {
    let any = prop_oneof![
        4 => Just(Flaw::Deferred),
        1 => Just(Flaw::Poison),
        1 => Just(Flaw::Violates),
        1 => Just(Flaw::Strange),
        1 => Just(Flaw::Panics),
    ];
    let curable = prop_oneof![
        Just(Flaw::Poison),
        Just(Flaw::Violates),
        Just(Flaw::Strange),
        Just(Flaw::Panics),
    ];
    let hopeless = prop_oneof![
        Just(Flaw::Poison),
        Just(Flaw::Deferred),
        Just(Flaw::Violates),
        Just(Flaw::Panics),
    ];
    prop_oneof![
        60 => Just(Manner::Applies),
        12 => (any, 1..4_u8).prop_map(|(flaw, times)| Manner::Fails(flaw, times)),
        3 => curable.prop_map(Manner::Curable),
        1 => hopeless.prop_map(Manner::Hopeless),
        1 => Just(Manner::Undecodable),
    ]
}

fn sent() -> impl Strategy<Value = Sent> {
    let new = (option::weighted(0.8, 0..KEYS), 0..8_u8, manner());
    let new = new.prop_map(|(key, partition, manner)| Sent::New(key, partition, manner));
    let again = (any::<u8>(), 0..8_u8);
    let again = again.prop_map(|(event, partition)| Sent::Again(event, partition));
    prop_oneof![8 => new, 1 => again]
}

fn produce(messages: Range<usize>, gap_ms: Range<u8>) -> impl Strategy<Value = Action> {
    (vec(sent(), messages), gap_ms)
        .prop_map(|(messages, gap_ms)| Action::Produce { messages, gap_ms })
}

/// Short, or long enough for a batch to gather meanwhile.
fn dwell() -> impl Strategy<Value = u8> {
    prop_oneof![0..25_u8, 50..250_u8]
}

fn start() -> impl Strategy<Value = Action> {
    let max_batch = prop_oneof![1 => Just(1_u8), 6 => 2..=20_u8];
    (any::<u8>(), max_batch, dwell()).prop_map(|(listener, max_batch, dwell_ms)| Action::Start {
        listener,
        max_batch,
        dwell_ms,
    })
}

fn redrive() -> impl Strategy<Value = Action> {
    let which = prop_oneof![
        4 => Just(Which::All),
        1 => (0..KEYS).prop_map(Which::Key),
        1 => (1..8_u8).prop_map(Which::Most),
    ];
    (1..=2_u8, which, any::<bool>(), 0..25_u8, 0..3_000_u16).prop_map(
        |(operators, which, drops, dwell_ms, for_ms)| Action::Redrive {
            operators,
            which,
            drops,
            dwell_ms,
            for_ms,
        },
    )
}

fn freeze() -> impl Strategy<Value = Action> {
    let for_ms = prop_oneof![3 => 20..1_500_u16, 1 => BEYOND_PATIENCE_MS];
    (any::<u8>(), any::<bool>(), for_ms).prop_map(|(worker, within, for_ms)| Action::Freeze {
        worker,
        within,
        for_ms,
    })
}

fn action() -> impl Strategy<Value = Action> {
    let kill = (any::<u8>(), prop::bool::weighted(0.2));
    prop_oneof![
        5 => produce(5..40, 0..15),
        6 => start(),
        1 => any::<u8>().prop_map(Action::Stop),
        4 => kill.prop_map(|(worker, silently)| Action::Kill { worker, silently }),
        3 => freeze(),
        4 => (1..6_u8).prop_map(Action::Heal),
        5 => redrive(),
        2 => option::weighted(0.7, any::<u8>()).prop_map(Action::Disconnect),
    ]
}

fn step(action: impl Strategy<Value = Action>) -> impl Strategy<Value = Step> {
    (action, 0..500_u16).prop_map(|(action, then_wait_ms)| Step {
        action,
        then_wait_ms,
    })
}

/// Any plan: some workers first, and messages that keep coming, or nothing could happen to them.
pub(crate) fn plan() -> impl Strategy<Value = Plan> {
    let stream = produce(80..160, 20..45);
    let beginning = (step(start()), step(stream), step(start()), step(start()));
    let two_listeners = prop::bool::weighted(0.2);
    let rest = vec(step(action()), 16..28);
    (2..=6_u8, two_listeners, beginning, rest).prop_map(
        |(partitions, two_listeners, beginning, rest)| {
            let steps = <[Step; 4]>::from(beginning).into_iter();
            Plan {
                partitions,
                two_listeners,
                steps: steps.chain(rest).collect(),
            }
        },
    )
}

/// As JSON, which is what runs it again.
impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}
