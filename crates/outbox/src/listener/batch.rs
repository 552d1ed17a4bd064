//! One batch, one transaction.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use futures::FutureExt;
use sqlx::{Acquire, PgConnection, PgPool};
use uuid::Uuid;

use super::ledger::{self, Letter, Partition};
use super::{Failure, Handler, Received, Refusal, RefusalKind, progress};
use crate::append;
use crate::message::Message;

/// What is to be settled, and what is known of the partitions that it comes from.
pub(super) struct Work {
    /// Messages in the order in which they arrived.
    pub(super) messages: Vec<Message>,
    /// Every partition among them, with the epoch under which it is held; none yet: to be claimed.
    pub(super) epochs: BTreeMap<Partition, Option<i64>>,
}

/// What a committed batch has come to.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// Partitions held, by their epoch.
    pub(super) held: BTreeMap<Partition, i64>,
    /// Partitions that another consumer has claimed since: nothing of them was written.
    pub(super) superseded: BTreeSet<Partition>,
    /// The offset after the last settled message, per partition held.
    pub(super) next: BTreeMap<Partition, i64>,
    /// Events that were new.
    pub(super) fresh: usize,
    /// Of these, the ones put aside.
    pub(super) lettered: usize,
}

/// How long a transaction may take, the handler's work included.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(30);

/// Settles batches with one handler in one database.
pub(super) struct Batcher<H> {
    listener: String,
    pool: PgPool,
    handler: H,
}

/// Messages that a handler has refused in an earlier run of the same batch.
type Refused = HashMap<Uuid, (RefusalKind, String)>;

/// What is to become of a message.
enum Fate<E> {
    Apply(Received<E>),
    PassOver,
    PutAside(RefusalKind, String),
}

impl<H: Handler> Batcher<H> {
    pub(super) fn new(listener: String, pool: PgPool, handler: H) -> Self {
        Self {
            listener,
            pool,
            handler,
        }
    }

    /// Settles `work`, running it again without what the handler refuses.
    pub(super) async fn settle(&self, work: &Work) -> Result<Settled, Failure> {
        let mut refused = Refused::new();
        loop {
            match self.attempt(work, &refused).await {
                Err(Failure::Refused(named)) => Self::refuse(work, &mut refused, named)?,
                outcome => return outcome,
            }
        }
    }

    /// Notes refusals; a refusal of what is not in the batch, or was refused before, would repeat for ever.
    fn refuse(work: &Work, refused: &mut Refused, named: Vec<Refusal>) -> Result<(), Failure> {
        let ids: HashSet<Uuid> = work
            .messages
            .iter()
            .map(|message| fate::<H>(message).0)
            .collect();
        let before = refused.len();
        for Refusal { id, kind, source } in named {
            if !ids.contains(&id) {
                return Err(Failure::Unknown(
                    format!("the handler refused event {id}, which is not in its batch: {source}")
                        .into(),
                ));
            }
            refused.insert(id, (kind, source.to_string()));
        }
        if refused.len() == before {
            return Err(Failure::Unknown("the handler refused nothing new".into()));
        }
        Ok(())
    }

    async fn attempt(&self, work: &Work, refused: &Refused) -> Result<Settled, Failure> {
        let mut connection = self.pool.acquire().await?;
        let began = Instant::now();
        let transaction =
            AssertUnwindSafe(self.transact(&mut connection, work, refused)).catch_unwind();
        let failure = match tokio::time::timeout(TRANSACTION_TIMEOUT, transaction).await {
            Ok(Ok(outcome)) => {
                progress::took(
                    "outbox_listener_transaction_seconds",
                    &self.listener,
                    began.elapsed(),
                );
                return outcome;
            }
            Ok(Err(panic)) => {
                Failure::Unknown(format!("the handler panicked: {}", panic_text(&*panic)).into())
            }
            // The server's own time-outs do not help against a connection that died without a word.
            Err(_) => Failure::Transient(
                format!("no end of the transaction within {TRANSACTION_TIMEOUT:?}").into(),
            ),
        };
        // Nobody knows in which state this left the connection.
        connection.close_on_drop();
        Err(failure)
    }

    async fn transact(
        &self,
        connection: &mut PgConnection,
        work: &Work,
        refused: &Refused,
    ) -> Result<Settled, Failure> {
        let mut tx = connection.begin().await?;
        let locked = ledger::lock_epochs(&mut tx, &self.listener, &work.epochs).await?;
        let mut settled = Settled::default();
        for (partition, known) in &work.epochs {
            match locked.get(partition) {
                Some(epoch) if known.is_none_or(|known| known == *epoch) => {
                    settled.held.insert(partition.clone(), *epoch);
                }
                _ => {
                    settled.superseded.insert(partition.clone());
                }
            }
        }

        let mut fates = Vec::with_capacity(work.messages.len());
        for message in &work.messages {
            let partition = (message.at.topic.clone(), message.at.partition);
            if settled.held.contains_key(&partition) {
                let (id, fate) = fate::<H>(message);
                let fate = match refused.get(&id) {
                    Some((kind, error)) => Fate::PutAside(*kind, error.clone()),
                    None => fate,
                };
                fates.push((message, id, fate));
                settled.next.insert(partition, message.at.offset + 1);
            }
        }

        let ids: Vec<Uuid> = fates.iter().map(|(_, id, _)| *id).collect();
        let mut unseen = ledger::settle(&mut tx, &self.listener, &ids).await?;
        settled.fresh = unseen.len();
        let (mut batch, mut letters) = (Vec::with_capacity(unseen.len()), Vec::new());
        for (message, id, fate) in fates {
            // Removed as it is met: a duplicate within the batch is the second to come.
            if !unseen.remove(&id) {
                continue;
            }
            match fate {
                Fate::Apply(received) => batch.push(received),
                Fate::PassOver => {}
                Fate::PutAside(kind, error) => letters.push(Letter {
                    id,
                    kind: kind.as_str(),
                    error,
                    message,
                }),
            }
        }

        let outgoing = if batch.is_empty() {
            Vec::new()
        } else {
            let began = Instant::now();
            let outgoing = self.handler.handle(&mut tx, &batch).await?;
            progress::took(
                "outbox_listener_handler_seconds",
                &self.listener,
                began.elapsed(),
            );
            outgoing
        };
        for letter in &letters {
            tracing::warn!(
                listener = self.listener, id = %letter.id, kind = letter.kind, error = letter.error,
                topic = letter.message.at.topic, partition = letter.message.at.partition,
                offset = letter.message.at.offset, "message is put aside in dead_letter"
            );
            ledger::put_aside(&mut tx, &self.listener, letter).await?;
        }
        settled.lettered = letters.len();
        append(&mut tx, &outgoing).await?;
        // A handler that swallowed an error of the database has left the transaction aborted; its COMMIT would roll
        // back and say nothing. This says it.
        sqlx::query("select").execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(settled)
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a text")
}

/// A message's identity, and what is to become of it.
fn fate<H: Handler>(message: &Message) -> (Uuid, Fate<H::Event>) {
    let opened = match message.open() {
        Ok(opened) => opened,
        Err((id, why)) => return (id, Fate::PutAside(RefusalKind::Poison, why.to_string())),
    };
    let id = opened.id;
    if H::PASSED_OVER.contains(&opened.event_type.as_str()) {
        return (id, Fate::PassOver);
    }
    let fate = match opened.decode() {
        Ok(event) => Fate::Apply(Received {
            id,
            key: message.key.clone(),
            at: message.at.clone(),
            event,
        }),
        Err(why) => Fate::PutAside(RefusalKind::Poison, why.to_string()),
    };
    (id, fate)
}

#[cfg(test)]
mod tests;
