//! Bisection: how a batch comes to its end when something in it fails.
//!
//! This file decides and does nothing else: it neither reads nor writes, so that its tests need no database.
//!
//! # How a culprit is found
//! The bisection halves a part whose transaction fails, and settles the halves one after the other, in order. A culprit among `n`
//! messages stands alone after about `2 log n` transactions, which have applied all other messages. What happens to a message that
//! stands alone depends on its failure:
//!
//! - *transient*: the whole batch waits, since the database or the handler is not able to work now;
//! - *poison*, or refused by the handler: it becomes a dead letter in the next transaction that holds it;
//! - *unknown*, or too slow: it is a *suspect*. Others go on, except later messages of its key. The listener attempts it again
//!   with back-off, and dead-letters it after [`MAX_ATTEMPTS`] – but only if it has applied others since the suspect failed first
//!   ([`Bisection::can_isolate`]). Otherwise everything may fail, and the listener would empty a healthy topic into the table of
//!   dead letters.
//!
//! # Order
//! The listener settles messages of one key in the order of their offsets. So it holds back what comes behind a suspect of its key
//! until it has applied or dead-lettered the suspect. It also holds back messages of a key that another transaction has locked.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use uuid::Uuid;

use super::backoff::Backoff;
use super::batch::{Batch, BatchPart, Epochs, Isolated, Settled, Unsettled};
use super::dead_letter_kind::Kind;
use super::failure::{BoxError, Failure, Refusal};
use super::partition::{Key, Partition};
use super::stop::{Blocker, Stop};
use crate::message::Message;

/// Attempts of a message that stands alone and fails for an unknown reason, before it becomes a dead letter.
pub(super) const MAX_ATTEMPTS: u32 = 5;
/// The waits between these attempts.
const BACKOFF: Backoff = Backoff {
    initial: Duration::from_millis(50),
    max: Duration::from_secs(1),
};

/// The messages to settle next in one transaction, by their indices in order of arrival.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Next {
    pub(super) messages: Vec<usize>,
    /// How long to wait before.
    pub(super) wait: Duration,
}

/// A message that failed alone, for an unknown reason.
struct Suspect {
    attempts: u32,
    /// Messages of the batch that had been applied when it failed first.
    applied_before: usize,
    /// When it is attempted again, as a part of the time that the batch takes.
    retry_at: Duration,
    error: BoxError,
}

/// The state of a batch while it is settled in parts.
pub(super) struct Bisection<'a> {
    batch: &'a Batch,
    /// Reads a message's identity. It takes decoding, and only failures need it.
    identify: fn(&Message) -> Uuid,
    /// As they are after the parts settled so far.
    epochs: Epochs,
    isolated: Isolated,
    /// Parts that are still to be settled; the last one is next.
    pending: Vec<Vec<usize>>,
    suspects: BTreeMap<usize, Suspect>,
    /// Messages behind a suspect of their key, or of a locked key.
    held_back: BTreeSet<usize>,
    /// Keys that another transaction has locked.
    locked_keys: HashSet<Key>,
    waits_for_keys: bool,
    /// The time that the batch has taken, attempts and waits together: several suspects wait at the same time.
    pub(super) elapsed: Duration,
    /// Whether each message is settled.
    done: Vec<bool>,
    settled: Settled,
}

impl<'a> Bisection<'a> {
    pub(super) fn new(batch: &'a Batch, identify: fn(&Message) -> Uuid) -> Self {
        let all: Vec<usize> = (0..batch.messages.len()).collect();
        Self {
            batch,
            identify,
            epochs: batch.epochs.clone(),
            isolated: Isolated::new(),
            pending: chunks(&all, batch.max_transaction),
            suspects: BTreeMap::new(),
            held_back: BTreeSet::new(),
            locked_keys: HashSet::new(),
            waits_for_keys: false,
            elapsed: Duration::ZERO,
            done: vec![false; all.len()],
            settled: Settled::default(),
        }
    }

    /// What to settle next; nothing once all is settled.
    ///
    /// # Errors
    /// What the rest waits for: only suspects are left, and nothing shows that they are themselves to blame; or only messages
    /// whose keys another transaction has locked.
    pub(super) fn next(&mut self) -> Result<Option<Next>, Blocker> {
        if let Some(messages) = self.next_free() {
            let wait = Duration::ZERO;
            return Ok(Some(Next { messages, wait }));
        }
        let isolable = self
            .suspects
            .iter()
            .filter(|(message, suspect)| self.can_isolate(suspect) && !self.is_locked(**message))
            .map(|(message, suspect)| {
                let wait = suspect.retry_at.saturating_sub(self.elapsed);
                // Of those whose wait is over, the one with the most attempts: slow ones are isolated one after the other.
                (wait, Reverse(suspect.attempts), *message)
            })
            .min();
        if let Some((wait, _, message)) = isolable {
            let messages = vec![message];
            return Ok(Some(Next { messages, wait }));
        }
        if self.batch.is_full && !self.locked_keys.is_empty() {
            // No other message could come in anyway, and an operator who redrives a whole key has it locked most of the time.
            self.waits_for_keys = true;
            self.locked_keys.clear();
            self.release();
            return self.next();
        }
        if let Some((_, suspect)) = self.suspects.pop_first() {
            return Err(Failure::Unknown(suspect.error).into());
        }
        if self.held_back.is_empty() {
            return Ok(None);
        }
        Err(Blocker::KeyLocked)
    }

    /// The next part, without messages that must wait.
    fn next_free(&mut self) -> Option<Vec<usize>> {
        while let Some(mut part) = self.pending.pop() {
            part.retain(|message| !self.settled.superseded.contains(&self.partition(*message)));
            let (free, held_back): (Vec<usize>, Vec<usize>) =
                part.into_iter().partition(|message| self.is_free(*message));
            self.held_back.extend(held_back);
            if !free.is_empty() {
                return Some(free);
            }
        }
        None
    }

    /// Whether a suspect may become a dead letter. Others must have been applied since it failed first, so that it is not
    /// everything that fails; or a single suspect and the messages behind it leave no room for others, which would wait for ever.
    fn can_isolate(&self, suspect: &Suspect) -> bool {
        self.settled.applied > suspect.applied_before
            || (self.batch.is_full && self.suspects.len() == 1 && self.locked_keys.is_empty())
    }

    /// Neither a suspect, nor behind one of its key, nor of a locked key.
    fn is_free(&self, message: usize) -> bool {
        let same_key = |suspect: usize| {
            let (suspect, message) = (self.message(suspect), self.message(message));
            suspect.key.is_some()
                && suspect.key == message.key
                && suspect.at.topic == message.at.topic
        };
        !self.suspects.contains_key(&message)
            && !self
                .suspects
                .range(..message)
                .any(|(suspect, _)| same_key(*suspect))
            && !self.is_locked(message)
    }

    fn is_locked(&self, message: usize) -> bool {
        !self.locked_keys.is_empty()
            && Key::of(self.message(message)).is_some_and(|key| self.locked_keys.contains(&key))
    }

    fn message(&self, index: usize) -> &'a Message {
        &self.batch.messages[index]
    }

    fn partition(&self, index: usize) -> Partition {
        Partition::of(self.message(index))
    }

    /// What a transaction needs to know to settle `messages`.
    pub(super) fn part(&self, messages: &[usize]) -> BatchPart<'_> {
        BatchPart {
            messages: messages.iter().map(|index| self.message(*index)).collect(),
            epochs: &self.epochs,
            taken_at: self.batch.taken_at,
            isolated: &self.isolated,
            waits_for_keys: self.waits_for_keys,
        }
    }

    /// Records that `next` is settled.
    pub(super) fn record_settled(&mut self, next: &Next, settled: Settled) {
        for (partition, epoch) in &settled.held {
            self.epochs.insert(partition.clone(), Some(*epoch));
        }
        for message in &next.messages {
            self.done[*message] = true;
        }
        self.settled.add(settled);
        if let [message] = next.messages.as_slice()
            && self.suspects.remove(message).is_some()
        {
            self.release();
        }
    }

    /// What was held back is pending again.
    fn release(&mut self) {
        let held_back: Vec<usize> = std::mem::take(&mut self.held_back).into_iter().collect();
        self.pending
            .extend(chunks(&held_back, self.batch.max_transaction));
    }

    /// Records that `next` was not settled.
    ///
    /// # Errors
    /// What the batch waits for, if nothing can settle the rest of it now.
    pub(super) fn record_stop(&mut self, next: Next, stop: Stop) -> Result<(), Blocker> {
        let alone = match next.messages.as_slice() {
            [message] => Some(*message),
            _ => None,
        };
        match (stop, alone) {
            (Stop::BreakerOpen, _) | (Stop::BreakerLimit, Some(_)) => {
                return Err(Blocker::BreakerOpen);
            }
            (Stop::KeyLocked(keys), _) => self.locked_keys.extend(keys),
            (Stop::BreakerLimit | Stop::TooSlow(_), None) => {
                self.halve(&next);
                return Ok(());
            }
            // Other messages may be fast enough.
            (Stop::TooSlow(error), Some(message)) => {
                if !self.suspect(message, error)? {
                    return Ok(());
                }
            }
            (Stop::Failed(failure), alone) => match (failure, alone) {
                (failure @ Failure::Transient(_), _) => return Err(failure.into()),
                (Failure::Refused(refusals), _) => {
                    if let Err(error) = self.refuse(&next.messages, refusals) {
                        return self.record_stop(next, Stop::Failed(Failure::Unknown(error)));
                    }
                }
                (Failure::Poison(_) | Failure::Unknown(_), None) => {
                    self.halve(&next);
                    return Ok(());
                }
                (Failure::Poison(error), Some(message)) => {
                    self.isolate(message, Kind::Poison, error)?;
                }
                (Failure::Unknown(error), Some(message)) => {
                    if !self.suspect(message, error)? {
                        return Ok(());
                    }
                }
            },
        }
        self.pending.push(next.messages);
        Ok(())
    }

    fn halve(&mut self, next: &Next) {
        let (first, second) = next.messages.split_at(next.messages.len() / 2);
        self.pending.extend([second.to_vec(), first.to_vec()]);
    }

    /// Records that a message failed alone for an unknown reason. Returns whether it is isolated now; else it stays a suspect.
    fn suspect(&mut self, message: usize, error: BoxError) -> Result<bool, Blocker> {
        let before = self.suspects.get(&message);
        let attempts = before.map_or(0, |suspect| suspect.attempts) + 1;
        let applied_before = before.map_or(self.settled.applied, |suspect| suspect.applied_before);
        let suspect = Suspect {
            attempts,
            applied_before,
            retry_at: self.elapsed + BACKOFF.after(attempts),
            error,
        };
        if attempts < MAX_ATTEMPTS || !self.can_isolate(&suspect) {
            self.suspects.insert(message, suspect);
            return Ok(false);
        }
        self.isolate(message, Kind::Unknown, suspect.error)?;
        Ok(true)
    }

    /// The message becomes a dead letter in the next transaction that holds it.
    fn isolate(&mut self, message: usize, kind: Kind, error: BoxError) -> Result<(), Blocker> {
        if self.suspects.remove(&message).is_some() {
            self.release();
        }
        let id = (self.identify)(self.message(message));
        match self.isolated.insert(id, (kind, error.to_string())) {
            None => Ok(()),
            // The transaction fails although the message is left out: the message is not to blame.
            Some(_) => Err(Failure::Unknown(error).into()),
        }
    }

    /// Records the events that a handler refuses. An event from outside its batch, or only events that it had refused before,
    /// are an error: the batch would run for ever.
    fn refuse(&mut self, part: &[usize], refusals: Vec<Refusal>) -> Result<(), BoxError> {
        let before = self.isolated.len();
        let identify = |message: &usize| (self.identify)(self.message(*message));
        let ids: HashSet<Uuid> = part.iter().map(identify).collect();
        for Refusal { id, kind, source } in refusals {
            if !ids.contains(&id) {
                let error =
                    format!("the handler refused event {id}, which is not in its batch: {source}");
                return Err(error.into());
            }
            self.isolated.insert(id, (kind.into(), source.to_string()));
        }
        if self.isolated.len() == before {
            return Err("the handler refused again only what it had refused before".into());
        }
        Ok(())
    }

    /// What the batch has come to.
    pub(super) fn end(self, outcome: Result<(), Blocker>) -> Result<Settled, Box<Unsettled>> {
        let Err(blocker) = outcome else {
            return Ok(self.settled);
        };
        // Superseded partitions are read again from their committed offsets.
        let left = (0..self.done.len())
            .filter(|index| {
                !self.done[*index] && !self.settled.superseded.contains(&self.partition(*index))
            })
            .collect();
        Err(Box::new(Unsettled {
            blocker,
            settled: self.settled,
            left,
        }))
    }
}

/// Parts of at most `max` messages, the first one last.
fn chunks(messages: &[usize], max: usize) -> Vec<Vec<usize>> {
    messages.chunks(max).rev().map(<[_]>::to_vec).collect()
}

#[cfg(test)]
mod tests;
