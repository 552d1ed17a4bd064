//! Dead letters: messages that the listener has set aside with their error, and how an operator or the listener settles them.
//!
//! A dead letter blocks its key: the listener parks later messages of that key behind it, so that a key's events stay in order. An
//! attempt applies a dead letter and deletes it in one transaction, so that it takes effect once; a message that arrives meanwhile
//! waits for that transaction.
//!
//! - The running listener retries deferred and unknown dead letters by itself, for as long as the
//!   [`RetryPolicy`] says, and parked ones as soon as they are the first of their key.
//! - An operator redrives all others, and discards what will never be applied: see [`DeadLetters`], or the commands of the crate
//!   `outbox-cli`.

mod discard;
mod filter;

pub(super) mod record;
mod redrive;
pub(super) mod retry_loop;
mod select;
pub(super) mod store;

use std::sync::Arc;

use sqlx::PgPool;
use tracing::Instrument as _;
use uuid::Uuid;

pub use super::dead_letter_kind::{Kind, UnknownKind};
pub use filter::Filter;
pub use record::DeadLetter;
pub use redrive::Outcome;

use super::failure::Failure;
use super::handler::Handler;
use super::retry::RetryPolicy;
use super::transaction::{TIMEOUT, Transactions};
use store::LockMode;

/// The dead letters of one listener, for operators. It works while the listener runs and while it does not.
///
/// ```no_run
/// use outbox::listener::dead_letter::{Filter, Kind, Outcome};
/// use outbox::listener::{DeadLetters, Failure, Handler, RetryPolicy};
///
/// /// Redrives poison, once its cause is fixed.
/// async fn redrive_poison<H: Handler>(pool: sqlx::PgPool, handler: H) -> Result<(), Box<dyn std::error::Error>> {
///     let dead_letters = DeadLetters::new("payments", pool, handler, RetryPolicy::default());
///     let poison = Filter { kind: Some(Kind::Poison), ..Filter::default() };
///     for dead_letter in dead_letters.list(&poison, 100).await? {
///         match dead_letters.redrive(dead_letter.id).await? {
///             Outcome::Failed { error, attempts, .. } => println!("{}: {error} (attempt {attempts})", dead_letter.id),
///             outcome => println!("{}: {outcome:?}", dead_letter.id),
///         }
///     }
///     Ok(())
/// }
/// ```
pub struct DeadLetters<H> {
    transactions: Arc<Transactions<H>>,
}

/// Dead letters that one query reads.
const PAGE: i64 = 100;

impl<H: Handler> DeadLetters<H> {
    /// The dead letters of the listener called `name`. `handler` and `retry` are the listener's own; `pool` needs the same grants.
    #[must_use]
    pub fn new(name: &str, pool: PgPool, handler: H, retry: RetryPolicy) -> Self {
        Self {
            transactions: Arc::new(Transactions {
                listener: name.to_owned(),
                pool,
                handler,
                retry,
            }),
        }
    }

    /// At most `max` of those that `filter` selects, in the order in which they were dead-lettered.
    ///
    /// # Errors
    /// The database's, also if it does not answer within 30 s.
    pub async fn list(&self, filter: &Filter, max: usize) -> Result<Vec<DeadLetter>, sqlx::Error> {
        self.list_as(filter, max, Some).await
    }

    /// As [`list`](Self::list), but keeps only what `map` makes of each dead letter: each may be as large as a message, and they
    /// are read one by one. Those of which `map` makes nothing do not count.
    ///
    /// # Errors
    /// The database's, also if it does not answer within 30 s.
    pub async fn list_as<T>(
        &self,
        filter: &Filter,
        max: usize,
        map: impl FnMut(DeadLetter) -> Option<T>,
    ) -> Result<Vec<T>, sqlx::Error> {
        // On the heap: the future is large, and callers hold it within futures of their own.
        Box::pin(self.read_pages(filter, max, map)).await
    }

    async fn read_pages<T>(
        &self,
        filter: &Filter,
        max: usize,
        mut map: impl FnMut(DeadLetter) -> Option<T>,
    ) -> Result<Vec<T>, sqlx::Error> {
        let Transactions { pool, listener, .. } = &*self.transactions;
        let mut connection = pool.acquire().await?;
        let (mut found, mut after, mut more) = (Vec::new(), 0, true);
        // Every dead letter read counts, unless `map` or the event type passes over some.
        let mut all_count = filter.event_type.is_none();
        while found.len() < max && more {
            let (before, from) = (found.len(), after);
            let limit = match i64::try_from(max - before) {
                Ok(left) if all_count => left.min(PAGE),
                _ => PAGE,
            };
            let each = |dead_letter: DeadLetter| {
                after = dead_letter.seq;
                if filter.event_type.is_none() || dead_letter.event_type() == filter.event_type {
                    found.extend(map(dead_letter));
                }
                found.len() < max
            };
            let read = select::read(
                &mut connection,
                listener,
                filter,
                from,
                limit,
                TIMEOUT,
                each,
            );
            let read = read.await.inspect_err(|_| {
                // Its answer may still be on its way.
                connection.close_on_drop();
            })?;
            more = read == limit;
            all_count &= i64::try_from(found.len() - before) == Ok(read);
        }
        Ok(found)
    }

    /// The dead letter of one event, if there is one.
    ///
    /// # Errors
    /// The database's, also if it does not answer within 30 s.
    pub async fn find(&self, id: Uuid) -> Result<Option<DeadLetter>, sqlx::Error> {
        let filter = Filter {
            id: Some(id),
            ..Filter::default()
        };
        Ok(self.list(&filter, 1).await?.pop())
    }

    /// Attempts a dead letter now, in one transaction with its removal. It must be the first of its key.
    ///
    /// # Cancellation
    /// The attempt is a task of its own: it completes even if the returned future is dropped.
    ///
    /// # Errors
    /// [`Failure::Transient`]: either nothing has changed, or the connection was lost while the database committed, and the dead
    /// letter is gone. It is safe to redrive again.
    pub async fn redrive(&self, id: Uuid) -> Result<Outcome, Failure> {
        let transactions = Arc::clone(&self.transactions);
        let attempt = async move { transactions.redrive(id, LockMode::Wait).await };
        let attempt = tokio::spawn(attempt.in_current_span()).await;
        attempt.unwrap_or_else(|ended| Err(Failure::Transient(ended.into())))
    }

    /// Discards a dead letter: it moves to the table `discarded_dead_letter`, whole, with `reason` and the database's user, and is
    /// never applied. The listener retries what was parked behind it. Returns whether there was such a dead letter.
    ///
    /// # Cancellation
    /// It completes even if the returned future is dropped.
    ///
    /// # Errors
    /// The database's, also if it does not answer within 30 s. If the connection was lost while the database committed, the dead
    /// letter may be gone.
    pub async fn discard(&self, id: Uuid, reason: &str) -> Result<bool, sqlx::Error> {
        let (transactions, reason) = (Arc::clone(&self.transactions), reason.to_owned());
        tokio::spawn(async move { transactions.discard(id, &reason).await })
            .await
            .unwrap_or_else(|ended| Err(sqlx::Error::Io(std::io::Error::other(ended))))
    }
}

#[cfg(test)]
mod tests;
