//! How a batch comes to its end where something in it fails: it is run in parts, until what fails stands alone.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use uuid::Uuid;

use super::batch::{Settled, Work};
use super::clock::Moment;
use super::dead_letter::Kind;
use super::failure::{BreakerOpen, BusyKeys};
use super::ledger::{Key, Partition};
use super::{BoxError, Failure, Refusal};
use crate::message::Message;

/// How often a message that stands alone is tried, where nobody knows what is wrong with it, before it is dead-lettered.
pub(super) const TRIES: u32 = 5;
/// The wait before its second try; it doubles.
const FIRST_WAIT: Duration = Duration::from_millis(50);

/// Messages that are to be dead-lettered, as what and why.
pub(super) type Refused = HashMap<Uuid, (Kind, String)>;

/// Why a part was not settled.
#[derive(Debug)]
pub(super) enum Stop {
    Failure(Failure),
    /// The circuit breaker lets fewer dead letters pass.
    TooManyDeadLetters,
    /// It took too long; with fewer messages it may not.
    TooSlow(BoxError),
    /// Somebody else has locked keys of it that have dead letters.
    Busy(HashSet<Key>),
}

impl Stop {
    /// See [`Failure::spoils_connection`].
    pub(super) fn spoils_connection(&self) -> bool {
        matches!(self, Self::Failure(failure) if failure.spoils_connection())
    }

    /// With every error said in words.
    pub(super) fn in_words(self) -> Self {
        match self {
            Self::Failure(failure) if failure.is_too_slow() => {
                Self::TooSlow(failure.to_string().into())
            }
            Self::Failure(failure) => Self::Failure(failure.in_words()),
            Self::TooSlow(_) | Self::TooManyDeadLetters | Self::Busy(_) => self,
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
    /// Messages of the batch that had been applied when it failed first.
    since: usize,
    /// When it is tried again, of the time that the batch takes.
    due: Duration,
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
pub(super) struct Bisection<'a> {
    messages: &'a [Message],
    /// The most messages in one transaction.
    most: usize,
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
    /// How long the batch has taken by now, runs and waits: while one waits, so do all that wait.
    pub(super) spent: Duration,
    /// What came after a suspect of its key, or is of a busy one.
    held: BTreeSet<usize>,
    /// Keys that somebody else has locked.
    busy: HashSet<Key>,
    /// Whether such keys are waited for.
    pub(super) patient: bool,
    /// Whether each message is settled.
    done: Vec<bool>,
    total: Settled,
}

impl<'a> Bisection<'a> {
    pub(super) fn new(work: &'a Work, identify: fn(&Message) -> Uuid) -> Self {
        let all: Vec<usize> = (0..work.messages.len()).collect();
        Self {
            messages: &work.messages,
            most: work.most,
            full: work.full,
            identify,
            epochs: work.epochs.clone(),
            refused: Refused::new(),
            taken: work.taken,
            waiting: all.chunks(work.most).rev().map(<[_]>::to_vec).collect(),
            suspects: BTreeMap::new(),
            spent: Duration::ZERO,
            held: BTreeSet::new(),
            busy: HashSet::new(),
            patient: false,
            done: vec![false; all.len()],
            total: Settled::default(),
        }
    }

    /// What is to be run next; nothing when all is settled.
    ///
    /// # Errors
    /// If only suspects are left, and it does not show that they are themselves to blame; or what somebody else holds up.
    pub(super) fn next(&mut self) -> Result<Option<Part>, Failure> {
        if let Some(messages) = self.next_free() {
            let wait = Duration::ZERO;
            return Ok(Some(Part { messages, wait }));
        }
        let judged = self
            .suspects
            .iter()
            .filter(|(message, suspect)| self.judges(suspect) && !self.is_busy(**message))
            .map(|(message, suspect)| {
                let wait = suspect.due.saturating_sub(self.spent);
                // Of those whose time has come, the one that is nearest to its end: what takes long is dead-lettered one by one.
                (wait, Reverse(suspect.tries), *message)
            })
            .min();
        if let Some((wait, _, message)) = judged {
            let messages = vec![message];
            return Ok(Some(Part { messages, wait }));
        }
        if self.full && !self.busy.is_empty() {
            // Others could not come anyway, and whoever drains the key has it locked most of the time.
            self.patient = true;
            self.busy.clear();
            self.release();
            return self.next();
        }
        if let Some((_, suspect)) = self.suspects.pop_first() {
            return Err(Failure::Unknown(suspect.error));
        }
        if self.held.is_empty() {
            return Ok(None);
        }
        Err(Failure::Transient(BusyKeys.into()))
    }

    /// The next part without what waits for something else.
    fn next_free(&mut self) -> Option<Vec<usize>> {
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
                return Some(free);
            }
        }
        None
    }

    /// Whether a suspect may be dead-lettered: others could be applied since it failed first, so it is not that nothing can be
    /// applied any more; or what waits behind a single one leaves no room for others, and all would wait for it for ever.
    fn judges(&self, suspect: &Suspect) -> bool {
        self.total.applied > suspect.since
            || (self.full && self.suspects.len() == 1 && self.busy.is_empty())
    }

    /// Neither a suspect, nor behind one of its key, nor of a busy key.
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
            && !self.is_busy(message)
    }

    fn is_busy(&self, message: usize) -> bool {
        !self.busy.is_empty()
            && self.messages[message]
                .topic_key()
                .is_some_and(|key| self.busy.contains(&key))
    }

    /// Takes note of a part that is settled.
    pub(super) fn settled(&mut self, part: &Part, settled: Settled) {
        for (partition, epoch) in &settled.held {
            self.epochs.insert(partition.clone(), Some(*epoch));
        }
        for message in &part.messages {
            self.done[*message] = true;
        }
        self.total.add(settled);
        if let [message] = part.messages.as_slice()
            && self.suspects.remove(message).is_some()
        {
            self.release();
        }
    }

    /// What was held may be run, where nothing else holds it.
    fn release(&mut self) {
        let held: Vec<usize> = std::mem::take(&mut self.held).into_iter().collect();
        self.waiting
            .extend(held.chunks(self.most).rev().map(<[_]>::to_vec));
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
            (Stop::Busy(keys), _) => self.busy.extend(keys),
            (Stop::Failure(Failure::Refused(named)), _) => {
                if let Err(error) = self.refuse(&part.messages, named) {
                    return self.failed(part, Stop::Failure(Failure::Unknown(error)));
                }
            }
            (Stop::TooManyDeadLetters, Some(_)) => {
                return Err(Failure::Transient(BreakerOpen.into()));
            }
            (
                Stop::TooManyDeadLetters
                | Stop::TooSlow(_)
                | Stop::Failure(Failure::Poison(_) | Failure::Unknown(_)),
                None,
            ) => {
                let (first, second) = part.messages.split_at(part.messages.len() / 2);
                self.waiting.extend([second.to_vec(), first.to_vec()]);
                return Ok(());
            }
            (Stop::Failure(Failure::Poison(error)), Some(message)) => {
                self.move_to_dead_letter(message, Kind::Poison, error)?;
            }
            // Others may not take too long.
            (Stop::TooSlow(error) | Stop::Failure(Failure::Unknown(error)), Some(message)) => {
                let before = self.suspects.get(&message);
                let tries = before.map_or(0, |suspect| suspect.tries);
                let suspect = Suspect {
                    tries: tries + 1,
                    since: before.map_or(self.total.applied, |suspect| suspect.since),
                    due: self.spent + FIRST_WAIT * 2_u32.pow(tries),
                    error,
                };
                if suspect.tries < TRIES || !self.judges(&suspect) {
                    self.suspects.insert(message, suspect);
                    return Ok(());
                }
                self.move_to_dead_letter(message, Kind::Unknown, suspect.error)?;
            }
        }
        self.waiting.push(part.messages);
        Ok(())
    }

    fn move_to_dead_letter(
        &mut self,
        message: usize,
        kind: Kind,
        error: BoxError,
    ) -> Result<(), Failure> {
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
            self.refused.insert(id, (kind.into(), source.to_string()));
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
mod tests;
