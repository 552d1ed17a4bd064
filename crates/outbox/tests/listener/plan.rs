//! What happens in a case: drawn at random, printed as JSON, and read back from it.

use std::fmt;

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
    /// The batch in hand is finished, and the group is left.
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
    Redrive {
        operators: u8,
        which: Which,
        dwell_ms: u8,
    },
    /// Letters that can never be applied are given up.
    Drop {
        operators: u8,
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

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Sent {
    New(Event),
    /// An earlier event once more; one without a key perhaps on another partition.
    Again {
        event: u8,
        partition: u8,
    },
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Event {
    pub(crate) key: Option<u8>,
    /// Where it goes if it has no key.
    pub(crate) partition: u8,
    pub(crate) manner: Manner,
}

/// What becomes of an event when it is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Manner {
    Applies,
    /// Refused as not yet to be applied, so many times.
    Deferred(u8),
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
    /// Fails, and no rule says what that means. Such a one becomes a letter only where others can be applied.
    Strange,
    Panics,
}

/// Few, so that much happens to each.
const KEYS: u8 = 5;
/// Longer than the group waits for one that does not poll (`worker::PATIENCE`).
const BEYOND_PATIENCE_MS: std::ops::Range<u16> = 6_500..8_500;

fn manner() -> impl Strategy<Value = Manner> {
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
        24 => Just(Manner::Applies),
        3 => (1..4_u8).prop_map(Manner::Deferred),
        3 => curable.prop_map(Manner::Curable),
        1 => hopeless.prop_map(Manner::Hopeless),
        1 => Just(Manner::Undecodable),
    ]
}

fn sent() -> impl Strategy<Value = Sent> {
    let event = (option::weighted(0.8, 0..KEYS), any::<u8>(), manner());
    let new = event.prop_map(|(key, partition, manner)| {
        Sent::New(Event {
            key,
            partition,
            manner,
        })
    });
    let again =
        (any::<u8>(), any::<u8>()).prop_map(|(event, partition)| Sent::Again { event, partition });
    prop_oneof![8 => new, 1 => again]
}

fn produce() -> impl Strategy<Value = Action> {
    (vec(sent(), 3..25), 0..20_u8)
        .prop_map(|(messages, gap_ms)| Action::Produce { messages, gap_ms })
}

fn start() -> impl Strategy<Value = Action> {
    let max_batch = prop_oneof![1 => Just(1_u8), 6 => 2..=20_u8];
    (any::<u8>(), max_batch, 0..25_u8).prop_map(|(listener, max_batch, dwell_ms)| Action::Start {
        listener,
        max_batch,
        dwell_ms,
    })
}

fn action() -> impl Strategy<Value = Action> {
    let kill = (any::<u8>(), prop::bool::weighted(0.3));
    let for_ms = prop_oneof![3 => 20..1_500_u16, 1 => BEYOND_PATIENCE_MS];
    let which = prop_oneof![
        3 => Just(Which::All),
        1 => (0..KEYS).prop_map(Which::Key),
        1 => (1..8_u8).prop_map(Which::Most),
    ];
    prop_oneof![
        7 => produce(),
        3 => start(),
        1 => any::<u8>().prop_map(Action::Stop),
        3 => kill.prop_map(|(worker, silently)| Action::Kill { worker, silently }),
        3 => (any::<u8>(), any::<bool>(), for_ms)
            .prop_map(|(worker, within, for_ms)| Action::Freeze { worker, within, for_ms }),
        3 => (1..10_u8).prop_map(Action::Heal),
        6 => (1..=2_u8, which, 0..25_u8)
            .prop_map(|(operators, which, dwell_ms)| Action::Redrive { operators, which, dwell_ms }),
        2 => (1..=2_u8).prop_map(|operators| Action::Drop { operators }),
        2 => option::weighted(0.7, any::<u8>()).prop_map(Action::Disconnect),
    ]
}

fn step(action: impl Strategy<Value = Action>) -> impl Strategy<Value = Step> {
    (action, 0..600_u16).prop_map(|(action, then_wait_ms)| Step {
        action,
        then_wait_ms,
    })
}

/// Any plan: some workers and messages first, or nothing could happen to them.
pub(crate) fn plan() -> impl Strategy<Value = Plan> {
    let beginning = (step(start()), step(produce()), step(start()));
    let two_listeners = prop::bool::weighted(0.2);
    let rest = vec(step(action()), 12..24);
    (1..=4_u8, two_listeners, beginning, rest).prop_map(
        |(partitions, two_listeners, (first, second, third), rest)| Plan {
            partitions,
            two_listeners,
            steps: [first, second, third].into_iter().chain(rest).collect(),
        },
    )
}

/// As JSON, which is what runs it again.
impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}
