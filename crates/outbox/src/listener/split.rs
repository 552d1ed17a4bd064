//! How a batch comes to its end where something in it fails: it is run in parts, until what fails stands alone.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use uuid::Uuid;

use super::batch::{Settled, Work};
use super::clock::Moment;
use super::ledger::Partition;
use super::letters::Kind;
use super::{BoxError, Failure, Refusal, RefusalKind};
use crate::message::Message;

/// How often a message that stands alone is tried, where nobody knows what is wrong with it, before it is put aside.
pub(super) const TRIES: u32 = 5;
/// The wait before its second try; it doubles.
const FIRST_WAIT: Duration = Duration::from_millis(50);

/// Messages that are to be put aside, as what and why.
pub(super) type Refused = HashMap<Uuid, (Kind, String)>;

/// Why a part was not settled.
#[derive(Debug)]
pub(super) enum Stop {
    Failure(Failure),
    /// The circuit breaker lets fewer letters pass.
    TooManyLetters,
    /// It took too long; with fewer messages it may not.
    TooSlow(BoxError),
}

impl Stop {
    /// With every error said in words.
    pub(super) fn in_words(self) -> Self {
        match self {
            Self::Failure(failure) if failure.is_too_slow() => {
                Self::TooSlow(failure.to_string().into())
            }
            Self::Failure(failure) => Self::Failure(failure.in_words()),
            Self::TooSlow(error) => Self::TooSlow(error),
            Self::TooManyLetters => Self::TooManyLetters,
        }
    }
}

impl<F: Into<Failure>> From<F> for Stop {
    fn from(failure: F) -> Self {
        Self::Failure(failure.into())
    }
}

/// A part to be run, by the indices of its messages, which are in the order in which they arrived.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) messages: Vec<usize>,
    /// How long to wait before.
    pub(super) wait: Duration,
}

/// A message that failed alone, and nobody knows why.
struct Suspect {
    tries: u32,
    error: BoxError,
}

/// A batch that was not settled to its end.
#[derive(Debug)]
pub(super) struct Unsettled {
    pub(super) failure: Failure,
    /// What the parts that were settled have come to.
    pub(super) settled: Settled,
    /// What is to be tried again, by its indices.
    pub(super) left: Vec<usize>,
}

/// A batch on its way.
pub(super) struct Split<'a> {
    messages: &'a [Message],
    /// Nothing further can come beside what failed before.
    full: bool,
    /// By which id the inbox knows a message. To find it is to read the message, and only what fails needs it.
    identify: fn(&Message) -> Uuid,
    /// As they are after the parts that were settled.
    pub(super) epochs: BTreeMap<Partition, Option<i64>>,
    pub(super) refused: Refused,
    pub(super) taken: Moment,
    /// Parts that wait; the last one is next.
    waiting: Vec<Vec<usize>>,
    suspects: BTreeMap<usize, Suspect>,
    /// What came after a suspect of its key.
    held: BTreeSet<usize>,
    /// Whether anything was applied: then a suspect is itself to blame.
    others: bool,
    /// Whether each message is settled.
    done: Vec<bool>,
    total: Settled,
}

impl<'a> Split<'a> {
    pub(super) fn new(work: &'a Work, identify: fn(&Message) -> Uuid) -> Self {
        let all: Vec<usize> = (0..work.messages.len()).collect();
        Self {
            messages: &work.messages,
            full: work.full,
            identify,
            epochs: work.epochs.clone(),
            refused: Refused::new(),
            taken: work.taken,
            waiting: all.chunks(work.most).rev().map(<[_]>::to_vec).collect(),
            suspects: BTreeMap::new(),
            held: BTreeSet::new(),
            others: false,
            done: vec![false; all.len()],
            total: Settled::default(),
        }
    }

    /// What is to be run next; nothing when all is settled.
    ///
    /// # Errors
    /// If only suspects are left, and it does not show that they are themselves to blame.
    pub(super) fn next(&mut self) -> Result<Option<Part>, Failure> {
        while let Some(mut part) = self.waiting.pop() {
            part.retain(|message| {
                !self
                    .total
                    .superseded
                    .contains(&self.messages[*message].partition())
            });
            let (free, held): (Vec<usize>, Vec<usize>) =
                part.into_iter().partition(|message| self.is_free(*message));
            self.held.extend(held);
            if !free.is_empty() {
                return Ok(Some(Part {
                    messages: free,
                    wait: Duration::ZERO,
                }));
            }
        }
        if let Some((message, Suspect { tries, .. })) = self.suspects.first_key_value()
            && self.judges()
        {
            return Ok(Some(Part {
                messages: vec![*message],
                wait: FIRST_WAIT * 2_u32.pow(tries.saturating_sub(1)),
            }));
        }
        match self.suspects.pop_first() {
            Some((_, suspect)) => Err(Failure::Unknown(suspect.error)),
            None => Ok(None),
        }
    }

    /// Whether a suspect may be put aside: others could be applied; or what waits behind a single one leaves no room for others,
    /// and all would wait for it for ever.
    fn judges(&self) -> bool {
        self.others || (self.full && self.suspects.len() == 1)
    }

    /// Neither a suspect nor behind one of its key.
    fn is_free(&self, message: usize) -> bool {
        let same = |suspect: usize| {
            let (suspect, message) = (&self.messages[suspect], &self.messages[message]);
            suspect.key.is_some()
                && suspect.key == message.key
                && suspect.at.topic == message.at.topic
        };
        !self.suspects.contains_key(&message)
            && !self
                .suspects
                .range(..message)
                .any(|(suspect, _)| same(*suspect))
    }

    /// Takes note of a part that is settled.
    pub(super) fn settled(&mut self, part: &Part, settled: Settled) {
        for (partition, epoch) in &settled.held {
            self.epochs.insert(partition.clone(), Some(*epoch));
        }
        for message in &part.messages {
            self.done[*message] = true;
        }
        self.others |= settled.applied > 0;
        self.total.add(settled);
        if let [message] = part.messages.as_slice()
            && self.suspects.remove(message).is_some()
        {
            self.release();
        }
    }

    /// What waited behind a suspect may be run.
    fn release(&mut self) {
        let held = std::mem::take(&mut self.held);
        self.waiting.push(held.into_iter().collect());
    }

    /// Takes note of a part that was not settled.
    ///
    /// # Errors
    /// If the batch can only be tried again as a whole.
    pub(super) fn failed(&mut self, part: Part, stop: Stop) -> Result<(), Failure> {
        let alone = match part.messages.as_slice() {
            [message] => Some(*message),
            _ => None,
        };
        match (stop, alone) {
            (Stop::Failure(failure @ Failure::Transient(_)), _) => return Err(failure),
            (Stop::Failure(Failure::Refused(named)), _) => {
                if let Err(error) = self.refuse(&part.messages, named) {
                    return self.failed(part, Stop::Failure(Failure::Unknown(error)));
                }
            }
            (Stop::TooManyLetters, Some(_)) => {
                return Err(Failure::Transient("the circuit breaker is open".into()));
            }
            (
                Stop::TooManyLetters
                | Stop::TooSlow(_)
                | Stop::Failure(Failure::Poison(_) | Failure::Unknown(_)),
                None,
            ) => {
                let (first, second) = part.messages.split_at(part.messages.len() / 2);
                self.waiting.extend([second.to_vec(), first.to_vec()]);
                return Ok(());
            }
            (Stop::Failure(Failure::Poison(error)), Some(message)) => {
                self.put_aside(message, Kind::Poison, error)?;
            }
            // Others may not take too long.
            (Stop::TooSlow(error) | Stop::Failure(Failure::Unknown(error)), Some(message)) => {
                let tries = self
                    .suspects
                    .get(&message)
                    .map_or(0, |suspect| suspect.tries)
                    + 1;
                if tries < TRIES || !self.judges() {
                    self.suspects.insert(message, Suspect { tries, error });
                    return Ok(());
                }
                self.put_aside(message, Kind::Unknown, error)?;
            }
        }
        self.waiting.push(part.messages);
        Ok(())
    }

    fn put_aside(&mut self, message: usize, kind: Kind, error: BoxError) -> Result<(), Failure> {
        if self.suspects.remove(&message).is_some() {
            // What waits behind it is run after it.
            self.release();
        }
        match self.refused.insert(
            (self.identify)(&self.messages[message]),
            (kind, error.to_string()),
        ) {
            None => Ok(()),
            // It fails though it was left out: it is not the message.
            Some(_) => Err(Failure::Unknown(error)),
        }
    }

    /// Notes what a handler refuses; what is not in the part, or was refused before, would repeat for ever.
    fn refuse(&mut self, part: &[usize], named: Vec<Refusal>) -> Result<(), BoxError> {
        let before = self.refused.len();
        let identify = |message: &usize| (self.identify)(&self.messages[*message]);
        let ids: HashSet<Uuid> = part.iter().map(identify).collect();
        for Refusal { id, kind, source } in named {
            if !ids.contains(&id) {
                let error =
                    format!("the handler refused event {id}, which it was not given: {source}");
                return Err(error.into());
            }
            let kind = match kind {
                RefusalKind::Poison => Kind::Poison,
                RefusalKind::Deferred => Kind::Deferred,
            };
            self.refused.insert(id, (kind, source.to_string()));
        }
        if self.refused.len() == before {
            return Err("the handler refused nothing new".into());
        }
        Ok(())
    }

    /// What the batch has come to.
    pub(super) fn ended(self, outcome: Result<(), Failure>) -> Result<Settled, Box<Unsettled>> {
        let (messages, settled) = (self.messages, self.total);
        let Err(failure) = outcome else {
            return Ok(settled);
        };
        // Partitions that others have claimed are read again.
        let left = (0..messages.len()).filter(|message| {
            let partition = messages[*message].partition();
            !self.done[*message] && !settled.superseded.contains(&partition)
        });
        let left: Vec<usize> = left.collect();
        Err(Box::new(Unsettled {
            failure,
            settled,
            left,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Position;

    /// Messages of these keys; what fails is known by its index.
    struct Rig {
        work: Work,
        /// Never to be applied.
        poison: BTreeSet<usize>,
        /// Fails, nobody knows why, as many times.
        strange: BTreeMap<usize, u32>,
        /// Takes too long.
        slow: BTreeSet<usize>,
        /// Indices in the order in which they were settled, and whether they were applied.
        log: Vec<(usize, bool)>,
        runs: usize,
    }

    fn by_offset(message: &Message) -> Uuid {
        Uuid::from_u128(message.at.offset.try_into().unwrap())
    }

    impl Rig {
        fn new(keys: &str) -> Self {
            let messages: Vec<Message> = keys
                .chars()
                .zip(0..)
                .map(|(key, offset)| Message {
                    at: Position {
                        topic: "t".to_owned(),
                        partition: 0,
                        offset,
                    },
                    timestamp: None,
                    key: (key != '-').then(|| key.to_string().into_bytes()),
                    headers: Vec::new(),
                    value: None,
                })
                .collect();
            Self {
                work: Work {
                    messages,
                    epochs: [(("t".to_owned(), 0), None)].into(),
                    taken: Moment::now(),
                    most: 500,
                    full: false,
                },
                poison: BTreeSet::new(),
                strange: BTreeMap::new(),
                slow: BTreeSet::new(),
                log: Vec::new(),
                runs: 0,
            }
        }

        fn run(&mut self) -> Result<Settled, Box<Unsettled>> {
            let work = self.work.clone();
            let mut split = Split::new(&work, by_offset);
            let outcome = self.parts(&mut split);
            split.ended(outcome)
        }

        fn parts(&mut self, split: &mut Split<'_>) -> Result<(), Failure> {
            let ids: Vec<Uuid> = self.work.messages.iter().map(by_offset).collect();
            while let Some(part) = split.next()? {
                self.runs += 1;
                assert!(self.runs < 10_000, "it goes round in circles");
                let wanted: Vec<usize> = part
                    .messages
                    .iter()
                    .copied()
                    .filter(|m| !split.refused.contains_key(&ids[*m]))
                    .collect();
                if wanted.iter().any(|message| self.poison.contains(message)) {
                    split.failed(part, Stop::Failure(Failure::Poison("23514".into())))?;
                    continue;
                }
                if wanted.iter().any(|message| self.slow.contains(message)) {
                    split.failed(part, Stop::TooSlow("57014".into()))?;
                    continue;
                }
                let strange = wanted
                    .iter()
                    .find(|m| self.strange.get(m).is_some_and(|left| *left > 0));
                if let Some(strange) = strange {
                    if part.messages.len() == 1 {
                        *self.strange.get_mut(strange).unwrap() -= 1;
                    }
                    split.failed(part, Stop::Failure(Failure::Unknown("XX000".into())))?;
                    continue;
                }
                self.log.extend(
                    part.messages
                        .iter()
                        .map(|message| (*message, wanted.contains(message))),
                );
                let settled = Settled {
                    held: [(("t".to_owned(), 0), 7)].into(),
                    next: part
                        .messages
                        .last()
                        .map(|last| (("t".to_owned(), 0), i64::try_from(*last).unwrap() + 1))
                        .into_iter()
                        .collect(),
                    applied: wanted.len(),
                    fresh: part.messages.len(),
                    lettered: part.messages.len() - wanted.len(),
                    ..Settled::default()
                };
                split.settled(&part, settled);
            }
            Ok(())
        }

        fn of_key(&self, key: char) -> Vec<usize> {
            let key = Some(key.to_string().into_bytes());
            let of_key = self
                .log
                .iter()
                .filter(|(message, _)| self.work.messages[*message].key == key);
            of_key.map(|(message, _)| *message).collect()
        }
    }

    #[test]
    fn a_batch_without_failure_is_one_run() {
        let mut rig = Rig::new("abc-a");
        let settled = rig.run().unwrap();
        assert_eq!((rig.runs, settled.applied), (1, 5));
        assert_eq!(settled.next.into_values().collect::<Vec<_>>(), [5]);
    }

    #[test]
    fn poison_is_found_in_a_few_runs_and_everything_else_is_applied_in_order() {
        let mut rig = Rig::new(&"abcdefgh".repeat(60));
        rig.poison = [17, 300].into();
        let settled = rig.run().unwrap();
        assert_eq!((settled.applied, settled.lettered), (478, 2));
        assert!(rig.runs < 45, "{} runs", rig.runs);
        let order: Vec<usize> = rig.log.iter().map(|(message, _)| *message).collect();
        assert!(order.is_sorted(), "parts are run in order");
        assert_eq!(settled.next.into_values().collect::<Vec<_>>(), [480]);
    }

    #[test]
    fn all_may_be_poison() {
        let mut rig = Rig::new(&"ab".repeat(8));
        rig.poison = (0..16).collect();
        assert_eq!(rig.run().unwrap().lettered, 16);
    }

    #[test]
    fn what_fails_strangely_is_tried_a_few_times_while_others_go_on_and_its_key_waits() {
        let mut rig = Rig::new("abab-a");
        rig.strange = [(0, 2)].into();
        let settled = rig.run().unwrap();
        assert_eq!((settled.applied, settled.lettered), (6, 0));
        assert_eq!(rig.of_key('a'), [0, 2, 5], "in order");
        assert!(
            rig.log.first().is_some_and(|(first, _)| *first == 1),
            "b did not wait"
        );

        rig = Rig::new("abab-a");
        rig.strange = [(0, u32::MAX)].into();
        let settled = rig.run().unwrap();
        assert_eq!((settled.applied, settled.lettered), (5, 1));
        assert_eq!(rig.of_key('a'), [0, 2, 5]);
        assert!(rig.log.contains(&(0, false)));
        assert_eq!(settled.next.into_values().collect::<Vec<_>>(), [6]);
    }

    #[test]
    fn one_that_takes_too_long_alone_is_put_aside_where_others_can_be_applied() {
        let mut rig = Rig::new("abab-a");
        rig.slow = [0].into();
        let settled = rig.run().unwrap();
        assert_eq!((settled.applied, settled.lettered), (5, 1));
        assert_eq!(rig.of_key('a'), [0, 2, 5]);
        rig = Rig::new("ab");
        rig.slow = [0, 1].into();
        let unsettled = rig.run().unwrap_err();
        assert!(matches!(unsettled.failure, Failure::Unknown(_)));
    }

    #[test]
    fn two_that_fail_strangely_of_one_key_end_in_order() {
        let mut rig = Rig::new("aaab");
        rig.strange = [(0, u32::MAX), (2, u32::MAX)].into();
        let settled = rig.run().unwrap();
        assert_eq!((settled.applied, settled.lettered), (2, 2));
        assert_eq!(rig.of_key('a'), [0, 1, 2]);
    }

    #[test]
    fn where_nothing_can_be_applied_nothing_is_put_aside() {
        let mut rig = Rig::new("ab-");
        rig.strange = [(0, u32::MAX), (1, u32::MAX), (2, u32::MAX)].into();
        for full in [false, true] {
            rig.work.full = full;
            let unsettled = rig.run().unwrap_err();
            assert!(matches!(unsettled.failure, Failure::Unknown(_)));
            assert_eq!(unsettled.left, [0, 1, 2]);
        }
        assert!(rig.log.is_empty());
    }

    #[test]
    fn one_that_fails_strangely_and_leaves_no_room_for_others_is_put_aside() {
        let mut rig = Rig::new("aaaa");
        rig.strange = [(0, u32::MAX)].into();
        assert_eq!(rig.run().unwrap_err().left, [0, 1, 2, 3]);
        rig.work.full = true;
        let settled = rig.run().unwrap();
        assert_eq!((settled.applied, settled.lettered), (3, 1));
        assert_eq!(rig.of_key('a'), [0, 1, 2, 3]);
    }

    #[test]
    fn no_part_is_larger_than_a_transaction_may_be() {
        let mut rig = Rig::new("abcdefg");
        rig.work.most = 3;
        rig.run().unwrap();
        assert_eq!((rig.runs, rig.log.len()), (3, 7));
    }

    #[test]
    fn what_was_settled_is_not_tried_again() {
        let mut rig = Rig::new("abcd");
        rig.work.messages[3].at.partition = 1;
        rig.work.most = 1;
        let mut split = Split::new(&rig.work, by_offset);
        let settled = |offset| Settled {
            next: [(("t".to_owned(), 0), offset + 1)].into(),
            applied: 1,
            ..Settled::default()
        };
        for (message, fails) in [(0, false), (1, true), (2, false), (3, false)] {
            let part = split.next().unwrap().unwrap();
            assert_eq!(part.messages, [message]);
            if fails {
                let strange = Stop::Failure(Failure::Unknown("XX000".into()));
                split.failed(part, strange).unwrap();
            } else if message == 3 {
                let superseded = Settled {
                    superseded: [("t".to_owned(), 1)].into(),
                    ..Settled::default()
                };
                split.settled(&part, superseded);
            } else {
                split.settled(&part, settled(i64::try_from(message).unwrap()));
            }
        }
        let lost = Failure::Transient("connection lost".into());
        let unsettled = split.ended(Err(lost)).unwrap_err();
        assert_eq!(unsettled.left, [1]);
        assert_eq!(unsettled.settled.superseded.len(), 1, "and are read again");
    }

    #[test]
    fn a_message_that_fails_though_it_was_left_out_is_not_to_blame() {
        let work = Rig::new("a").work;
        let mut split = Split::new(&work, by_offset);
        for _ in 0..2 {
            let part = split.next().unwrap().unwrap();
            let outcome = split.failed(
                part,
                Stop::Failure(Failure::Poison("disk full of NULs".into())),
            );
            if let Err(failure) = outcome {
                assert!(matches!(failure, Failure::Unknown(_)));
                return;
            }
        }
        panic!("it was believed");
    }

    #[test]
    fn what_was_claimed_meanwhile_is_left_out() {
        let work = Rig::new("ab").work;
        let mut split = Split::new(&work, by_offset);
        let part = split.next().unwrap().unwrap();
        split.failed(part, Stop::TooManyLetters).unwrap();
        let part = split.next().unwrap().unwrap();
        let superseded = Settled {
            superseded: [("t".to_owned(), 0)].into(),
            ..Settled::default()
        };
        split.settled(&part, superseded);
        assert_eq!(split.next().unwrap(), None);
    }
}
