//! The listener: what a worker holds, and the batch that it has in flight.

use super::action::Action;
use super::transaction::{
    Run, Transaction, block_keys, commit, enter_inbox, lock_epochs, lock_keys, run,
};
use super::world::{DEPTH, PARTITIONS, Set, State, Variant, World, slot};

/// The epoch that a worker knows of a partition. Epochs only rise and are only compared for equality, so that this is
/// all that numbers would tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Known {
    /// None: the next transaction claims the partition.
    #[default]
    Unclaimed,
    Current,
    /// Somebody has claimed the partition since.
    Stale,
}

/// A partition that a worker believes to be its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Held {
    /// The offset of the next message to take in flight. A log does not change, so that the buffer is no state.
    pub(crate) next: usize,
    pub(crate) known: Known,
    /// Superseded: to be read again from the committed offset.
    pub(crate) rewind: bool,
    /// What is buffered was received long ago.
    pub(crate) old: bool,
    /// The offset after the last message settled while earlier ones were left over.
    pub(crate) reached: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Worker {
    pub(crate) held: [Option<Held>; PARTITIONS],
    /// Offsets whose commit is on its way to Kafka.
    pub(crate) sent: [Option<usize>; PARTITIONS],
    /// The group has given it up, and it has not noticed yet.
    pub(crate) expelled: bool,
    pub(crate) hand: Option<Hand>,
}

impl Worker {
    /// Forgets a partition that it has lost.
    pub(crate) fn forget(&mut self, partition: usize) {
        self.held[partition] = None;
        if let Some(hand) = &mut self.hand {
            hand.gone |= Set::of(partition);
        }
    }

    pub(crate) fn transaction(&self) -> Option<&Transaction> {
        self.hand.as_ref().map(|hand| &hand.transaction)
    }

    /// The offset commit's request goes out, unless the group would not hear it any more.
    fn send(&mut self, partition: usize, offset: usize) {
        if !self.expelled {
            self.sent[partition] = Some(offset);
        }
    }

    /// Whether a batch is in flight, and not just waiting.
    pub(crate) fn is_settling(&self) -> bool {
        let hand = self.hand.as_ref();
        hand.is_some_and(|hand| hand.stage != Stage::Waiting)
    }

    /// Nothing is left over: what is settled next says alone how far it has come.
    fn leave_nothing(&mut self) {
        let held = self.held.iter_mut().flatten();
        held.for_each(|held| held.reached = 0);
    }

    fn is_mine(&self, partition: usize, gone: Set) -> bool {
        self.held[partition].is_some() && !gone.has(partition)
    }

    fn known(&self) -> [Known; PARTITIONS] {
        self.held
            .map(|held| held.map_or(Known::Unclaimed, |held| held.known))
    }
}

/// The statement that comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Stage {
    /// Not all of it could be settled; the listener's loop has not heard of it yet.
    Failed,
    /// What is left over waits to be tried again.
    Waiting,
    Epochs,
    Inbox,
    Keys,
    /// The handler, the dead letters, and the commit where no key is to be blocked.
    Handler,
    Block,
    Commit,
    /// Committed; the listener's loop has not heard of it yet.
    Answered,
}

/// The in-flight batch.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Hand {
    pub(crate) whole: Set,
    /// The messages of the transaction in flight, then those of the halves that come after it.
    pub(crate) parts: [Set; 4],
    /// Messages that failed alone, nobody knows why, and what came after them of their keys; and what is of keys that somebody
    /// else has locked.
    left: Set,
    pub(crate) known: [Known; PARTITIONS],
    /// Some of it was received long ago.
    pub(crate) old: bool,
    /// Partitions lost since the batch was taken.
    gone: Set,
    /// Events that the handler refused.
    pub(crate) refused: Set,
    pub(crate) superseded: Set,
    /// The offset after the last settled message.
    pub(crate) next: [Option<usize>; PARTITIONS],
    pub(crate) stage: Stage,
    pub(crate) transaction: Transaction,
}

impl Hand {
    pub(crate) fn new(whole: Set, known: [Known; PARTITIONS]) -> Self {
        Self {
            whole,
            parts: [whole, Set::default(), Set::default(), Set::default()],
            left: Set::default(),
            known,
            old: false,
            gone: Set::default(),
            refused: Set::default(),
            superseded: Set::default(),
            next: [None; PARTITIONS],
            stage: Stage::Epochs,
            transaction: Transaction::default(),
        }
    }

    pub(crate) fn is_in_transaction(&self) -> bool {
        self.transaction != Transaction::default()
    }

    /// The transaction ends without effect.
    pub(crate) fn fail(&mut self) {
        self.transaction = Transaction::default();
        self.stage = Stage::Failed;
    }

    pub(crate) fn run_again(&mut self) {
        self.transaction = Transaction::default();
        self.stage = Stage::Epochs;
    }

    /// In two halves, which commit on their own.
    pub(crate) fn split(&mut self) {
        let half = self.parts[0].len() / 2;
        let first: Set = self.parts[0].iter().take(half).collect();
        let second = self.parts[0] - first;
        self.parts = [first, second, self.parts[1], self.parts[2]];
        self.run_again();
    }

    /// Goes on with the next part, if there is one.
    pub(crate) fn go_on(&mut self) {
        self.parts[0] = Set::default();
        self.run_rest();
    }

    /// Runs what is not left over, if there is anything.
    fn run_rest(&mut self) {
        let mut parts = self.parts.into_iter();
        self.parts = std::array::from_fn(|_| {
            let next = parts.find(|part| !part.is_empty());
            next.unwrap_or_default()
        });
        self.run_again();
        if self.parts[0].is_empty() {
            self.stage = if self.left.is_empty() {
                Stage::Answered
            } else {
                Stage::Failed
            };
        }
    }

    /// Leaves the message of the transaction over, with what comes after it of its key.
    fn leave_first(&mut self, world: &World) {
        let first = self.parts[0];
        self.left |= first;
        self.parts[0] = Set::default();
        let keys = first.iter().filter_map(|slot| world.key(world.event(slot)));
        self.leave(world, keys.collect());
    }

    /// Leaves over what is of these keys.
    pub(crate) fn leave(&mut self, world: &World, keys: Set) {
        let key = |slot: usize| world.key(world.event(slot));
        let is_of_them = |slot: &usize| key(*slot).is_some_and(|key| keys.has(key));
        for part in &mut self.parts {
            let held: Set = part.iter().filter(is_of_them).collect();
            self.left |= held;
            *part = *part - held;
        }
        self.run_rest();
    }

    /// Messages of the transaction whose partitions are held, in order.
    pub(crate) fn messages(&self) -> impl Iterator<Item = usize> {
        let held = self.transaction.held;
        self.parts[0]
            .iter()
            .filter(move |slot| held.has(slot / DEPTH))
    }
}

/// The steps of worker `w`, but for those that Kafka has a part in.
pub(crate) fn steps(
    world: &World,
    state: &State,
    w: usize,
    add: &mut impl FnMut(Action, bool, State),
) {
    let Some(hand) = &state.workers[w].hand else {
        return;
    };
    let mut to = state.clone();
    match hand.stage {
        // It is taken in flight again.
        Stage::Waiting => {}
        Stage::Epochs => {
            if lock_epochs(world, state, &mut to, w) {
                add(Action::Epochs(w), false, to);
            }
        }
        Stage::Inbox => {
            if enter_inbox(world, state, &mut to, w) {
                add(Action::Inbox(w), false, to);
            }
        }
        Stage::Keys => {
            lock_keys(world, state, &mut to, w);
            add(Action::Keys(w), false, to);
        }
        Stage::Handler => match run(world, hand) {
            Run::Refused(event) => {
                in_hand(&mut to, w, |hand| {
                    hand.refused |= Set::of(event);
                    hand.run_again();
                });
                add(Action::Refuse(w, event), false, to);
            }
            Run::Failed => {
                in_hand(&mut to, w, Hand::split);
                add(Action::Split(w), false, to);
            }
            Run::Done(outcome) if outcome.keys.is_empty() => {
                if outcome.strange {
                    in_hand(&mut to, w, |hand| hand.leave_first(world));
                    add(Action::Leave(w), false, to);
                }
                commit(world, state, w, outcome, add);
            }
            Run::Done(outcome) => {
                if block_keys(world, state, &mut to, w, outcome.keys) {
                    add(Action::Block(w), false, to);
                }
            }
        },
        Stage::Block => {
            if let Run::Done(outcome) = run(world, hand)
                && block_keys(world, state, &mut to, w, outcome.keys)
            {
                add(Action::Block(w), false, to);
            }
        }
        Stage::Commit => {
            if let Run::Done(outcome) = run(world, hand) {
                commit(world, state, w, outcome, add);
            }
        }
        Stage::Answered | Stage::Failed => {
            hear(world, &mut to, w);
            add(Action::Answered(w), false, to);
        }
    }
    if hand.is_in_transaction() {
        let mut to = state.clone();
        in_hand(&mut to, w, Hand::fail);
        add(Action::Abort(w), true, to);
    }
}

pub(crate) fn in_hand(state: &mut State, w: usize, change: impl FnOnce(&mut Hand)) {
    if let Some(hand) = &mut state.workers[w].hand {
        change(hand);
    }
}

/// The loop hears what the batch has come to: what is left over waits, and is not committed.
fn hear(world: &World, to: &mut State, w: usize) {
    let worker = &mut to.workers[w];
    let Some(hand) = worker.hand.take() else {
        return;
    };
    let undone = hand
        .parts
        .iter()
        .fold(hand.left, |undone, part| undone | *part);
    let left: Set = undone
        .iter()
        .filter(|slot| !hand.superseded.has(slot / DEPTH))
        .collect();
    for partition in (0..PARTITIONS).filter(|partition| !hand.gone.has(*partition)) {
        let Some(held) = &mut worker.held[partition] else {
            continue;
        };
        if hand.next[partition].is_some() {
            held.known = hand.known[partition];
        }
        if hand.superseded.has(partition) && !world.is(Variant::GoesOn) {
            held.known = Known::Unclaimed;
            held.rewind = !world.is(Variant::ClaimsWithoutSeek);
            held.reached = 0;
        }
        if let Some(next) = hand.next[partition]
            && !world.is(Variant::OffsetFirst)
        {
            let reached = held.reached.max(next);
            held.reached = reached;
            let first = left.iter().find(|slot| slot / DEPTH == partition);
            let next = first
                .filter(|_| !world.is(Variant::CommitsPastLeft))
                .map_or(reached, |first| reached.min(first % DEPTH));
            worker.send(partition, next);
        }
    }
    if left.is_empty() {
        worker.leave_nothing();
    } else {
        let Hand { gone, old, .. } = hand;
        worker.hand = Some(Hand {
            old,
            gone,
            stage: Stage::Waiting,
            ..Hand::new(left, Default::default())
        });
    }
}

/// Takes the next messages in flight, with what is left over of the last ones and still the worker's.
pub(crate) fn take(
    world: &World,
    state: &State,
    w: usize,
    add: &mut impl FnMut(Action, bool, State),
) {
    let worker = &state.workers[w];
    if worker.is_settling() || worker.held.iter().flatten().any(|held| held.rewind) {
        return;
    }
    let again = worker.hand.as_ref();
    let left: Set = again.map_or_else(Set::default, |hand| {
        let mine = |slot: &usize| worker.is_mine(slot / DEPTH, hand.gone);
        hand.whole.iter().filter(mine).collect()
    });
    let waiting = |partition: usize| {
        let next = worker.held[partition].map_or(DEPTH, |held| held.next);
        world.log[partition].len().saturating_sub(next)
    };
    for first in 0..=waiting(0) {
        for second in 0..=waiting(1) {
            let further = first + second;
            let is_nothing = again.is_none() && further == 0;
            if is_nothing || further > world.batch.saturating_sub(left.len()) {
                continue;
            }
            let mut to = state.clone();
            let worker = &mut to.workers[w];
            let (mut whole, mut old) = (left, again.is_some_and(|hand| hand.old));
            for (partition, count) in [first, second].into_iter().enumerate() {
                if let Some(held) = &mut worker.held[partition]
                    && count > 0
                {
                    whole |= (0..count).map(|o| slot(partition, held.next + o)).collect();
                    held.next += count;
                    old |= held.old;
                    let next = held.next;
                    if world.is(Variant::OffsetFirst) {
                        worker.send(partition, next);
                    }
                }
            }
            if left.is_empty() {
                worker.leave_nothing();
            }
            worker.hand = (!whole.is_empty()).then(|| Hand {
                old,
                ..Hand::new(whole, worker.known())
            });
            add(Action::Take(w, whole), false, to);
        }
    }
}
