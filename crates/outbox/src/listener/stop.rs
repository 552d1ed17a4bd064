//! Why a transaction, a part of a batch, or a batch stopped before it was done.
//!
//! The three enums follow a failure outwards. [`Aborted`] is why a transaction rolled back. [`Stop`] adds the reasons of the
//! listener's own for which a part of a batch is not settled; the bisection turns each into smaller parts, a dead letter or a
//! [`Blocker`], for which the rest of the batch waits in the poll loop.

use std::collections::HashSet;

use super::failure::{BoxError, Failure};
use super::partition::Key;

/// Why a transaction rolled back.
#[derive(Debug)]
pub(super) enum Aborted {
    /// The database or the handler failed.
    Failed(Failure),
    /// It exceeded a bound of its own or of the server's.
    TooSlow(BoxError),
}

impl<F: Into<Failure>> From<F> for Aborted {
    fn from(failure: F) -> Self {
        Self::Failed(failure.into())
    }
}

/// Why a part of a batch was not settled.
#[derive(Debug)]
pub(super) enum Stop {
    /// The database or the handler failed.
    Failed(Failure),
    /// Its transaction took too long; with fewer messages it may not.
    TooSlow(BoxError),
    /// The circuit breaker permits nothing.
    BreakerOpen,
    /// The circuit breaker permits fewer messages, or fewer dead letters.
    BreakerLimit,
    /// Another transaction has locked these keys, which have dead letters.
    KeyLocked(HashSet<Key>),
}

impl From<Aborted> for Stop {
    fn from(aborted: Aborted) -> Self {
        match aborted {
            Aborted::Failed(failure) => Self::Failed(failure),
            Aborted::TooSlow(error) => Self::TooSlow(error),
        }
    }
}

/// What the rest of a batch waits for.
#[derive(Debug)]
pub(super) enum Blocker {
    /// A later attempt, which may succeed.
    Failed(Failure),
    /// The circuit breaker, which must become half-open.
    BreakerOpen,
    /// Another transaction, which must release keys of the rest.
    KeyLocked,
}

impl Blocker {
    /// Whether nothing shows yet which message is to blame.
    pub(super) fn is_unknown(&self) -> bool {
        matches!(self, Self::Failed(Failure::Unknown(_)))
    }
}

impl<F: Into<Failure>> From<F> for Blocker {
    fn from(failure: F) -> Self {
        Self::Failed(failure.into())
    }
}
