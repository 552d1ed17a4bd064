//! A test plan: the actions of one case, drawn at random, printed as JSON, and read back from it.

use std::fmt;
use std::ops::Range;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

/// The plan of a case. It determines everything but the interleaving of threads and servers.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) partitions: u8,
    /// Whether a second listener, with its own group and name, shares the topic and the database.
    pub(crate) two_listeners: bool,
    pub(crate) steps: Vec<Step>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Step {
    pub(crate) action: Action,
    /// The wait before the next step. The action goes on in the background.
    pub(crate) then_wait_ms: u16,
}

/// An index into listeners, workers or events is taken modulo their number.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Action {
    Produce {
        messages: Vec<ToProduce>,
        gap_ms: u8,
    },
    Start {
        listener: u8,
        max_batch: u8,
        delay_ms: u8,
    },
    /// The worker finishes its in-flight batch and leaves the group.
    Stop(u8),
    /// The open transaction is rolled back. Silently: the group notices only when the session expires, as after the loss of a
    /// process.
    Kill { worker: u8, silently: bool },
    /// The worker's thread blocks: wherever it is, or in its next transaction.
    Freeze {
        worker: u8,
        in_transaction: bool,
        for_ms: u16,
    },
    /// The oldest events that fail until they are healed apply from now on.
    Heal(u8),
    /// Operators redrive dead letters for a while, and may discard those that always fail.
    Redrive {
        operators: u8,
        selection: Selection,
        discards: bool,
        delay_ms: u8,
        for_ms: u16,
    },
    /// The database connections of a worker break, or those of all workers and operators.
    Disconnect(Option<u8>),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Selection {
    All,
    Key(u8),
    Most(u8),
}

/// A message to produce, with a key and a partition; the partition counts only without a key.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum ToProduce {
    New(Option<u8>, u8, Behavior),
    /// An earlier event again; one without a key may go to another partition.
    Duplicate(u8, u8),
}

/// How the handler behaves for an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Behavior {
    Applies,
    /// Fails this many times.
    FailsTimes(Cause, u8),
    /// Fails until [`Action::Heal`].
    FailsUntilHealed(Cause),
    /// Fails every time, until an operator discards it.
    AlwaysFails(Cause),
    /// Bytes that do not decode to an event.
    Undecodable,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Cause {
    /// The handler refuses the event by name.
    Poison,
    Deferred,
    /// The handler's statement violates a constraint.
    ConstraintViolation,
    /// A failure of kind `unknown`: the event becomes a dead letter only if other events can be applied.
    Unknown,
    Panic,
}

/// Few keys, so that each gets many messages.
const KEYS: u8 = 5;
/// Longer than the group waits for a member that does not poll (`worker::SESSION_TIMEOUT`).
const BEYOND_SESSION_TIMEOUT_MS: Range<u16> = 6_500..8_500;

fn behavior() -> impl Strategy<Value = Behavior> {
    let any = prop_oneof![
        4 => Just(Cause::Deferred),
        1 => Just(Cause::Poison),
        1 => Just(Cause::ConstraintViolation),
        1 => Just(Cause::Unknown),
        1 => Just(Cause::Panic),
    ];
    let until_healed = prop_oneof![
        Just(Cause::Poison),
        Just(Cause::ConstraintViolation),
        Just(Cause::Unknown),
        Just(Cause::Panic),
    ];
    let always_failing = prop_oneof![
        Just(Cause::Poison),
        Just(Cause::Deferred),
        Just(Cause::ConstraintViolation),
        Just(Cause::Panic),
    ];
    prop_oneof![
        60 => Just(Behavior::Applies),
        12 => (any, 1..4_u8).prop_map(|(cause, times)| Behavior::FailsTimes(cause, times)),
        3 => until_healed.prop_map(Behavior::FailsUntilHealed),
        1 => always_failing.prop_map(Behavior::AlwaysFails),
        1 => Just(Behavior::Undecodable),
    ]
}

fn to_produce() -> impl Strategy<Value = ToProduce> {
    let new = (option::weighted(0.8, 0..KEYS), 0..8_u8, behavior());
    let new = new.prop_map(|(key, partition, behavior)| ToProduce::New(key, partition, behavior));
    let duplicate = (any::<u8>(), 0..8_u8);
    let duplicate = duplicate.prop_map(|(event, partition)| ToProduce::Duplicate(event, partition));
    prop_oneof![8 => new, 1 => duplicate]
}

fn produce(messages: Range<usize>, gap_ms: Range<u8>) -> impl Strategy<Value = Action> {
    (vec(to_produce(), messages), gap_ms)
        .prop_map(|(messages, gap_ms)| Action::Produce { messages, gap_ms })
}

/// A short delay, or one in which the next batch fills up.
fn delay() -> impl Strategy<Value = u8> {
    prop_oneof![0..25_u8, 50..250_u8]
}

fn start() -> impl Strategy<Value = Action> {
    let max_batch = prop_oneof![1 => Just(1_u8), 6 => 2..=20_u8];
    (any::<u8>(), max_batch, delay()).prop_map(|(listener, max_batch, delay_ms)| Action::Start {
        listener,
        max_batch,
        delay_ms,
    })
}

fn redrive() -> impl Strategy<Value = Action> {
    let selection = prop_oneof![
        4 => Just(Selection::All),
        1 => (0..KEYS).prop_map(Selection::Key),
        1 => (1..8_u8).prop_map(Selection::Most),
    ];
    (1..=2_u8, selection, any::<bool>(), 0..25_u8, 0..3_000_u16).prop_map(
        |(operators, selection, discards, delay_ms, for_ms)| Action::Redrive {
            operators,
            selection,
            discards,
            delay_ms,
            for_ms,
        },
    )
}

fn freeze() -> impl Strategy<Value = Action> {
    let for_ms = prop_oneof![3 => 20..1_500_u16, 1 => BEYOND_SESSION_TIMEOUT_MS];
    (any::<u8>(), any::<bool>(), for_ms).prop_map(|(worker, in_transaction, for_ms)| {
        Action::Freeze {
            worker,
            in_transaction,
            for_ms,
        }
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

/// A random plan. It begins with some workers and a stream of messages, so that the actions meet work in progress.
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

/// As JSON, the form that `OUTBOX_PLAN` takes.
impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}
