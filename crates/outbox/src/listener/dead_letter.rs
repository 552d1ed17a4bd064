//! Dead letters: messages that were dead-lettered, and how they are tried again or given up.
//!
//! A dead letter of a key holds back what comes later of that key: it is parked behind it. They are tried in their order, each
//! in one transaction with its removal, so each is applied once, and a message that arrives meanwhile waits for that
//! transaction. Deferred dead letters, unknown ones, and parked ones that have become the first of their key, are tried by the
//! running listener itself for a while; all others by whoever calls [`DeadLetters::redrive`].

mod due;
mod redrive;
mod rows;

use std::fmt::{self, Display};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use tracing::Instrument as _;
use uuid::Uuid;

pub(super) use due::keep_trying;
pub use redrive::Outcome;
pub use rows::{DeadLetter, Filter};

use super::batch::Batcher;
use super::{BreakerPolicy, Failure, Handler, RefusalKind, RetryPolicy};

/// Why a message was dead-lettered: the column `dead_letter.kind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It can never be applied as things are.
    Poison,
    /// What it refers to was not visible; it is tried again by itself for a while.
    Deferred,
    /// It failed alone, again and again, and nobody knows why.
    Unknown,
    /// It waits behind an earlier dead letter of its key.
    Parked,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Poison, Self::Deferred, Self::Unknown, Self::Parked];

    /// The word in the column.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Poison => "poison",
            Self::Deferred => "deferred",
            Self::Unknown => "unknown",
            Self::Parked => "parked",
        }
    }

    fn of_column(word: &str) -> Result<Self, sqlx::Error> {
        word.parse()
            .map_err(|unknown: UnknownKind| sqlx::Error::Decode(unknown.into()))
    }
}

/// A word that is no kind of dead letter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no kind of dead letter {word:?}, but {}", Kind::ALL.map(Kind::as_str).join(", "))]
pub struct UnknownKind {
    word: String,
}

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(word: &str) -> Result<Self, UnknownKind> {
        let kind = Self::ALL.into_iter().find(|kind| kind.as_str() == word);
        kind.ok_or_else(|| UnknownKind {
            word: word.to_owned(),
        })
    }
}

impl From<RefusalKind> for Kind {
    fn from(kind: RefusalKind) -> Self {
        match kind {
            RefusalKind::Poison => Self::Poison,
            RefusalKind::Deferred => Self::Deferred,
        }
    }
}

impl Display for Kind {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.pad(self.as_str())
    }
}

/// The dead letters of one listener, for whoever looks after them while it runs.
pub struct DeadLetters<H> {
    batcher: Arc<Batcher<H>>,
}

impl<H: Handler> DeadLetters<H> {
    /// Those of the listener called `name`. `handler` is the listener's own; `pool` needs the same rights.
    #[must_use]
    pub fn new(name: &str, pool: PgPool, handler: H, retry: RetryPolicy) -> Self {
        let breaker = BreakerPolicy::default();
        Self {
            batcher: Arc::new(Batcher::new(name.to_owned(), pool, handler, breaker, retry)),
        }
    }

    /// Those that `filter` lets pass, in the order in which they were dead-lettered, at most `most`.
    ///
    /// # Errors
    /// The database's, also where it has not answered within 30 s.
    pub async fn list(&self, filter: &Filter, most: usize) -> Result<Vec<DeadLetter>, sqlx::Error> {
        self.list_as(filter, most, Some).await
    }

    /// As [`list`](Self::list), but of each dead letter only what `of` makes of it is kept: they are read one by one, and each may be as
    /// large as a message. One of which it makes nothing does not count.
    ///
    /// # Errors
    /// The database's.
    pub async fn list_as<T>(
        &self,
        filter: &Filter,
        most: usize,
        of: impl FnMut(DeadLetter) -> Option<T>,
    ) -> Result<Vec<T>, sqlx::Error> {
        let Batcher { pool, listener, .. } = &*self.batcher;
        Box::pin(rows::list(pool, listener, filter, most, of)).await
    }

    /// One of them, if it is there.
    ///
    /// # Errors
    /// The database's.
    pub async fn find(&self, id: Uuid) -> Result<Option<DeadLetter>, sqlx::Error> {
        let filter = Filter {
            id: Some(id),
            ..Filter::default()
        };
        Ok(self.list(&filter, 1).await?.pop())
    }

    /// Tries a dead letter now, in one transaction with its removal. It must be the first of its key. The try is a task of its own: it
    /// comes to its end also where nobody awaits it any more.
    ///
    /// # Errors
    /// [`Failure::Transient`]: either nothing has changed, or the connection was lost before the database could say that the
    /// dead letter is applied; then it is gone. It can be tried again in both cases.
    pub async fn redrive(&self, id: Uuid) -> Result<Outcome, Failure> {
        let batcher = Arc::clone(&self.batcher);
        let tries = async move { batcher.redrive(id, redrive::Patience::Wait).await };
        tokio::spawn(tries.in_current_span())
            .await
            .unwrap_or_else(|ended| Err(Failure::Transient(ended.into())))
    }

    /// Gives a dead letter up: it goes to `discarded_dead_letter`, whole, with `reason` and the database's user. What waits behind it is
    /// tried by the running listener. Returns whether it was there. It comes to its end also where nobody awaits it any more.
    ///
    /// # Errors
    /// The database's, also where it has not answered within 30 s. Where the connection was lost as it committed, the dead letter may
    /// be gone.
    pub async fn discard(&self, id: Uuid, reason: &str) -> Result<bool, sqlx::Error> {
        let (batcher, reason) = (Arc::clone(&self.batcher), reason.to_owned());
        tokio::spawn(async move {
            redrive::discard(&batcher.pool, &batcher.listener, id, &reason).await
        })
        .await
        .unwrap_or_else(|ended| Err(sqlx::Error::Io(std::io::Error::other(ended))))
    }
}

#[cfg(test)]
mod tests;
