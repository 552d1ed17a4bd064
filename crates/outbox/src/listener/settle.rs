//! A part of a batch in one transaction.
//!
//! The steps and their order are the protocol that `tests/model.rs` checks:
//!
//! 1. **Epochs**: lock the rows of the part's partitions. Messages of a partition that another consumer has claimed are left out.
//! 2. **Inbox**: insert the ids of the remaining messages; those that were there already are left out, and so are duplicates.
//! 3. **Blocked keys**: lock those of the fresh messages' keys that have dead letters. If another transaction has one of them, the
//!    part stops, and the next one settles its other messages without that key.
//! 4. **Handler**: apply the fresh messages that decode, unless the bisection has isolated them or their key is blocked.
//! 5. **Dead letters**: write the others, which blocks their keys in turn.
//! 6. **Outbox**: append the handler's events.
//! 7. **Commit**. Nothing was visible to others before.

use std::collections::{BTreeSet, HashSet};
use std::time::Instant;

use sqlx::PgConnection;
use sqlx::postgres::PgTransaction;
use uuid::Uuid;

use super::batch::{BatchPart, Settled};
use super::bisect::MAX_ATTEMPTS;
use super::dead_letter::record::{NewDeadLetter, error_text};
use super::dead_letter::store;
use super::dead_letter_kind::Kind;
use super::decode::{Disposition, disposition};
use super::failpoint::Step;
use super::handler::{Handler, Received};
use super::partition::{Key, Partition};
use super::stop::{Aborted, Stop};
use super::transaction::{Transactions, begin, commit};
use super::{inbox, metrics};
use crate::append::append;
use crate::message::Message;

/// A message that the inbox did not know, with its disposition.
struct Fresh<'a, E> {
    message: &'a Message,
    id: Uuid,
    disposition: Disposition<E>,
}

impl<H: Handler> Transactions<H> {
    /// Settles a part of a batch; the circuit breaker permits so many dead letters. The transaction rolls back if the part
    /// stops.
    pub(super) async fn settle(
        &self,
        connection: &mut PgConnection,
        part: &BatchPart<'_>,
        permitted: usize,
    ) -> Result<Result<Settled, Stop>, Aborted> {
        let mut tx = begin(connection).await?;
        Step::Begun.reached();
        let mut settled = self.lock_partitions(&mut tx, part).await?;
        Step::Held.reached();
        let fresh = self.insert_into_inbox(&mut tx, part, &settled).await?;
        settled.fresh = fresh.len();
        Step::Settled.reached();
        let keys: BTreeSet<Key> = fresh.iter().filter_map(|f| Key::of(f.message)).collect();
        let blocked =
            store::lock_blocked_keys(&mut tx, &self.listener, &keys, part.waits_for_keys).await?;
        if !blocked.locked_by_others.is_empty() {
            return Ok(Err(Stop::KeyLocked(blocked.locked_by_others)));
        }
        let (events, dead_letters) = self.divide(fresh, blocked.locked, &mut settled);
        if settled.counted > permitted {
            return Ok(Err(Stop::BreakerLimit));
        }

        let outgoing = if events.is_empty() {
            Vec::new()
        } else {
            let began = Instant::now();
            let outgoing = self.handler.handle(&mut tx, &events).await?;
            metrics::record_handler(&self.listener, began.elapsed());
            outgoing
        };
        Step::Handled.reached();
        store::move_to_dead_letter(&mut tx, &self.listener, &dead_letters).await?;
        if !dead_letters.is_empty() {
            Step::DeadLettered.reached();
        }
        append(&mut tx, &outgoing).await?;
        Step::Appended.reached();
        commit(tx).await?;
        Step::Committed.reached();
        self.log(&dead_letters);
        Ok(Ok(settled))
    }

    /// Locks the epochs of the part's partitions, and returns which of them are held and which are superseded.
    async fn lock_partitions(
        &self,
        tx: &mut PgTransaction<'_>,
        part: &BatchPart<'_>,
    ) -> Result<Settled, sqlx::Error> {
        let partitions: BTreeSet<Partition> =
            part.messages.iter().map(|m| Partition::of(m)).collect();
        let known = partitions
            .into_iter()
            .map(|partition| {
                let epoch = part.epochs.get(&partition).copied().flatten();
                (partition, epoch)
            })
            .collect();
        let locked = inbox::lock_epochs(tx, &self.listener, &known).await?;
        let mut settled = Settled::default();
        // Checked under the locks: from here on, the server ends the session of a process that stands still.
        if part.taken_at.is_long_ago() {
            settled.superseded.extend(known.into_keys());
            return Ok(settled);
        }
        for (partition, known) in known {
            match locked.get(&partition) {
                Some(epoch) if known.is_none_or(|known| known == *epoch) => {
                    settled.held.insert(partition, *epoch);
                }
                _ => {
                    settled.superseded.insert(partition);
                }
            }
        }
        Ok(settled)
    }

    /// Records the messages of held partitions in the inbox, and returns those that it did not know, each once.
    async fn insert_into_inbox<'a>(
        &self,
        tx: &mut PgTransaction<'_>,
        part: &BatchPart<'a>,
        settled: &Settled,
    ) -> Result<Vec<Fresh<'a, H::Event>>, sqlx::Error> {
        let mut messages = Vec::with_capacity(part.messages.len());
        for &message in &part.messages {
            if settled.held.contains_key(&Partition::of(message)) {
                let (id, mut disposition) = disposition::<H>(message);
                if let Some((kind, error)) = part.isolated.get(&id) {
                    disposition = Disposition::DeadLetter(*kind, error.clone());
                }
                messages.push(Fresh {
                    message,
                    id,
                    disposition,
                });
            }
        }
        let ids: Vec<Uuid> = messages.iter().map(|message| message.id).collect();
        let mut unknown = inbox::insert(tx, &self.listener, &ids).await?;
        // Removed as it is met: of duplicates within the batch the first one counts.
        messages.retain(|message| unknown.remove(&message.id));
        Ok(messages)
    }

    /// Divides messages into events for the handler and dead letters. Parks messages behind a dead letter of their key.
    fn divide<'a>(
        &self,
        fresh: Vec<Fresh<'a, H::Event>>,
        mut blocked: HashSet<Key>,
        settled: &mut Settled,
    ) -> (Vec<Received<H::Event>>, Vec<NewDeadLetter<'a>>) {
        let (mut events, mut dead_letters) = (Vec::with_capacity(fresh.len()), Vec::new());
        for Fresh {
            message,
            id,
            disposition,
        } in fresh
        {
            let key = Key::of(message);
            let is_blocked = key.as_ref().is_some_and(|key| blocked.contains(key));
            let (kind, error) = match disposition {
                Disposition::Ignore => continue,
                // Poison stays poison behind an earlier dead letter too: no retry can apply it.
                Disposition::DeadLetter(Kind::Poison, error) => (Kind::Poison, error),
                _ if is_blocked => (
                    Kind::Parked,
                    "parked behind an earlier dead letter of its key".to_owned(),
                ),
                Disposition::DeadLetter(kind, error) => (kind, error),
                Disposition::Apply(received) => {
                    events.push(received);
                    continue;
                }
            };
            settled.parked += usize::from(kind == Kind::Parked);
            settled.deferred += usize::from(kind == Kind::Deferred);
            settled.counted += usize::from(kind != Kind::Deferred && !is_blocked);
            dead_letters.push(NewDeadLetter {
                id,
                kind,
                error: error_text(&error),
                attempts: match kind {
                    Kind::Parked => 0,
                    Kind::Poison | Kind::Deferred => 1,
                    Kind::Unknown => MAX_ATTEMPTS,
                },
                retry_in: kind.is_retried().then(|| self.retry.first()),
                message,
            });
            blocked.extend(key);
        }
        settled.dead_lettered = dead_letters.len();
        settled.applied = events.len();
        (events, dead_letters)
    }

    /// Logs what became a dead letter, once it is committed. Parked messages are many, and say nothing new.
    fn log(&self, dead_letters: &[NewDeadLetter<'_>]) {
        for dead_letter in dead_letters {
            if dead_letter.kind == Kind::Parked {
                continue;
            }
            let at = &dead_letter.message.at;
            tracing::warn!(
                listener = self.listener, id = %dead_letter.id, kind = dead_letter.kind.as_str(),
                error = dead_letter.error, topic = at.topic, partition = at.partition, offset = at.offset,
                "moved a message to dead_letter; `dead-letters show` prints it"
            );
        }
    }
}
